/** What a row of the catalogue is: the shapes an op takes, where its inputs lie, and what rounding may do. */

import type { Tensor } from "../../src/tensor.ts";

/** Sizes at which kernels change behaviour: the edges of tiles and workgroups, and one to either side. */
export const edges = [15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 513];

/** Sizes by letter. */
export type Sizes = Readonly<Record<string, number>>;

/** Numbers that a seed determines. */
export interface Random {
  /** In [0, 1). */
  next(): number;
  /** From 0 to n - 1. */
  below(n: number): number;
}

/** What a magnitude is made from: numbers alone. */
export interface Given<Drawn> {
  readonly args: readonly Float64Array[];
  readonly dy: Float64Array;
  readonly drawn: Drawn;
  readonly sizes: Sizes;
}

export interface Row<Drawn> {
  /**
   * A term of letters for each tensor argument: "m k, k n". A number stands for itself, `h*d` for a product; letters after a semicolon size
   * what `draw` makes.
   */
  readonly shapes: string;
  /** The only sizes a letter may have. */
  readonly sizes?: Readonly<Record<string, readonly number[]>>;
  /** Letters that may not be 0: what the op says of them. */
  readonly nonempty?: string;
  /** Where values lie. Default [-3, 3]. */
  readonly range?: readonly [number, number];
  /** Values of each argument are multiples of a step plus an offset: what keeps them, or a sum of their products, off a kink. */
  readonly lattice?: readonly { readonly step: number; readonly offset: number }[];
  /** What the call takes beside floats, as plain numbers. */
  readonly draw?: (random: Random, sizes: Sizes) => Drawn;
  readonly call: (args: readonly Tensor[], drawn: Drawn) => Tensor;
  /** False where the gradient leaves something out on purpose: a frozen row, the dead tail. */
  readonly derivative?: false;
  /**
   * What f32 may do, in units of 2^-24 of `magnitude`: at least the additions in a sum, since |error| <= n u / (1 - n u) sum |terms| in any order
   * (Higham 2002, Accuracy and Stability of Numerical Algorithms, 4.2), and the accuracy of WGSL's functions (WGSL, 15.7.4; 1 ULP is 2 units).
   */
  readonly rounding: (sizes: Sizes) => number;
  /** The call whose result for the absolute values of arguments and dy is the magnitude: sum |a| |b| for a sum of products. Default: the call itself. */
  readonly absolute?: Row<Drawn>["call"];
  /** The magnitude of the value and of each gradient, where that is none. */
  readonly magnitude?: (given: Given<Drawn>) => readonly Float64Array[];
}

/** A row with its type inferred, then forgotten: what it draws concerns the row alone. */
export const row = <Drawn = undefined>(made: Row<Drawn>): Row<unknown> => made as unknown as Row<unknown>;

/** The whole product of the sizes: no sum is longer. */
export const all = (sizes: Sizes): number => Object.values(sizes).reduce((a, b) => a * b, 1);

/** Indices: `count` numbers from 0 to n - 1. */
export const below = (random: Random, count: number, n: number) => Array.from({ length: count }, () => random.below(n));

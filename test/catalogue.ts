/** One row per op and way of calling it: the shapes it takes, where its inputs lie, and what rounding may do. Every sweep reads this table. */

import * as ops from "../autograd/ops.ts";
import { StepKey } from "../autograd/stepkey.ts";
import { IGNORED } from "../kernels/loss.ts";
import { Key } from "../src/key.ts";
import { index, mostTiles, segments } from "../src/stream.ts";
import { integers, type Tensor, tensor } from "../src/tensor.ts";
import * as magnitudes from "./magnitudes.ts";

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
const row = <Drawn = undefined>(made: Row<Drawn>): Row<unknown> => made as unknown as Row<unknown>;

/** The whole product of the sizes: no sum is longer. */
const all = (sizes: Sizes): number => Object.values(sizes).reduce((a, b) => a * b, 1);

// ---- elementwise ---------------------------------------------------------------------------

/** Both arguments alike, and stretched every way. Gradients add up what was stretched. */
const broadcasting = (call: (a: Tensor, b: Tensor) => Tensor, more: Partial<Row<undefined>> = {}) =>
  ["a b, a b", "a b, b", "a 1, 1 b", "1, a b", "a b c 2 d, b 1 2 d", "a, 1 1"].map((shapes) =>
    row({ shapes, call: ([a, b]) => call(a, b), rounding: (sizes) => 16 + 2 * all(sizes), ...more }),
  );

/** `value` and `slope` are what rounding is relative to, the latter times dy. */
const map = (
  call: (x: Tensor) => Tensor,
  given: Partial<Row<undefined>> & { value: (x: number) => number; slope: (x: number) => number; units: number },
) => {
  const { value, slope, units, ...more } = given;
  const magnitude = ({ args: [x], dy }: Given<undefined>) => [
    x.map((v) => Math.abs(value(v))),
    x.map((v, i) => Math.abs(slope(v) * dy[i])),
  ];
  return [row({ shapes: "a b", call: ([x]) => call(x), rounding: () => units, magnitude, ...more })];
};

// ---- streams -------------------------------------------------------------------------------

/** Cells of random lengths, some empty, and now and then a tail of rows that belong to none. */
function cells(random: Random, rows: number) {
  const lengths: number[] = [];
  let left = rows - (random.below(2) ? random.below(rows + 1) : 0);
  const longest = 1 + random.below(rows);
  while (left > 0 && lengths.length < 6) {
    const length = Math.min(left, random.below(longest + 1));
    lengths.push(length);
    left -= length;
  }
  return { lengths, capacity: lengths.length + 1 + random.below(2), rows };
}
export type Cells = ReturnType<typeof cells>;
const segmentsOf = ({ lengths, capacity, rows }: Cells) => segments(lengths, { rows, cells: capacity, tiles: mostTiles(rows, capacity) });

const below = (random: Random, count: number, n: number) => Array.from({ length: count }, () => random.below(n));

const attention = (p: number) =>
  row({
    shapes: "n h*d, n h*d, n h*d",
    sizes: { h: [2, 1, 3], d: p > 0 ? [16] : [16, 1, 4, 20, 64] },
    range: [-1.5, 1.5],
    draw: (random, { n, h }) => ({ cells: cells(random, n), heads: h, seed: random.below(1000) }),
    call: ([q, k, v], { cells, heads, seed }) =>
      ops.attention(q, k, v, segmentsOf(cells), heads, p > 0 ? { p, key: StepKey.from(Key.from(seed)) } : null),
    rounding: ({ n, d }) => 40 + n + 2 * d,
    magnitude: ({ args, dy, drawn, sizes }) => magnitudes.attention(args, dy, drawn.cells.lengths, sizes.h * sizes.d, sizes.h, 1 / (1 - p)),
  });

// ---- matrices ------------------------------------------------------------------------------

const matmul = (shapes: string, options: ops.Transposes = {}) =>
  row({
    shapes,
    range: [-2, 2],
    call: ([a, b]) => ops.matmul(a, b, options),
    rounding: ({ m, k, n, s = 1, t = 1 }) => 4 + Math.max(m, k, n) * s * t,
  });

const linear = (shapes: string, more: Partial<Row<undefined>> & Pick<Row<undefined>, "call">) =>
  row({ shapes, range: [-2, 2], rounding: ({ s = 1, m, i, o }) => 6 + Math.max(s * m, i, o), ...more });

const reduction = (op: typeof ops.sum, axes: readonly (readonly number[] | null)[]) =>
  axes.map((over, i) => row({ shapes: "a b c d", call: ([x]) => op(x, over, i % 2 === 0), rounding: (sizes) => 4 + all(sizes) }));

/** Every op. Forgetting one does not compile. */
export const catalogue: Record<keyof typeof ops, readonly Row<unknown>[]> = {
  add: broadcasting(ops.add),
  sub: broadcasting(ops.sub, { absolute: ([a, b]) => ops.add(a, b) }),
  mul: broadcasting(ops.mul),
  div: broadcasting(ops.div, { range: [0.3, 3] }),
  neg: map(ops.neg, { value: (x) => x, slope: () => 1, units: 0 }),
  exp: map(ops.exp, { value: Math.exp, slope: Math.exp, units: 24 }), // 3 + 2 |x| ULP
  log: map(ops.log, { value: (x) => 1 + Math.abs(Math.log(x)), slope: (x) => 1 / x, units: 10, range: [0.1, 5] }), // absolute near 1
  sqrt: map(ops.sqrt, { value: Math.sqrt, slope: (x) => 1 / Math.sqrt(x), units: 12, range: [0.1, 5] }),
  square: map(ops.square, { value: (x) => x * x, slope: (x) => 2 * x, units: 2 }),
  tanh: map(ops.tanh, { value: () => 1, slope: () => 1, units: 340, range: [-12, 12] }), // absolute, 1e-5; twice in the gradient
  relu: map(ops.relu, { value: (x) => x, slope: () => 1, units: 0, lattice: [{ step: 1 / 8, offset: 1 / 16 }] }),
  gelu: map(ops.gelu, { value: (x) => x, slope: (x) => 1 + x * x, units: 40, range: [-5, 5] }),

  sum: reduction(ops.sum, [null, [0], [-1], [1, 2], [2, 0], [1, 3], [0, 1, 2, 3]]),
  mean: reduction(ops.mean, [[0, 1], null, [2, 3], [1]]),

  softmax: [
    row({
      shapes: "a n",
      range: [-8, 8],
      call: ([x]) => ops.softmax(x),
      rounding: ({ n }) => 80 + n,
      magnitude: ({ args: [x], dy, sizes }) => magnitudes.softmax(x, dy, sizes.n),
    }),
    row({
      shapes: "a b n",
      range: [-2, 2],
      call: ([x]) => ops.softmax(x),
      rounding: ({ n }) => 40 + n,
      magnitude: ({ args: [x], dy, sizes }) => magnitudes.softmax(x, dy, sizes.n),
    }),
  ],
  layerNorm: [1e-3, 1e-12].map((eps) =>
    row({
      shapes: "a b n, n, n",
      sizes: eps < 1e-3 ? { n: [7, 64, 257] } : {}, // with so small an eps, two near values are a kink
      call: ([x, weight, bias]) => ops.layerNorm(x, weight, bias, eps),
      rounding: ({ a, b, n }) => 20 + 2 * n + a * b,
      magnitude: ({ args: [x, weight, bias], dy, sizes }) => magnitudes.layerNorm(x, weight, bias, dy, sizes.n, eps),
    }),
  ),
  cosine: ["a n, a n", "a b n, a b n"].map((shapes) =>
    row({
      shapes,
      call: ([a, b]) => ops.cosine(a, b),
      rounding: ({ n }) => 20 + 3 * n,
      magnitude: ({ args: [a, b], dy, sizes }) => magnitudes.cosine(a, b, dy, sizes.n),
    }),
  ),

  matmul: [
    matmul("m k, k n"),
    matmul("k m, k n", { transposeA: true }),
    matmul("m k, n k", { transposeB: true }),
    matmul("k m, n k", { transposeA: true, transposeB: true }),
    matmul("s t m k, s t k n"),
    matmul("s k m, s n k", { transposeA: true, transposeB: true }),
    matmul("m k, s k n"), // one a for all
    matmul("s k m, k n", { transposeA: true }),
    matmul("s m k, n k", { transposeB: true }),
  ],
  linear: [
    linear("m i, o i", { call: ([x, w]) => ops.linear(x, w) }),
    linear("s m i, o i, o", { call: ([x, w, b]) => ops.linear(x, w, b) }),
    linear("m i, o i, o, m o", { call: ([x, w, b, r]) => ops.linear(x, w, b, r) }),
    linear("m i, o i, m o", { call: ([x, w, r]) => ops.linear(x, w, null, r) }),
    linear("m i, o i, o", {
      call: ([x, w, b]) => ops.linear(x, w, b, null, { relu: true }),
      lattice: [
        { step: 1 / 4, offset: 0 },
        { step: 1 / 4, offset: 0 },
        { step: 1 / 16, offset: 1 / 32 },
      ], // sums of x w are multiples of 1/16
    }),
  ],

  gather: [
    row({
      shapes: "r c; m",
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.gather(x, index(places, rows)),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "r 2 c; m",
      derivative: false,
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r, count: random.below(m + 1) }),
      call: ([x], { places, rows, count }) => ops.gather(x, index(places, rows, { count, frozen: 0 })),
      rounding: ({ m }) => 2 + m,
    }),
  ],
  scatterAdd: [
    row({
      shapes: "m c; r",
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.scatterAdd(x, index(places, rows)),
      rounding: ({ m }) => 2 + m,
    }),
  ],
  segmentMean: [
    row({
      shapes: "n c",
      draw: (random, { n }) => cells(random, n),
      call: ([x], cells) => ops.segmentMean(x, segmentsOf(cells)),
      rounding: ({ n }) => 8 + n,
    }),
  ],
  attention: [attention(0), attention(0.25)],
  dropout: [0, 0.1, 0.5].map((p) =>
    row({
      shapes: "a b",
      draw: (random) => random.below(1000),
      call: ([x], seed) => ops.dropout(x, { p, key: StepKey.from(Key.from(seed)).fold(seed) }),
      rounding: () => 4,
    }),
  ),
  crossEntropy: [0, 7].map((count) =>
    row({
      shapes: "m v",
      range: [-6, 6],
      draw: (random, { m, v }) => Array.from({ length: m }, () => (random.below(4) === 0 ? IGNORED : random.below(v))),
      call: ([x], labels) => ops.crossEntropy(x, integers(labels), count ? tensor([count]) : null),
      rounding: ({ m, v }) => 80 + m + v,
      magnitude: ({ args: [x], dy, drawn, sizes }) => magnitudes.crossEntropy(x, dy, drawn, sizes.v, count, IGNORED),
    }),
  ),

  reshape: [row({ shapes: "a b c", call: ([x]) => ops.reshape(x, [x.shape[1], -1]), rounding: () => 0 })],
  permute: [
    ["a b", [1, 0]],
    ["a b c", [2, 0, -2]],
    ["a b 2 c", [0, 2, 1, 3]],
    ["2 a b 3 c", [4, 1, 3, 0, 2]],
  ].map(([shapes, axes]) => row({ shapes: shapes as string, call: ([x]) => ops.permute(x, axes as number[]), rounding: () => 0 })),
  slice: [0, 1, -1].map((axis) =>
    row({
      shapes: "a b c",
      draw: (random, { a, b, c }) => {
        const size = [a, b, c].at(axis)!;
        const start = random.below(size + 1);
        return [start, start + random.below(size - start + 1)];
      },
      call: ([x], [start, stop]) => ops.slice(x, axis, start, stop),
      rounding: () => 0,
    }),
  ),
};

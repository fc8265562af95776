/** What the cpu device's threads are told: calls of compiled kernels, each split into parts that do not touch each other's results. */

import type { Compiled, Dtype, Kernel, Ranges, Split, Values, Variant } from "../../kernels/kernel.ts";

/** A buffer in the one memory. */
export interface Region {
  readonly dtype: Dtype;
  readonly length: number;
  readonly address: number;
}

/** A call of an exported kernel: its name, and its arguments for each part. */
export interface Call {
  readonly do: "call";
  readonly name: string;
  readonly parts: readonly (readonly number[])[];
  /** Working memory: its place among the arguments, and an address for each thread. */
  readonly scratch: { readonly at: number; readonly addresses: readonly number[] } | null;
}

/** What can be done in another thread, in the order it was asked for. */
export type Command =
  | Call
  | {
      readonly do: "loops";
      readonly kernel: Variant;
      readonly buffers: readonly (readonly [string, Region])[];
      readonly params: Readonly<Record<string, number>>;
    }
  | { readonly do: "write"; readonly to: Region; readonly values: Values }
  /** A list of commands to be carried out whenever its number is called, until it is forgotten. */
  | { readonly do: "keep"; readonly id: number; readonly commands: readonly Command[] }
  | { readonly do: "replay" | "forget"; readonly id: number }
  | { readonly do: "grow"; readonly bytes: number }
  | { readonly do: "read"; readonly from: Region; readonly id: number };

/** What comes back for a read: the values, or what went wrong until then. */
export interface Reply {
  readonly id: number;
  readonly values?: Values;
  readonly error?: string;
  /** Bytes of memory there are, where growing it failed. */
  readonly short?: number;
}

/** Bytes of an element. */
const BYTES = 4;

/** Below so much work a part is not worth waking a thread for: some 30 microseconds of multiplying. */
export const WORTHWHILE = 2 ** 17;

/** Parts to a thread: who is done takes the next, so that a thread the system disturbs holds nobody up. */
const TURNS = 4;

/** The most parts of a call. */
export const mostParts = (threads: number): number => TURNS * threads;

/** What the parts of a call are. */
export interface Shares {
  readonly split: Split | Ranges | null;
  /** Pieces of each part, one after the other. */
  readonly pieces: readonly number[];
}

/** Parts of at least `least` work each, some to a thread; all in one where that is too little for two. */
export function shares(compiled: Compiled, params: Readonly<Record<string, number>>, threads: number, least: number): Shares {
  const split = compiled.split?.(params) ?? null;
  if (!split) return { split: null, pieces: [0] };
  const whole = "over" in split ? params[split.over] : split.pieces;
  const { together = 1, work } = split;
  const most = Math.min(Math.ceil(whole / together), Math.floor((whole * work) / Math.max(1, least)));
  if (threads < 2 || most < 2) return { split: "over" in split ? null : split, pieces: [whole] };
  const share = Math.ceil(whole / Math.min(mostParts(threads), most) / together) * together;
  return { split, pieces: Array.from({ length: Math.ceil(whole / share) }, (_, i) => Math.min(share, whole - i * share)) };
}

/** The parameters of a part. */
export const paramsOf = (
  params: Readonly<Record<string, number>>,
  split: Shares["split"],
  count: number,
): Readonly<Record<string, number>> => (split && "over" in split ? { ...params, [split.over]: count } : params);

/**
 * The call of a compiled kernel, by parts.
 * @param scratch addresses of working memory, where it needs any: one for each thread that may take part, or one for all.
 */
export function callOf(
  { params: declared }: Kernel,
  { name, constants = [] }: Compiled,
  addresses: readonly number[],
  params: Readonly<Record<string, number>>,
  { split, pieces }: Shares,
  scratch: readonly number[],
): Call {
  let before = 0;
  const parts = pieces.map((count) => {
    const numbers = paramsOf(params, split, count);
    const moved = addresses.map((address, i) =>
      address === 0 || !split || !("over" in split) ? address : address + before * split.strides[i] * BYTES,
    );
    const range = split && !("over" in split) ? [before, before + count] : [];
    before += count;
    return [...moved, ...scratch.slice(0, 1), ...Object.keys(declared).map((p) => numbers[p]), ...constants, ...range];
  });
  return { do: "call", name, parts, scratch: scratch.length > 1 ? { at: addresses.length, addresses: scratch } : null };
}

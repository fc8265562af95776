/** What the cpu device's threads are told: calls of compiled kernels, each split into parts that do not touch each other's results. */

import type { Compiled, Dtype, Kernel, Split, Values, Variant } from "../../kernels/kernel.ts";

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

/** What the parts of a call are: how many pieces each has, and how a piece moves the buffers. */
export interface Shares {
  readonly split: Split | null;
  /** Pieces of each part, one after the other. */
  readonly pieces: readonly number[];
}

/** At most `threads` parts, of at least `least` work each. */
export function shares(compiled: Compiled, params: Readonly<Record<string, number>>, threads: number, least: number): Shares {
  const split = threads > 1 ? (compiled.split?.(params) ?? null) : null;
  if (!split) return { split, pieces: [0] };
  const whole = params[split.over];
  const { together = 1, work } = split;
  const most = Math.min(threads, Math.ceil(whole / together), Math.floor((whole * work) / Math.max(1, least)));
  if (most < 2) return { split: null, pieces: [0] };
  const share = Math.ceil(whole / most / together) * together;
  return { split, pieces: Array.from({ length: Math.ceil(whole / share) }, (_, i) => Math.min(share, whole - i * share)) };
}

/** The parameters of a part. */
export const paramsOf = (params: Readonly<Record<string, number>>, split: Split | null, count: number): Readonly<Record<string, number>> =>
  split ? { ...params, [split.over]: count } : params;

/**
 * The call of a compiled kernel, by parts.
 * @param scratch an address of working memory for each part, where it needs any.
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
  const parts = pieces.map((count, part) => {
    const numbers = paramsOf(params, split, count);
    const moved = addresses.map((address, i) => (address === 0 || !split ? address : address + before * split.strides[i] * BYTES));
    before += count;
    return [...moved, ...scratch.slice(part, part + 1), ...Object.keys(declared).map((p) => numbers[p]), ...constants];
  });
  return { do: "call", name, parts };
}

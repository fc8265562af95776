/** What the cpu device's threads are told: calls of compiled kernels, each split into parts that do not touch each other's results. */

import type { Compiled, Dtype, Kernel, Values, Variant } from "../../kernels/kernel.ts";

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

/** One buffer's place in a split: its address, and how far one piece moves it, bytes. */
const BYTES = 4;

/** Below so much work a part is not worth waking a thread for: some 30 microseconds of multiplying. */
export const WORTHWHILE = 2 ** 17;

/** Pieces of each part, one after the other, for at most `threads` parts of at least `least` work. */
export function shares({ split }: Compiled, params: Readonly<Record<string, number>>, threads: number, least: number): number[] {
  const whole = split ? params[split.over] : 0;
  if (!split || threads === 1 || split.strides(params) === null) return [whole];
  const together = split.together ?? 1;
  const most = Math.min(threads, Math.ceil(whole / together), Math.floor((whole * split.work(params)) / Math.max(1, least)));
  if (most < 2) return [whole];
  const share = Math.ceil(whole / most / together) * together;
  return Array.from({ length: Math.ceil(whole / share) }, (_, i) => Math.min(share, whole - i * share));
}

/**
 * The call of a compiled kernel, by parts.
 * @param scratch an address of working memory for each part.
 */
export function callOf(
  { params: declared }: Kernel,
  compiled: Compiled,
  addresses: readonly number[],
  params: Readonly<Record<string, number>>,
  pieces: readonly number[],
  scratch: readonly number[],
): Call {
  const { name, constants = [], split } = compiled;
  const names = Object.keys(declared);
  if (pieces.length === 1) return { do: "call", name, parts: [[...addresses, ...scratch, ...names.map((p) => params[p]), ...constants]] };
  const strides = split?.strides(params) ?? [];
  let before = 0;
  const parts = pieces.map((count, part) => {
    const moved = addresses.map((address, i) => (address === 0 ? 0 : address + before * strides[i] * BYTES));
    const numbers = names.map((p) => (p === split?.over ? count : params[p]));
    before += count;
    return [...moved, ...scratch.slice(part, part + 1), ...numbers, ...constants];
  });
  return { do: "call", name, parts };
}

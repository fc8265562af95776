/** The reference device: every kernel's loops in f64. Slow, exact; for tests, and only by name. */

import type { Dtype, Kernel, Values } from "../kernels/kernel.ts";
import type { Device, Memory, OpenOptions } from "./device.ts";
import { OutOfMemory } from "./errors.ts";

interface Array64 extends Memory {
  readonly values: Exclude<Values, Float32Array>;
}

/** Bytes of a number: floats are f64 here. */
const BYTES = { f32: 8, u32: 4, i32: 4, f16: 2 };

/** What a buffer holds before it is written is nobody's business: such values make a reader of it stand out. */
const unwritten = {
  f32: (length: number) => new Float64Array(length).fill(Number.NaN),
  u32: (length: number) => new Uint32Array(length).fill(0xdeadbeef),
  i32: (length: number) => new Int32Array(length).fill(0xdeadbeef),
  f16: (length: number) => new Uint16Array(length).fill(0x7e00),
};

export function openReference({ limit = Number.POSITIVE_INFINITY }: OpenOptions = {}): Device {
  const memory = { live: 0, peak: 0, reserved: 0, limit };
  const allocate = (dtype: Dtype, length: number): Array64 => {
    const asked = length * BYTES[dtype];
    if (memory.live + asked > limit) throw new OutOfMemory("reference", { asked, live: memory.live, limit }, "use smaller batches");
    const values = unwritten[dtype](length);
    memory.live += values.byteLength;
    memory.peak = Math.max(memory.peak, memory.live);
    memory.reserved = memory.peak;
    return { dtype, length, values };
  };
  const valuesOf = (of: Memory) => (of as Array64).values;
  return {
    name: "reference",
    description: "the kernels' loops in f64",
    memory,
    allocate,
    free: (of) => {
      memory.live -= valuesOf(of).byteLength;
    },
    upload: (to, values) => valuesOf(to).set(values),
    run(kernel: Kernel, buffers, params) {
      kernel.loops(Object.fromEntries(Object.entries(buffers).map(([name, of]) => [name, valuesOf(of)])), params);
    },
    read: async (of): Promise<Values> => valuesOf(of).slice(),
    close() {},
  };
}

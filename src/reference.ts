/** The reference device: every kernel's loops in f64. Slow, exact; for tests, and only by name. */

import type { Dtype, Kernel, Values } from "../kernels/kernel.ts";
import type { Device, Memory } from "./device.ts";

interface Array64 extends Memory {
  readonly values: Exclude<Values, Float32Array>;
}

/** What a buffer holds before it is written is nobody's business: such values make a reader of it stand out. */
const unwritten = {
  f32: (length: number) => new Float64Array(length).fill(Number.NaN),
  u32: (length: number) => new Uint32Array(length).fill(0xdeadbeef),
  i32: (length: number) => new Int32Array(length).fill(0xdeadbeef),
  f16: (length: number) => new Uint16Array(length).fill(0x7e00),
};

export function openReference(): Device {
  const memory = { live: 0, peak: 0, reserved: 0 };
  const allocate = (dtype: Dtype, length: number): Array64 => {
    const values = unwritten[dtype](length);
    memory.live += values.byteLength;
    memory.peak = Math.max(memory.peak, memory.live);
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

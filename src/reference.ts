/** The reference device: every kernel's loops in f64. Slow, exact; for tests, and only by name. */

import type { Dtype, Kernel, Values } from "../kernels/kernel.ts";
import type { Device, Memory } from "./device.ts";

interface Array64 extends Memory {
  readonly values: Float64Array | Uint32Array;
}

export function openReference(): Device {
  const memory = { live: 0, peak: 0, reserved: 0 };
  const allocate = (dtype: Dtype, length: number): Array64 => {
    // What a buffer holds before it is written is nobody's business: NaN makes a reader of it stand out.
    const values = dtype === "f32" ? new Float64Array(length).fill(Number.NaN) : new Uint32Array(length).fill(0xdeadbeef);
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

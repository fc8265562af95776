/** The reference device: every kernel's loops in f64. Slow, exact; for tests, and only by name. */

import type { Dtype, Kernel, Values } from "../kernels/kernel.ts";
import type { Device, Memory, OpenOptions, Recording } from "./device.ts";
import { OutOfMemory } from "./errors.ts";
import { Branching, poolOn, type Source } from "./pool.ts";

interface Array64 extends Memory {
  readonly block: ArrayBuffer;
  readonly values: Exclude<Values, Float32Array>;
}

/** Bytes of a number: floats are f64 here. */
const BYTES = { f32: 8, u32: 4, i32: 4, f16: 2 };

/** What a buffer holds before it is written is nobody's business: such values make a reader of it stand out. */
const unwritten = {
  f32: (block: ArrayBuffer, length: number) => new Float64Array(block, 0, length).fill(Number.NaN),
  u32: (block: ArrayBuffer, length: number) => new Uint32Array(block, 0, length).fill(0xdeadbeef),
  i32: (block: ArrayBuffer, length: number) => new Int32Array(block, 0, length).fill(0xdeadbeef),
  f16: (block: ArrayBuffer, length: number) => new Uint16Array(block, 0, length).fill(0x7e00),
};

export function openReference({ limit = Number.POSITIVE_INFINITY }: OpenOptions = {}): Device {
  const memory = { live: 0, peak: 0, reserved: 0, limit };
  const root: Source<ArrayBuffer> = {
    take(asked) {
      if (memory.live + asked > limit) throw new OutOfMemory("reference", { asked, live: memory.live, limit }, "use smaller batches");
      memory.live += asked;
      memory.peak = Math.max(memory.peak, memory.live);
      memory.reserved = memory.peak;
      return new ArrayBuffer(asked);
    },
    give: ({ byteLength }) => {
      memory.live -= byteLength;
    },
  };
  const blocks = new Branching(root, poolOn);
  let recorded: (() => void)[] | null = null;
  const valuesOf = (of: Memory) => (of as Array64).values;
  return {
    name: "reference",
    description: "the kernels' loops in f64",
    memory,
    allocate(dtype: Dtype, length: number): Array64 {
      const block = blocks.take(length * BYTES[dtype]);
      return { dtype, length, block, values: unwritten[dtype](block, length) };
    },
    free: (of) => blocks.give((of as Array64).block),
    upload: (to, values) => valuesOf(to).set(values),
    run(kernel: Kernel, buffers, params) {
      const arrays = Object.fromEntries(Object.entries(buffers).map(([name, of]) => [name, valuesOf(of)]));
      const loops = () => kernel.loops(arrays, params);
      recorded?.push(loops);
      loops();
    },
    record(): Recording {
      const commands: (() => void)[] = [];
      const branch = blocks.begin();
      recorded = commands;
      return {
        end() {
          blocks.end();
          recorded = null;
          return {
            run() {
              for (const loops of commands) loops();
            },
            commands: commands.length,
            bytes: branch.reserved,
            free: () => branch.close(),
          };
        },
      };
    },
    read: async (of): Promise<Values> => valuesOf(of).slice(),
    close() {},
  };
}

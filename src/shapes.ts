/** A device that knows only shapes: it counts bytes and notes kernels, and computes nothing. `prepare` and `summary` run a program on it. */

import { bytesOf, type Kernel } from "../kernels/kernel.ts";
import { type Device, device, withDevice } from "./device.ts";
import { OutOfMemory } from "./errors.ts";
import { Pool } from "./pool.ts";
import { scoped } from "./tensor.ts";

export interface Shapes extends Device {
  readonly name: "shapes";
  /** Every kernel that was asked for, once. */
  readonly kernels: ReadonlySet<Kernel>;
}

/** Open it. While it is the current device, tensors of other devices may be arguments too, and are not written to. */
export function openShapes(): Shapes {
  const kernels = new Set<Kernel>();
  const pool = new Pool<{ readonly bytes: number }>({ make: (bytes) => ({ bytes }) });
  const blocks = new WeakMap<object, { readonly bytes: number }>();
  return {
    name: "shapes",
    description: "sizes alone",
    kernels,
    memory: pool,
    allocate(dtype, length) {
      const memory = { dtype, length };
      blocks.set(memory, pool.take(bytesOf(dtype, length)));
      return memory;
    },
    free(memory) {
      const block = blocks.get(memory);
      if (block) pool.give(block);
    },
    upload() {},
    run(kernel, _, params) {
      kernels.add(kernel);
      const scratch = Object.values(kernel.scratch ?? {}).map(({ dtype, length }) => pool.take(bytesOf(dtype, length(params))));
      for (const block of scratch) pool.give(block);
    },
    read: () =>
      Promise.reject(new Error("shapes: nothing was computed, so there is nothing to read; leave reading out of what prepare() runs")),
    close() {},
  };
}

/** What a program needs. */
export interface Needs {
  /** The most bytes that it held at one time, beside what the device held already. */
  readonly bytes: number;
  /** The kernels it runs. */
  readonly kernels: readonly Kernel[];
}

/** The needs of f, found without computing anything. What f makes is freed. */
export function needs(f: () => unknown): Needs {
  const shapes = openShapes();
  withDevice(shapes, () => scoped(() => void f()));
  return { bytes: shapes.memory.peak, kernels: [...shapes.kernels] };
}

/**
 * Run f without computing anything, to compile all its kernels together beforehand and to see that it fits.
 *
 * f may make all it uses, or use what lies on the device already: nothing is written to. It may not read. Counters of its own (an optimiser's steps)
 * go on counting, so give it a forward and a backward pass rather than a whole training step.
 *
 * @returns the bytes it needs at most, beside what the device holds.
 * @throws OutOfMemory, with the figure, when that is more than the device has; whatever f throws: a shape that does not fit shows here.
 */
export async function prepare(f: () => unknown, on: Device = device()): Promise<Needs> {
  const found = needs(f);
  const { live, limit } = on.memory;
  if (live + found.bytes > limit)
    throw new OutOfMemory(
      `${on.name}: prepare`,
      { asked: found.bytes, live, limit },
      "use smaller batches, a smaller model or checkpointing",
    );
  await on.prepare?.(found.kernels);
  return found;
}

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
  /** Every problem that was set to a kernel which has alternatives, once. */
  readonly problems: readonly Problem[];
}

/** A kernel and the sizes it is run with. */
export interface Problem {
  readonly kernel: Kernel;
  readonly params: Readonly<Record<string, number>>;
}

/**
 * Open it. While it is the current device, tensors of other devices may be arguments too, and are not written to.
 * @param plans the device whose choice among alternatives counts.
 */
export function openShapes(plans?: Device): Shapes {
  const kernels = new Set<Kernel>();
  const problems = new Map<string, Problem>();
  const pool = new Pool<{ readonly bytes: number }>({ make: (bytes) => ({ bytes }) });
  const blocks = new WeakMap<object, { readonly bytes: number }>();
  return {
    name: "shapes",
    description: "sizes alone",
    kernels,
    get problems() {
      return [...problems.values()];
    },
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
    run(asked, _, params) {
      const { whole = asked } = asked; // what is calibrated
      if (whole.alternatives) problems.set(`${whole.name} ${Object.values(params).join(" ")}`, { kernel: whole, params });
      const kernel = plans?.choices?.plan(asked, params) ?? asked;
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
  /** The problems that those of them with alternatives are set: what `calibrate` can be given. */
  readonly problems: readonly Problem[];
}

/** The needs of f, found without computing anything; of `on`, where devices differ. What f makes is freed. */
export function needs(f: () => unknown, on?: Device): Needs {
  const shapes = openShapes(on);
  withDevice(shapes, () => scoped(() => void f()));
  return { bytes: shapes.memory.peak, kernels: [...shapes.kernels], problems: shapes.problems };
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
  const found = needs(f, on);
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

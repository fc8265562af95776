/** Where buffers live and kernels run: one interface, three devices, and the choice among them. */

import type { Dtype, Kernel, Values } from "../kernels/kernel.ts";

export type DeviceName = "webgpu" | "cpu" | "reference";

/** A buffer on a device. */
export interface Memory {
  readonly dtype: Dtype;
  /** Elements. */
  readonly length: number;
}

export interface Device {
  readonly name: DeviceName;
  /** What it runs on, for a person. */
  readonly description: string;
  /** Bytes that tensors hold now, held at most, and that the pool has made. */
  readonly memory: { readonly live: number; readonly peak: number; readonly reserved: number };
  /** A buffer of unknown content. @throws RangeError saying what was asked and what there is, when memory is out. */
  allocate(dtype: Dtype, length: number): Memory;
  free(memory: Memory): void;
  /** Enqueue a copy of `values` into the buffer. */
  upload(memory: Memory, values: ArrayLike<number>): void;
  /** Enqueue a kernel. Work is done in the order it was enqueued. */
  run(kernel: Kernel, buffers: Readonly<Record<string, Memory>>, params: Readonly<Record<string, number>>): void;
  /** Wait for all that was enqueued, and copy the buffer out: the only await. @throws Error for anything that went wrong on the device. */
  read(memory: Memory): Promise<Values>;
  /** Let go of everything. The device is of no use afterwards. */
  close(): void;
}

let current: Device | null = null;

/** The device new tensors are made on. @throws Error when none was opened. */
export function device(): Device {
  if (current === null) throw new Error('device(): no device is open; call await open("auto") first');
  return current;
}

/** Make `next` the device new tensors are made on; gives it back. */
export function use<D extends Device | null>(next: D): D {
  current = next;
  return next;
}

/** Run f with new tensors made on `on`. */
export function withDevice<T>(on: Device, f: () => T): T {
  const before = current;
  current = on;
  try {
    return f();
  } finally {
    current = before;
  }
}

/** What `open("auto")` found and chose, in words. */
export interface Choice {
  readonly device: Device;
  readonly reason: string;
}

/**
 * Open a device and make it the current one.
 *
 * `auto` is WebGPU where the adapter is hardware, else `cpu`: a software adapter (llvmpipe, SwiftShader) is some ten times slower than the
 * compiled kernels of `cpu`, so it is taken only by name. `reference` runs every kernel's loops in f64, for tests, and only by name.
 *
 * @param gpu a GPUDevice to run on, for `webgpu`: what a page or a host already has.
 * @throws Error when the device named is not there, saying what to install.
 */
export async function open(name: "auto" | DeviceName = "auto", gpu?: GPUDevice): Promise<Device> {
  return use((await choose(name, gpu)).device);
}

/** The same, with the reason for the choice, and without making it the current one. */
export async function choose(name: "auto" | DeviceName = "auto", gpu?: GPUDevice): Promise<Choice> {
  switch (name) {
    case "reference":
      return { device: (await import("./reference.ts")).openReference(), reason: "named" };
    case "cpu":
      return { device: await (await import("./cpu.ts")).openCpu(), reason: "named" };
    case "webgpu":
      return { device: await (await import("./webgpu.ts")).openWebGpu(gpu), reason: gpu ? "a GPUDevice was given" : "named" };
    case "auto": {
      const { findAdapter, isSoftware, openWebGpu } = await import("./webgpu.ts");
      if (gpu) return { device: await openWebGpu(gpu), reason: "a GPUDevice was given" };
      const adapter = await findAdapter();
      if (adapter && !isSoftware(adapter)) return { device: await openWebGpu(), reason: "the WebGPU adapter is hardware" };
      const reason = adapter ? "the WebGPU adapter is software, slower than the compiled kernels of cpu" : "there is no WebGPU adapter";
      return { device: await (await import("./cpu.ts")).openCpu(), reason };
    }
    default:
      throw new RangeError(`open(name): there is no device "${String(name)}"; give auto, webgpu, cpu or reference`);
  }
}

/** Where buffers live and kernels run: one interface, three devices, and the choice among them. */

import type { Dtype, Kernel, Values } from "../kernels/kernel.ts";
import type { Choices, Table } from "./choices.ts";
import { checkOptions } from "./options.ts";

export type DeviceName = "webgpu" | "cpu" | "reference";

/** A buffer on a device. */
export interface Memory {
  readonly dtype: Dtype;
  /** Elements. */
  readonly length: number;
}

/** What was recorded: kernels on their buffers, to be run again. */
export interface Replay {
  /** Enqueue all of it, in order: nothing is checked, allocated or bound. */
  run(): void;
  /** Kernels it enqueues. */
  readonly commands: number;
  /** Bytes that nobody else may use: of all that was allocated while it was recorded. */
  readonly bytes: number;
  /** Give its memory back: at once what no tensor holds, the rest when it is freed. */
  free(): void;
}

/** A recording that goes on: what is run is noted, and what is allocated belongs to it. */
export interface Recording {
  /** End it. */
  end(): Replay;
}

export interface Device {
  readonly name: DeviceName | "shapes";
  /** What it runs on, for a person. */
  readonly description: string;
  /** Bytes that tensors hold now, held at most, that have been made or reached, and that there may be. */
  readonly memory: { readonly live: number; readonly peak: number; readonly reserved: number; readonly limit: number };
  /** A buffer of unknown content. @throws OutOfMemory saying what was asked and what there is; the device works on. */
  allocate(dtype: Dtype, length: number): Memory;
  free(memory: Memory): void;
  /**
   * `length` elements of a buffer from `first` on, a multiple of PART of 4 bytes, to be used like a buffer of their own and not to be freed. Devices have it on
   * which many small kernels are dear: there an optimiser keeps all parameters in one buffer, and steps them together.
   */
  part?(memory: Memory, first: number, length: number): Memory;
  /** Enqueue a copy of `values` into the buffer. */
  upload(memory: Memory, values: ArrayLike<number>): void;
  /** Enqueue a kernel. Work is done in the order it was enqueued. */
  run(kernel: Kernel, buffers: Readonly<Record<string, Memory>>, params: Readonly<Record<string, number>>): void;
  /** Wait for all that was enqueued, and copy the buffer out: the only await. @throws Error for anything that went wrong on the device. */
  read(memory: Memory): Promise<Values>;
  /**
   * Note, until the recording ends, what is run. What is allocated meanwhile stays with it, so that a replay finds its buffers as they were; buffers
   * from before must be kept by whoever records. `capture` is made of it.
   */
  record?(): Recording;
  /** Which of a kernel's alternatives it takes, by sizes. */
  readonly choices?: Choices;
  /** Compile what these kernels need, all together, so that their first run does not wait for it. */
  prepare?(kernels: readonly Kernel[]): Promise<void>;
  /** Let go of everything. The device is of no use afterwards. */
  close(): void;
}

/** How to open a device. */
export interface OpenOptions {
  /** A GPUDevice to run on: what a page or a host already has. */
  readonly gpu?: GPUDevice;
  /** The most bytes that buffers may take. Default: what the device has. */
  readonly limit?: number;
  /** Threads of the cpu device, this one among them. Default: one a core, up to 16, where memory can be shared; else one. */
  readonly threads?: number;
  /** Carry the cpu device's work out in a worker: so it is in a page, whose main thread may not wait; elsewhere if asked. */
  readonly worker?: boolean;
  /** Work, in numbers touched, below which the cpu device wakes no other thread: 0 to share everything, for tests. */
  readonly least?: number;
  /** Let the cpu device multiply and add in one rounding where the engine can: a third faster. false for the bits of one that cannot. Default true. */
  readonly fused?: boolean;
  /**
   * Let V8 rewrite the cpu device's kernels for vectors of 8 where that is known to work, which is Node 24 and 26 on x86-64 with AVX2: up to twice as
   * fast, bit for bit the same. It is an experiment of V8's; false leaves it out. Default true.
   */
  readonly wide?: boolean;
  /**
   * "mixed" lets WebGPU round what matrix products and attention multiply to f16, where a calibration found that faster; sums stay f32. It also is what
   * `storageOf` goes by: models then store activations as f16. Default "f32": nothing is rounded. The cpu device never does.
   */
  readonly precision?: "f32" | "mixed";
  /** Ask WebGPU for what is a draft yet: matrix units (tensor cores). They are used where a calibration found them right. Default false. */
  readonly experimental?: boolean;
  /**
   * Which ways of writing kernels are fastest on this adapter: true to find out now, a table that was found before, or a store to take it from and to
   * keep what is found in. Default: a rule by sizes alone.
   */
  readonly calibrate?: boolean | Table | Store;
}

/** Where a calibration is kept between runs: a file, or whatever a page has. */
export interface Store {
  /** What was saved; null where nothing was. */
  load(): Promise<unknown>;
  save(table: Table): Promise<void>;
}

let chosen: Device | null = null;

/** The device new tensors are made on, or null. */
export const current = (): Device | null => chosen;

/** The device new tensors are made on. @throws Error when none was opened. */
export function device(): Device {
  if (chosen === null) throw new Error('device(): no device is open; call await open("auto") first');
  return chosen;
}

/** Can kernels read and write f16 there? WebGPU's need an adapter with "shader-f16"; loops always can, slowly. */
export const storesHalves = ({ name, choices }: Device): boolean =>
  name !== "webgpu" || (choices?.abilities.features.has("shader-f16") ?? false);

/** What activations are stored as: f16 on a device that was opened with precision "mixed" and gains by it, else f32. */
export const storageOf = (on: Device = device()): "f32" | "f16" => (on.choices?.abilities.mixed && storesHalves(on) ? "f16" : "f32");

/** Make `next` the device new tensors are made on; gives it back. */
export function use<D extends Device | null>(next: D): D {
  chosen = next;
  return next;
}

/** Run f with new tensors made on `on`. */
export function withDevice<T>(on: Device, f: () => T): T {
  const before = chosen;
  chosen = on;
  try {
    return f();
  } finally {
    chosen = before;
  }
}

/** What `open("auto")` found and chose, in words. */
export interface Choice {
  readonly device: Device;
  readonly reason: string;
}

const opened = new WeakMap<Device, readonly [DeviceName, OpenOptions]>();

/**
 * Open a device and make it the current one.
 *
 * `auto` is WebGPU where the adapter is hardware, else `cpu`: a software adapter (llvmpipe, SwiftShader) is some ten times slower than the
 * compiled kernels of `cpu`, so it is taken only by name. `reference` runs every kernel's loops in f64, for tests, and only by name.
 *
 * @throws Error when the device named is not there, saying what to install.
 */
export async function open(name: "auto" | DeviceName = "auto", options: OpenOptions = {}): Promise<Device> {
  return use((await choose(name, options)).device);
}

/**
 * Open anew the kind of device that another was, as it was opened, and make it the current one: after it was lost. The old one is closed; what
 * lay on it is gone.
 * @throws TypeError for a device on a GPUDevice that was given: give another to open().
 */
export async function reopen(old: Device = device()): Promise<Device> {
  const [name, options] = opened.get(old) ?? ["auto" as const, {}];
  if (options.gpu) throw new TypeError("reopen(device): it ran on a GPUDevice that was given; ask the adapter for another and open that");
  old.close();
  return open(name, options);
}

/** The same as `open`, with the reason for the choice, and without making it the current one. */
export async function choose(name: "auto" | DeviceName = "auto", options: OpenOptions = {}): Promise<Choice> {
  checkOptions("open(name, options)", options, [
    ...(["gpu", "limit", "threads", "worker", "least", "fused", "wide"] as const),
    ...(["precision", "experimental", "calibrate"] as const),
  ]);
  if (options.limit !== undefined && !(typeof options.limit === "number" && options.limit > 0))
    throw new RangeError(`open(name, { limit }): a limit is a number of bytes; got ${String(options.limit)}`);
  if (options.precision !== undefined && options.precision !== "f32" && options.precision !== "mixed")
    throw new RangeError(`open(name, { precision }): a precision is "f32" or "mixed"; got ${String(options.precision)}`);
  const choice = await find(name, options);
  if (options.calibrate && choice.device.choices) await tune(choice.device, options.calibrate);
  opened.set(choice.device, [choice.device.name as DeviceName, options]);
  return choice;
}

/** Choose among alternatives as asked. A device that this cannot be done on is closed. */
async function tune(on: Device, how: true | Table | Store): Promise<void> {
  try {
    if (how !== true && "tried" in how) on.choices?.use(how);
    else await (await import("./calibrate.ts")).calibrate(on, how === true ? {} : { store: how });
  } catch (error) {
    on.close();
    throw error;
  }
}

async function find(name: "auto" | DeviceName, options: OpenOptions): Promise<Choice> {
  const openCpu = async () => (await import("./cpu.ts")).openCpu(options);
  const openWebGpu = async () => (await import("./webgpu.ts")).openWebGpu(options);
  const given = "a GPUDevice was given";
  switch (name) {
    case "reference":
      return { device: (await import("./reference.ts")).openReference(options), reason: "named" };
    case "cpu":
      return { device: await openCpu(), reason: "named" };
    case "webgpu":
      return { device: await openWebGpu(), reason: options.gpu ? given : "named" };
    case "auto": {
      if (options.gpu) return { device: await openWebGpu(), reason: given };
      const { findAdapter, isSoftware } = await import("./webgpu.ts");
      const adapter = await findAdapter(options);
      if (adapter && !isSoftware(adapter)) return { device: await openWebGpu(), reason: "the WebGPU adapter is hardware" };
      const reason = adapter ? "the WebGPU adapter is software, slower than the compiled kernels of cpu" : "there is no WebGPU adapter";
      return { device: await openCpu(), reason };
    }
    default:
      throw new RangeError(`open(name): there is no device "${String(name)}"; give auto, webgpu, cpu or reference`);
  }
}

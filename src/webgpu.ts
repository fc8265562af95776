/** The WebGPU device: adapter and limits, pipelines and bind groups by name, one encoder until somebody reads, errors brought to the reader. */

import { arrayOf, boundBy, bytesOf, type Dtype, GRID_X, type Kernel, type Pass, source, type Values, valuesOf } from "../kernels/kernel.ts";
import type { Device, Memory, OpenOptions } from "./device.ts";
import { DeviceLost, OutOfMemory } from "./errors.ts";
import { Pool } from "./pool.ts";

interface Block extends Memory {
  readonly buffer: GPUBuffer;
}

/** Dispatches after which the encoder is submitted, so that the GPU starts before the host has finished. */
const MOST_DISPATCHES = 256;
/** Cached uniform buffers and bind groups, past which the caches start afresh. */
const MOST_CACHED = 8192;

let instance: GPU | null = null;

/** The npm package that gives Node a WebGPU, by a name that no bundler follows: a page has no use for it. */
const PACKAGE = "webgpu";

/** navigator.gpu, or in Node the GPU of the npm package `webgpu` (Dawn). null where there is neither. */
async function gpu(): Promise<GPU | null> {
  if (globalThis.navigator?.gpu) return navigator.gpu;
  if (!globalThis.process?.versions?.node) return null;
  if (instance) return instance;
  process.env.XDG_RUNTIME_DIR ??= process.getBuiltinModule("node:os").tmpdir(); // Vulkan's loader complains without one
  try {
    const { create, globals } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ PACKAGE)) as typeof import("webgpu");
    Object.assign(globalThis, globals);
    instance = create(flags()); // kept: Dawn aborts the process when this object is collected
    return instance;
  } catch {
    return null; // not installed, or no build for this platform: findAdapter's caller says so
  }
}

/** Dawn's flags from the environment: GPU_BACKEND=vulkan, DAWN_FEATURES=name,name */
const flags = (): string[] => [
  ...(process.env.GPU_BACKEND ? [`backend=${process.env.GPU_BACKEND}`] : []),
  ...(process.env.DAWN_FEATURES ? [`enable-dawn-features=${process.env.DAWN_FEATURES}`] : []),
];

/** The adapter WebGPU offers, or null. */
export async function findAdapter(): Promise<GPUAdapter | null> {
  return (await (await gpu())?.requestAdapter({ powerPreference: "high-performance" })) ?? null;
}

/** What the adapter is, for a person. */
export const describe = ({ info }: GPUAdapter): string =>
  [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(" ");

/** Does this adapter compute on the CPU? */
export const isSoftware = (adapter: GPUAdapter): boolean =>
  adapter.info.isFallbackAdapter === true || /llvmpipe|lavapipe|swiftshader|softpipe|basic render/i.test(describe(adapter));

/**
 * Open WebGPU on the adapter the platform offers, or on a device given.
 * @throws Error when there is no adapter, saying what to install.
 */
export async function openWebGpu({ gpu: given, limit }: OpenOptions = {}): Promise<Device> {
  if (given) return new WebGpu(given, given.adapterInfo?.description || "a GPUDevice given", false, limit);
  const adapter = await findAdapter();
  if (!adapter)
    throw new Error(
      "webgpu: no adapter. Install a Vulkan driver (Debian: mesa-vulkan-drivers) and the npm package webgpu, or use --device cpu",
    );
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  return new WebGpu(
    await adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } }),
    describe(adapter),
    true,
    limit,
  );
}

/** A pipeline, and a number that tells it from others. */
interface Made {
  readonly number: number;
  readonly pipeline: GPUComputePipeline;
}

/** What a pass is called: in the cache of pipelines, and in errors. */
const nameOf = (kernel: Kernel, index: number): string => (kernel.passes.length === 1 ? kernel.name : `${kernel.name} (${index + 1})`);

class WebGpu implements Device {
  readonly name = "webgpu";
  readonly description: string;
  readonly memory: Pool<GPUBuffer>;
  readonly #gpu: GPUDevice;
  readonly #own: boolean;
  readonly #pipelines = new WeakMap<Pass, Made>();
  /** The same by source text: two kernels that say the same share a pipeline. */
  readonly #byCode = new Map<string, Made>();
  readonly #uniforms = new Map<string, GPUBuffer>();
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #numbers = new WeakMap<GPUBuffer, number>();
  readonly #staging: Pool<GPUBuffer>;
  /** Buffers of which it is not known yet whether there was memory for them. */
  readonly #unknown = new Set<Promise<void>>();
  #made = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #dispatches = 0;
  #recent: string[] = [];
  /** What went wrong, until somebody is told. */
  #error: Error | null = null;
  #lost: DeviceLost | null = null;
  #closed = false;

  /** @param own was it made for this, so that closing destroys it? A device that was given goes on living. */
  constructor(gpu: GPUDevice, description: string, own: boolean, limit?: number) {
    this.#gpu = gpu;
    this.#own = own;
    this.description = description;
    const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    this.memory = new Pool<GPUBuffer>({
      limit,
      make: (size) => this.#buffer(size, STORAGE | COPY_SRC | COPY_DST),
      destroy: (buffer) => {
        this.#flush(); // what is enqueued may still use it
        this.#groups.clear();
        buffer.destroy();
      },
      fail: (asked) => this.#short(asked),
    });
    this.#staging = new Pool({ make: (size) => gpu.createBuffer({ size, usage: MAP_READ | COPY_DST }) });
    gpu.addEventListener("uncapturederror", ({ error }) => {
      this.#error ??= new Error(`webgpu: ${error.message} (recent kernels: ${this.#recent.join(", ")})`);
    });
    gpu.lost.then(({ message, reason }) => {
      if (!this.#closed) this.#lost = new DeviceLost("webgpu", `${reason}: ${message}`);
    });
  }

  #short(asked: number): OutOfMemory {
    const { live, limit } = this.memory;
    return new OutOfMemory("webgpu", { asked, live, limit }, "use smaller batches");
  }

  /** @throws what went wrong since the last time: once, as the device works on; a lost or closed one throws for ever. */
  #check() {
    if (this.#closed) throw new Error("webgpu: this device was closed; open another");
    if (this.#lost) throw this.#lost;
    const error = this.#error;
    this.#error = null;
    if (error) throw error;
  }

  /** A buffer. Whether there was memory for it turns out later: then whoever reads next is told, and nobody takes the buffer again. */
  #buffer(size: number, usage: number): GPUBuffer {
    const most = Math.min(this.#gpu.limits.maxBufferSize, this.#gpu.limits.maxStorageBufferBindingSize);
    if (size > most)
      throw new OutOfMemory(
        "webgpu",
        { asked: size, live: 0, limit: most },
        "that is all one buffer of this adapter may have: use smaller batches",
      );
    this.#gpu.pushErrorScope("out-of-memory");
    const buffer = this.#numbered(this.#gpu.createBuffer({ size, usage }));
    const known = this.#gpu
      .popErrorScope()
      .then(
        (error) => {
          if (!error) return;
          this.#error = this.#short(size); // rather than the errors that follow from it
          this.memory.drop(buffer);
        },
        () => {}, // the device was lost: that is said elsewhere
      )
      .finally(() => this.#unknown.delete(known));
    this.#unknown.add(known);
    return buffer;
  }

  #numbered(buffer: GPUBuffer): GPUBuffer {
    this.#numbers.set(buffer, this.#made++);
    return buffer;
  }

  allocate(dtype: Dtype, length: number): Block {
    this.#check();
    return { dtype, length, buffer: this.memory.take(bytesOf(dtype, length)) };
  }

  free(memory: Memory): void {
    this.memory.give((memory as Block).buffer);
  }

  upload(memory: Memory, values: ArrayLike<number>): void {
    this.#check();
    this.#flush(); // what is enqueued may read the buffer's former content, and writeBuffer would overtake it
    let data = valuesOf(memory.dtype, values);
    if (data.byteLength % 4) data = new Uint16Array([...data, 0]); // whole words only
    this.#gpu.queue.writeBuffer((memory as Block).buffer, 0, data as Uint32Array<ArrayBuffer>);
  }

  run(kernel: Kernel, buffers: Readonly<Record<string, Memory>>, params: Readonly<Record<string, number>>): void {
    this.#check();
    const scratch: Record<string, Block> = {};
    try {
      for (const [name, { dtype, length }] of Object.entries(kernel.scratch ?? {})) scratch[name] = this.allocate(dtype, length(params));
      const all = { ...buffers, ...scratch } as Record<string, Block>;
      kernel.passes.forEach((pass, index) => {
        const groups = pass.groups(params);
        if (groups > 0) this.#dispatch(kernel, index, pass, all, params, groups);
      });
    } finally {
      for (const block of Object.values(scratch)) this.free(block); // the queue keeps order: whoever takes it next writes after this
    }
  }

  #dispatch(
    kernel: Kernel,
    index: number,
    pass: Pass,
    buffers: Record<string, Block>,
    params: Readonly<Record<string, number>>,
    groups: number,
  ) {
    const name = nameOf(kernel, index);
    const { pipeline, number } = this.#pipeline(name, kernel, pass);
    const uniform = this.#uniform(kernel, params);
    const bound = boundBy(kernel, pass).map((buffer) => buffers[buffer].buffer);
    const key = `${number} ${this.#numbers.get(uniform)} ${bound.map((buffer) => this.#numbers.get(buffer)).join(" ")}`;
    let group = this.#groups.get(key);
    if (!group) {
      if (this.#groups.size >= MOST_CACHED) this.#groups.clear();
      const entries = [uniform, ...bound].map((buffer, binding) => ({ binding, resource: { buffer } }));
      group = this.#gpu.createBindGroup({ label: name, layout: pipeline.getBindGroupLayout(0), entries });
      this.#groups.set(key, group);
    }
    this.#encoder ??= this.#gpu.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group);
    this.#pass.dispatchWorkgroups(Math.min(groups, GRID_X), Math.ceil(groups / GRID_X));
    this.#recent.push(name);
    if (this.#recent.length > 8) this.#recent.shift();
    if (++this.#dispatches >= MOST_DISPATCHES) this.#flush();
  }

  #pipeline(name: string, kernel: Kernel, pass: Pass): Made {
    const known = this.#pipelines.get(pass);
    if (known) return known;
    const code = source(kernel, pass);
    return this.#remember(
      pass,
      code,
      this.#byCode.get(code)?.pipeline ?? this.#gpu.createComputePipeline(this.#descriptor(name, kernel, pass, code)),
    );
  }

  #remember(pass: Pass, code: string, pipeline: GPUComputePipeline): Made {
    const made = this.#byCode.get(code) ?? { number: this.#made++, pipeline };
    this.#byCode.set(code, made);
    this.#pipelines.set(pass, made);
    return made;
  }

  #descriptor(name: string, kernel: Kernel, pass: Pass, code: string): GPUComputePipelineDescriptor {
    const module = this.#gpu.createShaderModule({ label: name, code });
    return { label: name, layout: this.#layout(name, kernel, pass), compute: { module } };
  }

  async prepare(kernels: readonly Kernel[]): Promise<void> {
    this.#check();
    const passes = kernels.flatMap((kernel) => kernel.passes.map((pass, index) => ({ name: nameOf(kernel, index), kernel, pass })));
    await Promise.all(
      passes.map(async ({ name, kernel, pass }) => {
        if (this.#pipelines.has(pass)) return;
        const code = source(kernel, pass);
        this.#remember(pass, code, await this.#gpu.createComputePipelineAsync(this.#descriptor(name, kernel, pass, code)));
      }),
    );
  }

  /** Spelled out rather than "auto": a binding the WGSL happens not to use stays in the layout. */
  #layout(name: string, kernel: Kernel, pass: Pass): GPUPipelineLayout {
    const entries = boundBy(kernel, pass).map((buffer, i): GPUBindGroupLayoutEntry => {
      const type = buffer in kernel.inputs ? "read-only-storage" : "storage";
      return { binding: i + 1, visibility: GPUShaderStage.COMPUTE, buffer: { type } };
    });
    entries.unshift({ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform" } });
    return this.#gpu.createPipelineLayout({ label: name, bindGroupLayouts: [this.#gpu.createBindGroupLayout({ label: name, entries })] });
  }

  /** The parameters as a uniform buffer, which is never rewritten: the same numbers find the same buffer. */
  #uniform(kernel: Kernel, params: Readonly<Record<string, number>>): GPUBuffer {
    const names = Object.entries(kernel.params);
    const key = names.map(([name, type]) => `${type[0]}${params[name]}`).join(" ");
    let buffer = this.#uniforms.get(key);
    if (!buffer) {
      if (this.#uniforms.size >= MOST_CACHED) this.#uniforms.clear();
      const data = new DataView(new ArrayBuffer(Math.max(16, Math.ceil(names.length / 4) * 16)));
      names.forEach(([name, type], i) => {
        if (type === "f32") data.setFloat32(4 * i, params[name], true);
        else data.setInt32(4 * i, params[name], true);
      });
      buffer = this.#numbered(this.#gpu.createBuffer({ size: data.byteLength, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST }));
      this.#gpu.queue.writeBuffer(buffer, 0, data.buffer);
      this.#uniforms.set(key, buffer);
    }
    return buffer;
  }

  #flush(): void {
    if (!this.#encoder) return;
    this.#pass?.end();
    this.#gpu.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#pass = null;
    this.#dispatches = 0;
  }

  async read(memory: Memory): Promise<Values> {
    this.#check();
    const { dtype, length } = memory;
    const bytes = bytesOf(dtype, length);
    if (bytes === 0) return arrayOf(dtype, new ArrayBuffer(0), 0, 0);
    this.#pass?.end();
    this.#pass = null;
    this.#encoder ??= this.#gpu.createCommandEncoder();
    const staging = this.#staging.take(bytes);
    this.#encoder.copyBufferToBuffer((memory as Block).buffer, 0, staging, 0, bytes);
    this.#flush();
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, bytes);
    } catch (cause) {
      this.#check();
      throw new Error(`webgpu: reading ${bytes} bytes back failed`, { cause });
    }
    await Promise.all(this.#unknown);
    const copy = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    this.#staging.give(staging);
    this.#check();
    return arrayOf(dtype, copy, 0, length);
  }

  close(): void {
    this.#flush();
    this.#closed = true;
    if (this.#own) this.#gpu.destroy();
  }
}

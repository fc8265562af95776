/** The WebGPU device: adapter and limits, pipelines and bind groups by name, one encoder until somebody reads, errors brought to the reader. */

import { roomOf } from "../kernels/collect.ts";
import { arrayOf, boundBy, bytesOf, type Dtype, GRID_X, type Kernel, type Pass, source, type Values, valuesOf } from "../kernels/kernel.ts";
import { type Abilities, Choices } from "./choices.ts";
import type { Device, Memory, OpenOptions, Recording } from "./device.ts";
import { DeviceLost, OutOfMemory } from "./errors.ts";
import { Branching, Pool, poolOn } from "./pool.ts";

interface Block extends Memory {
  readonly buffer: GPUBuffer;
  /** Of a part: where it begins, and what may be bound from there, bytes. */
  readonly offset?: number;
  readonly bytes?: number;
}

/** Dispatches after which the encoder is submitted, so that the GPU starts before the host has finished. */
const MOST_DISPATCHES = 256;
/** Cached uniform buffers and bind groups, past which the caches start afresh. */
const MOST_CACHED = 8192;

/** Node's GPUs, by their flags. */
const instances = new Map<string, GPU>();

/** The npm package that gives Node a WebGPU, by a name that no bundler follows: a page has no use for it. */
const PACKAGE = "webgpu";

/** navigator.gpu, or in Node the GPU of the npm package `webgpu` (Dawn). null where there is neither. */
async function gpu(options: OpenOptions): Promise<GPU | null> {
  if (globalThis.navigator?.gpu) return navigator.gpu;
  if (!globalThis.process?.versions?.node) return null;
  const flags = flagsOf(options);
  const made = instances.get(flags.join(" "));
  if (made) return made;
  process.env.XDG_RUNTIME_DIR ??= process.getBuiltinModule("node:os").tmpdir(); // Vulkan's loader complains without one
  try {
    const { create, globals } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ PACKAGE)) as typeof import("webgpu");
    Object.assign(globalThis, globals);
    const instance = create(flags);
    instances.set(flags.join(" "), instance); // kept: Dawn aborts the process when this object is collected
    return instance;
  } catch {
    return null; // not installed, or no build for this platform: findAdapter's caller says so
  }
}

/** What Dawn keeps back: f16 on NVIDIA, where Vulkan's drivers were wrong once, and matrix units, whose language is a draft. */
const FOR_MIXED = ["vulkan_enable_f16_on_nvidia"];
const FOR_EXPERIMENTS = ["allow_unsafe_apis", "use_vulkan_memory_model", ...FOR_MIXED];

/** Dawn's flags, of the environment and of what was asked for: GPU_BACKEND=vulkan, DAWN_FEATURES=name,name */
export function flagsOf({ precision, experimental }: OpenOptions): string[] {
  const { GPU_BACKEND, DAWN_FEATURES } = process.env;
  const asked = [
    ...(precision === "mixed" ? FOR_MIXED : []),
    ...(experimental ? FOR_EXPERIMENTS : []),
    ...(DAWN_FEATURES?.split(",") ?? []),
  ];
  return [
    ...(GPU_BACKEND ? [`backend=${GPU_BACKEND}`] : []),
    ...(asked.length > 0 ? [`enable-dawn-features=${[...new Set(asked)].join(",")}`] : []),
  ];
}

/** The adapter WebGPU offers, or null. */
export async function findAdapter(options: OpenOptions = {}): Promise<GPUAdapter | null> {
  return (await (await gpu(options))?.requestAdapter({ powerPreference: "high-performance" })) ?? null;
}

/** What kernels may need, and is asked for where there is any: matrix units only of those who want experiments. */
const FEATURES = ["shader-f16", "subgroups", "subgroup-size-control", "timestamp-query"];
const MATRICES = "chromium-experimental-subgroup-matrix";

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;

/** What to ask of an adapter: all it has, of what kernels can use. */
export function requestOf(
  { features, limits }: Pick<GPUAdapter, "features" | "limits">,
  { experimental }: OpenOptions,
): GPUDeviceDescriptor {
  const wanted = [...FEATURES, ...(experimental ? [MATRICES] : [])].filter((feature) => features.has(feature));
  return {
    requiredFeatures: wanted as GPUFeatureName[],
    requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
  };
}

/** The draft of matrix units, which the types of WebGPU do not know yet. */
interface MatrixConfiguration {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What a device can do, as far as kernels ask. */
export function abilitiesOf(
  { features, limits }: Pick<GPUDevice, "features" | "limits">,
  info: GPUAdapterInfo | undefined,
  { precision }: OpenOptions,
): Abilities {
  const configurations = [
    ...((info as { subgroupMatrixConfigs?: Iterable<MatrixConfiguration> } | undefined)?.subgroupMatrixConfigs ?? []),
  ];
  return {
    name: info ? describe({ info }) : "",
    software: info ? isSoftware({ info }) : false,
    features,
    lanes: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
    bytes: limits.maxComputeWorkgroupStorageSize,
    units: configurations.flatMap(({ componentType: type, resultComponentType, M: m, N: n, K: k }) =>
      (type === "f16" || type === "f32") && resultComponentType === "f32" ? [{ type, m, n, k }] : [],
    ),
    mixed: precision === "mixed",
  };
}

/** What the adapter is, for a person. */
export const describe = ({ info }: Pick<GPUAdapter, "info">): string =>
  [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(" ");

/** Does this adapter compute on the CPU? */
export const isSoftware = (adapter: Pick<GPUAdapter, "info">): boolean =>
  adapter.info.isFallbackAdapter === true || /llvmpipe|lavapipe|swiftshader|softpipe|basic render/i.test(describe(adapter));

/**
 * Open WebGPU on the adapter the platform offers, or on a device given.
 * @throws Error when there is no adapter, saying what to install.
 */
export async function openWebGpu(options: OpenOptions = {}): Promise<Device> {
  const { gpu: given, limit } = options;
  if (given) {
    const info = given.adapterInfo as GPUAdapterInfo | undefined;
    return new WebGpu(given, info?.description || "a GPUDevice given", false, abilitiesOf(given, info, options), limit);
  }
  const adapter = await findAdapter(options);
  if (!adapter)
    throw new Error(
      "webgpu: no adapter. Install a Vulkan driver (Debian: mesa-vulkan-drivers) and the npm package webgpu, or use --device cpu",
    );
  const own = await adapter.requestDevice(requestOf(adapter, options));
  return new WebGpu(own, describe(adapter), true, abilitiesOf(own, adapter.info, options), limit);
}

/** A pipeline, and a number that tells it from others. */
interface Made {
  readonly number: number;
  readonly pipeline: GPUComputePipeline;
}

/** A pass that is ready to be enqueued, by name, with all that it is bound to. */
interface Dispatch {
  readonly name: string;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly x: number;
  readonly y: number;
}

/** What a pass is called: in the cache of pipelines, and in errors. */
const nameOf = (kernel: Kernel, index: number): string => (kernel.passes.length === 1 ? kernel.name : `${kernel.name} (${index + 1})`);

class WebGpu implements Device {
  readonly name = "webgpu";
  readonly description: string;
  readonly memory: Pool<GPUBuffer>;
  readonly choices: Choices;
  readonly #blocks: Branching<GPUBuffer>;
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
  #recorded: Dispatch[] | null = null;
  /** What went wrong, until somebody is told. */
  #error: Error | null = null;
  #lost: DeviceLost | null = null;
  #closed = false;

  /** @param own was it made for this, so that closing destroys it? A device that was given goes on living. */
  constructor(gpu: GPUDevice, description: string, own: boolean, abilities: Abilities, limit?: number) {
    this.#gpu = gpu;
    this.choices = new Choices(abilities);
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
    this.#blocks = new Branching(this.memory, poolOn);
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
    return { dtype, length, buffer: this.#blocks.take(bytesOf(dtype, length)) };
  }

  free(memory: Memory): void {
    this.#blocks.give((memory as Block).buffer);
  }

  part(memory: Memory, first: number, length: number): Block {
    const { buffer, dtype } = memory as Block;
    return { dtype, length, buffer, offset: bytesOf(dtype, first), bytes: bytesOf(dtype, roomOf(length)) };
  }

  upload(memory: Memory, values: ArrayLike<number>): void {
    this.#check();
    this.#flush(); // what is enqueued may read the buffer's former content, and writeBuffer would overtake it
    let data = valuesOf(memory.dtype, values);
    if (data.byteLength % 4) data = new Uint16Array([...data, 0]); // whole words only
    const { buffer, offset = 0 } = memory as Block;
    this.#gpu.queue.writeBuffer(buffer, offset, data as Uint32Array<ArrayBuffer>);
  }

  run(asked: Kernel, buffers: Readonly<Record<string, Memory>>, params: Readonly<Record<string, number>>): void {
    this.#check();
    const kernel = this.choices.plan(asked, params);
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
    const bound = boundBy(kernel, pass).map((name) => buffers[name]);
    const place = ({ buffer, offset = 0 }: Block) => `${this.#numbers.get(buffer)}+${offset}`;
    const key = `${number} ${this.#numbers.get(uniform)} ${bound.map(place).join(" ")}`;
    let group = this.#groups.get(key);
    if (!group) {
      if (this.#groups.size >= MOST_CACHED) this.#groups.clear();
      const resources = [{ buffer: uniform }, ...bound.map(({ buffer, offset, bytes: size }) => ({ buffer, offset, size }))];
      const entries = resources.map((resource, binding) => ({ binding, resource }));
      group = this.#gpu.createBindGroup({ label: name, layout: pipeline.getBindGroupLayout(0), entries });
      this.#groups.set(key, group);
    }
    const dispatch = { name, pipeline, group, x: Math.min(groups, GRID_X), y: Math.ceil(groups / GRID_X) };
    this.#recorded?.push(dispatch);
    this.#enqueue(dispatch);
  }

  #enqueue({ name, pipeline, group, x, y }: Dispatch): void {
    this.#encoder ??= this.#gpu.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group);
    this.#pass.dispatchWorkgroups(x, y);
    this.#recent.push(name);
    if (this.#recent.length > 8) this.#recent.shift();
    if (++this.#dispatches >= MOST_DISPATCHES) this.#flush();
  }

  record(): Recording {
    this.#check();
    const list: Dispatch[] = [];
    const branch = this.#blocks.begin();
    this.#recorded = list;
    return {
      end: () => {
        this.#blocks.end();
        this.#recorded = null;
        return {
          run: () => {
            this.#check();
            for (const dispatch of list) this.#enqueue(dispatch);
          },
          commands: list.length,
          bytes: branch.reserved,
          free: () => branch.close(),
        };
      },
    };
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
        this.#gpu.pushErrorScope("validation"); // what is wrong is said here, not to whoever reads next
        const making = this.#gpu.createComputePipelineAsync(this.#descriptor(name, kernel, pass, code));
        const [made, wrong] = await Promise.allSettled([making, this.#gpu.popErrorScope()]);
        if (made.status === "rejected")
          throw new Error(`webgpu: ${name}: ${(wrong.status === "fulfilled" && wrong.value?.message) || made.reason.message}`);
        this.#remember(pass, code, made.value);
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
    const { buffer, offset = 0 } = memory as Block;
    this.#encoder.copyBufferToBuffer(buffer, offset, staging, 0, bytes);
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

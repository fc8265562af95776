/** A tensor is a shape, a dtype and a buffer on a device; it does no arithmetic. Scopes give buffers back. */

import { fill } from "../kernels/fill.ts";
import { fromHalf, toHalf } from "../kernels/half.ts";
import type { Dtype, Kernel, Named, Scalar, Values } from "../kernels/kernel.ts";
import { current, type Device, device, type Memory } from "./device.ts";
import type { Key } from "./key.ts";
import { type Shape, sameShape, show, sizeOf } from "./shape.ts";

/** A buffer and how many tensors share it: a reshape is another tensor on the same one. */
class Storage {
  readonly device: Device;
  readonly memory: Memory;
  #tensors = 0;

  constructor(on: Device, memory: Memory) {
    this.device = on;
    this.memory = memory;
  }
  add(): void {
    this.#tensors++;
  }
  remove(): void {
    if (--this.#tensors === 0) this.device.free(this.memory);
  }
}

/** What tells the tensors of all copies of this library. */
const BRAND = Symbol.for("geneformer-ts.tensor");

/** Is this a tensor, but of another copy of this library? Two engines in one page do not know each other's. */
export const isForeign = (value: unknown): boolean =>
  typeof value === "object" && value !== null && BRAND in value && !(value instanceof Tensor);

export class Tensor {
  readonly shape: Shape;
  readonly dtype: Dtype;
  readonly device: Device;
  readonly #storage: Storage;
  #holds = 1;

  /** Marks tensors for `isForeign`. */
  get [BRAND](): true {
    return true;
  }

  constructor(shape: Shape, storage: Storage) {
    this.shape = shape;
    this.dtype = storage.memory.dtype;
    this.device = storage.device;
    this.#storage = storage;
    storage.add();
    scope?.add(this);
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  /** Has it not been freed yet? */
  get alive(): boolean {
    return this.#holds > 0;
  }

  /** The buffer. @throws Error once the tensor has been freed. */
  get memory(): Memory {
    if (this.#holds === 0)
      throw new Error(
        `tensor ${show(this.shape)}: used after it was freed; return it from its scope, or keep() it there, to use it outside`,
      );
    noted?.add(this);
    return this.#storage.memory;
  }

  /** The same numbers in another shape of the same size, sharing the buffer. */
  withShape(shape: Shape): Tensor {
    this.memory; // throws, where it was freed
    return new Tensor(shape, this.#storage);
  }

  /** Wait for the device and copy the values out, row-major; those of f16 as f32. The only await of the framework. */
  async data(): Promise<Values> {
    const values = await this.device.read(this.memory);
    return this.dtype === "f16" ? Float32Array.from(values, fromHalf) : values;
  }

  /** The value of a tensor of one number. @throws RangeError for any other. */
  async item(): Promise<number> {
    if (this.size !== 1) throw new RangeError(`item(): the tensor has shape ${show(this.shape)}, not one number`);
    return (await this.data())[0];
  }

  /** Overwrite the values, in place: how weights are loaded and a batch is renewed. @throws RangeError when their number differs. */
  write(values: ArrayLike<number>): void {
    if (values.length !== this.size) throw new RangeError(`write(values): ${values.length} values do not fill ${show(this.shape)}`);
    if (onlyShapes()) return;
    this.device.upload(this.memory, stored(this.dtype, values));
  }

  /** One more holder. */
  hold(): this {
    if (this.#holds === 0) this.memory;
    this.#holds++;
    return this;
  }

  /** One holder less; with the last, the buffer goes back to the pool. Freeing twice is harmless. */
  free(): void {
    if (this.#holds > 0 && --this.#holds === 0) this.#storage.remove();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

// ---- scopes --------------------------------------------------------------------------------

/** The tensors made in the innermost scope; null outside all scopes, where a tensor lives until somebody frees it. */
let scope: Set<Tensor> | null = null;

/** Every tensor in a result: a tensor, or arrays and plain objects of them. */
export function* tensorsIn(result: unknown): Generator<Tensor> {
  if (result instanceof Tensor) yield result;
  else if (Array.isArray(result)) for (const value of result) yield* tensorsIn(value);
  else if (result !== null && typeof result === "object" && Object.getPrototypeOf(result) === Object.prototype)
    for (const value of Object.values(result)) yield* tensorsIn(value);
}

/** Run f; what it made and does not return is freed when it ends. What it returns belongs to the scope around, if there is one. */
export function scoped<T>(f: () => T): T {
  const outer = scope;
  const inner = new Set<Tensor>();
  scope = inner;
  let result: T;
  try {
    result = f();
  } catch (error) {
    scope = outer;
    for (const t of inner) t.free();
    throw error;
  }
  scope = outer;
  const kept = new Set(tensorsIn(result));
  for (const t of inner) {
    if (!kept.has(t)) t.free();
    else outer?.add(t);
  }
  return result;
}

/** Whoever is used while somebody notes it. */
let noted: Set<Tensor> | null = null;

/** Run f and note every tensor whose numbers it uses. */
export function noting<T>(f: () => T): { readonly result: T; readonly used: ReadonlySet<Tensor> } {
  const outer = noted;
  const used = new Set<Tensor>();
  noted = used;
  try {
    return { result: f(), used };
  } finally {
    noted = outer;
    for (const t of used) outer?.add(t);
  }
}

/** Take tensors out of the scope they were made in: they live until they are freed by hand. For parameters and state. */
export function keep<T>(made: T): T {
  if (scope) for (const t of tensorsIn(made)) scope.delete(t);
  return made;
}

/** The current device where that knows only shapes: then nothing is computed, wherever tensors lie. */
const onlyShapes = (): Device | null => (current()?.name === "shapes" ? current() : null);

// ---- making tensors ------------------------------------------------------------------------

/** A tensor of unknown content. */
export const empty = (shape: Shape, dtype: Dtype = "f32", on: Device = device()): Tensor =>
  new Tensor(shape, new Storage(on, on.allocate(dtype, sizeOf(shape))));

/** Numbers as a device stores them: f16 as bits. */
const stored = (dtype: Dtype, values: ArrayLike<number>): ArrayLike<number> =>
  dtype === "f16" ? Uint16Array.from(values, toHalf) : values;

/** A tensor of given values, row-major. @throws RangeError when they do not fill the shape. */
export function tensor(values: ArrayLike<number>, shape: Shape = [values.length], dtype: Dtype = "f32"): Tensor {
  if (values.length !== sizeOf(shape)) throw new RangeError(`tensor(values, shape): ${values.length} values do not fill ${show(shape)}`);
  const made = empty(shape, dtype);
  made.device.upload(made.memory, stored(dtype, values));
  return made;
}

/** Indices, counts and labels: a tensor of u32. */
export const integers = (values: ArrayLike<number>, shape?: Shape): Tensor => tensor(values, shape, "u32");
/** One number everywhere, made on the device. */
export function full(shape: Shape, value: number, dtype: "f32" | "u32" | "i32" = "f32", on: Device = device()): Tensor {
  const y = empty(shape, dtype, on);
  return run(fill(dtype) as Kernel, {}, { y }, { n: y.size, value }).y;
}
export const zeros = (shape: Shape): Tensor => full(shape, 0);
export const ones = (shape: Shape): Tensor => full(shape, 1);
/** Normally distributed values, mean 0. Without a key their content is unknown: for weights that will be loaded. */
export const normal = (key: Key | null, deviation: number, shape: Shape): Tensor =>
  key
    ? tensor(
        key.normals(sizeOf(shape)).map((value) => value * deviation),
        shape,
      )
    : empty(shape);

// ---- running kernels -----------------------------------------------------------------------

/**
 * Run a kernel: tensors in; for each output a shape, or a tensor to write into. Gives the outputs.
 * @throws TypeError when tensors lie on different devices, or hold another dtype than the kernel reads.
 */
export function run<I extends Named<Dtype>, O extends Named<Dtype>, P extends Named<Scalar>>(
  kernel: Kernel<I, O, P>,
  inputs: { readonly [K in keyof I]: Tensor },
  outputs: { readonly [K in keyof O]: Shape | Tensor },
  params: { readonly [K in keyof P]: number },
): { [K in keyof O]: Tensor } {
  const buffers: Record<string, Memory> = {};
  let on: Device | null = onlyShapes();
  const bindTensor = (name: string, dtype: Dtype, t: Tensor) => {
    if (!(t instanceof Tensor))
      throw new TypeError(
        `${kernel.name}: ${name} must be a tensor but is ${typeof t === "object" ? "none" : `the ${typeof t} ${String(t)}`}; make one with tensor(values, shape)`,
      );
    on ??= t.device;
    if (t.device !== on && on.name !== "shapes")
      throw new TypeError(
        `${kernel.name}: ${name} is on ${t.device.name} (${t.device.description}) but another tensor is on ${on.name} (${on.description}); bring them to one device`,
      );
    if (t.dtype !== dtype) throw new TypeError(`${kernel.name}: ${name} must be ${dtype} but is ${t.dtype}`);
    buffers[name] = t.memory;
  };
  for (const name in kernel.inputs) bindTensor(name, kernel.inputs[name], inputs[name]);
  const results = {} as { [K in keyof O]: Tensor };
  for (const name in kernel.outputs) {
    const to = outputs[name];
    results[name] = to instanceof Tensor ? to : empty(to as Shape, kernel.outputs[name], on ?? device());
    bindTensor(name, kernel.outputs[name], results[name]);
  }
  (on ?? device()).run(kernel as unknown as Kernel, buffers, params);
  return results;
}

/** Do two tensors have the same shape? */
export const alike = (a: Tensor, b: Tensor): boolean => sameShape(a.shape, b.shape);

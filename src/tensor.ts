/** A tensor is a shape, a dtype and a buffer on a device; it does no arithmetic. Scopes give buffers back. */

import { fill } from "../kernels/fill.ts";
import { fromHalf, toHalf } from "../kernels/half.ts";
import { halved } from "../kernels/halved.ts";
import type { Dtype, Kernel, Named, Scalar, Values } from "../kernels/kernel.ts";
import { current, type Device, device, type Memory, storesHalves } from "./device.ts";
import type { Key } from "./key.ts";
import { type Shape, sameShape, show, sizeOf } from "./shape.ts";

/** A buffer, or a part of one, and how many tensors share it: a reshape is another tensor on the same one. */
class Storage {
  readonly device: Device;
  #memory: Memory;
  /** What this is a part of. */
  #whole: Storage | null;
  #tensors = 0;
  /** Recorded programs that have written down where it lies: while there are any it stays there. */
  pins = 0;

  constructor(on: Device, memory: Memory, whole: Storage | null = null) {
    this.device = on;
    this.#memory = memory;
    this.#whole = whole;
    whole?.add();
    if (!recorded) return;
    recorded.made.add(this);
    this.pins++;
  }
  get memory(): Memory {
    return this.#memory;
  }
  get whole(): Storage | null {
    return this.#whole;
  }
  add(): void {
    this.#tensors++;
  }
  remove(): void {
    if (--this.#tensors === 0) this.#release();
  }
  #release(): void {
    if (this.#whole) this.#whole.remove();
    else this.device.free(this.#memory);
  }
  /** Lie where another one lies. False where it has to stay. */
  move(to: Storage): boolean {
    if (this.pins > 0) return false;
    to.whole?.add();
    this.#release();
    this.#memory = to.memory;
    this.#whole = to.whole;
    return true;
  }
}

/** What tells the tensors of all copies of this library. */
const BRAND = Symbol.for("geneformer-ts.tensor");

/** Is this a tensor, but of another copy of this library? Two engines in one page do not know each other's. */
export const isForeign = (value: unknown): boolean =>
  typeof value === "object" && value !== null && BRAND in value && !(value instanceof Tensor);

/** A tensor was used that is no more. */
export class Freed extends Error {
  readonly #shape: Shape;

  constructor(shape: Shape) {
    super(`tensor ${show(shape)}: used after it was freed; return it from its scope, or keep() it there, to use it outside`);
    this.#shape = shape;
  }

  get shape(): string {
    return show(this.#shape);
  }
}

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
    if (this.#holds === 0) throw new Freed(this.shape);
    noted?.add(this);
    if (recorded) use(recorded, this.#storage);
    return this.#storage.memory;
  }

  /**
   * The same numbers in another shape of the same size, sharing the buffer. For inside an op and its way back: the tape does not see it, so
   * elsewhere `reshape` it is.
   * @throws RangeError for a shape of another size.
   */
  withShape(shape: Shape): Tensor {
    this.memory; // throws, where it was freed
    const sizes = shapeOf("withShape(shape)", shape);
    if (sizeOf(sizes) !== this.size) throw new RangeError(`withShape(shape): ${show(this.shape)} does not fill ${show(sizes)}`);
    return new Tensor(sizes, this.#storage);
  }

  /**
   * `sizeOf(shape)` numbers from `first` on, a multiple of PART (kernels/collect.ts), as a tensor that shares the buffer. For devices that have parts,
   * and outside what the tape sees.
   */
  part(first: number, shape: Shape): Tensor {
    const { device } = this;
    if (!device.part) throw new Error(`part(first, shape): ${device.name} has no parts of buffers`);
    return new Tensor(shape, new Storage(device, device.part(this.memory, first, sizeOf(shape)), this.#storage));
  }

  /**
   * From now on this tensor, and all that share its buffer, lie where `place` lies, which has their numbers already. What a captured function knows
   * stays: then false.
   */
  moveTo(place: Tensor): boolean {
    this.memory; // throws, where it was freed
    return this.#storage.move(place.#storage);
  }

  toString(): string {
    return `Tensor ${this.dtype} ${show(this.shape)} on ${this.device.name}${this.alive ? "" : ", freed"}`;
  }

  /** What Node's console shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  /**
   * Wait for the device and copy the values out, row-major; those of f16 as f32. The only await of the framework. The copy is that of the moment of the
   * call: what is enqueued later, though before anybody waits, does not change it.
   */
  data(): Promise<Values> {
    refuseRecorded("data()", "reads numbers", "return the tensor, and read it after the step");
    return this.#read();
  }

  async #read(): Promise<Values> {
    const values = await this.device.read(this.memory);
    return this.dtype === "f16" ? Float32Array.from(values, fromHalf) : values;
  }

  /** The value of a tensor of one number. @throws RangeError for any other. */
  item(): Promise<number> {
    refuseRecorded("item()", "reads a number", "return the tensor, and read it after the step");
    return this.#one();
  }

  async #one(): Promise<number> {
    if (this.size !== 1) throw new RangeError(`item(): the tensor has shape ${show(this.shape)}, not one number`);
    return (await this.#read())[0];
  }

  /** Overwrite the values, in place: how weights are loaded and a batch is renewed. @throws RangeError when their number differs. */
  write(values: ArrayLike<number>): void {
    if (values.length !== this.size) throw new RangeError(`write(values): ${values.length} values do not fill ${show(this.shape)}`);
    if (onlyShapes()) return;
    refuseRecorded("write(values)", "uploads numbers", "call it before the step");
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
let scope: Scope | null = null;

/** What was made in a scope, and the scope around it. */
interface Scope extends Set<Tensor> {
  outer?: Scope | null;
}

/** Every tensor in a result: a tensor, or arrays and plain objects of them. */
export function* tensorsIn(result: unknown): Generator<Tensor> {
  if (result instanceof Tensor) yield result;
  else if (Array.isArray(result)) for (const value of result) yield* tensorsIn(value);
  else if (result !== null && typeof result === "object" && Object.getPrototypeOf(result) === Object.prototype)
    for (const value of Object.values(result)) yield* tensorsIn(value);
}

/** Run f; what it made and does not return is freed when it ends. Gives what it returned, and of that the tensors it made, which no scope has. */
function apart<T>(f: () => T): { readonly result: T; readonly made: readonly Tensor[] } {
  const outer = scope;
  const inner: Scope = new Set<Tensor>();
  inner.outer = outer;
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
  for (const t of inner) if (!kept.has(t)) t.free();
  return { result, made: [...inner].filter((t) => kept.has(t)) };
}

/** Run f; what it made and does not return is freed when it ends. What it returns belongs to the scope around, if there is one. */
export function scoped<T>(f: () => T): T {
  const { result, made } = apart(f);
  for (const t of made) scope?.add(t);
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

/** Take tensors out of whatever scopes they were made in: they live until they are freed by hand. For parameters and state. */
export function keep<T>(made: T): T {
  for (const t of tensorsIn(made)) for (let around = scope; around; around = around.outer ?? null) around.delete(t);
  return made;
}

/** The current device where that knows only shapes: then nothing is computed, wherever tensors lie. */
const onlyShapes = (): Device | null => (current()?.name === "shapes" ? current() : null);

// ---- recording -----------------------------------------------------------------------------

/** The buffers of a program that is being recorded. */
interface Recorded {
  readonly on: Device;
  readonly made: WeakSet<Storage>;
  /** Those from before, each held once for the replays. */
  readonly used: Set<Storage>;
}

let recorded: Recorded | null = null;

/** A recorded program uses a buffer. @throws Error when it lies on another device, whose commands are not recorded. */
function use({ on, made, used }: Recorded, storage: Storage): void {
  if (storage.device !== on)
    throw new Error(
      `capture(f): it records on ${on.name} (${on.description}) but f uses a tensor on ${storage.device.name} (${storage.device.description}); bring all to one device`,
    );
  if (made.has(storage) || used.has(storage)) return;
  used.add(storage);
  storage.add();
  storage.pins++;
}

/** What there is after a recording. */
export interface Program<T> {
  readonly result: T;
  /** The tensors of the result that f made: they belong to no scope. */
  readonly made: readonly Tensor[];
  /** Let go of the buffers it uses. */
  release(): void;
}

/** Run f while a device records it: see what it makes and uses, and refuse what a replay could not do again. */
export function recording<T>(on: Device, f: () => T): Program<T> {
  const used = new Set<Storage>();
  const release = () => {
    for (const storage of used) {
      storage.pins--;
      storage.remove();
    }
    used.clear();
  };
  recorded = { on, made: new WeakSet(), used };
  try {
    return { ...apart(f), release };
  } catch (error) {
    release();
    throw error;
  } finally {
    recorded = null;
  }
}

/** @throws TypeError for what an async function gave: work is enqueued while a function runs, and nobody waits for it. */
export function refusePromise<T>(where: string, made: T, instead = "; let it return tensors, and await data() afterwards"): T {
  if (typeof (made as PromiseLike<unknown> | null | undefined)?.then !== "function") return made;
  Promise.resolve(made).catch(() => {}); // what it may come to is of no interest now
  throw new TypeError(`${where}: f returned a promise${instead}`);
}

/** For what the host does itself: a replay would not do it again. @throws Error while a step is recorded. */
export function refuseRecorded(where: string, does: string, instead: string): void {
  if (recorded) throw new Error(`capture(f): ${where} ${does} inside f, which a replay would not do again; ${instead}`);
}

// ---- making tensors ------------------------------------------------------------------------

const DTYPES: readonly Dtype[] = ["f32", "u32", "i32", "f16"];

/** A shape of its own, which nobody changes later. @throws TypeError, RangeError for what is no list of sizes. */
function shapeOf(where: string, shape: Shape): Shape {
  if (!Array.isArray(shape)) throw new TypeError(`${where}: a shape is a list of sizes such as [2, 3]; got ${String(shape)}`);
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0))
    throw new RangeError(`${where}: sizes are integers, 0 or more; got ${show(shape)}`);
  return [...shape];
}

/** A tensor of unknown content. @throws for a shape that is none, or an unknown dtype; OutOfMemory. */
export function empty(shape: Shape, dtype: Dtype = "f32", on: Device = device()): Tensor {
  const sizes = shapeOf("empty(shape)", shape);
  if (!DTYPES.includes(dtype))
    throw new RangeError(`empty(shape, dtype): there is no dtype ${String(dtype)}; give one of ${DTYPES.join(", ")}`);
  return new Tensor(sizes, new Storage(on, on.allocate(dtype, sizeOf(sizes))));
}

/** Numbers as a device stores them: f16 as bits. */
const stored = (dtype: Dtype, values: ArrayLike<number>): ArrayLike<number> =>
  dtype === "f16" ? Uint16Array.from(values, toHalf) : values;

/** @throws TypeError for values that are no numbers: lists in a list, text, bigints. */
function checkValues(where: string, values: ArrayLike<number>): void {
  if (typeof values !== "object" || values === null || typeof values.length !== "number")
    throw new TypeError(`${where}: values are a list of numbers; got ${typeof values === "object" ? "none" : `a ${typeof values}`}`);
  if (ArrayBuffer.isView(values) && !(values instanceof BigInt64Array || values instanceof BigUint64Array)) return; // numbers by nature
  for (let i = 0; i < values.length; i++)
    if (typeof values[i] !== "number")
      throw new TypeError(
        `${where}: values[${i}] is ${Array.isArray(values[i]) ? "a list" : String(values[i])}; give plain numbers row by row and the shape beside them: tensor([1, 2, 3, 4], [2, 2])`,
      );
}

/** A tensor of given values, row-major. @throws RangeError when they do not fill the shape; TypeError when they are no numbers. */
export function tensor(values: ArrayLike<number>, shape?: Shape, dtype: Dtype = "f32"): Tensor {
  checkValues("tensor(values, shape)", values);
  const sizes = shapeOf("tensor(values, shape)", shape ?? [values.length]);
  if (values.length !== sizeOf(sizes)) throw new RangeError(`tensor(values, shape): ${values.length} values do not fill ${show(sizes)}`);
  if (!onlyShapes())
    refuseRecorded("tensor(values, shape)", "uploads numbers", "make the tensor before, and write() to it between the steps");
  const made = empty(sizes, dtype);
  made.device.upload(made.memory, stored(dtype, values));
  return made;
}

/** Indices, counts and labels: a tensor of u32. @throws RangeError for a number that is no u32. */
export function integers(values: ArrayLike<number>, shape?: Shape): Tensor {
  checkValues("integers(values, shape)", values);
  if (!(values instanceof Uint32Array))
    for (let i = 0; i < values.length; i++)
      if (values[i] >>> 0 !== values[i])
        throw new RangeError(
          `integers(values, shape): values[${i}] is ${values[i]}; give integers from 0 to 2^32 - 1, or tensor(values, shape, "i32")`,
        );
  return tensor(values, shape, "u32");
}

/** One number everywhere, made on the device. */
export function full(shape: Shape, value: number, dtype: "f32" | "u32" | "i32" = "f32", on: Device = device()): Tensor {
  const y = empty(shape, dtype, on);
  return run(fill(dtype) as Kernel, {}, { y }, { n: y.size, value }).y;
}
export const zeros = (shape: Shape): Tensor => full(shape, 0);
export const ones = (shape: Shape): Tensor => full(shape, 1);
/** Normally distributed values, mean 0. Without a key their content is unknown: for weights that will be loaded. */
export const normal = (key: Key | null, deviation: number, shape: Shape): Tensor =>
  key ? tensor(key.normals(sizeOf(shape), deviation), shape) : empty(shape);

// ---- running kernels -----------------------------------------------------------------------

/** What an argument is, for a person. */
export function kindOf(value: unknown): string {
  if (value instanceof Tensor) return `${value.dtype} ${show(value.shape)}`;
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" || typeof value === "function"
    ? `a ${value.constructor?.name ?? typeof value}`
    : `the ${typeof value} ${String(value).slice(0, 20)}`;
}

/** A kernel was given something that it cannot take. */
export class Mismatch extends TypeError {
  readonly #why: string;

  constructor(where: string, why: string, options?: ErrorOptions) {
    super(`${where}: ${why}`, options);
    this.#why = why;
  }

  /** The message without where. */
  get why(): string {
    return this.#why;
  }
}

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
      throw new Mismatch(kernel.name, `${name} must be a tensor but is ${kindOf(t)}; make one with tensor(values, shape)`);
    on ??= t.device;
    if (t.device !== on && on.name !== "shapes")
      throw new Mismatch(
        kernel.name,
        `${name} is on ${t.device.name} (${t.device.description}) but another tensor is on ${on.name} (${on.description}); bring them to one device`,
      );
    if (t.dtype !== dtype) throw new Mismatch(kernel.name, `${name} must be ${dtype} but is ${t.dtype}; cast(x, "${dtype}") makes it so`);
    buffers[name] = t.memory;
  };
  for (const name in kernel.inputs) bindTensor(name, kernel.inputs[name], inputs[name]);
  for (const name in kernel.params)
    if (typeof params[name] !== "number")
      throw new Mismatch(kernel.name, `the parameter ${name} must be a number but is ${kindOf(params[name])}`);
  const results = {} as { [K in keyof O]: Tensor };
  for (const name in kernel.outputs) {
    const to = outputs[name];
    results[name] = to instanceof Tensor ? to : empty(to as Shape, kernel.outputs[name], on ?? device());
    bindTensor(name, kernel.outputs[name], results[name]);
  }
  (on ?? device()).run(kernel as unknown as Kernel, buffers, params);
  return results;
}

/** What an output of `runStored` is to be: of this shape, and f16 where that tensor is. */
export interface StoredAs {
  readonly like: Tensor;
  readonly shape: Shape;
}

/** An output stored as another tensor is, of its shape if no other is given. It is made when the kernel is run. */
export const storedAs = (like: Tensor, shape: Shape = like.shape): StoredAs => ({ like, shape });

/**
 * The same for tensors of which some may be stored as f16 where the kernel wants f32: it computes in f32 all the same (kernels/halved.ts). An output
 * that is given as a shape is what the kernel has.
 * @throws TypeError as `run` does, also on an adapter without "shader-f16".
 */
export function runStored<I extends Named<Dtype>, O extends Named<Dtype>, P extends Named<Scalar>>(
  kernel: Kernel<I, O, P>,
  inputs: { readonly [K in keyof I]: Tensor },
  outputs: { readonly [K in keyof O]: Shape | Tensor | StoredAs },
  params: { readonly [K in keyof P]: number },
): { [K in keyof O]: Tensor } {
  const names: string[] = [];
  const note = (name: string, wanted: Dtype, t: unknown) => {
    if (!(t instanceof Tensor && t.dtype === "f16" && wanted === "f32")) return;
    if (!storesHalves(onlyShapes() ?? t.device))
      throw new Mismatch(kernel.name, `${name} is f16, and this adapter has no shader-f16; cast(x, "f32") makes it f32`);
    names.push(name);
  };
  for (const name in kernel.inputs) note(name, kernel.inputs[name], inputs[name]);
  const made = {} as { [K in keyof O]: Shape | Tensor };
  for (const name in kernel.outputs) {
    const to: Shape | Tensor | StoredAs = outputs[name];
    const [of, given] = "like" in to ? [to.like, to.shape] : [to, to];
    note(name, kernel.outputs[name], of);
    made[name] = given;
  }
  return run((names.length > 0 ? halved(kernel as unknown as Kernel, names) : kernel) as typeof kernel, inputs, made, params);
}

/** A tensor of unknown content, of another's dtype, where that lies. */
export const emptyLike = ({ dtype, device, shape: own }: Tensor, shape: Shape = own): Tensor => empty(shape, dtype, onlyShapes() ?? device);

/** Do two tensors have the same shape? */
export const alike = (a: Tensor, b: Tensor): boolean => sameShape(a.shape, b.shape);

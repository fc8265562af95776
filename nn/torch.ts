/**
 * Checkpoints of PyTorch (`torch.save` since 1.6: .pt, .bin): a zip of a pickle, which names tensors, and of their storages. The pickle can
 * make tensors, dicts, lists and plain values; whatever else it asks for is refused by name, so a file from a stranger is safe to open.
 */

import { type Shape, show } from "../src/shape.ts";
import { External, type Pickled, readPickle } from "./pickle.ts";
import { bytesOf, type SafeDtype, type SafeInfo, type SafeTensor, type Weights, weightsOf } from "./safetensors.ts";
import { checkSource, explainPointer, type Source } from "./source.ts";
import { isZip, openZip, type Zip } from "./zip.ts";

/** The storage classes (torch/storage.py) and the dtypes that safetensors has for them. */
export const STORAGES: Readonly<Record<string, SafeDtype>> = {
  "torch.DoubleStorage": "F64",
  "torch.FloatStorage": "F32",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
  "torch.ComplexFloatStorage": "C64",
};

/** Of data.pkl, bytes: a checkpoint's is some hundred for each tensor. */
const MOST_PICKLE = 2 ** 28;
/** Of a tensor that repeats its storage (a stride of 0), bytes: a few of them could claim any size. */
const MOST_REPEATED = 2 ** 30;

/** Of a tensor; more than that most operations of torch refuse too (ATen's dim_bitset_size). */
const MOST_AXES = 64;

/** The dtype of a storage, as the pickle names it. */
export class StorageClass extends External {
  readonly what = "a class of storages";
  readonly dtype: SafeDtype;
  constructor(dtype: SafeDtype) {
    super();
    this.dtype = dtype;
  }
}

/** Values in one entry of the archive; several tensors may look at them. */
export class Storage extends External {
  readonly what = "a storage";
  readonly dtype: SafeDtype;
  readonly length: number;
  readonly read: () => Promise<Uint8Array>;
  constructor(dtype: SafeDtype, length: number, read: () => Promise<Uint8Array>) {
    super();
    this.dtype = dtype;
    this.length = length;
    this.read = read;
  }
}

/** A tensor in the file: what it is is known, its values are read when asked for. */
export class TorchTensor extends External implements SafeInfo {
  readonly what = "a tensor";
  readonly dtype: SafeDtype;
  readonly shape: Shape;
  readonly #storage: Storage;
  readonly #offset: number;
  readonly #strides: Shape;

  constructor(storage: Storage, offset: number, shape: Shape, strides: Shape) {
    super();
    this.dtype = storage.dtype;
    this.shape = shape;
    this.#storage = storage;
    this.#offset = offset;
    this.#strides = strides;
  }

  /** Its values, row-major, whatever its strides are in the file: a view of the storage where they are so there. Reads the storage whole. */
  async read(): Promise<SafeTensor> {
    const { dtype, shape } = this;
    const storage = await this.#storage.read();
    const width = bytesOf(dtype, [])!;
    const size = bytesOf(dtype, shape)!;
    const contiguous = show(this.#strides) === show(stridesOf(shape)) || size <= width;
    const bytes = contiguous
      ? storage.subarray(this.#offset * width, this.#offset * width + size)
      : gathered(storage, size, width, this.#offset, shape, this.#strides);
    return { dtype, shape, bytes };
  }
}

/** What torch.load would give, but for tensors, which stand there as `TorchTensor` and are not yet read; dicts are Maps. */
export type Torched = Pickled<External>;

/** The strides of a row-major tensor, in elements; an axis of size 0 counts as 1, as torch has it. */
const stridesOf = (shape: Shape): number[] => shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * Math.max(b, 1), 1));

/** Elements of `width` bytes from `offset` on by strides, in row-major order. */
function gathered(storage: Uint8Array, size: number, width: number, offset: number, shape: Shape, strides: Shape): Uint8Array {
  const bytes = new Uint8Array(size);
  const index = new Array<number>(shape.length).fill(0);
  for (let at = 0, place = offset; at < size; at += width) {
    for (let i = 0; i < width; i++) bytes[at + i] = storage[place * width + i];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place += strides[axis];
      if (++index[axis] < shape[axis]) break;
      place -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return bytes;
}

/** Bytes of the other order, turned; the caller's stay as they are. A complex number is two floats. */
function swapped(bytes: Uint8Array, dtype: SafeDtype): Uint8Array {
  const width = dtype === "C64" ? 4 : bytesOf(dtype, [])!;
  const turned = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) turned[i - (i % width) + (width - 1 - (i % width))] = bytes[i];
  return turned;
}

const natural = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
const naturals = (list: unknown): list is number[] => Array.isArray(list) && list.every(natural);

/**
 * Open a checkpoint: the pickle is read, the tensors are not.
 * @throws Error that begins with the file's name: for a file of PyTorch before 1.6, a damaged archive, a pickle that asks for anything but
 * tensors and data, a tensor that reaches beyond its storage.
 */
export async function openTorch(source: Source): Promise<Torched> {
  checkSource("openTorch(source)", source);
  const { name: file } = source;
  const fail = (why: string): never => {
    throw new Error(`${file}: ${why}`);
  };
  await refuseOthers(source, fail);
  const zip = await openZip(source);
  const pickles = [...zip.entries.keys()].filter((name) => /^[^/]*\/data\.pkl$/.test(name));
  if (pickles.length !== 1) fail(`not a checkpoint of PyTorch: the archive holds ${pickles.length} entries <name>/data.pkl, not one`);
  const root = pickles[0].slice(0, -"data.pkl".length);
  if (zip.entries.has(`${root}constants.pkl`)) fail("is a TorchScript program, not a checkpoint; save its state_dict() with torch.save");
  if (zip.entries.get(pickles[0])!.size > MOST_PICKLE) fail(`its data.pkl claims more than ${MOST_PICKLE} bytes`);
  const big = zip.entries.has(`${root}byteorder`) && new TextDecoder().decode(await zip.read(`${root}byteorder`)).trim() === "big";

  const classes = Object.fromEntries(Object.entries(STORAGES).map(([name, dtype]) => [name, new StorageClass(dtype)]));
  const pickle = await zip.read(pickles[0]);
  try {
    return readPickle(pickle, {
      names: classes,
      calls: { "torch._utils._rebuild_tensor_v2": rebuilt, "torch._utils._rebuild_parameter": ([data]) => tensorIn(data) },
      persistent: (id) => storageOf(id, zip, root, big),
      attributes: ["_metadata"], // the versions of modules, which Module.state_dict() leaves on its dict
    });
  } catch (cause) {
    throw new Error(`${file}: ${(cause as Error).message}`, { cause });
  }
}

/** Files that are no zip archives: what they are instead, and what to do. */
async function refuseOthers(source: Source, fail: (why: string) => never): Promise<void> {
  const first = await source.read(0, Math.min(source.size, 512));
  if (isZip(first)) return;
  const pointer = explainPointer(first);
  if (pointer) fail(`is ${pointer}`);
  // torch's magic number 0x1950a86a20f9469cfc6c as a pickle of protocol 2, or, before 0.4, a tar: "ustar" at 257, or a first file so named
  const text = String.fromCharCode(...first); // a TextDecoder's latin1 is windows-1252, which turns bytes above 127 into others
  const pickled = text.startsWith("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
  const tar = text.startsWith("ustar", 257) || /^(\.\/)?(sys_info|pickle|storages|tensors)\0/.test(text);
  if (pickled || tar)
    fail(
      "is of PyTorch before 1.6; convert it, with a PyTorch of today and only if you trust it: torch.save(torch.load(old, map_location='cpu'), new)",
    );
  fail("not a checkpoint of PyTorch: it is no zip archive");
}

/** ("storage", class, key, location, length): where torch writes a storage it leaves such an id in the pickle. */
function storageOf(id: unknown, zip: Zip, root: string, big: boolean): Storage {
  const [kind, of, key, , length] = Array.isArray(id) ? (id as unknown[]) : [];
  if (kind !== "storage" || !(of instanceof StorageClass) || typeof key !== "string" || !natural(length))
    throw new Error("pickle: a persistent id that is no storage of a known class; the file is damaged");
  const { dtype } = of;
  const name = `${root}data/${key}`;
  const size = zip.entries.get(name)?.size;
  if (size === undefined) throw new Error(`the archive has no "${name}", a storage that its pickle names`);
  if (size !== bytesOf(dtype, [length]))
    throw new Error(`"${name}" has ${size} bytes, not the ${length} numbers of ${dtype} that the pickle gives it`);
  return new Storage(dtype, length, async () => (big ? swapped(await zip.read(name), dtype) : zip.read(name)));
}

/** torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks), offset and strides in elements. */
function rebuilt([storage, offset, shape, strides]: readonly unknown[]): TorchTensor {
  if (!(storage instanceof Storage) || !natural(offset) || !naturals(shape) || !naturals(strides) || shape.length !== strides.length)
    throw new Error("pickle: a tensor without storage, offset, sizes and strides; the file is damaged");
  if (shape.length > MOST_AXES) throw new Error(`a tensor of ${shape.length} axes; at most ${MOST_AXES} are read`);
  const size = bytesOf(storage.dtype, shape);
  const last = shape.reduce((sum, length, axis) => sum + (length - 1) * strides[axis], offset);
  if (size === null || (size > 0 && last >= storage.length))
    throw new Error(`a tensor ${show(shape.slice(0, 8))} reaches beyond its storage of ${storage.length} numbers`);
  if (size > bytesOf(storage.dtype, [storage.length])! && size > MOST_REPEATED)
    throw new Error(
      `a tensor ${show(shape.slice(0, 8))} of ${size} bytes repeats ${storage.length} numbers; at most ${MOST_REPEATED} are made`,
    );
  return new TorchTensor(storage, offset, shape, strides);
}

function tensorIn(data: unknown): TorchTensor {
  if (data instanceof TorchTensor) return data;
  throw new Error("pickle: a parameter without its tensor; the file is damaged");
}

/** Where training scripts put a model's weights, beside the optimiser's and the rest. */
const WRAPPERS = ["state_dict", "model_state_dict", "model", "module"];

/**
 * The named tensors of a checkpoint: its own, or those under "state_dict", "model_state_dict", "model" or "module", however deep.
 * What stands beside them and is no tensor is left out.
 * @throws Error naming the keys there are where no tensors are found.
 */
export function stateDict(value: Torched, file = "stateDict"): Map<string, TorchTensor> {
  const seen = new Set<Torched>(); // a pickle may hold itself
  for (let at = value; at instanceof Map && !seen.has(at); ) {
    seen.add(at);
    const tensors = [...at].filter(
      (entry): entry is [string, TorchTensor] => typeof entry[0] === "string" && entry[1] instanceof TorchTensor,
    );
    if (tensors.length > 0) return new Map(tensors);
    const inner = WRAPPERS.map((key) => at instanceof Map && at.get(key)).find((each) => each instanceof Map);
    if (inner) at = inner;
    else break;
  }
  const keys = value instanceof Map ? `keys ${[...value.keys()].slice(0, 8).map(String).join(", ") || "none"}` : "no dict";
  throw new Error(`${file}: no named tensors in it (${keys}), nor under ${WRAPPERS.join(", ")}; give stateDict() the part that holds them`);
}

/** A file's state dict as a checkpoint. @throws Error as openTorch and stateDict. */
export async function openTorchWeights(source: Source): Promise<Weights> {
  checkSource("openTorchWeights(source)", source);
  return weightsOf(source.name, stateDict(await openTorch(source), source.name), (tensor) => tensor.read());
}

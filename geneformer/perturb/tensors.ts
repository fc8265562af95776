/** Dicts of tensors in pickles, as the original keeps the embeddings of states: read without running what is in them. */

import { type Allowed, External, type Pickled, readPickle } from "../../nn/pickle.ts";
import { bytesOf, type SafeDtype, type SafeTensor } from "../../nn/safetensors.ts";
import { bytesSource } from "../../nn/source.ts";
import { openTorch, STORAGES, Storage, StorageClass, TorchTensor } from "../../nn/torch.ts";
import { isZip } from "../../nn/zip.ts";
import { type Shape, show } from "../../src/shape.ts";

/** torch.save before 1.6 begins with these two numbers, each a pickle of its own (torch/serialization.py). */
const [MAGIC, PROTOCOL] = [0x1950a86a20f9469cfc6cn, 1001];
/** Of each of the pickles that begin such a file, bytes: torch's have some hundred. */
const MOST_HEADER = 4096;

/** A storage as torch.save wrote it, a file within the pickle. */
class Saved extends External {
  readonly what = "a storage";
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    super();
    this.bytes = bytes;
  }
}

/** What such a file says of its storage. */
class Claimed extends External {
  readonly what = "a storage";
  readonly dtype: SafeDtype;
  readonly key: string;
  readonly length: number;
  constructor(dtype: SafeDtype, key: string, length: number) {
    super();
    [this.dtype, this.key, this.length] = [dtype, key, length];
  }
}

/** A tensor in a plain pickle. Its storage is read when its values are asked for. */
class PickledTensor extends External {
  readonly what = "a tensor";
  readonly shape: Shape;
  readonly #storage: Saved;
  readonly #offset: number;
  readonly #strides: Shape;

  constructor([storage, offset, shape, strides]: readonly unknown[]) {
    super();
    if (!(storage instanceof Saved) || !natural(offset) || !naturals(shape) || !naturals(strides) || shape.length !== strides.length)
      throw new Error("pickle: a tensor without storage, offset, sizes and strides; the file is damaged");
    this.shape = shape;
    [this.#storage, this.#offset, this.#strides] = [storage, offset, strides];
  }

  /** Its values, of one axis that is not of size 1 at most. */
  async read(): Promise<SafeTensor> {
    const { shape } = this;
    const { dtype, bytes } = await contentsOf(this.#storage.bytes);
    const width = bytesOf(dtype, []) ?? 0;
    const axis = Math.max(
      shape.findIndex((length) => length !== 1),
      0,
    );
    const [length, stride] = [shape[axis] ?? 1, this.#strides[axis] ?? 0];
    const [room, last] = [bytes.length / width, this.#offset + Math.max(length - 1, 0) * stride];
    if (shape.some((size, i) => size !== 1 && i !== axis)) throw new Error(`a tensor ${show(shape.slice(0, 8))} has more axes than one`);
    if (length > room || (length > 0 && last >= room))
      throw new Error(`a tensor ${show(shape.slice(0, 8))} reaches beyond its storage of ${room} numbers`);
    const values = new Uint8Array(length * width);
    for (let i = 0; i < length; i++)
      values.set(bytes.subarray((this.#offset + i * stride) * width, (this.#offset + i * stride + 1) * width), i * width);
    return { dtype, shape: [length], bytes: values };
  }
}

const natural = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
const naturals = (list: unknown): list is number[] => Array.isArray(list) && list.every(natural);

/** What torch._load_from_bytes would make of a storage's bytes: a zip archive, or, as torch itself pickles storages, its format before 1.6. */
async function contentsOf(bytes: Uint8Array): Promise<{ dtype: SafeDtype; bytes: Uint8Array }> {
  if (!isZip(bytes)) return olderStorage(bytes);
  const held = await openTorch(bytesSource(bytes, "a storage"));
  if (!(held instanceof Storage)) throw new Error("pickle: where a tensor's storage should be there is something else");
  return { dtype: held.dtype, bytes: await held.read() };
}

/** Five pickles (magic number, version, the machine, the storage by its class and key, all keys), then the count of numbers in 8 bytes, then the numbers. */
function olderStorage(bytes: Uint8Array): { dtype: SafeDtype; bytes: Uint8Array } {
  let at = 0;
  // A pickle does not say how long it is: it ends at the first "." with which it is whole.
  const next = (allowed: Allowed = {}): Pickled<External> => {
    for (let dot = bytes.indexOf(46, at); dot >= 0 && dot - at < MOST_HEADER; dot = bytes.indexOf(46, dot + 1)) {
      try {
        const value = readPickle(bytes.subarray(at, dot + 1), allowed);
        at = dot + 1;
        return value;
      } catch {
        // not whole yet, or not to be read: the line below says which
      }
    }
    return readPickle(bytes.subarray(at, at + MOST_HEADER), allowed);
  };
  const damaged = (what: string) => new Error(`pickle: a storage ${what}; the file is damaged`);
  if (next() !== MAGIC || next() !== PROTOCOL) throw damaged("that torch did not save");
  const machine = next();
  if (!(machine instanceof Map) || machine.get("little_endian") !== true)
    throw new Error("pickle: a storage of a big-endian machine; save it anew on another");
  const names = Object.fromEntries(Object.entries(STORAGES).map(([name, dtype]) => [name, new StorageClass(dtype)]));
  const claimed = next({ names, persistent: claimOf });
  const keys = next();
  if (!(claimed instanceof Claimed) || !Array.isArray(keys) || keys.length !== 1 || keys[0] !== claimed.key)
    throw damaged("without its class and key");
  const size = bytesOf(claimed.dtype, [claimed.length]);
  const counted = at + 8 <= bytes.length ? new DataView(bytes.buffer, bytes.byteOffset + at, 8).getBigInt64(0, true) : null;
  if (counted !== BigInt(claimed.length) || size !== bytes.length - at - 8)
    throw damaged(`of ${bytes.length - at} bytes, not the ${claimed.length} numbers of ${claimed.dtype} that it claims`);
  return { dtype: claimed.dtype, bytes: bytes.subarray(at + 8) };
}

/** ("storage", class, key, where it was, count, view): where a storage was, on a CPU or a GPU, is no matter. */
function claimOf(id: unknown): Claimed {
  const [kind, of, key, , length, view = null] = Array.isArray(id) ? (id as unknown[]) : [];
  if (kind !== "storage" || !(of instanceof StorageClass) || typeof key !== "string" || !natural(length) || view !== null)
    throw new Error("pickle: a persistent id that is no storage of a known class; the file is damaged");
  return new Claimed(of.dtype, key, length);
}

/** A tensor of a file that is open. */
export interface NamedTensor {
  readonly shape: Shape;
  /** @throws Error where its storage is damaged. */
  read(): Promise<SafeTensor>;
}

/**
 * The tensors of a dict, by name: of `pickle.dump({name: tensor})`, as the original keeps its states, or of `torch.save`. No code in the file is run.
 * @throws Error, with what is wrong, for anything else.
 */
export async function openTensors(bytes: Uint8Array, from: string): Promise<Map<string, NamedTensor>> {
  const isFile = isZip(bytes) || /\.pth?$/.test(from);
  const tensor = (args: readonly unknown[]) => new PickledTensor(args);
  const calls: Allowed["calls"] = {
    "torch.storage._load_from_bytes": ([saved]) => new Saved(saved instanceof Uint8Array ? saved : new Uint8Array()),
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": ([data]) => {
      if (data instanceof PickledTensor) return data;
      throw new Error("pickle: a parameter without its tensor; the file is damaged");
    },
  };
  const whole = isFile ? await openTorch(bytesSource(bytes, from)) : readPickle(bytes, { calls });
  if (!(whole instanceof Map)) throw new Error("holds no dict of tensors");
  return new Map(
    [...whole].map(([name, value]) => {
      if (typeof name === "string" && (value instanceof PickledTensor || value instanceof TorchTensor)) return [name, value];
      throw new Error(
        `holds ${typeof name === "string" ? `under "${name}" what is no tensor` : "a key that is no name"}; it must be {"state": tensor, ...}`,
      );
    }),
  );
}

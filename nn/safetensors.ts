/**
 * The safetensors format (Hugging Face, github.com/huggingface/safetensors): 8 bytes of header length, a JSON header of names, dtypes, shapes
 * and offsets, then the data, little-endian and row-major. A file is read whole, or a tensor at a time; so it is written.
 */

import { fromBfloat, fromE4M3, fromE5M2, fromE8M0, fromHalf, toBfloat, toHalf } from "../kernels/half.ts";
import { type Shape, show } from "../src/shape.ts";
import { checkSource, explainPointer, type Source } from "./source.ts";

/** Bytes an element of each dtype takes. */
const BYTES = {
  C64: 8,
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;
export type SafeDtype = keyof typeof BYTES;

/** Bytes that a tensor takes; null where that is no safe integer. */
export function bytesOf(dtype: SafeDtype, shape: Shape): number | null {
  let size: number = BYTES[dtype];
  for (const length of shape) {
    size *= length;
    if (!Number.isSafeInteger(size)) return null;
  }
  return size;
}

/** What a header says of a tensor. */
export interface SafeInfo {
  readonly dtype: SafeDtype;
  readonly shape: Shape;
}

export interface SafeTensor extends SafeInfo {
  /** The raw bytes, little-endian: a view into the file where that is in memory. */
  readonly bytes: Uint8Array;
}

export interface SafeFile {
  readonly tensors: ReadonlyMap<string, SafeTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A checkpoint in whichever format: what is in it is known, and tensors are read one at a time. */
export interface Weights {
  /** What errors call it. */
  readonly name: string;
  readonly index: ReadonlyMap<string, SafeInfo>;
  /** @throws Error for a name that is not in the index. */
  tensor(name: string): Promise<SafeTensor>;
}

// ---- reading -------------------------------------------------------------------------------

/** The format's own limit on the header, bytes. */
const MOST_HEADER = 100_000_000;
/** Bytes of the header's length. */
const PREFIX = 8;

function fail(file: string, why: string): never {
  throw new Error(`${file}: not a valid safetensors file: ${why}`);
}

/** A tensor and where its bytes lie, counted from the end of the header. */
interface Entry extends SafeInfo {
  readonly start: number;
  readonly end: number;
}

interface Header {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The header's length in bytes, from the file's first 8. */
function headerLength(first: Uint8Array, size: number, file: string): number {
  const pointer = explainPointer(first);
  if (pointer) fail(file, `it is ${pointer}`);
  if (size < PREFIX) fail(file, `${size} bytes are too few for a header`);
  const length = Number(new DataView(first.buffer, first.byteOffset, PREFIX).getBigUint64(0, true));
  if (length > MOST_HEADER) fail(file, `the header claims ${length} bytes; at most ${MOST_HEADER} are allowed`);
  if (PREFIX + length > size) fail(file, `the header claims ${length} bytes, the file has ${size}`);
  return length;
}

/** A value of the header in an error: short, whatever it is. */
function brief(value: unknown): string {
  if (Array.isArray(value)) return `[${value.slice(0, 8).map(briefItem).join(", ")}${value.length > 8 ? ", ..." : ""}]`;
  return briefItem(value);
}
const briefItem = (value: unknown): string =>
  typeof value === "object" && value !== null ? "{...}" : `${JSON.stringify(typeof value === "string" ? value.slice(0, 80) : value)}`;

/**
 * The first key that some object of a JSON text gives twice, or null: JSON.parse keeps the last of them and says nothing.
 * The text is one that JSON.parse has read.
 */
function repeatedKey(json: string): string | null {
  const objects: Set<string>[] = []; // the keys of those that are open, the innermost last
  let string = "";
  for (let at = 0; at < json.length; at++) {
    const sign = json[at];
    if (sign === '"') {
      const start = at++;
      while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
      string = json.slice(start, at + 1);
    } else if (sign === "{") objects.push(new Set());
    else if (sign === "}") objects.pop();
    else if (sign === ":") {
      const key = JSON.parse(string) as string;
      const keys = objects.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return null;
}

const natural = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;

/** The header's JSON, checked against the number of bytes that follow it. Nothing in it is trusted. */
function parseHeader(bytes: Uint8Array, room: number, file: string): Header {
  let header: unknown;
  let json = "";
  try {
    json = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(json);
  } catch {
    fail(file, "the header is not JSON");
  }
  if (header === null || typeof header !== "object" || Array.isArray(header)) fail(file, "the header is not a JSON object");
  const repeated = repeatedKey(json);
  if (repeated !== null) fail(file, `the header gives ${brief(repeated)} twice`);

  const { __metadata__: metadata, ...tensors } = header as Record<string, unknown>;
  const entries = new Map(Object.entries(tensors).map(([name, value]) => [name, parseEntry(name, value, room, file)] as const));
  let end = 0;
  for (const [name, entry] of [...entries].sort(([, a], [, b]) => a.start - b.start || a.end - b.end)) {
    if (entry.start !== end)
      fail(file, `${brief(name)} begins at ${entry.start}, where ${end} was due: tensors must neither overlap nor leave holes`);
    end = entry.end;
  }
  if (end !== room) fail(file, `${room - end} bytes after the last tensor belong to nothing`);
  return { entries, metadata: parseMetadata(metadata ?? {}, file) };
}

function parseMetadata(metadata: unknown, file: string): Record<string, string> {
  const texts = (object: object): object is Record<string, string> => Object.values(object).every((value) => typeof value === "string");
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata) || !texts(metadata))
    return fail(file, "its __metadata__ is not an object of strings");
  return metadata;
}

function parseEntry(name: string, value: unknown, room: number, file: string): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const key = brief(name);
  if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype)) fail(file, `${key} has the unknown dtype ${brief(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(natural)) return fail(file, `${key} has the shape ${brief(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(natural))
    return fail(file, `${key} has the offsets ${brief(offsets)}`);
  const [start, end] = offsets as [number, number];
  if (end < start || end > room) fail(file, `${key} lies at ${start} to ${end}, but there are ${room} bytes of data`);
  const size = bytesOf(dtype as SafeDtype, shape);
  if (size !== end - start)
    fail(file, `${key} is ${dtype} ${brief(shape)}, ${size ?? "more than 2^53"} bytes, but its offsets span ${end - start}`);
  return { dtype: dtype as SafeDtype, shape, start, end };
}

/**
 * Read a whole file.
 * @throws Error saying what the header claims that is not so.
 */
export function readSafetensors(file: Uint8Array, name = "safetensors"): SafeFile {
  const begin = PREFIX + headerLength(file, file.length, name);
  const { entries, metadata } = parseHeader(file.subarray(PREFIX, begin), file.length - begin, name);
  const tensors = new Map<string, SafeTensor>();
  for (const [key, { dtype, shape, start, end }] of entries)
    tensors.set(key, { dtype, shape, bytes: file.subarray(begin + start, begin + end) });
  return { tensors, metadata };
}

/**
 * Read a file's header; its tensors then one at a time, for files larger than memory.
 *
 *   const file = await openSafetensors(blobSource(await openAsBlob("model.safetensors"))); // openAsBlob of node:fs; a page has a File
 *
 * @throws Error as readSafetensors.   @throws TypeError for a path or bytes: bytesSource and blobSource make sources.
 */
export async function openSafetensors(source: Source): Promise<Weights & Pick<SafeFile, "metadata">> {
  checkSource("openSafetensors(source)", source);
  const { name, size } = source;
  const begin = PREFIX + headerLength(await source.read(0, Math.min(size, 32)), size, name); // 32: enough to see what it is instead
  const { entries, metadata } = parseHeader(await source.read(PREFIX, begin), size - begin, name);
  const file = weightsOf(name, entries, async ({ dtype, shape, start, end }, key) => {
    const bytes = await source.read(begin + start, begin + end);
    if (bytes.length !== end - start) throw new Error(`${name}: ${brief(key)} has ${end - start} bytes, of which ${bytes.length} came`);
    return { dtype, shape, bytes };
  });
  return { ...file, metadata };
}

/** A checkpoint of what is in an index and the way to read it. */
export const weightsOf = <T extends SafeInfo>(
  name: string,
  index: ReadonlyMap<string, T>,
  read: (entry: T, key: string) => Promise<SafeTensor>,
) => ({
  name,
  index,
  async tensor(key: string): Promise<SafeTensor> {
    const entry = index.get(key);
    if (!entry) throw new Error(`${name}: there is no tensor ${brief(key)} in it; it has ${index.size} others`);
    return read(entry, key);
  },
});

/**
 * A checkpoint in several files: Hugging Face's `model.safetensors.index.json`, {"weight_map": {tensor: file}}.
 * @param index the parsed JSON.
 * @param open opens one of the files, by the name it has in the index: a name alone, no path.
 * @throws Error where the index and the files do not hold the same tensors.
 */
export async function openSharded(index: unknown, open: (file: string) => Promise<Weights>, name: string): Promise<Weights> {
  const refuse = (why: string): never => {
    throw new Error(`${name}: not a valid index of a checkpoint: ${why}`);
  };
  const map = ((index ?? {}) as { weight_map?: unknown }).weight_map;
  if (map === null || typeof map !== "object" || Array.isArray(map)) return refuse('it has no object "weight_map"');
  const places = Object.entries(map as Record<string, unknown>);
  const shards = new Map<string, Weights>();
  const all = new Map<string, SafeInfo & { readonly shard: Weights }>();
  for (const [key, file] of places) {
    if (typeof file !== "string" || /[/\\]|^\.*$/.test(file)) return refuse(`${brief(key)} is in ${brief(file)}, which is no file's name`);
    const shard = shards.get(file) ?? (await open(file));
    shards.set(file, shard);
    const info = shard.index.get(key) ?? refuse(`${brief(key)} is not in ${shard.name}, where it should be`);
    all.set(key, { dtype: info.dtype, shape: info.shape, shard });
  }
  for (const shard of shards.values())
    for (const key of shard.index.keys())
      if (all.get(key)?.shard !== shard) refuse(`${brief(key)} is in ${shard.name}, and the index does not say so`);
  return weightsOf(name, all, ({ shard }, key) => shard.tensor(key));
}

// ---- values --------------------------------------------------------------------------------

/** What the codes of the narrow floats stand for. */
const DECODE = { F16: fromHalf, BF16: fromBfloat, F8_E4M3: fromE4M3, F8_E5M2: fromE5M2, F8_E8M0: fromE8M0 } as const;

/** The value of every code, made when a dtype is first met: looking up is some ten times faster than decoding. */
const tables = new Map<keyof typeof DECODE, Float32Array>();

function tableOf(dtype: keyof typeof DECODE): Float32Array {
  let table = tables.get(dtype);
  if (!table) {
    table = Float32Array.from({ length: 2 ** (8 * BYTES[dtype]) }, (_, code) => DECODE[dtype](code));
    tables.set(dtype, table);
  }
  return table;
}

/** The same bytes where a typed array of such elements can begin: a copy if they lie askew. Hosts are little-endian, as the file is. */
const aligned = (bytes: Uint8Array, size: number): Uint8Array => (bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes));

type TypedArrays<T> = new (buffer: ArrayBufferLike, offset: number, length: number) => T;

function view<T>(make: TypedArrays<T>, { dtype, bytes }: SafeTensor): T {
  const at = aligned(bytes, BYTES[dtype]);
  return new make(at.buffer, at.byteOffset, at.length / BYTES[dtype]);
}

/** Is it a dtype that floats() reads? */
export const isFloat = (dtype: SafeDtype): boolean => dtype === "F32" || dtype === "F64" || Object.hasOwn(DECODE, dtype);

/** The values as floats, from any float dtype; of F32 a view of the bytes where they are aligned. @throws TypeError for an integer dtype. */
export function floats(tensor: SafeTensor, name = "tensor"): Float32Array {
  const { dtype } = tensor;
  if (dtype === "F32") return view(Float32Array, tensor);
  if (dtype === "F64") return Float32Array.from(view(Float64Array, tensor));
  if (!Object.hasOwn(DECODE, dtype)) throw new TypeError(`${name}: is ${dtype}; weights must be F32, F64, F16, BF16 or F8`);
  const table = tableOf(dtype as keyof typeof DECODE);
  const codes: Uint8Array | Uint16Array = BYTES[dtype] === 2 ? view(Uint16Array, tensor) : tensor.bytes;
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) values[i] = table[codes[i]];
  return values;
}

/** The typed array of each integer dtype; a BOOL is a byte of 0 or 1. */
const INTEGERS = {
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;
export type IntegerDtype = keyof typeof INTEGERS;
export type Integers = InstanceType<(typeof INTEGERS)[IntegerDtype]>;

const isInteger = (dtype: SafeDtype): dtype is IntegerDtype => Object.hasOwn(INTEGERS, dtype);

/** The values of an integer dtype in its own typed array, a view of the bytes where they are aligned. @throws TypeError for a float dtype. */
export function integers(tensor: SafeTensor, name = "tensor"): Integers {
  if (!isInteger(tensor.dtype)) throw new TypeError(`${name}: is ${tensor.dtype}; floats() reads that, integers() the integers and BOOL`);
  return view<Integers>(INTEGERS[tensor.dtype], tensor);
}

// ---- writing -------------------------------------------------------------------------------

type Data = ArrayLike<number | bigint | boolean>;

/** A tensor to be written: raw bytes, or values that become its dtype, F32 unless it says another. */
export type Written = SafeTensor | { readonly dtype?: SafeDtype; readonly shape: Shape; readonly data: Data };

/** A tensor whose values are made when their turn comes. */
export interface Promised {
  readonly dtype?: SafeDtype;
  readonly shape: Shape;
  readonly data: () => Data | Promise<Data>;
}

type Named<T> = Iterable<readonly [name: string, value: T]>;

/** Integers in the dtype's typed array. @throws RangeError for a value that it cannot hold. */
function toIntegers(name: string, dtype: IntegerDtype, data: Data): Integers {
  const array: new (length: number) => Integers = INTEGERS[dtype];
  if (data instanceof array && dtype !== "BOOL") return data;
  const values = new array(data.length);
  const refuse = (i: number): never => {
    throw new RangeError(`writeSafetensors: "${name}" has ${data[i]} at ${i}, which ${dtype} cannot hold`);
  };
  for (let i = 0; i < data.length; i++) {
    const value = data[i];
    const whole = typeof value === "number" && !Number.isInteger(value) ? refuse(i) : BigInt(value);
    if (values instanceof BigInt64Array || values instanceof BigUint64Array) values[i] = whole;
    else values[i] = Number(whole);
    if (BigInt(values[i]) !== whole || (dtype === "BOOL" && whole > 1n)) refuse(i);
  }
  return values;
}

/** A tensor's bytes. */
function encode(name: string, { dtype, shape }: SafeInfo, data: Data): Uint8Array {
  if (data.length * BYTES[dtype] !== bytesOf(dtype, shape))
    throw new RangeError(`writeSafetensors: "${name}" has ${data.length} values for ${show(shape)}`);
  let values: ArrayBufferView;
  if (isInteger(dtype)) values = toIntegers(name, dtype, data);
  else if (dtype === "F32") values = data instanceof Float32Array ? data : Float32Array.from(data, Number);
  else if (dtype === "F64") values = data instanceof Float64Array ? data : Float64Array.from(data, Number);
  else if (dtype === "F16" || dtype === "BF16") {
    const round = dtype === "F16" ? toHalf : toBfloat;
    const codes = new Uint16Array(data.length);
    for (let i = 0; i < codes.length; i++) codes[i] = round(Number(data[i])); // a loop: from() with a function takes three times as long
    values = codes;
  } else
    throw new TypeError(`writeSafetensors: "${name}" is ${dtype}, which is written from raw bytes alone; give { dtype, shape, bytes }`);
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Widest elements first, so that all are aligned, as Hugging Face's writer has it; else in the order given. */
function arranged<T extends { readonly dtype?: SafeDtype }>(tensors: Named<T>): (readonly [string, T & SafeDefault])[] {
  const all = [...tensors].map(([name, value]) => [name, { ...value, dtype: value.dtype ?? "F32" }] as const);
  return all.sort(([, a], [, b]) => BYTES[b.dtype] - BYTES[a.dtype]);
}
type SafeDefault = Pick<SafeInfo, "dtype">;

/** All that stands before the data, and the size of the data in bytes. */
function header(tensors: Named<SafeInfo>, metadata: Readonly<Record<string, string>>): { head: Uint8Array; size: number } {
  const entries = new Map<string, unknown>([["__metadata__", metadata]]);
  let at = 0;
  for (const [name, { dtype, shape }] of tensors) {
    const size = bytesOf(dtype, shape);
    if (size === null || !shape.every(natural)) throw new RangeError(`writeSafetensors: "${name}" has the shape ${show(shape)}`);
    if (entries.has(name)) throw new RangeError(`writeSafetensors: the name "${name}" is given twice, or the format's own; give another`);
    entries.set(name, { dtype, shape, data_offsets: [at, at + size] });
    at += size;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const length = Math.ceil(json.length / 8) * 8; // the data begin at a multiple of 8
  const head = new Uint8Array(PREFIX + length).fill(0x20); // spaces
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, PREFIX);
  return { head, size: at };
}

const FORMAT = { format: "pt" };

/** A whole file. @throws RangeError for values that do not fill their shape or that their dtype cannot hold. */
export function writeSafetensors(tensors: Named<Written>, metadata: Readonly<Record<string, string>> = FORMAT): Uint8Array {
  const all = arranged(tensors);
  const { head, size } = header(all, metadata);
  const file = new Uint8Array(head.length + size);
  file.set(head);
  let at = head.length;
  for (const [name, value] of all) {
    const bytes = "bytes" in value ? value.bytes : encode(name, value, value.data);
    if (bytes.length !== bytesOf(value.dtype, value.shape))
      throw new RangeError(`writeSafetensors: "${name}" has ${bytes.length} bytes for ${value.dtype} ${show(value.shape)}`);
    file.set(bytes, at);
    at += bytes.length;
  }
  return file;
}

/** The same file in pieces, the header and then each tensor, whose values are asked for when their turn comes: one at a time in memory. */
export async function* streamSafetensors(
  tensors: Named<Promised>,
  metadata: Readonly<Record<string, string>> = FORMAT,
): AsyncGenerator<Uint8Array> {
  const all = arranged(tensors);
  yield header(all, metadata).head;
  for (const [name, value] of all) yield encode(name, value, await value.data());
}

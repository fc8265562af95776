/**
 * The safetensors format (Hugging Face, github.com/huggingface/safetensors): 8 bytes of header length, a JSON header of names, dtypes, shapes
 * and offsets, then the data, little-endian and row-major.
 */

import { fromHalf } from "../kernels/half.ts";
import { sizeOf } from "../src/shape.ts";

/** Bytes an element of each dtype takes. */
const BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1 } as const;
export type SafeDtype = keyof typeof BYTES;

/** The format's own limit on the header, bytes. */
const MOST_HEADER = 100_000_000;

export interface SafeTensor {
  readonly dtype: SafeDtype;
  readonly shape: readonly number[];
  /** The raw bytes, a view into the file. */
  readonly bytes: Uint8Array;
}

export interface SafeFile {
  readonly tensors: ReadonlyMap<string, SafeTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Read a whole file. Nothing in it is trusted.
 * @throws Error saying what the header claims that is not so.
 */
export function readSafetensors(file: Uint8Array, name = "safetensors"): SafeFile {
  const fail = (why: string): never => {
    throw new Error(`${name}: not a valid safetensors file: ${why}`);
  };
  if (file.length < 8) fail(`${file.length} bytes are too few for a header`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > MOST_HEADER) fail(`the header claims ${length} bytes; at most ${MOST_HEADER} are allowed`);
  if (8 + length > file.length) fail(`the header claims ${length} bytes, the file has ${file.length}`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(file.subarray(8, 8 + length)));
  } catch {
    fail("the header is not JSON");
  }
  if (header === null || typeof header !== "object" || Array.isArray(header)) fail("the header is not a JSON object");

  const data = file.subarray(8 + length);
  const tensors = new Map<string, SafeTensor>();
  let metadata: Record<string, string> = {};
  const ranges: [number, number, string][] = [];
  for (const [key, value] of Object.entries(header as Record<string, unknown>)) {
    if (key === "__metadata__") {
      metadata = Object.fromEntries(Object.entries((value ?? {}) as object).map(([k, v]) => [k, String(v)]));
      continue;
    }
    const { dtype, shape, data_offsets: offsets } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
    if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype)) fail(`"${key}" has the unknown dtype ${JSON.stringify(dtype)}`);
    const natural = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
    if (!Array.isArray(shape) || !shape.every(natural)) fail(`"${key}" has the shape ${JSON.stringify(shape)}`);
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(natural))
      fail(`"${key}" has the offsets ${JSON.stringify(offsets)}`);
    const [from, to] = offsets as [number, number];
    const size = sizeOf(shape as number[]) * BYTES[dtype as SafeDtype];
    if (to < from || to > data.length) fail(`"${key}" lies at ${from} to ${to}, but there are ${data.length} bytes of data`);
    if (to - from !== size)
      fail(`"${key}" is ${dtype} [${(shape as number[]).join(", ")}], ${size} bytes, but its offsets span ${to - from}`);
    ranges.push([from, to, key]);
    tensors.set(key, { dtype: dtype as SafeDtype, shape: shape as number[], bytes: data.subarray(from, to) });
  }
  ranges.sort(([a, b], [c, d]) => a - c || b - d);
  let end = 0;
  for (const [from, to, key] of ranges) {
    if (from !== end) fail(`"${key}" begins at ${from}, where ${end} was due: tensors must neither overlap nor leave holes`);
    end = to;
  }
  if (end !== data.length) fail(`${data.length - end} bytes after the last tensor belong to nothing`);
  return { tensors, metadata };
}

/** The values as floats, from any float dtype. @throws TypeError for an integer dtype. */
export function floats({ dtype, bytes }: SafeTensor, name = "tensor"): Float32Array {
  const aligned = new Uint8Array(bytes); // a copy with its own buffer, so that views may begin at 0; slice() of a Node Buffer copies nothing
  switch (dtype) {
    case "F32":
      return new Float32Array(aligned.buffer);
    case "F64":
      return Float32Array.from(new Float64Array(aligned.buffer));
    case "F16":
      return Float32Array.from(new Uint16Array(aligned.buffer), fromHalf);
    case "BF16": {
      const words = Uint32Array.from(new Uint16Array(aligned.buffer), (bits) => bits << 16);
      return new Float32Array(words.buffer);
    }
    default:
      throw new TypeError(`${name}: is ${dtype}; weights must be F32, F64, F16 or BF16`);
  }
}

/** A file of f32 tensors: names in the order given, data aligned to 8 bytes. */
export function writeSafetensors(
  tensors: Iterable<readonly [name: string, value: { readonly shape: readonly number[]; readonly data: ArrayLike<number> }]>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Uint8Array {
  const all = [...tensors];
  const header: Record<string, unknown> = { __metadata__: metadata };
  let at = 0;
  for (const [name, { shape, data }] of all) {
    if (data.length !== sizeOf(shape))
      throw new RangeError(`writeSafetensors: "${name}" has ${data.length} values for [${shape.join(", ")}]`);
    header[name] = { dtype: "F32", shape, data_offsets: [at, at + 4 * data.length] };
    at += 4 * data.length;
  }
  let json = JSON.stringify(header);
  json += " ".repeat((8 - (new TextEncoder().encode(json).length % 8)) % 8);
  const head = new TextEncoder().encode(json);
  const file = new Uint8Array(8 + head.length + at);
  new DataView(file.buffer).setBigUint64(0, BigInt(head.length), true);
  file.set(head, 8);
  at = 8 + head.length;
  for (const [, { data }] of all) {
    const values = data instanceof Float32Array ? data : Float32Array.from(data);
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}

/** Arrow IPC streams message by message: found in a file without reading it whole, and written batch by batch. */

import type { Column, DataType, Table } from "@uwdata/flechette";

/** What a column of a Hugging Face dataset holds, by its name in dataset_info.json. */
export type Dtype = "int16" | "int32" | "int64" | "float64" | "string" | "bool";

/** A column: its name, and what one value or (`list`) each item of one value is. */
export interface Field {
  readonly name: string;
  readonly dtype: Dtype;
  readonly list?: boolean;
}

/** One value of a column; null is missing. */
export type Cell = string | number | boolean | null | Int16Array | Int32Array | Float64Array | readonly number[];

/** Rows by column. */
export type Batch = Readonly<Record<string, readonly Cell[]>>;

/** Every message begins with this mark (Arrow columnar format 1.5, "Encapsulated message format"). */
const MARK = 0xffffffff;
/** Mark and metadata length. */
const PREFIX = 8;
/** Enough for the metadata of a batch of some hundred columns, so that most messages cost two reads. */
const HEAD = 4096;

/** End of stream: the mark and a length of zero. */
export const END = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);

/** Message kinds, and the one type whose decoding reads a list of its own (Arrow `Message.fbs`, `Schema.fbs`). */
const SCHEMA = 1;
const DICTIONARY = 2;
const RECORDS = 3;
const UNION = 14;

/**
 * The messages of a stream of `size` bytes, each in memory of its own, read by `read(start, end)`.
 * @throws Error where the stream is damaged or does not reach its end mark.
 */
export async function* messages(
  read: (start: number, end: number) => Promise<Uint8Array>,
  size: number,
  path: string,
): AsyncGenerator<Uint8Array> {
  for (let at = 0; ; ) {
    if (size - at < PREFIX) fail(path, `ends at byte ${size} without its end mark; it is truncated, copy it again`);
    let head = await read(at, Math.min(size, at + HEAD));
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    if (view.getUint32(0, true) !== MARK) fail(path, `has no message at byte ${at}; an Arrow IPC stream is expected`);
    const metadata = view.getUint32(4, true);
    if (metadata === 0) return;
    if (metadata > size - at - PREFIX) fail(path, `has a message of ${metadata} bytes at ${at} but ends at ${size}; it is truncated`);
    if (PREFIX + metadata > head.length) head = await read(at, at + PREFIX + metadata);
    const end = at + PREFIX + metadata + headerOf(head.subarray(PREFIX, PREFIX + metadata), path).body;
    if (!(end <= size)) fail(path, `has a message up to byte ${end} but ends at ${size}; it is truncated, copy it again`);
    yield end - at <= head.length ? head.slice(0, end - at) : await read(at, end);
    at = end;
  }
}

/**
 * Kind and body length out of a message's metadata, a flatbuffer (Arrow `Message.fbs`, `Schema.fbs`). Every vector that the decoder will
 * walk is checked to lie inside: a damaged count would otherwise make it build billions of entries.
 */
function headerOf(metadata: Uint8Array, path: string): { kind: number; body: number } {
  const view = new DataView(metadata.buffer, metadata.byteOffset, metadata.byteLength);
  /** The place of field i of the table at `at`, or 0. */
  const table = (at: number) => {
    const vtable = at - view.getInt32(at, true);
    const offset = (i: number) => (4 + 2 * i < view.getUint16(vtable, true) ? view.getUint16(vtable + 4 + 2 * i, true) : 0);
    return (i: number) => (offset(i) === 0 ? 0 : at + offset(i));
  };
  const follow = (at: number) => at + view.getUint32(at, true);
  /** The places of a vector's entries, none where the field is absent. */
  const vector = (at: number, stride: number): number[] => {
    if (at === 0) return [];
    const start = follow(at);
    const count = view.getUint32(start, true);
    if (start + 4 + count * stride > view.byteLength) throw new RangeError(`a list of ${count} entries`);
    return Array.from({ length: count }, (_, i) => start + 4 + i * stride);
  };
  let fields = 0;
  const checkFields = (at: number): void => {
    for (const entry of vector(at, 4)) {
      if (++fields > metadata.length) throw new RangeError("a schema that contains itself");
      const field = table(follow(entry));
      if (field(2) && view.getUint8(field(2)) === UNION) throw new RangeError("a union column, which is not read here");
      checkFields(field(5)); // children
      vector(field(6), 4); // metadata
    }
  };
  const checkBatch = (batch: (i: number) => number) => [vector(batch(1), 16), vector(batch(2), 16), vector(batch(4), 8)]; // nodes, buffers, variadic
  try {
    const message = table(view.getUint32(0, true));
    const kind = message(1) ? view.getUint8(message(1)) : 0;
    const body = message(3) ? Number(view.getBigInt64(message(3), true)) : 0;
    if (kind !== SCHEMA && kind !== DICTIONARY && kind !== RECORDS) throw new RangeError(`a message of kind ${kind}`);
    if (!Number.isSafeInteger(body) || body < 0) throw new RangeError(`a body of ${body} bytes`);
    const header = table(follow(message(2)));
    if (kind === SCHEMA) {
      checkFields(header(1));
      vector(header(2), 4); // metadata
    } else checkBatch(kind === RECORDS ? header : table(follow(header(1))));
    return { kind, body };
  } catch (cause) {
    return fail(path, `holds a damaged message (${(cause as Error).message})`);
  }
}

/** Decodes the messages of one stream; its columns are views of their bytes. */
export async function decode(stream: Uint8Array[], path: string): Promise<Table> {
  const { tableFromIPC } = await import("@uwdata/flechette");
  try {
    return tableFromIPC(stream);
  } catch (cause) {
    return fail(path, `could not be decoded (${(cause as Error).message}); the file is damaged`);
  }
}

/** Encodes rows as the messages of a stream without its end mark: the schema (only of use once per stream) and the rest. */
export async function encode(fields: readonly Field[], batch: Batch): Promise<{ schema: Uint8Array; rest: Uint8Array[] }> {
  const arrow = await import("@uwdata/flechette");
  const single: Record<Dtype, () => DataType> = {
    int16: arrow.int16,
    int32: arrow.int32,
    int64: arrow.int64,
    float64: arrow.float64,
    string: arrow.utf8,
    bool: arrow.bool,
  };
  const columns: Record<string, Column<unknown>> = {};
  for (const { name, dtype, list } of fields) {
    const type = list ? arrow.list(arrow.field("item", single[dtype]())) : single[dtype]();
    columns[name] = arrow.columnFromArray(batch[name] as Cell[], type);
  }
  const bytes = arrow.tableToIPC(arrow.tableFromColumns(columns), { format: "stream" });
  if (!bytes) throw new Error("arrow: nothing was encoded");
  let schema: Uint8Array | undefined;
  const rest: Uint8Array[] = [];
  for await (const message of messages(async (a, b) => bytes.subarray(a, b), bytes.length, "a new stream")) {
    const length = new DataView(message.buffer, message.byteOffset).getUint32(4, true);
    if (headerOf(message.subarray(PREFIX, PREFIX + length), "a new stream").kind === SCHEMA) schema = message;
    else rest.push(message);
  }
  return { schema: schema!, rest };
}

function fail(path: string, what: string): never {
  throw new Error(`dataset: "${path}" ${what}`);
}

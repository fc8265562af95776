/** Tokenised cells as Hugging Face `datasets` keeps them (`save_to_disk`): Arrow streams, two JSON files, and beside them our dictionary. */

import type { Column, Table, Batch as TableBatch } from "@uwdata/flechette";
import { appendTo, exists, list, move, readJson, readRange, size, type WriteOptions, writeFolderWhole, writeWhole } from "../files.ts";
import { type Batch, decode, END, encode, type Field, messages } from "./arrow.ts";
import { DICTIONARY, hasVocabulary, readVocabulary, type Vocabulary, writeVocabulary } from "./vocabulary.ts";

export type { Batch, Cell, Dtype, Field } from "./arrow.ts";

/** Tokenised cells, in memory as views of the files' bytes. */
export interface Dataset {
  readonly directory: string;
  /** Cells. */
  readonly length: number;
  readonly columns: readonly string[];
  /** Tokens of each cell, special tokens included. */
  readonly lengths: Int32Array;
  /** The largest token of all, -1 if there is none: a model needs a larger vocabulary. */
  readonly largest: number;
  /** Hex hash of the content, the same wherever the folder lies. */
  readonly fingerprint: string;
  /** Tokens of cell i: a view or a copy, not to be written to. */
  tokens(i: number): Int32Array;
  /** Values of a plain column; booleans are 0 and 1. */
  column(name: string): readonly (string | number | null)[];
  /** Cell i of a column of number lists, such as `counts`. */
  numbers(name: string, i: number): Float64Array;
  /** The dictionary that lies in the folder, if one does. */
  vocabulary(): Promise<Vocabulary | null>;
}

/** Bytes per shard at most, as `datasets` writes them (its MAX_SHARD_SIZE is 500MB). */
const SHARD = 500e6;

/** A list column made flat: cell i of part p has items [offsets[i], offsets[i + 1]) of `values`. */
interface Lists {
  readonly starts: readonly number[];
  readonly parts: readonly { readonly offsets: Int32Array; readonly values: ArrayLike<number> }[];
}

/**
 * Opens a `.dataset` folder: every shard that state.json names.
 * @throws Error where a shard is missing, truncated or damaged, `input_ids` is absent, or a token lies outside the folder's dictionary.
 */
export async function readDataset(directory: string): Promise<Dataset> {
  const tables: Table[] = [];
  const hash = new Hash();
  for (const name of await shards(directory)) {
    const path = `${directory}/${name}`;
    const stream: Uint8Array[] = [];
    for await (const message of messages((start, end) => readRange(path, start, end), await size(path), path)) {
      await hash.add(message);
      stream.push(message);
    }
    tables.push(await decode(stream, path));
  }
  const fields = (table: Table) => JSON.stringify(table.schema.fields.map(({ name, type }) => [name, type.typeId]));
  const odd = tables.findIndex((table) => fields(table) !== fields(tables[0]!));
  if (odd > 0) fail(directory, `shard ${odd} has other columns than shard 0; the folder mixes two datasets`);

  const names = tables[0]!.schema.fields.map(({ name }) => name);
  const columnsOf = (name: string): Column<unknown>[] => {
    const at = names.indexOf(name);
    if (at < 0) fail(directory, `has no column "${name}"; it has ${names.join(", ")}`);
    return tables.map((table) => table.getChildAt(at));
  };
  const ids = guarded(directory, () => flatten(columnsOf("input_ids"), "input_ids", directory));
  for (const name of names) {
    // what follows trusts every column to have the rows of input_ids
    const rows = columnsOf(name).flatMap((column) => column.data.map(({ length }) => length));
    if (rows.some((count, part) => count !== ids.starts[part + 1]! - ids.starts[part]!))
      fail(directory, `column "${name}" has other rows than input_ids`);
  }
  const lengths = lengthsOf(ids);
  const largest = largestToken(ids, directory);
  const vocabulary = once(async () =>
    (await hasVocabulary(`${directory}/${DICTIONARY}`)) ? readVocabulary(`${directory}/${DICTIONARY}`) : null,
  );
  const words = (await vocabulary())?.size ?? Infinity;
  if (largest >= words) fail(directory, `holds token ${largest} but its dictionary ends at ${words - 1}; the dictionary is another one`);
  const lists = new Map([["input_ids", ids]]);
  const at = (i: number, name: string): [number, Lists["parts"][number]] => {
    if (!lists.has(name))
      lists.set(
        name,
        guarded(directory, () => flatten(columnsOf(name), name, directory)),
      );
    const { starts, parts } = lists.get(name)!;
    if (!(Number.isInteger(i) && i >= 0 && i < lengths.length)) throw new RangeError(`dataset: cell ${i} of ${lengths.length}`);
    const part = partOf(starts, i);
    return [i - starts[part]!, parts[part]!];
  };
  return {
    directory,
    length: lengths.length,
    columns: names,
    lengths,
    largest,
    fingerprint: hash.hex(),
    vocabulary,
    tokens: (i) => {
      const [row, { offsets, values }] = at(i, "input_ids");
      const [start, end] = [offsets[row]!, offsets[row + 1]!];
      return values instanceof Int32Array
        ? values.subarray(start, end)
        : Int32Array.from({ length: end - start }, (_, k) => values[start + k]!);
    },
    numbers: (name, i) => {
      const [row, { offsets, values }] = at(i, name);
      return Float64Array.from({ length: offsets[row + 1]! - offsets[row]! }, (_, k) => values[offsets[row]! + k]!);
    },
    column: (name) =>
      guarded(directory, () =>
        columnsOf(name).flatMap((column) =>
          Array.from(column, (value) => {
            if (typeof value === "boolean") return Number(value);
            if (value === null || typeof value === "string" || typeof value === "number") return value;
            return fail(directory, `column "${name}" holds lists; read it with numbers("${name}", i)`);
          }),
        ),
      ),
  };
}

/** The shard names out of state.json, checked. */
async function shards(directory: string): Promise<string[]> {
  const files = (await exists(directory)) ? await list(directory) : fail(directory, "does not exist; check the path");
  if (files.includes("dataset_dict.json")) fail(directory, `is a DatasetDict; name the folder of one split inside it`);
  if (!files.includes("state.json")) fail(directory, `has no state.json; a folder written by tokenize or save_to_disk is expected`);
  const state = (await readJson(`${directory}/state.json`)) as Record<string, unknown> | null;
  const entries = state?._data_files;
  const names = Array.isArray(entries) ? entries.map((entry) => String((entry as { filename?: unknown } | null)?.filename)) : [];
  if (names.length === 0) fail(directory, "names no data files in state.json; the folder is damaged");
  if (Array.isArray(state?._indices_data_files) && state._indices_data_files.length > 0) {
    fail(directory, "is a selection by indices; save it with flatten_indices()");
  }
  for (const name of names) {
    if (/[/\\]/.test(name) || name.startsWith(".")) fail(directory, `names the data file "${name}" outside the folder`);
    if (!files.includes(name)) fail(directory, `lacks its shard "${name}" (${names.length} in state.json); copy the folder again`);
  }
  return names;
}

/** The raw numbers of a list column, with offsets checked so that later reads need no check. */
function flatten(columns: readonly Column<unknown>[], name: string, directory: string): Lists {
  const starts: number[] = [];
  const parts: { offsets: Int32Array; values: ArrayLike<number> }[] = [];
  let row = 0;
  for (const batch of columns.flatMap((column) => column.data as TableBatch<unknown>[])) {
    const child = batch.children?.[0];
    if (!batch.offsets || !child?.values || ArrayBuffer.isView(child.values) === false || child.offsets) {
      fail(directory, `column "${name}" holds no lists of numbers`);
    }
    if (batch.nullCount > 0 || child!.nullCount > 0)
      fail(directory, `column "${name}" has missing values in rows ${row}...${row + batch.length - 1}`);
    const offsets = Int32Array.from(batch.offsets as ArrayLike<number | bigint>, Number);
    const values = child!.values;
    for (let i = 0; i <= batch.length; i++) {
      if (!(offsets[i]! >= (i === 0 ? 0 : offsets[i - 1]!) && offsets[i]! <= values.length))
        fail(directory, `column "${name}" has damaged offsets`);
    }
    const wide = values instanceof BigInt64Array || values instanceof BigUint64Array;
    parts.push({ offsets, values: wide ? Float64Array.from(values, Number) : (values as ArrayLike<number>) });
    starts.push(row);
    row += batch.length;
  }
  starts.push(row);
  return { starts, parts };
}

function lengthsOf({ starts, parts }: Lists): Int32Array {
  const lengths = new Int32Array(starts.at(-1)!);
  parts.forEach(({ offsets }, p) => {
    for (let i = starts[p]!; i < starts[p + 1]!; i++) lengths[i] = offsets[i - starts[p]! + 1]! - offsets[i - starts[p]!]!;
  });
  return lengths;
}

function largestToken({ starts, parts }: Lists, directory: string): number {
  let largest = -1;
  parts.forEach(({ offsets, values }, p) => {
    const end = offsets[starts[p + 1]! - starts[p]!]!;
    for (let i = offsets[0]!; i < end; i++) {
      const token = values[i]!;
      if (!(token >= 0 && token < 2 ** 31 && Number.isInteger(token)))
        fail(directory, `holds ${token} in input_ids; a token is a whole number >= 0`);
      if (token > largest) largest = token;
    }
  });
  return largest;
}

/** The last part that starts at or before i; starts ends with the number of rows. */
function partOf(starts: readonly number[], i: number): number {
  let [low, high] = [0, starts.length - 2];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (starts[middle]! <= i) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** What a folder must hold for us to replace it. */
export const MARK = ["state.json"];

/** What `writeDataset` may be told: the dictionary to lay beside the shards, and bytes per shard. */
export interface DatasetOptions extends WriteOptions {
  readonly vocabulary?: Vocabulary;
  readonly shardBytes?: number;
}

/**
 * Writes a `.dataset` folder from batches of rows as they come, whole or not at all; memory holds one batch.
 * The JSON files are shaped as `datasets` 2 writes them ("Sequence", which every later version reads).
 * @returns the number of rows and the fingerprint that `readDataset` will give.
 */
export async function writeDataset(
  directory: string,
  fields: readonly Field[],
  batches: AsyncIterable<Batch> | Iterable<Batch>,
  { vocabulary, shardBytes = SHARD, force }: DatasetOptions = {},
): Promise<{ rows: number; fingerprint: string }> {
  let rows = 0;
  const hash = new Hash();
  await writeFolderWhole(
    directory,
    async (folder) => {
      const sizes: number[] = [];
      const path = (shard: number) => `${folder}/shard-${shard}`;
      const add = async (batch: Batch) => {
        const { schema, rest } = await encode(fields, checked(fields, batch));
        const fresh = sizes.length === 0 || sizes.at(-1)! >= shardBytes;
        if (fresh && sizes.length > 0) await append(path(sizes.length - 1), [END]);
        if (fresh) sizes.push(0);
        const written = fresh ? [schema, ...rest] : rest;
        await append(path(sizes.length - 1), written);
        for (const message of written) await hash.add(message);
        sizes[sizes.length - 1]! += written.reduce((sum, { length }) => sum + length, 0);
      };
      for await (const batch of batches) {
        const count = batch[fields[0]!.name]?.length ?? 0;
        if (count > 0) await add(batch);
        rows += count;
      }
      if (sizes.length === 0) throw new Error(`dataset: "${directory}" would hold no cells; nothing was written`);
      await append(path(sizes.length - 1), [END]);
      const five = (n: number) => String(n).padStart(5, "0");
      const names = sizes.map((_, shard) => `data-${five(shard)}-of-${five(sizes.length)}.arrow`);
      for (const [shard, name] of names.entries()) await move(path(shard), `${folder}/${name}`);
      await writeWhole(`${folder}/dataset_info.json`, JSON.stringify(info(fields), null, 2));
      await writeWhole(`${folder}/state.json`, JSON.stringify(state(names, hash.hex()), null, 2));
      if (vocabulary) await writeVocabulary(vocabulary, `${folder}/${DICTIONARY}`);
    },
    { force, mark: MARK },
  );
  return { rows, fingerprint: hash.hex() };
}

async function append(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const file = await appendTo(path);
  for (const piece of pieces) await file.write(piece);
  await file.close();
}

function checked(fields: readonly Field[], batch: Batch): Batch {
  const rows = batch[fields[0]!.name]?.length;
  for (const { name } of fields) {
    if (batch[name]?.length !== rows)
      throw new RangeError(`writeDataset: column "${name}" has ${batch[name]?.length} values for ${rows} rows`);
  }
  return batch;
}

function info(fields: readonly Field[]): object {
  const features = fields.map(({ name, dtype, list }) => {
    const value = { dtype, _type: "Value" };
    return [name, list ? { feature: value, _type: "Sequence" } : value];
  });
  return { citation: "", description: "", features: Object.fromEntries(features), homepage: "", license: "" };
}

function state(names: readonly string[], fingerprint: string): object {
  return {
    _data_files: names.map((filename) => ({ filename })),
    _fingerprint: fingerprint,
    _format_columns: null,
    _format_kwargs: {},
    _format_type: null,
    _output_all_columns: false,
    _split: null,
  };
}

/** A hash of a sequence of messages that never holds them: h' = sha256(h, sha256(message)). */
class Hash {
  #state: Uint8Array<ArrayBuffer> = new Uint8Array(32);
  async add(message: Uint8Array): Promise<void> {
    const digest = async (bytes: Uint8Array) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
    this.#state = await digest(Uint8Array.of(...this.#state, ...(await digest(message))));
  }
  /** 16 hex digits, as `datasets` writes its fingerprints. */
  hex(): string {
    return Array.from(this.#state.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

/** What the decoder throws on bytes that make no sense (or on integers beyond 2^53), as a sentence of ours. */
function guarded<T>(directory: string, f: () => T): T {
  try {
    return f();
  } catch (cause) {
    const { message } = cause as Error;
    if (message.startsWith("dataset: ")) throw cause;
    return fail(directory, `could not be read (${message}); copy it again`);
  }
}

function once<T>(f: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => (result ??= f());
}

function fail(directory: string, what: string): never {
  throw new Error(`dataset: "${directory}" ${what}`);
}

/** The original's raw results, `in_silico_..._raw.pickle`: dicts of (perturbed, "cell_emb" or affected) -> one number a cell, read and written. */

import { type Pickled, readPickle } from "../../nn/pickle.ts";
import { list, readFile, writeWhole } from "../files.ts";
import { CELL } from "../stats/tables.ts";

/** One key of such a file: what was perturbed, what was affected, the numbers. */
export interface Entry {
  /** One gene, or a group. */
  readonly genes: readonly number[];
  readonly affected: number | typeof CELL;
  /** One a cell; of pairs with an anchor three: it alone, the gene alone, both. */
  readonly values: readonly (number | readonly number[])[];
}

/** Entries by state; under "" where there are no states. */
export type Entries = ReadonlyMap<string, readonly Entry[]>;

export const SUFFIX = "_raw.pickle";

/** The entries of one file. @throws Error, with what is wrong, for a pickle of something else. */
export function parseEntries(bytes: Uint8Array, from = "the pickle"): Entries {
  const whole = readPickle(bytes);
  if (!(whole instanceof Map)) throw new Error(`pickle: "${from}" holds no dict of perturbations`);
  const states = [...whole.values()].some((value) => value instanceof Map) ? whole : new Map<Pickled, Pickled>([["", whole]]);
  return new Map(
    [...states].map(([state, entries]) => [
      String(state),
      [...(entries as ReadonlyMap<Pickled, Pickled>)].map(([key, values]) => entryOf(key, values, from)),
    ]),
  );
}

function entryOf(key: Pickled, values: Pickled, from: string): Entry {
  const [perturbed, affected] = Array.isArray(key) ? key : [];
  const genes = [perturbed].flat() as unknown[];
  const isEffect = (value: unknown) =>
    typeof value === "number" || (Array.isArray(value) && value.every((part) => typeof part === "number"));
  if (
    !genes.every((gene) => typeof gene === "number") ||
    !(typeof affected === "number" || affected === CELL) ||
    !(Array.isArray(values) && values.every(isEffect))
  )
    throw new Error(`pickle: "${from}" has a key or values that no perturbation has`);
  return { genes: genes as number[], affected, values: values as Entry["values"] };
}

/** The files in a folder that end in `_raw.pickle`, in the order of their names, and their entries. @throws Error where there is none. */
export async function* readEntryFiles(directory: string): AsyncGenerator<{ readonly name: string; readonly entries: Entries }> {
  const names = (await list(directory)).filter((name) => name.endsWith(SUFFIX));
  if (names.length === 0) throw new Error(`perturb: "${directory}" holds neither a run (run.json) nor files that end in ${SUFFIX}`);
  for (const name of names) yield { name, entries: parseEntries(await readFile(`${directory}/${name}`), `${directory}/${name}`) };
}

/** All entries of those files. @throws Error where there is none. */
export async function* readEntries(directory: string): AsyncGenerator<Entries> {
  for await (const { entries } of readEntryFiles(directory)) yield entries;
}

/** The cell that a file is of, counted from 0 in the order it was perturbed: ..._cell_embs_12batch0_raw.pickle is of cell 12. Null for files of groups. */
export function cellOf(name: string): number | null {
  const cell = /_(\d+)batch-?\d+_raw\.pickle$/.exec(name)?.[1];
  return cell === undefined ? null : Number(cell);
}

/** Bytes of a pickle (protocol 4; CPython Lib/pickletools.py), as they are put together. */
class Writer {
  readonly #parts: number[] = [];
  readonly #view = new DataView(new ArrayBuffer(8));

  bytes(): Uint8Array {
    return Uint8Array.from(this.#parts);
  }

  op(code: string): void {
    this.#parts.push(code.charCodeAt(0));
  }

  string(text: string): void {
    const utf8 = new TextEncoder().encode(text);
    this.op("X");
    this.#view.setUint32(0, utf8.length, true);
    this.#push(4);
    for (const byte of utf8) this.#parts.push(byte);
  }

  integer(value: number): void {
    this.op("J");
    this.#view.setInt32(0, value, true);
    this.#push(4);
  }

  float(value: number): void {
    this.op("G");
    this.#view.setFloat64(0, value);
    this.#push(8);
  }

  tuple(items: readonly (() => void)[]): void {
    this.op("(");
    for (const item of items) item();
    this.op("t");
  }

  list(items: readonly (() => void)[]): void {
    this.op("]");
    this.op("(");
    for (const item of items) item();
    this.op("e");
  }

  /** `collections.defaultdict(list)`, as the original fills it; a plain dict where nothing needs a default. */
  dict(items: readonly (readonly [key: () => void, value: () => void])[], lists = true): void {
    if (lists) {
      for (const name of ["collections", "defaultdict", "builtins", "list"]) {
        this.string(name);
        if (name === "defaultdict" || name === "list") this.op("\x93");
      }
      this.op("\x85");
      this.op("R");
    } else this.op("}");
    this.op("(");
    for (const [key, value] of items) {
      key();
      value();
    }
    this.op("u");
  }

  #push(count: number): void {
    for (let i = 0; i < count; i++) this.#parts.push(this.#view.getUint8(i));
  }
}

/** The bytes of a file of these entries, which Python's `pickle.load` reads as the original's. */
export function formatEntries(entries: Entries): Uint8Array {
  const w = new Writer();
  w.op("\x80");
  w.op("\x04");
  const ofState = (of: readonly Entry[]) =>
    w.dict(
      of.map(({ genes, affected, values }) => [
        () =>
          w.tuple([
            () => (genes.length === 1 ? w.integer(genes[0]) : w.tuple(genes.map((gene) => () => w.integer(gene)))),
            () => (affected === CELL ? w.string(CELL) : w.integer(affected)),
          ]),
        () =>
          w.list(
            values.map((value) => () => (typeof value === "number" ? w.float(value) : w.tuple(value.map((part) => () => w.float(part))))),
          ),
      ]),
    );
  const plain = entries.get("");
  if (plain) ofState(plain);
  else
    w.dict(
      [...entries].map(([state, of]) => [() => w.string(state), () => ofState(of)]),
      false,
    );
  w.op(".");
  return w.bytes();
}

/** Write entries as one of the original's files. @param path ends in `_raw.pickle`. */
export const writeEntries = (path: string, entries: Entries): Promise<void> => writeWhole(path, formatEntries(entries), {});

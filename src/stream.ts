/** The host's tables for a stream of cells: which rows make a cell, who owns a row, and an index with its inverse. */

import { FIELDS, TILE } from "../kernels/attention.ts";
import { NOBODY } from "../kernels/segment.ts";
import { checkOptions } from "./options.ts";
import { integers, type Tensor } from "./tensor.ts";

/**
 * Cells in a stream of N rows, one after the other. Rows of no cell, such as the tail beyond the last, are dead: attention gives them zeros, means
 * leave them out. Tables are padded to capacities, so that every batch of a training run has the same shapes.
 */
export interface Segments {
  /** Rows in the stream, the dead ones included. */
  readonly rows: number;
  /** Cells, those of length 0 that fill the capacity included. */
  readonly count: number;
  /** Rows of each cell, on the host; without those that fill the capacity. */
  readonly lengths: readonly number[];
  /** u32 [count, 2]: each cell's first row, and the row after its last. */
  readonly spans: Tensor;
  /** u32 [rows]: the cell a row belongs to, or NOBODY. */
  readonly owner: Tensor;
  /** u32 [tiles, 5]: tiles for attention, as kernels/attention.ts reads them, in which every row looks at its own cell. */
  readonly tiles: Tensor;
}

export interface Capacities {
  /** Rows of the stream. */
  readonly rows?: number;
  readonly cells?: number;
  /** Attention tiles. */
  readonly tiles?: number;
}

/** A cell's first row, and the row after its last. */
type Span = readonly [from: number, to: number];

/** The spans of cells of some lengths, one after the other. */
export function spansOf(lengths: readonly number[]): Span[] {
  let end = 0;
  return lengths.map((length) => {
    end += length;
    return [end - length, end];
  });
}

/** The tiles of a stream of `rows`: of its cells, and of the dead rows between and after them. */
export function tilesOf(spans: readonly Span[], rows: number): number[] {
  const tiles: number[] = [];
  const cut = (first: number, end: number, from: number, to: number) => {
    for (let row = first; row < end; row += TILE) tiles.push(row, Math.min(row + TILE, end), from, to, from);
  };
  let done = 0;
  for (const [from, to] of spans.filter(([from, to]) => from < to)) {
    cut(done, from, 0, 0);
    cut(from, to, from, to);
    done = to;
  }
  cut(done, rows, 0, 0);
  return tiles;
}

/** The most tiles that cells of any lengths can take in a stream: every cell, and the tail, may waste a part of one. */
export const mostTiles = (rows: number, cells: number): number => Math.ceil(rows / TILE) + cells + 1;

/** The rows of each cell that count: all but `head` first and `tail` last ones. */
const partsOf = (lengths: readonly number[], head: number, tail: number): Span[] =>
  spansOf(lengths).map(([from, to]) => [from + head, Math.max(from + head, to - tail)]);

/** What the tables hold for cells of the given lengths, of which those spans count. @throws RangeError when that does not fit. */
function numbersOf(where: string, lengths: readonly number[], counted: readonly Span[], { rows, cells, tiles: room }: Capacities) {
  const used = lengths.reduce((a, b) => a + b, 0);
  const size = rows ?? used;
  const count = cells ?? lengths.length;
  if (lengths.some((length) => !Number.isInteger(length) || length < 0))
    throw new RangeError(`${where}: lengths are non-negative integers; got ${lengths.join(", ")}`);
  if (used > size || lengths.length > count)
    throw new RangeError(
      `${where}: ${lengths.length} cells of ${used} rows do not fit ${count} cells of ${size} rows; use a smaller batch`,
    );

  const spans = new Uint32Array(2 * count).fill(used);
  const owner = new Uint32Array(size).fill(NOBODY);
  counted.forEach(([from, to], cell) => {
    spans.set([from, to], 2 * cell);
    owner.fill(cell, from, to);
  });
  const made = tilesOf(counted, size);
  const tiles = new Uint32Array(FIELDS * (room ?? made.length / FIELDS));
  if (made.length > tiles.length)
    throw new RangeError(`${where}: ${made.length / FIELDS} attention tiles do not fit ${tiles.length / FIELDS}`);
  tiles.set(made);
  return { lengths: counted.map(([from, to]) => to - from), spans, owner, tiles };
}

function tables(lengths: readonly number[], counted: readonly Span[], capacities: Capacities): Segments {
  const { spans, owner, tiles, ...numbers } = numbersOf("segments(lengths)", lengths, counted, capacities);
  return {
    ...numbers,
    rows: owner.length,
    count: spans.length / 2,
    spans: integers(spans, [spans.length / 2, 2]),
    owner: integers(owner),
    tiles: integers(tiles, [tiles.length / FIELDS, FIELDS]),
  };
}

/**
 * Tables for cells of the given lengths.
 * @throws RangeError when they do not fit the capacities.
 */
export const segments = (lengths: readonly number[], capacities: Capacities = {}): Segments =>
  tables(lengths, spansOf(lengths), capacities);

/** A part of each cell: its rows without `head` first and `tail` last ones, such as <cls> and <eos>, which are dead here. @throws as `segments`. */
export function inner(lengths: readonly number[], head: number, tail: number, capacities: Capacities = {}): Segments {
  const { cells = lengths.length, tiles } = capacities;
  // the dead rows before each part take a tile more
  return tables(lengths, partsOf(lengths, head, tail), tiles === undefined ? capacities : { ...capacities, tiles: tiles + cells });
}

/**
 * Write the tables of other cells in the place of these: for a captured step, whose next batch has other lengths.
 * @param part of tables that `inner` made: the rows to leave out of each cell, as they were told there.
 * @throws RangeError when the cells do not fit the tables as they were made; nothing is written then.
 */
export function rewriteSegments(
  made: Segments,
  lengths: readonly number[],
  part: { readonly head?: number; readonly tail?: number } = {},
): void {
  const where = "rewriteSegments(segments, lengths)";
  checkOptions(where, part, ["head", "tail"]);
  const { head = 0, tail = 0 } = part;
  const capacities = { rows: made.rows, cells: made.count, tiles: made.tiles.shape[0] };
  const { spans, owner, tiles, ...numbers } = numbersOf(where, lengths, partsOf(lengths, head, tail), capacities);
  Object.assign(made, numbers);
  made.spans.write(spans);
  made.owner.write(owner);
  made.tiles.write(tiles);
}

/**
 * An index into rows, with its inverse: made on the host, so that adding gradients up again needs no atomics. An index made on the device is a tensor
 * of u32 or i32, which `gather` and `scatterAdd` take as it is and invert there.
 */
export interface Index {
  /** Rows of the table it points into. */
  readonly rows: number;
  /** u32 [M]: the row each place names. */
  readonly values: Tensor;
  /** Does every place count, whatever the values? Not where `count` or `frozen` may leave some out. */
  readonly whole: boolean;
  /** The inverse: `order` u32 [M], places grouped by the row they name, and `starts` u32 [rows + 1], where each row's group begins. */
  readonly inverse: { readonly order: Tensor; readonly starts: Tensor } | null;
}

export interface IndexOptions {
  /** Places that count: those after it read their row and give it no gradient (the dead tail). Default: all. */
  readonly count?: number;
  /** A row that gets no gradient, as PyTorch's padding_idx. */
  readonly frozen?: number;
  /** false leaves the inverse out, where nothing will be added up again. */
  readonly gradients?: boolean;
}

/** The places of an index that count, grouped by the row that they name. @throws RangeError for a value that is no row, and a wrong count. */
function inverted(
  where: string,
  values: ArrayLike<number>,
  rows: number,
  { count = values.length, frozen = -1 }: IndexOptions,
  places = values.length,
) {
  if (!(Number.isInteger(count) && count >= 0 && count <= values.length))
    throw new RangeError(`${where}: count is ${count}, but there are ${values.length} values; give how many of them count`);
  const starts = new Uint32Array(rows + 1);
  for (let i = 0; i < values.length; i++) {
    const row = values[i];
    if (!(row >= 0 && row < rows && Number.isInteger(row)))
      throw new RangeError(`${where}: values[${i}] is ${row}, but there are ${rows} rows; give one from 0 to ${rows - 1}`);
    if (i < count && row !== frozen) starts[row + 1]++;
  }
  for (let row = 0; row < rows; row++) starts[row + 1] += starts[row];
  const order = new Uint32Array(places);
  const next = starts.slice(0, rows);
  for (let i = 0; i < count; i++) if (values[i] !== frozen) order[next[values[i]]++] = i;
  return { order, starts };
}

/** Do these options let every place count? */
const counts = ({ count, frozen }: IndexOptions): boolean => count === undefined && frozen === undefined;

/**
 * An index of places into a table of `rows`.
 * @param options `count`: places that count; those after it read their row and give it no gradient (the dead tail); default: all. `frozen`: a row
 *   that gets no gradient, as PyTorch's padding_idx. `gradients`: false leaves the inverse out, where nothing will be added up again.
 * @throws RangeError for a value that is not a row, and for a count of more values than there are.
 */
export function index(values: ArrayLike<number>, rows: number, options: IndexOptions = {}): Index {
  checkOptions("index(values, rows, options)", options, ["count", "frozen", "gradients"]);
  const { order, starts } = inverted("index(values, rows)", values, rows, options);
  const inverse = options.gradients === false ? null : { order: integers(order), starts: integers(starts) };
  return { rows, values: integers(values), whole: counts(options), inverse };
}

/**
 * Write other values in the place of an index's: for a captured step, whose next batch has other tokens. Fewer values than it has places leave the
 * rest for the dead tail.
 * @param options as `index` took them.
 * @throws RangeError for more values than there are places, a value that is not a row, and places left out of an index that counts all of its own: then
 *   nothing is written.
 */
export function rewriteIndex(made: Index, values: ArrayLike<number>, options: Omit<IndexOptions, "gradients"> = {}): void {
  const where = "rewriteIndex(index, values)";
  checkOptions(where, options, ["count", "frozen"]);
  const places = made.values.size;
  if (values.length > places)
    throw new RangeError(`${where}: ${values.length} values do not fit the ${places} places that the index was made with; make it larger`);
  const { order, starts } = inverted(where, values, made.rows, options, places);
  if (made.whole && !(counts(options) && values.length === places))
    throw new RangeError(
      `${where}: all ${places} places of the index count, but of ${values.length} values some would be left out; make it with { count }, or give as many without options`,
    );
  const all = new Uint32Array(places);
  all.set(values);
  made.values.write(all);
  made.inverse?.order.write(order);
  made.inverse?.starts.write(starts);
}

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

/** Tables for cells of the given lengths, of which those spans count. */
function tables(lengths: readonly number[], counted: readonly Span[], capacities: Capacities): Segments {
  const used = lengths.reduce((a, b) => a + b, 0);
  const rows = capacities.rows ?? used;
  const count = capacities.cells ?? lengths.length;
  if (lengths.some((length) => !Number.isInteger(length) || length < 0))
    throw new RangeError(`segments(lengths): lengths are non-negative integers; got ${lengths.join(", ")}`);
  if (used > rows || lengths.length > count)
    throw new RangeError(
      `segments(lengths): ${lengths.length} cells of ${used} rows do not fit ${count} cells of ${rows} rows; use a smaller batch`,
    );

  const spans = new Uint32Array(2 * count).fill(used);
  const owner = new Uint32Array(rows).fill(NOBODY);
  counted.forEach(([from, to], cell) => {
    spans.set([from, to], 2 * cell);
    owner.fill(cell, from, to);
  });
  const made = tilesOf(counted, rows);
  const tiles = new Uint32Array(FIELDS * (capacities.tiles ?? made.length / FIELDS));
  if (made.length > tiles.length)
    throw new RangeError(`segments(lengths): ${made.length / FIELDS} attention tiles do not fit ${tiles.length / FIELDS}`);
  tiles.set(made);
  return {
    rows,
    count,
    lengths: counted.map(([from, to]) => to - from),
    spans: integers(spans, [count, 2]),
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
  const parts = spansOf(lengths).map(([from, to]): Span => [from + head, Math.max(from + head, to - tail)]);
  const { cells = lengths.length, tiles } = capacities;
  // the dead rows before each part take a tile more
  return tables(lengths, parts, tiles === undefined ? capacities : { ...capacities, tiles: tiles + cells });
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
  /** Does every place count? Not where `count` or `frozen` leaves some out. */
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

/**
 * An index of places into a table of `rows`.
 * @param options `count`: places that count; those after it read their row and give it no gradient (the dead tail); default: all. `frozen`: a row
 *   that gets no gradient, as PyTorch's padding_idx. `gradients`: false leaves the inverse out, where nothing will be added up again.
 * @throws RangeError for a value that is not a row.
 */
export function index(values: ArrayLike<number>, rows: number, options: IndexOptions = {}): Index {
  checkOptions("index(values, rows, options)", options, ["count", "frozen", "gradients"]);
  const { count = values.length, frozen = -1, gradients = true } = options;
  for (let i = 0; i < values.length; i++) {
    const row = values[i];
    if (!(row >= 0 && row < rows && Number.isInteger(row)))
      throw new RangeError(`index(values, rows): values[${i}] is ${row}, but there are ${rows} rows; give one from 0 to ${rows - 1}`);
  }
  let whole = count === values.length;
  for (let i = 0; i < count; i++) whole &&= values[i] !== frozen;
  if (!gradients) return { rows, values: integers(values), whole, inverse: null };
  const starts = new Uint32Array(rows + 1);
  for (let i = 0; i < count; i++) if (values[i] !== frozen) starts[values[i] + 1]++;
  for (let row = 0; row < rows; row++) starts[row + 1] += starts[row];
  const order = new Uint32Array(values.length);
  const next = starts.slice(0, rows);
  for (let i = 0; i < count; i++) if (values[i] !== frozen) order[next[values[i]]++] = i;
  return { rows, values: integers(values), whole, inverse: { order: integers(order), starts: integers(starts) } };
}

/** The host's tables for a stream of cells: which rows make a cell, who owns a row, and an index with its inverse. */

import { TILE } from "../kernels/attention.ts";
import { NOBODY } from "../kernels/segment.ts";
import { integers, type Tensor } from "./tensor.ts";

/**
 * Cells in a stream of N rows, one after the other. Rows beyond the last cell are the dead tail: attention gives them zeros, means leave them out.
 * Tables are padded to capacities, so that every batch of a training run has the same shapes.
 */
export interface Segments {
  /** Rows in the stream, the tail included. */
  readonly rows: number;
  /** Cells, those of length 0 that fill the capacity included. */
  readonly count: number;
  /** u32 [count, 2]: each cell's first row, and the row after its last. */
  readonly spans: Tensor;
  /** u32 [rows]: the cell a row belongs to, or NOBODY. */
  readonly owner: Tensor;
  /** u32 [tiles, 4]: query tiles for attention, as kernels/attention.ts reads them: first row, row after the last, and the cell's span. */
  readonly tiles: Tensor;
}

export interface Capacities {
  /** Rows of the stream. */
  readonly rows?: number;
  readonly cells?: number;
  /** Attention tiles. */
  readonly tiles?: number;
}

/** The tiles of cells of some lengths in a stream of `rows`, the tail's included. */
export function tilesOf(lengths: readonly number[], rows: number): number[] {
  const tiles: number[] = [];
  const cut = (from: number, to: number, dead: boolean) => {
    for (let row = from; row < to; row += TILE) tiles.push(row, Math.min(row + TILE, to), dead ? 0 : from, dead ? 0 : to);
  };
  let from = 0;
  for (const length of lengths) {
    cut(from, from + length, false);
    from += length;
  }
  cut(from, rows, true);
  return tiles;
}

/** The most tiles that cells of any lengths can take in a stream: every cell, and the tail, may waste a part of one. */
export const mostTiles = (rows: number, cells: number): number => Math.ceil(rows / TILE) + cells + 1;

/**
 * Tables for cells of the given lengths.
 * @throws RangeError when they do not fit the capacities.
 */
export function segments(lengths: readonly number[], capacities: Capacities = {}): Segments {
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
  let from = 0;
  lengths.forEach((length, cell) => {
    spans.set([from, from + length], 2 * cell);
    owner.fill(cell, from, from + length);
    from += length;
  });
  const made = tilesOf(lengths, rows);
  const tiles = new Uint32Array(4 * (capacities.tiles ?? made.length / 4));
  if (made.length > tiles.length)
    throw new RangeError(`segments(lengths): ${made.length / 4} attention tiles do not fit ${tiles.length / 4}`);
  tiles.set(made);
  return { rows, count, spans: integers(spans, [count, 2]), owner: integers(owner), tiles: integers(tiles, [tiles.length / 4, 4]) };
}

/** Which part of each cell a mean is taken over: its rows without `head` first and `tail` last ones, such as <cls> and <eos>. */
export function inner(lengths: readonly number[], head: number, tail: number, capacities: Capacities = {}): Segments {
  const whole = segments(lengths, capacities);
  if (head === 0 && tail === 0) return whole;
  const spans = new Uint32Array(2 * whole.count);
  const owner = new Uint32Array(whole.rows).fill(NOBODY);
  let from = 0;
  lengths.forEach((length, cell) => {
    const [first, last] = [from + head, Math.max(from + head, from + length - tail)];
    spans.set([first, last], 2 * cell);
    owner.fill(cell, first, last);
    from += length;
  });
  whole.spans.write(spans);
  whole.owner.write(owner);
  return whole;
}

/** An index into rows, with its inverse: made on the host, so that adding gradients up again needs no atomics. */
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

/**
 * An index of places into a table of `rows`.
 * @param count places that count: those after it read their row and give it no gradient (the dead tail). Default: all.
 * @param frozen a row that gets no gradient, as PyTorch's padding_idx.
 * @param gradients false leaves the inverse out, where nothing will be added up again.
 * @throws RangeError for a value that is not a row.
 */
export function index(values: ArrayLike<number>, rows: number, { count = values.length, frozen = -1, gradients = true } = {}): Index {
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

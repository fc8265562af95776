/** Rows by index, their sums, and the inverse of an index (kernels/gather.ts): words are copied, sums added up in f32 in the loops' order: the same bits. */

import { min, PANEL } from "./panel";
import { put, take } from "./row";

export function gather(x: usize, index: usize, y: usize, rows: u32, cols: u32, whole: u32): void {
  const step = usize(cols) * 4;
  for (let i: u32 = 0; i < rows; i++) {
    const row = load<u32>(index + usize(i) * 4);
    if (row < whole) memory.copy(y, x + step * row, step);
    else memory.fill(y, 0, step);
    y += step;
  }
}

/** Fewer rows than so many are shared among threads by their columns, as `split` in kernels/gather.ts. */
const FEW: u32 = 64;

/** Rows `first` to `end`; where there are few of them, of each those panels of 16 columns. */
export function gatherSum(x: usize, order: usize, starts: usize, y: usize, rows: u32, cols: u32, first: u32, end: u32): void {
  const step = usize(cols) * 4;
  const byColumn = rows < FEW;
  const from = byColumn ? first * PANEL : 0;
  const to = byColumn ? min(cols, end * PANEL) : cols;
  const last = byColumn ? rows : end;
  for (let row: u32 = byColumn ? 0 : first; row < last; row++) {
    const out = y + step * row;
    memory.fill(out + usize(from) * 4, 0, usize(to - from) * 4);
    const after = load<u32>(starts + usize(row) * 4, 4);
    for (let j = load<u32>(starts + usize(row) * 4); j < after; j++) {
      const given = x + step * load<u32>(order + usize(j) * 4);
      for (let col = from; col < to; col += 4) {
        const at = usize(col) * 4;
        put(out + at, f32x4.add(take(out + at, to - col), take(given + at, to - col)), to - col);
      }
    }
  }
}

/** A counting sort, which needs no base: counts add up to starts; each place then takes the next start of its row. */
export function invert(index: usize, order: usize, starts: usize, n: u32, rows: u32, _base: u32): void {
  memory.fill(starts, 0, usize(rows) * 4 + 4);
  for (let j: u32 = 0; j < n; j++) {
    const row = load<u32>(index + usize(j) * 4);
    const at = starts + usize(row) * 4;
    if (row < rows) store<u32>(at, load<u32>(at, 4) + 1, 4);
  }
  for (let row: u32 = 0; row < rows; row++) {
    const at = starts + usize(row) * 4;
    store<u32>(at, load<u32>(at) + load<u32>(at, 4), 4);
  }
  for (let j: u32 = 0; j < n; j++) {
    const row = load<u32>(index + usize(j) * 4);
    if (row >= rows) continue;
    const at = starts + usize(row) * 4;
    const to = load<u32>(at);
    store<u32>(order + usize(to) * 4, j);
    store<u32>(at, to + 1);
  }
  memory.copy(starts + 4, starts, usize(rows) * 4); // each start has moved on to the next row's
  store<u32>(starts, 0);
}

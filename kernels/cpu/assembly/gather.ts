/** Rows by index, and their sums (kernels/gather.ts), which are added up in f32 and in the loops' order: the same bits. */

import { put, take } from "./row";

export function gather(x: usize, index: usize, y: usize, rows: u32, cols: u32): void {
  const step = usize(cols) * 4;
  for (let i: u32 = 0; i < rows; i++) {
    memory.copy(y, x + step * load<u32>(index + usize(i) * 4), step);
    y += step;
  }
}

export function gatherSum(x: usize, order: usize, starts: usize, y: usize, rows: u32, cols: u32): void {
  const step = usize(cols) * 4;
  memory.fill(y, 0, step * rows);
  for (let row: u32 = 0; row < rows; row++) {
    const end = load<u32>(starts + usize(row) * 4, 4);
    for (let j = load<u32>(starts + usize(row) * 4); j < end; j++) {
      const from = x + step * load<u32>(order + usize(j) * 4);
      for (let col: u32 = 0; col < cols; col += 4) {
        const at = usize(col) * 4;
        put(y + at, f32x4.add(take(y + at, cols - col), take(from + at, cols - col)), cols - col);
      }
    }
    y += step;
  }
}

/** Sums over one axis of [outer, n, inner], and the sum of all squares (kernels/reduce.ts): in f64, so that only the result is rounded. */

import { pairs, putSums, squares, sumBytes, take, tallyRow, total } from "./row";

export function sumRows(x: usize, y: usize, rows: u32, cols: u32, scale: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, pairs(take(x + usize(j) * 4, cols - j)));
    store<f32>(y + usize(i) * 4, f32(f64(scale) * total(sum)));
    x += usize(cols) * 4;
  }
}

export function sumColumns(x: usize, y: usize, sums: usize, cols: u32, rows: u32, inner: u32, scale: f32): void {
  const step = usize(inner) * 4;
  for (let outer: u32 = 0; outer < cols; outer += inner) {
    memory.fill(sums, 0, sumBytes(inner));
    for (let row: u32 = 0; row < rows; row++) {
      tallyRow(sums, x, inner);
      x += step;
    }
    putSums(y, sums, scale, inner);
    y += step;
  }
}

/** Of its sizes only n counts here: `rows` and `cols` are those of the GPU's partial sums. */
export function sumSquares(x: usize, to: usize, rows: u32, cols: u32, n: u32, slot: u32): void {
  let sum = f64x2.splat(0);
  for (let i: u32 = 0; i < n; i += 4) sum = f64x2.add(sum, squares(take(x + usize(i) * 4, n - i)));
  store<f32>(to + usize(slot) * 4, f32(total(sum)));
}

/** The sum or the mean of each segment's rows, and its gradient (kernels/segment.ts); sums in f64. */

import { put, putSums, sumBytes, take, tallyRow } from "./row";

const NOBODY: u32 = 0xffffffff;

export function segmentSum(x: usize, spans: usize, y: usize, sums: usize, rows: u32, cols: u32, mean: bool): void {
  const step = usize(cols) * 4;
  for (let b: u32 = 0; b < rows; b++) {
    const from = load<u32>(spans + usize(b) * 8);
    const to = load<u32>(spans + usize(b) * 8, 4);
    memory.fill(sums, 0, sumBytes(cols));
    for (let row = from; row < to; row++) tallyRow(sums, x + step * row, cols);
    putSums(y, sums, mean && to > from ? 1 / f64(to - from) : 1, cols);
    y += step;
  }
}

export function segmentSumGrad(dy: usize, spans: usize, owner: usize, dx: usize, rows: u32, cols: u32, mean: bool): void {
  const step = usize(cols) * 4;
  for (let i: u32 = 0; i < rows; i++) {
    const b = load<u32>(owner + usize(i) * 4);
    if (b == NOBODY) memory.fill(dx, 0, step);
    else if (!mean) memory.copy(dx, dy + step * b, step);
    else {
      const from = dy + step * b;
      const span = spans + usize(b) * 8;
      const length = f32x4.splat(f32(load<u32>(span, 4) - load<u32>(span)));
      for (let j: u32 = 0; j < cols; j += 4) put(dx + usize(j) * 4, f32x4.div(take(from + usize(j) * 4, cols - j), length), cols - j);
    }
    dx += step;
  }
}

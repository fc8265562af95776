/** The sum, the mean and the largest of each segment's rows, and their gradients (kernels/segment.ts); sums in f64. */

import { put, putSums, sumBytes, take, tally } from "./row";

const NOBODY: u32 = 0xffffffff;

export function segmentSum(x: usize, spans: usize, y: usize, sums: usize, rows: u32, cols: u32, mean: bool): void {
  const step = usize(cols) * 4;
  for (let b: u32 = 0; b < rows; b++) {
    const from = load<u32>(spans + usize(b) * 8);
    const to = load<u32>(spans + usize(b) * 8, 4);
    memory.fill(sums, 0, sumBytes(cols));
    if (to > from) tally(sums, x + step * from, step, to - from, cols);
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

export function segmentMax(x: usize, spans: usize, y: usize, ties: usize, rows: u32, cols: u32): void {
  const step = usize(cols) * 4;
  const nan = f32x4.splat(NaN);
  for (let b: u32 = 0; b < rows; b++) {
    const from = load<u32>(spans + usize(b) * 8);
    const to = load<u32>(spans + usize(b) * 8, 4);
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      const left = cols - j;
      let most = f32x4.splat(from < to ? -Infinity : 0);
      let count = i32x4.splat(0);
      for (let row = from; row < to; row++) {
        const next = take(x + step * row + at, left);
        const more = f32x4.gt(next, most);
        const lost = v128.or(f32x4.ne(next, next), f32x4.ne(most, most));
        count = i32x4.sub(v128.andnot(count, more), v128.or(more, f32x4.eq(next, most))); // masks are -1
        most = v128.bitselect(nan, v128.bitselect(next, most, more), lost);
        count = v128.andnot(count, lost);
      }
      put(y + at, most, left);
      put(ties + at, count, left);
    }
    y += step;
    ties += step;
  }
}

export function segmentMaxGrad(x: usize, y: usize, ties: usize, owner: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  const step = usize(cols) * 4;
  for (let i: u32 = 0; i < rows; i++) {
    const b = load<u32>(owner + usize(i) * 4);
    if (b == NOBODY) memory.fill(dx, 0, step);
    else {
      const row = step * b;
      for (let j: u32 = 0; j < cols; j += 4) {
        const at = usize(j) * 4;
        const left = cols - j;
        const d = v128.and(take(dy + row + at, left), f32x4.eq(take(x + at, left), take(y + row + at, left)));
        put(dx + at, f32x4.div(d, f32x4.convert_i32x4_u(take(ties + row + at, left))), left);
      }
    }
    x += step;
    dx += step;
  }
}

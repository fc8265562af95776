/** Softmax of each row, its logarithm, the logarithm of the sum under it, and their gradients (kernels/softmax.ts); sums in f64. */

import { putExponentials, sumExponentials } from "./exponentials";
import { foremost } from "./reduce";
import { largest, pairs, put, take, total } from "./row";

/** A row without any number above -Infinity, or with NaN or Infinity in it, becomes NaN, as in the loops. */
export function softmax(x: usize, y: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const share = f32x4.splat(f32(1 / sumExponentials(x, cols, largest(x, cols), y)));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = y + usize(j) * 4;
      put(at, f32x4.mul(take(at, cols - j), share), cols - j);
    }
    x += usize(cols) * 4;
    y += usize(cols) * 4;
  }
}

export function softmaxGrad(y: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      sum = f64x2.add(sum, pairs(f32x4.mul(take(dy + at, cols - j), take(y + at, cols - j))));
    }
    const dot = f32x4.splat(f32(total(sum)));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      put(dx + at, f32x4.mul(take(y + at, cols - j), f32x4.sub(take(dy + at, cols - j), dot)), cols - j);
    }
    y += usize(cols) * 4;
    dy += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

/** As softmax, a row without any number above -Infinity, or with NaN or Infinity in it, becomes NaN. */
export function logSoftmax(x: usize, y: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const most = largest(x, cols);
    const m = f32x4.splat(most);
    const log = f32x4.splat(f32(Math.log(sumExponentials(x, cols, most, 0))));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      put(y + at, f32x4.sub(f32x4.sub(take(x + at, cols - j), m), log), cols - j);
    }
    x += usize(cols) * 4;
    y += usize(cols) * 4;
  }
}

export function logSoftmaxGrad(y: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, pairs(take(dy + usize(j) * 4, cols - j)));
    putExponentials(y, cols, 0, f32(-total(sum)), dy, 1, dx);
    y += usize(cols) * 4;
    dy += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

/** m + log sum_j e^(x[j] - m): m itself where that is no finite number. */
export function logSumExp(x: usize, y: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const m = foremost(x, cols, false);
    const finite = abs(m) < Infinity;
    store<f32>(y + usize(i) * 4, finite ? f32(f64(m) + Math.log(sumExponentials(x, cols, m, 0))) : m);
    x += usize(cols) * 4;
  }
}

export function logSumExpGrad(x: usize, y: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const sum = load<f32>(y + usize(i) * 4);
    putExponentials(x, cols, sum == -Infinity ? 0 : sum, load<f32>(dy + usize(i) * 4), 0, 0, dx);
    x += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

/**
 * Sums over one axis of [outer, n, inner], and the sum of all squares (kernels/reduce.ts); the variance of rows (kernels/variance.ts): in f64, so
 * that only the result is rounded. The largest and the least of rows (kernels/extreme.ts).
 */

import { pairs, put, putSums, squares, sumBytes, take, tallyRow, total } from "./row";

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

/** `means` keeps each row's mean, as f32: what the gradient takes off. */
export function variance(x: usize, y: usize, means: usize, rows: u32, cols: u32, scale: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, pairs(take(x + usize(j) * 4, cols - j)));
    const mean = f32(total(sum) / f64(cols));
    sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) {
      sum = f64x2.add(sum, squares(f32x4.sub(take(x + usize(j) * 4, cols - j, mean), f32x4.splat(mean))));
    }
    store<f32>(y + usize(i) * 4, f32(f64(scale) * total(sum)));
    store<f32>(means + usize(i) * 4, mean);
    x += usize(cols) * 4;
  }
}

export function varianceGrad(x: usize, means: usize, dy: usize, dx: usize, rows: u32, cols: u32, scale: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const mean = v128.load_splat<f32>(means + usize(i) * 4);
    const d = f32x4.splat(2 * scale * load<f32>(dy + usize(i) * 4));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      put(dx + at, f32x4.mul(d, f32x4.sub(take(x + at, cols - j), mean)), cols - j);
    }
    x += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

/** The largest of n numbers, or the least; NaN, once met, stays. */
@inline
export function foremost(x: usize, n: u32, least: bool): f32 {
  const none: f32 = least ? Infinity : -Infinity;
  let m = f32x4.splat(none);
  for (let j: u32 = 0; j < n; j += 4) {
    const next = take(x + usize(j) * 4, n - j, none);
    m = least ? f32x4.min(m, next) : f32x4.max(m, next);
  }
  const other = v128.shuffle<f32>(m, m, 2, 3, 0, 1);
  m = least ? f32x4.min(m, other) : f32x4.max(m, other);
  const a = f32x4.extract_lane(m, 0);
  const b = f32x4.extract_lane(m, 1);
  return least ? min<f32>(a, b) : max<f32>(a, b);
}

export function extreme(x: usize, y: usize, rows: u32, cols: u32, least: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    store<f32>(y + usize(i) * 4, least ? foremost(x, cols, true) : foremost(x, cols, false));
    x += usize(cols) * 4;
  }
}

export function extremeGrad(x: usize, y: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const m = v128.load_splat<f32>(y + usize(i) * 4);
    let count: u32 = 0;
    for (let j: u32 = 0; j < cols; j += 4) {
      count += popcnt<u32>(i32x4.bitmask(f32x4.eq(take(x + usize(j) * 4, cols - j, NaN), m)));
    }
    const share = f32x4.splat(load<f32>(dy + usize(i) * 4) / f32(count));
    const rest = f32x4.splat(count ? 0 : NaN);
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      put(dx + at, v128.bitselect(share, rest, f32x4.eq(take(x + at, cols - j), m)), cols - j);
    }
    x += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

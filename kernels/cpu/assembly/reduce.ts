/**
 * Sums over one axis of [outer, n, inner], and the sum of all squares (kernels/reduce.ts); the variance of rows (kernels/variance.ts): in f64, so
 * that only the result is rounded. The largest and the least of rows, and their places (kernels/extreme.ts).
 */

import { min, PANEL } from "./panel";
import { pairs, put, putSums, squares, sumBytes, take, tally, total } from "./row";

export function sumRows(x: usize, y: usize, rows: u32, cols: u32, scale: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, pairs(take(x + usize(j) * 4, cols - j)));
    store<f32>(y + usize(i) * 4, f32(f64(scale) * total(sum)));
    x += usize(cols) * 4;
  }
}

/** Of all panels of 16 columns, counted through all matrices, those from `first` to before `end`. */
export function sumColumns(
  x: usize, y: usize, sums: usize, cols: u32, rows: u32, inner: u32, scale: f32, first: u32, end: u32,
): void {
  const panels = (inner + (PANEL - 1)) / PANEL;
  const step = usize(inner) * 4;
  while (first < end) {
    const outer = usize(first / panels);
    const from = (first % panels) * PANEL;
    const columns = min(inner - from, (end - first) * PANEL);
    memory.fill(sums, 0, sumBytes(columns));
    tally(sums, x + (outer * rows * inner + from) * 4, step, rows, columns);
    putSums(y + (outer * inner + from) * 4, sums, scale, columns);
    first += (columns + (PANEL - 1)) / PANEL;
  }
}

/** Parts of `sumSquares`, whatever their length. */
const PARTS: u32 = 256;

/** Each of the parts `first` to `end` leaves an f64 in `sums`. Of its sizes only n counts here: `rows` and `cols` are those of the GPU's partial sums. */
export function sumSquares(
  x: usize, to: usize, sums: usize, rows: u32, cols: u32, n: u32, slot: u32, first: u32, end: u32,
): void {
  const length = (n / PARTS + 4) & ~3; // some of the last parts may be empty
  for (let part = first; part < end; part++) {
    let a = f64x2.splat(0);
    let b = a;
    const from = min(n, part * length);
    let at = x + usize(from) * 4;
    let left = min(n - from, length);
    for (; left >= 8; left -= 8) {
      a = f64x2.add(a, squares(v128.load(at)));
      b = f64x2.add(b, squares(v128.load(at, 16)));
      at += 32;
    }
    for (; i32(left) > 0; left -= 4) {
      a = f64x2.add(a, squares(take(at, left)));
      at += 16;
    }
    store<f64>(sums + usize(part) * 8, total(f64x2.add(a, b)));
  }
}

/** What the parts come to. */
export function sumSquaresParts(
  x: usize, to: usize, sums: usize, rows: u32, cols: u32, n: u32, slot: u32, first: u32, end: u32,
): void {
  let sum: f64 = 0;
  for (let part: u32 = 0; part < PARTS; part++) sum += load<f64>(sums + usize(part) * 8);
  store<f32>(to + usize(slot) * 4, f32(sum));
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

@inline
function further(a: v128, b: v128, least: bool): v128 {
  return least ? f32x4.min(a, b) : f32x4.max(a, b);
}

/** The largest of n numbers, or the least; NaN, once met, stays. */
@inline
export function foremost(x: usize, n: u32, least: bool): f32 {
  const none: f32 = least ? Infinity : -Infinity;
  let m = f32x4.splat(none);
  let other = m;
  let left = n;
  for (; left >= 8; left -= 8) {
    m = further(m, v128.load(x), least);
    other = further(other, v128.load(x, 16), least);
    x += 32;
  }
  for (; i32(left) > 0; left -= 4) {
    m = further(m, take(x, left, none), least);
    x += 16;
  }
  m = further(m, other, least);
  m = further(m, v128.shuffle<f32>(m, m, 2, 3, 0, 1), least);
  const a = f32x4.extract_lane(m, 0);
  const b = f32x4.extract_lane(m, 1);
  return least ? Mathf.min(a, b) : Mathf.max(a, b);
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

/** The first that equals the extreme, or the first NaN. */
export function extremePlace(x: usize, place: usize, rows: u32, cols: u32, least: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const m = least ? foremost(x, cols, true) : foremost(x, cols, false);
    const wanted = f32x4.splat(m);
    let at: u32 = 0;
    for (let j: u32 = 0; j < cols; j += 4) {
      const next = take(x + usize(j) * 4, cols - j, least ? Infinity : -Infinity);
      const found = i32x4.bitmask(m == m ? f32x4.eq(next, wanted) : f32x4.ne(next, next));
      if (found) {
        at = j + ctz<u32>(found);
        break;
      }
    }
    store<u32>(place + usize(i) * 4, at);
    x += usize(cols) * 4;
  }
}

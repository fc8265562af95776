/** Layer norm of each row, and its gradients (kernels/layernorm.ts); sums in f64. */

import { min, PANEL } from "./panel";
import { high, low, pairs, put, putSums, squares, sumBytes, take, TOGETHER, total } from "./row";

/** One row. */
export function normalise(x: usize, weight: usize, bias: usize, y: usize, stats: usize, cols: u32, eps: f32): void {
  const n = f64(cols);
  let sum = f64x2.splat(0);
  for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, pairs(take(x + usize(j) * 4, cols - j)));
  const mean = f32(total(sum) / n);
  sum = f64x2.splat(0);
  for (let j: u32 = 0; j < cols; j += 4) {
    const d = f32x4.sub(take(x + usize(j) * 4, cols - j, mean), f32x4.splat(mean));
    sum = f64x2.add(sum, squares(d));
  }
  const r = f32(1 / Math.sqrt(total(sum) / n + f64(eps)));
  for (let j: u32 = 0; j < cols; j += 4) {
    const at = usize(j) * 4;
    const left = cols - j;
    const xhat = f32x4.mul(f32x4.sub(take(x + at, left), f32x4.splat(mean)), f32x4.splat(r));
    put(y + at, f32x4.add(f32x4.mul(xhat, take(weight + at, left)), take(bias + at, left)), left);
  }
  store<f32>(stats, mean);
  store<f32>(stats, r, 4);
}

export function layerNorm(x: usize, weight: usize, bias: usize, y: usize, stats: usize, rows: u32, cols: u32, eps: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    normalise(x, weight, bias, y, stats, cols, eps);
    stats += 8;
    x += usize(cols) * 4;
    y += usize(cols) * 4;
  }
}

export function layerNormGrad(x: usize, weight: usize, stats: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  const n = f64(cols);
  for (let i: u32 = 0; i < rows; i++) {
    const mean = v128.load_splat<f32>(stats);
    const r = v128.load_splat<f32>(stats, 4);
    let sum = f64x2.splat(0);
    let sumX = sum;
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      const left = cols - j;
      const g = f32x4.mul(take(dy + at, left), take(weight + at, left));
      sum = f64x2.add(sum, pairs(g));
      sumX = f64x2.add(sumX, pairs(f32x4.mul(g, f32x4.mul(f32x4.sub(take(x + at, left), mean), r))));
    }
    const meanG = f32x4.splat(f32(total(sum) / n));
    const meanGx = f32x4.splat(f32(total(sumX) / n));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      const left = cols - j;
      const g = f32x4.mul(take(dy + at, left), take(weight + at, left));
      const xhat = f32x4.mul(f32x4.sub(take(x + at, left), mean), r);
      put(dx + at, f32x4.mul(r, f32x4.sub(f32x4.sub(g, meanG), f32x4.mul(xhat, meanGx))), left);
    }
    stats += 8;
    x += usize(cols) * 4;
    dy += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

/** Of panels of 16 columns, those from `first` to before `end`. `sums`: those of the columns for the weight, then for the bias. */
export function layerNormGradWeights(
  x: usize, stats: usize, dy: usize, dweight: usize, dbias: usize, sums: usize, rows: u32, cols: u32, first: u32, end: u32,
): void {
  const from = usize(first) * PANEL * 4;
  const columns = min(cols, end * PANEL) - first * PANEL;
  const bytes = sumBytes(columns);
  const step = usize(cols) * 4;
  x += from;
  dy += from;
  memory.fill(sums, 0, 2 * bytes);
  for (let row: u32 = 0; row < rows; row += TOGETHER) {
    const last = min(rows - row, TOGETHER);
    for (let j: u32 = 0; j < columns; j += 4) {
      const at = sums + usize(j) * 8;
      let w0 = v128.load(at);
      let w1 = v128.load(at, 16);
      let b0 = v128.load(at + bytes);
      let b1 = v128.load(at + bytes, 16);
      let place = usize(j) * 4;
      let stat = stats;
      for (let i: u32 = 0; i < last; i++) {
        const d = take(dy + place, columns - j);
        const xhat = f32x4.mul(f32x4.sub(take(x + place, columns - j), v128.load_splat<f32>(stat)), v128.load_splat<f32>(stat, 4));
        const share = f32x4.mul(d, xhat);
        w0 = f64x2.add(w0, low(share));
        w1 = f64x2.add(w1, high(share));
        b0 = f64x2.add(b0, low(d));
        b1 = f64x2.add(b1, high(d));
        place += step;
        stat += 8;
      }
      v128.store(at, w0);
      v128.store(at, w1, 16);
      v128.store(at + bytes, b0);
      v128.store(at + bytes, b1, 16);
    }
    x += step * last;
    dy += step * last;
    stats += 8 * usize(last);
  }
  putSums(dweight + from, sums, 1, columns);
  putSums(dbias + from, sums + bytes, 1, columns);
}

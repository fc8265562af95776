/** Layer norm of each row, and its gradients (kernels/layernorm.ts); sums in f64. */

import { pairs, put, putSums, squares, sumBytes, take, tally, total } from "./row";

export function layerNorm(x: usize, weight: usize, bias: usize, y: usize, stats: usize, rows: u32, cols: u32, eps: f32): void {
  const n = f64(cols);
  for (let i: u32 = 0; i < rows; i++) {
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

/** `sums`: those of all columns for the weight, then for the bias. */
export function layerNormGradWeights(x: usize, stats: usize, dy: usize, dweight: usize, dbias: usize, sums: usize, rows: u32, cols: u32): void {
  const bytes = sumBytes(cols);
  memory.fill(sums, 0, 2 * bytes);
  for (let i: u32 = 0; i < rows; i++) {
    const mean = v128.load_splat<f32>(stats);
    const r = v128.load_splat<f32>(stats, 4);
    for (let j: u32 = 0; j < cols; j += 4) {
      const d = take(dy + usize(j) * 4, cols - j);
      const xhat = f32x4.mul(f32x4.sub(take(x + usize(j) * 4, cols - j), mean), r);
      const at = sums + usize(j) * 8;
      tally(at, f32x4.mul(d, xhat));
      tally(at + bytes, d);
    }
    stats += 8;
    x += usize(cols) * 4;
    dy += usize(cols) * 4;
  }
  putSums(dweight, sums, 1, cols);
  putSums(dbias, sums + bytes, 1, cols);
}

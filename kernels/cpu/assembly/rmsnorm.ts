/** Root mean square norm of each row, and its gradients (kernels/rmsnorm.ts); sums in f64. */

import { pairs, put, putSums, squares, sumBytes, take, tally, total } from "./row";

export function rmsNorm(x: usize, weight: usize, y: usize, scales: usize, rows: u32, cols: u32, eps: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, squares(take(x + usize(j) * 4, cols - j)));
    const r = f32(1 / Math.sqrt(total(sum) / f64(cols) + f64(eps)));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      put(y + at, f32x4.mul(f32x4.mul(take(x + at, cols - j), f32x4.splat(r)), take(weight + at, cols - j)), cols - j);
    }
    store<f32>(scales + usize(i) * 4, r);
    x += usize(cols) * 4;
    y += usize(cols) * 4;
  }
}

export function rmsNormGrad(x: usize, weight: usize, scales: usize, dy: usize, dx: usize, rows: u32, cols: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const r = v128.load_splat<f32>(scales + usize(i) * 4);
    let sum = f64x2.splat(0);
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      const g = f32x4.mul(take(dy + at, cols - j), take(weight + at, cols - j));
      sum = f64x2.add(sum, pairs(f32x4.mul(g, f32x4.mul(take(x + at, cols - j), r))));
    }
    const mean = f32x4.splat(f32(total(sum) / f64(cols)));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      const g = f32x4.mul(take(dy + at, cols - j), take(weight + at, cols - j));
      const xhat = f32x4.mul(take(x + at, cols - j), r);
      put(dx + at, f32x4.mul(r, f32x4.sub(g, f32x4.mul(xhat, mean))), cols - j);
    }
    x += usize(cols) * 4;
    dy += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

export function rmsNormGradWeight(x: usize, scales: usize, dy: usize, dweight: usize, sums: usize, rows: u32, cols: u32): void {
  memory.fill(sums, 0, sumBytes(cols));
  for (let i: u32 = 0; i < rows; i++) {
    const r = v128.load_splat<f32>(scales + usize(i) * 4);
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      tally(sums + usize(j) * 8, f32x4.mul(take(dy + at, cols - j), f32x4.mul(take(x + at, cols - j), r)));
    }
    x += usize(cols) * 4;
    dy += usize(cols) * 4;
  }
  putSums(dweight, sums, 1, cols);
}

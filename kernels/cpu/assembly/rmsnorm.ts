/** Root mean square norm of each row, and its gradients (kernels/rmsnorm.ts); sums in f64. */

import { min, PANEL } from "./panel";
import { high, low, pairs, put, putSums, squares, sumBytes, take, TOGETHER, total } from "./row";

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

/** Of panels of 16 columns, those from `first` to before `end`. */
export function rmsNormGradWeight(
  x: usize, scales: usize, dy: usize, dweight: usize, sums: usize, rows: u32, cols: u32, first: u32, end: u32,
): void {
  const from = usize(first) * PANEL * 4;
  const columns = min(cols, end * PANEL) - first * PANEL;
  const step = usize(cols) * 4;
  x += from;
  dy += from;
  memory.fill(sums, 0, sumBytes(columns));
  for (let row: u32 = 0; row < rows; row += TOGETHER) {
    const last = min(rows - row, TOGETHER);
    for (let j: u32 = 0; j < columns; j += 4) {
      const at = sums + usize(j) * 8;
      let a = v128.load(at);
      let b = v128.load(at, 16);
      let place = usize(j) * 4;
      for (let i: u32 = 0; i < last; i++) {
        const xhat = f32x4.mul(take(x + place, columns - j), v128.load_splat<f32>(scales + usize(i) * 4));
        const share = f32x4.mul(take(dy + place, columns - j), xhat);
        a = f64x2.add(a, low(share));
        b = f64x2.add(b, high(share));
        place += step;
      }
      v128.store(at, a);
      v128.store(at, b, 16);
    }
    x += step * last;
    dy += step * last;
    scales += 4 * usize(last);
  }
  putSums(dweight + from, sums, 1, columns);
}

/** The cosine between rows, and its gradient (kernels/cosine.ts); sums and products in f64. */

import { products, put, take, total } from "./row";

/** a . b of a row. */
@inline
function dot(a: usize, b: usize, cols: u32): f64 {
  let sum = f64x2.splat(0);
  for (let j: u32 = 0; j < cols; j += 4) sum = f64x2.add(sum, products(take(a + usize(j) * 4, cols - j), take(b + usize(j) * 4, cols - j)));
  return total(sum);
}

export function cosine(a: usize, b: usize, y: usize, rows: u32, cols: u32, eps: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const norm = Math.sqrt(dot(a, a, cols)) * Math.sqrt(dot(b, b, cols));
    store<f32>(y + usize(i) * 4, f32(dot(a, b, cols) / Math.max(norm, eps)));
    a += usize(cols) * 4;
    b += usize(cols) * 4;
  }
}

export function cosineGrad(a: usize, b: usize, dy: usize, da: usize, rows: u32, cols: u32, eps: f32): void {
  for (let i: u32 = 0; i < rows; i++) {
    const d = f64(load<f32>(dy + usize(i) * 4));
    const aa = dot(a, a, cols);
    const norm = Math.sqrt(aa) * Math.sqrt(dot(b, b, cols));
    const scale = f32x4.splat(f32(d / Math.max(norm, eps)));
    const back = f32x4.splat(f32(norm > eps ? (d * dot(a, b, cols)) / norm / aa : 0));
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = usize(j) * 4;
      const left = cols - j;
      put(da + at, f32x4.sub(f32x4.mul(scale, take(b + at, left)), f32x4.mul(back, take(a + at, left))), left);
    }
    a += usize(cols) * 4;
    b += usize(cols) * 4;
    da += usize(cols) * 4;
  }
}

/** One step of AdamW or Adam (kernels/adamw.ts), in f32; its few constants in f64. */

import { put, take } from "./row";

/** Bytes of a row of `hyper`: ten numbers. */
const ROW: usize = 40;

export function adamw(g: usize, hyper: usize, clip: usize, w: usize, m: usize, v: usize, n: u32, slot: u32): void {
  if (load<f32>(clip, 4) < 0) return; // a step to be skipped
  const row = hyper + usize(slot) * ROW;
  const lr = f64(load<f32>(row));
  const b1 = v128.load_splat<f32>(row, 4);
  const b2 = v128.load_splat<f32>(row, 8);
  const eps = v128.load_splat<f32>(row, 12);
  const d1 = v128.load_splat<f32>(row, 24);
  const d2 = v128.load_splat<f32>(row, 28);
  const rate = f32x4.splat(f32(lr / f64(load<f32>(row, 16))));
  const root = f32x4.splat(f32(1 / Math.sqrt(load<f32>(row, 20))));
  const shrink = f32x4.splat(f32(lr * f64(load<f32>(row, 32))));
  const l2 = v128.load_splat<f32>(row, 36);
  const scale = v128.load_splat<f32>(clip, 4);
  for (let i: u32 = 0; i < n; i += 4) {
    const at = usize(i) * 4;
    const left = n - i;
    const wi = take(w + at, left);
    const gi = f32x4.add(f32x4.mul(take(g + at, left), scale), f32x4.mul(l2, wi));
    const mi = f32x4.add(f32x4.mul(b1, take(m + at, left)), f32x4.mul(d1, gi));
    const vi = f32x4.add(f32x4.mul(b2, take(v + at, left)), f32x4.mul(f32x4.mul(d2, gi), gi));
    put(m + at, mi, left);
    put(v + at, vi, left);
    const step = f32x4.div(f32x4.mul(rate, mi), f32x4.add(f32x4.mul(f32x4.sqrt(vi), root), eps));
    // w - (lr decay w + step), not w (1 - lr decay) - step: 1 - lr decay would lose most of lr decay's digits
    put(w + at, f32x4.sub(wi, f32x4.add(f32x4.mul(shrink, wi), step)), left);
  }
}

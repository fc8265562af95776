/** One step of gradient descent (kernels/sgd.ts), in f32; without momentum m is 0. */

import { put, take } from "./row";

/** Bytes of a row of `hyper`: six numbers. */
const ROW: usize = 24;

export function sgd(g: usize, hyper: usize, clip: usize, w: usize, m: usize, n: u32, slot: u32): void {
  if (load<f32>(clip, 4) < 0) return; // a step to be skipped
  const row = hyper + usize(slot) * ROW;
  const lr = v128.load_splat<f32>(row);
  const decay = v128.load_splat<f32>(row, 4);
  const momentum = v128.load_splat<f32>(row, 8);
  const share = v128.load_splat<f32>(row, 12);
  const direct = v128.load_splat<f32>(row, 16);
  const held = v128.load_splat<f32>(row, 20);
  const scale = v128.load_splat<f32>(clip, 4);
  for (let i: u32 = 0; i < n; i += 4) {
    const at = usize(i) * 4;
    const left = n - i;
    const wi = take(w + at, left);
    let gi = f32x4.add(f32x4.mul(take(g + at, left), scale), f32x4.mul(decay, wi));
    if (m) {
      const mi = f32x4.add(f32x4.mul(momentum, take(m + at, left)), f32x4.mul(share, gi));
      put(m + at, mi, left);
      gi = f32x4.add(f32x4.mul(direct, gi), f32x4.mul(held, mi));
    }
    put(w + at, f32x4.sub(wi, f32x4.mul(lr, gi)), left);
  }
}

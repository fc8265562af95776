/** A residual, dropped or not, and the layer norm of the sum (kernels/addnorm.ts): the draws of dropout's loops, sums in f64. */

import { normalise } from "./layernorm";
import { draw, DRAWN } from "./random";
import { put, take } from "./row";
import { threefry } from "./vector";

/** Rows `first` up to `end`. */
export function addNorm(
  x: usize, r: usize, weight: usize, bias: usize, h: usize, y: usize, stats: usize, rows: u32, cols: u32, eps: f32, first: u32, end: u32,
): void {
  for (let i = first; i < end; i++) {
    const row = usize(i) * cols * 4;
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = row + usize(j) * 4;
      put(h + at, f32x4.add(take(x + at, cols - j), take(r + at, cols - j)), cols - j);
    }
    normalise(h + row, weight, bias, y + row, stats + usize(i) * 8, cols, eps);
  }
}

export function addNormDropped(
  x: usize, r: usize, weight: usize, bias: usize, key: usize, h: usize, y: usize, stats: usize, words: usize,
  rows: u32, cols: u32, eps: f32, threshold: u32, scale: f32, site0: u32, site1: u32, first: u32, end: u32,
): void {
  const bits = words + 2 * DRAWN;
  threefry(load<u32>(key), load<u32>(key, 4), site0, site1, words, 1);
  const key0 = load<u32>(words);
  const key1 = load<u32>(words, 32);
  for (let i = first; i < end; i++) {
    const start = i * cols;
    const inBlock = start & 3; // a row may begin amid a block
    const row = usize(start) * 4;
    for (let i: u32 = 0; i < inBlock + cols; i += DRAWN) draw(key0, key1, (start + i) >> 2, words, bits + usize(i) * 2);
    for (let j: u32 = 0; j < cols; j += 4) {
      const at = row + usize(j) * 4;
      const kept = i32x4.ge_s(v128.load_ext<u16>(bits + usize(inBlock + j) * 2), i32x4.splat(threshold));
      const dropped = v128.and(kept, f32x4.mul(take(r + at, cols - j), f32x4.splat(scale)));
      put(h + at, f32x4.add(take(x + at, cols - j), dropped), cols - j);
    }
    normalise(h + row, weight, bias, y + row, stats + usize(i) * 8, cols, eps);
  }
}

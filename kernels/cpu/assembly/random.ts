/** Dropout (kernels/random.ts): the same draws and the same bits as its loops. */

import { min } from "./panel";
import { put, take } from "./row";
import { threefry } from "./vector";

/** The 16 draws of four blocks from `block` on, of 16 bits each, in their order. `words`: room for the two words of those blocks, which may be where they go. */
@inline
export function draw(key0: u32, key1: u32, block: u32, words: usize, to: usize): void {
  threefry(key0, key1, i32x4.add(i32x4.splat(block), i32x4(0, 1, 2, 3)), i32x4.splat(0), words, 1);
  const a = v128.load(words);
  const b = v128.load(words, 16);
  // both words of a block side by side: four quarters
  v128.store(to, v128.shuffle<i32>(a, b, 0, 4, 1, 5));
  v128.store(to, v128.shuffle<i32>(a, b, 2, 6, 3, 7), 16);
}

/** Of the sixteens of n numbers, those from `first` to before `end`. `bits`: room for the two words of four blocks, which are the draws of 16 numbers. */
export function dropout(
  x: usize, key: usize, y: usize, bits: usize, n: u32, threshold: u32, scale: f32, site0: u32, site1: u32, first: u32, end: u32,
): void {
  threefry(load<u32>(key), load<u32>(key, 4), i32x4.splat(site0), i32x4.splat(site1), bits, 1);
  const key0 = load<u32>(bits);
  const key1 = load<u32>(bits, 16);
  const last = min(n, end * 16);
  for (let i = first * 16; i < last; i += 16) {
    draw(key0, key1, i >> 2, bits, bits);
    for (let j = i; j < last && j - i < 16; j += 4) {
      const kept = i32x4.ge_s(v128.load_ext<u16>(bits + usize(j - i) * 2), i32x4.splat(threshold));
      const at = usize(j) * 4;
      put(y + at, v128.and(kept, f32x4.mul(take(x + at, n - j), f32x4.splat(scale))), n - j);
    }
  }
}

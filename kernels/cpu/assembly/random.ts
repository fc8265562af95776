/** Dropout (kernels/random.ts): the same draws and the same bits as its loops. */

import { min } from "./panel";
import { put, take } from "./row";
import { threefry } from "./vector";

/** Draws that are made at once, of 16 bits each: those of eight blocks. */
export const DRAWN: u32 = 32;

/** The draws of eight blocks from `block` on, in their order. `words`: room for the two words of those blocks, which may be where they go. */
@inline
export function draw(key0: u32, key1: u32, block: u32, words: usize, to: usize): void {
  threefry(key0, key1, block, 0, words, 1);
  const a0 = v128.load(words);
  const a1 = v128.load(words, 16);
  const b0 = v128.load(words, 32);
  const b1 = v128.load(words, 48);
  // both words of a block side by side: four quarters
  v128.store(to, v128.shuffle<i32>(a0, b0, 0, 4, 1, 5));
  v128.store(to, v128.shuffle<i32>(a0, b0, 2, 6, 3, 7), 16);
  v128.store(to, v128.shuffle<i32>(a1, b1, 0, 4, 1, 5), 32);
  v128.store(to, v128.shuffle<i32>(a1, b1, 2, 6, 3, 7), 48);
}

/** Of the groups of DRAWN of n numbers, those from `first` to before `end`. `bits`: room for their draws. */
export function dropout(
  x: usize, key: usize, y: usize, bits: usize, n: u32, threshold: u32, scale: f32, site0: u32, site1: u32, first: u32, end: u32,
): void {
  threefry(load<u32>(key), load<u32>(key, 4), site0, site1, bits, 1);
  const key0 = load<u32>(bits);
  const key1 = load<u32>(bits, 32);
  const last = min(n, end * DRAWN);
  for (let i = first * DRAWN; i < last; i += DRAWN) {
    draw(key0, key1, i >> 2, bits, bits);
    for (let j = i; j < last && j - i < DRAWN; j += 4) {
      const kept = i32x4.ge_s(v128.load_ext<u16>(bits + usize(j - i) * 2), i32x4.splat(threshold));
      const at = usize(j) * 4;
      put(y + at, v128.and(kept, f32x4.mul(take(x + at, n - j), f32x4.splat(scale))), n - j);
    }
  }
}

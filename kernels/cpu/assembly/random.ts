/** Dropout (kernels/random.ts): the same draws and the same bits as its loops. */

import { put, take } from "./row";
import { threefry } from "./vector";

/** `bits`: room for the two words of four blocks, which are the draws of 16 numbers. */
export function dropout(
  x: usize, key: usize, y: usize, bits: usize, n: u32, threshold: u32, scale: f32, site0: u32, site1: u32,
): void {
  threefry(load<u32>(key), load<u32>(key, 4), i32x4.splat(site0), i32x4.splat(site1), bits);
  const key0 = load<u32>(bits);
  const key1 = load<u32>(bits, 16);
  for (let i: u32 = 0; i < n; i += 16) {
    threefry(key0, key1, i32x4.add(i32x4.splat(i >> 2), i32x4(0, 1, 2, 3)), i32x4.splat(0), bits);
    const first = v128.load(bits);
    const second = v128.load(bits, 16);
    // both words of a block side by side: four quarters in the order in which they are drawn
    v128.store(bits, v128.shuffle<i32>(first, second, 0, 4, 1, 5));
    v128.store(bits, v128.shuffle<i32>(first, second, 2, 6, 3, 7), 16);
    for (let j = i; j < n && j - i < 16; j += 4) {
      const kept = i32x4.ge_s(v128.load_ext<u16>(bits + usize(j - i) * 2), i32x4.splat(threshold));
      const at = usize(j) * 4;
      put(y + at, v128.and(kept, f32x4.mul(take(x + at, n - j), f32x4.splat(scale))), n - j);
    }
  }
}

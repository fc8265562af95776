/**
 * Exponentials of a row, in numbers below its largest: their sum, and themselves (kernels/rows.ts). The constants are loaded once a row and stay in
 * registers: loaded anew for each vector they cost as much as all the rest.
 */

import { pairs, put, take, total } from "./row";
import { madd } from "./vector";

const NUMBERS = memory.data<f32>([
  1.44269504, // 1 / ln 2
  12583039, // 1.5 * 2^23 + 127: added to a number, its last bits are the nearest integer, and 127
  -0.693359375, 2.12194440e-4, // -ln 2 in two parts: n times the first is exact, since that has 9 bits (Cody and Waite 1980)
  0.0013814540579915047, 0.00836874544620514, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552, // e^r to 4e-9 (least squares, made even)
  1,
  -87.33, // where e^x leaves the normal numbers
]);

@inline
function number(i: usize): v128 {
  return v128.load_splat<f32>(NUMBERS + 4 * i);
}

/** e^x for x <= 88, and 0 where that is no normal number: below 2^-126. NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2. */
@inline
function falling(
  x: v128, log2e: v128, magic: v128, high: v128, low: v128, c6: v128, c5: v128, c4: v128, c3: v128, c2: v128, one: v128, least: v128,
): v128 {
  const shifted = madd(x, log2e, magic);
  const n = f32x4.sub(shifted, magic);
  const r = madd(n, low, madd(n, high, x));
  let e = madd(c6, r, c5);
  e = madd(e, r, c4);
  e = madd(e, r, c3);
  e = madd(e, r, c2);
  e = madd(e, r, one);
  e = madd(e, r, one);
  return v128.andnot(f32x4.mul(e, i32x4.shl(shifted, 23)), f32x4.lt(x, least));
}

/** The sum of e^(x - m) of n numbers, none of which is above m; each of them is written `to` where that is no 0. Sixteen at a time meet in f32, else all in f64. */
export function sumExponentials(x: usize, n: u32, m: f32, to: usize): f64 {
  const log2e = number(0);
  const magic = number(1);
  const high = number(2);
  const low = number(3);
  const c6 = number(4);
  const c5 = number(5);
  const c4 = number(6);
  const c3 = number(7);
  const c2 = number(8);
  const one = number(9);
  const least = number(10);
  const most = f32x4.splat(m);
  let sum = f64x2.splat(0);
  let left = n;
  for (; left >= 16; left -= 16) {
    const a = falling(f32x4.sub(v128.load(x), most), log2e, magic, high, low, c6, c5, c4, c3, c2, one, least);
    const b = falling(f32x4.sub(v128.load(x, 16), most), log2e, magic, high, low, c6, c5, c4, c3, c2, one, least);
    const c = falling(f32x4.sub(v128.load(x, 32), most), log2e, magic, high, low, c6, c5, c4, c3, c2, one, least);
    const d = falling(f32x4.sub(v128.load(x, 48), most), log2e, magic, high, low, c6, c5, c4, c3, c2, one, least);
    sum = f64x2.add(sum, pairs(f32x4.add(f32x4.add(a, b), f32x4.add(c, d))));
    if (to) {
      v128.store(to, a);
      v128.store(to, b, 16);
      v128.store(to, c, 32);
      v128.store(to, d, 48);
      to += 64;
    }
    x += 64;
  }
  for (; i32(left) > 0; left -= 4) {
    const e = falling(f32x4.sub(take(x, left, -Infinity), most), log2e, magic, high, low, c6, c5, c4, c3, c2, one, least);
    sum = f64x2.add(sum, pairs(e));
    if (to) {
      put(to, e, left);
      to += 16;
    }
    x += 16;
  }
  return total(sum);
}

/** y = a e^(x - m) + b z of n numbers, none of which is above m + 88; without z where its address is 0. */
export function putExponentials(x: usize, n: u32, m: f32, a: f32, z: usize, b: f32, y: usize): void {
  const log2e = number(0);
  const magic = number(1);
  const high = number(2);
  const low = number(3);
  const c6 = number(4);
  const c5 = number(5);
  const c4 = number(6);
  const c3 = number(7);
  const c2 = number(8);
  const one = number(9);
  const least = number(10);
  const most = f32x4.splat(m);
  const factor = f32x4.splat(a);
  const weight = f32x4.splat(b);
  for (let left = n; i32(left) > 0; left -= 4) {
    let e = falling(f32x4.sub(take(x, left), most), log2e, magic, high, low, c6, c5, c4, c3, c2, one, least);
    e = f32x4.mul(factor, e);
    if (z) {
      e = f32x4.add(e, f32x4.mul(weight, take(z, left)));
      z += 16;
    }
    put(y, e, left);
    x += 16;
    y += 16;
  }
}

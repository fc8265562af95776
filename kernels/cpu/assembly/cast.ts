/** Numbers in another dtype (kernels/cast.ts), four at a time, through f32; one number everywhere (kernels/fill.ts); how many are NaN (kernels/nans.ts). */

import { put, take } from "./row";

/** In the order of `DTYPES` in kernels/cast.ts. */
enum Dtype { f32, u32, i32, f16 }

/** Four halves as f32: 2^112 times the number that their bits, moved, stand for, subnormal ones too; Infinity and NaN have an exponent of ones. */
@inline
function fromHalf(bits: v128): v128 {
  const size = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13);
  const finite = f32x4.mul(size, f32x4.splat(5.192296858534828e33)); // 2^112
  const x = v128.bitselect(v128.or(size, i32x4.splat(0x7f800000)), finite, i32x4.ge_u(size, i32x4.splat(0x0f800000)));
  return v128.or(x, i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16));
}

/**
 * The halves nearest to four f32, ties to even. A normal one: its exponent made smaller by 112, and one less than half of what its last bit stands
 * for added, or that half where the bit is set. A subnormal one: 0.5 added to it leaves just its bits below those of 0.5.
 */
@inline
function toHalf(x: v128): v128 {
  const sign = v128.and(x, i32x4.splat(0x80000000));
  const size = v128.xor(x, sign);
  const odd = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(size, i32x4.splat(0xfff - (112 << 23))), odd), 13);
  const small = i32x4.sub(f32x4.add(size, f32x4.splat(0.5)), f32x4.splat(0.5));
  let half = v128.bitselect(small, normal, f32x4.lt(size, f32x4.splat(0.00006103515625))); // 2^-14
  half = v128.bitselect(i32x4.splat(0x7c00), half, f32x4.ge(size, f32x4.splat(65520)));
  half = v128.or(half, i32x4.shr_u(sign, 16));
  return v128.bitselect(i32x4.splat(0x7e00), half, f32x4.ne(x, x));
}

/** The next four of a dtype as f32. */
@inline
function read(source: Dtype, x: usize, i: u32, left: u32): v128 {
  if (source == Dtype.f16) {
    const at = x + usize(i) * 2;
    if (left >= 4) return fromHalf(v128.load_ext<u16>(at));
    let bits = i32x4.splat(load<u16>(at));
    if (left > 1) bits = i32x4.replace_lane(bits, 1, load<u16>(at, 2));
    if (left > 2) bits = i32x4.replace_lane(bits, 2, load<u16>(at, 4));
    return fromHalf(bits);
  }
  const words = take(x + usize(i) * 4, left);
  if (source == Dtype.u32) return f32x4.convert_i32x4_u(words);
  return source == Dtype.i32 ? f32x4.convert_i32x4_s(words) : words;
}

@inline
function write(target: Dtype, y: usize, i: u32, x: v128, left: u32): void {
  if (target == Dtype.f16) {
    const at = y + usize(i) * 2;
    const halves = toHalf(x);
    const packed = i16x8.narrow_i32x4_u(halves, halves);
    if (left >= 4) v128.store_lane<u64>(at, packed, 0);
    else {
      v128.store_lane<u16>(at, packed, 0);
      if (left > 1) v128.store_lane<u16>(at, packed, 1, 2);
      if (left > 2) v128.store_lane<u16>(at, packed, 2, 4);
    }
    return;
  }
  let words = x;
  if (target == Dtype.u32) words = i32x4.trunc_sat_f32x4_u(x);
  if (target == Dtype.i32) words = i32x4.trunc_sat_f32x4_s(x);
  put(y + usize(i) * 4, words, left);
}

@inline
function convert(source: Dtype, target: Dtype, x: usize, y: usize, n: u32): void {
  for (let i: u32 = 0; i < n; i += 4) write(target, y, i, read(source, x, i, n - i), n - i);
}

@inline
function convertFrom(source: Dtype, target: Dtype, x: usize, y: usize, n: u32): void {
  switch (target) {
    case Dtype.f32: return convert(source, Dtype.f32, x, y, n);
    case Dtype.u32: return convert(source, Dtype.u32, x, y, n);
    case Dtype.i32: return convert(source, Dtype.i32, x, y, n);
    default: return convert(source, Dtype.f16, x, y, n);
  }
}

/** Between integers the bits stay, as they do where both are the same. */
export function cast(x: usize, y: usize, n: u32, source: Dtype, target: Dtype): void {
  const words = source != Dtype.f16 && target != Dtype.f16;
  if (words && (source == target || (source != Dtype.f32 && target != Dtype.f32))) {
    memory.copy(y, x, usize(n) * 4);
    return;
  }
  switch (source) {
    case Dtype.f32: return convertFrom(Dtype.f32, target, x, y, n);
    case Dtype.u32: return convertFrom(Dtype.u32, target, x, y, n);
    case Dtype.i32: return convertFrom(Dtype.i32, target, x, y, n);
    default: return convertFrom(Dtype.f16, target, x, y, n);
  }
}

/** `value` is one of the dtype's, which an f64 holds. */
export function fill(y: usize, n: u32, value: f64, dtype: Dtype): void {
  const all = dtype == Dtype.f32 ? f32x4.splat(f32(value)) : i32x4.splat(u32(i64(value)));
  if (!v128.any_true(all)) {
    memory.fill(y, 0, usize(n) * 4);
    return;
  }
  for (let i: u32 = 0; i < n; i += 4) put(y + usize(i) * 4, all, n - i);
}

export function nans(x: usize, counts: usize, n: u32, slot: u32): void {
  let count: u32 = 0;
  for (let i: u32 = 0; i < n; i += 4) {
    const next = take(x + usize(i) * 4, n - i);
    count += popcnt<u32>(i32x4.bitmask(f32x4.ne(next, next)));
  }
  store<u32>(counts + usize(slot) * 4, count);
}

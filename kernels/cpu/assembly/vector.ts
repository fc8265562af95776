/** Functions of four numbers at once: the exponential, and Threefry's random bits. */

/** a b + c, rounded once in the builds for engines that can, and faster by a third; else twice. */
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Numbers of `exp`, as data: a load that fills a vector is one instruction, where a vector literal costs an engine several. */
const NUMBERS = memory.data<f32>([
  -87.33, 88.37, // where 2^n leaves the normal numbers
  1.44269504, // 1 / ln 2
  12582912, // 1.5 * 2^23: added to a number, its last bits are the nearest integer
  0.693359375, -2.12194440e-4, // ln 2 in two parts: n times the first is exact, since that has 9 bits (Cody and Waite 1980)
  1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1,
  -105, 89, // where e^x has become 0 and Infinity
]);

@inline
function number(i: usize): v128 {
  return v128.load_splat<f32>(NUMBERS + 4 * i);
}

/** e^r of x = n ln 2 + r with |r| <= ln 2 / 2, where eight terms of the series leave less than 2^-27 out; `shifted` holds n in its last bits. */
@inline
function fraction(x: v128, shifted: v128): v128 {
  const n = f32x4.sub(shifted, number(3));
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(n, number(4))), f32x4.mul(n, number(5)));
  let e = madd(number(6), r, number(7));
  e = madd(e, r, number(8));
  e = madd(e, r, number(9));
  e = madd(e, r, number(10));
  e = madd(e, r, number(11));
  e = madd(e, r, number(12));
  return madd(e, r, number(12));
}

/** 2^n by its bits: n moved up to the exponent, above 23 bits of fraction, and added to that of 1 (IEEE 754). */
@inline
function powerOf(n: v128): v128 {
  return i32x4.add(i32x4.shl(n, 23), number(12));
}

/** e^x = 2^n e^r. Never below 2^-126; NaN stays NaN. */
@inline
export function exp(x: v128): v128 {
  x = f32x4.pmin(f32x4.pmax(x, number(0)), number(1));
  const shifted = f32x4.add(f32x4.mul(x, number(2)), number(3));
  return f32x4.mul(fraction(x, shifted), powerOf(shifted));
}

/** e^x wherever f32 holds it: past its ends subnormal numbers, 0 and Infinity. 2^n in two factors, as n may be no exponent of f32. */
@inline
export function wideExp(x: v128): v128 {
  x = f32x4.pmin(f32x4.pmax(x, number(13)), number(14));
  const shifted = f32x4.add(f32x4.mul(x, number(2)), number(3));
  const n = i32x4.sub(shifted, number(3));
  const half = i32x4.shr_s(n, 1);
  return f32x4.mul(f32x4.mul(fraction(x, shifted), powerOf(half)), powerOf(i32x4.sub(n, half)));
}

/** Numbers of `fade`: 1.5 * 2^23 + 127; 2^f for |f| <= 1/2 to 2e-9 (least squares of the relative error, made even); where it ends. */
const POWERS = memory.data<f32>([
  12583039, 0.00015353360504377633, 0.0013398875016719103, 0.00961843691766262, 0.055503323674201965, 0.24022647738456726, 0.6931471824645996, 1,
  -72.1347520, // 50 log2 e
]);

@inline
function power(i: usize): v128 {
  return v128.load_splat<f32>(POWERS + 4 * i);
}

/**
 * x = 2^(x factor + shift) of 8 numbers at a time, `step` bytes apart, up to `end`; shift and `sum`, which gets what they add up to, are addresses of 8
 * numbers. Below e^-50 it is 0: beside probabilities that sum to 1 that is 2e-22, nothing to an f32, and what it is multiplied with would soon be
 * subnormal, which a CPU computes a hundred times slower. NaN stays NaN.
 */
export function fade(at: usize, end: usize, step: usize, factor: f32, shift: usize, sum: usize): void {
  const factors = f32x4.splat(factor);
  const c0 = power(0);
  const c1 = power(1);
  const c2 = power(2);
  const c3 = power(3);
  const c4 = power(4);
  const c5 = power(5);
  const c6 = power(6);
  const c7 = power(7);
  const least = power(8);
  const shift0 = v128.load(shift);
  const shift1 = v128.load(shift, 16);
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  for (; at < end; at += step) {
    const x0 = madd(v128.load(at), factors, shift0);
    const x1 = madd(v128.load(at, 16), factors, shift1);
    const shifted0 = f32x4.add(x0, c0); // its last bits are the nearest integer n, and 127
    const shifted1 = f32x4.add(x1, c0);
    const f0 = f32x4.sub(x0, f32x4.sub(shifted0, c0));
    const f1 = f32x4.sub(x1, f32x4.sub(shifted1, c0));
    let e0 = madd(c1, f0, c2);
    let e1 = madd(c1, f1, c2);
    e0 = madd(e0, f0, c3);
    e1 = madd(e1, f1, c3);
    e0 = madd(e0, f0, c4);
    e1 = madd(e1, f1, c4);
    e0 = madd(e0, f0, c5);
    e1 = madd(e1, f1, c5);
    e0 = madd(e0, f0, c6);
    e1 = madd(e1, f1, c6);
    e0 = madd(e0, f0, c7);
    e1 = madd(e1, f1, c7);
    e0 = v128.andnot(f32x4.mul(e0, i32x4.shl(shifted0, 23)), f32x4.lt(x0, least));
    e1 = v128.andnot(f32x4.mul(e1, i32x4.shl(shifted1, 23)), f32x4.lt(x1, least));
    v128.store(at, e0);
    v128.store(at, e1, 16);
    sum0 = f32x4.add(sum0, e0);
    sum1 = f32x4.add(sum1, e1);
  }
  v128.store(sum, sum0);
  v128.store(sum, sum1, 16);
}

@inline
function turn(x: v128, y: v128, distance: i32): v128 {
  return v128.xor(v128.or(i32x4.shl(x, distance), i32x4.shr_u(x, 32 - distance)), y);
}

const COUNTERS = memory.data<u32>([0, 1, 2, 3, 4, 5, 6, 7]);

/**
 * Threefry-2x32-20 (kernels/random.ts) of eight counters (x + 0 ... 7, y) under one key, and of so many more with y + 1, y + 2, ...: of each y the eight
 * first words, then the eight second ones.
 */
export function threefry(key0: u32, key1: u32, x: u32, y: u32, to: usize, count: u32): void {
  const k0 = i32x4.splat(key0);
  const k1 = i32x4.splat(key1);
  const k2 = i32x4.splat(key0 ^ key1 ^ 0x1bd11bda);
  const first0 = i32x4.add(i32x4.splat(key0 + x), v128.load(COUNTERS));
  const first1 = i32x4.add(i32x4.splat(key0 + x), v128.load(COUNTERS, 16));
  for (const end = to + 64 * usize(count); to < end; to += 64) {
    let x0 = first0;
    let x1 = first1;
    let y0 = i32x4.splat(key1 + y++);
    let y1 = y0;
    // written out, as a loop would choose rotations and keys as it runs: four rounds, then words s and s + 1 of the schedule k0, k1, k2, k0, ...
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 13);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 13);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 15);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 15);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 26);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 26);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 6);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 6);
    x0 = i32x4.add(x0, k1); y0 = i32x4.add(i32x4.add(y0, k2), i32x4.splat(1));
    x1 = i32x4.add(x1, k1); y1 = i32x4.add(i32x4.add(y1, k2), i32x4.splat(1));
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 17);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 17);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 29);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 29);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 16);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 16);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 24);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 24);
    x0 = i32x4.add(x0, k2); y0 = i32x4.add(i32x4.add(y0, k0), i32x4.splat(2));
    x1 = i32x4.add(x1, k2); y1 = i32x4.add(i32x4.add(y1, k0), i32x4.splat(2));
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 13);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 13);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 15);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 15);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 26);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 26);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 6);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 6);
    x0 = i32x4.add(x0, k0); y0 = i32x4.add(i32x4.add(y0, k1), i32x4.splat(3));
    x1 = i32x4.add(x1, k0); y1 = i32x4.add(i32x4.add(y1, k1), i32x4.splat(3));
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 17);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 17);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 29);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 29);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 16);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 16);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 24);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 24);
    x0 = i32x4.add(x0, k1); y0 = i32x4.add(i32x4.add(y0, k2), i32x4.splat(4));
    x1 = i32x4.add(x1, k1); y1 = i32x4.add(i32x4.add(y1, k2), i32x4.splat(4));
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 13);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 13);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 15);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 15);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 26);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 26);
    x0 = i32x4.add(x0, y0); y0 = turn(y0, x0, 6);
    x1 = i32x4.add(x1, y1); y1 = turn(y1, x1, 6);
    x0 = i32x4.add(x0, k2); y0 = i32x4.add(i32x4.add(y0, k0), i32x4.splat(5));
    x1 = i32x4.add(x1, k2); y1 = i32x4.add(i32x4.add(y1, k0), i32x4.splat(5));
    v128.store(to, x0);
    v128.store(to, x1, 16);
    v128.store(to, y0, 32);
    v128.store(to, y1, 48);
  }
}

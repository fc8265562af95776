/** Elementwise maps, and zips of two or three that may stretch. What takes a few instructions rounds as f32 does at each step. */

import { AXES, inOrder, layOut, still, writeAxes } from "./axes";
import { min } from "./panel";
import { put, take } from "./row";
import { exp as normalExp, wideExp } from "./vector";

/** In the order of the tables in kernels/elementwise.ts, which give a variant its number. */
enum Unary {
  neg, exp, log, sqrt, rsqrt, square, abs, tanh, sigmoid, relu, gelu, geluTanh, silu, softplus,
}

enum Binary {
  add, sub, mul, div, pow, maximum, minimum, equal, notEqual, less, lessEqual, greater, greaterEqual,
  sqrtGrad, rsqrtGrad, absGrad, squareGrad, tanhGrad, reluGrad, geluGrad, sigmoidGrad, siluGrad, softplusGrad, geluTanhGrad, reciprocalGrad,
}

enum Ternary {
  where, maximumGrad, minimumGrad, powGradBase, powGradExponent,
}

const HALF: f32 = 0.70710678;
const DENSITY: f32 = 0.39894228; // 1 / sqrt(2 pi)
const BEND: f32 = 1.5957691; // 2 sqrt(2 / pi)
const CUBE: f32 = 0.044715;

/** Coefficients of the series below, from the highest power down. */
const ERF = memory.data<f32>([
  1.0 / 76204800, -1.0 / 6894720, 1.0 / 685440, -1.0 / 75600, 1.0 / 9360, -1.0 / 1320, 1.0 / 216, -1.0 / 42, 1.0 / 10, -1.0 / 3, 1,
]);
const TAIL = memory.data<f32>([1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592]);
const TANH = memory.data<f32>([-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1, 1]);
const ARTANH = memory.data<f32>([1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1]);

/** The polynomial of x with n coefficients (Horner's rule). */
@inline
function polynomial(coefficients: usize, n: usize, x: v128): v128 {
  let sum = v128.load_splat<f32>(coefficients);
  for (let i: usize = 1; i < n; i++) sum = f32x4.add(f32x4.mul(sum, x), v128.load_splat<f32>(coefficients + 4 * i));
  return sum;
}

@inline
function one(): v128 {
  return f32x4.splat(1);
}

@inline
function times(a: f32, x: v128): v128 {
  return f32x4.mul(f32x4.splat(a), x);
}

/** 1 where the mask is set, else 0. */
@inline
function truth(mask: v128): v128 {
  return v128.and(mask, one());
}

/** x with the sign of y. */
@inline
function signed(x: v128, y: v128): v128 {
  return v128.bitselect(y, x, i32x4.splat(0x80000000));
}

/** e^-|x| */
@inline
function decay(x: v128): v128 {
  return wideExp(f32x4.neg(f32x4.abs(x)));
}

@inline
function sigmoidOf(x: v128): v128 {
  const e = decay(x);
  return f32x4.div(v128.bitselect(one(), e, f32x4.ge(x, f32x4.splat(0))), f32x4.add(one(), e));
}

@inline
function sigmoidSlope(x: v128): v128 {
  const e = decay(x);
  const sum = f32x4.add(one(), e);
  return f32x4.div(e, f32x4.mul(sum, sum));
}

/** The error function by the formulas of kernels/elementwise.ts. */
@inline
function erf(v: v128): v128 {
  const x = f32x4.abs(v);
  const s = f32x4.mul(x, x);
  const near = f32x4.mul(times(1.1283791670955126, x), polynomial(ERF, 11, s));
  const t = f32x4.div(one(), f32x4.add(one(), times(0.3275911, x)));
  const fall = normalExp(f32x4.neg(f32x4.pmin(s, f32x4.splat(80))));
  const far = f32x4.sub(one(), f32x4.mul(f32x4.mul(t, polynomial(TAIL, 5, t)), fall));
  return signed(v128.bitselect(near, far, f32x4.lt(x, one())), v);
}

@inline
function tanhOf(x: v128): v128 {
  const size = f32x4.abs(x);
  const near = f32x4.mul(x, polynomial(TANH, 6, f32x4.mul(x, x)));
  const e = wideExp(times(-2, size));
  const far = signed(f32x4.div(f32x4.sub(one(), e), f32x4.add(one(), e)), x);
  return v128.bitselect(near, far, f32x4.lt(size, f32x4.splat(0.625)));
}

@inline
function softplusOf(x: v128): v128 {
  const e = decay(x);
  const s = f32x4.div(e, f32x4.add(f32x4.splat(2), e));
  return f32x4.add(f32x4.pmax(x, f32x4.splat(0)), f32x4.mul(f32x4.add(s, s), polynomial(ARTANH, 8, f32x4.mul(s, s))));
}

/** x^2, but no more than 1e4. */
@inline
function limited(x: v128): v128 {
  return f32x4.pmin(f32x4.mul(x, x), f32x4.splat(1e4));
}

@inline
function bend(x: v128): v128 {
  return f32x4.mul(times(BEND, x), f32x4.add(one(), times(CUBE, limited(x))));
}

@inline
function bendSlope(x: v128): v128 {
  return times(BEND, f32x4.add(one(), times(3 * CUBE, limited(x))));
}

/** By the library's functions for one number, which take their logarithms in f64 (musl's logf and powf). */
@inline
function logOf(x: v128): v128 {
  let y = f32x4.splat(Mathf.log(f32x4.extract_lane(x, 0)));
  y = f32x4.replace_lane(y, 1, Mathf.log(f32x4.extract_lane(x, 1)));
  y = f32x4.replace_lane(y, 2, Mathf.log(f32x4.extract_lane(x, 2)));
  return f32x4.replace_lane(y, 3, Mathf.log(f32x4.extract_lane(x, 3)));
}

function powOf(x: v128, y: v128): v128 {
  let z = f32x4.splat(Mathf.pow(f32x4.extract_lane(x, 0), f32x4.extract_lane(y, 0)));
  z = f32x4.replace_lane(z, 1, Mathf.pow(f32x4.extract_lane(x, 1), f32x4.extract_lane(y, 1)));
  z = f32x4.replace_lane(z, 2, Mathf.pow(f32x4.extract_lane(x, 2), f32x4.extract_lane(y, 2)));
  return f32x4.replace_lane(z, 3, Mathf.pow(f32x4.extract_lane(x, 3), f32x4.extract_lane(y, 3)));
}

/** f(x): `op` is a constant wherever this is inlined, and the choice gone. */
@inline
function unary(op: Unary, x: v128): v128 {
  switch (op) {
    case Unary.neg: return f32x4.neg(x);
    case Unary.exp: return wideExp(x);
    case Unary.log: return logOf(x);
    case Unary.sqrt: return f32x4.sqrt(x);
    case Unary.rsqrt: return f32x4.div(one(), f32x4.sqrt(x));
    case Unary.square: return f32x4.mul(x, x);
    case Unary.abs: return f32x4.abs(x);
    case Unary.tanh: return tanhOf(x);
    case Unary.sigmoid: return sigmoidOf(x);
    case Unary.gelu: return f32x4.mul(times(0.5, x), f32x4.add(one(), erf(times(HALF, x))));
    case Unary.geluTanh: return f32x4.mul(x, sigmoidOf(bend(x)));
    case Unary.silu: return f32x4.mul(x, sigmoidOf(x));
    case Unary.softplus: return softplusOf(x);
    default: return f32x4.pmax(x, f32x4.splat(0)); // relu: x < 0 ? 0 : x, so that NaN stays
  }
}

/** f(x, y) */
@inline
function binary(op: Binary, x: v128, y: v128): v128 {
  switch (op) {
    case Binary.add: return f32x4.add(x, y);
    case Binary.sub: return f32x4.sub(x, y);
    case Binary.mul: return f32x4.mul(x, y);
    case Binary.div: return f32x4.div(x, y);
    case Binary.pow: return powOf(x, y);
    case Binary.maximum: return f32x4.max(x, y);
    case Binary.minimum: return f32x4.min(x, y);
    case Binary.equal: return truth(f32x4.eq(x, y));
    case Binary.notEqual: return truth(f32x4.ne(x, y));
    case Binary.less: return truth(f32x4.lt(x, y));
    case Binary.lessEqual: return truth(f32x4.le(x, y));
    case Binary.greater: return truth(f32x4.gt(x, y));
    case Binary.greaterEqual: return truth(f32x4.ge(x, y));
    case Binary.sqrtGrad: return f32x4.div(times(0.5, y), x);
    case Binary.rsqrtGrad: return f32x4.mul(f32x4.mul(f32x4.mul(times(-0.5, y), x), x), x);
    case Binary.absGrad: return v128.and(v128.xor(y, v128.and(x, i32x4.splat(0x80000000))), f32x4.gt(f32x4.abs(x), f32x4.splat(0)));
    case Binary.squareGrad: return f32x4.mul(f32x4.add(x, x), y);
    case Binary.tanhGrad: return f32x4.mul(y, f32x4.sub(one(), f32x4.mul(x, x)));
    case Binary.reluGrad: return v128.and(y, f32x4.gt(x, f32x4.splat(0)));
    case Binary.geluGrad: {
      const share = times(0.5, f32x4.add(one(), erf(times(HALF, x))));
      return f32x4.mul(y, f32x4.add(share, f32x4.mul(times(DENSITY, x), wideExp(f32x4.mul(times(-0.5, x), x)))));
    }
    case Binary.sigmoidGrad: return f32x4.mul(y, sigmoidSlope(x));
    case Binary.siluGrad: return f32x4.mul(y, f32x4.add(sigmoidOf(x), f32x4.mul(x, sigmoidSlope(x))));
    case Binary.softplusGrad: return f32x4.mul(y, sigmoidOf(x));
    case Binary.geluTanhGrad: {
      const v = bend(x);
      return f32x4.mul(y, f32x4.add(sigmoidOf(v), f32x4.mul(f32x4.mul(x, sigmoidSlope(v)), bendSlope(x))));
    }
    default: return f32x4.div(f32x4.div(f32x4.neg(y), x), x); // reciprocalGrad
  }
}

/** f(x, y, w) */
@inline
function ternary(op: Ternary, x: v128, y: v128, w: v128): v128 {
  const zero = f32x4.splat(0);
  switch (op) {
    case Ternary.where: return v128.bitselect(y, w, f32x4.ne(x, zero));
    case Ternary.maximumGrad: return v128.andnot(v128.bitselect(times(0.5, w), w, f32x4.eq(x, y)), f32x4.lt(x, y));
    case Ternary.minimumGrad: return v128.andnot(v128.bitselect(times(0.5, w), w, f32x4.eq(x, y)), f32x4.gt(x, y));
    case Ternary.powGradBase: return v128.andnot(f32x4.mul(w, f32x4.mul(y, powOf(x, f32x4.sub(y, one())))), f32x4.eq(y, zero));
    default: { // powGradExponent
      const none = v128.and(f32x4.eq(x, zero), f32x4.ge(y, zero));
      return v128.andnot(f32x4.mul(w, f32x4.mul(powOf(x, y), logOf(x))), none);
    }
  }
}

@inline
function mapOf(op: Unary, a: usize, z: usize, n: u32): void {
  for (const most = z + (usize(n) & ~3) * 4; z < most; z += 16) {
    v128.store(z, unary(op, v128.load(a)));
    a += 16;
  }
  if (n & 3) put(z, unary(op, take(a, n & 3)), n & 3);
}

@inline
function zipOf(op: Binary, a: usize, b: usize, z: usize, n: u32): void {
  for (const most = z + (usize(n) & ~3) * 4; z < most; z += 16) {
    v128.store(z, binary(op, v128.load(a), v128.load(b)));
    a += 16;
    b += 16;
  }
  if (n & 3) put(z, binary(op, take(a, n & 3), take(b, n & 3)), n & 3);
}

@inline
function zipThreeOf(op: Ternary, a: usize, b: usize, d: usize, z: usize, n: u32): void {
  for (let i: u32 = 0; i < n; i += 4) {
    const at = usize(i) * 4;
    put(z + at, ternary(op, take(a + at, n - i), take(b + at, n - i), take(d + at, n - i)), n - i);
  }
}

/** A loop for each, so that the choice is made once. */
export function map(a: usize, z: usize, n: u32, op: Unary): void {
  switch (op) {
    case Unary.neg: return mapOf(Unary.neg, a, z, n);
    case Unary.exp: return mapOf(Unary.exp, a, z, n);
    case Unary.log: return mapOf(Unary.log, a, z, n);
    case Unary.sqrt: return mapOf(Unary.sqrt, a, z, n);
    case Unary.rsqrt: return mapOf(Unary.rsqrt, a, z, n);
    case Unary.square: return mapOf(Unary.square, a, z, n);
    case Unary.abs: return mapOf(Unary.abs, a, z, n);
    case Unary.tanh: return mapOf(Unary.tanh, a, z, n);
    case Unary.sigmoid: return mapOf(Unary.sigmoid, a, z, n);
    case Unary.relu: return mapOf(Unary.relu, a, z, n);
    case Unary.gelu: return mapOf(Unary.gelu, a, z, n);
    case Unary.geluTanh: return mapOf(Unary.geluTanh, a, z, n);
    case Unary.silu: return mapOf(Unary.silu, a, z, n);
    case Unary.softplus: return mapOf(Unary.softplus, a, z, n);
  }
}

export function zip(a: usize, b: usize, z: usize, n: u32, op: Binary): void {
  switch (op) {
    case Binary.add: return zipOf(Binary.add, a, b, z, n);
    case Binary.sub: return zipOf(Binary.sub, a, b, z, n);
    case Binary.mul: return zipOf(Binary.mul, a, b, z, n);
    case Binary.div: return zipOf(Binary.div, a, b, z, n);
    case Binary.pow: return zipOf(Binary.pow, a, b, z, n);
    case Binary.maximum: return zipOf(Binary.maximum, a, b, z, n);
    case Binary.minimum: return zipOf(Binary.minimum, a, b, z, n);
    case Binary.equal: return zipOf(Binary.equal, a, b, z, n);
    case Binary.notEqual: return zipOf(Binary.notEqual, a, b, z, n);
    case Binary.less: return zipOf(Binary.less, a, b, z, n);
    case Binary.lessEqual: return zipOf(Binary.lessEqual, a, b, z, n);
    case Binary.greater: return zipOf(Binary.greater, a, b, z, n);
    case Binary.greaterEqual: return zipOf(Binary.greaterEqual, a, b, z, n);
    case Binary.sqrtGrad: return zipOf(Binary.sqrtGrad, a, b, z, n);
    case Binary.rsqrtGrad: return zipOf(Binary.rsqrtGrad, a, b, z, n);
    case Binary.absGrad: return zipOf(Binary.absGrad, a, b, z, n);
    case Binary.squareGrad: return zipOf(Binary.squareGrad, a, b, z, n);
    case Binary.tanhGrad: return zipOf(Binary.tanhGrad, a, b, z, n);
    case Binary.reluGrad: return zipOf(Binary.reluGrad, a, b, z, n);
    case Binary.geluGrad: return zipOf(Binary.geluGrad, a, b, z, n);
    case Binary.sigmoidGrad: return zipOf(Binary.sigmoidGrad, a, b, z, n);
    case Binary.siluGrad: return zipOf(Binary.siluGrad, a, b, z, n);
    case Binary.softplusGrad: return zipOf(Binary.softplusGrad, a, b, z, n);
    case Binary.geluTanhGrad: return zipOf(Binary.geluTanhGrad, a, b, z, n);
    case Binary.reciprocalGrad: return zipOf(Binary.reciprocalGrad, a, b, z, n);
  }
}

function three(a: usize, b: usize, d: usize, z: usize, n: u32, op: Ternary): void {
  switch (op) {
    case Ternary.where: return zipThreeOf(Ternary.where, a, b, d, z, n);
    case Ternary.maximumGrad: return zipThreeOf(Ternary.maximumGrad, a, b, d, z, n);
    case Ternary.minimumGrad: return zipThreeOf(Ternary.minimumGrad, a, b, d, z, n);
    case Ternary.powGradBase: return zipThreeOf(Ternary.powGradBase, a, b, d, z, n);
    case Ternary.powGradExponent: return zipThreeOf(Ternary.powGradExponent, a, b, d, z, n);
  }
}

/** Numbers of a block: each operand that does not lie in z's order is laid out so, a block at a time, and stays in the cache. */
const BLOCK: u32 = 1024;
/** Bytes of an operand: its axes, and a block. */
const ROOM: usize = AXES + 4096;

/** Where numbers `i` and on of an operand lie in z's order; `fresh` when nothing was laid out yet. */
@inline
function laid(x: usize, room: usize, n: u32, i: u32, count: u32, fresh: bool): usize {
  if (inOrder(room, n)) return x + usize(i) * 4;
  const block = room + AXES;
  if (still(room, n)) {
    if (fresh) layOut(x, room, 0, min(BLOCK, n), block);
  } else layOut(x, room, i, i + count, block);
  return block;
}

/** Of z's numbers those from `first` to before `end`. */
export function zipBroadcast(
  a: usize, b: usize, z: usize, room: usize,
  n: u32, n1: u32, n2: u32, n3: u32, n4: u32,
  a0: u32, a1: u32, a2: u32, a3: u32, a4: u32, b0: u32, b1: u32, b2: u32, b3: u32, b4: u32,
  op: Binary, first: u32, end: u32,
): void {
  const roomB = room + ROOM;
  writeAxes(room, n, n1, n2, n3, n4, a0, a1, a2, a3, a4);
  writeAxes(roomB, n, n1, n2, n3, n4, b0, b1, b2, b3, b4);
  for (let i = first; i < end; i += BLOCK) {
    const count = min(BLOCK, end - i);
    const fresh = i == first;
    zip(laid(a, room, n, i, count, fresh), laid(b, roomB, n, i, count, fresh), z + usize(i) * 4, count, op);
  }
}

export function zipThree(
  a: usize, b: usize, d: usize, z: usize, room: usize,
  n: u32, n1: u32, n2: u32, n3: u32, n4: u32,
  a0: u32, a1: u32, a2: u32, a3: u32, a4: u32, b0: u32, b1: u32, b2: u32, b3: u32, b4: u32, d0: u32, d1: u32, d2: u32, d3: u32, d4: u32,
  op: Ternary, first: u32, end: u32,
): void {
  const roomB = room + ROOM;
  const roomD = roomB + ROOM;
  writeAxes(room, n, n1, n2, n3, n4, a0, a1, a2, a3, a4);
  writeAxes(roomB, n, n1, n2, n3, n4, b0, b1, b2, b3, b4);
  writeAxes(roomD, n, n1, n2, n3, n4, d0, d1, d2, d3, d4);
  for (let i = first; i < end; i += BLOCK) {
    const count = min(BLOCK, end - i);
    const fresh = i == first;
    const x = laid(a, room, n, i, count, fresh);
    const y = laid(b, roomB, n, i, count, fresh);
    three(x, y, laid(d, roomD, n, i, count, fresh), z + usize(i) * 4, count, op);
  }
}

export function clamp(a: usize, z: usize, n: u32, low: f32, high: f32): void {
  for (let i: u32 = 0; i < n; i += 4) {
    const x = take(a + usize(i) * 4, n - i);
    put(z + usize(i) * 4, f32x4.pmin(f32x4.pmax(x, f32x4.splat(low)), f32x4.splat(high)), n - i); // what is NaN stays
  }
}

export function clampGrad(a: usize, dz: usize, da: usize, n: u32, low: f32, high: f32): void {
  for (let i: u32 = 0; i < n; i += 4) {
    const at = usize(i) * 4;
    const x = take(a + at, n - i);
    const inside = v128.and(f32x4.ge(x, f32x4.splat(low)), f32x4.le(x, f32x4.splat(high)));
    put(da + at, v128.and(inside, take(dz + at, n - i)), n - i);
  }
}

/** Elementwise maps and zips of equal shapes. Those that take a few instructions round as f32 does at each step. */

import { put, take } from "./row";
import { exp as normalExp, wideExp } from "./vector";

enum Op {
  add, sub, mul, div, maximum, minimum, equal, notEqual, less, lessEqual, greater, greaterEqual,
  sqrtGrad, rsqrtGrad, squareGrad, absGrad, tanhGrad, reluGrad, geluGrad, sigmoidGrad, siluGrad, softplusGrad, geluTanhGrad, reciprocalGrad,
  neg, square, sqrt, rsqrt, abs, relu, exp, tanh, sigmoid, gelu, geluTanh, silu, softplus,
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

/** f(x, y), or f(x): `op` is a constant wherever this is inlined, and the choice gone. */
@inline
function apply(op: Op, x: v128, y: v128): v128 {
  switch (op) {
    case Op.add: return f32x4.add(x, y);
    case Op.sub: return f32x4.sub(x, y);
    case Op.mul: return f32x4.mul(x, y);
    case Op.div: return f32x4.div(x, y);
    case Op.maximum: return f32x4.max(x, y);
    case Op.minimum: return f32x4.min(x, y);
    case Op.equal: return truth(f32x4.eq(x, y));
    case Op.notEqual: return truth(f32x4.ne(x, y));
    case Op.less: return truth(f32x4.lt(x, y));
    case Op.lessEqual: return truth(f32x4.le(x, y));
    case Op.greater: return truth(f32x4.gt(x, y));
    case Op.greaterEqual: return truth(f32x4.ge(x, y));
    case Op.sqrtGrad: return f32x4.div(times(0.5, y), x);
    case Op.rsqrtGrad: return f32x4.mul(f32x4.mul(f32x4.mul(times(-0.5, y), x), x), x);
    case Op.squareGrad: return f32x4.mul(f32x4.add(x, x), y);
    case Op.absGrad: return v128.and(v128.xor(y, v128.and(x, i32x4.splat(0x80000000))), f32x4.gt(f32x4.abs(x), f32x4.splat(0)));
    case Op.tanhGrad: return f32x4.mul(y, f32x4.sub(one(), f32x4.mul(x, x)));
    case Op.reluGrad: return v128.and(y, f32x4.gt(x, f32x4.splat(0)));
    case Op.geluGrad: {
      const share = times(0.5, f32x4.add(one(), erf(times(HALF, x))));
      return f32x4.mul(y, f32x4.add(share, f32x4.mul(times(DENSITY, x), wideExp(f32x4.mul(times(-0.5, x), x)))));
    }
    case Op.sigmoidGrad: return f32x4.mul(y, sigmoidSlope(x));
    case Op.siluGrad: return f32x4.mul(y, f32x4.add(sigmoidOf(x), f32x4.mul(x, sigmoidSlope(x))));
    case Op.softplusGrad: return f32x4.mul(y, sigmoidOf(x));
    case Op.geluTanhGrad: {
      const v = bend(x);
      return f32x4.mul(y, f32x4.add(sigmoidOf(v), f32x4.mul(f32x4.mul(x, sigmoidSlope(v)), bendSlope(x))));
    }
    case Op.reciprocalGrad: return f32x4.div(f32x4.div(f32x4.neg(y), x), x);
    case Op.neg: return f32x4.neg(x);
    case Op.square: return f32x4.mul(x, x);
    case Op.sqrt: return f32x4.sqrt(x);
    case Op.rsqrt: return f32x4.div(one(), f32x4.sqrt(x));
    case Op.abs: return f32x4.abs(x);
    case Op.exp: return wideExp(x);
    case Op.tanh: return tanhOf(x);
    case Op.sigmoid: return sigmoidOf(x);
    case Op.gelu: return f32x4.mul(times(0.5, x), f32x4.add(one(), erf(times(HALF, x))));
    case Op.geluTanh: return f32x4.mul(x, sigmoidOf(bend(x)));
    case Op.silu: return f32x4.mul(x, sigmoidOf(x));
    case Op.softplus: return softplusOf(x);
    default: return f32x4.pmax(x, f32x4.splat(0)); // relu: x < 0 ? 0 : x, so that NaN stays
  }
}

@inline
function zip(op: Op, a: usize, b: usize, z: usize, n: u32): void {
  for (let i: u32 = 0; i < n; i += 4) {
    const at = usize(i) * 4;
    put(z + at, apply(op, take(a + at, n - i), take(b + at, n - i)), n - i);
  }
}

@inline
function map(op: Op, a: usize, z: usize, n: u32): void {
  for (let i: u32 = 0; i < n; i += 4) {
    const x = take(a + usize(i) * 4, n - i);
    put(z + usize(i) * 4, apply(op, x, x), n - i);
  }
}

export function add(a: usize, b: usize, z: usize, n: u32): void { zip(Op.add, a, b, z, n); }
export function sub(a: usize, b: usize, z: usize, n: u32): void { zip(Op.sub, a, b, z, n); }
export function mul(a: usize, b: usize, z: usize, n: u32): void { zip(Op.mul, a, b, z, n); }
export function div(a: usize, b: usize, z: usize, n: u32): void { zip(Op.div, a, b, z, n); }
export function maximum(a: usize, b: usize, z: usize, n: u32): void { zip(Op.maximum, a, b, z, n); }
export function minimum(a: usize, b: usize, z: usize, n: u32): void { zip(Op.minimum, a, b, z, n); }
export function equal(a: usize, b: usize, z: usize, n: u32): void { zip(Op.equal, a, b, z, n); }
export function notEqual(a: usize, b: usize, z: usize, n: u32): void { zip(Op.notEqual, a, b, z, n); }
export function less(a: usize, b: usize, z: usize, n: u32): void { zip(Op.less, a, b, z, n); }
export function lessEqual(a: usize, b: usize, z: usize, n: u32): void { zip(Op.lessEqual, a, b, z, n); }
export function greater(a: usize, b: usize, z: usize, n: u32): void { zip(Op.greater, a, b, z, n); }
export function greaterEqual(a: usize, b: usize, z: usize, n: u32): void { zip(Op.greaterEqual, a, b, z, n); }
export function sqrtGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.sqrtGrad, a, b, z, n); }
export function rsqrtGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.rsqrtGrad, a, b, z, n); }
export function squareGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.squareGrad, a, b, z, n); }
export function absGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.absGrad, a, b, z, n); }
export function tanhGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.tanhGrad, a, b, z, n); }
export function reluGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.reluGrad, a, b, z, n); }
export function geluGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.geluGrad, a, b, z, n); }
export function sigmoidGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.sigmoidGrad, a, b, z, n); }
export function siluGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.siluGrad, a, b, z, n); }
export function softplusGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.softplusGrad, a, b, z, n); }
export function geluTanhGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.geluTanhGrad, a, b, z, n); }
export function reciprocalGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.reciprocalGrad, a, b, z, n); }
export function neg(a: usize, z: usize, n: u32): void { map(Op.neg, a, z, n); }
export function square(a: usize, z: usize, n: u32): void { map(Op.square, a, z, n); }
export function sqrt(a: usize, z: usize, n: u32): void { map(Op.sqrt, a, z, n); }
export function rsqrt(a: usize, z: usize, n: u32): void { map(Op.rsqrt, a, z, n); }
export function abs(a: usize, z: usize, n: u32): void { map(Op.abs, a, z, n); }
export function relu(a: usize, z: usize, n: u32): void { map(Op.relu, a, z, n); }
export function exp(a: usize, z: usize, n: u32): void { map(Op.exp, a, z, n); }
export function tanh(a: usize, z: usize, n: u32): void { map(Op.tanh, a, z, n); }
export function sigmoid(a: usize, z: usize, n: u32): void { map(Op.sigmoid, a, z, n); }
export function gelu(a: usize, z: usize, n: u32): void { map(Op.gelu, a, z, n); }
export function geluTanh(a: usize, z: usize, n: u32): void { map(Op.geluTanh, a, z, n); }
export function silu(a: usize, z: usize, n: u32): void { map(Op.silu, a, z, n); }
export function softplus(a: usize, z: usize, n: u32): void { map(Op.softplus, a, z, n); }

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

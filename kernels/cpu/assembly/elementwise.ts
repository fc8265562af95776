/** Elementwise maps and zips of equal shapes, those that take a few instructions; each rounds as f32 does at each step. */

import { put, take } from "./row";

enum Op { add, sub, mul, div, sqrtGrad, squareGrad, tanhGrad, reluGrad, reciprocalGrad, neg, square, sqrt, relu }

/** f(x, y), or f(x): `op` is a constant wherever this is inlined, and the choice gone. */
@inline
function apply(op: Op, x: v128, y: v128): v128 {
  switch (op) {
    case Op.add: return f32x4.add(x, y);
    case Op.sub: return f32x4.sub(x, y);
    case Op.mul: return f32x4.mul(x, y);
    case Op.div: return f32x4.div(x, y);
    case Op.sqrtGrad: return f32x4.div(f32x4.mul(f32x4.splat(0.5), y), x);
    case Op.squareGrad: return f32x4.mul(f32x4.add(x, x), y);
    case Op.tanhGrad: return f32x4.mul(y, f32x4.sub(f32x4.splat(1), f32x4.mul(x, x)));
    case Op.reluGrad: return v128.and(y, f32x4.gt(x, f32x4.splat(0)));
    case Op.reciprocalGrad: return f32x4.div(f32x4.neg(y), f32x4.mul(x, x));
    case Op.neg: return f32x4.neg(x);
    case Op.square: return f32x4.mul(x, x);
    case Op.sqrt: return f32x4.sqrt(x);
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
export function sqrtGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.sqrtGrad, a, b, z, n); }
export function squareGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.squareGrad, a, b, z, n); }
export function tanhGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.tanhGrad, a, b, z, n); }
export function reluGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.reluGrad, a, b, z, n); }
export function reciprocalGrad(a: usize, b: usize, z: usize, n: u32): void { zip(Op.reciprocalGrad, a, b, z, n); }
export function neg(a: usize, z: usize, n: u32): void { map(Op.neg, a, z, n); }
export function square(a: usize, z: usize, n: u32): void { map(Op.square, a, z, n); }
export function sqrt(a: usize, z: usize, n: u32): void { map(Op.sqrt, a, z, n); }
export function relu(a: usize, z: usize, n: u32): void { map(Op.relu, a, z, n); }

/**
 * Elementwise ops, each beside its derivative.
 *
 * Infinity and NaN give what JavaScript's operators and Math give (IEEE 754); where an op differs, it says so. Where x is NaN, so is the gradient, but
 * for ops that choose between values, and they say what they do. A WebGPU driver may take subnormal numbers, below 2^-126, for 0.
 *
 * Where an argument is stored as f16, so is the result.
 */

import { cast as castKernel } from "../../kernels/cast.ts";
import { clampGrad, clamp as clampKernel } from "../../kernels/elementwise.ts";
import type { Dtype, Kernel } from "../../kernels/kernel.ts";
import { show } from "../../src/shape.ts";
import { full, isForeign, run, runStored, scoped, storedAs, Tensor } from "../../src/tensor.ts";
import { type Application, op } from "../tape.ts";
import { map, sumTo, zip, zipThree } from "./apply.ts";

// ---- arguments -----------------------------------------------------------------------------

/** A tensor, or a number, which stands for a tensor [] of it on the other arguments' device. */
export type Operand = Tensor | number;

/** An op of one tensor. */
export type Unary = (x: Tensor) => Tensor;
/** An op of two operands, of which at most one is a number. */
export interface Binary {
  (a: Tensor, b: Operand): Tensor;
  (a: number, b: Tensor): Tensor;
}

const said = (given: unknown): string =>
  given instanceof Tensor
    ? `a tensor ${show(given.shape)}`
    : Array.isArray(given)
      ? "an array"
      : typeof given === "string"
        ? `"${given}"`
        : String(given);

/** An op of operands, by their names. A tensor made of a number is freed with the op, or with the tape that keeps it for the way back. */
function elementwise(name: string, names: readonly string[], apply: (...args: Tensor[]) => Application): (...args: Operand[]) => Tensor {
  const signature = `${name}(${names.join(", ")})`;
  const made = op(name, apply);
  return (...given) => {
    const args = names.map((_, i) => given[i]);
    args.forEach((arg, i) => {
      if (!(arg instanceof Tensor || typeof arg === "number" || isForeign(arg)))
        throw new TypeError(
          `${signature}: ${names[i]} is neither a tensor nor a number; got ${said(arg)}; make one with tensor(values, shape)`,
        );
    });
    const some = args.find((arg) => arg instanceof Tensor);
    if (args.every((arg) => typeof arg === "number"))
      throw new TypeError(`${signature}: no argument is a tensor; got ${args.join(" and ")}; make one with tensor(values, shape)`);
    if (args.every((arg) => typeof arg !== "number")) return made(...args);
    return scoped(() => made(...args.map((arg) => (typeof arg === "number" ? full([], arg, "f32", some?.device) : arg))));
  };
}

const unary = (name: string, apply: (x: Tensor) => Application) => elementwise(name, ["x"], apply) as Unary;
const binary = (name: string, apply: (a: Tensor, b: Tensor) => Application) => elementwise(name, ["a", "b"], apply) as Binary;

// ---- of one tensor -------------------------------------------------------------------------

export const neg = unary("neg", (x) => [map("neg", x), [], (dy) => [map("neg", dy)]]);
/** |x|. Its derivative at 0 is 0, as torch's, and at NaN. */
export const abs = unary("abs", (x) => [map("abs", x), [x], (dy) => [zip("absGrad", x, dy)]]);
export const exp = unary("exp", (x) => {
  const y = map("exp", x);
  return [y, [y], (dy) => [zip("mul", dy, y)]];
});
export const log = unary("log", (x) => [map("log", x), [x], (dy) => [zip("div", dy, x)]]);
export const sqrt = unary("sqrt", (x) => {
  const y = map("sqrt", x);
  return [y, [y], (dy) => [zip("sqrtGrad", y, dy)]];
});
/** 1 / sqrt(x); its derivative is -y^3 / 2. */
export const rsqrt = unary("rsqrt", (x) => {
  const y = map("rsqrt", x);
  return [y, [y], (dy) => [zip("rsqrtGrad", y, dy)]];
});
export const square = unary("square", (x) => [map("square", x), [x], (dy) => [zip("squareGrad", x, dy)]]);
export const tanh = unary("tanh", (x) => {
  const y = map("tanh", x);
  return [y, [y], (dy) => [zip("tanhGrad", y, dy)]];
});
/** 1 / (1 + e^-x). Its derivative is taken from x, not as y (1 - y), which is 0 in f32 from x = 17 on. */
export const sigmoid = unary("sigmoid", (x) => [map("sigmoid", x), [x], (dy) => [zip("sigmoidGrad", x, dy)]]);
/** log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which does not overflow; as torch.nn.functional.softplus. Its derivative is the sigmoid. */
export const softplus = unary("softplus", (x) => [map("softplus", x), [x], (dy) => [zip("softplusGrad", x, dy)]]);
/** max(x, 0), but NaN stays. Its derivative at 0 is 0, and at NaN. */
export const relu = unary("relu", (x) => {
  const y = map("relu", x);
  return [y, [y], (dy) => [zip("reluGrad", y, dy)]]; // y is positive where x is
});
/** x Phi(x), with the error function (Hendrycks and Gimpel 2016), as torch.nn.functional.gelu. NaN at -Infinity, its derivative at both infinities. */
export const gelu = unary("gelu", (x) => [map("gelu", x), [x], (dy) => [zip("geluGrad", x, dy)]]);
/**
 * x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel 2016), as torch.nn.functional.gelu with approximate="tanh". NaN at
 * -Infinity, its derivative at both infinities.
 */
export const geluTanh = unary("geluTanh", (x) => [map("geluTanh", x), [x], (dy) => [zip("geluTanhGrad", x, dy)]]);
/** x sigmoid(x) (Elfwing, Uchibe and Doya 2018), as torch.nn.functional.silu. NaN at -Infinity, its derivative at both infinities. */
export const silu = unary("silu", (x) => [map("silu", x), [x], (dy) => [zip("siluGrad", x, dy)]]);

/**
 * x, but `low` where it is less and `high` where it is more; null for no bound. NaN stays. As torch.clamp: the gradient passes within the bounds and
 * at them; where low > high the result is high, and no gradient passes.
 * @throws TypeError for bounds that are no numbers, or both null; RangeError for NaN.
 */
export const clamp = op("clamp", (x: Tensor, low: number | null, high: number | null) => {
  const signature = "clamp(x, low, high)";
  for (const [name, bound] of Object.entries({ low, high })) {
    if (bound !== null && typeof bound !== "number")
      throw new TypeError(`${signature}: ${name} is ${said(bound)}; give a number, or null for no bound`);
    if (Number.isNaN(bound)) throw new RangeError(`${signature}: ${name} is NaN; give a number, or null for no bound`);
  }
  if (low === null && high === null) throw new TypeError(`${signature}: low and high are both null; give one of them`);
  const params = { n: x.size, low: low ?? Number.NEGATIVE_INFINITY, high: high ?? Number.POSITIVE_INFINITY };
  return [
    runStored(clampKernel, { a: x }, { z: storedAs(x) }, params).z,
    [x],
    (dz) => [runStored(clampGrad, { a: x, dz }, { da: storedAs(x) }, params).da],
  ];
});

// ---- of two --------------------------------------------------------------------------------

/** a + b, shapes broadcasting as numpy's, here and below. */
export const add = binary("add", (a, b) => [
  zip("add", a, b),
  [],
  (dz, need) => [need[0] ? sumTo(dz, a.shape) : null, need[1] ? sumTo(dz, b.shape) : null],
]);
export const sub = binary("sub", (a, b) => [
  zip("sub", a, b),
  [],
  (dz, need) => [need[0] ? sumTo(dz, a.shape) : null, need[1] ? map("neg", sumTo(dz, b.shape)) : null],
]);
export const mul = binary("mul", (a, b) => [
  zip("mul", a, b),
  [a, b],
  (dz, need) => [need[0] ? sumTo(zip("mul", dz, b), a.shape) : null, need[1] ? sumTo(zip("mul", dz, a), b.shape) : null],
]);
export const div = binary("div", (a, b) => [
  zip("div", a, b),
  [a, b],
  (dz, need) => [
    need[0] ? sumTo(zip("div", dz, b), a.shape) : null,
    need[1] ? sumTo(zip("mul", dz, zip("reciprocalGrad", b, a)), b.shape) : null, // -a / b^2
  ],
]);

/**
 * a to the power of b, as JavaScript's **: below 0 for whole b alone, else NaN; 1 for b = 0; NaN for 1 to the power of NaN or Infinity, where C's pow
 * gives 1. Derivatives as torch.pow: b a^(b - 1), 0 where b = 0; and a^b log a, 0 where a = 0 and b >= 0.
 */
export const pow = binary("pow", (a, b) => [
  zip("pow", a, b),
  [a, b],
  (dz, need) => [
    need[0] ? sumTo(zipThree("powGradBase", a, b, dz), a.shape) : null,
    need[1] ? sumTo(zipThree("powGradExponent", a, b, dz), b.shape) : null,
  ],
]);

/** The larger of two; NaN where either is. As torch.maximum: equal ones share the gradient half and half, and where one is NaN both have it whole. */
export const maximum = binary("maximum", (a, b) => [
  zip("maximum", a, b),
  [a, b],
  (dz, need) => [
    need[0] ? sumTo(zipThree("maximumGrad", a, b, dz), a.shape) : null,
    need[1] ? sumTo(zipThree("maximumGrad", b, a, dz), b.shape) : null,
  ],
]);
/** The smaller of two; NaN where either is. As torch.minimum: equal ones share the gradient half and half, and where one is NaN both have it whole. */
export const minimum = binary("minimum", (a, b) => [
  zip("minimum", a, b),
  [a, b],
  (dz, need) => [
    need[0] ? sumTo(zipThree("minimumGrad", a, b, dz), a.shape) : null,
    need[1] ? sumTo(zipThree("minimumGrad", b, a, dz), b.shape) : null,
  ],
]);

/** 1 where it holds, else 0, and no gradient. Nothing is equal to NaN, less or greater. */
const comparison = (name: "equal" | "notEqual" | "less" | "lessEqual" | "greater" | "greaterEqual") =>
  binary(name, (a, b) => [zip(name, a, b), [], () => [null, null]]);

/** a = b: 1 or 0, here and below, and no gradient. With NaN only notEqual holds. */
export const equal = comparison("equal");
export const notEqual = comparison("notEqual");
/** a < b */
export const less = comparison("less");
/** a <= b */
export const lessEqual = comparison("lessEqual");
/** a > b */
export const greater = comparison("greater");
/** a >= b */
export const greaterEqual = comparison("greaterEqual");

// ---- of three ------------------------------------------------------------------------------

/**
 * a where the condition is not 0, b where it is; NaN is not 0. All three broadcast, and any but one may be a number. The gradient goes to what was
 * taken, and none to the condition.
 */
export const where = elementwise("where", ["condition", "a", "b"], (condition, a, b) => [
  zipThree("where", condition, a, b),
  [condition],
  (dy, need) => {
    const zero = full([], 0, "f32", dy.device);
    return [
      null,
      need[1] ? sumTo(zipThree("where", condition, dy, zero), a.shape) : null,
      need[2] ? sumTo(zipThree("where", condition, zero, dy), b.shape) : null,
    ];
  },
]) as (condition: Operand, a: Operand, b: Operand) => Tensor;

// ---- of another dtype ----------------------------------------------------------------------

const DTYPES: readonly Dtype[] = ["f32", "u32", "i32", "f16"];

/**
 * x in another dtype; in its own, the same buffer. f16 is for storage: ops that take it compute in f32, and the others refuse it.
 *
 * To an integer: truncated toward zero; what does not fit becomes the nearest that does, NaN becomes 0. Between u32 and i32 the bits stay (modulo 2^32).
 * To f16: the nearest, ties to even, infinity from 65,520 on; WebGPU may take either neighbour (WGSL, 15.7.6), and 0 for less than 2^-14.
 * Between f32 and f16 the gradient passes, stored as x is; to or from an integer there is none.
 * @throws RangeError for a dtype that there is not.
 */
export const cast = op("cast", (x: Tensor, dtype: Dtype) => {
  if (!DTYPES.includes(dtype)) throw new RangeError(`cast(x, dtype): there is no dtype ${said(dtype)}; give one of ${DTYPES.join(", ")}`);
  const y =
    x.dtype === dtype ? x.withShape(x.shape) : run(castKernel(x.dtype, dtype) as unknown as Kernel, { x }, { y: x.shape }, { n: x.size }).y;
  const passes = [x.dtype, dtype].every((of) => of === "f32" || of === "f16");
  return [y, [], (dy) => [passes ? dy : null]];
});

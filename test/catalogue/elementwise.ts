/** Rows of the catalogue: elementwise ops. */

import * as ops from "../../autograd/ops/elementwise.ts";
import { inference } from "../../autograd/tape.ts";
import type { Tensor } from "../../src/tensor.ts";
import { all, type Given, type Row, row } from "./row.ts";

/** Both arguments alike, and stretched every way. Gradients add up what was stretched. */
const broadcasting = (call: (a: Tensor, b: Tensor) => Tensor, more: Partial<Row<undefined>> = {}) =>
  ["a b, a b", "a b, b", "a 1, 1 b", "1, a b", "a b c 2 d, b 1 2 d", "a, 1 1"].map((shapes) =>
    row({ shapes, call: ([a, b]) => call(a, b), rounding: (sizes) => 16 + 2 * all(sizes), ...more }),
  );

/** `value` and `slope` are what rounding is relative to, the latter times dy. */
const map = (
  call: (x: Tensor) => Tensor,
  given: Partial<Row<undefined>> & { value: (x: number) => number; slope: (x: number) => number; units: number },
) => {
  const { value, slope, units, ...more } = given;
  const magnitude = ({ args: [x], dy }: Given<undefined>) => [
    x.map((v) => Math.abs(value(v))),
    x.map((v, i) => Math.abs(slope(v) * dy[i])),
  ];
  return [row({ shapes: "a b", call: ([x]) => call(x), rounding: () => units, magnitude, ...more })];
};

const halves = [0, 0].map((offset) => ({ step: 1 / 2, offset }));
/** 1, or 0: nothing to round, and values apart from each other or equal. */
const comparing = (call: typeof ops.equal) => [
  ...broadcasting(call, { derivative: false, rounding: () => 0, lattice: halves }),
  ...map((x) => call(x, 0.5), { value: () => 1, slope: () => 0, units: 0, derivative: false, lattice: halves }),
];
/** Values of two arguments that are never equal, and never 0. */
const apart = [1, 3].map((offset) => ({ step: 1 / 4, offset: offset / 16 }));
const off = [{ step: 1 / 8, offset: 1 / 16 }];

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
/** The sum of absolute values, whichever of them an op takes. */
const both = { absolute: ([a, b]: readonly Tensor[]) => ops.add(a, b) };

/** Three arguments, stretched every way; the first is the condition, which no derivative is taken by: it is compared first. */
const choosing = ["a b, a b, a b", "a 1, a b, b", "a b, a 1, 1", "1, a b, a b", "c b 1 2 d, b 3 1 1, c 1 1 2 1", "a, 1 1, b 1"].map(
  (shapes) =>
    row({
      shapes,
      call: ([c, a, b]) => ops.where(ops.greater(c, 0), a, b),
      absolute: ([c, a, b]) => ops.add(ops.mul(c, 0), ops.add(a, b)),
      lattice: [{ step: 1, offset: 1 / 2 }],
      rounding: (sizes) => 2 * all(sizes),
    }),
);

/**
 * |x|^y is e^(y log x), and WGSL's log is off by 2^-21 near 1 (WGSL, 15.7.4). The derivative by the exponent is relative to the power alone, as the
 * logarithm changes its sign at 1: a share of the power, held constant, times the exponent.
 */
const power = {
  absolute: ([a, b]: readonly Tensor[]) =>
    ops.add(
      ops.pow(a, b),
      ops.mul(
        inference(() => ops.pow(a, b)),
        ops.mul(b, 2),
      ),
    ),
  rounding: (sizes: Record<string, number>) => 64 + 2 * all(sizes),
};

/** To f16 the nearest, or its neighbour: 2^-10 of the value, or of the least normal number. */
const halved = { value: (x: number) => Math.abs(x) + 2 ** -14, slope: () => 1, units: 2 ** 14, derivative: false as const };
const whole = { value: (x: number) => x, slope: () => 0, units: 0, derivative: false as const, range: [-200, 200] as const };

/** A list of rows for each op. */
export const rows = {
  add: [...broadcasting(ops.add), ...map((x) => ops.add(x, 2), { value: (x) => 2 + Math.abs(x), slope: () => 1, units: 2 })],
  sub: [
    ...broadcasting(ops.sub, { absolute: ([a, b]) => ops.add(a, b) }),
    ...map((x) => ops.sub(2, x), { value: (x) => 2 + Math.abs(x), slope: () => 1, units: 2 }),
  ],
  mul: [...broadcasting(ops.mul), ...map((x) => ops.mul(0.5, x), { value: (x) => x, slope: () => 1, units: 2 })],
  div: [
    ...broadcasting(ops.div, { range: [0.3, 3] }),
    ...map((x) => ops.div(2, x), { value: (x) => 2 / x, slope: (x) => 2 / x ** 2, units: 16, range: [0.3, 3] }),
  ],
  pow: [
    ...broadcasting(ops.pow, { range: [0.3, 3], ...power }),
    ...map((x) => ops.pow(x, 3), { value: (x) => x ** 3, slope: (x) => 3 * x ** 2, units: 64 }),
    ...map((x) => ops.pow(x, -2), { value: (x) => x ** -2, slope: (x) => 2 * x ** -3, units: 64, lattice: off }),
    ...map((x) => ops.pow(2.5, x), { value: (x) => 2.5 ** x, slope: (x) => 2.5 ** x, units: 64 }),
  ],
  maximum: [
    ...broadcasting(ops.maximum, { ...both, lattice: apart }),
    ...map((x) => ops.maximum(x, 0.5), { value: (x) => Math.max(x, 0.5), slope: () => 1, units: 0, lattice: off }),
  ],
  minimum: [
    ...broadcasting(ops.minimum, { ...both, lattice: apart }),
    ...map((x) => ops.minimum(0.5, x), { value: (x) => Math.min(x, 0.5), slope: () => 1, units: 0, lattice: off }),
  ],
  equal: comparing(ops.equal),
  notEqual: comparing(ops.notEqual),
  less: comparing(ops.less),
  lessEqual: comparing(ops.lessEqual),
  greater: comparing(ops.greater),
  greaterEqual: comparing(ops.greaterEqual),
  where: [
    ...choosing,
    ...map((x) => ops.where(ops.less(x, 0), ops.square(x), 2), {
      value: (x) => 2 + x * x,
      slope: (x) => 2 * x,
      units: 2,
      lattice: off,
    }),
  ],
  neg: map(ops.neg, { value: (x) => x, slope: () => 1, units: 0 }),
  abs: map(ops.abs, { value: (x) => x, slope: () => 1, units: 0, lattice: off }),
  exp: map(ops.exp, { value: Math.exp, slope: Math.exp, units: 24 }), // 3 + 2 |x| ULP
  log: map(ops.log, { value: (x) => 1 + Math.abs(Math.log(x)), slope: (x) => 1 / x, units: 10, range: [0.1, 5] }), // absolute near 1
  sqrt: map(ops.sqrt, { value: Math.sqrt, slope: (x) => 1 / Math.sqrt(x), units: 12, range: [0.1, 5] }),
  rsqrt: map(ops.rsqrt, { value: (x) => 1 / Math.sqrt(x), slope: (x) => 0.5 * x ** -1.5, units: 40, range: [0.1, 5] }),
  square: map(ops.square, { value: (x) => x * x, slope: (x) => 2 * x, units: 2 }),
  tanh: map(ops.tanh, { value: Math.tanh, slope: () => 1, units: 40, range: [-12, 12] }), // what y loses to 1 is absolute in the gradient
  // e^-|x| is off by 3 + 2 |x| ULP, a few roundings follow
  sigmoid: map(ops.sigmoid, { value: sigmoid, slope: (x) => sigmoid(x) * sigmoid(-x), units: 100, range: [-30, 30] }),
  softplus: map(ops.softplus, { value: (x) => Math.log1p(Math.exp(x)), slope: sigmoid, units: 100, range: [-30, 30] }),
  silu: map(ops.silu, {
    value: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) + Math.abs(x) * sigmoid(x) * sigmoid(-x),
    units: 100,
    range: [-30, 30],
  }),
  relu: map(ops.relu, { value: (x) => x, slope: () => 1, units: 0, lattice: off }),
  gelu: map(ops.gelu, { value: (x) => x, slope: (x) => 1 + x * x, units: 40, range: [-5, 5] }),
  geluTanh: map(ops.geluTanh, { value: (x) => x, slope: (x) => 1 + x * x, units: 40, range: [-5, 5] }),
  clamp: [
    ...map((x) => ops.clamp(x, -1, 1.5), { value: (x) => x, slope: () => 1, units: 0, lattice: off }),
    ...map((x) => ops.clamp(x, null, 1.5), { value: (x) => x, slope: () => 1, units: 0, lattice: off }),
    ...map((x) => ops.clamp(x, -1, null), { value: (x) => x, slope: () => 1, units: 0, lattice: off }),
  ],
  cast: [
    ...map((x) => ops.cast(x, "f32"), { value: (x) => x, slope: () => 1, units: 0 }),
    ...map((x) => ops.cast(ops.cast(x, "f16"), "f32"), halved),
    ...map((x) => ops.cast(ops.cast(x, "i32"), "f32"), whole),
    ...map((x) => ops.cast(ops.cast(x, "u32"), "f32"), whole),
    ...map((x) => ops.cast(ops.cast(ops.cast(x, "i32"), "f16"), "f32"), whole), // f16 holds whole numbers up to 2,048
  ],
};

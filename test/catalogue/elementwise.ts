/** Rows of the catalogue: elementwise ops. */

import * as ops from "../../autograd/ops/elementwise.ts";
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

/** A list of rows for each op. */
export const rows = {
  add: broadcasting(ops.add),
  sub: broadcasting(ops.sub, { absolute: ([a, b]) => ops.add(a, b) }),
  mul: broadcasting(ops.mul),
  div: broadcasting(ops.div, { range: [0.3, 3] }),
  neg: map(ops.neg, { value: (x) => x, slope: () => 1, units: 0 }),
  exp: map(ops.exp, { value: Math.exp, slope: Math.exp, units: 24 }), // 3 + 2 |x| ULP
  log: map(ops.log, { value: (x) => 1 + Math.abs(Math.log(x)), slope: (x) => 1 / x, units: 10, range: [0.1, 5] }), // absolute near 1
  sqrt: map(ops.sqrt, { value: Math.sqrt, slope: (x) => 1 / Math.sqrt(x), units: 12, range: [0.1, 5] }),
  square: map(ops.square, { value: (x) => x * x, slope: (x) => 2 * x, units: 2 }),
  tanh: map(ops.tanh, { value: () => 1, slope: () => 1, units: 340, range: [-12, 12] }), // absolute, 1e-5; twice in the gradient
  relu: map(ops.relu, { value: (x) => x, slope: () => 1, units: 0, lattice: [{ step: 1 / 8, offset: 1 / 16 }] }),
  gelu: map(ops.gelu, { value: (x) => x, slope: (x) => 1 + x * x, units: 40, range: [-5, 5] }),
};

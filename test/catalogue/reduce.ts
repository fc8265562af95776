/** Rows of the catalogue: reductions. */

import * as ops from "../../autograd/ops/reduce.ts";
import { oneHot } from "../../autograd/ops/rows.ts";
import type { Tensor } from "../../src/tensor.ts";
import * as magnitudes from "../magnitudes.ts";
import { apart, shuffled } from "./apart.ts";
import { all, type Row, row } from "./row.ts";

const summing = (op: typeof ops.sum, axes: readonly (readonly number[] | null)[]) =>
  axes.map((over, i) => row({ shapes: "a b c d", call: ([x]) => op(x, over, i % 2 === 0), rounding: (sizes) => 4 + all(sizes) }));

/** Rows of n numbers along the last axis, along an axis inside, and over everything. */
const folding = (
  call: (x: Tensor, axes: readonly number[] | null, keepAxes: boolean) => Tensor,
  magnitude: (x: Float64Array, dy: Float64Array, n: number) => Float64Array[],
  more: Pick<Row<undefined>, "rounding"> & Partial<Row<undefined>>,
) => [
  row({
    shapes: "a n",
    call: ([x]) => call(x, [-1], false),
    magnitude: ({ args: [x], dy, sizes: { n } }) => magnitude(x, dy, n),
    ...more,
  }),
  row({
    shapes: "a n b",
    call: ([x]) => call(x, [1], true),
    magnitude: ({ args: [x], dy, sizes: { a, n, b } }) => magnitudes.inside((x, dy) => magnitude(x, dy, n), a, n, b)(x, dy),
    ...more,
  }),
  row({
    shapes: "a n",
    call: ([x]) => call(x, null, false),
    magnitude: ({ args: [x], dy, sizes: { a, n } }) => magnitude(x, dy, a * n),
    ...more,
    nonempty: more.nonempty && "an",
    rounding: ({ a, n }) => more.rounding({ n: a * n }),
  }),
];

/** Over any axes where all numbers differ; then with many that tie, at which there is no derivative. */
const extreme = (op: typeof ops.max) => [
  ...(
    [
      [[-1], "c"],
      [[1], "b"],
      [[2, 0], "ac"],
      [null, "abc"],
    ] as const
  ).map(([axes, nonempty]) =>
    row({
      shapes: "a b c",
      nonempty,
      range: [0, 1],
      draw: (random, sizes) => shuffled(random, all(sizes)),
      call: ([x], whole) => op(apart(x, whole), axes),
      rounding: () => 4,
    }),
  ),
  ...folding(op, magnitudes.extreme, {
    nonempty: "n",
    range: [-2, 2],
    lattice: [{ step: 0.5, offset: 0 }],
    derivative: false,
    rounding: () => 1,
  }),
];

/** Places as rows of zeros and a one, along the first axis, the last, and in all of x. */
const place = (op: typeof ops.argmax) =>
  (
    [
      [0, "a"],
      [-1, "b"],
      [null, "ab"],
    ] as const
  ).map(([axis, nonempty]) =>
    row({
      shapes: "a b",
      nonempty,
      range: [-2, 2],
      lattice: [{ step: 0.5, offset: 0 }],
      derivative: false,
      call: ([x]) => oneHot(op(x, axis), axis === null ? x.size : x.shape.at(axis)!),
      rounding: () => 0,
    }),
  );

/** A list of rows for each op. */
export const rows = {
  sum: summing(ops.sum, [null, [0], [-1], [1, 2], [2, 0], [1, 3], [0, 1, 2, 3]]),
  mean: summing(ops.mean, [[0, 1], null, [2, 3], [1]]),
  max: extreme(ops.max),
  min: extreme(ops.min),
  variance: [0, 0.5].flatMap((correction) =>
    folding(
      (x, axes, keepAxes) => ops.variance(x, axes, keepAxes, { correction }),
      (x, dy, n) => magnitudes.variance(x, dy, n, 1 / (n - correction)),
      { rounding: ({ n }) => 12 + 4 * n },
    ),
  ),
  logSumExp: folding(ops.logSumExp, magnitudes.logSumExp, { range: [-8, 8], rounding: ({ n }) => 80 + n }),
  argmax: place(ops.argmax),
  argmin: place(ops.argmin),
};

/** Rows of the catalogue: reductions. */

import * as ops from "../../autograd/ops/reduce.ts";
import { all, row } from "./row.ts";

const reduction = (op: typeof ops.sum, axes: readonly (readonly number[] | null)[]) =>
  axes.map((over, i) => row({ shapes: "a b c d", call: ([x]) => op(x, over, i % 2 === 0), rounding: (sizes) => 4 + all(sizes) }));

/** A list of rows for each op. */
export const rows = {
  sum: reduction(ops.sum, [null, [0], [-1], [1, 2], [2, 0], [1, 3], [0, 1, 2, 3]]),
  mean: reduction(ops.mean, [[0, 1], null, [2, 3], [1]]),
};

/** Rows of the catalogue: ops that move numbers. */

import * as ops from "../../autograd/ops/shape.ts";
import { row } from "./row.ts";

/** A list of rows for each op. */
export const rows = {
  reshape: [row({ shapes: "a b c", call: ([x]) => ops.reshape(x, [x.shape[1], -1]), rounding: () => 0 })],
  permute: [
    ["a b", [1, 0]],
    ["a b c", [2, 0, -2]],
    ["a b 2 c", [0, 2, 1, 3]],
    ["2 a b 3 c", [4, 1, 3, 0, 2]],
  ].map(([shapes, axes]) => row({ shapes: shapes as string, call: ([x]) => ops.permute(x, axes as number[]), rounding: () => 0 })),
  slice: [0, 1, -1].map((axis) =>
    row({
      shapes: "a b c",
      draw: (random, { a, b, c }) => {
        const size = [a, b, c].at(axis)!;
        const start = random.below(size + 1);
        return [start, start + random.below(size - start + 1)];
      },
      call: ([x], [start, stop]) => ops.slice(x, axis, start, stop),
      rounding: () => 0,
    }),
  ),
};

/** Rows of the catalogue: ops that move numbers. */

import * as ops from "../../autograd/ops/shape.ts";
import { row } from "./row.ts";

/** A list of rows for each op. */
export const rows = {
  reshape: [
    row({
      shapes: "a b c",
      nonempty: "b", // beside a size of 0, any -1 would do
      call: ([x]) => ops.reshape(x, [x.shape[1], -1]),
      rounding: () => 0,
    }),
  ],
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
  pad: [0, 1, -1].map((axis) =>
    row({
      shapes: "a b c",
      draw: (random) => [random.below(4), random.below(4)],
      call: ([x], [before, after]) => ops.pad(x, axis, before, after),
      rounding: () => 0,
    }),
  ),
  broadcastTo: [
    row({ shapes: "a 1 b", call: ([x]) => ops.broadcastTo(x, [3, x.shape[0], 2, x.shape[2]]), rounding: () => 8 }),
    row({ shapes: "1 a 1", call: ([x]) => ops.broadcastTo(x, [2, 2, 3, x.shape[1], 17]), rounding: () => 2 + 2 * 2 * 3 * 17 }),
  ],
  concat: [
    row({ shapes: "a c, b c", call: (args) => ops.concat(args), rounding: () => 0 }),
    row({ shapes: "a b d, a c d, a 1 d", call: (args) => ops.concat(args, 1), rounding: () => 0 }),
    row({ shapes: "a b, a c", call: ([x, y]) => ops.concat([x, y, x], -1), rounding: () => 2 }), // gradients of one used twice add up
  ],
  stack: [0, 1, -1].map((axis) => row({ shapes: "a b, a b, a b", call: (args) => ops.stack(args, axis), rounding: () => 0 })),
};

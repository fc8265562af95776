/** Rows of the catalogue: losses. */

import * as ops from "../../autograd/ops/loss.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { integers, tensor } from "../../src/tensor.ts";
import * as magnitudes from "../magnitudes.ts";
import { row } from "./row.ts";

/** A list of rows for each op. */
export const rows = {
  crossEntropy: [0, 7].map((count) =>
    row({
      shapes: "m v",
      range: [-6, 6],
      draw: (random, { m, v }) => Array.from({ length: m }, () => (random.below(4) === 0 ? IGNORED : random.below(v))),
      call: ([x], labels) => ops.crossEntropy(x, integers(labels), count ? tensor([count]) : null),
      rounding: ({ m, v }) => 80 + m + v,
      magnitude: ({ args: [x], dy, drawn, sizes }) => magnitudes.crossEntropy(x, dy, drawn, sizes.v, count, IGNORED),
    }),
  ),
};

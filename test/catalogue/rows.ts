/** Rows of the catalogue: ops along the last axis. */

import * as ops from "../../autograd/ops/rows.ts";
import * as magnitudes from "../magnitudes.ts";
import { row } from "./row.ts";

/** A list of rows for each op. */
export const rows = {
  softmax: [
    row({
      shapes: "a n",
      range: [-8, 8],
      call: ([x]) => ops.softmax(x),
      rounding: ({ n }) => 80 + n,
      magnitude: ({ args: [x], dy, sizes }) => magnitudes.softmax(x, dy, sizes.n),
    }),
    row({
      shapes: "a b n",
      range: [-2, 2],
      call: ([x]) => ops.softmax(x),
      rounding: ({ n }) => 40 + n,
      magnitude: ({ args: [x], dy, sizes }) => magnitudes.softmax(x, dy, sizes.n),
    }),
  ],
  layerNorm: [1e-3, 1e-12].map((eps) =>
    row({
      shapes: "a b n, n, n",
      sizes: eps < 1e-3 ? { n: [7, 64, 257] } : {}, // with so small an eps, two near values are a kink
      call: ([x, weight, bias]) => ops.layerNorm(x, weight, bias, eps),
      rounding: ({ a, b, n }) => 20 + 2 * n + a * b,
      magnitude: ({ args: [x, weight, bias], dy, sizes }) => magnitudes.layerNorm(x, weight, bias, dy, sizes.n, eps),
    }),
  ),
  cosine: ["a n, a n", "a b n, a b n"].map((shapes) =>
    row({
      shapes,
      call: ([a, b]) => ops.cosine(a, b),
      rounding: ({ n }) => 20 + 3 * n,
      magnitude: ({ args: [a, b], dy, sizes }) => magnitudes.cosine(a, b, dy, sizes.n),
    }),
  ),
};

/** Rows of the catalogue: attention. */

import * as ops from "../../autograd/ops/attention.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { Key } from "../../src/key.ts";
import * as magnitudes from "../magnitudes.ts";
import { cells, segmentsOf } from "./cells.ts";
import { row } from "./row.ts";

const attention = (p: number) =>
  row({
    shapes: "n h*d, n h*d, n h*d",
    sizes: { h: [2, 1, 3], d: p > 0 ? [16] : [16, 1, 4, 20, 64] },
    range: [-1.5, 1.5],
    draw: (random, { n, h }) => ({ cells: cells(random, n), heads: h, seed: random.below(1000) }),
    call: ([q, k, v], { cells, heads, seed }) =>
      ops.attention(q, k, v, segmentsOf(cells), heads, p > 0 ? { p, key: StepKey.from(Key.from(seed)) } : null),
    rounding: ({ n, d }) => 40 + n + 2 * d,
    magnitude: ({ args, dy, drawn, sizes }) => magnitudes.attention(args, dy, drawn.cells.lengths, sizes.h * sizes.d, sizes.h, 1 / (1 - p)),
  });

/** A list of rows for each op. */
export const rows = {
  attention: [attention(0), attention(0.25)],
};

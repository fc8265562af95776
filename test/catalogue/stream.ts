/** Rows of the catalogue: streams and segments. */

import * as ops from "../../autograd/ops/stream.ts";
import { index } from "../../src/stream.ts";
import { cells, segmentsOf } from "./cells.ts";
import { below, row } from "./row.ts";

/** A list of rows for each op. */
export const rows = {
  gather: [
    row({
      shapes: "r c; m",
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.gather(x, index(places, rows)),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "r 2 c; m",
      derivative: false,
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r, count: random.below(m + 1) }),
      call: ([x], { places, rows, count }) => ops.gather(x, index(places, rows, { count, frozen: 0 })),
      rounding: ({ m }) => 2 + m,
    }),
  ],
  scatterAdd: [
    row({
      shapes: "m c; r",
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.scatterAdd(x, index(places, rows)),
      rounding: ({ m }) => 2 + m,
    }),
  ],
  segmentMean: [
    row({
      shapes: "n c",
      draw: (random, { n }) => cells(random, n),
      call: ([x], cells) => ops.segmentMean(x, segmentsOf(cells)),
      rounding: ({ n }) => 8 + n,
    }),
  ],
};

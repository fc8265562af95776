/** Rows of the catalogue: dropout. */

import * as ops from "../../autograd/ops/dropout.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { Key } from "../../src/key.ts";
import { row } from "./row.ts";

/** A list of rows for each op. */
export const rows = {
  dropout: [0, 0.1, 0.5].map((p) =>
    row({
      shapes: "a b",
      draw: (random) => random.below(1000),
      call: ([x], seed) => ops.dropout(x, { p, key: StepKey.from(Key.from(seed)).fold(seed) }),
      rounding: () => 4,
    }),
  ),
};

/** Rows of the catalogue: attention. */

import * as ops from "../../autograd/ops/attention.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { Key } from "../../src/key.ts";
import * as magnitudes from "../magnitudes.ts";
import { cells, segmentsOf } from "./cells.ts";
import { row } from "./row.ts";

interface Kind {
  readonly p?: number;
  readonly causal?: boolean;
  /** Rows of keys and values, where they are another stream than the queries. */
  readonly across?: "m" | "2*n";
}

const attention = ({ p = 0, causal = false, across }: Kind) =>
  row({
    shapes: across ? `n h*d, ${across} h*d, ${across} h*d` : "n h*d, n h*d, n h*d",
    sizes: { h: [2, 1, 3], d: p > 0 ? [16] : causal ? [16, 20] : [16, 1, 4, 20, 64] }, // each width is another kernel to compile
    range: [-1.5, 1.5],
    draw: (random, { n, m = 2 * n, h }) => {
      const queries = cells(random, n);
      return { queries, keys: across ? cells(random, m, queries.lengths.length) : null, heads: h, seed: random.below(1000) };
    },
    call: ([q, k, v], { queries, keys, heads, seed }) =>
      ops.attention(q, k, v, segmentsOf(queries), heads, {
        drop: p > 0 ? { p, key: StepKey.from(Key.from(seed)) } : null,
        causal,
        ...(keys && { keys: segmentsOf(keys) }),
      }),
    rounding: ({ n, m = 2 * n, d }) => 40 + n + (across ? m : 0) + 2 * d,
    magnitude: ({ args, dy, drawn: { queries, keys }, sizes: { h, d } }) =>
      magnitudes.attention(args, dy, queries.lengths, h * d, h, 1 / (1 - p), { keys: keys?.lengths, causal }),
  });

/** A list of rows for each op. */
export const rows = {
  attention: [
    attention({}),
    attention({ p: 0.25 }),
    attention({ causal: true }),
    attention({ p: 0.25, causal: true }),
    attention({ across: "m" }),
    attention({ p: 0.25, causal: true, across: "2*n" }),
  ],
};

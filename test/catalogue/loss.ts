/** Rows of the catalogue: losses. */

import * as ops from "../../autograd/ops/loss.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { integers, tensor } from "../../src/tensor.ts";
import * as magnitudes from "../magnitudes.ts";
import { type Random, row } from "./row.ts";

/** Labels of m rows, of which some do not count. */
const labelled = (random: Random, m: number, v: number) =>
  Array.from({ length: m }, () => (random.below(4) === 0 ? IGNORED : random.below(v)));

/** With class weights, some of them 0, and smoothing; divided by what the labels weigh, or by a count. */
const weighted = (smoothing: number, weigh: boolean, count: number) =>
  row({
    shapes: "m v",
    nonempty: "v", // no label names a class where there is none
    range: [-6, 6],
    draw: (random, { m, v }) => ({
      labels: labelled(random, m, v),
      weights: Array.from({ length: v }, () => (weigh ? random.below(9) / 4 : 1)),
    }),
    call: ([x], { labels, weights }) =>
      ops.crossEntropy(x, integers(labels), {
        smoothing,
        weights: weigh ? tensor(weights) : null,
        count: count ? tensor([count]) : null,
      }),
    rounding: ({ m, v }) => 80 + m + 2 * v,
    magnitude: ({ args: [x], dy, drawn: { labels, weights } }) =>
      magnitudes.crossEntropyWeighted(x, dy, labels, weights, smoothing, count, IGNORED),
  });

/** A list of rows for each op. */
export const rows = {
  crossEntropy: [
    ...[0, 7].map((count) =>
      row({
        shapes: "m v",
        nonempty: "v",
        range: [-6, 6],
        draw: (random, { m, v }) => labelled(random, m, v),
        call: ([x], labels) => ops.crossEntropy(x, integers(labels), { count: count ? tensor([count]) : null }),
        rounding: ({ m, v }) => 80 + m + v,
        magnitude: ({ args: [x], dy, drawn, sizes }) => magnitudes.crossEntropy(x, dy, drawn, sizes.v, count, IGNORED),
      }),
    ),
    weighted(0.125, false, 0),
    weighted(0, true, 0),
    weighted(0.25, true, 7),
    weighted(1, true, 0),
  ],
  mse: [
    row({
      shapes: "a b, a b",
      call: ([a, b]) => ops.mse(a, b),
      rounding: ({ a, b }) => 8 + a * b,
      magnitude: ({ args: [a, b], dy }) => magnitudes.mse(a, b, dy),
    }),
  ],
};

/** Rows of the catalogue: ops along the last axis. */

import { mul } from "../../autograd/ops/elementwise.ts";
import * as ops from "../../autograd/ops/rows.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { dropThreshold, keepScale, quarter, threefry } from "../../kernels/random.ts";
import { Key } from "../../src/key.ts";
import { integers } from "../../src/tensor.ts";
import * as magnitudes from "../magnitudes.ts";
import { apart, shuffled } from "./apart.ts";
import { below, row } from "./row.ts";

/** What dropout multiplies each of n numbers by, under a key of this seed. */
function kept(p: number, seed: number, n: number): number[] {
  const folded = threefry(Key.from(seed).words, [0, 0]);
  const draw = (i: number) => quarter(threefry(folded, [i >> 2, 0]), i & 3);
  return Array.from({ length: n }, (_, i) => (draw(i) >= dropThreshold(p) ? keepScale(p) : 0));
}

/** Of a softmax or its logarithm: steep rows, and the axis inside. */
const softmaxes = (op: typeof ops.softmax, magnitude: typeof magnitudes.softmax) => [
  row({
    shapes: "a n",
    range: [-8, 8],
    call: ([x]) => op(x),
    rounding: ({ n }) => 80 + n,
    magnitude: ({ args: [x], dy, sizes }) => magnitude(x, dy, sizes.n),
  }),
  row({
    shapes: "a b n",
    range: [-2, 2],
    call: ([x]) => op(x),
    rounding: ({ n }) => 40 + n,
    magnitude: ({ args: [x], dy, sizes }) => magnitude(x, dy, sizes.n),
  }),
  ...["a n b", "n b"].map((shapes) =>
    row({
      shapes,
      range: [-2, 2],
      call: ([x]) => op(x, -2),
      rounding: ({ n }) => 40 + n,
      magnitude: ({ args: [x], dy, sizes: { a = 1, n, b } }) => magnitudes.inside((x, dy) => magnitude(x, dy, n), a, n, b)(x, dy),
    }),
  ),
];

/** A list of rows for each op. */
export const rows = {
  softmax: softmaxes(ops.softmax, magnitudes.softmax),
  logSoftmax: softmaxes(ops.logSoftmax, magnitudes.logSoftmax),
  layerNorm: [1e-3, 1e-12].map((eps) =>
    row({
      shapes: "a b n, n, n",
      sizes: eps < 1e-3 ? { n: [7, 64, 257] } : {}, // with so small an eps, two near values are a kink
      call: ([x, weight, bias]) => ops.layerNorm(x, weight, bias, eps),
      rounding: ({ a, b, n }) => 20 + 2 * n + a * b,
      magnitude: ({ args: [x, weight, bias], dy, sizes }) => magnitudes.layerNorm(x, weight, bias, dy, sizes.n, eps),
    }),
  ),
  addNorm: [0, 0.3].map((p) =>
    row({
      shapes: "a b n, a b n, n, n",
      draw: (random) => random.below(1000),
      call: ([x, r, weight, bias], seed) => ops.addNorm(x, r, weight, bias, 1e-3, { p, key: StepKey.from(Key.from(seed)) }),
      rounding: ({ a, b, n }) => 24 + 2 * n + a * b,
      magnitude({ args: [x, r, weight, bias], dy, drawn, sizes: { n } }) {
        const dropped = kept(p, drawn, r.length).map((factor, i) => factor * r[i]);
        const h = x.map((v, i) => v + dropped[i]);
        const terms = x.map((v, i) => Math.abs(v) + Math.abs(dropped[i]));
        const [y, dx, ...rest] = magnitudes.layerNorm(h, weight, bias, dy, n, 1e-3, terms);
        return [y, dx, dx.map((v) => v / (1 - p)), ...rest];
      },
    }),
  ),
  rmsNorm: [1e-3, 1e-12].map((eps) =>
    row({
      shapes: "a b n, n",
      sizes: eps < 1e-3 ? { n: [7, 64, 257] } : {}, // with so small an eps, a small value is a kink
      call: ([x, weight]) => ops.rmsNorm(x, weight, eps),
      rounding: ({ a, b, n }) => 20 + 2 * n + a * b,
      magnitude: ({ args: [x, weight], dy, sizes }) => magnitudes.rmsNorm(x, weight, dy, sizes.n, eps),
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
  cumsum: [
    row({ shapes: "a n", call: ([x]) => ops.cumsum(x), rounding: ({ n }) => 4 + n }),
    row({ shapes: "a n b", call: ([x]) => ops.cumsum(x, 1), rounding: ({ n }) => 4 + n }),
  ],
  topK: [
    row({
      shapes: "a b n",
      range: [0, 1],
      draw: (random, { a, b, n }) => ({ whole: shuffled(random, a * b * n), k: random.below(Math.min(n, 40) + 1) }),
      call: ([x], { whole, k }) => ops.topK(apart(x, whole), k).values,
      rounding: () => 4,
    }),
    row({
      shapes: "a n",
      range: [-2, 2],
      lattice: [{ step: 0.5, offset: 0 }],
      derivative: false,
      draw: (random, { n }) => random.below(Math.min(n, 40) + 1),
      call: ([x], k) => ops.oneHot(ops.topK(x, k).indices, x.shape[1]),
      rounding: () => 0,
    }),
  ],
  take: ["a n; k", "a b n; k"].map((shapes) =>
    row({
      shapes,
      draw: (random, { a, b = 1, n, k }) => ({ places: below(random, a * b * k, n + 1), k }), // n itself names nothing
      call: ([x], { places, k }) => ops.take(x, integers(places, [...x.shape.slice(0, -1), k])),
      rounding: ({ k }) => 2 + k,
    }),
  ),
  oneHot: [
    row({
      shapes: "a n",
      draw: (random, { a, n }) => below(random, a, n + 1),
      call: ([x], labels) => mul(x, ops.oneHot(integers(labels), x.shape[1])),
      rounding: () => 0,
    }),
  ],
};

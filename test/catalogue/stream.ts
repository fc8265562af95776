/** Rows of the catalogue: streams and segments. */

import * as ops from "../../autograd/ops/stream.ts";
import { index } from "../../src/stream.ts";
import { integers, tensor } from "../../src/tensor.ts";
import * as magnitudes from "../magnitudes.ts";
import { apart, shuffled } from "./apart.ts";
import { cells, segmentsOf } from "./cells.ts";
import { below, type Random, row } from "./row.ts";

/** Places in r rows, of which some name none: as u32, and as i32 that may be negative. */
const astray = (random: Random, m: number, r: number) => below(random, m, r + 2);
const signed = (random: Random, m: number, r: number) => below(random, m, r + 4).map((place) => place - 2);

/** A list of rows for each op. */
export const rows = {
  gather: [
    row({
      shapes: "r c; m",
      nonempty: "r", // which an index of the host points into
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.gather(x, index(places, rows)),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "r 2 c; m",
      nonempty: "r",
      derivative: false,
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r, count: random.below(m + 1) }),
      call: ([x], { places, rows, count }) => ops.gather(x, index(places, rows, { count, frozen: 0 })),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "r c; m",
      draw: (random, { m, r }) => astray(random, m, r),
      call: ([x], places) => ops.gather(x, integers(places)),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "r c; m",
      draw: (random, { m, r }) => signed(random, 2 * m, r),
      call: ([x], places) => ops.gather(x, tensor(places, [2, places.length / 2], "i32")),
      rounding: ({ m }) => 2 + 2 * m,
    }),
  ],
  scatterAdd: [
    row({
      shapes: "m c; r",
      nonempty: "r",
      draw: (random, { m, r }) => ({ places: below(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.scatterAdd(x, index(places, rows)),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "m c; r",
      draw: (random, { m, r }) => ({ places: astray(random, m, r), rows: r }),
      call: ([x], { places, rows }) => ops.scatterAdd(x, integers(places), rows),
      rounding: ({ m }) => 2 + m,
    }),
    row({
      shapes: "2 m; r",
      draw: (random, { m, r }) => ({ places: signed(random, 2 * m, r), rows: r }),
      call: ([x], { places, rows }) => ops.scatterAdd(x, tensor(places, x.shape, "i32"), rows),
      rounding: ({ m }) => 2 + 2 * m,
    }),
  ],
  segmentSum: [
    row({
      shapes: "n c",
      draw: (random, { n }) => cells(random, n),
      call: ([x], cells) => ops.segmentSum(x, segmentsOf(cells)),
      rounding: ({ n }) => 8 + n,
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
  segmentMax: [
    row({
      shapes: "n c",
      range: [0, 1],
      draw: (random, { n, c }) => ({ cells: cells(random, n), whole: shuffled(random, n * c) }),
      call: ([x], { cells, whole }) => ops.segmentMax(apart(x, whole), segmentsOf(cells)),
      rounding: () => 4,
    }),
    row({
      shapes: "n c",
      lattice: [{ step: 2, offset: 0 }], // many tie, and where they do there is no derivative
      derivative: false,
      draw: (random, { n }) => cells(random, n),
      call: ([x], cells) => ops.segmentMax(x, segmentsOf(cells)),
      rounding: () => 1,
      magnitude: ({ args: [x], dy, drawn: { lengths, capacity }, sizes: { c } }) => magnitudes.segmentMax(x, dy, lengths, capacity, c),
    }),
  ],
};

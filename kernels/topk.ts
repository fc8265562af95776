/** The places of the largest numbers of each row. */

import { kernel, LANES } from "./kernel.ts";
import { eachRankedRow } from "./rows.ts";

/** Does a stand before b? NaN is the largest of all. */
const before = (a: number, b: number): boolean => a > b || (Number.isNaN(a) && !Number.isNaN(b));

/**
 * indices[i, 0 ... k - 1]: where the k largest numbers of row i stand, the largest first, equal ones in their order; k <= cols.
 *
 * A workgroup goes over its row k times, and finds each time the first of what comes after the last one found: k cols numbers read for a row.
 */
export const topK = kernel({
  name: "topK",
  inputs: { x: "f32" },
  outputs: { indices: "u32" },
  params: { rows: "u32", cols: "u32", k: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRankedRow(/* wgsl */ `
  var last = 0u; var lastAt = 0u;
  for (var i = 0u; i < p.k; i++) {
    var best = 0u; var at = 0u;
    for (var j = lane; j < p.cols; j += ${LANES}u) {
      let r = rank(x[start + j]);
      let follows = i == 0u || r < last || (r == last && j > lastAt);
      if (follows && r > best) { best = r; at = j; }
    }
    last = highest(lane, best);
    lastAt = firstOf(lane, best, at, last);
    if (lane == 0u) { indices[row * p.k + i] = lastAt; }
  }`),
    },
  ],
  compiled: {
    name: "topK",
    buffers: ["x", "indices"],
    split: ({ cols, k }) => ({ over: "rows", strides: [cols, k], work: 6 * cols }),
  },
  loops({ x, indices }, { rows, cols, k }) {
    for (let row = 0; row < rows; row++) {
      const found = indices.subarray(row * k, (row + 1) * k);
      for (let j = 0; j < cols; j++) {
        const count = Math.min(j, k);
        let place = 0; // the first of what is smaller, found by halving
        for (let end = count; place < end; ) {
          const middle = (place + end) >> 1;
          if (before(x[row * cols + j], x[row * cols + found[middle]])) end = middle;
          else place = middle + 1;
        }
        if (place === k) continue;
        found.copyWithin(place + 1, place, Math.min(count, k - 1)); // one place back, and the last out
        found[place] = j;
      }
    }
  },
});

/** Running sums along each row. */

import { kernel, LANES } from "./kernel.ts";
import { eachRow } from "./rows.ts";

/**
 * y[i,j] = sum_{k <= j} x[i,k], or from the other end, k >= j, where `reverse` is 1: each is the other's gradient.
 *
 * A workgroup a row, a block of ${LANES} after the other: in ${Math.log2(LANES)} steps every lane adds what stands 1, 2, 4, ... lanes before it
 * (Hillis and Steele 1986), then what the blocks before came to.
 */
export const cumsum = kernel({
  name: "cumsum",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32", reverse: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var carry = 0.0;
  for (var block = 0u; block < p.cols; block += ${LANES}u) {
    let j = block + lane;
    let at = start + select(j, p.cols - 1u - j, p.reverse != 0u);
    var sum = 0.0;
    if (j < p.cols) { sum = x[at]; }
    for (var step = 1u; step < ${LANES}u; step *= 2u) {
      folded[lane] = sum;
      workgroupBarrier();
      if (lane >= step) { sum += folded[lane - step]; }
      workgroupBarrier();
    }
    if (j < p.cols) { y[at] = carry + sum; }
    folded[lane] = sum;
    workgroupBarrier();
    carry += folded[${LANES - 1}];
    workgroupBarrier();
  }`),
    },
  ],
  compiled: {
    name: "cumsum",
    buffers: ["x", "y"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols], work: 6 * cols }),
  },
  loops({ x, y }, { rows, cols, reverse }) {
    const step = reverse ? -1 : 1;
    for (let i = 0; i < rows; i++) {
      let at = reverse ? (i + 1) * cols - 1 : i * cols;
      let sum = 0;
      for (let j = 0; j < cols; j++, at += step) y[at] = sum += x[at];
    }
  },
});

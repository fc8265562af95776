/**
 * Rows by index: `gather` reads them, `gatherSum` adds them up again.
 *
 * Adding needs no atomics: the host sorts an index once and sends its inverse, `order` (the places of the index, grouped by the row they
 * name) and `starts` (where each row's group begins), so every row sums its own places, in the same order each time.
 */

import { each, kernel, lanes } from "./kernel.ts";

/** y[i] = x[index[i]], rows of `cols`. */
export const gather = kernel({
  name: "gather",
  inputs: { x: "f32", index: "u32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    { groups: ({ rows, cols }) => lanes(rows * cols), wgsl: each("y[i] = x[index[i / p.cols] * p.cols + i % p.cols];", "p.rows * p.cols") },
  ],
  compiled: { name: "gather", buffers: ["x", "index", "y"] },
  loops({ x, index, y }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      const from = index[i] * cols;
      for (let j = 0; j < cols; j++) y[i * cols + j] = x[from + j];
    }
  },
});

/** y[r] = sum over j from starts[r] to starts[r + 1] of x[order[j]]; a row that no place names is zero. */
export const gatherSum = kernel({
  name: "gatherSum",
  inputs: { x: "f32", order: "u32", starts: "u32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let row = i / p.cols; let col = i % p.cols;
  var sum = 0.0;
  for (var j = starts[row]; j < starts[row + 1u]; j++) { sum += x[order[j] * p.cols + col]; }
  y[i] = sum;`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: { name: "gatherSum", buffers: ["x", "order", "starts", "y"] },
  loops({ x, order, starts, y }, { rows, cols }) {
    y.fill(0, 0, rows * cols);
    for (let row = 0; row < rows; row++)
      for (let j = starts[row]; j < starts[row + 1]; j++) {
        const from = order[j] * cols;
        for (let col = 0; col < cols; col++) y[row * cols + col] += x[from + col];
      }
  },
});

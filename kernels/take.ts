/** Numbers of a row by their places, the way back, and rows that are 1 at one place. An index beyond the row names nothing. */

import { each, kernel, lanes } from "./kernel.ts";

/** y[i,j] = x[i, indices[i,j]], or 0 where there is none:   x [rows, cols], indices [rows, k] */
export const take = kernel({
  name: "take",
  inputs: { x: "f32", indices: "u32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32", k: "u32" },
  passes: [
    {
      groups: ({ rows, k }) => lanes(rows * k),
      wgsl: each("y[i] = 0.0; if (indices[i] < p.cols) { y[i] = x[i / p.k * p.cols + indices[i]]; }", "p.rows * p.k"),
    },
  ],
  compiled: {
    name: "take",
    buffers: ["x", "indices", "y"],
    split: ({ cols, k }) => ({ over: "rows", strides: [cols, k, k], work: 3 * k }),
  },
  loops({ x, indices, y }, { rows, cols, k }) {
    for (let i = 0, at = 0; i < rows; i++) for (let j = 0; j < k; j++, at++) y[at] = indices[at] < cols ? x[i * cols + indices[at]] : 0;
  },
});

/** dx[i,c] = sum_j dy[i,j] over the j with indices[i,j] = c: every number of dx looks for its own, so nothing is written twice. */
export const takeGrad = kernel({
  name: "takeGrad",
  inputs: { indices: "u32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32", k: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let start = i / p.cols * p.k; let col = i % p.cols;
  var sum = 0.0;
  for (var j = start; j < start + p.k; j++) { if (indices[j] == col) { sum += dy[j]; } }
  dx[i] = sum;`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: {
    name: "takeGrad",
    buffers: ["indices", "dy", "dx"],
    split: ({ cols, k }) => ({ over: "rows", strides: [k, k, cols], work: cols + 3 * k }),
  },
  loops({ indices, dy, dx }, { rows, cols, k }) {
    dx.fill(0, 0, rows * cols);
    for (let i = 0, at = 0; i < rows; i++) for (let j = 0; j < k; j++, at++) if (indices[at] < cols) dx[i * cols + indices[at]] += dy[at];
  },
});

/** y[i,j] = 1 where j = labels[i], else 0. */
export const oneHot = kernel({
  name: "oneHot",
  inputs: { labels: "u32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each("y[i] = select(0.0, 1.0, labels[i / p.cols] == i % p.cols);", "p.rows * p.cols"),
    },
  ],
  compiled: { name: "oneHot", buffers: ["labels", "y"], split: ({ cols }) => ({ over: "rows", strides: [1, cols], work: cols }) },
  loops({ labels, y }, { rows, cols }) {
    y.fill(0, 0, rows * cols);
    for (let i = 0; i < rows; i++) if (labels[i] < cols) y[i * cols + labels[i]] = 1;
  },
});

/**
 * The variance of each row, and its gradient.
 *
 *   y[i] = scale * sum_j (x[i,j] - mean[i])^2      dx[i,j] = 2 scale dy[i] (x[i,j] - mean[i])
 *
 * In two passes over the row: sum x^2 - n mean^2 would cancel (Chan, Golub and LeVeque 1983). The mean's own share of dx is zero, as the
 * differences from it add up to zero.
 */

import { each, kernel, lanes } from "./kernel.ts";
import { eachRow, meanAndSquares, meanAndSquaresOf } from "./rows.ts";

/** `means` keeps each row's mean. `scale` is 1 / cols, or 1 / (cols - 1) with Bessel's correction. */
export const variance = kernel({
  name: "variance",
  inputs: { x: "f32" },
  outputs: { y: "f32", means: "f32" },
  params: { rows: "u32", cols: "u32", scale: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `${meanAndSquares()}
  if (lane == 0u) { y[row] = p.scale * squares; means[row] = mean; }`),
    },
  ],
  compiled: {
    name: "variance",
    buffers: ["x", "y", "means"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 1, 1], work: 2 * cols }),
  },
  loops({ x, y, means }, { rows, cols, scale }) {
    for (let i = 0; i < rows; i++) {
      const { mean, squares } = meanAndSquaresOf(x, i * cols, (i + 1) * cols);
      y[i] = scale * squares;
      means[i] = mean;
    }
  },
});

export const varianceGrad = kernel({
  name: "varianceGrad",
  inputs: { x: "f32", means: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32", scale: "f32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each("let row = i / p.cols; dx[i] = 2.0 * p.scale * dy[row] * (x[i] - means[row]);", "p.rows * p.cols"),
    },
  ],
  compiled: {
    name: "varianceGrad",
    buffers: ["x", "means", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 1, 1, cols], work: 2 * cols }),
  },
  loops({ x, means, dy, dx }, { rows, cols, scale }) {
    for (let i = 0; i < rows; i++) for (let j = i * cols; j < (i + 1) * cols; j++) dx[j] = 2 * scale * dy[i] * (x[j] - means[i]);
  },
});

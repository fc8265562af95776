/**
 * The variance of each row, and its gradient.
 *
 *   y[i] = scale * sum_j (x[i,j] - mean[i])^2      dx[i,j] = 2 scale dy[i] (x[i,j] - mean[i])
 *
 * In two passes over the row: sum x^2 - n mean^2 would cancel (Chan, Golub and LeVeque 1983). The mean's own share of dx is zero, as the
 * differences from it add up to zero.
 */

import { each, kernel, LANES, lanes } from "./kernel.ts";
import { eachRow } from "./rows.ts";

/** `means` keeps each row's mean. `scale` is 1 / cols, or 1 / (cols - 1) with Bessel's correction. */
export const variance = kernel({
  name: "variance",
  inputs: { x: "f32" },
  outputs: { y: "f32", means: "f32" },
  params: { rows: "u32", cols: "u32", scale: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var sum = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { sum += x[start + j]; }
  let mean = total(lane, sum) / f32(p.cols);
  var squares = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { let d = x[start + j] - mean; squares += d * d; }
  squares = total(lane, squares);
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
      const end = (i + 1) * cols;
      let sum = 0;
      for (let j = i * cols; j < end; j++) sum += x[j];
      const mean = sum / cols;
      let squares = 0;
      for (let j = i * cols; j < end; j++) squares += (x[j] - mean) ** 2;
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

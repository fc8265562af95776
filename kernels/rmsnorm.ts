/**
 * Root mean square norm of each row (Zhang and Sennrich 2019, equation 4), and its gradients.
 *
 *   y = xhat * weight      xhat = x * r      r = 1 / sqrt(mean(x^2) + eps)
 *   dx = r * (g - xhat * mean(g * xhat))      g = dy * weight
 *   dweight = sum_rows dy * xhat
 */

import { columnScratch, PANEL, panelsOf } from "./cpu/scratch.ts";
import { kernel, LANES } from "./kernel.ts";
import { COLUMNS, eachColumn, eachRow } from "./rows.ts";

/** `scales` keeps each row's r. */
export const rmsNorm = kernel({
  name: "rmsNorm",
  inputs: { x: "f32", weight: "f32" },
  outputs: { y: "f32", scales: "f32" },
  params: { rows: "u32", cols: "u32", eps: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var squares = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { squares += x[start + j] * x[start + j]; }
  let r = 1.0 / sqrt(total(lane, squares) / f32(p.cols) + p.eps);
  for (var j = lane; j < p.cols; j += ${LANES}u) { y[start + j] = x[start + j] * r * weight[j]; }
  if (lane == 0u) { scales[row] = r; }`),
    },
  ],
  compiled: {
    name: "rmsNorm",
    buffers: ["x", "weight", "y", "scales"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 0, cols, 1], work: 4 * cols }),
  },
  loops({ x, weight, y, scales }, { rows, cols, eps }) {
    for (let row = 0; row < rows; row++) {
      const start = row * cols;
      let squares = 0;
      for (let j = 0; j < cols; j++) squares += x[start + j] ** 2;
      const r = 1 / Math.sqrt(squares / cols + eps);
      for (let j = 0; j < cols; j++) y[start + j] = x[start + j] * r * weight[j];
      scales[row] = r;
    }
  },
});

export const rmsNormGrad = kernel({
  name: "rmsNormGrad",
  inputs: { x: "f32", weight: "f32", scales: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  let r = scales[row];
  var gx = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { gx += dy[start + j] * weight[j] * x[start + j] * r; }
  gx = total(lane, gx) / f32(p.cols);
  for (var j = lane; j < p.cols; j += ${LANES}u) { dx[start + j] = r * (dy[start + j] * weight[j] - x[start + j] * r * gx); }`),
    },
  ],
  compiled: {
    name: "rmsNormGrad",
    buffers: ["x", "weight", "scales", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 0, 1, cols, cols], work: 6 * cols }),
  },
  loops({ x, weight, scales, dy, dx }, { rows, cols }) {
    for (let row = 0; row < rows; row++) {
      const start = row * cols;
      const r = scales[row];
      let gx = 0;
      for (let j = 0; j < cols; j++) gx += dy[start + j] * weight[j] * x[start + j] * r;
      for (let j = 0; j < cols; j++) dx[start + j] = r * (dy[start + j] * weight[j] - x[start + j] * r * (gx / cols));
    }
  },
});

/** The gradient of the weight: sums down the columns. */
export const rmsNormGradWeight = kernel({
  name: "rmsNormGradWeight",
  inputs: { x: "f32", scales: "f32", dy: "f32" },
  outputs: { dweight: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ cols }) => Math.ceil(cols / COLUMNS),
      wgsl: eachColumn(["dw"], "dw += dy[row * p.cols + col] * x[row * p.cols + col] * scales[row];", "dweight[col] = dw;"),
    },
  ],
  compiled: {
    name: "rmsNormGradWeight",
    buffers: ["x", "scales", "dy", "dweight"],
    scratch: ({ cols }) => columnScratch(cols),
    split: ({ rows, cols }) => ({ pieces: panelsOf(cols), work: 2 * PANEL * rows }),
  },
  loops({ x, scales, dy, dweight }, { rows, cols }) {
    const dw = new Float64Array(cols);
    for (let row = 0, at = 0; row < rows; row++) for (let j = 0; j < cols; j++, at++) dw[j] += dy[at] * x[at] * scales[row];
    dweight.set(dw);
  },
});

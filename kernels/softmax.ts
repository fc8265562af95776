/**
 * Softmax of each row, and its gradient.
 *
 *   y[i,j] = exp(x[i,j] - m[i]) / sum_k exp(x[i,k] - m[i])      m[i] = max_k x[i,k]
 *   dx[i,j] = y[i,j] * (dy[i,j] - sum_k dy[i,k] y[i,k])
 *
 * One workgroup a row. Subtracting the row's maximum keeps exp in [0, 1] and changes nothing else.
 */

import { kernel, LANES } from "./kernel.ts";
import { eachRow } from "./rows.ts";

export const softmax = kernel({
  name: "softmax",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var m = -3.4e38; // near the least f32
  for (var j = lane; j < p.cols; j += ${LANES}u) { m = max(m, x[start + j]); }
  m = maximum(lane, m);
  var s = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { s += exp(x[start + j] - m); }
  s = total(lane, s);
  for (var j = lane; j < p.cols; j += ${LANES}u) { y[start + j] = exp(x[start + j] - m) / s; }`),
    },
  ],
  compiled: { name: "softmax", buffers: ["x", "y"] },
  loops({ x, y }, { rows, cols }) {
    for (let start = 0; start < rows * cols; start += cols) {
      let m = Number.NEGATIVE_INFINITY;
      for (let j = start; j < start + cols; j++) m = Math.max(m, x[j]);
      let s = 0;
      for (let j = start; j < start + cols; j++) s += Math.exp(x[j] - m);
      for (let j = start; j < start + cols; j++) y[j] = Math.exp(x[j] - m) / s;
    }
  },
});

export const softmaxGrad = kernel({
  name: "softmaxGrad",
  inputs: { y: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var dot = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { dot += dy[start + j] * y[start + j]; }
  dot = total(lane, dot);
  for (var j = lane; j < p.cols; j += ${LANES}u) { dx[start + j] = y[start + j] * (dy[start + j] - dot); }`),
    },
  ],
  compiled: { name: "softmaxGrad", buffers: ["y", "dy", "dx"] },
  loops({ y, dy, dx }, { rows, cols }) {
    for (let start = 0; start < rows * cols; start += cols) {
      let dot = 0;
      for (let j = start; j < start + cols; j++) dot += dy[j] * y[j];
      for (let j = start; j < start + cols; j++) dx[j] = y[j] * (dy[j] - dot);
    }
  },
});

/**
 * Softmax of each row, its logarithm, the logarithm of the sum under it, and their gradients.
 *
 *   softmax     y[i,j] = exp(x[i,j] - m[i]) / s[i]          dx[i,j] = y[i,j] * (dy[i,j] - sum_k dy[i,k] y[i,k])
 *   logSoftmax  y[i,j] = x[i,j] - m[i] - log s[i]           dx[i,j] = dy[i,j] - exp(y[i,j]) * sum_k dy[i,k]
 *   logSumExp   y[i] = m[i] + log s[i]                      dx[i,j] = dy[i] * exp(x[i,j] - y[i])
 *
 *   m[i] = max_k x[i,k]      s[i] = sum_k exp(x[i,k] - m[i])
 *
 * One workgroup a row. Subtracting the row's maximum keeps exp in [0, 1] and changes nothing else.
 */

import { each, kernel, LANES, lanes } from "./kernel.ts";
import { eachRankedRow, eachRow, exponentials, LEAST_RANK, largest, sumOfExponentials } from "./rows.ts";

export const softmax = kernel({
  name: "softmax",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `${largest}${sumOfExponentials}
  for (var j = lane; j < p.cols; j += ${LANES}u) { y[start + j] = exp(x[start + j] - m) / s; }`),
    },
  ],
  compiled: {
    name: "softmax",
    buffers: ["x", "y"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols], work: 8 * cols }),
  },
  loops({ x, y }, { rows, cols }) {
    for (let start = 0; start < rows * cols; start += cols) {
      const { m, s } = exponentials(x, start, start + cols);
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
  compiled: {
    name: "softmaxGrad",
    buffers: ["y", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols, cols], work: 5 * cols }),
  },
  loops({ y, dy, dx }, { rows, cols }) {
    for (let start = 0; start < rows * cols; start += cols) {
      let dot = 0;
      for (let j = start; j < start + cols; j++) dot += dy[j] * y[j];
      for (let j = start; j < start + cols; j++) dx[j] = y[j] * (dy[j] - dot);
    }
  },
});

export const logSoftmax = kernel({
  name: "logSoftmax",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `${largest}${sumOfExponentials}
  for (var j = lane; j < p.cols; j += ${LANES}u) { y[start + j] = x[start + j] - m - log(s); }`),
    },
  ],
  compiled: {
    name: "logSoftmax",
    buffers: ["x", "y"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols], work: 8 * cols }),
  },
  loops({ x, y }, { rows, cols }) {
    for (let start = 0; start < rows * cols; start += cols) {
      const { m, s } = exponentials(x, start, start + cols);
      for (let j = start; j < start + cols; j++) y[j] = x[j] - m - Math.log(s);
    }
  },
});

export const logSoftmaxGrad = kernel({
  name: "logSoftmaxGrad",
  inputs: { y: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var sum = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { sum += dy[start + j]; }
  sum = total(lane, sum);
  for (var j = lane; j < p.cols; j += ${LANES}u) { dx[start + j] = dy[start + j] - exp(y[start + j]) * sum; }`),
    },
  ],
  compiled: {
    name: "logSoftmaxGrad",
    buffers: ["y", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols, cols], work: 8 * cols }),
  },
  loops({ y, dy, dx }, { rows, cols }) {
    for (let start = 0; start < rows * cols; start += cols) {
      let sum = 0;
      for (let j = start; j < start + cols; j++) sum += dy[j];
      for (let j = start; j < start + cols; j++) dx[j] = dy[j] - Math.exp(y[j]) * sum;
    }
  },
});

/** y is m itself where that is no finite number: NaN and Infinity prevail, and of nothing but -Infinity the sum is 0. */
export const logSumExp = kernel({
  name: "logSumExp",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRankedRow(/* wgsl */ `
  var most = ${LEAST_RANK};
  for (var j = lane; j < p.cols; j += ${LANES}u) { most = max(most, rank(x[start + j])); }
  let m = unrank(highest(lane, most));${sumOfExponentials}
  let finite = (bitcast<u32>(m) & 0x7f800000u) != 0x7f800000u;
  if (lane == 0u) { y[row] = select(m, m + log(s), finite); }`),
    },
  ],
  compiled: {
    name: "logSumExp",
    buffers: ["x", "y"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 1], work: 8 * cols }),
  },
  loops({ x, y }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      const { m, s } = exponentials(x, i * cols, (i + 1) * cols);
      y[i] = Number.isFinite(m) ? m + Math.log(s) : m;
    }
  },
});

/** Where y is -Infinity, so are all x, and dx is 0. */
export const logSumExpGrad = kernel({
  name: "logSumExpGrad",
  inputs: { x: "f32", y: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let row = i / p.cols;
  let none = bitcast<u32>(y[row]) == 0xff800000u; // -Infinity
  dx[i] = dy[row] * exp(x[i] - select(y[row], 0.0, none));`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: {
    name: "logSumExpGrad",
    buffers: ["x", "y", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 1, 1, cols], work: 8 * cols }),
  },
  loops({ x, y, dy, dx }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      const log = y[i] === Number.NEGATIVE_INFINITY ? 0 : y[i];
      for (let j = i * cols; j < (i + 1) * cols; j++) dx[j] = dy[i] * Math.exp(x[j] - log);
    }
  },
});

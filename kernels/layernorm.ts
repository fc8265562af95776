/**
 * Layer norm of each row (Ba, Kiros and Hinton 2016), and its gradients.
 *
 *   y = xhat * weight + bias      xhat = (x - mean) * r      r = 1 / sqrt(variance + eps), the variance without Bessel's correction
 *   dx = r * (g - mean(g) - xhat * mean(g * xhat))      g = dy * weight
 *   dweight = sum_rows dy * xhat      dbias = sum_rows dy
 */

import { columnScratch, PANEL, panelsOf } from "./cpu/scratch.ts";
import { type Arrays, type Floats, kernel, LANES, type Params, type Scalar } from "./kernel.ts";
import { COLUMNS, eachColumn, eachRow, meanAndSquares, meanAndSquaresOf } from "./rows.ts";

/** WGSL of `eachRow`: a row of x normed to y, and its stats. */
export const normed = (x = "x"): string => /* wgsl */ `${meanAndSquares(x)}
  let r = 1.0 / sqrt(squares / f32(p.cols) + p.eps);
  for (var j = lane; j < p.cols; j += ${LANES}u) { y[start + j] = (${x}[start + j] - mean) * r * weight[j] + bias[j]; }
  if (lane == 0u) { stats[2u * row] = mean; stats[2u * row + 1u] = r; }`;

/** The same in loops, of all rows. */
export function normRows(
  x: Floats,
  { weight, bias, y, stats }: Arrays<Record<"weight" | "bias" | "y" | "stats", "f32">>,
  { rows, cols, eps }: Params<Record<"rows" | "cols" | "eps", Scalar>>,
): void {
  for (let row = 0; row < rows; row++) {
    const start = row * cols;
    const { mean, squares } = meanAndSquaresOf(x, start, start + cols);
    const r = 1 / Math.sqrt(squares / cols + eps);
    for (let j = 0; j < cols; j++) y[start + j] = (x[start + j] - mean) * r * weight[j] + bias[j];
    stats[2 * row] = mean;
    stats[2 * row + 1] = r;
  }
}

/** `stats` keeps each row's mean and r, [rows, 2]. */
export const layerNorm = kernel({
  name: "layerNorm",
  inputs: { x: "f32", weight: "f32", bias: "f32" },
  outputs: { y: "f32", stats: "f32" },
  params: { rows: "u32", cols: "u32", eps: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(normed()),
    },
  ],
  compiled: {
    name: "layerNorm",
    buffers: ["x", "weight", "bias", "y", "stats"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 0, 0, cols, 2], work: 4 * cols }),
  },
  loops(buffers, size) {
    normRows(buffers.x, buffers, size);
  },
});

export const layerNormGrad = kernel({
  name: "layerNormGrad",
  inputs: { x: "f32", weight: "f32", stats: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  let mean = stats[2u * row]; let r = stats[2u * row + 1u];
  var g = 0.0; var gx = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) {
    let gj = dy[start + j] * weight[j];
    g += gj; gx += gj * (x[start + j] - mean) * r;
  }
  g = total(lane, g) / f32(p.cols); gx = total(lane, gx) / f32(p.cols);
  for (var j = lane; j < p.cols; j += ${LANES}u) {
    dx[start + j] = r * (dy[start + j] * weight[j] - g - (x[start + j] - mean) * r * gx);
  }`),
    },
  ],
  compiled: {
    name: "layerNormGrad",
    buffers: ["x", "weight", "stats", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 0, 2, cols, cols], work: 4 * cols }),
  },
  loops({ x, weight, stats, dy, dx }, { rows, cols }) {
    for (let row = 0; row < rows; row++) {
      const start = row * cols;
      const mean = stats[2 * row];
      const r = stats[2 * row + 1];
      let g = 0;
      let gx = 0;
      for (let j = 0; j < cols; j++) {
        const gj = dy[start + j] * weight[j];
        g += gj;
        gx += gj * (x[start + j] - mean) * r;
      }
      for (let j = 0; j < cols; j++) dx[start + j] = r * (dy[start + j] * weight[j] - g / cols - (x[start + j] - mean) * r * (gx / cols));
    }
  },
});

/** The gradients of weight and bias: sums down the columns. */
export const layerNormGradWeights = kernel({
  name: "layerNormGradWeights",
  inputs: { x: "f32", stats: "f32", dy: "f32" },
  outputs: { dweight: "f32", dbias: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ cols }) => Math.ceil(cols / COLUMNS),
      wgsl: eachColumn(
        ["dw", "db"],
        "let d = dy[row * p.cols + col]; db += d; dw += d * (x[row * p.cols + col] - stats[2u * row]) * stats[2u * row + 1u];",
        "dweight[col] = dw; dbias[col] = db;",
      ),
    },
  ],
  compiled: {
    name: "layerNormGradWeights",
    buffers: ["x", "stats", "dy", "dweight", "dbias"],
    scratch: ({ cols }) => 2 * columnScratch(cols),
    split: ({ rows, cols }) => ({ pieces: panelsOf(cols), work: 3 * PANEL * rows }),
  },
  loops({ x, stats, dy, dweight, dbias }, { rows, cols }) {
    const dw = new Float64Array(cols);
    const db = new Float64Array(cols);
    for (let row = 0, at = 0; row < rows; row++)
      for (let j = 0; j < cols; j++, at++) {
        db[j] += dy[at];
        dw[j] += dy[at] * (x[at] - stats[2 * row]) * stats[2 * row + 1];
      }
    dweight.set(dw);
    dbias.set(db);
  },
});

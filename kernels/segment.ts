/** The mean of each segment of a stream's rows, and its gradient. */

import { columnScratch } from "./cpu/scratch.ts";
import { each, kernel, lanes } from "./kernel.ts";

/** y[b] = mean of x[i] for spans[b][0] <= i < spans[b][1]; an empty span gives zeros.   x [N, cols], spans [B, 2], y [B, cols] */
export const segmentMean = kernel({
  name: "segmentMean",
  inputs: { x: "f32", spans: "u32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let b = i / p.cols; let col = i % p.cols;
  let first = spans[2u * b]; let end = spans[2u * b + 1u];
  var sum = 0.0;
  for (var row = first; row < end; row++) { sum += x[row * p.cols + col]; }
  y[i] = sum / f32(max(end - first, 1u));`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: { name: "segmentMean", buffers: ["x", "spans", "y"], scratch: ({ cols }) => columnScratch(cols) },
  loops({ x, spans, y }, { rows, cols }) {
    const sums = new Float64Array(cols);
    for (let b = 0; b < rows; b++) {
      const from = spans[2 * b];
      const to = spans[2 * b + 1];
      sums.fill(0);
      for (let row = from; row < to; row++) for (let j = 0; j < cols; j++) sums[j] += x[row * cols + j];
      for (let j = 0; j < cols; j++) y[b * cols + j] = sums[j] / Math.max(to - from, 1);
    }
  },
});

/** dx[i] = dy[b] / length of b, where `owner[i]` is the segment b that row i belongs to; NOBODY gives zero.   x [N, cols], rows = N */
export const NOBODY = 0xffffffff;

export const segmentMeanGrad = kernel({
  name: "segmentMeanGrad",
  inputs: { dy: "f32", spans: "u32", owner: "u32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let b = owner[i / p.cols];
  if (b == ${NOBODY}u) { dx[i] = 0.0; return; }
  dx[i] = dy[b * p.cols + i % p.cols] / f32(spans[2u * b + 1u] - spans[2u * b]);`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: { name: "segmentMeanGrad", buffers: ["dy", "spans", "owner", "dx"] },
  loops({ dy, spans, owner, dx }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      const b = owner[i];
      const length = b === NOBODY ? 1 : spans[2 * b + 1] - spans[2 * b];
      for (let j = 0; j < cols; j++) dx[i * cols + j] = b === NOBODY ? 0 : dy[b * cols + j] / length;
    }
  },
});

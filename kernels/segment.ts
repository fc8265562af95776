/** The sum, the mean and the largest of each segment of a stream's rows, and their gradients. */

import { columnScratch } from "./cpu/scratch.ts";
import { each, kernel, lanes } from "./kernel.ts";
import { rankOf } from "./rows.ts";

/** The owner of a row that belongs to no segment. */
export const NOBODY = 0xffffffff;

/** What a segment is taken to have, rows: how many it has, no size says. */
const MANY = 256;

/** y[b] = sum or mean of x[i] for spans[b][0] <= i < spans[b][1]; an empty span gives zeros.   x [N, cols], spans [B, 2], y [B, cols], rows = B */
const folded = (mean: boolean) =>
  kernel({
    name: mean ? "segmentMean" : "segmentSum",
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
  y[i] = ${mean ? "sum / f32(max(end - first, 1u))" : "sum"};`,
          "p.rows * p.cols",
        ),
      },
    ],
    compiled: {
      name: "segmentSum",
      buffers: ["x", "spans", "y"],
      constants: [Number(mean)],
      scratch: ({ cols }) => columnScratch(cols),
      split: ({ cols }) => ({ over: "rows", strides: [0, 2, cols], work: MANY * cols }),
    },
    loops({ x, spans, y }, { rows, cols }) {
      const sums = new Float64Array(cols);
      for (let b = 0; b < rows; b++) {
        const from = spans[2 * b];
        const to = spans[2 * b + 1];
        sums.fill(0);
        for (let row = from; row < to; row++) for (let j = 0; j < cols; j++) sums[j] += x[row * cols + j];
        for (let j = 0; j < cols; j++) y[b * cols + j] = mean ? sums[j] / Math.max(to - from, 1) : sums[j];
      }
    },
  });

export const segmentSum = folded(false);
export const segmentMean = folded(true);

/** dx[i] = dy[b], for a mean / length of b, where `owner[i]` is the segment b that row i belongs to; NOBODY gives zero.   x [N, cols], rows = N */
const foldedGrad = (mean: boolean) =>
  kernel({
    name: mean ? "segmentMeanGrad" : "segmentSumGrad",
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
  dx[i] = dy[b * p.cols + i % p.cols]${mean ? " / f32(spans[2u * b + 1u] - spans[2u * b])" : ""};`,
          "p.rows * p.cols",
        ),
      },
    ],
    compiled: {
      name: "segmentSumGrad",
      buffers: ["dy", "spans", "owner", "dx"],
      constants: [Number(mean)],
      split: ({ cols }) => ({ over: "rows", strides: [0, 0, 1, cols], work: cols }),
    },
    loops({ dy, spans, owner, dx }, { rows, cols }) {
      for (let i = 0; i < rows; i++) {
        const b = owner[i];
        const length = b !== NOBODY && mean ? spans[2 * b + 1] - spans[2 * b] : 1;
        for (let j = 0; j < cols; j++) dx[i * cols + j] = b === NOBODY ? 0 : dy[b * cols + j] / length;
      }
    },
  });

export const segmentSumGrad = foldedGrad(false);
export const segmentMeanGrad = foldedGrad(true);

/**
 * y[b] = the largest x[i] of each column for spans[b][0] <= i < spans[b][1], and how many rows have it: `ties`. An empty span gives zeros.
 * NaN anywhere gives NaN, which no row has: 0 ties.   x [N, cols], spans [B, 2], y and ties [B, cols], rows = B
 */
export const segmentMax = kernel({
  name: "segmentMax",
  inputs: { x: "f32", spans: "u32" },
  outputs: { y: "f32", ties: "u32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl:
        rankOf +
        each(
          /* wgsl */ `
  let b = i / p.cols; let col = i % p.cols;
  let first = spans[2u * b]; let end = spans[2u * b + 1u];
  var most = 0.0; var highest = 0u; var count = 0u;
  for (var row = first; row < end; row++) {
    let value = x[row * p.cols + col];
    let own = rank(value);
    if (own > highest) { most = value; highest = own; count = 1u; } else if (own == highest) { count++; }
  }
  y[i] = most; ties[i] = select(count, 0u, highest == 0xffffffffu);`,
          "p.rows * p.cols",
        ),
    },
  ],
  compiled: {
    name: "segmentMax",
    buffers: ["x", "spans", "y", "ties"],
    split: ({ cols }) => ({ over: "rows", strides: [0, 2, cols, cols], work: MANY * cols }),
  },
  loops({ x, spans, y, ties }, { rows, cols }) {
    y.fill(0, 0, rows * cols);
    ties.fill(0, 0, rows * cols);
    for (let b = 0; b < rows; b++)
      for (let row = spans[2 * b]; row < spans[2 * b + 1]; row++)
        for (let j = 0; j < cols; j++) {
          const value = x[row * cols + j];
          const at = b * cols + j;
          if (Number.isNaN(value) || Number.isNaN(y[at])) {
            y[at] = Number.NaN;
            ties[at] = 0;
          } else if (row === spans[2 * b] || value > y[at]) {
            y[at] = value;
            ties[at] = 1;
          } else if (value === y[at]) ties[at]++;
        }
  },
});

/** dx[i] = dy[b] / ties[b] where x[i] = y[b] and b = owner[i], else 0: rows that tie share the gradient evenly. Where y is NaN, so are they.   x [N, cols], rows = N */
export const segmentMaxGrad = kernel({
  name: "segmentMaxGrad",
  inputs: { x: "f32", y: "f32", ties: "u32", owner: "u32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let b = owner[i / p.cols];
  dx[i] = 0.0;
  if (b == ${NOBODY}u) { return; }
  let at = b * p.cols + i % p.cols;
  dx[i] = select(0.0, dy[at], x[i] == y[at]) / f32(ties[at]);`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: {
    name: "segmentMaxGrad",
    buffers: ["x", "y", "ties", "owner", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 0, 0, 1, 0, cols], work: 2 * cols }),
  },
  loops({ x, y, ties, owner, dy, dx }, { rows, cols }) {
    dx.fill(0, 0, rows * cols);
    for (let i = 0; i < rows; i++) {
      if (owner[i] === NOBODY) continue;
      for (let j = 0; j < cols; j++) {
        const at = owner[i] * cols + j;
        dx[i * cols + j] = (x[i * cols + j] === y[at] ? dy[at] : 0) / ties[at];
      }
    }
  },
});

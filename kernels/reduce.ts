/** Sums over one axis of [outer, n, inner], and the sum of all squares. */

import { columnScratch, PANEL, panelsOf, SQUARE_PARTS } from "./cpu/scratch.ts";
import { kernel, LANES } from "./kernel.ts";
import { COLUMNS, eachColumn, eachRow } from "./rows.ts";

/** y[i] = scale * sum_j x[i, j]: a workgroup a row. A mean has scale 1 / cols. */
export const sumRows = kernel({
  name: "sumRows",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32", scale: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var sum = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { sum += x[start + j]; }
  sum = total(lane, sum);
  if (lane == 0u) { y[row] = p.scale * sum; }`),
    },
  ],
  compiled: { name: "sumRows", buffers: ["x", "y"], split: ({ cols }) => ({ over: "rows", strides: [cols, 1], work: cols }) },
  loops({ x, y }, { rows, cols, scale }) {
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let j = i * cols; j < (i + 1) * cols; j++) sum += x[j];
      y[i] = scale * sum;
    }
  },
});

/** y[j] = scale * sum_i x[i, j], for each of `outer` matrices of [rows, inner]; columns are numbered through all of them: cols = outer * inner. */
export const sumColumns = kernel({
  name: "sumColumns",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { cols: "u32", rows: "u32", inner: "u32", scale: "f32" },
  passes: [
    {
      groups: ({ cols }) => Math.ceil(cols / COLUMNS),
      wgsl: eachColumn(["sum"], "sum += x[(col / p.inner * p.rows + row) * p.inner + col % p.inner];", "y[col] = p.scale * sum;"),
    },
  ],
  compiled: {
    name: "sumColumns",
    buffers: ["x", "y"],
    scratch: ({ inner }) => columnScratch(inner),
    split: ({ cols, rows, inner }) => ({ pieces: inner > 0 ? (cols / inner) * panelsOf(inner) : 0, work: PANEL * rows }),
  },
  loops({ x, y }, { cols, rows, inner, scale }) {
    const sums = new Float64Array(inner);
    for (let outer = 0; outer < cols; outer += inner) {
      sums.fill(0);
      for (let row = 0, at = outer * rows; row < rows; row++) for (let j = 0; j < inner; j++) sums[j] += x[at++];
      for (let j = 0; j < inner; j++) y[outer + j] = scale * sums[j];
    }
  },
});

/** The most partial sums the square sum is first folded into: what one workgroup can fold then. */
const PARTIALS = LANES;

/** squares[slot] = sum_i x[i]^2, in two passes: strided partial sums, as many as x fills, then theirs. */
export const sumSquares = kernel({
  name: "sumSquares",
  inputs: { x: "f32" },
  outputs: { squares: "f32" },
  scratch: { partial: { dtype: "f32", length: () => PARTIALS } },
  params: { rows: "u32", cols: "u32", n: "u32", slot: "u32" }, // rows and cols are those of `partial`
  passes: [
    {
      groups: ({ rows }) => rows,
      uses: ["x", "partial"],
      wgsl: eachRow(/* wgsl */ `
  var sum = 0.0;
  for (var i = row * ${LANES}u + lane; i < p.n; i += p.rows * ${LANES}u) { sum += x[i] * x[i]; }
  sum = total(lane, sum);
  if (lane == 0u) { partial[row] = sum; }`),
    },
    {
      groups: () => 1,
      uses: ["partial", "squares"],
      wgsl: eachRow(/* wgsl */ `
  var sum = 0.0;
  if (lane < p.rows) { sum = partial[lane]; }
  sum = total(lane, sum);
  if (lane == 0u) { squares[p.slot] = sum; }`),
    },
  ],
  compiled: {
    name: "sumSquares",
    buffers: ["x", "squares"],
    scratch: () => 8 * SQUARE_PARTS,
    split: ({ n }) => ({ pieces: SQUARE_PARTS, work: n / SQUARE_PARTS }),
    finish: "sumSquaresParts",
  },
  loops({ x, squares }, { n, slot }) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += x[i] * x[i];
    squares[slot] = sum;
  },
});

export const squareSumShape = (n: number, slot: number) => ({
  rows: Math.max(1, Math.min(PARTIALS, Math.ceil(n / LANES))),
  cols: 1,
  n,
  slot,
});

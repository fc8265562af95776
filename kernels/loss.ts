/**
 * Cross-entropy of each row of logits against a label, and its gradient.
 *
 *   loss = sum_i (log sum_j exp x[i,j] - x[i,label[i]]) / d      d = the number of rows with a label, or a number given
 *   dx[i,j] = (exp(x[i,j] - lse[i]) - [j = label[i]]) * dloss / d
 *
 * A row whose label is IGNORED counts for nothing: that is what places of no interest and the dead tail of a batch carry. Any other label
 * that names no column makes the loss infinite, or near the largest f32: who makes labels checks them.
 */

import { kernel, LANES } from "./kernel.ts";
import { eachRow } from "./rows.ts";

export const IGNORED = 0xffffffff;

/** `stats` keeps [1 / d] and then the log-sum-exp of each row, 0 where its label is IGNORED: [1 + rows]. `given[0]`, where it is not 0, is d. */
export const crossEntropy = kernel({
  name: "crossEntropy",
  inputs: { x: "f32", labels: "u32", given: "f32" },
  outputs: { loss: "f32", stats: "f32" },
  scratch: { losses: { dtype: "f32", length: ({ rows }) => rows } },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      uses: ["x", "labels", "stats", "losses"],
      wgsl: eachRow(/* wgsl */ `
  if (labels[row] == ${IGNORED}u) { // the same for all lanes
    if (lane == 0u) { stats[1u + row] = 0.0; losses[row] = 0.0; }
    return;
  }
  var m = -3.4e38; // near the least f32
  for (var j = lane; j < p.cols; j += ${LANES}u) { m = max(m, x[start + j]); }
  m = maximum(lane, m);
  var s = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { s += exp(x[start + j] - m); }
  s = m + log(total(lane, s));
  if (lane == 0u) {
    stats[1u + row] = s;
    losses[row] = select(3.4e38, s - x[start + min(labels[row], p.cols - 1u)], labels[row] < p.cols);
  }`),
    },
    {
      groups: () => 1,
      uses: ["labels", "given", "losses", "loss", "stats"],
      wgsl: eachRow(/* wgsl */ `
  var sum = 0.0; var count = 0.0;
  for (var i = lane; i < p.rows; i += ${LANES}u) { sum += losses[i]; count += select(0.0, 1.0, labels[i] != ${IGNORED}u); }
  sum = total(lane, sum); count = total(lane, count);
  let d = select(max(count, 1.0), given[0], given[0] != 0.0);
  if (lane == 0u) { loss[0] = sum / d; stats[0] = 1.0 / d; }`),
    },
  ],
  compiled: { name: "crossEntropy", buffers: ["x", "labels", "given", "loss", "stats"] },
  loops({ x, labels, given, loss, stats }, { rows, cols }) {
    let sum = 0;
    let count = 0;
    for (let i = 0; i < rows; i++) {
      stats[1 + i] = 0;
      if (labels[i] === IGNORED) continue;
      const start = i * cols;
      let m = Number.NEGATIVE_INFINITY;
      for (let j = start; j < start + cols; j++) if (x[j] > m) m = x[j];
      let s = 0;
      for (let j = start; j < start + cols; j++) s += Math.exp(x[j] - m);
      stats[1 + i] = m + Math.log(s);
      sum += labels[i] < cols ? m + Math.log(s) - x[start + labels[i]] : Number.POSITIVE_INFINITY;
      count++;
    }
    const d = given[0] !== 0 ? given[0] : Math.max(count, 1);
    loss[0] = sum / d;
    stats[0] = 1 / d;
  },
});

export const crossEntropyGrad = kernel({
  name: "crossEntropyGrad",
  inputs: { x: "f32", labels: "u32", stats: "f32", dloss: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  let counts = labels[row] != ${IGNORED}u;
  let scale = dloss[0] * stats[0];
  for (var j = lane; j < p.cols; j += ${LANES}u) {
    let d = exp(x[start + j] - stats[1u + row]) - select(0.0, 1.0, j == labels[row]);
    dx[start + j] = select(0.0, scale * d, counts);
  }`),
    },
  ],
  compiled: { name: "crossEntropyGrad", buffers: ["x", "labels", "stats", "dloss", "dx"] },
  loops({ x, labels, stats, dloss, dx }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      const start = i * cols;
      if (labels[i] === IGNORED) {
        dx.fill(0, start, start + cols);
        continue;
      }
      const scale = dloss[0] * stats[0];
      const lse = stats[1 + i];
      for (let j = start; j < start + cols; j++) dx[j] = scale * Math.exp(x[j] - lse);
      if (labels[i] < cols) dx[start + labels[i]] -= scale;
    }
  },
});

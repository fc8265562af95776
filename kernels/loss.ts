/**
 * Cross-entropy of each row of logits against a label, and its gradient: plain, and with class weights and label smoothing.
 *
 *   loss = sum_i (log sum_j exp x[i,j] - x[i,label[i]]) / d      d = the number of rows with a label, or a number given
 *   dx[i,j] = (exp(x[i,j] - lse[i]) - [j = label[i]]) * dloss / d
 *
 * A row whose label is IGNORED counts for nothing: that is what places of no interest and the dead tail of a batch carry. Any other label
 * that names no column makes the loss infinite, or near the largest f32: who makes labels checks them.
 */

import { type Floats, kernel, LANES } from "./kernel.ts";
import { eachRow, exponentials, largest, oneGroup, sumOfExponentials } from "./rows.ts";

/** WGSL: the logarithm of the sum of a row's exponentials, in numbers near its largest. */
const logSumExp = /* wgsl */ `${largest}${sumOfExponentials}
  let lse = m + log(s);`;

/** The same in loops. */
function logSumExpOf(x: Floats, start: number, cols: number): number {
  const { m, s } = exponentials(x, start, start + cols);
  return m + Math.log(s);
}

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
  ${logSumExp}
  if (lane == 0u) {
    stats[1u + row] = lse;
    losses[row] = select(3.4e38, lse - x[start + min(labels[row], p.cols - 1u)], labels[row] < p.cols);
  }`),
    },
    {
      groups: () => 1,
      uses: ["labels", "given", "losses", "loss", "stats"],
      wgsl: oneGroup(/* wgsl */ `
  var sum = 0.0; var count = 0.0;
  for (var i = lane; i < p.rows; i += ${LANES}u) { sum += losses[i]; count += select(0.0, 1.0, labels[i] != ${IGNORED}u); }
  sum = total(lane, sum); count = total(lane, count);
  let d = select(max(count, 1.0), given[0], given[0] != 0.0);
  if (lane == 0u) { loss[0] = sum / d; stats[0] = 1.0 / d; }`),
    },
  ],
  compiled: {
    name: "crossEntropy",
    buffers: ["x", "labels", "given", "loss", "stats"],
    scratch: ({ rows }) => 8 * rows,
    split: ({ rows, cols }) => ({ pieces: rows, work: 6 * cols }),
    finish: "crossEntropyLoss",
  },
  loops({ x, labels, given, loss, stats }, { rows, cols }) {
    let sum = 0;
    let count = 0;
    for (let i = 0; i < rows; i++) {
      stats[1 + i] = 0;
      if (labels[i] === IGNORED) continue;
      const start = i * cols;
      const lse = logSumExpOf(x, start, cols);
      stats[1 + i] = lse;
      sum += labels[i] < cols ? lse - x[start + labels[i]] : Number.POSITIVE_INFINITY;
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
  compiled: {
    name: "crossEntropyGrad",
    buffers: ["x", "labels", "stats", "dloss", "dx"],
    split: ({ rows, cols }) => ({ pieces: rows, work: 6 * cols }),
  },
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

/**
 * Cross-entropy with class weights w and a share `smoothing` of each label spread over all classes (Szegedy et al. 2016), as
 * torch.nn.functional.cross_entropy(weight, label_smoothing):
 *
 *   loss = sum_i ((1 - smoothing) w[label[i]] (lse[i] - x[i,label[i]]) + smoothing / cols * sum_j w[j] (lse[i] - x[i,j])) / d
 *   dx[i,j] = (((1 - smoothing) w[label[i]] + smoothing / cols * W) exp(x[i,j] - lse[i])
 *              - (1 - smoothing) w[label[i]] [j = label[i]] - smoothing / cols * w[j]) * dloss / d
 *
 * d = the sum of w[label[i]] over the rows with a label (1 where that is 0), or `given[0]`, where it is not 0; W = the sum of all w.
 * `stats` keeps [1 / d, W] and then the log-sum-exp of each row: [2 + rows]. A label that names no column has weight 0 and an infinite loss.
 */
export const crossEntropyWeighted = kernel({
  name: "crossEntropyWeighted",
  inputs: { x: "f32", labels: "u32", weights: "f32", given: "f32" },
  outputs: { loss: "f32", stats: "f32" },
  scratch: { losses: { dtype: "f32", length: ({ rows }) => rows } },
  params: { rows: "u32", cols: "u32", smoothing: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      uses: ["x", "labels", "weights", "stats", "losses"],
      wgsl: eachRow(/* wgsl */ `
  let label = labels[row];
  if (label == ${IGNORED}u) { // the same for all lanes
    if (lane == 0u) { stats[2u + row] = 0.0; losses[row] = 0.0; }
    return;
  }
  ${logSumExp}
  var spread = 0.0;
  if (p.smoothing > 0.0) {
    for (var j = lane; j < p.cols; j += ${LANES}u) { spread += weights[j] * (lse - x[start + j]); }
  }
  spread = total(lane, spread);
  if (lane == 0u) {
    stats[2u + row] = lse;
    let at = min(label, p.cols - 1u);
    let own = (1.0 - p.smoothing) * weights[at] * (lse - x[start + at]);
    losses[row] = select(3.4e38, own + p.smoothing / f32(p.cols) * spread, label < p.cols);
  }`),
    },
    {
      groups: () => 1,
      uses: ["labels", "weights", "given", "losses", "loss", "stats"],
      wgsl: oneGroup(/* wgsl */ `
  var sum = 0.0; var weight = 0.0; var all = 0.0;
  for (var i = lane; i < p.rows; i += ${LANES}u) {
    sum += losses[i];
    if (labels[i] < p.cols) { weight += weights[labels[i]]; }
  }
  for (var j = lane; j < p.cols; j += ${LANES}u) { all += weights[j]; }
  sum = total(lane, sum); weight = total(lane, weight); all = total(lane, all);
  let d = select(select(1.0, weight, weight != 0.0), given[0], given[0] != 0.0);
  if (lane == 0u) { loss[0] = sum / d; stats[0] = 1.0 / d; stats[1] = all; }`),
    },
  ],
  compiled: {
    name: "crossEntropyWeighted",
    buffers: ["x", "labels", "weights", "given", "loss", "stats"],
    scratch: ({ rows }) => 8 * rows,
    split: ({ rows, cols }) => ({ pieces: rows, work: 8 * cols }),
    finish: "crossEntropyWeightedLoss",
  },
  loops({ x, labels, weights, given, loss, stats }, { rows, cols, smoothing }) {
    let sum = 0;
    let weight = 0;
    for (let i = 0; i < rows; i++) {
      stats[2 + i] = 0;
      if (labels[i] === IGNORED) continue;
      const start = i * cols;
      const lse = logSumExpOf(x, start, cols);
      stats[2 + i] = lse;
      let spread = 0;
      if (smoothing > 0) for (let j = 0; j < cols; j++) spread += weights[j] * (lse - x[start + j]);
      if (labels[i] < cols) {
        const w = weights[labels[i]];
        weight += w;
        sum += (1 - smoothing) * w * (lse - x[start + labels[i]]) + (smoothing / cols) * spread;
      } else sum = Number.POSITIVE_INFINITY;
    }
    let all = 0;
    for (let j = 0; j < cols; j++) all += weights[j];
    const d = given[0] !== 0 ? given[0] : weight !== 0 ? weight : 1;
    loss[0] = sum / d;
    stats[0] = 1 / d;
    stats[1] = all;
  },
});

export const crossEntropyWeightedGrad = kernel({
  name: "crossEntropyWeightedGrad",
  inputs: { x: "f32", labels: "u32", weights: "f32", stats: "f32", dloss: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32", smoothing: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  let label = labels[row];
  let scale = dloss[0] * stats[0];
  let own = select(0.0, (1.0 - p.smoothing) * weights[min(label, p.cols - 1u)], label < p.cols);
  let share = p.smoothing / f32(p.cols);
  for (var j = lane; j < p.cols; j += ${LANES}u) {
    let d = (own + share * stats[1]) * exp(x[start + j] - stats[2u + row]) - select(0.0, own, j == label) - share * weights[j];
    dx[start + j] = select(0.0, scale * d, label != ${IGNORED}u);
  }`),
    },
  ],
  compiled: {
    name: "crossEntropyWeightedGrad",
    buffers: ["x", "labels", "weights", "stats", "dloss", "dx"],
    split: ({ rows, cols }) => ({ pieces: rows, work: 6 * cols }),
  },
  loops({ x, labels, weights, stats, dloss, dx }, { rows, cols, smoothing }) {
    const scale = dloss[0] * stats[0];
    const share = smoothing / cols;
    for (let i = 0; i < rows; i++) {
      const start = i * cols;
      if (labels[i] === IGNORED) {
        dx.fill(0, start, start + cols);
        continue;
      }
      const own = labels[i] < cols ? (1 - smoothing) * weights[labels[i]] : 0;
      for (let j = 0; j < cols; j++)
        dx[start + j] = scale * ((own + share * stats[1]) * Math.exp(x[start + j] - stats[2 + i]) - share * weights[j]);
      if (labels[i] < cols) dx[start + labels[i]] -= scale * own;
    }
  },
});

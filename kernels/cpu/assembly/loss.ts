/** Cross-entropy of rows of logits against labels, plain and weighted, and its gradients (kernels/loss.ts); sums in f64. */

import { putExponentials, sumExponentials } from "./exponentials";
import { largest, pairs, take, total } from "./row";

const IGNORED: u32 = 0xffffffff;

@inline
function labelOf(labels: usize, row: u32): u32 {
  return load<u32>(labels + usize(row) * 4);
}

/** log sum_j exp x[j]: the row is read twice, the second time from the cache. */
@inline
function logSumExp(x: usize, cols: u32): f64 {
  const m = largest(x, cols);
  return f64(m) + Math.log(sumExponentials(x, cols, m, 0));
}

/** Rows `first` to `end`: each leaves its loss in `losses`, an f64, for `crossEntropyLoss`. */
export function crossEntropy(
  x: usize, labels: usize, given: usize, loss: usize, stats: usize, losses: usize, rows: u32, cols: u32, first: u32, end: u32,
): void {
  for (let i = first; i < end; i++) {
    const row = x + usize(i) * cols * 4;
    const label = labelOf(labels, i);
    let lse: f64 = 0;
    let own: f64 = 0;
    if (label != IGNORED) {
      lse = logSumExp(row, cols);
      own = label < cols ? lse - load<f32>(row + usize(label) * 4) : Infinity;
    }
    store<f32>(stats + usize(i) * 4, f32(lse), 4);
    store<f64>(losses + usize(i) * 8, own);
  }
}

/** What the rows come to. */
export function crossEntropyLoss(
  x: usize, labels: usize, given: usize, loss: usize, stats: usize, losses: usize, rows: u32, cols: u32, first: u32, end: u32,
): void {
  let sum: f64 = 0;
  let count: u32 = 0;
  for (let i: u32 = 0; i < rows; i++) {
    sum += load<f64>(losses + usize(i) * 8);
    if (labelOf(labels, i) != IGNORED) count++;
  }
  const told = load<f32>(given);
  const d = told != 0 ? f64(told) : f64(max<u32>(count, 1));
  store<f32>(loss, f32(sum / d));
  store<f32>(stats, f32(1 / d));
}

export function crossEntropyGrad(
  x: usize, labels: usize, stats: usize, dloss: usize, dx: usize, rows: u32, cols: u32, first: u32, end: u32,
): void {
  const scale = load<f32>(dloss) * load<f32>(stats);
  for (let i = first; i < end; i++) {
    const label = labelOf(labels, i);
    const start = usize(i) * cols * 4;
    if (label == IGNORED) {
      memory.fill(dx + start, 0, usize(cols) * 4);
      continue;
    }
    putExponentials(x + start, cols, load<f32>(stats + usize(i) * 4, 4), scale, 0, 0, dx + start);
    const at = dx + start + usize(label) * 4;
    if (label < cols) store<f32>(at, load<f32>(at) - scale);
  }
}

/** sum_j w[j] (lse - x[j]) */
function spreadOf(x: usize, weights: usize, cols: u32, lse: f32): f64 {
  let sum = f64x2.splat(0);
  for (let j: u32 = 0; j < cols; j += 4) {
    const at = usize(j) * 4;
    sum = f64x2.add(sum, pairs(f32x4.mul(take(weights + at, cols - j), f32x4.sub(f32x4.splat(lse), take(x + at, cols - j, lse)))));
  }
  return total(sum);
}

/** As `crossEntropy`; the losses are for `crossEntropyWeightedLoss`. */
export function crossEntropyWeighted(
  x: usize, labels: usize, weights: usize, given: usize, loss: usize, stats: usize, losses: usize,
  rows: u32, cols: u32, smoothing: f32, first: u32, end: u32,
): void {
  for (let i = first; i < end; i++) {
    const row = x + usize(i) * cols * 4;
    const label = labelOf(labels, i);
    let lse: f64 = 0;
    let own: f64 = 0;
    if (label != IGNORED) {
      lse = logSumExp(row, cols);
      own = Infinity;
      if (label < cols) {
        const w = f64(load<f32>(weights + usize(label) * 4));
        own = (1 - f64(smoothing)) * w * (lse - load<f32>(row + usize(label) * 4));
        if (smoothing > 0) own += (f64(smoothing) / f64(cols)) * spreadOf(row, weights, cols, f32(lse));
      }
    }
    store<f32>(stats + usize(i) * 4, f32(lse), 8);
    store<f64>(losses + usize(i) * 8, own);
  }
}

export function crossEntropyWeightedLoss(
  x: usize, labels: usize, weights: usize, given: usize, loss: usize, stats: usize, losses: usize,
  rows: u32, cols: u32, smoothing: f32, first: u32, end: u32,
): void {
  let sum: f64 = 0;
  let weight: f64 = 0;
  for (let i: u32 = 0; i < rows; i++) {
    sum += load<f64>(losses + usize(i) * 8);
    const label = labelOf(labels, i);
    if (label < cols) weight += load<f32>(weights + usize(label) * 4);
  }
  let all = f64x2.splat(0);
  for (let j: u32 = 0; j < cols; j += 4) all = f64x2.add(all, pairs(take(weights + usize(j) * 4, cols - j)));
  const told = load<f32>(given);
  const d = told != 0 ? f64(told) : weight != 0 ? weight : 1;
  store<f32>(loss, f32(sum / d));
  store<f32>(stats, f32(1 / d));
  store<f32>(stats, f32(total(all)), 4);
}

export function crossEntropyWeightedGrad(
  x: usize, labels: usize, weights: usize, stats: usize, dloss: usize, dx: usize,
  rows: u32, cols: u32, smoothing: f32, first: u32, end: u32,
): void {
  const scale = f64(load<f32>(dloss)) * load<f32>(stats);
  const share = f64(smoothing) / f64(cols);
  for (let i = first; i < end; i++) {
    const label = labelOf(labels, i);
    const start = usize(i) * cols * 4;
    if (label == IGNORED) {
      memory.fill(dx + start, 0, usize(cols) * 4);
      continue;
    }
    const own = label < cols ? (1 - f64(smoothing)) * load<f32>(weights + usize(label) * 4) : 0;
    const factor = f32(scale * (own + share * load<f32>(stats, 4)));
    putExponentials(x + start, cols, load<f32>(stats + usize(i) * 4, 8), factor, weights, f32(-scale * share), dx + start);
    const at = dx + start + usize(label) * 4;
    if (label < cols) store<f32>(at, load<f32>(at) - f32(scale * own));
  }
}

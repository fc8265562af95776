/** Cross-entropy of rows of logits against labels, and its gradient (kernels/loss.ts); sums in f64. */

import { largest, pairs, put, take, total } from "./row";
import { vanishing } from "./softmax";
import { exp } from "./vector";

const IGNORED: u32 = 0xffffffff;

/** log sum_j exp x[j]: the row is read twice, the second time from the cache. */
function logSumExp(x: usize, cols: u32): f64 {
  const m = largest(x, cols);
  let sum = f64x2.splat(0);
  for (let j: u32 = 0; j < cols; j += 4) {
    const below = f32x4.sub(take(x + usize(j) * 4, cols - j, -Infinity), f32x4.splat(m));
    sum = f64x2.add(sum, pairs(exp(below)));
  }
  return f64(m) + Math.log(total(sum));
}

export function crossEntropy(x: usize, labels: usize, given: usize, loss: usize, stats: usize, rows: u32, cols: u32): void {
  let sum: f64 = 0;
  let count: u32 = 0;
  for (let i: u32 = 0; i < rows; i++) {
    const label = load<u32>(labels + usize(i) * 4);
    let lse: f64 = 0;
    if (label != IGNORED) {
      lse = logSumExp(x, cols);
      sum += label < cols ? lse - load<f32>(x + usize(label) * 4) : Infinity;
      count++;
    }
    store<f32>(stats + usize(i) * 4, f32(lse), 4);
    x += usize(cols) * 4;
  }
  const told = load<f32>(given);
  const d = told != 0 ? f64(told) : f64(max<u32>(count, 1));
  store<f32>(loss, f32(sum / d));
  store<f32>(stats, f32(1 / d));
}

export function crossEntropyGrad(x: usize, labels: usize, stats: usize, dloss: usize, dx: usize, rows: u32, cols: u32): void {
  const scale = load<f32>(dloss) * load<f32>(stats);
  for (let i: u32 = 0; i < rows; i++) {
    const label = load<u32>(labels + usize(i) * 4);
    if (label == IGNORED) memory.fill(dx, 0, usize(cols) * 4);
    else {
      const lse = f32x4.splat(load<f32>(stats + usize(i) * 4, 4));
      for (let j: u32 = 0; j < cols; j += 4) {
        const at = usize(j) * 4;
        put(dx + at, f32x4.mul(vanishing(f32x4.sub(take(x + at, cols - j), lse)), f32x4.splat(scale)), cols - j);
      }
      const at = dx + usize(label) * 4;
      if (label < cols) store<f32>(at, load<f32>(at) - scale);
    }
    x += usize(cols) * 4;
    dx += usize(cols) * 4;
  }
}

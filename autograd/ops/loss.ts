/** Losses, each beside its derivative. */

import {
  crossEntropyGrad,
  crossEntropy as crossEntropyKernel,
  crossEntropyWeighted,
  crossEntropyWeightedGrad,
} from "../../kernels/loss.ts";
import { checkOptions } from "../../src/options.ts";
import { bind, sameShape, show } from "../../src/shape.ts";
import { full, run, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { map, reduce, zip } from "./apply.ts";

export interface CrossEntropy {
  /** f32 [1]: divide by this instead of what the labelled rows come to: what makes the losses of several batches add up to one mean. */
  readonly count?: Tensor | null;
  /** The share of each label that is spread evenly over all classes, from 0 to 1 (Szegedy et al. 2016). Default 0. */
  readonly smoothing?: number;
  /** f32 [V]: what a row counts, by its label, and in the mean's denominator; smoothing spreads its share by them too. Default: all 1. */
  readonly weights?: Tensor | null;
}

/**
 * The mean cross-entropy of rows of logits against labels (natural logarithm), as torch.nn.functional.cross_entropy with its `weight` and
 * `label_smoothing`. Rows labelled IGNORED do not count; where no row does, the loss is 0.
 *   logits [M, V], labels u32 [M] -> []
 * @throws RangeError for shapes that disagree, and smoothing outside [0, 1].
 */
export const crossEntropy = op("crossEntropy", (logits: Tensor, labels: Tensor, options: CrossEntropy = {}) => {
  checkOptions("crossEntropy(logits, labels, options)", options, ["count", "smoothing", "weights"]);
  const { count = null, smoothing = 0, weights = null } = options;
  const { m: rows, v: cols } = bind("crossEntropy", "m v, m", [logits.shape, labels.shape]);
  if (weights) bind("crossEntropy", "m v, m, v", [logits.shape, labels.shape, weights.shape]);
  if (!(smoothing >= 0 && smoothing <= 1))
    throw new RangeError(`crossEntropy(m v, m): smoothing is ${smoothing}; give a share from 0 to 1`);
  const inputs = { x: logits, labels, given: count ?? full([1], 0, "f32", logits.device) };
  if (smoothing === 0 && !weights) {
    const { loss, stats } = run(crossEntropyKernel, inputs, { loss: [], stats: [1 + rows] }, { rows, cols });
    return [
      loss,
      [logits, labels, stats],
      (dloss) => [run(crossEntropyGrad, { x: logits, labels, stats, dloss }, { dx: logits.shape }, { rows, cols }).dx],
    ];
  }
  const w = weights ?? full([cols], 1, "f32", logits.device);
  const params = { rows, cols, smoothing };
  const { loss, stats } = run(crossEntropyWeighted, { ...inputs, weights: w }, { loss: [], stats: [2 + rows] }, params);
  return [
    loss,
    [logits, labels, w, stats],
    (dloss) => [run(crossEntropyWeightedGrad, { x: logits, labels, weights: w, stats, dloss }, { dx: logits.shape }, params).dx],
  ];
});

/** The mean of (a - b)^2 over all elements, of two tensors of one shape; 0 where there are none.   [...], [...] -> [] */
export const mse = op("mse", (a: Tensor, b: Tensor) => {
  if (!sameShape(a.shape, b.shape))
    throw new RangeError(`mse(a, b): shapes differ; got ${show(a.shape)} and ${show(b.shape)}; make them equal, nothing is stretched here`);
  const n = a.size;
  const scale = 1 / Math.max(n, 1);
  const d = zip("sub", a.withShape([n]), b.withShape([n]));
  return [
    reduce(map("square", d), [0], scale).withShape([]),
    [d],
    (dy, need) => {
      const da = zip("mul", d, zip("mul", dy, full([], 2 * scale, "f32", d.device))).withShape(a.shape); // (d^2)' = 2 d
      return [need[0] ? da : null, need[1] ? map("neg", da) : null];
    },
  ];
});

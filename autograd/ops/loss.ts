/** Losses, each beside its derivative. */

import { crossEntropyGrad, crossEntropy as crossEntropyKernel } from "../../kernels/loss.ts";
import { bind } from "../../src/shape.ts";
import { full, run, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";

/**
 * The mean cross-entropy of rows of logits against labels (natural logarithm). Rows labelled IGNORED do not count.
 *   logits [M, V], labels u32 [M] -> []
 * @param count f32 [1]: divide by this instead of the number of labelled rows: what makes the losses of several batches add up to one mean.
 */
export const crossEntropy = op("crossEntropy", (logits: Tensor, labels: Tensor, count: Tensor | null = null) => {
  const { m: rows, v: cols } = bind("crossEntropy", "m v, m", [logits.shape, labels.shape]);
  const inputs = { x: logits, labels, given: count ?? full([1], 0) };
  const { loss, stats } = run(crossEntropyKernel, inputs, { loss: [], stats: [1 + rows] }, { rows, cols });
  return [
    loss,
    [logits, labels, stats],
    (dloss) => [run(crossEntropyGrad, { x: logits, labels, stats, dloss }, { dx: logits.shape }, { rows, cols }).dx, null, null],
  ];
});

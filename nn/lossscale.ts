/** A factor on the loss that keeps small gradients alive where they are rounded to f16, and finds its own size. */

import { mul, reshape, slice } from "../autograd/ops.ts";
import { checkOptions } from "../src/options.ts";
import { keep, type Tensor, tensor } from "../src/tensor.ts";

export interface LossScaleOptions {
  /** The factor to begin with. Default 2^16. */
  readonly initial?: number;
  /** What it is multiplied by after `interval` steps in which no gradient overflowed. Default 2, and 2000 steps. */
  readonly growth?: number;
  readonly interval?: number;
  /** What it is multiplied by when one did. Default 0.5. */
  readonly backoff?: number;
}

/**
 * Dynamic loss scaling (Micikevicius et al. 2018; torch.amp.GradScaler, with its defaults), all of it on the device: nothing is read back.
 *
 *   const scale = new LossScale();
 *   const optimizer = new AdamW(parameters(model), { scale });
 *   const { value, grads } = valueAndGrad(() => {
 *     const loss = model.loss(batch);
 *     return [scale.apply(loss), loss]; // the first is differentiated
 *   }, weights);
 *   optimizer.step(grads, rate); // divides by the factor, or skips the step and halves it
 *
 * A product that rounds to f16 makes Infinity of what f16 cannot hold, from 65,520 on, and 0 of what is no larger than 2^-25: the first shows in the gradients' norm and
 * halves the factor, the second is what the factor is for. The factor is part of the optimizer's state, as `lossScale`, and is saved and restored with it.
 *
 * Steps that were skipped count as steps in AdamW's bias correction, which PyTorch leaves out: to know it would take reading.
 */
export class LossScale {
  /** f32 [2]: the factor, and the steps since it last changed. */
  readonly state: Tensor;
  /** How it changes. */
  readonly rule: { readonly growth: number; readonly backoff: number; readonly interval: number };

  /** @throws RangeError for a factor, growth, backoff or interval that cannot be. */
  constructor(options: LossScaleOptions = {}) {
    const where = "LossScale(options)";
    checkOptions(where, options, ["initial", "growth", "interval", "backoff"]);
    const { initial = 2 ** 16, growth = 2, interval = 2000, backoff = 0.5 } = options;
    const check = (name: string, value: number, good: boolean, what: string): void => {
      if (!good) throw new RangeError(`${where}: ${name} must be ${what}; got ${value}`);
    };
    check("initial", initial, initial > 0 && Number.isFinite(initial), "positive");
    check("growth", growth, growth >= 1 && Number.isFinite(growth), "1 or more");
    check("backoff", backoff, backoff > 0 && backoff < 1, "between 0 and 1");
    check("interval", interval, Number.isInteger(interval) && interval >= 1, "an integer, 1 or more");
    this.rule = { growth, backoff, interval };
    this.state = keep(tensor([initial, 0]));
  }

  /** The loss times the factor.   [] or [1] */
  apply(loss: Tensor): Tensor {
    return mul(loss, reshape(slice(this.state, 0, 0, 1), loss.shape));
  }

  free(): void {
    this.state.free();
  }
}

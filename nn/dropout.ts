/** Dropout as a layer. */

import { dropout } from "../autograd/ops.ts";
import type { StepKey } from "../autograd/stepkey.ts";
import type { Tensor } from "../src/tensor.ts";

/** Zeroes each value with probability p and scales the others by 1 / (1 - p) (Srivastava et al. 2014), when it is given a key. */
export class Dropout {
  readonly p: number;

  /** @throws RangeError for a p that is no probability below 1. */
  constructor(p: number) {
    if (!(p >= 0 && p < 1)) throw new RangeError(`Dropout(p): p must lie in [0, 1); got ${p}`);
    this.p = p;
  }

  /** @param key what the mask is drawn from: another one at each place. Without it nothing is dropped: there is no mode to switch. */
  forward(x: Tensor, key: StepKey | null): Tensor {
    return key && this.p > 0 ? dropout(x, { p: this.p, key }) : x;
  }
}

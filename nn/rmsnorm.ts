/** Root mean square norm with a learned scale. */

import { rmsNorm } from "../autograd/ops.ts";
import { keep, ones, type Tensor } from "../src/tensor.ts";
import { checkSizes } from "./given.ts";

/** y = x / sqrt(mean(x^2) + eps) * weight along the last axis (Zhang and Sennrich 2019), as torch.nn.RMSNorm with its eps given.   x [..., width] */
export class RMSNorm {
  readonly weight: Tensor;
  readonly eps: number;

  /** @throws RangeError or TypeError for a width that is no positive integer. */
  constructor(width: number, eps = 1e-6) {
    checkSizes("RMSNorm(width, eps)", { width });
    this.weight = keep(ones([width]));
    this.eps = eps;
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.eps);
  }
}

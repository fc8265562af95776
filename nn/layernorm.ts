/** Layer norm with a learned scale and offset. */

import { layerNorm } from "../autograd/ops.ts";
import { keep, ones, type Tensor, zeros } from "../src/tensor.ts";
import { checkSizes } from "./given.ts";

/** y = (x - mean) / sqrt(variance + eps) * weight + bias along the last axis.   x [..., width] */
export class LayerNorm {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly eps: number;

  /** @throws RangeError or TypeError for a width that is no positive integer. */
  constructor(width: number, eps = 1e-12) {
    checkSizes("LayerNorm(width, eps)", { width });
    this.weight = keep(ones([width]));
    this.bias = keep(zeros([width]));
    this.eps = eps;
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

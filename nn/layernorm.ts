/** Layer norm with a learned scale and offset. */

import { addNorm, type Drop, layerNorm } from "../autograd/ops.ts";
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

  /** @param more what is added to x beforehand, dropped where `drop` says so, in the same kernel.   [..., width] */
  forward(x: Tensor, more: { readonly add?: Tensor; readonly drop?: Drop | null } = {}): Tensor {
    const { weight, bias, eps } = this;
    return more.add ? addNorm(x, more.add, weight, bias, eps, more.drop) : layerNorm(x, weight, bias, eps);
  }
}

/** A linear layer. */

import { linear } from "../autograd/ops.ts";
import type { Key } from "../src/key.ts";
import { keep, normal, type Tensor, zeros } from "../src/tensor.ts";

/** y = x weightT + bias.   x [..., in], weight [out, in], bias [out] -> [..., out] */
export class Linear {
  readonly weight: Tensor;
  readonly bias: Tensor;

  /** Weights from N(0, deviation^2), biases 0: BERT's initialisation at its 0.02 (Devlin et al. 2019). Without a key, weights to be loaded. */
  constructor(inputs: number, outputs: number, key: Key | null, deviation = 0.02) {
    this.weight = keep(normal(key, deviation, [outputs, inputs]));
    this.bias = keep(zeros([outputs]));
  }

  /** @param residual added to the result, in the same kernel.   @param relu after the bias. */
  forward(x: Tensor, { residual = null, relu = false }: { residual?: Tensor | null; relu?: boolean } = {}): Tensor {
    return linear(x, this.weight, this.bias, residual, { relu });
  }
}

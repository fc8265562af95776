/** A linear layer. */

import { linear } from "../autograd/ops.ts";
import type { Key } from "../src/key.ts";
import { keep, type Tensor, zeros } from "../src/tensor.ts";
import { checkKey, checkSizes } from "./given.ts";
import { type Init, initial } from "./init.ts";

/** What a linear layer's forward pass takes beside x. */
export interface LinearOptions {
  /** Added to the result, in the same kernel.   [..., out] */
  readonly residual?: Tensor | null;
  /** After the bias. */
  readonly relu?: boolean;
}

/** y = x weightT + bias.   x [..., in], weight [out, in], bias [out] -> [..., out] */
export class Linear {
  readonly weight: Tensor;
  readonly bias: Tensor;

  /**
   * Biases begin at 0. Without a key, weights are to be loaded.
   * @param init how weights begin; a number is the deviation of a normal distribution: BERT's is 0.02 (Devlin et al. 2019).
   * @throws RangeError or TypeError for a size that is no positive integer, TypeError for a key that is none.
   */
  constructor(inputs: number, outputs: number, key: Key | null, init: number | Init = 0.02) {
    checkSizes("Linear(inputs, outputs, key)", { inputs, outputs });
    checkKey("Linear(inputs, outputs, key)", key);
    this.weight = initial(init, key, [outputs, inputs]);
    this.bias = keep(zeros([outputs]));
  }

  forward(x: Tensor, { residual = null, relu = false }: LinearOptions = {}): Tensor {
    return linear(x, this.weight, this.bias, residual, { relu });
  }
}

/** A table of vectors, looked up by index. */

import { gather, mul, sub } from "../autograd/ops.ts";
import type { Key } from "../src/key.ts";
import type { Index } from "../src/stream.ts";
import { keep, scoped, type Tensor, tensor } from "../src/tensor.ts";
import { checkKey, checkSizes } from "./given.ts";
import { type Init, initial } from "./init.ts";

/** y[i] = weight[index[i]].   weight [rows, width], an index of M places -> [M, width] */
export class Embedding {
  readonly weight: Tensor;

  /**
   * Without a key, rows are to be loaded.
   * @param init how rows begin; a number is the deviation of a normal distribution.
   * @param padding a row that starts at zero, as torch.nn.Embedding's padding_idx.
   * @throws RangeError or TypeError for a size that is no positive integer, TypeError for a key that is none.
   */
  constructor(rows: number, width: number, key: Key | null, init: number | Init = 0.02, padding = -1) {
    checkSizes("Embedding(rows, width, key)", { rows, width });
    checkKey("Embedding(rows, width, key)", key);
    this.weight = initial(init, key, [rows, width]);
    if (key && padding >= 0) {
      const whole = this.weight;
      this.weight = keep(scoped(() => sub(whole, mul(whole, oneRow(rows, padding))))); // w - w is 0, w - 0 is w
      whole.free();
    }
  }

  forward(index: Index): Tensor {
    return gather(this.weight, index);
  }
}

/** 1 in one row, else 0.   [rows, 1] */
const oneRow = (rows: number, row: number): Tensor => {
  const values = new Float32Array(rows);
  values[row] = 1;
  return tensor(values, [rows, 1]);
};

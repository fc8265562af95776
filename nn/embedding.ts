/** A table of vectors, looked up by index. */

import { gather } from "../autograd/ops.ts";
import type { Key } from "../src/key.ts";
import type { Index } from "../src/stream.ts";
import { keep, normal, type Tensor, tensor } from "../src/tensor.ts";

/** y[i] = weight[index[i]].   weight [rows, width], an index of M places -> [M, width] */
export class Embedding {
  readonly weight: Tensor;

  /** Rows from N(0, deviation^2); `padding` names a row that starts at zero, as torch.nn.Embedding's padding_idx. */
  constructor(rows: number, width: number, key: Key | null, deviation = 0.02, padding = -1) {
    if (!key || padding < 0) this.weight = keep(normal(key, deviation, [rows, width]));
    else {
      const values = key.normals(rows * width).map((value) => value * deviation);
      values.fill(0, padding * width, (padding + 1) * width);
      this.weight = keep(tensor(values, [rows, width]));
    }
  }

  forward(index: Index): Tensor {
    return gather(this.weight, index);
  }
}

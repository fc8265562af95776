/** Attention inside segments, beside its derivative. */

import { checkOptions } from "../../src/options.ts";
import type { Segments } from "../../src/stream.ts";
import type { Tensor } from "../../src/tensor.ts";
import { type AttentionOptions, attend } from "../attend.ts";
import { op } from "../tape.ts";

export type { AttentionOptions };

/**
 * Attention inside segments (Vaswani et al. 2017): each row mixes the v of its segment by softmax(q . k / sqrt(D)). Rows with nothing to look at get
 * zeros. The N x M weights are never held: the forward pass keeps a log-sum-exp per row and head, in f32, and the way back makes them anew. The result is stored as q is.
 *   q [N, C], k, v [M, C], `heads` of width D = C / heads side by side -> [N, C]; M = N without `keys`
 * @throws RangeError when shapes, segments and heads do not fit together, or heads are wider than the kernels can take.
 */
export const attention = op(
  "attention",
  (q: Tensor, k: Tensor, v: Tensor, segments: Segments, heads: number, options: AttentionOptions = {}) => {
    checkOptions("attention(q, k, v, segments, heads, options)", options, ["drop", "causal", "keys"]);
    const { y, kept, back } = attend(q, k, v, segments, heads, options);
    return [y, kept, back];
  },
);

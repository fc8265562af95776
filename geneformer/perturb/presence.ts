/** Attention, and what each key's presence is worth to those who look: for keys that are there, and for others that might come. */

import { attend } from "../../autograd/attend.ts";
import { concat, exp, mul, neg, reshape, sum } from "../../autograd/ops.ts";
import { op } from "../../autograd/tape.ts";
import type { Segments } from "../../src/stream.ts";
import { type Tensor, tensor, zeros } from "../../src/tensor.ts";

/** Numbers that a head is widened by: a whole vector. */
const WIDER = 4;

/** Keys and values that might come: cell after cell. */
export interface Coming {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly segments: Segments;
}

/**
 * attention(q, k, v) of streams of cells, and, on the way back, derivatives by gates: what exp(score) is multiplied by, 1 for each key, and 0 for others that
 * might come. Where a key's gate opens by g, row i gets g exp(s_ij - lse_i) (v_j - y_i) more. So
 *
 *     dgate_j  =  sum over i of  exp(s_ij - lse_i) (dy_i . v_j - dy_i . y_i)
 *
 *   q, k, v [N, C], gates [N], those of others [P] or null -> [N, C]; nothing of it depends on gates and others but derivatives
 */
export const presence = op(
  "presence",
  (q: Tensor, k: Tensor, v: Tensor, _gates: Tensor, others: Tensor | null, coming: Coming | null, cells: Segments, heads: number) => {
    const { y, lse, kept, back } = attend(q, k, v, cells, heads, { gated: true });
    const more = coming ? [coming.keys, coming.values, coming.segments.tiles, coming.segments.owner, cells.spans] : [];
    return [
      y,
      [...kept, ...more],
      (dy, need) => {
        const [dq, dk, dv, own] = back(dy, need);
        const gradients = [dq, dk, dv, own && need[3] ? sum(own, [1]) : null];
        return others ? [...gradients, coming && need[4] ? worth(q, y, lse, dy, coming, cells, heads) : null] : gradients;
      },
    ];
  },
);

/**
 * What keys that might come would be worth: attention with the sides changed, j looking at all i. Each head has one number more, -lse_i in what is looked at,
 * and dy_i . y_i in what is mixed, which is divided by its own sum: that is put back.   -> [P]
 */
function worth(q: Tensor, y: Tensor, lse: Tensor, dy: Tensor, { keys, values, segments }: Coming, cells: Segments, heads: number): Tensor {
  const [rows, others, width] = [q.shape[0], keys.shape[0], q.shape[1] / heads];
  const wider = width + WIDER;
  const split = (x: Tensor) => reshape(x, [x.shape[0], heads, width]);
  /** Heads with numbers more: one, and zeros.   x [n, H, D], one [n, H, 1] -> [n, H (D + 4)] */
  const widen = (x: Tensor, one: Tensor) =>
    reshape(concat([x, one, zeros([x.shape[0], heads, WIDER - 1])], 2), [x.shape[0], heads * wider]);
  const constant = (value: number) => tensor(new Float32Array(others * heads).fill(value), [others, heads, 1]);
  const along = sum(mul(split(dy), split(y)), [2], true);
  // Kernels divide scores by the root of the wider head.
  const looking = widen(mul(split(keys), Math.sqrt(wider / width)), constant(Math.sqrt(wider)));
  const lookedAt = widen(split(q), reshape(neg(lse), [rows, heads, 1]));
  const { y: mixed, lse: sums } = attend(looking, lookedAt, widen(split(dy), along), segments, heads, { keys: cells });
  const each = sum(mul(reshape(mixed, [others, heads, wider]), reshape(widen(split(values), constant(-1)), [others, heads, wider])), [2]);
  return sum(mul(exp(sums), each), [1]);
}

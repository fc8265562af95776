/** Attention, and what each key's presence is worth to those who look: for keys that are there, and for others that might come. */

import { attend } from "../../autograd/attend.ts";
import { concat, exp, mul, neg, reshape, sum } from "../../autograd/ops.ts";
import { op } from "../../autograd/tape.ts";
import type { Segments } from "../../src/stream.ts";
import { type Tensor, tensor, zeros } from "../../src/tensor.ts";

/** Numbers that a head is widened by: a whole vector. */
const WIDER = 4;

/**
 * attention(q, k, v) of streams of cells, and, on the way back, derivatives by gates: what exp(score) is multiplied by, for each of some other keys and values,
 * among which may be k and v themselves. Where a key's gate opens by g, row i gets g exp(s_ij - lse_i) (v_j - y_i) more. So
 *
 *     dgate_j  =  sum over i of  exp(s_ij - lse_i) (dy_i . v_j - dy_i . y_i)
 *
 * which is attention with the sides changed, j looking at all i: each head has one number more, -lse_i in what is looked at, and dy_i . y_i in what is mixed.
 * What it mixes is divided by its own sum, which is put back.
 *
 *   q, k, v [N, C], gates [M], keys, values [M, C] -> [N, C]; nothing of it depends on the gates, keys and values but derivatives
 */
export const presence = op(
  "presence",
  (q: Tensor, k: Tensor, v: Tensor, gates: Tensor, keys: Tensor, values: Tensor, cells: Segments, all: Segments, heads: number) => {
    const { y, lse, kept, back } = attend(q, k, v, cells, heads);
    const [rows, others, width] = [q.shape[0], keys.shape[0], q.shape[1] / heads];
    const wider = width + WIDER;
    const split = (x: Tensor) => reshape(x, [x.shape[0], heads, width]);
    /** Heads with numbers more: one, and zeros.   x [n, H, D], one [n, H, 1] -> [n, H (D + 4)] */
    const widen = (x: Tensor, one: Tensor) =>
      reshape(concat([x, one, zeros([x.shape[0], heads, WIDER - 1])], 2), [x.shape[0], heads * wider]);
    const constant = (value: number) => tensor(new Float32Array(others * heads).fill(value), [others, heads, 1]);
    return [
      y,
      [...kept, gates, keys, values, all.tiles, all.owner, cells.spans],
      (dy, need) => {
        const gradients = back(dy, need);
        if (!need[3]) return [...gradients, null, null, null];
        const along = sum(mul(split(dy), split(y)), [2], true);
        // Kernels divide scores by the root of the wider head.
        const looking = widen(mul(split(keys), Math.sqrt(wider / width)), constant(Math.sqrt(wider)));
        const lookedAt = widen(split(q), reshape(neg(lse), [rows, heads, 1]));
        const { y: mixed, lse: sums } = attend(looking, lookedAt, widen(split(dy), along), all, heads, { keys: cells });
        const worth = sum(
          mul(reshape(mixed, [others, heads, wider]), reshape(widen(split(values), constant(-1)), [others, heads, wider])),
          [2],
        );
        return [...gradients, sum(mul(exp(sums), worth), [1]), null, null];
      },
    ];
  },
);

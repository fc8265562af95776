/** Attention inside segments, beside its derivative. */

import { attentionGrad, attention as attentionKernel } from "../../kernels/attention.ts";
import { window } from "../../kernels/permute.ts";
import { dropThreshold } from "../../kernels/random.ts";
import { bind, show } from "../../src/shape.ts";
import type { Segments } from "../../src/stream.ts";
import { run, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { type Drop, draws } from "./dropout.ts";

/** The widest head whose blocks fit 16 KiB of workgroup memory and 256 lanes (kernels/attention.ts). */
const WIDEST = 128;

/**
 * Self-attention inside segments (Vaswani et al. 2017): each row mixes the v of its own segment by softmax(q . k / sqrt(D)).
 * The N x N weights are never held: the forward pass keeps a log-sum-exp per row and head, and the way back makes them anew.
 *   q, k, v [N, C], `heads` of width D = C / heads side by side -> [N, C]
 * @param drop dropout of the weights with probability p, drawn from the key: the same draws in both directions.
 */
export const attention = op("attention", (q: Tensor, k: Tensor, v: Tensor, segments: Segments, heads: number, drop: Drop | null = null) => {
  const { n, c } = bind("attention", "n c, n c, n c", [q.shape, k.shape, v.shape]);
  if (n !== segments.rows)
    throw new RangeError(`attention(n c, n c, n c): the segments cover ${segments.rows} rows; got q ${show(q.shape)}`);
  if (!Number.isInteger(heads) || heads < 1 || c % heads !== 0)
    throw new RangeError(`attention(n c, n c, n c): width ${c} does not divide into ${heads} heads; got q ${show(q.shape)}`);
  const dropped = drop !== null && dropThreshold(drop.p) > 0;
  const width = c / heads;
  if (width > WIDEST)
    throw new RangeError(`attention(n c, n c, n c): heads are ${width} wide; at most ${WIDEST} are supported; got q ${show(q.shape)}`);
  const { tiles } = segments;
  const params = { count: tiles.shape[0], heads, ...(dropped && draws("attention", drop)) };
  const shared = { q, k, v, tiles, ...(dropped && { key: drop.key.words }) };
  const { y, lse } = run(attentionKernel(width, dropped), shared, { y: q.shape, lse: [n, heads] }, params);
  return [
    y,
    [q, k, v, y, lse, ...(dropped ? [drop.key.words] : []), tiles],
    (dy) => {
      const outputs = { dq: q.shape, dkv: [2, n, c] };
      const { dq, dkv } = run(attentionGrad(width, dropped), { ...shared, y, dy, lse }, outputs, { ...params, rows: n });
      const half = (start: number) => run(window, { x: dkv }, { y: [n, c] }, { n: n * c, size: 1, whole: 2, inner: n * c, start }).y;
      return [dq, half(0), half(1)];
    },
  ];
});

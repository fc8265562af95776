/** Attention inside segments as the kernels do it, there and back: what the op of that name is made of, for others that need its log-sum-exp. */

import { attentionGrad, attentionGradGated, attention as attentionKernel, crossTiles } from "../kernels/attention.ts";
import { window } from "../kernels/permute.ts";
import { bind, show } from "../src/shape.ts";
import type { Segments } from "../src/stream.ts";
import { run, runStored, storedAs, type Tensor } from "../src/tensor.ts";
import { type Drop, draws } from "./ops/dropout.ts";
import type { Back } from "./tape.ts";

/** The widest head whose blocks fit 16 KiB of workgroup memory and 256 lanes (kernels/attention.ts). */
const WIDEST = 128;

export interface AttentionOptions {
  /** Dropout of the weights with probability p, drawn from the key: the same draws in both directions. */
  readonly drop?: Drop | null;
  /** Place i of a segment sees places j <= i, both counted from where the segment begins in its own stream. */
  readonly causal?: boolean;
  /** The segments of keys and values, where these are another stream: segment b of the queries looks at segment b of the keys. */
  readonly keys?: Segments;
}

export interface AttendOptions extends AttentionOptions {
  /** The way back also gives, fourth, what each key's presence is worth to those who look [M, H]: not with dropout, nor of causal attention. */
  readonly gated?: boolean;
}

export interface Attended {
  /** As q. */
  readonly y: Tensor;
  /** Of each row and head, log sum exp(score): exp(score - lse) are the weights.   f32 [N, H] */
  readonly lse: Tensor;
  /** What the way back reads. */
  readonly kept: readonly Tensor[];
  /** -> dq, dk, dv, and gates where they are asked for */
  readonly back: Back;
}

/** The tiles of one stream, looking at the same segments of another. */
const across = ({ tiles, owner }: Segments, { spans }: Segments): Tensor =>
  run(crossTiles, { tiles, owner, spans }, { turned: tiles.shape }, { count: tiles.shape[0] }).turned;

/** @throws RangeError when shapes, segments and heads do not fit together, or heads are wider than the kernels can take. */
export function attend(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  segments: Segments,
  heads: number,
  { drop = null, causal = false, gated = false, keys }: AttendOptions = {},
): Attended {
  const signature = keys ? "n c, m c, m c" : "n c, n c, n c";
  const { n, m = n, c } = bind("attention", signature, [q.shape, k.shape, v.shape]);
  const fail = (why: string, given = `q ${show(q.shape)}`): never => {
    throw new RangeError(`attention(${signature}): ${why}; got ${given}`);
  };
  if (n !== segments.rows) fail(`the segments cover ${segments.rows} rows`);
  if (keys && m !== keys.rows) fail(`the segments of keys cover ${keys.rows} rows`, `k ${show(k.shape)}`);
  if (keys && keys.lengths.length !== segments.lengths.length)
    fail("each segment of queries needs one of keys", `${segments.lengths.length} and ${keys.lengths.length} segments`);
  if (!Number.isInteger(heads) || heads < 1 || c % heads !== 0) fail(`width ${c} does not divide into ${heads} heads`);
  const width = c / heads;
  if (width > WIDEST) fail(`heads are ${width} wide; at most ${WIDEST} are supported`);
  if (gated && (drop || causal)) fail("gates are of attention to all keys, without dropout", drop ? "dropout" : "causal attention");

  const dropped = drop !== null && draws("attention", drop).threshold > 0;
  const tiles = keys ? across(segments, keys) : segments.tiles;
  const shared = { q, k, v, tiles, ...(dropped && { key: drop.key.words }) };
  const params = { count: tiles.shape[0], keyRows: m, heads, ...(dropped && draws("attention", drop)) };
  const { y, lse } = runStored(attentionKernel(width, dropped, causal), shared, { y: storedAs(q), lse: [n, heads] }, params);
  return {
    y,
    lse,
    kept: [q, k, v, y, lse, ...(dropped ? [drop.key.words] : []), tiles, ...(keys ? [keys.tiles, keys.owner, segments.spans] : [])],
    back(dy) {
      const keyTiles = keys ? across(keys, segments) : tiles;
      const inputs = { ...shared, keyTiles, y, dy, lse };
      const sizes = { ...params, rows: n, keyCount: keyTiles.shape[0] };
      const outputs = { dq: storedAs(q), dkv: storedAs(k, [2, m, c]) };
      const {
        dq,
        dkv,
        gates = null,
      } = gated
        ? runStored(attentionGradGated(width), inputs, { ...outputs, gates: [m, heads] }, sizes)
        : runStored(attentionGrad(width, dropped, causal), inputs, outputs, sizes);
      const half = (start: number) =>
        runStored(window("f32"), { x: dkv }, { y: storedAs(k) }, { n: m * c, size: 1, whole: 2, inner: m * c, start }).y;
      return [dq, half(0), half(1), ...(gates ? [gates] : [])];
    },
  };
}

/** Attention as a layer: the fused op, and, where somebody looks at its weights, the same written out. */

import { add, attention, cast, concat, gather, matmul, mul, permute, reshape, scatterAdd, slice, softmax, where } from "../autograd/ops.ts";
import type { StepKey } from "../autograd/stepkey.ts";
import type { Key } from "../src/key.ts";
import { show } from "../src/shape.ts";
import type { Segments } from "../src/stream.ts";
import { type Tensor, tensor, zeros } from "../src/tensor.ts";
import { Dropout } from "./dropout.ts";
import { checkKey, checkSizes } from "./given.ts";
import { Tap } from "./hooks.ts";
import { type Init, xavierUniform } from "./init.ts";
import { Linear } from "./linear.ts";

/** How to look. */
export interface Look {
  /** Place i of a segment sees places j <= i, both counted from where the segment begins in its own stream. Default false. */
  readonly causal?: boolean;
  /** The segments of keys and values, where these are another stream: segment b of the queries looks at segment b of the keys. */
  readonly keys?: Segments;
  /** What dropout of the weights draws from. Without it nothing is dropped. */
  readonly key?: StepKey | null;
}

/** Heads one after the other.   [T, C] -> [H, T, D] */
const split = (x: Tensor, heads: number): Tensor => permute(reshape(x, [x.shape[0], heads, x.shape[1] / heads]), [1, 0, 2]);

/** 1 where a query may look: at its own place and those before it.   [queries, keys] */
const past = (queries: number, keys: number): Tensor =>
  tensor(
    Float32Array.from({ length: queries * keys }, (_, i) => Number(i % keys <= Math.floor(i / keys))),
    [queries, keys],
  );

/**
 * Who looks at whom in one sequence, per head: softmax(q . k / sqrt(D)), each row summing to 1, in f32.   q [Tq, C], k [Tk, C] -> [H, Tq, Tk]
 * @param causal place i sees places j <= i alone.
 */
export function attentionWeights(q: Tensor, k: Tensor, heads: number, causal = false): Tensor {
  const [queries, keys] = [q, k].map((x) => split(cast(x, "f32"), heads));
  const scores = mul(matmul(queries, keys, { transposeB: true }), 1 / Math.sqrt(q.shape[1] / heads));
  return softmax(causal ? where(past(q.shape[0], k.shape[0]), scores, Number.NEGATIVE_INFINITY) : scores);
}

/** The rows of a segment, u32 [T]: counted on the device, which alone knows where a segment begins, in f32, exact in streams of up to 2^24 rows. */
function rowsOf({ spans, lengths }: Segments, segment: number): Tensor {
  const start = reshape(slice(slice(spans, 0, segment, segment + 1), 1, 0, 1), [1]);
  const steps = tensor(Float32Array.from({ length: lengths[segment] }, (_, i) => i));
  return cast(add(cast(start, "f32"), steps), "u32");
}

/** Where the weights of attention pass, one segment after the other. */
class Weights extends Tap {
  /** @param w [H, Tq, Tk]   @param _segment whose they are: a hook finds it in args[1]. */
  override forward(w: Tensor, _segment?: number): Tensor {
    return w;
  }
}

/**
 * Attention inside segments (Vaswani et al. 2017, 3.2): y = softmax(q . k / sqrt(D)) v for each head. It has no parameters.
 *
 * The op `attention` never holds the weights. A hook at `weights` has them made: then attention is written out, segment after segment, and the
 * hook may read each segment's [H, Tq, Tk] and replace them; gradients flow through what it returns. Segments without queries or keys have none.
 *
 *   withHooks(model, { "layers.3.attention.weights": (w, { args: [, segment] }) => ... }, f)
 *
 * The results are the same but for rounding. Dropout, where there is any, draws otherwise than the op does, equally often.
 */
export class Attention {
  readonly heads: number;
  /** Of the weights. */
  readonly dropout: Dropout;
  readonly weights = new Weights();

  /** @param p of dropout of the weights. @throws RangeError for a p that is no probability below 1. */
  constructor(heads: number, p = 0) {
    this.heads = heads;
    this.dropout = new Dropout(p);
  }

  /**
   *   q [N, C], k, v [M, C] -> [N, C]; M = N without `keys`
   * @throws RangeError when shapes, segments and heads do not fit together.
   */
  forward(q: Tensor, k: Tensor, v: Tensor, segments: Segments, { causal = false, keys, key = null }: Look = {}): Tensor {
    if (this.weights.hooked) return this.#written(q, k, v, segments, { causal, keys, key });
    const { heads } = this;
    const { p } = this.dropout;
    return attention(q, k, v, segments, heads, { drop: key && p > 0 ? { p, key } : null, causal, keys });
  }

  #written(q: Tensor, k: Tensor, v: Tensor, segments: Segments, { causal, keys = segments, key = null }: Look): Tensor {
    const { heads } = this;
    if ([q, k, v].some(({ shape }, i) => shape[0] !== (i === 0 ? segments : keys).rows) || keys.lengths.length !== segments.lengths.length)
      throw new RangeError(
        `Attention.forward(q, k, v, segments): ${segments.lengths.length} segments of ${segments.rows} rows look at ${keys.lengths.length} of ${keys.rows}; got ${[q, k, v].map(({ shape }) => show(shape)).join(", ")}; give rows that the segments cover`,
      );
    const parts = segments.lengths.flatMap((length, segment) => {
      if (length === 0 || keys.lengths[segment] === 0) return [];
      const [rows, seen] = [rowsOf(segments, segment), rowsOf(keys, segment)];
      const weights = this.weights.forward(attentionWeights(gather(q, rows), gather(k, seen), heads, causal), segment);
      const kept = this.dropout.forward(weights, key?.fold(segment) ?? null);
      const mixed = matmul(kept, split(gather(v, seen), heads)); // [H, Tq, D]
      return [{ rows, y: reshape(permute(mixed, [1, 0, 2]), [length, q.shape[1]]) }];
    });
    if (parts.length === 0) return zeros(q.shape);
    const [ys, rows] = [parts.map(({ y }) => y), parts.map(({ rows }) => rows)];
    return scatterAdd(concat(ys), concat(rows), segments.rows); // dead rows, which nobody names, are zero
  }
}

export interface MultiHeadOptions {
  /** Of the weights. Default 0. */
  readonly dropout?: number;
  /** How weights begin. Default: xavierUniform. */
  readonly init?: number | Init;
}

/** What multi-head attention is told beside x and its segments. */
export interface MultiHeadLook extends Look {
  /** Rows of the other stream that keys and values are made of, whose segments are `keys`. Default: x itself.   [M, C] */
  readonly memory?: Tensor;
  /** Added to the result, in the same kernel.   [N, C] */
  readonly residual?: Tensor | null;
}

/**
 * Attention between linear layers (Vaswani et al. 2017, 3.2.2), the heads side by side in their columns:
 *
 *   y = output(attention(query(x), key(memory), value(memory)))      x [N, C], memory [M, C] -> [N, C]
 */
export class MultiHeadAttention {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly attention: Attention;
  readonly output: Linear;

  /** Without a key, weights are to be loaded. @throws RangeError for a width that heads do not divide; as Linear does. */
  constructor(width: number, heads: number, key: Key | null, { dropout = 0, init = xavierUniform }: MultiHeadOptions = {}) {
    checkSizes("MultiHeadAttention(width, heads, key)", { width });
    checkKey("MultiHeadAttention(width, heads, key)", key);
    if (!(Number.isInteger(heads) && heads > 0 && width % heads === 0))
      throw new RangeError(
        `MultiHeadAttention(width, heads, key): heads must divide the width; got ${heads} and ${width}; change one of them`,
      );
    const layer = (n: number) => new Linear(width, width, key?.fold(n) ?? null, init);
    this.query = layer(0);
    this.key = layer(1);
    this.value = layer(2);
    this.attention = new Attention(heads, dropout);
    this.output = layer(3);
  }

  forward(x: Tensor, segments: Segments, { memory = x, residual = null, ...look }: MultiHeadLook = {}): Tensor {
    const [q, k, v] = [this.query.forward(x), this.key.forward(memory), this.value.forward(memory)];
    return this.output.forward(this.attention.forward(q, k, v, segments, look), { residual });
  }
}

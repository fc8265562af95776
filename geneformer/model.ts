/** Geneformer: a BERT (Devlin et al. 2019) over the genes of a cell, most expressed first (Theodoris et al. 2023). The whole of it. */

import { checkpoint } from "../autograd/checkpoint.ts";
import { add, cast, crossEntropy, dropout, gather, gelu, linear, slice } from "../autograd/ops.ts";
import type { StepKey } from "../autograd/stepkey.ts";
import { Attention, attentionWeights } from "../nn/attention.ts";
import { Embedding } from "../nn/embedding.ts";
import { LayerNorm } from "../nn/layernorm.ts";
import { Linear } from "../nn/linear.ts";
import type { Key } from "../src/key.ts";
import type { Index, Segments } from "../src/stream.ts";
import { keep, scoped, type Tensor, zeros } from "../src/tensor.ts";
import { type Config, checkConfig } from "./config.ts";

/** Cells as one stream of N tokens, cell after cell: what a forward pass reads. */
export interface Stream {
  /** The gene at each place: an index into the vocabulary. */
  readonly tokens: Index;
  /** Its rank in the cell, from 0: an index into the positions. */
  readonly positions: Index;
  readonly segments: Segments;
}

/** Places of a stream whose rows alone are wanted, cell after cell. */
export interface Places {
  /** Which rows of the stream. */
  readonly rows: Index;
  /** How many of them each cell has: as many cells as the stream. */
  readonly segments: Segments;
}

const fold = (key: Key | null, n: number): Key | null => key?.fold(n) ?? null;

/** Dropout with probability p when a key is given, and when there is anything to drop. */
const drop = (x: Tensor, p: number, key: StepKey | null, site: number): Tensor =>
  key && p > 0 ? dropout(x, { p, key: key.fold(site) }) : x;

/** What a cell's genes look like before the first layer: gene + position + type, normed.   -> [N, C] */
export class Embeddings {
  readonly word: Embedding;
  readonly position: Embedding;
  /** BERT's two sentence types; every gene is of the first. */
  readonly type: Embedding;
  readonly norm: LayerNorm;
  readonly config: Config;

  constructor(config: Config, key: Key | null) {
    const { vocabulary, width, length, deviation, eps } = config;
    this.config = config;
    this.word = new Embedding(vocabulary, width, fold(key, 0), deviation, 0);
    this.position = new Embedding(length, width, fold(key, 1), deviation);
    this.type = new Embedding(2, width, fold(key, 2), deviation);
    this.norm = new LayerNorm(width, eps);
  }

  /**
   * @param storage what activations are from here on.
   * @param places what stands for the ranks' embeddings.   [N, C]
   */
  forward({ tokens, positions }: Stream, key: StepKey | null, storage: "f32" | "f16" = "f32", places: Tensor | null = null): Tensor {
    const genes = add(this.word.forward(tokens), places ?? this.position.forward(positions));
    const sum = cast(add(genes, slice(this.type.weight, 0, 0, 1)), storage);
    return drop(this.norm.forward(sum), this.config.dropout, key, 0);
  }
}

/** One BERT layer, normed after each half.   x [N, C] -> [N, C] */
export class Layer {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  /** Without parameters; hooks at its `weights` read or replace who looks at whom. */
  readonly attention: Attention;
  readonly output: Linear;
  readonly norm1: LayerNorm;
  readonly up: Linear;
  readonly down: Linear;
  readonly norm2: LayerNorm;
  readonly config: Config;

  constructor(config: Config, key: Key | null) {
    const { width, heads, inner, attentionDropout, deviation, eps } = config;
    this.config = config;
    this.query = new Linear(width, width, fold(key, 0), deviation);
    this.key = new Linear(width, width, fold(key, 1), deviation);
    this.value = new Linear(width, width, fold(key, 2), deviation);
    this.attention = new Attention(heads, attentionDropout);
    this.output = new Linear(width, width, fold(key, 3), deviation);
    this.norm1 = new LayerNorm(width, eps);
    this.up = new Linear(width, inner, fold(key, 4), deviation);
    this.down = new Linear(inner, width, fold(key, 5), deviation);
    this.norm2 = new LayerNorm(width, eps);
  }

  /** @param at make these rows alone, which look at all of their cells: [N, C] -> [rows, C] */
  forward(x: Tensor, segments: Segments, key: StepKey | null, at: Places | null = null): Tensor {
    const seen = at ? gather(x, at.rows) : x;
    const [q, k, v] = [this.query.forward(seen), this.key.forward(x), this.value.forward(x)];
    const mixed = this.attention.forward(q, k, v, at?.segments ?? segments, { key: key?.fold(0), ...(at && { keys: segments }) });
    return this.close(seen, mixed, key);
  }

  /** What follows attention, row by row.   @param mixed what attention made of the rows of x.   x, mixed [N, C] -> [N, C] */
  close(x: Tensor, mixed: Tensor, key: StepKey | null = null): Tensor {
    const { dropout: p, activation } = this.config;
    const half = this.#half(this.norm1, this.output, mixed, x, p, key?.fold(1));
    const wide = activation === "relu" ? this.up.forward(half, { relu: true }) : gelu(this.up.forward(half));
    return this.#half(this.norm2, this.down, wide, half, p, key?.fold(2));
  }

  /** norm(x + dropout(layer(y))): the sum is part of the norm's kernel with dropout, of the product's without. */
  #half(norm: LayerNorm, layer: Linear, y: Tensor, x: Tensor, p: number, key?: StepKey): Tensor {
    return key && p > 0 ? norm.forward(x, { add: layer.forward(y), drop: { p, key } }) : norm.forward(layer.forward(y, { residual: x }));
  }

  /** The attention weights of one cell, written out: who looks at whom, per head.   x [T, C] -> [H, T, T], rows sum to 1 */
  weights(x: Tensor): Tensor {
    return attentionWeights(this.query.forward(x), this.key.forward(x), this.config.heads);
  }
}

/** What predicts a masked gene from what a place has become.   x [M, C] -> logits [M, V] */
export class Head {
  readonly dense: Linear;
  readonly norm: LayerNorm;
  readonly bias: Tensor;
  readonly config: Config;

  constructor(config: Config, key: Key | null) {
    this.config = config;
    this.dense = new Linear(config.width, config.width, key, config.deviation);
    this.norm = new LayerNorm(config.width, config.eps);
    this.bias = keep(zeros([config.vocabulary]));
  }

  /** @param table the word embeddings [V, C], which the decoder shares. */
  forward(x: Tensor, table: Tensor): Tensor {
    const relu = this.config.activation === "relu";
    const h = relu ? this.dense.forward(x, { relu }) : gelu(this.dense.forward(x));
    return linear(this.norm.forward(h), table, this.bias);
  }
}

/** Which of the hidden states 0 ... layers a layer counted from the end means: 0 is the last layer's output, -1 the one before (as upstream's emb_layer). */
export function hiddenOf(config: Config, layer: number): number {
  const hidden = config.layers + layer;
  if (!Number.isInteger(layer) || layer > 0 || hidden < 0)
    throw new RangeError(`layer: must be an integer from ${-config.layers} to 0 (0 is the last layer, -1 the one before); got ${layer}`);
  return hidden;
}

export interface Pass {
  /** A key for dropout. Without one there is none. */
  readonly key?: StepKey | null;
  /** Stop after this many layers. */
  readonly layers?: number;
  /** Keep nothing of a layer but its input for the way back, which runs it again: a third more work, for memory of one layer instead of all. */
  readonly checkpointing?: boolean;
  /**
   * What kernels pass to each other, from the embeddings' sum to the last layer: f16 halves the memory and the traffic of activations and of their
   * gradients, which asks for a LossScale in training. Arithmetic, weights and their gradients, the head and the loss are f32 in any case. Default f32.
   */
  readonly storage?: "f32" | "f16";
}

export class Geneformer {
  readonly embeddings: Embeddings;
  readonly layers: readonly Layer[];
  readonly head: Head;
  readonly config: Config;

  /** A model with random weights; without a key, one whose weights are to be loaded. @throws RangeError for sizes that make none. */
  constructor(config: Config, key: Key | null) {
    this.config = checkConfig(config);
    this.embeddings = new Embeddings(config, fold(key, 0));
    this.layers = Array.from({ length: config.layers }, (_, i) => new Layer(config, fold(key, i + 1)));
    this.head = new Head(config, fold(key, config.layers + 1));
  }

  /** The hidden states: [0] the embeddings, [i] the output of layer i.   each [N, C] */
  *hidden(stream: Stream, pass: Pass = {}): Generator<Tensor> {
    let x = scoped(() => this.#embed(stream, pass));
    yield x;
    for (let i = 1; i <= (pass.layers ?? this.config.layers); i++) {
      const below = x;
      x = scoped(() => this.#layer(i, below, stream, pass));
      yield x;
    }
  }

  /**
   * The last of the hidden states, the others given back on the way.   -> [N, C], or with `at` [rows, C]
   * @param at rows that are wanted; the last layer makes no others.
   */
  encode(stream: Stream, pass: Pass & { readonly at?: Places } = {}): Tensor {
    const { layers = this.config.layers, at = null } = pass;
    const upTo = (i: number): Tensor =>
      scoped(() => (i === 0 ? this.#embed(stream, pass) : this.#layer(i, upTo(i - 1), stream, pass, i === layers ? at : null)));
    return at && layers === 0 ? scoped(() => gather(upTo(0), at.rows)) : upTo(layers);
  }

  #embed(stream: Stream, { key, storage }: Pass): Tensor {
    return this.embeddings.forward(stream, key?.fold(0) ?? null, storage);
  }

  #layer(i: number, x: Tensor, { segments }: Stream, { key, checkpointing = false }: Pass, at: Places | null = null): Tensor {
    const run = () => this.layers[i - 1].forward(x, segments, key?.fold(i) ?? null, at);
    return checkpointing ? checkpoint(run) : run();
  }

  /** Logits over the vocabulary, at chosen places only.   -> [M, V] */
  predict(stream: Stream, places: Index, pass: Pass = {}): Tensor {
    return this.head.forward(cast(gather(this.encode(stream, pass), places), "f32"), this.embeddings.word.weight);
  }

  /** The masked language model's loss: mean cross-entropy at the chosen places.   labels u32 [M] -> [] */
  loss(stream: Stream, places: Index, labels: Tensor, pass: Pass & { count?: Tensor } = {}): Tensor {
    return crossEntropy(this.predict(stream, places, pass), labels, { count: pass.count });
  }
}

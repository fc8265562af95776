/** The transformer (Vaswani et al. 2017, "Attention is all you need"): an encoder reads one sequence, a decoder writes another, token after token. */

import { checkpoint } from "../autograd/checkpoint.ts";
import { add, argmax, crossEntropy, gather, gelu, mul } from "../autograd/ops.ts";
import type { StepKey } from "../autograd/stepkey.ts";
import { inference } from "../autograd/tape.ts";
import { IGNORED } from "../kernels/loss.ts";
import type { Key } from "../src/key.ts";
import { unknownOption } from "../src/options.ts";
import { type Index, index, mostTiles, type Segments, segments } from "../src/stream.ts";
import { integers, keep, scoped, type Tensor } from "../src/tensor.ts";
import { MultiHeadAttention } from "./attention.ts";
import { Dropout } from "./dropout.ts";
import { Embedding } from "./embedding.ts";
import { checkKey, checkSizes } from "./given.ts";
import { xavierUniform } from "./init.ts";
import { LayerNorm } from "./layernorm.ts";
import { Linear } from "./linear.ts";
import { freeParameters } from "./module.ts";
import { sinusoidal } from "./positions.ts";

// ---- sequences as a stream -----------------------------------------------------------------

/** Sequences as one stream of N tokens, one after the other, without padding. */
export interface Sequences {
  /** The token at each place: an index into the vocabulary. */
  readonly tokens: Index;
  /** Its place in its sequence, from 0. */
  readonly positions: Index;
  readonly segments: Segments;
  /** u32 [N]: the token that follows, which a decoder is to foretell; IGNORED at the last place of a sequence, and in the dead tail. */
  readonly next: Tensor;
}

export interface SequencesOptions {
  /** Fixed sizes: tokens and sequences of every batch. Default: exactly what there is. */
  readonly capacity?: { readonly tokens: number; readonly sequences: number };
  /** Will anything be differentiated by the embeddings? Default true. */
  readonly gradients?: boolean;
}

/**
 * Pack sequences of tokens into a stream, whose tables lie on the device: they go with the scope it was made in, or by freeParameters(stream).
 * @param sizes of the model that will read it: the model itself will do.
 * @throws RangeError for a sequence that is too long, or a token beyond the vocabulary, naming sequence and place; and for what no capacity holds.
 *   @throws TypeError for a sequence that is no list.
 */
export function sequences(
  lists: readonly ArrayLike<number>[],
  sizes: { readonly vocabulary: number; readonly longest: number },
  { capacity, gradients = true }: SequencesOptions = {},
): Sequences {
  const { vocabulary, longest } = sizes;
  const [tokens, positions, next]: number[][] = [[], [], []];
  lists.forEach((list, s) => {
    if (typeof list !== "object" || list === null)
      throw new TypeError(
        `sequences(lists, sizes): sequence ${s} is ${String(list)}, not a list of tokens; give a list of lists, [[1, 2, 3]]`,
      );
    if (list.length > longest)
      throw new RangeError(
        `sequences(lists, sizes): sequence ${s} has ${list.length} tokens, but the model has positions for ${longest}; shorten it`,
      );
    for (let place = 0; place < list.length; place++) {
      const token = list[place];
      if (!(Number.isInteger(token) && token >= 0 && token < vocabulary))
        throw new RangeError(
          `sequences(lists, sizes): token ${token} at place ${place} of sequence ${s} is not in the vocabulary; give integers from 0 to ${vocabulary - 1}`,
        );
      tokens.push(token);
      positions.push(place);
      next.push(list[place + 1] ?? IGNORED);
    }
  });
  const count = tokens.length;
  const rows = capacity?.tokens ?? count;
  const cells = capacity?.sequences ?? lists.length;
  const cut = segments(
    lists.map(({ length }) => length),
    capacity && { rows, cells, tiles: mostTiles(rows, cells) },
  );
  const filled = (values: readonly number[], value: number) => [...values, ...new Array<number>(rows - count).fill(value)];
  return {
    tokens: index(filled(tokens, 0), vocabulary, { count, gradients }),
    positions: index(filled(positions, 0), longest, { gradients: false }),
    segments: cut,
    next: integers(filled(next, IGNORED)),
  };
}

// ---- layers --------------------------------------------------------------------------------

export interface LayerOptions {
  /** Columns of what layers pass on, C. */
  readonly width: number;
  /** H, which divides C. */
  readonly heads: number;
  /** Width of the feed-forward part, F. */
  readonly inner: number;
  /** Of attention weights, inside the feed-forward part, and of what each part of a layer adds: where torch.nn.TransformerEncoderLayer has it. */
  readonly dropout: number;
  /** Norm what each part of a layer reads (Xiong et al. 2020, "Pre-LN") instead of what it leaves. */
  readonly normFirst: boolean;
  readonly activation: "relu" | "gelu";
}

/** PyTorch's, in its transformer layers. */
const EPS = 1e-5;

const fold = <K extends { fold(n: number): K }>(key: K | null | undefined, n: number): K | null => key?.fold(n) ?? null;

/** y = down(dropout(act(up(x)))).   x [N, C] -> [N, C], by way of [N, F] */
export class FeedForward {
  readonly up: Linear;
  readonly down: Linear;
  readonly dropout: Dropout;
  readonly activation: "relu" | "gelu";

  constructor({ width, inner, dropout, activation }: LayerOptions, key: Key | null) {
    this.up = new Linear(width, inner, fold(key, 0), xavierUniform);
    this.down = new Linear(inner, width, fold(key, 1), xavierUniform);
    this.dropout = new Dropout(dropout);
    this.activation = activation;
  }

  /** @param residual added to the result, in the same kernel.   [N, C] */
  forward(x: Tensor, { key = null, residual = null }: { readonly key?: StepKey | null; readonly residual?: Tensor | null } = {}): Tensor {
    const wide = this.activation === "relu" ? this.up.forward(x, { relu: true }) : gelu(this.up.forward(x));
    return this.down.forward(this.dropout.forward(wide, key), { residual });
  }
}

/** The parts of a layer, and what stands between them. */
class Parts {
  readonly dropout: Dropout;
  readonly normFirst: boolean;

  constructor({ dropout, normFirst }: LayerOptions) {
    this.dropout = new Dropout(dropout);
    this.normFirst = normFirst;
  }

  /**
   * norm(x + dropout(part(x))), or with the norm first x + dropout(part(norm(x))). Without dropout the sum is part of the part's last kernel.
   * @param part what is added to x, and to the residual where one is given.
   */
  protected around(x: Tensor, norm: LayerNorm, key: StepKey | null, part: (x: Tensor, residual: Tensor | null) => Tensor): Tensor {
    const read = this.normFirst ? norm.forward(x) : x;
    const sum = key && this.dropout.p > 0 ? add(x, this.dropout.forward(part(read, null), key)) : part(read, x);
    return this.normFirst ? sum : norm.forward(sum);
  }
}

/** A layer of the encoder: each place looks at all of its sequence.   x [N, C] -> [N, C] */
export class EncoderLayer extends Parts {
  readonly self: MultiHeadAttention;
  readonly norm1: LayerNorm;
  readonly feed: FeedForward;
  readonly norm2: LayerNorm;

  constructor(options: LayerOptions, key: Key | null) {
    super(options);
    const { width, heads } = options;
    this.self = new MultiHeadAttention(width, heads, fold(key, 0), options);
    this.norm1 = new LayerNorm(width, EPS);
    this.feed = new FeedForward(options, fold(key, 1));
    this.norm2 = new LayerNorm(width, EPS);
  }

  forward(x: Tensor, segments: Segments, key: StepKey | null = null): Tensor {
    const seen = this.around(x, this.norm1, fold(key, 0), (x, residual) => this.self.forward(x, segments, { residual, key: fold(key, 1) }));
    return this.around(seen, this.norm2, fold(key, 2), (x, residual) => this.feed.forward(x, { residual, key: fold(key, 3) }));
  }
}

/** A layer of the decoder: each place looks at what was written before it, and at all that was read.   x [N, C], memory [M, C] -> [N, C] */
export class DecoderLayer extends Parts {
  readonly self: MultiHeadAttention;
  readonly norm1: LayerNorm;
  readonly cross: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly feed: FeedForward;
  readonly norm3: LayerNorm;

  constructor(options: LayerOptions, key: Key | null) {
    super(options);
    const { width, heads } = options;
    this.self = new MultiHeadAttention(width, heads, fold(key, 0), options);
    this.norm1 = new LayerNorm(width, EPS);
    this.cross = new MultiHeadAttention(width, heads, fold(key, 1), options);
    this.norm2 = new LayerNorm(width, EPS);
    this.feed = new FeedForward(options, fold(key, 2));
    this.norm3 = new LayerNorm(width, EPS);
  }

  /** @param keys the segments of the memory. */
  forward(x: Tensor, segments: Segments, memory: Tensor, keys: Segments, key: StepKey | null = null): Tensor {
    const written = this.around(x, this.norm1, fold(key, 0), (x, residual) =>
      this.self.forward(x, segments, { causal: true, residual, key: fold(key, 1) }),
    );
    const seen = this.around(written, this.norm2, fold(key, 2), (x, residual) =>
      this.cross.forward(x, segments, { memory, keys, residual, key: fold(key, 3) }),
    );
    return this.around(seen, this.norm3, fold(key, 4), (x, residual) => this.feed.forward(x, { residual, key: fold(key, 5) }));
  }
}

// ---- the model -----------------------------------------------------------------------------

export interface TransformerPass {
  /** A key for dropout. Without one there is none. */
  readonly key?: StepKey | null;
  /** Keep nothing of a layer but its input for the way back, which runs it again: a third more work, for memory of one layer instead of all. */
  readonly checkpointing?: boolean;
}

/** Layers one on the other; what lies between two goes when the second is done, unless a tape keeps it. */
class Stack<L> {
  readonly layers: readonly L[];
  /** After the last layer, where norms come first: nothing else norms what that adds. */
  readonly norm: LayerNorm | null;

  constructor(count: number, { width, normFirst }: LayerOptions, layer: (i: number) => L) {
    this.layers = Array.from({ length: count }, (_, i) => layer(i));
    this.norm = normFirst ? new LayerNorm(width, EPS) : null;
  }

  protected through(
    x: Tensor,
    { key, checkpointing }: TransformerPass,
    apply: (layer: L, x: Tensor, key: StepKey | null) => Tensor,
  ): Tensor {
    const upTo = (count: number): Tensor => {
      if (count === 0) return x;
      return scoped(() => {
        const below = upTo(count - 1);
        const run = () => apply(this.layers[count - 1], below, fold(key, count));
        return checkpointing ? checkpoint(run) : run();
      });
    };
    const y = upTo(this.layers.length);
    return this.norm ? this.norm.forward(y) : y;
  }
}

export class Encoder extends Stack<EncoderLayer> {
  constructor(count: number, options: LayerOptions, key: Key | null) {
    super(count, options, (i) => new EncoderLayer(options, fold(key, i)));
  }

  forward(x: Tensor, segments: Segments, pass: TransformerPass = {}): Tensor {
    return this.through(x, pass, (layer, x, key) => layer.forward(x, segments, key));
  }
}

export class Decoder extends Stack<DecoderLayer> {
  constructor(count: number, options: LayerOptions, key: Key | null) {
    super(count, options, (i) => new DecoderLayer(options, fold(key, i)));
  }

  /** @param keys the segments of the memory. */
  forward(x: Tensor, segments: Segments, memory: Tensor, keys: Segments, pass: TransformerPass = {}): Tensor {
    return this.through(x, pass, (layer, x, key) => layer.forward(x, segments, memory, keys, key));
  }
}

/** Defaults are those of the paper's base model. */
export interface TransformerOptions extends Partial<LayerOptions> {
  /** Tokens there are, V: of what is read and of what is written. */
  readonly vocabulary: number;
  /** The most tokens that a sequence may have. */
  readonly longest: number;
  /** Layers of the encoder and as many of the decoder, or of each. Default 6. */
  readonly layers?: number | { readonly encoder: number; readonly decoder: number };
  /** Is the output's weight the embedding (3.4)? Default false. */
  readonly tied?: boolean;
}

const DEFAULTS: Required<Omit<TransformerOptions, "vocabulary" | "longest">> = {
  layers: 6,
  heads: 8,
  width: 512,
  inner: 2048,
  dropout: 0.1,
  normFirst: false,
  activation: "relu",
  tied: false,
};

/** @throws RangeError for an option that there is not, naming the nearest, and for one that cannot be. */
function checked(options: TransformerOptions) {
  const fail = (what: string): never => {
    throw new RangeError(`Transformer(options, key): ${what}`);
  };
  const names = [...Object.keys(DEFAULTS), "vocabulary", "longest"];
  const wrong = unknownOption(options, names);
  if (wrong) fail(wrong);
  const all = { ...DEFAULTS, ...options };
  const layers = typeof all.layers === "number" ? { encoder: all.layers, decoder: all.layers } : all.layers;
  const { vocabulary, longest, width, heads, inner } = all;
  checkSizes("Transformer(options, key)", {
    vocabulary,
    longest,
    width,
    heads,
    inner,
    "layers of the encoder": layers.encoder,
    "layers of the decoder": layers.decoder,
  });
  if (!["relu", "gelu"].includes(all.activation)) fail(`activation must be "relu" or "gelu"; got "${all.activation}"`);
  return { ...all, layers };
}

/** What a decoder is to begin with, and where it ends. */
export interface Generate {
  /** The token that stands before the first. */
  readonly start: number;
  /** The token after which nothing follows. */
  readonly end: number;
  /** Tokens to write at most. Default: all the model has positions for. */
  readonly longest?: number;
}

/**
 * Encoder and decoder over streams of sequences: sequence s of the target is written from sequence s of the source.
 *
 *   const model = new Transformer({ vocabulary: 37_000, longest: 512 }, Key.from(0));
 *   const loss = model.loss(sequences(read, model), sequences(written, model), { key });
 *
 * Tokens become embeddings times sqrt(C), to which sinusoidal positions are added (3.4, 3.5).
 */
export class Transformer {
  readonly embedding: Embedding;
  /** Of the embeddings with their positions. */
  readonly dropout: Dropout;
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  /** From the decoder's width to logits over the vocabulary. */
  readonly output: Linear;
  readonly vocabulary: number;
  readonly longest: number;
  readonly #positions: Tensor;

  /** Linear layers begin by xavierUniform. Without a key, weights are to be loaded. @throws RangeError for options that make no model. */
  constructor(options: TransformerOptions, key: Key | null) {
    const { vocabulary, longest, layers, tied, ...rest } = checked(options);
    checkKey("Transformer(options, key)", key);
    const { width } = rest;
    this.vocabulary = vocabulary;
    this.longest = longest;
    this.embedding = new Embedding(vocabulary, width, fold(key, 0), 1 / Math.sqrt(width)); // of deviation 1 when scaled
    this.dropout = new Dropout(rest.dropout);
    this.encoder = new Encoder(layers.encoder, rest, fold(key, 1));
    this.decoder = new Decoder(layers.decoder, rest, fold(key, 2));
    this.output = new Linear(width, vocabulary, fold(key, 3), tied ? () => this.embedding.weight : xavierUniform);
    this.#positions = keep(sinusoidal(longest, width));
  }

  #embed({ tokens, positions }: Sequences, key: StepKey | null): Tensor {
    const [, width] = this.embedding.weight.shape;
    const x = add(mul(this.embedding.forward(tokens), Math.sqrt(width)), gather(this.#positions, positions));
    return this.dropout.forward(x, key);
  }

  /** What the decoder will look at.   -> [M, C] */
  encode(source: Sequences, { key, checkpointing }: TransformerPass = {}): Tensor {
    const x = this.#embed(source, fold(key, 0));
    return this.encoder.forward(x, source.segments, { key: fold(key, 1), checkpointing });
  }

  /**
   * What each place of the target has become; it knows of the places before it alone.   -> [N, C]
   * @param memory what encode() made of the source, and `keys` the source's segments.
   */
  decode(target: Sequences, memory: Tensor, keys: Segments, { key, checkpointing }: TransformerPass = {}): Tensor {
    const x = this.#embed(target, fold(key, 2));
    return this.decoder.forward(x, target.segments, memory, keys, { key: fold(key, 3), checkpointing });
  }

  /** For each place of the target logits over the token that follows.   -> [N, V] */
  forward(source: Sequences, target: Sequences, pass: TransformerPass = {}): Tensor {
    return this.output.forward(this.decode(target, this.encode(source, pass), source.segments, pass));
  }

  /**
   * The mean cross-entropy of the next token, at all places of the target but the last of each sequence: the decoder is shown the tokens it should have
   * written so far ("teacher forcing").   -> []
   * @param pass.smoothing the share of each label that is spread over all tokens; the paper's is 0.1 (5.4). Default 0.
   * @param pass.count f32 [1]: divide by this instead of the number of places.
   */
  loss(
    source: Sequences,
    target: Sequences,
    pass: TransformerPass & { readonly smoothing?: number; readonly count?: Tensor } = {},
  ): Tensor {
    const { smoothing, count } = pass;
    return crossEntropy(this.forward(source, target, pass), target.next, { smoothing, count });
  }

  /**
   * Write a sequence for each of the source, token after token, each time the likeliest. Every step decodes all that was written so far, and reads one
   * token a sequence back from the device.
   * @returns the tokens of each, without start and end.
   * @throws RangeError for a start or an end that is no token, or more tokens than the model has positions for.
   */
  async generate(source: Sequences, { start, end, longest = this.longest }: Generate): Promise<number[][]> {
    if (!(longest <= this.longest))
      throw new RangeError(
        `generate(source, { longest }): longest is ${longest}, but the model has positions for ${this.longest}; ask for fewer tokens`,
      );
    for (const [name, token] of Object.entries({ start, end }))
      if (!(Number.isInteger(token) && token >= 0 && token < this.vocabulary))
        throw new RangeError(
          `generate(source, { start, end }): ${name} is ${token}, which is not in the vocabulary; give an integer from 0 to ${this.vocabulary - 1}`,
        );
    const written = source.segments.lengths.map((): number[] => []);
    const open = new Set(written.keys());
    const memory = keep(inference(() => this.encode(source)));
    try {
      for (let step = 0; step < longest && open.size > 0; step++) {
        const likeliest = keep(
          inference(() => {
            const begun = written.map((tokens, s) => (open.has(s) ? [start, ...tokens] : [])); // sequences that ended cost nothing
            const target = sequences(begun, this, { gradients: false });
            const last = Array.from(open, (_, i) => (i + 1) * (step + 1) - 1); // those that did not are equally long
            const x = gather(this.decode(target, memory, source.segments), index(last, target.segments.rows, { gradients: false }));
            return argmax(this.output.forward(x), 1);
          }),
        );
        const tokens = await likeliest.data();
        likeliest.free();
        [...open].forEach((s, i) => {
          if (tokens[i] === end) open.delete(s);
          else written[s].push(tokens[i]);
        });
      }
    } finally {
      memory.free();
    }
    return written;
  }

  /** Give back the buffers of all parameters, and the table of positions. */
  free(): void {
    freeParameters(this);
    this.#positions.free();
  }
}

/** Masked pretraining: hide genes of a cell, let the model name them. Resumes to the bit. */

import { add } from "../autograd/ops.ts";
import { StepKey } from "../autograd/stepkey.ts";
import { accumulate, inference, valueAndGrad } from "../autograd/tape.ts";
import { IGNORED } from "../kernels/loss.ts";
import { LossScale } from "../nn/lossscale.ts";
import { freeParameters, parameters } from "../nn/module.ts";
import { AdamW, type AdamWOptions } from "../nn/optimizer.ts";
import { type ScheduleName, schedule } from "../nn/schedule.ts";
import { type CalibrateOptions, type Calibration, calibrate } from "../src/calibrate.ts";
import { ahead, type Captured, capture } from "../src/capture.ts";
import { device, type OpenOptions, storageOf } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { needs, prepare } from "../src/shapes.ts";
import { type Index, index, rewriteIndex } from "../src/stream.ts";
import { full, integers, keep, scoped, type Tensor, tensorsIn } from "../src/tensor.ts";
import type { Config } from "./config.ts";
import { rewriteStream, streamOf } from "./data/batches.ts";
import type { Dataset } from "./data/dataset.ts";
import { type Cursor, Order } from "./data/order.ts";
import type { Vocabulary } from "./data/vocabulary.ts";
import { type Masked, type MaskOptions, maskCell, maskOptions } from "./masking.ts";
import { Geneformer, type Stream } from "./model.ts";

export interface PretrainOptions {
  readonly seed: number;
  /** Optimiser steps in all: what the schedule runs over. */
  readonly steps: number;
  /** Tokens a batch holds at most; what cells leave over is the dead tail. */
  readonly tokensPerBatch: number;
  /** Batches to a step. */
  readonly accumulate: number;
  /** Peak learning rate. */
  readonly rate: number;
  /** Steps over which the rate rises to it. */
  readonly warmup: number;
  readonly schedule: ScheduleName;
  /** Weight decay, on all but biases and layer norms. */
  readonly decay: number;
  /** Gradients are scaled down to this global norm; 0 does not. */
  readonly clip: number;
  /** Share of places to hide. */
  readonly maskProbability: number;
  /** Never hide <cls> and <eos>. */
  readonly keepSpecial: boolean;
  /** Share of cells that are held out for evaluation. */
  readonly heldOut: number;
  /**
   * What the device was opened with. "mixed" trains by a LossScale, so that what products round to f16 does not vanish; a step whose gradients overflow is
   * skipped. Weights, sums and the optimiser stay f32. A device that rounds nothing, such as the cpu, takes the same steps as without.
   */
  readonly precision: Precision;
}

export type Precision = NonNullable<OpenOptions["precision"]>;

/** Upstream's settings for V1-10M (its training arguments), but for steps and batch size, which the data determine. */
export const pretrainDefaults: PretrainOptions = {
  seed: 0,
  steps: 1000,
  tokensPerBatch: 8192,
  accumulate: 1,
  rate: 1e-3,
  warmup: 100,
  schedule: "linear",
  decay: 0.001,
  clip: 1,
  maskProbability: 0.15,
  keepSpecial: false,
  heldOut: 0.1,
  precision: "f32",
};

/** Every key of a run comes from its seed by one of these. */
const KEYS = { weights: 0, split: 1, order: 2, masks: 3, dropout: 4, evaluation: 5 };

/** What a step was. */
export interface Step {
  /** Steps done, this one included. */
  readonly step: number;
  /** Mean cross-entropy of the hidden genes, nats. */
  readonly loss: number;
  /** Global norm of the gradients before clipping. */
  readonly norm: number;
  readonly rate: number;
  readonly tokens: number;
  readonly cells: number;
  readonly epoch: number;
  /** In mixed precision: the factor on the loss, as this step left it. */
  readonly lossScale?: number;
  /** There too: gradients overflowed, and the step changed no weight. Its norm is then Infinity or NaN. */
  readonly skipped?: true;
}

export interface Evaluation {
  /** Mean cross-entropy of the hidden genes, nats, at fixed masks of the held-out cells. */
  readonly loss: number;
  /** Hidden genes. */
  readonly questions: number;
}

/** How far a run has come; with weights and optimiser, all that a resumed run needs. */
export interface Progress {
  readonly step: number;
  readonly cursor: Cursor;
}

interface Packed {
  readonly cells: readonly Masked[];
  readonly epoch: number;
}

/** What batches have room for. */
interface Capacity {
  readonly tokens: number;
  readonly cells: number;
  /** Chosen places. */
  readonly places: number;
}

/** A batch on the device: what the loss reads. */
interface Batch {
  readonly stream: Stream;
  readonly places: Index;
  readonly labels: Tensor;
}

/** What a captured step reads, written anew before each. */
interface Inputs {
  /** Those of a step, one after the other. */
  readonly batches: readonly Batch[];
  /** u32 [2]: the words of dropout's key. */
  readonly words: Tensor;
  /** f32 [1]: chosen places in all batches. */
  readonly count: Tensor;
}

/** What a step gives, on the device. */
interface Outcome {
  readonly loss: Tensor;
  /** As the optimiser gives it: the gradients' norm, and the factor they were scaled by. */
  readonly clip: Tensor;
}

/** A step that can be replayed, and what it reads. */
interface Ready {
  readonly inputs: Inputs;
  readonly step: Captured<Outcome>;
}

/** The factor on the loss below which it is not the factor that makes gradients overflow: f16's least normal number. */
const LEAST_SCALE = 2 ** -14;

/** A pretraining run: model, optimiser, and where in the data it stands. */
export class Pretraining {
  readonly model: Geneformer;
  readonly optimizer: AdamW;
  readonly options: PretrainOptions;
  readonly #dataset: Dataset;
  readonly #key: Key;
  readonly #masks: MaskOptions;
  readonly #training: Uint32Array;
  readonly #heldOut: Uint32Array;
  readonly #order: Order;
  readonly #capacity: Capacity;
  readonly #weights: readonly Tensor[];
  /** In mixed precision. It is part of the optimiser's state. */
  readonly #scale: LossScale | null;
  /** The step, recorded once and replayed, and its inputs; made when the first one is asked for. */
  #captured: Ready | null = null;

  /**
   * @param resumed the model to go on from, and where the saved run stood; without it, random weights from the seed.
   * @throws RangeError when the data do not fit the model or the batch, or the device was opened for another precision, with what to change.
   */
  constructor(
    dataset: Dataset,
    vocabulary: Vocabulary,
    config: Config,
    options: PretrainOptions,
    resumed?: { model: Geneformer; progress: Progress },
  ) {
    checkOptions(options);
    if (config.vocabulary < vocabulary.size)
      throw new RangeError(
        `pretrain: the model has ${config.vocabulary} tokens but the dictionary ${vocabulary.size}; set the vocabulary to the dictionary's size`,
      );
    if (dataset.largest >= vocabulary.size)
      throw new RangeError(
        `pretrain: token ${dataset.largest} is in the data but the dictionary ends at ${vocabulary.size - 1}; was it tokenized with another dictionary?`,
      );
    const longest = dataset.lengths.reduce((a, b) => Math.max(a, b), 0);
    const shortest = dataset.lengths.reduce((a, b) => Math.min(a, b), longest);
    if (longest > config.length)
      throw new RangeError(
        `pretrain: the longest cell has ${longest} tokens but the model places for ${config.length}; tokenize with --model-input-size ${config.length}, or make the model longer`,
      );
    if (longest > options.tokensPerBatch)
      throw new RangeError(
        `pretrain: the longest cell has ${longest} tokens but a batch holds ${options.tokensPerBatch}; raise --tokens-per-batch to ${longest} or more`,
      );

    this.options = options;
    this.#dataset = dataset;
    this.#key = Key.from(options.seed);
    this.#masks = maskOptions(vocabulary, { probability: options.maskProbability, keepSpecial: options.keepSpecial });
    const shuffled = this.#key.fold(KEYS.split).permutation(dataset.length);
    const held = Math.min(Math.round(options.heldOut * dataset.length), dataset.length - 1);
    this.#heldOut = shuffled.slice(0, held); // in random order: the first of them are a sample
    this.#training = shuffled.slice(held).sort();
    this.#order = new Order(this.#training.length, this.#key.fold(KEYS.order), resumed?.progress.cursor);

    const { tokensPerBatch: tokens, maskProbability: p } = options;
    // Three deviations of the coin above its mean; a batch that chooses more places ends a cell earlier.
    const places = Math.ceil(tokens * p + 3 * Math.sqrt(tokens * p * (1 - p)));
    this.#capacity = { tokens, cells: Math.max(1, Math.floor(tokens / Math.max(1, shortest))), places };

    this.model = resumed?.model ?? new Geneformer(config, this.#key.fold(KEYS.weights));
    const { decay, clip } = options;
    this.#scale = options.precision === "mixed" ? new LossScale() : null;
    this.optimizer = new AdamW(parameters(this.model), { decay, clip, scale: this.#scale } satisfies AdamWOptions);
    this.#weights = [...parameters(this.model)].map(([, t]) => t);
    this.optimizer.steps = resumed?.progress.step ?? 0;
  }

  get progress(): Progress {
    return { step: this.optimizer.steps, cursor: this.#order.cursor };
  }

  /** Cells that are trained on, and those that are held out: numbers of the dataset's rows. */
  get split(): { readonly training: Uint32Array; readonly heldOut: Uint32Array } {
    return { training: this.#training, heldOut: this.#heldOut };
  }

  /** The cells of the next batch, masked: as many as fit. */
  #pack(): Packed {
    const cells: Masked[] = [];
    let [tokens, places] = [0, 0];
    let last = 0;
    while (cells.length < this.#capacity.cells) {
      const { cell, epoch } = this.#order.peek();
      const row = this.#training[cell];
      const genes = this.#dataset.tokens(row);
      if (tokens + genes.length > this.#capacity.tokens) break;
      const masked = maskCell(genes, this.#key.fold(KEYS.masks).fold(epoch).fold(row), this.#masks);
      if (cells.length > 0 && places + masked.places.length > this.#capacity.places) break;
      this.#order.take();
      cells.push(masked);
      tokens += genes.length;
      places += masked.places.length;
      last = epoch;
    }
    return { cells, epoch: last };
  }

  /** A step on the device: the same kernels whatever the numbers, so that it can be replayed. */
  #compute({ batches, words, count }: Inputs): Outcome {
    const key = new StepKey(words);
    const storage = storageOf(this.#weights[0].device);
    let sum: Tensor | null = null;
    let grads: Tensor[] | null = null;
    for (const [part, { stream, places, labels }] of batches.entries()) {
      const losses = () => {
        const loss = this.model.loss(stream, places, labels, { key: key.fold(part), count, storage });
        return [this.#scale?.apply(loss) ?? loss, loss] as const;
      };
      const { value, grads: more } = valueAndGrad(losses, this.#weights); // of the first; the second is told
      sum = sum ? add(sum, value[1]) : value[1];
      grads = accumulate(grads, more); // as they come, so that more batches hold no more memory
    }
    return { loss: sum as Tensor, clip: this.optimizer.apply(grads ?? []) };
  }

  /** The inputs of a step, for these cells, or with room for any. */
  #inputs(packed: readonly (readonly Masked[])[]): Inputs {
    const { config } = this.model;
    const batches = packed.map((cells) => batchOf(cells, config, { capacity: this.#capacity }));
    return { batches, words: integers([0, 0]), count: full([1], 1) };
  }

  /** The step, to be recorded when it is called, and its inputs. */
  #made(): Ready {
    if (this.#captured) return this.#captured;
    const inputs = keep(this.#inputs(Array.from({ length: this.options.accumulate }, () => [])));
    this.#captured = { inputs, step: capture(() => this.#compute(inputs)) }; // given back with the run, whatever comes
    return this.#captured;
  }

  /** Have the step ready: its kernels compiled together, and known to fit. */
  async #ready(): Promise<Ready> {
    const made = this.#made();
    if (made.step.commands === 0) await prepare(made.step);
    return made;
  }

  /**
   * Find out which ways of writing the kernels of a step are fastest on this adapter, and take them: in mixed precision, those that round to f16 are never
   * taken otherwise. What another calibration chooses gives other bits, so a run that shall resume to the bit keeps what was found, by `options.store`.
   * @throws RangeError for a device that has nothing to choose from; Error after the first step, which has chosen.
   */
  calibrate(options: Omit<CalibrateOptions, "problems"> = {}): Promise<Calibration> {
    const { step } = this.#made();
    if (step.commands > 0) throw new Error("Pretraining.calibrate(options): a step was taken already; calibrate before the first one");
    return calibrate(device(), { ...options, problems: needs(step).problems });
  }

  /** Pack the next batches and enqueue their step. What comes of it is read as soon as it is there. */
  #enqueue({ inputs, step }: Ready): Promise<Step> {
    const { accumulate: parts, rate: peak, warmup, steps } = this.options;
    const at = this.optimizer.steps;
    const packed = Array.from({ length: parts }, () => this.#pack());
    const cells = packed.map((batch) => batch.cells);
    const chosen = cells.map((batch) => batch.reduce((n, { places }) => n + places.length, 0));
    const rate = peak * schedule(this.options.schedule, at, warmup, steps);
    const write = ({ words, count }: Inputs) => {
      words.write(this.#key.fold(KEYS.dropout).fold(at).words);
      count.write([
        Math.max(
          1,
          chosen.reduce((a, b) => a + b, 0),
        ),
      ]);
      this.optimizer.advance(rate);
    };
    const read = async ({ loss, clip }: Outcome): Promise<Step> => {
      // the factor is of this step, although the next one changes it: the device keeps order
      const [value, [norm, scale], [factor] = []] = await Promise.all([loss.item(), clip.data(), this.#scale?.state.data()]);
      const skipped = scale < 0;
      if (!Number.isFinite(value) || !(Number.isFinite(norm) || (skipped && factor >= LEAST_SCALE)))
        throw new Error(
          `pretrain: the loss is ${value} and the gradient's norm ${norm} at step ${at + 1}; lower the learning rate, ${this.#scale ? 'lengthen the warm-up, or train with precision "f32"' : "or lengthen the warm-up"}`,
        );
      const tokens = cells.flat().reduce((sum, cell) => sum + cell.tokens.length, 0);
      const { epoch } = packed[packed.length - 1];
      const scaling = this.#scale && { lossScale: factor, ...(skipped && { skipped }) };
      return { step: at + 1, loss: value, norm, rate, tokens, cells: cells.flat().length, epoch, ...scaling };
    };

    if (chosen.every((places) => places <= this.#capacity.places)) {
      inputs.batches.forEach((batch, part) => {
        rewriteBatch(batch, cells[part], this.model.config);
      });
      write(inputs);
      return read(step());
    }
    // One cell alone chose more places than there is room for: such a step has tables of its own, and is not replayed.
    return scoped(() => {
      const own = this.#inputs(cells);
      write(own);
      return read(this.#compute(own));
    });
  }

  /** One optimiser step. The numbers are read back when it is done. */
  async step(): Promise<Step> {
    return this.#enqueue(await this.#ready());
  }

  /**
   * Optimiser steps until so many are done, or until `signal`: one at least. The next steps are packed, uploaded and enqueued while the numbers of one are
   * waited for; when the last has been told of, nothing is under way.
   */
  async *steps(until: number, signal?: AbortSignal): AsyncGenerator<Step> {
    const ready = await this.#ready();
    const enqueue = (): Promise<Step> => this.#enqueue(ready);
    const more = (): boolean => this.optimizer.steps < until && !signal?.aborted;
    function* enqueued(): Generator<Promise<Step>> {
      do yield enqueue();
      while (more());
    }
    yield* ahead(enqueued());
  }

  /** What the model is asked about held-out cells: the same masks every time. */
  *heldOutQuestions(limit = Number.POSITIVE_INFINITY): Generator<Masked> {
    for (const row of this.#heldOut.subarray(0, limit))
      yield maskCell(this.#dataset.tokens(row), this.#key.fold(KEYS.evaluation).fold(row), this.#masks);
  }

  /** The loss on held-out cells (at most `limit`), without dropout. */
  async evaluate(limit = Number.POSITIVE_INFINITY): Promise<Evaluation> {
    const all = [...this.heldOutQuestions(limit)];
    const total = all.reduce((sum, { places }) => sum + places.length, 0);
    let loss = 0;
    for (let from = 0; from < all.length; ) {
      const batch: Masked[] = [];
      for (let tokens = 0; from < all.length && (batch.length === 0 || tokens + all[from].tokens.length <= this.#capacity.tokens); from++) {
        batch.push(all[from]);
        tokens += all[from].tokens.length;
      }
      const part = inference(() => {
        const { stream, places, labels } = batchOf(batch, this.model.config, { gradients: false });
        return this.model.loss(stream, places, labels, { count: full([1], Math.max(1, total)) });
      });
      loss += await part.item();
      part.free();
    }
    return { loss: total > 0 ? loss : Number.NaN, questions: total };
  }

  free(): void {
    this.#captured?.step.free();
    for (const t of tensorsIn(this.#captured?.inputs)) t.free();
    this.#captured = null;
    this.optimizer.free();
    this.#scale?.free();
    freeParameters(this.model);
  }
}

/** The chosen places of packed cells as rows of the stream, and their genes; filled up to a capacity with places that count for nothing. */
function questions(cells: readonly Masked[], capacity?: number): { values: Uint32Array; labels: Uint32Array; used: number } {
  const used = cells.reduce((n, { places }) => n + places.length, 0);
  const values = new Uint32Array(Math.max(1, used, capacity ?? 0)); // one cell alone may choose more than the capacity
  const labels = new Uint32Array(values.length).fill(IGNORED);
  let [at, start] = [0, 0];
  for (const { tokens, places, labels: genes } of cells) {
    places.forEach((place, i) => {
      values[at] = start + place;
      labels[at++] = genes[i];
    });
    start += tokens.length;
  }
  return { values, labels, used };
}

/** Cells and what is asked about them, on the device; with capacities, room for any. */
function batchOf(
  cells: readonly Masked[],
  config: Config,
  { capacity, gradients = true }: { readonly capacity?: Capacity; readonly gradients?: boolean },
): Batch {
  const stream = streamOf(
    cells.map(({ tokens }) => tokens),
    config,
    { ...(capacity && { capacity }), gradients },
  );
  const { values, labels, used } = questions(cells, capacity?.places);
  return { stream, places: index(values, stream.segments.rows, { count: used, gradients }), labels: integers(labels) };
}

/** Write other cells into a batch with capacities. */
function rewriteBatch({ stream, places, labels }: Batch, cells: readonly Masked[], config: Config): void {
  rewriteStream(
    stream,
    cells.map(({ tokens }) => tokens),
    config,
  );
  const asked = questions(cells, labels.size);
  rewriteIndex(places, asked.values, { count: asked.used });
  labels.write(asked.labels);
}

function checkOptions(options: PretrainOptions): void {
  const fail = (field: keyof PretrainOptions, what: string): never => {
    throw new RangeError(`pretrain: ${field} must be ${what}; got ${String(options[field])}`);
  };
  for (const field of ["steps", "tokensPerBatch", "accumulate"] as const)
    if (!Number.isInteger(options[field]) || options[field] < 1) fail(field, "a positive integer");
  for (const field of ["rate", "warmup", "decay", "clip"] as const) if (!(options[field] >= 0)) fail(field, "0 or more");
  if (!(options.maskProbability > 0 && options.maskProbability < 1)) fail("maskProbability", "between 0 and 1");
  if (!(options.heldOut >= 0 && options.heldOut < 1)) fail("heldOut", "0 or more and below 1");
  if (options.precision !== "f32" && options.precision !== "mixed") fail("precision", '"f32" or "mixed"');
  const { choices } = device(); // undefined where nothing is ever rounded
  if (choices && choices.abilities.mixed !== (options.precision === "mixed"))
    throw new RangeError(
      `pretrain: precision is "${options.precision}" but the device was opened for "${choices.abilities.mixed ? "mixed" : "f32"}"; open it with { precision: "${options.precision}" }`,
    );
}

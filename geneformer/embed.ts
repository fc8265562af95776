/** Embeddings: what a model makes of a cell. */

import { cast, gather, segmentMean } from "../autograd/ops.ts";
import { inference } from "../autograd/tape.ts";
import type { Values } from "../kernels/kernel.ts";
import { ahead } from "../src/capture.ts";
import { storageOf } from "../src/device.ts";
import { index, inner, spansOf } from "../src/stream.ts";
import type { Tensor } from "../src/tensor.ts";
import { streamOf } from "./data/batches.ts";
import type { Dataset } from "./data/dataset.ts";
import { type Geneformer, hiddenOf } from "./model.ts";

/** `cell`: the mean over a cell's genes, special tokens left out; `cls`: what became of <cls>. */
export type EmbeddingMode = "cell" | "cls";

/** What stands at the ends of every cell: nothing in V1, <cls> and <eos> in V2. */
export interface Ends {
  readonly cls: boolean;
  readonly eos: boolean;
}

/** V2's special tokens (both published dictionaries of that version). */
const [CLS, EOS] = [2, 3];

/**
 * Were these cells tokenized with <cls> and <eos>? Upstream decides by the dictionary; where none is at hand the cells themselves tell.
 * @throws Error when some have them and others do not.
 */
export function endsOf(cells: Iterable<ArrayLike<number>>, version: "V1" | "V2" | null): Ends {
  if (version === "V1") return { cls: false, eos: false };
  let [count, cls, eos] = [0, 0, 0];
  for (const cell of cells) {
    count++;
    if (cell[0] === CLS) cls++;
    if (cell[cell.length - 1] === EOS) eos++;
  }
  const whole = (n: number, word: string) => {
    if (version === "V2" && n !== 0 && n !== count) throw new Error(`embed: ${n} of ${count} cells have ${word}; tokenize them alike`);
    return n > 0 && n === count;
  };
  return { cls: whole(cls, "<cls>"), eos: whole(eos, "<eos>") };
}

/** Where each cell begins in a stream of cells of these lengths. */
export const firstRows = (lengths: readonly number[]): number[] => spansOf(lengths).map(([from]) => from);

/** One vector a cell, in f32, from hidden states in a stream of cells of these lengths.   x [N, C] -> [B, C] */
export function pool(x: Tensor, lengths: readonly number[], mode: EmbeddingMode, { cls, eos }: Ends): Tensor {
  if (mode === "cell") return segmentMean(cast(x, "f32"), inner(lengths, Number(cls), Number(eos)));
  if (!cls) throw new Error("embed: these cells have no <cls> (V1 has none); use --mode cell");
  return cast(gather(x, index(firstRows(lengths), x.shape[0], { gradients: false })), "f32");
}

export interface EmbedOptions {
  /** 0 is the last layer, -1 the one before: upstream's emb_layer, whose default is -1. */
  readonly layer: number;
  readonly mode: EmbeddingMode;
  readonly ends: Ends;
  /** Tokens in a batch, at most; one cell may be longer. */
  readonly tokensPerBatch: number;
  readonly onProgress?: (cells: number) => void;
}

/** Cut cells into batches of at most `budget` tokens, in order. */
export function* batchesOf<T>(cells: Iterable<T>, budget: number, lengthOf: (cell: T) => number): Generator<T[]> {
  let [batch, tokens]: [T[], number] = [[], 0];
  for (const cell of cells) {
    if (batch.length > 0 && tokens + lengthOf(cell) > budget) {
      yield batch;
      [batch, tokens] = [[], 0];
    }
    batch.push(cell);
    tokens += lengthOf(cell);
  }
  if (batch.length > 0) yield batch;
}

/** The embedding of each cell, in order.   -> f32 [cells, C], row-major */
export async function embed(model: Geneformer, cells: readonly ArrayLike<number>[], options: EmbedOptions): Promise<Float32Array> {
  const { config } = model;
  const pass = { layers: hiddenOf(config, options.layer), storage: storageOf(model.embeddings.word.weight.device) };
  function* vectors(): Generator<Promise<Values>> {
    for (const batch of batchesOf(cells, options.tokensPerBatch, (cell) => cell.length)) {
      const lengths = batch.map((cell) => cell.length);
      const made = inference(() =>
        pool(model.encode(streamOf(batch, config, { gradients: false }), pass), lengths, options.mode, options.ends),
      );
      const read = made.data();
      made.free(); // once it has been read
      yield read;
    }
  }
  const all = new Float32Array(cells.length * config.width);
  let at = 0;
  for await (const values of ahead(vectors())) {
    all.set(values, at);
    at += values.length;
    options.onProgress?.(at / config.width);
  }
  return all;
}

/** Rows of a dataset in upstream's order: longest cell first, cells of one length as they stood. */
export const longestFirst = ({ lengths }: Dataset): number[] => [...lengths.keys()].sort((a, b) => lengths[b] - lengths[a]);

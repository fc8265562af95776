/** In silico perturbation: take a gene out of a cell's ranking and see how far the cell moves. */

import { cosine, gather, reshape, segmentMean } from "../autograd/ops.ts";
import { inference } from "../autograd/tape.ts";
import type { Values } from "../kernels/kernel.ts";
import { ahead } from "../src/capture.ts";
import { index, segments } from "../src/stream.ts";
import type { Tensor } from "../src/tensor.ts";
import { streamOf } from "./data/batches.ts";
import { batchesOf, type EmbeddingMode, type Ends } from "./embed.ts";
import { type Geneformer, hiddenOf } from "./model.ts";

export interface DeleteOptions {
  /** 0 is the last layer, -1 the one before: upstream's emb_layer, whose default is -1. */
  readonly layer: number;
  /**
   * `cell`: the mean, over the genes that are left, of the cosine between a gene's embedding with and without the deletion (upstream's V1).
   * `cls`: the cosine of the <cls> embedding (upstream's V2).
   */
  readonly mode: EmbeddingMode;
  readonly ends: Ends;
  readonly tokensPerBatch: number;
  /** Deletions done, of this cell. */
  readonly onProgress?: (deletions: number) => void;
}

/** What deleting one gene of a cell did. */
export interface Deletion {
  /** Its place in the cell, special tokens counted. */
  readonly place: number;
  readonly token: number;
  /** The cosine between the cell with the gene and without: 1 is unmoved. */
  readonly cosine: number;
}

/**
 * Delete each gene of a cell, one at a time: genes below it move up a rank. Copies of the cell run together, as many as a batch has tokens for.
 * @throws RangeError for a cell with nothing left after a deletion.
 */
export async function deleteEach(model: Geneformer, cell: ArrayLike<number>, options: DeleteOptions): Promise<Deletion[]> {
  const { layer, mode, ends, tokensPerBatch, onProgress } = options;
  const layers = hiddenOf(model.config, layer);
  const genes = Array.from(cell);
  const [first, end] = [Number(ends.cls), genes.length - Number(ends.eos)];
  if (mode === "cls" && !ends.cls) throw new Error("perturb: these cells have no <cls> (V1 has none); use --mode cell");
  if (end - first < 2)
    throw new RangeError(`perturb: a cell of ${end - first} genes has nothing left to compare when one is deleted; leave such cells out`);

  const whole = inference(() => model.encode(streamOf([genes], model.config, { gradients: false }), { layers }));
  const deletions: Deletion[] = [];
  try {
    const places = Array.from({ length: end - first }, (_, i) => first + i);
    function* cosines(): Generator<Promise<Values>> {
      for (const batch of batchesOf(places, tokensPerBatch, () => genes.length - 1)) {
        const made = inference(() => {
          const copies = batch.map((place) => genes.toSpliced(place, 1));
          const x = model.encode(streamOf(copies, model.config, { gradients: false }), { layers });
          return mode === "cls" ? clsCosines(x, whole, batch, genes.length) : geneCosines(x, whole, batch, first, end);
        });
        const read = made.data();
        made.free(); // once it has been read
        yield read;
      }
    }
    for await (const values of ahead(cosines())) {
      for (const value of values) {
        const place = places[deletions.length];
        deletions.push({ place, token: genes[place], cosine: value });
      }
      onProgress?.(deletions.length);
    }
  } finally {
    whole.free();
  }
  return deletions;
}

/** cos(<cls> of each copy, <cls> of the whole cell).   x [K (T - 1), C], whole [T, C] -> [K] */
function clsCosines(x: Tensor, whole: Tensor, batch: readonly number[], length: number): Tensor {
  const copies = gather(
    x,
    index(
      batch.map((_, i) => i * (length - 1)),
      x.shape[0],
      { gradients: false },
    ),
  );
  return cosine(
    copies,
    gather(
      whole,
      index(
        batch.map(() => 0),
        length,
        { gradients: false },
      ),
    ),
  );
}

/** The mean over the genes left of cos(gene in the copy, gene in the whole cell); the special tokens at both ends stay out of it. */
function geneCosines(x: Tensor, whole: Tensor, batch: readonly number[], first: number, end: number): Tensor {
  const length = whole.shape[0];
  const [inCopy, inWhole]: [number[], number[]] = [[], []];
  batch.forEach((deleted, copy) => {
    for (let place = first; place < end; place++) {
      if (place === deleted) continue;
      inCopy.push(copy * (length - 1) + place - Number(place > deleted));
      inWhole.push(place);
    }
  });
  const rows = (t: Tensor, at: number[]) => gather(t, index(at, t.shape[0], { gradients: false }));
  const cosines = cosine(rows(x, inCopy), rows(whole, inWhole));
  return segmentMean(reshape(cosines, [-1, 1]), segments(batch.map(() => end - first - 1)));
}

/** How a gene's deletion moved the cells that have it. */
export interface GeneShift {
  readonly token: number;
  readonly mean: number;
  /** Deviation over cells, dividing by their number (numpy's std, as upstream). */
  readonly deviation: number;
  readonly detections: number;
}

/** Deletions of many cells, by gene; the genes that moved cells most come first. */
export function byGene(deletions: Iterable<Deletion>): GeneShift[] {
  const all = new Map<number, number[]>();
  for (const { token, cosine: value } of deletions) {
    const values = all.get(token);
    if (values) values.push(value);
    else all.set(token, [value]);
  }
  const shifts = [...all].map(([token, values]): GeneShift => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    return { token, mean, deviation: Math.sqrt(variance), detections: values.length };
  });
  return shifts.sort((a, b) => a.mean - b.mean || a.token - b.token);
}

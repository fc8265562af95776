/** Perturbed cells through the model: how far each cell moves, and which of its genes. */

import { cast, concat, cosine, gather, slice } from "../../autograd/ops.ts";
import { inference } from "../../autograd/tape.ts";
import { ahead } from "../../src/capture.ts";
import { storageOf } from "../../src/device.ts";
import { index, segments } from "../../src/stream.ts";
import type { Tensor } from "../../src/tensor.ts";
import { streamOf } from "../data/batches.ts";
import { batchesOf, type EmbeddingMode, type Ends, firstRows, pool } from "../embed.ts";
import { type Geneformer, hiddenOf, type Pass, type Places, type Stream } from "../model.ts";
import { mean } from "../stats/tables.ts";
import { type Edit, genesOf, NEW, original } from "./edit.ts";

/** What is measured of a perturbed cell. */
export interface Measure {
  /** 0 is the last layer, -1 the one before: upstream's emb_layer, whose default is -1. */
  readonly layer: number;
  /** What stands for a cell: the mean of its genes, or <cls>. */
  readonly mode: EmbeddingMode;
  readonly ends: Ends;
  /** Embeddings of states [C], by name: with them the effect is one shift a state, in this order. */
  readonly states?: ReadonlyMap<string, ArrayLike<number>>;
  /** Also what becomes of every other gene of the cell. Default false. */
  readonly affected?: boolean;
  /** Tokens in a batch, at most; one cell may be longer. */
  readonly tokensPerBatch: number;
}

/** A cell and what is to be done to it, one edit after the other. */
export interface Subject {
  /** Which cell: whatever the caller counts cells by. */
  readonly row: number;
  readonly cell: ArrayLike<number>;
  readonly edits: Iterable<Edit>;
}

/** What one perturbation is estimated to do to one cell. */
export interface Estimate {
  readonly row: number;
  readonly edit: Pick<Edit, "genes" | "perturbed">;
  /**
   * With states: cos(perturbed, state) - cos(cell, state) for each. Without: one cosine; of <cls> before and after, or, in mode `cell`, the mean over
   * the genes that are in both and were not perturbed of each gene's cosine before and after (upstream's V1). 1 is unmoved.
   */
  readonly effect: readonly number[];
}

/** What one perturbation did to one cell. */
export interface Outcome extends Estimate {
  readonly edit: Edit;
  /** Where `affected` was asked for: those genes, and the cosine of each. */
  readonly genes?: { readonly tokens: readonly number[]; readonly cosines: Float32Array };
}

/** A cell that goes through the model: as it was, or edited. */
interface Item {
  readonly row: number;
  readonly tokens: readonly number[];
  readonly edit: Edit | null;
}

/** The genes that are compared one by one: neither special, nor perturbed, nor fallen off. As places of the copy and of the cell it came from. */
function compared({ from, perturbed }: Edit, length: number, ends: Ends): { readonly inCopy: number[]; readonly inCell: number[] } {
  const [first, end] = genesOf(length, ends);
  const inCopy = [...from.keys()].filter((i) => from[i] !== NEW && from[i] >= first && from[i] < end && !perturbed.has(from[i]));
  return { inCopy, inCell: inCopy.map((i) => from[i]) };
}

/** Each cell before its edits; again, where an edit is to be compared with a shorter one. */
function* items(subjects: Iterable<Subject>, ends: Ends): Generator<Item> {
  for (const { row, cell, edits } of subjects) {
    let fallen = -1;
    for (const edit of edits) {
      if (edit.fallen !== fallen) yield { row, tokens: original(cell, ends, edit.fallen), edit: null };
      fallen = edit.fallen;
      const [first, end] = genesOf(edit.tokens.length, ends);
      if (first >= end)
        throw new RangeError(`perturb: nothing is left of cell ${row} when ${edit.genes.length} of its genes go; leave such cells out`);
      yield { row, tokens: edit.tokens, edit };
    }
  }
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

/** torch's CosineSimilarity: no norm counts as less than 1e-8. */
export function cosineOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return dot(a, b) / (Math.max(Math.sqrt(dot(a, a)), 1e-8) * Math.max(Math.sqrt(dot(b, b)), 1e-8));
}

/** Which of the hidden states is measured. @throws Error, or RangeError, for what cannot be measured of this model and these cells. */
export function checkMeasure({ config }: Geneformer, { layer, mode, ends, states }: Measure): number {
  if (mode === "cls" && !ends.cls) throw new Error("perturb: these cells have no <cls> (V1 has none); use --mode cell");
  for (const [name, vector] of states ?? [])
    if (vector.length !== config.width)
      throw new RangeError(
        `perturb: the state "${name}" has ${vector.length} numbers, but the model is ${config.width} wide; compute states with the same model`,
      );
  return hiddenOf(config, layer);
}

/** What a batch gives: a vector for each cell in it, where cells are compared as such; a cosine for each gene compared, where genes are. */
interface Read {
  readonly batch: readonly Item[];
  readonly vectors: ArrayLike<number> | null;
  readonly cosines: ArrayLike<number> | null;
}

/**
 * Run perturbed cells through the model and say what each perturbation did. Cells and their copies are one stream, cut into batches of tokens; what a cell is
 * compared with runs once. Outcomes come in the order of the edits.
 * @throws RangeError for a cell without a gene to compare by; for a state that is not as wide as the model; as `streamOf` does.
 */
export async function* perturb(model: Geneformer, subjects: Iterable<Subject>, measure: Measure): AsyncGenerator<Outcome, void, undefined> {
  const { config } = model;
  const { mode, ends, states = new Map<string, ArrayLike<number>>(), affected = false, tokensPerBatch } = measure;
  const layers = checkMeasure(model, measure);
  const byVector = mode === "cls" || states.size > 0;
  const byGene = affected || !byVector;
  const pass = { layers, storage: storageOf(model.embeddings.word.weight.device) };

  /** The cell that the next copies came from, when it ran in a batch before: its rows. */
  let held: Tensor | null = null;

  function* reads(): Generator<Promise<Read>> {
    for (const batch of batchesOf(items(subjects, ends), tokensPerBatch, ({ tokens }) => tokens.length)) {
      const lengths = batch.map(({ tokens }) => tokens.length);
      const before = held;
      const made = inference(() => {
        const stream = streamOf(
          batch.map(({ tokens }) => tokens),
          config,
          { gradients: false },
        );
        const none = { genes: null, last: null };
        if (!byGene) return { vectors: vectorsOf(model, stream, lengths, measure, pass), ...none };
        const x = model.encode(stream, pass);
        return { vectors: byVector ? pool(x, lengths, mode, ends) : null, ...(byGene ? geneCosines(x, before, batch, ends) : none) };
      });
      if (made.last !== before) before?.free();
      held = made.last;
      const read = Promise.all([made.vectors?.data() ?? null, made.genes?.data() ?? null]);
      made.vectors?.free(); // once they have been read
      made.genes?.free();
      yield read.then(([vectors, cosines]) => ({ batch, vectors, cosines }));
    }
  }

  let whole: { readonly vector: ArrayLike<number> | null; readonly length: number; readonly toStates: readonly number[] } | null = null;
  try {
    for await (const { batch, vectors, cosines } of ahead(reads())) {
      let at = 0;
      for (const [i, { row, tokens, edit }] of batch.entries()) {
        const vector = vectors && Array.prototype.slice.call(vectors, i * config.width, (i + 1) * config.width);
        const toStates = vector ? [...states.values()].map((state) => cosineOf(vector, state)) : [];
        if (!edit) {
          whole = { vector, length: tokens.length, toStates };
          continue;
        }
        const { inCopy } = compared(edit, (whole?.length ?? 0) + edit.fallen, ends);
        const own = cosines ? Float32Array.from({ length: inCopy.length }, (_, j) => cosines[at + j]) : null;
        if (own) at += own.length;
        const before = whole?.toStates ?? [];
        const effect =
          states.size > 0
            ? toStates.map((cosine, s) => cosine - before[s])
            : [vector ? cosineOf(vector, whole?.vector ?? []) : mean(own ?? [])];
        yield { row, edit, effect, ...(affected && own && { genes: { tokens: inCopy.map((j) => tokens[j]), cosines: own } }) };
      }
    }
  } finally {
    (held as Tensor | null)?.free();
  }
}

/** A vector of each cell of a stream, in f32; the last layer is of <cls> alone, where that is all.   -> [B, C] */
export function vectorsOf(model: Geneformer, stream: Stream, lengths: readonly number[], { mode, ends }: Measure, pass: Pass): Tensor {
  if (mode === "cell") return pool(model.encode(stream, pass), lengths, mode, ends);
  return cast(model.encode(stream, { ...pass, at: firstOf(lengths, stream.segments.rows) }), "f32");
}

/** The first place of each cell, in a stream of these lengths and so many rows. */
const firstOf = (lengths: readonly number[], rows: number): Places => ({
  rows: index(firstRows(lengths), rows, { gradients: false }),
  segments: segments(lengths.map(() => 1)),
});

/**
 * The cosine of every gene compared, copy after copy; and the rows of the last cell that was no copy, for copies in the next batch.
 * @param before the rows of the cell that the batch's first copies came from, where it is not in the batch.
 */
function geneCosines(x: Tensor, before: Tensor | null, batch: readonly Item[], ends: Ends): { genes: Tensor | null; last: Tensor | null } {
  const rows = (t: Tensor, at: readonly number[]) => cast(gather(t, index(at, t.shape[0], { gradients: false })), "f32");
  // Copies of the cell that ran before, and copies of cells in this batch, each with where its cell begins.
  const [earlier, own] = [
    { inCopy: [] as number[], inCell: [] as number[] },
    { inCopy: [] as number[], inCell: [] as number[] },
  ];
  let [at, cell]: [number, { start: number; length: number } | null] = [0, null];
  for (const { tokens, edit } of batch) {
    if (!edit) cell = { start: at, length: tokens.length };
    else {
      const length: number = (cell?.length ?? before?.shape[0] ?? 0) + edit.fallen;
      const { inCopy, inCell } = compared(edit, length, ends);
      const into = cell ? own : earlier;
      for (const [j, place] of inCopy.entries()) {
        into.inCopy.push(at + place);
        into.inCell.push((cell?.start ?? 0) + inCell[j]);
      }
    }
    at += tokens.length;
  }
  const cosines = [
    ...(before && earlier.inCopy.length > 0 ? [cosine(rows(x, earlier.inCopy), rows(before, earlier.inCell))] : []),
    ...(own.inCopy.length > 0 ? [cosine(rows(x, own.inCopy), rows(x, own.inCell))] : []),
  ];
  const { start, length } = cell ?? { start: 0, length: 0 };
  const last = cell ? slice(x, 0, start, start + length) : before;
  return { genes: cosines.length === 0 ? null : cosines.length === 1 ? cosines[0] : concat(cosines), last };
}

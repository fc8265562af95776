/** What a model says that perturbations do to cells, beside what they truly do to the same cells. */

import type { Dataset } from "../../geneformer/data/dataset.ts";
import { type Intervention, logFoldChange, PSEUDO_LEVEL, reexpression } from "../../geneformer/effects.ts";
import { editsOf, type Geneformer, type PerturbationType, perturb, type SimulateOptions, unitsOf } from "../../geneformer/index.ts";

/** Simulated cells have neither <cls> nor <eos>: the dictionary is of V1's kind. */
export const ENDS = { cls: false, eos: false };

/** Each kind of perturbation, and what it stands for in the simulation. */
export const KINDS = { delete: "knockout", overexpress: "activate" } as const satisfies Partial<Record<PerturbationType, Intervention>>;
export type Kind = keyof typeof KINDS;

/** [perturbed][affected]: sums of 1 - cosine over the cells that have both genes, and how many those are. Genes are places in the network. */
export interface Moved {
  readonly sums: Map<number, Float64Array>;
  readonly counts: Map<number, Uint32Array>;
}

/** What was predicted, over the cells in which a gene was perturbed. */
export interface Predicted {
  readonly moved: Moved;
  /** Of those, the genes that kept their rank: behind a gene that goes, or comes to the front, all close up or make room, and change by that alone. */
  readonly still: Moved;
  /** For each perturbed gene, each cell's effect as a whole (1 - the mean cosine of its genes) and its shifts to the states. */
  readonly cells: Map<number, { readonly row: number; readonly effect: number; readonly shifts: readonly number[] }[]>;
}

/** Perturb genes in cells, one gene at a time; overexpression puts in those that a cell has not. @param placeOf the network's place of a token. */
export async function predict(
  model: Geneformer,
  dataset: Dataset,
  {
    rows,
    tokens,
    kind,
    states,
  }: { rows: readonly number[]; tokens: readonly number[]; kind: Kind; states: ReadonlyMap<string, Float32Array> },
  placeOf: (token: number) => number,
  genes: number,
): Promise<Predicted> {
  const nothing = (): Moved => ({ sums: new Map(), counts: new Map() });
  const predicted: Predicted = { moved: nothing(), still: nothing(), cells: new Map() };
  const held = <T>(map: Map<number, T>, gene: number, make: () => T): T => {
    const value = map.get(gene) ?? make();
    map.set(gene, value);
    return value;
  };
  const subjects = rows.map((row) => {
    const cell = dataset.tokens(row);
    return { row, cell, edits: editsOf(cell, ENDS, unitsOf(cell, ENDS, { type: kind, genes: tokens }), model.config.length) };
  });
  const measure = { layer: -1, mode: "cell", ends: ENDS, states, affected: true, tokensPerBatch: 8192 } as const;
  for await (const { row, edit, effect, genes: affected } of perturb(model, subjects, measure)) {
    if (!affected) continue;
    const gene = placeOf(edit.genes[0]);
    const add = ({ sums, counts }: Moved, other: number, value: number) => {
      held(sums, gene, () => new Float64Array(genes))[other] += value;
      held(counts, gene, () => new Uint32Array(genes))[other]++;
    };
    const stood = new Set(edit.tokens.filter((_, place) => edit.from[place] === place));
    let sum = 0;
    for (const [i, token] of affected.tokens.entries()) {
      const [other, value] = [placeOf(token), 1 - affected.cosines[i]];
      add(predicted.moved, other, value);
      if (stood.has(token)) add(predicted.still, other, value);
      sum += value;
    }
    held(predicted.cells, gene, () => []).push({ row, effect: sum / affected.tokens.length, shifts: effect });
  }
  return predicted;
}

/** What a regulator's perturbation truly does to one cell. */
export interface Truth {
  /** log2 fold changes of levels. [genes] */
  readonly change: Float64Array;
  /** How much nearer the cell is to each type's mean, as cosines of log levels; and without the perturbed gene's own level. */
  readonly shifts: readonly number[];
  readonly withoutOwn: readonly number[];
}

/** Levels as logs that are 0 for a gene that is silent, so that cosines compare what is there. */
const logLevel = (level: number): number => Math.log2(1 + level / PSEUDO_LEVEL);

/** The cosine of two vectors, one place of both left out if it is asked for. */
export function cosineWithout(a: ArrayLike<number>, b: ArrayLike<number>, left = -1): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    if (i === left) continue;
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}

/** The truth about some cells of a simulation: by intervention, regulator and cell. Types' means are over `sample` cells of it. */
export function truths(
  options: SimulateOptions,
  rows: readonly number[],
  sample: number,
): Map<Intervention, Map<number, Map<number, Truth>>> {
  const { network, of } = reexpression(options);
  const types = network.types.length;
  const means = network.types.map(() => new Float64Array(network.genes.length));
  for (let cell = 0; cell < sample; cell++) {
    const [first] = of(cell);
    for (const [gene, level] of first.before.entries()) means[cell % types][gene] += (types * logLevel(level)) / sample;
  }
  const found = new Map<Intervention, Map<number, Map<number, Truth>>>([
    ["knockout", new Map()],
    ["activate", new Map()],
  ]);
  for (const row of rows) {
    for (const { perturbed, intervention, before, after } of of(row)) {
      const [x, y] = [before.map(logLevel), after.map(logLevel)];
      const shift = (left: number) => means.map((mean) => cosineWithout(y, mean, left) - cosineWithout(x, mean, left));
      const ofGene = found.get(intervention)?.get(perturbed) ?? new Map<number, Truth>();
      ofGene.set(row, {
        change: after.map((level, i) => logFoldChange(before[i], level)),
        shifts: shift(-1),
        withoutOwn: shift(perturbed),
      });
      found.get(intervention)?.set(perturbed, ofGene);
    }
  }
  return found;
}

/** A Predicted as JSON can hold it, and back: perturbing takes minutes, reading none. */
export const frozen = ({ moved, still, cells }: Predicted): object => {
  const rows = ({ sums, counts }: Moved) => ({
    sums: [...sums].map(([gene, of]) => [gene, [...of]]),
    counts: [...counts].map(([gene, of]) => [gene, [...of]]),
  });
  return { moved: rows(moved), still: rows(still), cells: [...cells] };
};

export function thawed(json: unknown): Predicted {
  type Rows = Record<keyof Moved, [number, number[]][]>;
  const { moved, still, cells } = json as {
    moved: Rows;
    still: Rows;
    cells: [number, { row: number; effect: number; shifts: number[] }[]][];
  };
  const whole = ({ sums, counts }: Rows): Moved => ({
    sums: new Map(sums.map(([gene, of]) => [gene, Float64Array.from(of)])),
    counts: new Map(counts.map(([gene, of]) => [gene, Uint32Array.from(of)])),
  });
  return { moved: whole(moved), still: whole(still), cells: new Map(cells) };
}

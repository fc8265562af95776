/** The true effect of silencing or activating each regulator of a simulation: the same cells, expressed again. */

import { activated, BREATH, breathe, express, type Network, noise, type SimulateOptions, setup, typeOf } from "./simulate.ts";

/** What is done to a gene: it is not made at all, or at twice the rate of the type that makes most of it (`activate` of `simulate`). */
export type Intervention = "knockout" | "activate";

/**
 * Added to levels before their ratio is taken, so that a silenced gene's is finite. Genes at work have levels of 1 to 10; one below a tenth is all but off (a
 * marker without its masters stands at 0.025), and what such genes do among themselves counts for little.
 */
export const PSEUDO_LEVEL = 0.1;

/** Levels before and after as a fold change, on the log2 scale. */
export const logFoldChange = (before: number, after: number): number => Math.log2((after + PSEUDO_LEVEL) / (before + PSEUDO_LEVEL));

/** One cell, expressed again with a gene silenced or activated. */
export interface Reexpressed {
  /** Place of the gene in `Network.genes`. */
  readonly perturbed: number;
  readonly intervention: Intervention;
  /** The gene, and whatever it regulates at first or second hand, ascending: all others have the same level as before. */
  readonly affected: Uint32Array;
  /** [genes] */
  readonly before: Float64Array;
  readonly after: Float64Array;
}

/** What an intervention does in the cells of one type. */
export interface TrueEffect {
  /** Place of the gene in `Network.genes`. */
  readonly perturbed: number;
  readonly intervention: Intervention;
  /** Place of the cell type in `Network.types`. */
  readonly type: number;
  /** The gene itself, and whatever it regulates at first or second hand, ascending. */
  readonly affected: Uint32Array;
  /** Of each of those: log2((after + PSEUDO_LEVEL) / (before + PSEUDO_LEVEL)) of its level, before anything is measured, its mean over the cells. */
  readonly log2FoldChange: Float64Array;
  /** Cells of the type. */
  readonly cells: number;
}

export interface TrueEffects {
  readonly network: Network;
  /** Gene after gene; for each a knock-out and an activation, in every type that has cells. */
  readonly effects: readonly TrueEffect[];
}

/** The genes that regulate something, ascending. */
export const regulatorsOf = ({ edges }: Network): number[] =>
  [...new Set(edges.flat().map(({ regulator }) => regulator))].sort((a, b) => a - b);

/** A gene and whatever it regulates, at first or second hand, ascending. */
export function descendants({ edges }: Network, gene: number): Uint32Array {
  const found = new Set([gene]);
  for (let i = gene + 1; i < edges.length; i++) if (edges[i].some(({ regulator }) => found.has(regulator))) found.add(i); // regulators come before
  return Uint32Array.from(found);
}

/** What expresses cells of a simulation again: for each cell (a number of `simulate`'s), every regulator silenced and then activated. */
export function reexpression(options: SimulateOptions = {}): {
  readonly network: Network;
  readonly cells: number;
  of(cell: number): Generator<Reexpressed>;
} {
  const { network, cells, key, held } = setup(options);
  // What is held already stays: nothing further can be done to it.
  const tree = regulatorsOf(network).flatMap((gene) => (held.has(gene) ? [] : [[gene, descendants(network, gene)] as const]));
  function* of(cell: number): Generator<Reexpressed> {
    const [type, own] = [typeOf(network, cell), noise(network, key, cell)];
    const before = express(network, type, own, held);
    for (const [perturbed, affected] of tree) {
      for (const intervention of ["knockout", "activate"] as const) {
        const level = intervention === "knockout" ? 0 : activated(network, perturbed);
        const after = express(network, type, own, new Map([...held, [perturbed, level]]), before.slice(), affected);
        yield { perturbed, intervention, affected, before, after };
      }
    }
  }
  return { network, cells, of };
}

/**
 * What silencing, and activating, each regulator truly does to the cells that `simulate` makes with the same options: the same cells with the same noise are
 * expressed again, and the levels compared before sequencing. Genes of `knockout` and `activate` stay as they are held.
 * @param options of `simulate`; `onProgress` and `signal` are of this.
 * @throws RangeError as `simulate` does, and if aborted.
 */
export async function trueEffects(options: SimulateOptions = {}): Promise<TrueEffects> {
  const { network, cells, of } = reexpression(options);
  const found = new Map<string, TrueEffect & { cells: number }>();
  for (let cell = 0; cell < cells; cell++) {
    if (cell % BREATH === 0) await breathe(options.signal);
    const type = typeOf(network, cell);
    for (const { perturbed, intervention, affected, before, after } of of(cell)) {
      const name = `${perturbed} ${intervention} ${type}`;
      let effect = found.get(name);
      if (!effect) {
        effect = { perturbed, intervention, type, affected, log2FoldChange: new Float64Array(affected.length), cells: 0 };
        found.set(name, effect);
      }
      effect.cells++;
      for (const [i, gene] of affected.entries()) effect.log2FoldChange[i] += logFoldChange(before[gene], after[gene]);
    }
    options.onProgress?.(cell + 1);
  }
  const order = (a: TrueEffect, b: TrueEffect) =>
    a.perturbed - b.perturbed || Number(a.intervention === "activate") - Number(b.intervention === "activate") || a.type - b.type;
  const effects = [...found.values()].sort(order);
  for (const { log2FoldChange, cells } of effects) for (let i = 0; i < log2FoldChange.length; i++) log2FoldChange[i] /= cells;
  return { network, effects };
}

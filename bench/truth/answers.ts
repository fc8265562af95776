/** Predicted against true effects of regulators: which genes they reach, who they are, and where they move cells. */

import { auroc, spearman } from "../../geneformer/index.ts";
import { bootstrap, type Interval, meanInterval, meanOf } from "./bootstrap.ts";
import type { Moved, Predicted, Truth } from "./predicted.ts";

/** True effects by regulator and cell, of one kind. */
export type Truths = ReadonlyMap<number, ReadonlyMap<number, Truth>>;

/** Fewer genes, cells or regulators than this make no rank correlation. */
const FEWEST = 10;

/** A number for the effect of one gene on another; NaN where the method has none. */
export type PairScore = (perturbed: number, affected: number) => number;

/** The mean of 1 - cosine, where a gene was seen in at least three cells: fewer are chance. */
export const movedBy =
  ({ sums, counts }: Moved): PairScore =>
  (perturbed, affected) => {
    const count = counts.get(perturbed)?.[affected] ?? 0;
    return count >= 3 ? (sums.get(perturbed)?.[affected] ?? 0) / count : Number.NaN;
  };

/** The same beside what the average perturbation does to that gene, as a log ratio: some genes of a cell move whatever is done to it. */
export function movedMoreBy(moved: Moved): PairScore {
  const score = movedBy(moved);
  const usual = new Map<number, number>();
  const log = (perturbed: number, affected: number) => (perturbed === affected ? Number.NaN : Math.log(score(perturbed, affected) + 1e-12));
  return (perturbed, affected) => {
    if (!usual.has(affected)) usual.set(affected, meanOf([...moved.sums.keys()].map((gene) => log(gene, affected))));
    return log(perturbed, affected) - (usual.get(affected) ?? Number.NaN);
  };
}

/** 1 - cosine of the mean gene in the mean cell: of those that kept their rank, and of those that did not. */
export function displacement({ moved, still }: Predicted): { readonly stayed: number; readonly displaced: number } {
  const total = (of: ReadonlyMap<number, ArrayLike<number>>) =>
    [...of.values()].reduce((sum, values) => sum + Array.from(values).reduce((a, b) => a + b, 0), 0);
  const [all, rest] = [moved, still].map(({ sums, counts }) => [total(sums), total(counts)]);
  return { stayed: rest[0] / rest[1], displaced: (all[0] - rest[0]) / (all[1] - rest[1]) };
}

/** The mean true change of every gene over the cells in which a regulator was perturbed.   -> [genes] */
export function trueChange(truth: Truths, regulator: number, rows: readonly number[]): Float64Array {
  const changes = rows.flatMap((row) => truth.get(regulator)?.get(row)?.change ?? []);
  return Float64Array.from({ length: changes[0]?.length ?? 0 }, (_, gene) => meanOf(changes.map((change) => change[gene])));
}

/** For each regulator: does the score order genes as their true changes do, and does it find the ones that change? The regulator itself is left out. */
export function targets(
  score: PairScore,
  changes: ReadonlyMap<number, Float64Array>,
  seen: PairScore,
  threshold: number,
): { readonly spearman: Interval; readonly auroc: Interval; readonly regulators: number } {
  const [correlations, areas]: [number[], number[]] = [[], []];
  for (const [regulator, change] of changes) {
    // The same genes for every method: those that the models have an answer for.
    const genes = [...change.keys()].filter((gene) => gene !== regulator && !Number.isNaN(seen(regulator, gene)));
    const [scores, truth] = [genes.map((gene) => score(regulator, gene)), genes.map((gene) => Math.abs(change[gene]))];
    const [hit, rest] = [scores.filter((_, i) => truth[i] >= threshold), scores.filter((_, i) => truth[i] < threshold)];
    if (genes.length < FEWEST || hit.length < 3 || rest.length < 3) continue;
    correlations.push(spearman(scores, truth));
    areas.push(auroc(hit, rest));
  }
  return { spearman: meanInterval(correlations), auroc: meanInterval(areas), regulators: correlations.length };
}

/** Do regulators score above other genes, and those with the larger true effect above the others? */
export function impact(
  score: (gene: number) => number,
  regulators: readonly number[],
  others: readonly number[],
  size: (regulator: number) => number,
): { readonly auroc: Interval; readonly spearman: Interval } {
  const known = (genes: readonly number[]) => genes.filter((gene) => !Number.isNaN(score(gene)));
  const own = known(regulators);
  return {
    auroc: bootstrap([own.map(score), known(others).map(score)], (positives, negatives) => auroc(positives, negatives)),
    spearman: bootstrap([own], (genes) => spearman(genes.map(score), genes.map(size))),
  };
}

/** A regulator's shift from one type to another, predicted and true. */
export interface Shift {
  readonly regulator: number;
  /** Which pair of types. */
  readonly pair: string;
  readonly predicted: number;
  readonly truth: number;
}

/**
 * Do predicted shifts order regulators as true ones do, and do they point the same way? Means over pairs of types with enough regulators, redrawn over
 * regulators. A true shift of less than 1e-6 has no direction.
 */
export function direction(shifts: readonly Shift[]): { readonly spearman: Interval; readonly signs: Interval; readonly shifts: number } {
  const regulators = [...new Set(shifts.map(({ regulator }) => regulator))];
  const of = new Map(regulators.map((regulator) => [regulator, shifts.filter((shift) => shift.regulator === regulator)]));
  const pairs = [...new Set(shifts.map(({ pair }) => pair))];
  const overPairs = (chosen: readonly number[], figure: (shifts: readonly Shift[]) => number) => {
    const byPair = new Map<string, Shift[]>(pairs.map((pair) => [pair, []]));
    for (const regulator of chosen) for (const shift of of.get(regulator) ?? []) byPair.get(shift.pair)?.push(shift);
    return meanOf([...byPair.values()].map((all) => (all.length < FEWEST ? Number.NaN : figure(all))));
  };
  const rank = (all: readonly Shift[]) =>
    spearman(
      all.map(({ predicted }) => predicted),
      all.map(({ truth }) => truth),
    );
  const right = (all: readonly Shift[]) =>
    meanOf(all.map(({ predicted, truth }) => (Math.abs(truth) < 1e-6 ? Number.NaN : Number(Math.sign(predicted) === Math.sign(truth)))));
  return {
    spearman: bootstrap([regulators], (chosen) => overPairs(chosen, rank), { draws: 200 }), // twelve correlations a draw
    signs: bootstrap([regulators], (chosen) => overPairs(chosen, right), { draws: 200 }),
    shifts: shifts.length,
  };
}

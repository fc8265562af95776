/** Screen, then verify: estimates for every gene, exact passes for the strongest and for a random control, and what the two say of each other. */

import { Key } from "../../src/key.ts";
import type { Geneformer } from "../model.ts";
import { spearman } from "../stats/ranks.ts";
import { mean } from "../stats/tables.ts";
import { cosineOf, type Measure } from "./exact.ts";
import type { Perturbation } from "./plan.ts";
import { readResults } from "./results.ts";
import { type Cells, type Run, type RunOptions, runPerturbation } from "./run.ts";

/** Cosines of position embeddings of neighbouring ranks, their mean over the first ranks: near 1 for trained models, about 0 where positions are random. */
export async function smoothness(model: Geneformer, ranks: number): Promise<number> {
  const { weight } = model.embeddings.position;
  const [length, width] = weight.shape;
  const table = await weight.data();
  const row = (i: number) => table.subarray(i * width, (i + 1) * width);
  const cosines = Array.from({ length: Math.min(ranks, length) - 1 }, (_, i) => cosineOf(row(i), row(i + 1)));
  return mean(cosines);
}

export interface VerifyOptions extends Omit<RunOptions, "goal"> {
  /** Genes to verify: so many of the strongest, and as many others at random. Default 50. */
  readonly verify?: number;
  readonly seed?: number;
  /** A stage begins: the screening of all, the exact passes of some. */
  readonly onStage?: (stage: "screen" | "verify", pairs: number) => void;
}

/** What verification said. */
export interface Verification {
  /** The finished exact run, of the genes verified. */
  readonly run: Run;
  /** Genes screened. */
  readonly genes: number;
  /** Strongest first, by the mean of their estimated shifts to the goal, whichever way; without states, by how far they move cells. */
  readonly top: readonly number[];
  readonly control: readonly number[];
  /** Spearman's rank correlation of estimated and exact mean effects: over the control, which was drawn at random, and over all verified. */
  readonly spearmanOfControl: number;
  readonly spearman: number;
  /** Exact effects over estimated ones, by least squares through 0 over all verified: what to multiply estimates by. */
  readonly slope: number;
  /** Of as many strongest genes, in truth, as were verified, the share that screening had among its own: each control gene stands for its part of the rest. */
  readonly recall: number;
  readonly screenSeconds: number;
  readonly verifySeconds: number;
  /** Pairs a second of each. */
  readonly screenRate: number;
  readonly verifyRate: number;
}

/**
 * The share of the truly strongest that screening had among its strongest, where of the rest a random part alone is known (Horvitz and Thompson 1952).
 * @param top exact strengths of those that screening took for the strongest.   @param control those of some of the others.   @param rest how many others there are.
 */
export function recallOf(top: readonly number[], control: readonly number[], rest: number): number {
  const each = control.length === 0 ? 0 : rest / control.length;
  const all = [
    ...top.map((strength) => ({ strength, weight: 1, found: 1 })),
    ...control.map((strength) => ({ strength, weight: each, found: 0 })),
  ];
  let [found, room] = [0, top.length];
  for (const { weight, found: own } of all.sort((a, b) => b.strength - a.strength)) {
    found += own * Math.min(weight, room);
    room -= Math.min(weight, room);
  }
  return found / top.length;
}

/** @throws Error for what only exact passes can tell. */
export function refuseScreening({ as, anchor }: Perturbation, { affected }: Measure): void {
  if (as === "group" || anchor !== undefined)
    throw new Error("screen: genes are screened one at a time; leave groups and anchors to exact runs");
  if (affected) throw new Error("screen: it is of whole cells; leave --affected to exact runs");
}

/**
 * Screen all perturbations into `out`/screen, then perturb the strongest genes and a random control exactly into `out`/exact. Shifts to the state that cells
 * come from, the first, are not screened: nothing is ordered by them.
 * @param goal the state whose shifts order genes: the second of the states, unless there is one only. Without states genes are ordered by how far they move cells.
 */
export async function screenAndVerify(
  model: Geneformer,
  cells: Cells,
  perturbation: Perturbation,
  measure: Measure,
  out: string,
  { verify = 50, seed = 0, screen = {}, onStage, ...options }: VerifyOptions,
): Promise<Verification> {
  refuseScreening(perturbation, measure);
  const timed = async <T>(f: () => Promise<T>): Promise<readonly [T, number]> => {
    const began = performance.now();
    const made = await f();
    return [made, (performance.now() - began) / 1000];
  };
  const states = [...(measure.states ?? [])];
  const goals = new Map(states.length > 1 ? states.slice(1) : states);
  const [goal = ""] = goals.keys();
  onStage?.("screen", 0);
  const [screened, screenSeconds] = await timed(() =>
    runPerturbation(model, cells, perturbation, { ...measure, states: goals }, `${out}/screen`, { ...options, screen, goal }),
  );
  /** Each gene's mean effect: a shift, or what a cosine lacks of 1. */
  const effectsOf = async (directory: string): Promise<Map<number, number>> => {
    const genes = (await readResults(directory)).effects.get(goal)?.genes ?? new Map<number, number[]>();
    return new Map([...genes].map(([gene, values]) => [gene, goal === "" ? 1 - mean(values) : mean(values)]));
  };
  const estimates = await effectsOf(screened.directory);
  const ordered = [...estimates.keys()].sort((a, b) => Math.abs(estimates.get(b) ?? 0) - Math.abs(estimates.get(a) ?? 0) || a - b);
  const [top, rest] = [ordered.slice(0, verify), ordered.slice(verify)];
  const control = Array.from(Key.from(seed).permutation(rest.length).subarray(0, verify), (i) => rest[i]);
  const verified: Perturbation = { ...perturbation, genes: [...top, ...control], as: "each", insert: perturbation.genes !== "all" };
  onStage?.("verify", 0);
  const [run, verifySeconds] = await timed(() =>
    runPerturbation(model, cells, verified, measure, `${out}/exact`, { ...options, ...(goal !== "" && { goal }) }),
  );

  const exact = await effectsOf(run.directory);
  const of = (means: ReadonlyMap<number, number>, genes: readonly number[]) => genes.map((gene) => means.get(gene) ?? Number.NaN);
  const both = (genes: readonly number[]) => [of(estimates, genes), of(exact, genes)] as const;
  const [[a, b], [ofControl, exactOfControl]] = [both([...top, ...control]), both(control)];
  return {
    run,
    genes: estimates.size,
    top,
    control,
    spearman: spearman(a, b),
    spearmanOfControl: spearman(ofControl, exactOfControl),
    slope: a.reduce((sum, x, i) => sum + x * b[i], 0) / a.reduce((sum, x) => sum + x * x, 0),
    recall: recallOf(of(exact, top).map(Math.abs), exactOfControl.map(Math.abs), rest.length),
    screenSeconds,
    verifySeconds,
    screenRate: screened.plan.pairs / screenSeconds,
    verifyRate: run.plan.pairs / verifySeconds,
  };
}

/**
 * Treatments: which gene, of all the vocabulary, and then which gene beside it, brings cells from a state to another one and away from the rest.
 *
 * Every round screens all candidates on the cells as the treatment so far leaves them, verifies the best exactly together with genes like them, their null, and
 * adds the best to the treatment. Shifts add up over rounds, as they are differences of cosines of one cell; but where a full cell loses its last gene to one
 * that comes, shifts are from the cell without it.
 */

import type { Key } from "../../src/key.ts";
import type { Geneformer } from "../model.ts";
import { matched, type Presence, presenceOf } from "../stats/presence.ts";
import { falseDiscoveryRates, spearman } from "../stats/ranks.ts";
import { type Interval, intervals } from "../stats/resample.ts";
import { mean } from "../stats/tables.ts";
import { type Edit, genesOf } from "./edit.ts";
import { type Measure, perturb, type Subject } from "./exact.ts";
import { editsOf, unitsOf } from "./plan.ts";
import type { Cells } from "./run.ts";
import { type ScreenOptions, screen } from "./screen.ts";

/** What can be done to a gene. */
export type Action = "overexpress" | "delete";

/** One gene of a treatment, and what is done to it. */
export interface Step {
  readonly action: Action;
  readonly gene: number;
}

/** A treatment that was tried exactly. */
export interface Trial {
  readonly steps: readonly Step[];
  /** It was tried for being like one of the best, as its null. */
  readonly ofNull: boolean;
  /** Mean over all cells of the shift to the goal less the mean shift to the alternatives; cells that it does not change count as 0. */
  readonly score: number;
  /** 95 % of resamples of the cells (BCa bootstrap). */
  readonly interval: Interval;
  /** What screening took the score for. */
  readonly estimate: number;
  /** Mean shifts: to the goal, and to each alternative. */
  readonly shifts: readonly number[];
  /** Cells that its last step changes. */
  readonly changed: number;
  /** How many of the null of the same action score as much, itself counted: (1 + as much) / (1 + null). NaN for one of the null. */
  readonly p: number;
  /** Benjamini and Hochberg's, over the round. */
  readonly fdr: number;
  /** What the steps score, each alone, summed up; of one step, its score. */
  readonly sum: number;
}

/** One round: trials, the best first, those of the null behind. */
export interface Round {
  readonly trials: readonly Trial[];
  /** Candidates screened. */
  readonly screened: number;
  /** Of estimates and exact scores over the null, which was not chosen by estimates. */
  readonly spearman: number;
}

export interface TreatOptions {
  readonly actions: readonly Action[];
  /** Genes to try: overexpressed in all cells, put in where a cell has them not; deleted where cells have them. */
  readonly genes: readonly number[];
  /** The state to reach, and those to stay away from: of the measure's states. */
  readonly goal: string;
  readonly alternatives?: readonly string[];
  /** The most steps of a treatment. Default 2. */
  readonly steps?: number;
  /** Treatments to verify each round, and as many of their null. Default 50. */
  readonly verify?: number;
  /** Resamples and ties come of it. */
  readonly key: Key;
  readonly screen?: ScreenOptions;
  /** Of intervals. Default 2,000. */
  readonly resamples?: number;
  /** Pairs of a gene and a cell that are done, of how many at most. It may throw, to stop. */
  readonly onProgress?: (stage: "screen" | "verify", round: number, pairs: number, most: number) => void;
}

/** A treatment, not yet tried. */
interface Candidate extends Step {
  /** Of its estimates, summed up over cells. */
  sum: number;
}

/** A cell as a treatment leaves it, and how far that is from where it was. */
interface Treated {
  readonly row: number;
  readonly tokens: ArrayLike<number>;
  readonly shifts: readonly number[];
}

/** What a step does to every cell. */
interface Tried {
  /** For each state, a number for each cell: 0 where nothing is changed. */
  readonly shifts: readonly Float64Array[];
  readonly changed: number;
}

/** Of shifts to the goal and to the alternatives. */
const scoreOf = ([to, ...away]: readonly number[]): number => to - (away.length > 0 ? mean(away) : 0);

/**
 * Search for treatments, round after round; a round that finds nothing better than the one before is the last.
 * @param cells those to treat.   @param measure with the states.
 * @throws RangeError without candidates, or for a state that is not among the measure's; as `screen` and `perturb` do.
 */
export async function* treat(
  model: Geneformer,
  cells: Cells,
  measure: Measure,
  options: TreatOptions,
): AsyncGenerator<Round, void, undefined> {
  const { actions, genes, goal, alternatives = [], steps = 2, verify = 50, key, screen: how, resamples = 2000, onProgress } = options;
  const states = new Map([goal, ...alternatives].map((name) => [name, stateOf(measure, name)]));
  const toward: Measure = { ...measure, states, affected: false };
  if (actions.length === 0 || genes.length === 0) throw new RangeError("treat: no gene to try, or nothing to do with it; give some");
  if (cells.rows.length === 0) throw new RangeError("treat: no cell to treat; choose others");
  const { length: longest } = model.config;
  const known = presenceOf(cells.rows.map((row) => genesIn(cells.tokens(row), measure)));
  const untreated = cells.rows.map((row): Treated => ({ row, tokens: cells.tokens(row), shifts: Array.from(states, () => 0) }));
  /** What single steps score, each alone. */
  const alone = new Map<string, number>();

  let [treated, chosen, best]: [Treated[], readonly Step[], number] = [untreated, [], 0];
  for (let round = 1; round <= steps; round++) {
    const open = genes.filter((gene) => !chosen.some((step) => step.gene === gene));
    const most = actions.length * open.length * treated.length;
    const ordered = await estimated(model, treated, actions, open, toward, how, (pairs) => onProgress?.("screen", round, pairs, most));
    const top = ordered.slice(0, verify);
    const nulls = likest(top, ordered.slice(verify), known, key.fold(round));

    const trying = [...top, ...nulls];
    const tried = await tryExactly(model, treated, trying, toward, (pairs) =>
      onProgress?.("verify", round, pairs, trying.length * treated.length),
    );
    const strangers = round === 1 ? trying : top.filter((step) => !alone.has(nameOf(step)));
    const aloneNow = round === 1 ? tried : await tryExactly(model, untreated, strangers, toward);
    for (const [i, step] of strangers.entries()) alone.set(nameOf(step), mean(scoresOf(untreated, aloneNow[i])));

    const trials = judged({ top, nulls, tried, treated, chosen, alone, key: key.fold(round).fold(1), resamples });
    const ofNull = trials.slice(top.length);
    yield {
      trials,
      screened: ordered.length,
      spearman: spearman(ofNull.map(({ estimate }) => estimate), ofNull.map(({ score }) => score)), // biome-ignore format: one line
    };

    const [first] = trials;
    if (!first || first.ofNull || !(first.score > best)) return;
    [best, chosen] = [first.score, first.steps];
    const last = chosen[chosen.length - 1];
    const { shifts } = tried[trying.findIndex((step) => nameOf(step) === nameOf(last))];
    treated = treated.map((cell, i) => {
      const [edit] = editsBy(cell, last.action, [last.gene], toward, longest);
      return { row: cell.row, tokens: edit?.tokens ?? cell.tokens, shifts: cell.shifts.map((before, s) => before + shifts[s][i]) };
    });
  }
}

/** Candidates, the best estimates first; those that can be done to no cell are left out. */
async function estimated(
  model: Geneformer,
  treated: readonly Treated[],
  actions: readonly Action[],
  genes: readonly number[],
  measure: Measure,
  how: ScreenOptions | undefined,
  onProgress: (pairs: number) => void,
): Promise<Candidate[]> {
  const found = new Map<string, Candidate>();
  let pairs = 0;
  for (const action of actions) {
    const subjects = subjectsOf(treated, action, genes, measure, model.config.length);
    for await (const { edit, effect } of screen(model, subjects, measure, how)) {
      const [gene] = edit.genes;
      const candidate = found.get(nameOf({ action, gene })) ?? { action, gene, sum: 0 };
      found.set(nameOf(candidate), candidate);
      candidate.sum += scoreOf(effect);
      onProgress(++pairs);
    }
  }
  return [...found.values()].sort((a, b) => b.sum - a.sum || a.gene - b.gene);
}

/** What a step makes of every cell's score, what was done before it counted in. */
function scoresOf(treated: readonly Treated[], tried: Tried): Float64Array {
  return Float64Array.from(treated, ({ shifts }, i) => scoreOf(shifts.map((before, s) => before + tried.shifts[s][i])));
}

interface Verified {
  readonly top: readonly Candidate[];
  readonly nulls: readonly Candidate[];
  /** Of each in `top`, then of each in `nulls`. */
  readonly tried: readonly Tried[];
  readonly treated: readonly Treated[];
  /** Steps of the treatment so far. */
  readonly chosen: readonly Step[];
  /** Scores of single steps: of all in `top` and `chosen`. */
  readonly alone: ReadonlyMap<string, number>;
  readonly key: Key;
  readonly resamples: number;
}

/** Trials with intervals and p-values, the best first, those of the null behind. */
function judged({ top, nulls, tried, treated, chosen, alone, key, resamples }: Verified): Trial[] {
  const scores = tried.map((each) => scoresOf(treated, each));
  const means = scores.map((values) => mean(values));
  const ends = intervals(scores, (average) => average, { key, resamples });
  const ps = top.map(({ action }, i) => {
    const same = nulls.flatMap((other, j) => (other.action === action ? [means[top.length + j]] : []));
    return (1 + same.filter((score) => score >= means[i]).length) / (1 + same.length);
  });
  const rates = falseDiscoveryRates(ps);
  const base = mean(treated.map(({ shifts }) => scoreOf(shifts)));
  const trials = [...top, ...nulls].map(({ action, gene, sum }, i): Trial => {
    const { shifts, changed } = tried[i];
    const steps = [...chosen, { action, gene }];
    return {
      ...{ steps, ofNull: i >= top.length, score: means[i], interval: ends[i], estimate: base + sum / treated.length, changed },
      ...{ p: ps[i] ?? Number.NaN, fdr: rates[i] ?? Number.NaN },
      shifts: shifts.map((values, s) => mean(treated.map((cell, j) => cell.shifts[s] + values[j]))),
      sum: steps.reduce((total, step) => total + (alone.get(nameOf(step)) ?? Number.NaN), 0),
    };
  });
  return trials.sort((a, b) => Number(a.ofNull) - Number(b.ofNull) || b.score - a.score);
}

const nameOf = ({ action, gene }: Step): string => `${action} ${gene}`;

function stateOf({ states }: Measure, name: string): ArrayLike<number> {
  const state = states?.get(name);
  if (!state) throw new RangeError(`treat: there is no state "${name}"; there are ${[...(states?.keys() ?? [])].join(", ") || "none"}`);
  return state;
}

/** One edit of a cell for every gene that the action can be done to. */
const editsBy = ({ tokens }: Treated, type: Action, genes: readonly number[], { ends }: Measure, longest: number): Iterable<Edit> =>
  editsOf(tokens, ends, unitsOf(tokens, ends, { type, genes }), longest);

/** The cells with these edits. */
const subjectsOf = (treated: readonly Treated[], action: Action, genes: readonly number[], measure: Measure, longest: number): Subject[] =>
  treated.map((cell) => ({ row: cell.row, cell: cell.tokens, edits: editsBy(cell, action, genes, measure, longest) }));

/** What each of some steps does to cells, by exact passes. */
async function tryExactly(
  model: Geneformer,
  treated: readonly Treated[],
  steps: readonly Step[],
  measure: Measure,
  onProgress: (pairs: number) => void = () => {},
): Promise<Tried[]> {
  const places = new Map(treated.map(({ row }, i) => [row, i]));
  const numbers = new Map(steps.map((step, i) => [nameOf(step), i]));
  const made = steps.map(() => ({ shifts: Array.from(measure.states ?? [], () => new Float64Array(treated.length)), changed: 0 }));
  let pairs = 0;
  for (const action of new Set(steps.map((step) => step.action))) {
    const genes = steps.filter((step) => step.action === action).map(({ gene }) => gene);
    for await (const { row, edit, effect } of perturb(model, subjectsOf(treated, action, genes, measure, model.config.length), measure)) {
      const into = made[numbers.get(nameOf({ action, gene: edit.genes[0] })) as number];
      for (const [s, shift] of effect.entries()) into.shifts[s][places.get(row) ?? 0] = shift;
      into.changed++;
      onProgress(++pairs);
    }
  }
  return made;
}

/** A cell's genes, by rank. */
const genesIn = (cell: ArrayLike<number>, { ends }: Measure): number[] => Array.prototype.slice.call(cell, ...genesOf(cell.length, ends));

/** For each step another one with the same action whose gene is most like its own; none twice, of those as near any, by chance. */
function likest<T extends Step>(top: readonly T[], others: readonly T[], known: ReadonlyMap<number, Presence>, key: Key): T[] {
  const presence = ({ gene }: Step): Presence => known.get(gene) ?? { gene, rate: 0, rank: 1 }; // a gene that no cell has stands behind all
  const shuffled = Array.from(key.permutation(others.length), (i) => others[i]);
  return [...new Set(top.map(({ action }) => action))].flatMap((action) => {
    const [own, left] = [top, shuffled].map((steps) => steps.filter((step) => step.action === action));
    const steps = new Map(left.map((step) => [step.gene, step]));
    return [...matched(own.map(presence), left.map(presence), 1).values()].flat().flatMap((gene) => steps.get(gene) ?? []);
  });
}

/** What came of a run, gene by gene: from our folder, or from the original's pickles. */

import { exists } from "../files.ts";
import type { Pairs } from "../stats/effects.ts";
import { CELL, type GeneShifts, Moments } from "../stats/tables.ts";
import { cellOf, type Entries, type Entry, readEntries, readEntryFiles, writeEntries } from "./pickles.ts";
import { effectColumns, GROUP, type Run, readRun, shardColumns } from "./run.ts";

/** Effects of one state, or, without states, cosines. */
export interface Effects {
  /** For each gene, one number a cell. */
  readonly genes: Map<number, number[]>;
  /** The same of genes beside an anchor: it alone, the gene alone, both. */
  readonly pairs: Map<number, [anchor: number, alone: number, both: number][]>;
  /** Of a group, one number a cell. */
  readonly group: number[];
}

export interface Results {
  /** By state, in the order they were given to perturb: start, goal, others; under "" without states. */
  readonly effects: ReadonlyMap<string, Effects>;
  /** The state that shifts are to: what perturb was told, else the second, or the only one. Null without states. */
  readonly goal: string | null;
  /** The genes perturbed together, where a group was. */
  readonly group: readonly number[];
  /** What each gene did to each other one, and to the cell. */
  affected(): Promise<GeneShifts>;
  /** Rows read: pairs of a gene and a cell. */
  readonly pairs: number;
}

const none = (): Effects => ({ genes: new Map(), pairs: new Map(), group: [] });

function put<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const values = map.get(key);
  if (values) values.push(value);
  else map.set(key, [value]);
}

type Network = Map<number, Map<number | typeof CELL, Moments>>;

/** What is known of one gene's effect on another, or on the cell. */
function momentsOf(network: Network, perturbed: number, affected: number | typeof CELL): Moments {
  const of = network.get(perturbed) ?? new Map<number | typeof CELL, Moments>();
  network.set(perturbed, of);
  const moments = of.get(affected) ?? new Moments();
  of.set(affected, moments);
  return moments;
}

/** The results in a folder: a finished run of ours, or the original's pickles. @throws Error where there are none. */
export async function readResults(directory: string): Promise<Results> {
  return (await exists(`${directory}/run.json`)) ? ofRun(await readRun(directory)) : ofPickles(directory);
}

async function ofRun(run: Run): Promise<Results> {
  const anchored = run.perturbation.anchor !== undefined;
  const states = run.states.length > 0 ? run.states : [""];
  const columns = effectColumns(run.states, anchored);
  const effects = new Map(states.map((state) => [state, none()]));
  for await (const [genes, ...values] of shardColumns(run, "pairs", ["gene", ...columns]))
    for (const [i, gene] of genes.entries())
      for (const [s, state] of states.entries()) {
        const into = effects.get(state) ?? none();
        if (anchored) put(into.pairs, gene, [values[3 * s][i], values[3 * s + 1][i], values[3 * s + 2][i]]);
        else if (gene === GROUP) into.group.push(values[s][i]);
        else put(into.genes, gene, values[s][i]);
      }
  const { genes, as } = run.perturbation;
  return {
    ...{
      effects,
      goal: goalOf(run.directory, run.states, run.goal),
      group: genes === "all" || as !== "group" ? [] : genes,
      pairs: run.plan.pairs,
    },
    affected: () => affectedOf(run, effects.get("")),
  };
}

async function affectedOf(run: Run, effects: Effects | undefined): Promise<GeneShifts> {
  const shifts: Network = new Map();
  for (const [gene, values] of effects?.genes ?? []) for (const value of values) momentsOf(shifts, gene, CELL).add(value);
  if (run.affected)
    for await (const [genes, affected, cosines] of shardColumns(run, "genes", ["gene", "affected", "cosine"]))
      for (const [i, gene] of genes.entries()) momentsOf(shifts, gene, affected[i]).add(cosines[i]);
  return shifts;
}

async function ofPickles(directory: string): Promise<Results> {
  const effects = new Map<string, Effects>();
  const shifts: Network = new Map();
  let [group, pairs]: [readonly number[], number] = [[], 0];
  const add = ({ genes, affected, values }: Entry, into: Effects) => {
    if (genes.length > 1) group = genes;
    for (const value of values) {
      if (typeof value !== "number") put(into.pairs, genes[0], value as [number, number, number]);
      else if (genes.length > 1) into.group.push(value);
      else {
        if (affected === CELL) put(into.genes, genes[0], value);
        momentsOf(shifts, genes[0], affected).add(value);
      }
      if (affected === CELL) pairs++;
    }
  };
  for await (const file of readEntries(directory))
    for (const [state, entries] of file) {
      const into = effects.get(state) ?? none();
      effects.set(state, into);
      for (const entry of entries) add(entry, into);
    }
  const states = [...effects.keys()].filter((state) => state !== "");
  return { effects, goal: goalOf(directory, states), group, affected: async () => shifts, pairs };
}

/** Pairs of a gene and a cell one by one, and what is known of the run they are of. */
export interface RunPairs extends Pairs {
  /** The state that values are shifts to; null where they are 1 - cosine. */
  readonly goal: string | null;
}

/**
 * The pairs in a folder, a finished run of ours or the original's pickles, in flat columns: some 20 bytes a pair.
 * @param goal the state that shifts are read of. Default the goal that perturb was given, in pickles the second state; without states values are 1 - cosine.
 * @throws Error for a state that there is not, for groups and pairs with an anchor, and for pickles that do not say which cell a number is of.
 */
export async function readPairs(directory: string, goal?: string): Promise<RunPairs> {
  return (await exists(`${directory}/run.json`)) ? pairsOfRun(await readRun(directory), goal) : pairsOfPickles(directory, goal);
}

/** The state that is meant. */
function goalOf(directory: string, states: readonly string[], goal = states[1] ?? states[0]): string | null {
  if (goal !== undefined && !states.includes(goal)) {
    const known = states.length > 0 ? `it has ${states.map((state) => `"${state}"`).join(", ")}` : "it was run without states";
    throw new Error(`effects: "${directory}" has no state "${goal}"; ${known}`);
  }
  return goal ?? null;
}

const together = (directory: string, what: string) =>
  new Error(
    `effects: "${directory}" perturbed ${what}, which nothing can be matched with; run perturb gene by gene, or take another --mode`,
  );

async function pairsOfRun(run: Run, asked: string | undefined): Promise<RunPairs> {
  const { directory, perturbation, plan } = run;
  if (perturbation.anchor !== undefined) throw together(directory, "genes beside an anchor");
  if (perturbation.as === "group") throw together(directory, "one group");
  const goal = goalOf(directory, run.states, asked ?? run.goal);
  const column = effectColumns(run.states, false)[goal === null ? 0 : run.states.indexOf(goal)];
  const [cells, genes, ranks] = [0, 1, 2].map(() => new Int32Array(plan.pairs));
  const values = new Float64Array(plan.pairs);
  let at = 0;
  for await (const [cell, gene, rank, value] of shardColumns(run, "pairs", ["cell", "gene", "rank", column])) {
    cells.set(cell, at);
    genes.set(gene, at);
    ranks.set(rank, at);
    for (let i = 0; i < value.length; i++) values[at + i] = goal === null ? 1 - value[i] : value[i];
    at += cell.length;
  }
  return { goal, cells, genes, ranks, values };
}

async function pairsOfPickles(directory: string, asked: string | undefined): Promise<RunPairs> {
  const [cells, genes, values]: number[][] = [[], [], []];
  const seen = new Set<string>();
  let goal: string | null = null;
  for await (const { name, entries: states } of readEntryFiles(directory)) {
    if (![...states.values()].some((entries) => entries.some(({ affected }) => affected === CELL))) continue; // of affected genes
    const named = [...states.keys()].filter((state) => state !== "");
    goal = goalOf(directory, named, asked ?? goal ?? undefined);
    const cell = cellOf(name);
    for (const { genes: perturbed, affected, values: found } of states.get(goal ?? "") ?? []) {
      if (affected !== CELL) continue;
      if (perturbed.length > 1) throw together(directory, "one group");
      if (found.some((value) => typeof value !== "number")) throw together(directory, "genes beside an anchor");
      const pair = `${cell} ${perturbed[0]}`;
      if (cell === null || found.length > 1 || seen.has(pair))
        throw new Error(
          `effects: "${name}" does not say which cell each number is of; give a run of perturb, or pickles of --genes all, which the original writes cell by cell`,
        );
      seen.add(pair);
      cells.push(cell);
      genes.push(perturbed[0]);
      values.push(goal === null ? 1 - (found[0] as number) : (found[0] as number));
    }
  }
  return { goal, cells, genes, ranks: null, values };
}

/** Write a finished run as the original's pickles: one file of all cells, and another of affected genes where the run has them. */
export async function writePickles(run: Run, directory: string, prefix: string): Promise<string[]> {
  const { effects, group } = await ofRun(run);
  const { type } = run.perturbation;
  const entries: Entries = new Map(
    [...effects].map(([state, { genes, pairs, group: values }]) => [
      state,
      [
        ...[...genes, ...pairs].map(([gene, of]): Entry => ({ genes: [gene], affected: CELL, values: of })),
        ...(values.length > 0 ? [{ genes: group, affected: CELL, values } as const] : []),
      ],
    ]),
  );
  const groups = run.perturbation.as === "group" ? `_dict_[${group.join(", ")}]` : "";
  const name = (kind: "cell" | "gene") =>
    `${directory}/in_silico_${type}_${prefix}${groups ? `_${kind}_embs${groups}` : `_dict_${kind}_embs_0batch0`}_raw.pickle`;
  const written = [name("cell")];
  await writeEntries(written[0], entries);
  if (run.affected) {
    const genes = new Map<string, { genes: number[]; affected: number; values: number[] }>();
    for await (const [perturbed, others, cosines] of shardColumns(run, "genes", ["gene", "affected", "cosine"]))
      for (const [i, gene] of perturbed.entries()) {
        const key = `${gene} ${others[i]}`;
        const entry = genes.get(key) ?? { genes: gene === GROUP ? [...group] : [gene], affected: others[i], values: [] };
        genes.set(key, entry);
        entry.values.push(cosines[i]);
      }
    written.push(name("gene"));
    await writeEntries(written[1], new Map([["", [...genes.values()]]]));
  }
  return written;
}

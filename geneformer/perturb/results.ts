/** What came of a run, gene by gene: from our folder, or from the original's pickles. */

import { exists } from "../files.ts";
import { CELL, type GeneShifts, Moments } from "../stats/tables.ts";
import { type Entries, type Entry, readEntries, writeEntries } from "./pickles.ts";
import { effectColumns, GROUP, type Run, readRun, shardRows } from "./run.ts";

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
  for await (const rows of shardRows(run, "pairs")) {
    const genes = rows.get("gene") ?? [];
    const values = columns.map((name) => rows.get(name) ?? []) as readonly (readonly number[])[];
    for (const [i, gene] of (genes as number[]).entries())
      for (const [s, state] of states.entries()) {
        const into = effects.get(state) ?? none();
        if (anchored) put(into.pairs, gene, [values[3 * s][i], values[3 * s + 1][i], values[3 * s + 2][i]]);
        else if (gene === GROUP) into.group.push(values[s][i]);
        else put(into.genes, gene, values[s][i]);
      }
  }
  const { genes } = run.perturbation;
  return { effects, group: genes === "all" ? [] : genes, affected: () => affectedOf(run, effects.get("")), pairs: run.plan.pairs };
}

async function affectedOf(run: Run, effects: Effects | undefined): Promise<GeneShifts> {
  const shifts: Network = new Map();
  for (const [gene, values] of effects?.genes ?? []) for (const value of values) momentsOf(shifts, gene, CELL).add(value);
  if (run.affected)
    for await (const rows of shardRows(run, "genes")) {
      const [genes, affected, cosines] = ["gene", "affected", "cosine"].map((name) => rows.get(name) as readonly number[]);
      for (const [i, gene] of genes.entries()) momentsOf(shifts, gene, affected[i]).add(cosines[i]);
    }
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
  return { effects, group, affected: async () => shifts, pairs };
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
    for await (const rows of shardRows(run, "genes")) {
      const [perturbed, others, cosines] = ["gene", "affected", "cosine"].map((column) => rows.get(column) as readonly number[]);
      for (const [i, gene] of perturbed.entries()) {
        const key = `${gene} ${others[i]}`;
        const entry = genes.get(key) ?? { genes: gene === GROUP ? [...group] : [gene], affected: others[i], values: [] };
        genes.set(key, entry);
        entry.values.push(cosines[i]);
      }
    }
    written.push(name("gene"));
    await writeEntries(written[1], new Map([["", [...genes.values()]]]));
  }
  return written;
}

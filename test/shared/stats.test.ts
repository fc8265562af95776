/** The original's statistics: every table of the oracle, in its order, to 1e-6. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type Names, namesOf as ofVocabulary } from "../../geneformer/data/names.ts";
import { readVocabulary } from "../../geneformer/data/vocabulary.ts";
import {
  aggregateData,
  aggregateGeneShifts,
  CELL,
  type GeneShifts,
  goalStateShift,
  Moments,
  mixtureModel,
  type Shifts,
  versusNull,
} from "../../geneformer/stats/tables.ts";
import type { Table } from "../../geneformer/table.ts";

const shared = new URL("../../../shared/data/", import.meta.url);
const json = (path: string) => JSON.parse(readFileSync(new URL(path, shared), "utf8"));

type Entry = [[token: number | number[], affected: number | string], number[]];
interface Run {
  readonly input_dir: string;
  readonly null_dir: string | null;
  readonly kw: {
    readonly mode: string;
    readonly model_version?: "V1";
    readonly cell_states_to_model?: { goal_state: string; alt_states: string[] };
  };
  readonly columns: string[];
  readonly index: number[];
  readonly rows: (string | number | null)[][];
  readonly inverted_by_upstream: boolean;
}
const runs = json("oracle/stats/stats.json") as Record<string, Run>;
const synthetic = json("oracle/stats/synthetic_inputs.json") as Record<string, unknown[]>;

/** The raw entries of a run, file after file; with states, of one of them. */
function entriesOf(name: string, state?: string): Entry[] {
  const of = (file: unknown): Entry[] => {
    const held = file as { entries?: Entry[]; states?: Record<string, { entries: Entry[] }> } & Record<string, Entry[]>;
    if (Array.isArray(file)) return file as Entry[];
    if (held.states) return held.states[state ?? ""]?.entries ?? [];
    return held.entries ?? held[state ?? ""] ?? [];
  };
  const files = synthetic[name] ?? Object.values(json(`oracle/isp/${name}.json`).files as Record<string, unknown>);
  return files.flatMap(of);
}

function ofCells(entries: readonly Entry[]): Shifts {
  const shifts = new Map<number, number[]>();
  for (const [[token, affected], values] of entries)
    if (affected === CELL) shifts.set(token as number, [...(shifts.get(token as number) ?? []), ...values]);
  return shifts;
}

function ofGenes(entries: readonly Entry[]): GeneShifts {
  const shifts = new Map<number, Map<number | typeof CELL, Moments>>();
  for (const [[token, affected], values] of entries) {
    const of = shifts.get(token as number) ?? new Map<number | typeof CELL, Moments>();
    const moments = of.get(affected as number) ?? new Moments();
    for (const value of values) moments.add(value);
    shifts.set(token as number, of.set(affected as number, moments));
  }
  return shifts;
}

const known = new Map<string, Promise<Names>>();
function namesOf(version: "v1" | "v2"): Promise<Names> {
  const names = known.get(version) ?? readNames(version);
  known.set(version, names);
  return names;
}

async function readNames(version: "v1" | "v2"): Promise<Names> {
  return ofVocabulary(await readVocabulary(new URL(`dictionaries/${version}`, shared).pathname));
}

async function tableOf({ input_dir: input, null_dir: nulls, kw }: Run, original: boolean): Promise<Table> {
  const names = await namesOf(kw.model_version === "V1" ? "v1" : "v2");
  switch (kw.mode) {
    case "goal_state_shift": {
      const { goal_state: goal, alt_states: others } = kw.cell_states_to_model ?? { goal_state: "", alt_states: [] };
      const shifts = (state: string) => ofCells(entriesOf(input, state));
      return goalStateShift(shifts(goal), new Map(others.map((state) => [state, shifts(state)])), names);
    }
    case "vs_null":
      return versusNull(ofCells(entriesOf(input)), ofCells(entriesOf(nulls ?? "")), names);
    case "mixture_model":
      return mixtureModel(ofCells(entriesOf(input)), names, { original });
    case "aggregate_data": {
      const [[[token], values]] = entriesOf(input);
      return aggregateData(values, names.symbol(token as number) ?? "");
    }
    default:
      return aggregateGeneShifts(ofGenes(entriesOf(input)), names);
  }
}

/** Rows with their equals together, in the order that columns give them: the original's sort leaves equals as they fall. */
const settled = (rows: Table["rows"], column: number) =>
  rows
    .map((row, i) => ({ row, i, value: row[column] as number }))
    .sort((a, b) => (Math.abs(a.value - b.value) < 1e-12 ? String(a.row.slice(0, 4)).localeCompare(String(b.row.slice(0, 4))) : a.i - b.i))
    .map(({ row }) => row);

test.each(Object.entries(runs))("%s", async (_, run) => {
  const table = await tableOf(run, run.inverted_by_upstream);
  expect(table.columns).toEqual(run.columns);
  const tied = run.columns.indexOf("Cosine_sim_mean");
  const [got, want] = [table.rows, run.rows].map((rows) => (tied < 0 ? rows : settled(rows, tied)));
  expect(got.length).toBe(want.length);
  for (const [i, row] of want.entries())
    for (const [column, value] of row.entries()) {
      const where = `${run.columns[column]} of row ${i}`;
      if (typeof value === "number") expect(Math.abs(value - (got[i][column] as number)), where).toBeLessThanOrEqual(1e-6);
      else expect(got[i][column] === null ? null : String(got[i][column]), where).toBe(value);
    }
});

test("components are ordered by their means, where the original has them the wrong way round", async () => {
  const few = runs.syn_mixture_few;
  expect(few.inverted_by_upstream).toBe(true);
  const { rows } = await tableOf(few, false);
  const impact = rows.filter((row) => row[4] === 1);
  expect(impact).toHaveLength(3); // 7.5 % of 40
  expect(impact.every((row) => (row[3] as number) < 0.95 && row[5] === 100)).toBe(true);
  expect(rows.filter((row) => row[4] === 0).every((row) => (row[3] as number) > 0.97 && row[5] === 0)).toBe(true);
});

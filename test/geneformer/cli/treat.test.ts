/** `geneformer treat`: the table that it writes, and what it refuses. */

import { existsSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { readParquet } from "../../../geneformer/data/parquet.ts";
import { fileSource } from "../../../geneformer/files.ts";
import { scratch } from "../data/scratch.ts";
import { GENES, writeRandomModel, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const [dataset, model] = [path("cells.dataset"), path("model")];
const cells = [
  [2, 9, 4, 7, 3],
  [2, 5, 4, 3],
  [2, 4, 5, 6, 7, 8, 3],
  [2, 9, 4, 3],
];
beforeAll(async () => {
  await writeToy(dataset, cells); // up: cells 0 and 2; down: cells 1 and 3
  await writeRandomModel(model);
});
const states = ["--state-column", "type", "--start", "up", "--goal", 'down, or "reverse"'];
const args = (out: string, ...more: string[]) => ["treat", dataset, "--model", model, "--device", "cpu", "--out", path(out), ...more];

test("a table of single genes and of pairs, as CSV and as Parquet", async () => {
  const report = await results(args("treat.csv", ...states, "--verify", "3", "--resamples", "50"));
  const [header, ...rows] = readFileSync(path("treat.csv"), "utf8").trimEnd().split("\n").map((line) => line.split(",")); // biome-ignore format: one line
  expect(header).toEqual([
    ...["", "Treatment", "Steps", "Score", "Score_low", "Score_high", "Shift_to_goal_end", "Estimate", "Sum_of_indiv_scores"],
    ...["Combo_minus_sum_score", "Pval", "FDR", "N_Cells", "N_Changed", "N_Null", "Of_null"],
  ]);
  const of = (row: readonly string[]) => Object.fromEntries(header.map((name, i) => [name, row[i]]));
  for (const row of rows.map(of)) {
    expect(row.Treatment).toMatch(/^(overexpress|delete) [A-L]( \+ (overexpress|delete) [A-L])?$/);
    expect(row.Treatment.split(" + ")).toHaveLength(Number(row.Steps));
    expect([row.N_Cells, row.Score]).toEqual(["2", row.Shift_to_goal_end]); // no alternatives
    expect(row.Pval === "").toBe(row.Of_null === "1");
  }
  const { candidates, best, rounds } = report as { candidates: number; best: { treatment: string[]; score: number }[]; rounds: unknown[] };
  expect([candidates, report.cells]).toEqual([2 * GENES, 2]);
  expect(best.map(({ treatment }) => treatment.join(" + "))).toEqual([...new Set(rows.map((row) => row[2]))].map((steps) => rows.find((row) => row[2] === steps)?.[1])); // biome-ignore format: one line
  expect(rounds).toHaveLength(best.length);

  await results(args("treat.parquet", ...states, "--verify", "3", "--resamples", "50"));
  const columns = await readParquet(await fileSource(path("treat.parquet")));
  expect(columns.get("Treatment")).toEqual(rows.map((row) => row[1]));
  expect(columns.get("Score")).toEqual(rows.map((row) => Number(row[3])));
});

test("actions, genes, alternatives and the number of steps are chosen", async () => {
  expect(await sentence(args("few.csv", ...states, "--alternatives", "up"))).toMatch(/"up" is named twice/);
  await results(args("deletions.csv", ...states, "--action", "delete", "--genes", "A,F", "--steps", "1", "--verify", "1"));
  const lines = readFileSync(path("deletions.csv"), "utf8").trimEnd().split("\n").slice(1);
  expect(lines.map((line) => line.split(",")[1]).sort()).toEqual(["delete A", "delete F"]);
});

describe("is refused in one sentence, and writes nothing:", () => {
  test.each([
    ["no states", [], "cells go from one state to another; give --state-column, --start and --goal"],
    ["a state that no cell has", ["--state-column", "type", "--start", "up", "--goal", "moon"], 'no cell of ".*" has type "moon"'],
    ["a gene that is none", [...states, "--genes", "A,NOPE"], 'the dictionary has not "NOPE"'],
    ["no cell left", [...states, "--filter", "type=none"], "no cell is left after --filter type=none"],
  ])("%s", async (_, more, message) => {
    expect(await sentence(args("refused.csv", ...more))).toMatch(new RegExp(message));
    expect(existsSync(path("refused.csv"))).toBe(false);
  });

  test("an output that exists; one that is no table; stopping", async () => {
    const stop = new AbortController();
    const stopped = await geneformer(args("stopped.csv", ...states), stop.signal, (text) => {
      if (text.startsWith("Screening") || text.includes("neighbouring")) stop.abort();
    });
    expect(stopped.status).not.toBe(0);
    expect(existsSync(path("stopped.csv"))).toBe(false);
    expect(await sentence(args("treat.csv", ...states))).toMatch(/treat\.csv" exists/);
    expect((await geneformer(args("treat.json", ...states))).status).toBe(2);
  });
});

/** `geneformer stats --mode effects`: of runs with and without states, of pickles, and what it refuses. */

import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { namesOf } from "../../../geneformer/data/names.ts";
import { type ParquetColumn, parquetBytes, readParquet } from "../../../geneformer/data/parquet.ts";
import { readVocabulary } from "../../../geneformer/data/vocabulary.ts";
import { fileSource } from "../../../geneformer/files.ts";
import { formatEntries } from "../../../geneformer/perturb/pickles.ts";
import { readPairs } from "../../../geneformer/perturb/results.ts";
import { matchedEffects } from "../../../geneformer/stats/effects.ts";
import { CELL } from "../../../geneformer/stats/tables.ts";
import { csvLines } from "../../../geneformer/table.ts";
import { Key } from "../../../src/key.ts";
import { scratch } from "../data/scratch.ts";
import { toyCells, writeRandomModel, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const [dataset, model] = [path("cells.dataset"), path("model")];
const cells = toyCells(12);
const [UP, DOWN] = ["up", 'down, or "reverse"'];
const perturb = (out: string, ...more: string[]) => ["perturb", dataset, "--model", model, "--device", "cpu", "--out", path(out), ...more];
const effects = (run: string, out: string, ...more: string[]) => ["stats", path(run), "--mode", "effects", "--resamples", "100", "--out", path(out), ...more]; // biome-ignore format: one line
const text = (file: string) => readFileSync(path(file), "utf8");

/** A row of a table, by column. */
type Row = Record<string, string>;
const rowsOf = (file: string): Row[] => {
  const [header, ...lines] = text(file).trimEnd().split("\n").map((line) => line.split(",")); // biome-ignore format: one line
  return lines.map((line) => Object.fromEntries(line.map((field, i) => [header[i], field])));
};

beforeAll(async () => {
  await writeToy(dataset, cells);
  await writeRandomModel(model);
  await results(perturb("cosines"));
  await results(perturb("shifts", "--state-column", "type", "--start", UP, "--goal", DOWN));
});

/** The same run with columns changed. */
async function changed(run: string, out: string, change: (name: string, data: (number | string | null)[]) => ArrayLike<number> | null) {
  cpSync(path(run), path(out), { recursive: true });
  const file = path(`${out}/pairs-000000.parquet`);
  const columns = [...(await readParquet(await fileSource(file)))].flatMap(([name, held]): ParquetColumn[] => {
    const data = change(name, held);
    return data ? [{ name, type: /cell|gene|rank/.test(name) ? "i32" : "f32", data: name === "cell" || name === "gene" || name === "rank" ? Int32Array.from(data) : Float32Array.from(data) }] : []; // biome-ignore format: one line
  });
  writeFileSync(file, await parquetBytes(columns));
}
const numbers = (data: (number | string | null)[]) => data as number[];

test("a row for every gene, cells behind every number, 1 - cosine without states; as Parquet the same", async () => {
  const report = await results(effects("cosines", "effects.csv"));
  const pairs = cells.reduce((sum, cell) => sum + cell.length - 2, 0);
  expect(report).toMatchObject({ mode: "effects", pairs, goal: null, matched: 50, matchedBy: ["rank", "detection"], resamples: 100, seed: 0 }); // biome-ignore format: one line
  const rows = rowsOf("effects.csv");
  const genes = new Set(cells.flatMap((cell) => cell.slice(1, -1)));
  expect(rows.map((row) => Number(row.Gene)).sort((a, b) => a - b)).toEqual([...genes].sort((a, b) => a - b));
  const held = await readPairs(path("cosines"));
  for (const row of rows) {
    const own = [...(held.genes as Int32Array)].flatMap((gene, i) => (gene === Number(row.Gene) ? [held.values[i]] : []));
    const inCells = cells.filter((cell) => cell.includes(Number(row.Gene))).flatMap((cell) => cell.slice(1, -1));
    const nulls = new Set(inCells).size - 1; // every other gene that stands beside it
    expect([Number(row.N_Detections), Number(row.N_Paired), Number(row.N_Null)]).toEqual([own.length, own.length, nulls]);
    expect(row.Gene_name).toBe(String.fromCharCode(65 + Number(row.Gene) - 4));
    expect(Number(row.Shift)).toBeCloseTo(own.reduce((a, b) => a + b) / own.length, 12);
    expect(Number(row.Shift)).toBeGreaterThan(0);
    expect(Number(row.Shift) - Number(row.Null_shift)).toBeCloseTo(Number(row.Difference), 12);
    expect(Number(row.Shift_low)).toBeLessThanOrEqual(Number(row.Shift));
    expect(Number(row.Shift_high)).toBeGreaterThanOrEqual(Number(row.Shift));
  }
  await results(effects("cosines", "effects.parquet"));
  const columns = await readParquet(await fileSource(path("effects.parquet")));
  for (const [name, data] of columns) expect(data.map((field) => (field === null ? "" : String(field)))).toEqual(rows.map((row) => row[name])); // biome-ignore format: one line
});

test("shifts to the goal, or to any state there is; ranks are those of the cells", async () => {
  expect(await results(effects("shifts", "goal.csv"))).toMatchObject({ goal: DOWN });
  expect(await results(effects("shifts", "start.csv", "--goal", UP))).toMatchObject({ goal: UP });
  const [goal, start] = [await readPairs(path("shifts")), await readPairs(path("shifts"), UP)];
  expect(goal).toMatchObject({ goal: DOWN, cells: start.cells, genes: start.genes });
  expect(goal.values).not.toEqual(start.values);
  for (const [i, rank] of [...(goal.ranks as Int32Array)].entries()) expect(cells[goal.cells[i]][1 + rank]).toBe(goal.genes[i]);
  const said = await geneformer(effects("shifts", "said.csv", "--matched", "3", "--goal", UP));
  expect(said.stderr).toMatch(
    /^effects: 11 rows of 46 pairs of a gene and a cell\nshifts to "up", each gene beside the 3 nearest in rank and detection$/m,
  );
});

test("the seed makes the intervals, and nothing else", async () => {
  for (const [out, seed] of [["a.csv", "0"], ["b.csv", "0"], ["c.csv", "1"]]) await results(effects("cosines", out, "--seed", seed)); // biome-ignore format: one line
  expect(text("a.csv")).toBe(text("b.csv"));
  expect(text("a.csv")).not.toBe(text("c.csv"));
  const without = (file: string) => rowsOf(file).map(({ Shift_low, Shift_high, Effect_low, Effect_high, ...row }) => row);
  expect(without("c.csv")).toEqual(without("a.csv"));
});

describe("the original's pickles", () => {
  test("cell by cell they are matched by detection alone, and it says so", async () => {
    mkdirSync(path("raw"));
    const [goal, start] = [await readPairs(path("shifts")), await readPairs(path("shifts"), UP)];
    const order = [...new Set(goal.cells as Int32Array)];
    for (const [number, cell] of order.entries())
      for (const batch of [-1, 0]) {
        const rows = [...(goal.cells as Int32Array).keys()].filter(
          (i) => goal.cells[i] === cell && (goal.genes[i] % 2 === 0) === (batch === 0),
        );
        const states = [
          [UP, start],
          [DOWN, goal],
        ] as const;
        const entries = new Map(states.map(([state, { genes, values }]) => [state, rows.map((i) => ({ genes: [genes[i]], affected: CELL, values: [values[i]] }) as const)])); // biome-ignore format: one line
        writeFileSync(path(`raw/in_silico_delete_x_dict_cell_embs_${number}batch${batch}_raw.pickle`), formatEntries(entries));
        const ofGenes = new Map([["", [{ genes: [4], affected: 5, values: [0.5, 0.25] }]]]);
        writeFileSync(path(`raw/in_silico_delete_x_dict_gene_embs_${number}batch${batch}_raw.pickle`), formatEntries(ofGenes));
      }
    const given = ["--dictionary", `${dataset}/dictionary`];
    const report = await results([...effects("raw", "raw.csv"), ...given]);
    expect(report).toMatchObject({ matchedBy: ["detection"], goal: DOWN, pairs: goal.values.length });
    const names = namesOf(await readVocabulary(`${dataset}/dictionary`));
    const want = matchedEffects({ ...goal, ranks: null }, names, { key: Key.from(0), resamples: 100 });
    expect(text("raw.csv")).toBe([...csvLines(want.columns, want.rows, want.index)].join(""));
    const { stderr } = await geneformer([...effects("raw", "said.csv", "--force"), ...given]);
    expect(stderr).toMatch(/, each gene beside the 50 nearest in detection alone: there are no ranks in the run$/m);
  });

  test("all cells in one file do not say which cell a number is of", async () => {
    await results(perturb("again", "--pickles", path("one")));
    expect(await sentence(effects("one", "refused.csv"))).toMatch(
      /effects: "in_silico_delete_again_.*_raw\.pickle" does not say which cell each number is of; give a run of perturb, or pickles of --genes all/,
    );
  });
});

describe("is refused in one sentence, and writes nothing:", () => {
  const refused = async (args: string[], message: string | RegExp) => {
    const said = await sentence(args);
    if (typeof message === "string") expect(said).toContain(message);
    else expect(said).toMatch(message);
    expect(existsSync(path("refused.csv"))).toBe(false);
  };

  test("a group, and pairs with an anchor, have no null", async () => {
    await results(perturb("group", "--genes", "A,B", "--as", "group"));
    await results(perturb("anchored", "--anchor", "E"));
    await refused(effects("group", "refused.csv"), /"[^"]*group" perturbed one group, which nothing can be matched with; run perturb gene by gene, or take another --mode$/); // biome-ignore format: one line
    await refused(effects("anchored", "refused.csv"), "perturbed genes beside an anchor, which nothing can be matched with");
  });

  test("a state that there is not", async () => {
    await refused(effects("shifts", "refused.csv", "--goal", "sideways"), `has no state "sideways"; it has "${UP}", "${DOWN}"`);
    await refused(effects("cosines", "refused.csv", "--goal", UP), 'has no state "up"; it was run without states');
    await refused(effects("nowhere", "refused.csv"), /nowhere/);
  });

  test("a shift that is no number, naming gene and cell", async () => {
    await changed("shifts", "nan", (name, data) => (name.startsWith("shift_down") ? numbers(data).with(3, Number.NaN) : numbers(data)));
    const { cells: of, genes } = await readPairs(path("nan"));
    await refused(effects("nan", "refused.csv"), `effects: gene ${genes[3]} shifts cell ${of[3]} by NaN`);
  });

  test("more rows than were planned, fewer, and a column that is gone", async () => {
    await changed("shifts", "long", (_, data) => [...numbers(data), ...numbers(data)]);
    await refused(effects("long", "refused.csv"), 'long" should hold 46 pairs, and holds 92 up to shard 0; it is damaged');
    await changed("shifts", "short", (_, data) => numbers(data).slice(1));
    await refused(effects("short", "refused.csv"), 'short" should hold 46 pairs, and holds 45 up to shard 0; it is damaged');
    await changed("shifts", "rankless", (name, data) => (name === "rank" ? null : numbers(data)));
    await refused(
      effects("rankless", "refused.csv"),
      /parquet: ".*pairs-000000\.parquet" has no column "rank"; it has cell, gene, shift_up/,
    );
  });

  test.each([
    [["--resamples", "0"], /It must be an integer of at least 40\.\n$/],
    [["--matched", "0"], /It must be an integer of at least 1\.\n$/],
    [["--seed", "-1"], /It must be an integer of at least 0\.\n$/],
  ])("%s", async (more, message) => {
    const { status, stderr } = await geneformer([...effects("shifts", "refused.csv"), ...more]);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});

test("one gene has its numbers, and no null", async () => {
  await results(perturb("lonely", "--genes", "E"));
  await results(effects("lonely", "lonely.csv"));
  expect(rowsOf("lonely.csv")).toEqual([expect.objectContaining({ Gene_name: "E", Null_shift: "", Difference: "", Effect_size: "", Pval: "1", FDR: "1", N_Paired: "0", N_Null: "0" })]); // biome-ignore format: one line
});

test("genes put into cells that have them not are matched as well", async () => {
  expect(await results(perturb("inserted", "--type", "overexpress", "--genes", "A,B,L"))).toMatchObject({ pairs: 36 });
  await results(effects("inserted", "inserted.csv", "--matched", "1"));
  for (const row of rowsOf("inserted.csv")) expect([row.N_Detections, row.N_Paired, row.N_Null]).toEqual(["12", "12", "1"]);
});

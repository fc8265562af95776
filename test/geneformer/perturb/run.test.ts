/** A run in a folder: what is in it, how it goes on after a break, and what the original's files hold of it. */

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Geneformer } from "../../../geneformer/model.ts";
import { type Measure, perturb } from "../../../geneformer/perturb/exact.ts";
import { parseEntries, readEntries } from "../../../geneformer/perturb/pickles.ts";
import { editsOf, type Perturbation, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { readResults, writePickles } from "../../../geneformer/perturb/results.ts";
import {
  type Cells,
  effectColumns,
  flopOf,
  planOf,
  type Run,
  type RunOptions,
  readRun,
  runPerturbation,
  shardColumns,
  shardsOf,
} from "../../../geneformer/perturb/run.ts";
import { Key } from "../../../src/key.ts";
import { onDevice } from "../../devices.ts";
import { scratch } from "../data/scratch.ts";
import { toyCells, toyConfig, usingToy } from "../toy.ts";

const path = scratch();
const ends = { cls: true, eos: true };
const tokens = toyCells(7);
const cells: Cells = { rows: [3, 5, 0, 1, 2, 6, 4], tokens: (row) => tokens[row] };
const measure: Measure = { layer: -1, mode: "cell", ends, tokensPerBatch: 40 };
const all: Perturbation = { type: "delete", genes: "all" };
const options: RunOptions = { tokensPerShard: 60, identity: { dataset: "toy" }, resume: false, force: false };
const rowsOf = async (run: Run, kind: "pairs" | "genes" = "pairs") => {
  const effects = effectColumns(run.states, run.perturbation.anchor !== undefined);
  const names = kind === "pairs" ? ["cell", "gene", "rank", ...effects] : ["cell", "gene", "affected", "cosine"];
  const rows: number[][] = [];
  for await (const columns of shardColumns(run, kind, names)) rows.push(...columns[0].map((_, i) => columns.map((column) => column[i])));
  return rows;
};
const names = (folder: string) => readdirSync(path(folder)).sort();

/** The outcomes of all cells, each cell by itself. */
async function* oneByOne(model: Geneformer, perturbation: Perturbation) {
  for (const row of cells.rows) {
    const edits = editsOf(tokens[row], ends, unitsOf(tokens[row], ends, perturbation), toyConfig.length);
    yield* perturb(model, [{ row, cell: tokens[row], edits }], measure);
  }
}

onDevice("cpu", (device) => {
  const using = usingToy(device);

  test("a row for every gene of every cell, in order, in as many shards as planned", () =>
    using(async (model) => {
      const run = await runPerturbation(model, cells, all, measure, path("whole"), options);
      const plan = planOf(cells, all, measure, toyConfig, options.tokensPerShard);
      expect(run.plan).toEqual(plan);
      expect(plan).toMatchObject({ cells: 7, pairs: tokens.reduce((sum, cell) => sum + cell.length - 2, 0), passes: plan.pairs + 7 });
      expect(plan.shards).toBeGreaterThan(5);
      expect(names("whole")).toEqual([
        ...Array.from({ length: plan.shards }, (_, i) => `pairs-${String(i).padStart(6, "0")}.parquet`),
        "run.json",
      ]);
      const rows = await rowsOf(await readRun(path("whole")));
      const want: number[][] = [];
      for await (const { row, edit, effect } of oneByOne(model, all))
        want.push([row, edit.genes[0], tokens[row].indexOf(edit.genes[0]) - 1, effect[0]]);
      expect(rows.map((row) => row.slice(0, 3))).toEqual(want.map((row) => row.slice(0, 3)));
      for (const [i, [, , , value]] of rows.entries()) expect(Math.abs((value as number) - want[i][3])).toBeLessThan(1e-6);
    }));

  test("stopped anywhere and resumed, it ends with the same bytes; progress counts pairs of the whole run", () =>
    using(async (model) => {
      const affected = { ...measure, affected: true };
      const folder = (name: string) => new Map(names(name).map((file) => [file, readFileSync(`${path(name)}/${file}`)]));
      await runPerturbation(model, cells, all, affected, path("undisturbed"), options);
      const want = folder("undisturbed");
      const { pairs } = planOf(cells, all, affected, toyConfig, options.tokensPerShard);
      for (const stop of [1, 9, 10, 23, pairs - 1]) {
        const out = path(`stopped-${stop}`);
        const onProgress = (done: number) => {
          if (done >= stop) throw new Error("killed");
        };
        await expect(runPerturbation(model, cells, all, affected, out, { ...options, onProgress })).rejects.toThrow("killed");
        await expect(readRun(out)).rejects.toThrow(/stopped at \d+ of \d+ shards; finish it with perturb --resume/);
        writeFileSync(`${out}/.pairs-000001.parquet.partial-1-0`, "half"); // what a killed process leaves
        const seen: number[] = [];
        await runPerturbation(model, cells, all, affected, out, { ...options, resume: true, onProgress: (done) => void seen.push(done) });
        expect(folder(`stopped-${stop}`)).toEqual(want);
        expect(seen.at(-1)).toBe(pairs);
        expect(seen).toEqual([...seen].sort((a, b) => a - b));
      }
    }));

  test("what is there is not written over; another run is not resumed, and the difference is named", () =>
    using(async (model) => {
      const out = path("kept");
      await runPerturbation(model, cells, all, measure, out, options);
      const again = (change: Partial<RunOptions>, kind = all, how = measure) =>
        runPerturbation(model, cells, kind, how, out, { ...options, ...change });
      await expect(again({})).rejects.toThrow("exists; go on with --resume, begin anew with --force, or choose another name");
      for (const [change, kind, how, what] of [
        [{ resume: true, tokensPerShard: 61 }, all, measure, "tokensPerShard 60, now it is 61"],
        [{ resume: true, identity: { dataset: "other" } }, all, measure, 'dataset "toy", now it is "other"'],
        [{ resume: true }, { ...all, type: "overexpress" }, measure, 'type "delete", now it is "overexpress"'],
        [{ resume: true }, all, { ...measure, layer: 0 }, "layer -1, now it is 0"],
      ] as const)
        await expect(again(change, kind as Perturbation, how)).rejects.toThrow(`was run with ${what}; resume with the same settings`);
      await again({ resume: true }); // nothing left to do
      await again({ force: true }, { ...all, type: "overexpress" });
      expect((await readRun(out)).perturbation.type).toBe("overexpress");
      writeFileSync(path("mine.txt"), "mine");
      await expect(runPerturbation(model, cells, all, measure, path(""), { ...options, force: true })).rejects.toThrow("did not write");
      await expect(readRun(path("nowhere"))).rejects.toThrow("holds no run");
      writeFileSync(`${out}/run.json`, '{"format": 7}');
      await expect(readRun(out)).rejects.toThrow("has format 7; this version reads 2");
    }));

  test("a damaged shard is named", () =>
    using(async (model) => {
      const run = await runPerturbation(model, cells, all, measure, path("damaged"), options);
      writeFileSync(`${path("damaged")}/pairs-000001.parquet`, "PAR1 nothing");
      await expect(rowsOf(run)).rejects.toThrow(/parquet: ".*pairs-000001\.parquet"/);
      rmSync(`${path("damaged")}/pairs-000001.parquet`);
      await expect(readResults(path("damaged"))).rejects.toThrow("stopped at 1 of");
    }));

  test("FLOP: products of every place, but of <cls> alone in a last layer that makes nothing else", () => {
    const { width: C, inner: F } = toyConfig;
    const linear = (rows: number) => 2 * rows * C * C;
    const whole = (T: number) => 4 * linear(T) + (2 * F * linear(T)) / C + 2 * (2 * T * T * C);
    expect(flopOf(toyConfig, 2, 7)).toBe(2 * whole(7));
    expect(flopOf(toyConfig, 0, 7)).toBe(0);
    const last = 2 * linear(7) + 2 * linear(1) + (2 * F * linear(1)) / C + 2 * (2 * 7 * C);
    expect(flopOf(toyConfig, 2, 7, 1)).toBe(whole(7) + last);
    const plan = (how: Partial<Measure>) => planOf(cells, all, { ...measure, ...how }, toyConfig, 100).flop;
    expect(plan({ mode: "cls" })).toBeLessThan(plan({ mode: "cell" }));
    expect(plan({ mode: "cls", affected: true })).toBe(plan({ mode: "cell" }));
  });

  test("what a cell has not, and a group, have no rank", () =>
    using(async (model) => {
      const kind: Perturbation = { type: "overexpress", genes: [15, 4] };
      const rows = await rowsOf(await runPerturbation(model, cells, kind, measure, path("inserted"), options));
      expect(rows.length).toBe(2 * cells.rows.length);
      for (const [row, gene, rank] of rows as number[][]) expect(rank).toBe(Math.max(-1, tokens[row].indexOf(gene) - 1));
      expect(rows.some(([, , rank]) => rank === -1)).toBe(true);
      const together = await runPerturbation(model, cells, { ...kind, as: "group" }, measure, path("together"), options);
      for (const [, gene, rank] of await rowsOf(together)) expect([gene, rank]).toEqual([-1, -1]);
    }));

  test("nothing to perturb is an error before anything is written", () =>
    using(async (model) => {
      const kind: Perturbation = { type: "delete", genes: [40] };
      await expect(runPerturbation(model, cells, kind, measure, path("nothing"), options)).rejects.toThrow(
        "no cell has a gene to perturb, and another one that stays",
      );
      expect(names("")).not.toContain("nothing");
    }));

  describe("results by gene", () => {
    test("cosines, in the order of cells; what each gene did to the others", () =>
      using(async (model) => {
        await runPerturbation(model, cells, all, { ...measure, affected: true }, path("affected"), options);
        const run = await readRun(path("affected"));
        const { effects, affected, pairs } = await readResults(path("affected"));
        const rows = await rowsOf(run);
        expect(pairs).toBe(rows.length);
        for (const [gene, values] of effects.get("")?.genes ?? []) expect(values).toEqual(rows.filter(([, of]) => of === gene).map(([, , , value]) => value)); // biome-ignore format: one line
        const [shifts, genes] = [await affected(), await rowsOf(run, "genes")];
        for (const [gene, of] of shifts) {
          const own = effects.get("")?.genes.get(gene) ?? [];
          expect(of.get("cell_emb")?.mean).toBeCloseTo(own.reduce((a, b) => a + b) / own.length, 12);
          for (const [other, moments] of of) {
            if (other === "cell_emb") continue;
            const values = genes.filter(([, a, b]) => a === gene && b === other).map(([, , , value]) => value);
            expect(moments.count).toBe(values.length);
            expect(moments.mean).toBeCloseTo(values.reduce((a, b) => a + b) / values.length, 12);
          }
        }
      }));

    test("pairs with an anchor are triples: it alone, the gene alone, both", () =>
      using(async (model) => {
        const kind: Perturbation = { type: "delete", genes: "all", anchor: 6 };
        await runPerturbation(model, cells, kind, measure, path("anchored"), { ...options, tokensPerShard: 25 });
        const alone = new Map<string, number>();
        for (const genes of [all, { type: "delete", genes: [6] } as const])
          for await (const { row, edit, effect } of oneByOne(model, genes)) alone.set(`${row} ${edit.genes[0]}`, effect[0]);
        const rows = await rowsOf(await readRun(path("anchored")));
        expect(rows.length).toBe(cells.rows.filter((row) => tokens[row].includes(6)).reduce((sum, row) => sum + tokens[row].length - 3, 0));
        for (const [row, gene, rank, anchor, single, both] of rows) {
          expect(tokens[row][rank + 1]).toBe(gene);
          expect(anchor).toBeCloseTo(alone.get(`${row} 6`) ?? Number.NaN, 5);
          expect(single).toBeCloseTo(alone.get(`${row} ${gene}`) ?? Number.NaN, 5);
          expect(both).not.toBe(single);
        }
        const { effects } = await readResults(path("anchored"));
        expect([...(effects.get("")?.pairs.values() ?? [])].flat().length).toBe(rows.length);
      }));

    const states = new Map(["start", "goal", "other"].map((name, i) => [name, Float32Array.from(Key.from(i).normals(toyConfig.width))]));
    test.each([
      ["cosines", all, measure],
      ["shifts to states", { ...all, type: "overexpress" }, { ...measure, states }],
      ["a group", { type: "overexpress", genes: [15, 4], as: "group" }, measure],
      ["affected genes", all, { ...measure, affected: true }],
      ["pairs", { ...all, anchor: 6 }, measure],
    ] as [string, Perturbation, Measure][])("the original's pickles hold the same: %s", (what, kind, how) =>
      using(async (model) => {
        const [out, pickles] = [path(`of ${what}`), path(`pickles of ${what}`)];
        const run = await runPerturbation(model, cells, kind, how, out, options);
        const files = await writePickles(run, pickles, "toy");
        expect(files.every((file) => /\/in_silico_\w+_toy_.*_raw\.pickle$/.test(file))).toBe(true);
        const [want, got] = [await readResults(out), await readResults(pickles)];
        expect(got.effects).toEqual(want.effects);
        expect(got.group).toEqual(want.group);
        if (how.affected) {
          const sorted = (shifts: Awaited<ReturnType<typeof want.affected>>) =>
            [...shifts].flatMap(([a, of]) => [...of].map(([b, { count, mean }]) => `${a} ${b} ${count} ${mean.toPrecision(10)}`)).sort();
          expect(sorted(await got.affected())).toEqual(sorted(await want.affected()));
        }
        // Python reads them where there is one; the reader above is held against Python's own files elsewhere.
        const python = (() => {
          try {
            return execFileSync("python3", ["-c", "import pickle, sys\nfor f in sys.argv[1:]: print(type(pickle.load(open(f, 'rb'))).__name__)", ...files], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }); // biome-ignore format: one line
          } catch (error) {
            if ((error as { code?: string }).code === "ENOENT") return null;
            throw error;
          }
        })();
        if (python !== null)
          expect(python.trim().split("\n")).toEqual(files.map((_, i) => (how.states && i === 0 ? "dict" : "defaultdict")));
      }),
    );

    test("files of something else are refused", async () => {
      expect(() => parseEntries(Uint8Array.from([0x80, 4, 0x5d, 0x2e]))).toThrow("holds no dict of perturbations"); // []
      expect(() => parseEntries(Uint8Array.from([0x80, 4, 0x7d, 0x4b, 1, 0x4b, 2, 0x73, 0x2e]), "x")).toThrow(
        '"x" has a key or values that no perturbation has',
      ); // {1: 2}
      await expect(readEntries(path("")).next()).rejects.toThrow("holds neither a run (run.json) nor files that end in _raw.pickle");
    });
  });

  test("shards are cut where their tokens reach the budget, within cells too, and hold every unit once", () => {
    for (const budget of [1, 10, 60, 1e9]) {
      const shards = [...shardsOf(cells, all, measure, toyConfig, budget)];
      const units = shards.flatMap(({ parts }) =>
        parts.flatMap(({ row, from, to }) => Array.from({ length: to - from }, (_, i) => `${row} ${from + i}`)),
      );
      expect(units).toEqual(cells.rows.flatMap((row) => Array.from({ length: tokens[row].length - 2 }, (_, i) => `${row} ${i}`)));
      expect(shards.map(({ pairs }) => pairs)).toEqual(shards.map(({ parts }) => parts.reduce((sum, { from, to }) => sum + to - from, 0)));
      for (const { tokens: used } of shards.slice(0, -1)) expect(used).toBeGreaterThanOrEqual(budget);
    }
  });
});

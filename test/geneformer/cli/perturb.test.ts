/** `geneformer perturb`: the tables it writes, under upstream's names, and what it refuses. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { readModel } from "../../../geneformer/checkpoint.ts";
import { byGene, type Deletion, deleteEach } from "../../../geneformer/perturb.ts";
import { scratch } from "../data/scratch.ts";
import { ensembl, onCpu, writeRandomModel, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const [dataset, model] = [path("cells.dataset"), path("model")];
const cells = [
  [2, 9, 4, 7, 3],
  [2, 5, 3],
  [2, 4, 5, 6, 7, 8, 3],
  [2, 9, 4, 3],
];
beforeAll(async () => {
  await writeToy(dataset, cells);
  await writeRandomModel(model);
});
const args = (out: string, ...more: string[]) => ["perturb", dataset, "--model", model, "--device", "cpu", "--out", path(out), ...more];
const rowsOf = (out: string) =>
  readFileSync(path(out), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.split(","));

/** The deletions that must come out, longest cell first. */
const wanted = (mode: "cell" | "cls", layer: number, rows: number[]) =>
  onCpu(async () => {
    const loaded = await readModel(model);
    const all: (Deletion & { row: number })[] = [];
    for (const row of rows) {
      const options = { mode, layer, ends: { cls: true, eos: true }, tokensPerBatch: 8192 };
      for (const deletion of await deleteEach(loaded, cells[row], options)) all.push({ ...deletion, row });
    }
    return all;
  });
const name = (token: number) => [String(token), String.fromCharCode(65 + token - 4), ensembl(token - 4)];

test("a row for every gene: names, mean, deviation, cells; and one for every cell and gene", async () => {
  const report = await results(args("shifts.csv", "--raw", path("raw.csv")));
  expect(report).toMatchObject({ cells: 3, skipped: 1, deletions: 10, genes: 6, mode: "cls", layer: -1 });
  const [at, rawAt] = ["shifts.csv", "raw.csv"].map((name) => statSync(path(name), { bigint: true }).mtimeNs);
  expect(at >= rawAt).toBe(true); // the table appears last
  const all = await wanted("cls", -1, [2, 0, 3]);

  const [rawHeader, ...raw] = rowsOf("raw.csv");
  expect(rawHeader).toEqual(["", "Cell", "Gene", "Gene_name", "Ensembl_ID", "Cosine_sim"]);
  expect(raw.map((row) => row.slice(0, -1))).toEqual(all.map(({ row, token }, i) => [String(i), String(row), ...name(token)]));
  expect(raw.map((row) => Math.fround(Number(row.at(-1))))).toEqual(all.map(({ cosine }) => cosine));

  const [header, ...rows] = rowsOf("shifts.csv");
  expect(header).toEqual(["", "Gene", "Gene_name", "Ensembl_ID", "Test_avg_shift", "Cosine_sim_mean", "Cosine_sim_stdev", "N_Detections"]);
  expect(rows.map(([index]) => index)).toEqual(["0", "1", "2", "3", "4", "5"]);
  expect(rows.map((row) => row.slice(1))).toEqual(
    byGene(all).map(({ token, mean, deviation, detections }) => [...name(token), mean, mean, deviation, detections].map(String)),
  );
  expect(rows.find(([, gene]) => gene === "4")?.at(-1)).toBe("3");
});

test("the first cells, another layer and mode, in any batches", async () => {
  const { stderr } = await geneformer(args("cell.csv", "--max-cells", "1", "--mode", "cell", "--layer", "0", "--tokens-per-batch", "1"));
  expect(stderr).toMatch(/^3 deletions in 1 cells, 3 genes, \S+ deletions\/s$/m);
  expect(rowsOf("cell.csv").slice(1).map((row) => Number(row[4]))).toEqual(byGene(await wanted("cell", 0, [0])).map(({ mean }) => mean)); // biome-ignore format: one line
});

test("without a dictionary genes have tokens only, and it says so; --dictionary gives them names", async () => {
  const [bare, nameless] = [await writeToy(path("bare.dataset"), cells, null), await writeRandomModel(path("nameless"), null)];
  const given = ["perturb", bare, "--model", nameless, "--device", "cpu", "--out", path("bare.csv")];
  const { status, stderr } = await geneformer(given);
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(/^genes have no names: neither dataset nor model has a dictionary beside it; give --dictionary$/m);
  expect(rowsOf("bare.csv")[1].slice(2, 4)).toEqual(["", ""]);
  await results([...given, "--force", "--dictionary", `${dataset}/dictionary`]);
  expect(readFileSync(path("bare.csv"), "utf8")).not.toMatch(/,,/);
  // Names of the dataset's own dictionary, or else the model's.
  await results(["perturb", bare, "--model", model, "--device", "cpu", "--out", path("models.csv")]);
  expect(readFileSync(path("models.csv"))).toEqual(readFileSync(path("bare.csv")));
});

test("Ctrl-C leaves nothing", async () => {
  const stop = new AbortController();
  const { status, stderr } = await geneformer(args("stopped.csv", "--raw", path("stopped-raw.csv")), stop.signal, (text) => {
    if (/^device/.test(text)) stop.abort();
  });
  expect(status).toBe(130);
  expect(stderr).toMatch(/geneformer perturb: stopped; nothing was written/);
  expect(readdirSync(path("")).filter((file) => file.includes("stopped"))).toEqual([]);
});

describe("is refused in one sentence, and writes nothing:", () => {
  const refused = async (given: string[], message: string | RegExp) => {
    const before = readdirSync(path("")).sort();
    const said = await sentence(given);
    if (typeof message === "string") expect(said).toBe(`geneformer perturb: ${message}`);
    else expect(said).toMatch(message);
    expect(readdirSync(path("")).sort()).toEqual(before);
  };

  test("cells with nothing to compare", async () => {
    const lonely = await writeToy(path("lonely.dataset"), [[2, 5, 3]]);
    await refused(
      ["perturb", lonely, "--model", model, "--device", "cpu", "--out", path("refused.csv")],
      `"${lonely}": no cell has two genes or more; there is nothing to compare`,
    );
  });

  test("an output that exists, or is no .csv", async () => {
    await results(args("exists.csv", "--max-cells", "1"));
    await refused(args("exists.csv"), /exists\.csv" exists; remove it/);
    await refused(args("refused.csv", "--raw", path("exists.csv")), /exists\.csv" exists; remove it/);
    for (const wrong of [args("refused.h5ad"), args("refused.csv", "--raw", path("raw.h5ad"))]) {
      const { status, stderr } = await geneformer(wrong);
      expect([status, stderr]).toEqual([2, expect.stringMatching(/\.h5ad' is invalid\. It must end in \.csv\.\n$/)]);
    }
  });

  test("a layer that is not there", () =>
    refused(args("refused.csv", "--layer", "-9"), /^geneformer perturb: layer: must be an integer from -2 to 0/));

  test("a token beyond the vocabulary", async () => {
    const beyond = await writeToy(path("beyond.dataset"), [[2, 16, 5, 3]], null);
    await refused(
      ["perturb", beyond, "--model", model, "--device", "cpu", "--out", path("refused.csv")],
      /^geneformer perturb: token 16 of ".*" is beyond the vocabulary of 16/,
    );
  });
});

test("other types of perturbation are wrong usage, not silence", async () => {
  const { status, stderr } = await geneformer(args("refused.csv", "--type", "overexpress"));
  expect([status, stderr]).toEqual([2, expect.stringMatching(/'overexpress' is invalid\. Allowed choices are delete\.\n$/)]);
});

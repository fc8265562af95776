/** The tokenizer against the original's answers: 40 real cells and every edge case that concerns .h5ad files. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Dataset, readDataset } from "../../geneformer/data/dataset.ts";
import { writeCells } from "../../geneformer/data/h5ad.ts";
import type { Values } from "../../geneformer/data/h5write.ts";
import { createHdf5 } from "../../geneformer/data/hdf5.ts";
import { type TokenizeOptions, tokenize } from "../../geneformer/data/tokenizer.ts";
import { readVocabulary } from "../../geneformer/data/vocabulary.ts";
import { scratch } from "../geneformer/data/scratch.ts";

const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
const path = scratch();
const vocabularies = { V1: await readVocabulary(`${data}dictionaries/v1`), V2: await readVocabulary(`${data}dictionaries/v2`) };

interface Answer {
  columns: string[];
  n_cells: number;
  cells: { input_ids: number[]; length: number; counts?: number[]; ct?: string; cell_type?: string; scores_uncropped?: number[] }[];
}
interface Case {
  ensembl_id: string[];
  X: number[][];
  obs: { n_counts: number[]; ct: string[]; filter_pass?: number[] };
  result: Answer & { error?: string };
}

const json = (name: string): unknown => JSON.parse(readFileSync(`${data}oracle/tokenizer/${name}.json`, "utf8"));
const cases = json("edge_cases") as Record<string, Case>;

/** Equal order, but for neighbours whose scores agree to 3e-7: the original's rounding depends on its scipy. */
function expectSameOrder(dataset: Dataset, { cells }: Answer, special: boolean): void {
  for (const [i, { input_ids, length, scores_uncropped }] of cells.entries()) {
    const tokens = dataset.tokens(i);
    expect(tokens.length).toBe(length);
    expect([...tokens].sort()).toEqual([...input_ids].sort());
    tokens.forEach((token, place) => {
      if (token === input_ids[place]) return;
      const other = input_ids.indexOf(token);
      const score = (at: number) => scores_uncropped?.[at - (special ? 1 : 0)] ?? NaN;
      expect(Math.abs(score(other) / score(place) - 1), `cell ${i} place ${place}`).toBeLessThanOrEqual(3e-7);
    });
  }
}

describe.each(["V1", "V2"] as const)("pbmc3k, %s", (version) => {
  test("the first cells as the original, the file whole, the folder as Hugging Face writes it", async () => {
    const out = path(`pbmc3k_${version}.dataset`);
    const vocabulary = vocabularies[version];
    const attributes = new Map([["louvain", "cell_type"]]);
    const report = await tokenize({ inputs: [`${data}cells/pbmc3k.h5ad`], vocabulary, modelVersion: version, out, attributes });
    expect(report).toMatchObject({ cells: 2700, written: 2700, filtered: 0, empty: 0, warnings: [] });
    const dataset = await readDataset(out);
    const answer = json(`pbmc3k_cells_0_19_${version}`) as Answer;
    expectSameOrder(dataset, answer, version === "V2");
    expect(dataset.column("cell_type").slice(0, answer.cells.length)).toEqual(answer.cells.map((cell) => cell.cell_type));
    expect(dataset.columns).toEqual(answer.columns);
    expect(dataset.column("length")).toEqual([...dataset.lengths]);
    expect(report.truncated).toBe(version === "V1" ? 6 : 0); // cells with more than 2,048 and 4,094 genes
    const info = JSON.parse(readFileSync(`${out}/dataset_info.json`, "utf8"));
    expect(info.features).toEqual({
      input_ids: { feature: { dtype: version === "V1" ? "int16" : "int32", _type: "Value" }, _type: "Sequence" },
      cell_type: { dtype: "string", _type: "Value" },
      length: { dtype: "int64", _type: "Value" },
    });
    const real = `${data}tokenized/covid_monocytes.dataset`;
    const keys = (folder: string, file: string) => Object.keys(JSON.parse(readFileSync(`${folder}/${file}.json`, "utf8")));
    for (const file of ["dataset_info", "state"]) expect(keys(out, file)).toEqual(keys(real, file));
    expect((await dataset.vocabulary())?.tokens).toEqual(vocabulary.tokens);
  });
});

/** How each edge case was called. */
const OPTIONS: Record<string, Partial<TokenizeOptions>> = {
  sum_synonyms: { attributes: new Map([["ct", "ct"]]) },
  sum_synonyms_noattr_noempty: {},
  sum_synonyms_keepcounts: { keepCounts: true, attributes: new Map([["ct", "ct"]]) },
  same_id_twice: {},
  same_id_twice_v1: { modelVersion: "V1" },
  same_id_twice_plus_synonym: {},
  explicit_zeros: {},
  filter_pass: {},
  use_index: { useIndex: true },
  lowercase_ids: {},
  lowercase_symbol_dup: {},
  versioned_id: {},
  crop_special: { modelInputSize: 12 },
  crop_keep_counts: { modelInputSize: 12, keepCounts: true },
  csc: {},
};

async function write(name: string, { ensembl_id, X, obs }: Case): Promise<string> {
  const file = path(`${name}.h5ad`);
  const columns = new Map<string, Values>([
    ["n_counts", Float64Array.from(obs.n_counts)],
    ["ct", obs.ct],
  ]);
  if (obs.filter_pass) columns.set("filter_pass", Int32Array.from(obs.filter_pass));
  // explicit_zeros stores every value, zeros too: more than its note asks for, with the same meaning
  const stored = X.map((row) => row.flatMap((x, gene) => (x !== 0 || name === "explicit_zeros" ? [gene] : [])));
  const indptr = [0];
  for (const genes of stored) indptr.push(indptr.at(-1)! + genes.length);
  const indices = Int32Array.from(stored.flat());
  const values = Float32Array.from(stored.flatMap((genes, cell) => genes.map((gene) => X[cell]![gene]!)));
  const genes =
    name === "use_index"
      ? { index: ensembl_id }
      : { index: ensembl_id.map((_, i) => `g${i}`), columns: new Map([["ensembl_id", ensembl_id]]) };
  await writeCells(file, { X: { indptr, indices, data: values }, obs: { index: obs.ct, columns }, var: genes });
  return file;
}

describe("edge cases", () => {
  test.each(Object.keys(OPTIONS))("%s", async (name) => {
    const entry = cases[name]!;
    const vocabulary = vocabularies[OPTIONS[name]!.modelVersion ?? "V2"];
    const input = name === "csc" ? await writeColumns(entry) : await write(name, entry);
    const out = path(`${name}.dataset`);
    const report = await tokenize({ inputs: [input], vocabulary, out, ...OPTIONS[name] });
    const dataset = await readDataset(out);
    expect(dataset.length).toBe(entry.result.n_cells);
    expect(dataset.columns).toEqual(entry.result.columns);
    expect(report.cells).toBe(entry.X.length);
    expectSameOrder(dataset, entry.result, vocabulary.modelVersion === "V2");
    for (const [i, { counts, ct }] of entry.result.cells.entries()) {
      if (counts) dataset.numbers("counts", i).forEach((x, place) => void expect(x).toBeCloseTo(counts[place]!, 8));
      if (ct !== undefined) expect(dataset.column("ct")[i]).toBe(ct);
    }
    expect(report.warnings.some((text) => text.includes("version"))).toBe(name === "versioned_id");
    expect(report.empty).toBe(name === "sum_synonyms" ? 1 : 0);
  });

  test("without attributes, where the original crashes on an empty cell, the cell is dropped and counted", async () => {
    const input = await write("sum_synonyms_noattr", cases.sum_synonyms_noattr!);
    const report = await tokenize({ inputs: [input], vocabulary: vocabularies.V2, out: path("noattr.dataset") });
    expect(report).toMatchObject({ cells: 7, written: 6, empty: 1 });
  });
});

/** The csc case as CSC: one cell, so each gene's column holds at most one value. */
async function writeColumns({ X, ensembl_id, obs }: Case): Promise<string> {
  const out = path("by-column.h5ad");
  const row = X[0]!;
  const hdf5 = await createHdf5(out);
  const table = (name: string, columns: Record<string, string[] | Float64Array>) => {
    const group = hdf5.create_group(name);
    group.create_attribute("_index", "_index");
    group.create_attribute("column-order", Object.keys(columns));
    for (const [key, values] of Object.entries(columns)) group.create_dataset({ name: key, data: values });
    group.create_dataset({ name: "_index", data: Object.values(columns)[0] as string[] });
  };
  table("obs", { ct: obs.ct, n_counts: Float64Array.from(obs.n_counts) });
  table("var", { ensembl_id });
  const group = hdf5.create_group("X");
  group.create_attribute("encoding-type", "csc_matrix");
  group.create_attribute("shape", BigInt64Array.of(1n, BigInt(row.length)));
  const found = row.flatMap((x) => (x > 0 ? [x] : []));
  const indptr = [0];
  for (const x of row) indptr.push(indptr.at(-1)! + (x > 0 ? 1 : 0));
  group.create_dataset({ name: "data", data: Float32Array.from(found) });
  group.create_dataset({ name: "indices", data: new Int32Array(found.length) });
  group.create_dataset({ name: "indptr", data: Int32Array.from(indptr) });
  hdf5.close();
  return out;
}

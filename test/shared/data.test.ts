/** Real dictionaries, datasets and .h5ad files of many makers: each is read, or refused in a sentence that says what to do. */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readDataset } from "../../geneformer/data/dataset.ts";
import { buildDictionary } from "../../geneformer/data/dictionary.ts";
import { openCells } from "../../geneformer/data/h5ad.ts";
import { tokenize } from "../../geneformer/data/tokenizer.ts";
import { isSpecial, readVocabulary, writeVocabulary } from "../../geneformer/data/vocabulary.ts";
import { type Pickled, readPickle } from "../../nn/pickle.ts";
import { scratch } from "../geneformer/data/scratch.ts";

const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
const path = scratch();

describe("the original's dictionaries", () => {
  test.each([
    { folder: "v1", size: 25426, genes: 25424, medians: 25424, mapping: 25424, names: 40248, ttn: [9837, 8.5932], gapdh: [3906, 20.045] },
    { folder: "v2", size: 20275, genes: 20271, medians: 42005, mapping: 173697, names: 63675, ttn: [9740, 2.608], gapdh: [3880, 12.981] },
  ])("$folder", async ({ folder, size, genes, medians, mapping, names, ttn, gapdh }) => {
    const vocabulary = await readVocabulary(`${data}dictionaries/${folder}`);
    expect(vocabulary.modelVersion).toBe(folder.toUpperCase());
    expect(vocabulary.size).toBe(size);
    expect([...vocabulary.tokens.keys()].filter((word) => !isSpecial(word))).toHaveLength(genes);
    expect([vocabulary.medians.size, vocabulary.mapping.size, vocabulary.names.size]).toEqual([medians, mapping, names]);
    const [TTN, GAPDH, MALAT1] = ["ENSG00000155657", "ENSG00000111640", "ENSG00000251562"];
    expect([vocabulary.tokens.get(TTN!), vocabulary.tokens.get(GAPDH!)]).toEqual([ttn[0], gapdh[0]]);
    expect(vocabulary.medians.get(TTN!)).toBeCloseTo(ttn[1]!, 3);
    expect(vocabulary.medians.get(GAPDH!)).toBeCloseTo(gapdh[1]!, 2);
    expect(vocabulary.tokens.has(MALAT1!)).toBe(false);
    expect(vocabulary.names.get(TTN!)).toBe("TTN");
    await writeVocabulary(vocabulary, path(folder));
    expect(await readVocabulary(path(folder))).toEqual(vocabulary);
  });

  test("symbols and old ids lead to the gene in V2", async () => {
    const { mapping, tokens } = await readVocabulary(`${data}dictionaries/v2`);
    expect(mapping.get("TTN")).toBe("ENSG00000155657");
    expect([...mapping.values()].filter((id) => tokens.has(id))).toHaveLength(91753);
  });
});

test("pickles of perturbations: {token: {(token, what): [cosines]}}", () => {
  const folder = `${data}tokenized/isp_pickles`;
  const files = readdirSync(folder).filter((name) => name.endsWith(".pickle"));
  expect(files).toHaveLength(9);
  for (const name of files) {
    const states = readPickle(readFileSync(`${folder}/${name}`)) as ReadonlyMap<number, ReadonlyMap<Pickled, Pickled>>;
    expect([...states.keys()].sort()).toEqual([0, 1]);
    for (const [key, values] of [...states.values()].flatMap((state) => [...state])) {
      expect(key).toEqual([expect.anything(), "cell_emb"]);
      for (const value of values as number[]) expect(Math.abs(value)).toBeLessThan(2);
    }
  }
});

test("a real dataset of Hugging Face datasets", async () => {
  const dataset = await readDataset(`${data}tokenized/covid_monocytes.dataset`);
  expect(dataset.length).toBe(200);
  expect(dataset.columns).toEqual(["input_ids", "cell_type", "label", "donor_id", "length"]);
  expect(dataset.column("label").filter((label) => label === 1)).toHaveLength(91);
  expect(dataset.column("length")).toEqual([...dataset.lengths]);
  expect(dataset.largest).toBeLessThan(20275);
  for (let i = 0; i < dataset.length; i++) {
    const tokens = dataset.tokens(i);
    expect([tokens[0], tokens.at(-1), tokens.length]).toEqual([2, 3, dataset.lengths[i]]);
    expect(new Set(tokens).size).toBe(tokens.length);
  }
  expect(await dataset.vocabulary()).toBeNull();
  const oracle: { input_ids: number[][] } = JSON.parse(readFileSync(`${data}oracle/inputs/v2_12.json`, "utf8"));
  const whole = new Set(Array.from({ length: 200 }, (_, i) => dataset.tokens(i).join()));
  for (const cell of oracle.input_ids) expect(whole).toContain(cell.join());
});

describe(".h5ad files", () => {
  test.each([
    ["cells/pbmc3k", 2700, 32738, 2286884, 6390631],
    ["cells/kang_ifnb", 2000, 9015, 1129806, 3081827],
    ["cells/lung_lines_5batches", 1408, 28455, 8237973, 38617590],
    ["compat/anndata/cellrank_adata_50", 50, 143, 4010, 5205.115],
    ["compat/anndata/anndataR_example", 50, 100, 4317, 4791.225],
    ["compat/anndata/zellkonverter_example_anndata", 200, 459, 53667, 144277.427], // dense
  ])("%s is read", async (name, cells, genes, stored, sum) => {
    const file = await openCells(`${data}${name}.h5ad`);
    const seen = { stored: 0, sum: 0, rows: 0 };
    for (const { data: values, rows, start } of file.chunks()) {
      expect(start).toBe(seen.rows);
      seen.rows += rows;
      seen.stored += values.length;
      for (const x of values) seen.sum += x;
    }
    expect([file.cells, file.genes, seen.rows, seen.stored]).toEqual([cells, genes, cells, stored]);
    expect(seen.sum).toBeCloseTo(sum, 2);
    expect(file.obs.index()).toHaveLength(cells);
    for (const column of file.obs.names) expect(file.obs.column(column).values).toHaveLength(cells);
    for (const column of file.var.names) expect(file.var.column(column).values).toHaveLength(genes);
    file.close();
  });

  test("columns of every kind, with what is missing", async () => {
    const file = await openCells(`${data}compat/anndata/anndataR_example.h5ad`);
    const column = (name: string) => ({ kind: file.obs.column(name).kind, first: file.obs.column(name).values.slice(0, 2) });
    expect(column("FloatNA")).toEqual({ kind: "float", first: [null, 42.42] });
    expect(column("IntNA")).toEqual({ kind: "int", first: [null, 42] });
    expect(column("BoolNA")).toEqual({ kind: "bool", first: [false, null] });
    expect(column("leiden")).toEqual({ kind: "string", first: ["0", "2"] });
    file.close();
    const old = await openCells(`${data}compat/anndata/zellkonverter_example_anndata.h5ad`); // categories by reference, AnnData 0.7
    expect(old.obs.column("louvain").values.slice(0, 4)).toEqual(["0", "3", "0", "2"]);
    old.close();
  });

  test("a file given as bytes is the file on disk", async () => {
    const name = `${data}compat/anndata/anndataR_example.h5ad`;
    const [disk, memory] = [await openCells(name), await openCells(new Blob([readFileSync(name)]))];
    expect([...memory.chunks()]).toEqual([...disk.chunks()]);
    disk.close();
    memory.close();
  });

  test.each([
    ["compat/truncated/covid_monocytes_2k.h5ad", /truncated: 1,572,864 of 41,209,696 bytes/],
    ["compat/anndata/v0.5.0.h5ad", /compound table, the layout of AnnData before 0.7; open and save it/],
    ["compat/anndata/v0.7.8.h5ad", /compressed with lzf.*compression="gzip"/],
    ["compat/anndata/scvi_pbmc_5k_protein_200cells.h5ad", /compressed with lzf/],
    ["compat/anndata/v0.11.4.h5ad", /there is no X/],
    ["compat/loom/loompy_test.loom", /loom or 10x file, convert it/],
    ["compat/tenx/scanpy_3.0.0_filtered_feature_bc_matrix.h5", /loom or 10x file, convert it/],
    ["README.md", /not an HDF5 file/],
    ["no-such-file.h5ad", /does not exist/],
  ])("%s is refused", async (name, message) => {
    const read = async () => {
      const file = await openCells(`${data}${name}`);
      file.obs.index();
      return [...file.chunks()];
    };
    await expect(read()).rejects.toThrow(message);
  });

  test("what is not raw counts is not tokenized", async () => {
    const vocabulary = await readVocabulary(`${data}dictionaries/v2`);
    const input = `${data}compat/anndata/anndataR_example.h5ad`; // X is log-normalised, its genes are Gene000...
    await expect(tokenize({ inputs: [input], vocabulary, out: path("no.dataset") })).rejects.toThrow(/no ensembl_id in var/);
    await expect(buildDictionary({ inputs: [input], modelVersion: "V1", useIndex: true })).rejects.toThrow(/looks log-normalised/);
    expect(readdirSync(path("."))).not.toContain("no.dataset");
  });
});

test("a dictionary of real cells: exact medians, tokens in order of id, symbols known", async () => {
  const inputs = [`${data}cells/pbmc3k.h5ad`];
  const vocabulary = await buildDictionary({ inputs, modelVersion: "V2" });
  expect(vocabulary.size).toBe(4 + 16634); // genes with a count in some cell
  const genes = [...vocabulary.tokens.keys()].slice(4);
  expect(genes).toEqual([...genes].sort());
  expect(vocabulary.names.get("ENSG00000251562")).toBe("MALAT1");
  const file = await openCells(inputs[0]!);
  const column = file.var.column("ensembl_id").values.indexOf("ENSG00000111640");
  const totals = file.obs.column("n_counts").values as number[];
  const values: number[] = [];
  for (const { start, rows, indptr, indices, data: counts } of file.chunks()) {
    for (let r = 0; r < rows; r++) {
      for (let i = indptr[r]!; i < indptr[r + 1]!; i++) if (indices[i] === column) values.push((counts[i]! / totals[start + r]!) * 10_000);
    }
  }
  file.close();
  values.sort((a, b) => a - b);
  const middle = [values[Math.floor((values.length - 1) / 2)]!, values[Math.floor(values.length / 2)]!];
  expect(vocabulary.medians.get("ENSG00000111640")).toBe((middle[0]! + middle[1]!) / 2);
});

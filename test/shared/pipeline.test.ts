/** The whole path on real cells, command by command: counts to tokens, a model pretrained on them, its embeddings, deletions and insides. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { type Dataset, readDataset } from "../../geneformer/data/dataset.ts";
import { readSafetensors } from "../../nn/safetensors.ts";
import { results } from "../geneformer/cli/call.ts";
import { scratch } from "../geneformer/data/scratch.ts";

const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
const path = scratch();
const WIDTH = 32;
const TYPES = { "Dendritic cells": 37, Megakaryocytes: 15 };
const CELLS = 52;

/** A table without its header and its numbering. */
const rowsOf = (name: string) =>
  readFileSync(path(name), "utf8")
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((line) => line.split(",").slice(1));

describe.each([
  ["V1", "cell", 25426],
  ["V2", "cls", 20275],
] as const)("%s", (version, mode, vocabulary) => {
  const folder = (name: string) => `${version}-${name}`;
  let dataset: Dataset;
  let length = 0;
  beforeAll(async () => {
    const report = await results([
      ...[
        "tokenize",
        `${data}cells/pbmc3k.h5ad`,
        "--dictionary",
        `${data}dictionaries/${version.toLowerCase()}`,
        "--model-version",
        version,
      ],
      ...["--filter", `louvain=${Object.keys(TYPES).join(",")}`, "--attr", "louvain:cell_type", "--model-input-size", "96"],
      ...["--out", path(folder("cells.dataset"))],
    ]);
    expect(report).toMatchObject({ cells: 2700, written: CELLS, filtered: 2700 - CELLS, empty: 0 });
    dataset = await readDataset(path(folder("cells.dataset")));
    length = dataset.lengths[0];
    const trained = await results([
      ...[
        "pretrain",
        path(folder("cells.dataset")),
        "--layers",
        "2",
        "--width",
        String(WIDTH),
        "--heads",
        "2",
        "--inner",
        "48",
        "--device",
        "cpu",
      ],
      ...["--steps", "4", "--warmup", "1", "--tokens-per-batch", "512", "--save-every", "2", "--out", path(folder("model"))],
    ]);
    expect(trained.steps).toBe(4);
    // Untrained it knows nothing: the entropy of so many tokens, in nats.
    expect(Math.abs((trained.loss as number) - Math.log(vocabulary))).toBeLessThan(0.5);
  });

  test("tokens with their types", () => {
    const types = dataset.column("cell_type");
    for (const [type, count] of Object.entries(TYPES)) expect(types.filter((each) => each === type)).toHaveLength(count);
    expect(dataset.lengths.every((each) => each === 96)).toBe(true);
  });

  test("a model as Hugging Face keeps it, with the dictionary of its tokens", () => {
    expect(readdirSync(path(folder("model"))).sort()).toEqual(["config.json", "dictionary", "log.jsonl", "model.safetensors"]);
    expect(JSON.parse(readFileSync(path(`${folder("model")}/config.json`), "utf8"))).toMatchObject({
      vocab_size: vocabulary,
      hidden_size: WIDTH,
    });
    const { tensors } = readSafetensors(readFileSync(path(`${folder("model")}/model.safetensors`)));
    expect(tensors.get("bert.embeddings.word_embeddings.weight")?.shape).toEqual([vocabulary, WIDTH]);
    const steps = readFileSync(path(`${folder("model")}/log.jsonl`), "utf8").trimEnd().split("\n").map((line) => JSON.parse(line)); // biome-ignore format: one line
    expect(steps.filter(({ loss }) => loss !== undefined).map(({ step }) => step)).toEqual([1, 2, 3, 4]);
  });

  test("embeddings: a finite vector and a type for every cell", async () => {
    const out = folder("embeddings.csv");
    const report = await results([
      ...["embed", path(folder("cells.dataset")), "--model", path(folder("model")), "--label", "cell_type", "--vote", "cell_type"],
      ...["--device", "cpu", "--out", path(out)],
    ]);
    expect(report).toMatchObject({ cells: CELLS, width: WIDTH, mode, vote: { cells: CELLS, majority: TYPES["Dendritic cells"] / CELLS } });
    const rows = rowsOf(out);
    expect(rows).toHaveLength(CELLS);
    for (const row of rows) {
      expect(row).toHaveLength(WIDTH + 1);
      expect(row.slice(0, -1).every((value) => value !== "" && Number.isFinite(Number(value)))).toBe(true);
      expect(Object.keys(TYPES)).toContain(row.at(-1));
    }
    expect(new Set(rows.map((row) => row[0])).size).toBeGreaterThan(CELLS / 2);
  });

  test("deletions: a cosine below 1 for every gene of a cell, by its symbol", async () => {
    const out = folder("shifts.csv");
    const report = await results([
      ...["perturb", path(folder("cells.dataset")), "--model", path(folder("model")), "--max-cells", "1"],
      ...["--device", "cpu", "--out", path(folder("deletions"))],
    ]);
    const genes = length - (version === "V2" ? 2 : 0);
    expect(report).toMatchObject({ cells: 1, pairs: genes, mode });
    await results(["stats", path(folder("deletions")), "--out", path(out)]);
    const rows = rowsOf(out);
    const tokens = new Set([...dataset.tokens(0)].slice(version === "V2" ? 1 : 0, version === "V2" ? -1 : undefined).map(String));
    expect(new Set(rows.map(([token]) => token))).toEqual(tokens);
    for (const [, symbol, id, shift] of rows) {
      expect(id).toMatch(/^ENSG\d{11}$/);
      expect(symbol).not.toBe("");
      expect(Math.abs(Number(shift))).toBeLessThanOrEqual(1 + 1e-6);
    }
    expect(Math.min(...rows.map(([, , , shift]) => Number(shift)))).toBeLessThan(1);
  });

  test("insides of the first cells, with a loss", async () => {
    const lines = [0, 1].map((i) => {
      const genes = [...dataset.tokens(i)];
      return JSON.stringify({ input_ids: genes.with(5, 1), labels: genes.map((gene, place) => (place === 5 ? gene : -100)) });
    });
    writeFileSync(path("lines.jsonl"), lines.join("\n"));
    const out = folder("inside.safetensors");
    const report = await results([
      ...["inspect", "--model", path(folder("model")), "--tokens", path("lines.jsonl"), "--what", "hidden,attention,logits,loss,gradients"],
      ...["--device", "cpu", "--out", path(out)],
    ]);
    const { tensors } = readSafetensors(readFileSync(path(out)));
    expect(tensors.get("hidden.2.1")?.shape).toEqual([length, WIDTH]);
    expect(tensors.get("attention.2.0")?.shape).toEqual([2, length, length]);
    expect(tensors.get("logits.1")?.shape).toEqual([length, vocabulary]);
    expect(tensors.get("gradient.bert.embeddings.word_embeddings.weight")?.shape).toEqual([vocabulary, WIDTH]);
    expect(Math.abs((report.loss as number) - Math.log(vocabulary))).toBeLessThan(1);
  });
});

/** A vocabulary, a model and cells that can be learnt in seconds, in memory or as a folder: what the tests of pretraining and of the commands share. */

import { expect } from "vitest";
import { modelFiles, writeModel } from "../../geneformer/checkpoint.ts";
import type { Config } from "../../geneformer/config.ts";
import { type Dataset, writeDataset } from "../../geneformer/data/dataset.ts";
import { makeVocabulary, type Vocabulary } from "../../geneformer/data/vocabulary.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { type PretrainOptions, pretrainDefaults } from "../../geneformer/pretrain.ts";
import { freeParameters } from "../../nn/module.ts";
import { choose, type Device, use } from "../../src/device.ts";
import { Key } from "../../src/key.ts";

export const ensembl = (i: number): string => `ENSG${String(i).padStart(11, "0")}`;

/** Genes of the toy. */
export const GENES = 12;

/** The first tokens are special, the genes follow; gene 0 is called "A", gene 1 "B", ... */
export function vocabularyOf(version: "V1" | "V2", genes = GENES): Vocabulary {
  const ids = Array.from({ length: genes }, (_, i) => ensembl(i));
  const special = version === "V1" ? ["<pad>", "<mask>"] : ["<pad>", "<mask>", "<cls>", "<eos>"];
  return makeVocabulary({
    tokens: new Map([...special, ...ids].map((word, token) => [word, token])),
    medians: new Map(ids.map((id) => [id, 1])),
    mapping: new Map(),
    names: new Map(ids.map((id, i) => [id, String.fromCharCode(65 + i)])),
  });
}
export const [V1, V2] = [vocabularyOf("V1"), vocabularyOf("V2")];

/** A model for the toy. */
export const toyConfig: Config = {
  vocabulary: V2.size,
  width: 16,
  layers: 2,
  heads: 2,
  inner: 24,
  length: 20,
  activation: "relu",
  dropout: 0.1,
  attentionDropout: 0.1,
  eps: 1e-12,
  deviation: 0.1,
};

/** Two types of cells: one has its genes in order, the other in reverse. A gene follows from its rank and its company. `ends` adds <cls> and <eos>. */
export function toyCells(count: number, { ends = true, lengths = (i: number) => 5 + (i % 7) } = {}): number[][] {
  const first = ends ? 4 : 2;
  return Array.from({ length: count }, (_, i) => {
    const genes = Array.from({ length: lengths(i) }, (_, rank) => first + (i % 2 === 0 ? rank : GENES - 1 - rank));
    return ends ? [2, ...genes, 3] : genes;
  });
}

/** The dataset that a folder of these cells would be. */
export function datasetOf(cells: readonly (readonly number[])[], fingerprint = "toy", seen: (row: number) => void = () => {}): Dataset {
  const never = (): never => {
    throw new Error("pretraining reads no other columns");
  };
  return {
    directory: "toy.dataset",
    length: cells.length,
    columns: ["input_ids"],
    lengths: Int32Array.from(cells, (cell) => cell.length),
    largest: Math.max(...cells.flat()),
    fingerprint,
    tokens(row) {
      seen(row);
      return Int32Array.from(cells[row]);
    },
    column: never,
    numbers: never,
    vocabulary: async () => null,
  };
}

/** Write the cells as a folder, each with its type and its number. */
export async function writeToy(path: string, cells: readonly (readonly number[])[], vocabulary: Vocabulary | null = V2): Promise<string> {
  const fields = [
    { name: "input_ids", dtype: "int16", list: true },
    { name: "type", dtype: "string" },
    { name: "number", dtype: "int64" },
  ] as const;
  const batch = {
    input_ids: cells.map((cell) => [...cell]),
    type: cells.map((_, i) => (i % 2 === 0 ? "up" : 'down, or "reverse"')),
    number: cells.map((_, i) => i),
  };
  await writeDataset(path, fields, [batch], { force: true, ...(vocabulary && { vocabulary }) });
  return path;
}

/** Settings with which the toy is learnt quickly. */
export const settings: PretrainOptions = {
  ...pretrainDefaults,
  steps: 40,
  tokensPerBatch: 64,
  rate: 1e-2,
  warmup: 4,
  maskProbability: 0.3,
  heldOut: 0.2,
};

/** Write a random model as a folder; a device is opened for it alone. */
export async function writeRandomModel(path: string, vocabulary: Vocabulary | null = V2, config: Config = toyConfig): Promise<string> {
  await onCpu(async () => {
    const model = new Geneformer(config, Key.from(5));
    await writeModel(path, model, vocabulary, { force: true });
    freeParameters(model);
  });
  return path;
}

/** The model.safetensors of a random model, made on the current device. */
export async function randomWeights(config: Config = toyConfig): Promise<Uint8Array> {
  const model = new Geneformer(config, Key.from(5));
  const file = new Map(await modelFiles(model)).get("model.safetensors") as Uint8Array;
  freeParameters(model);
  return file;
}

/** Runs f with a toy model on the current device, and sees that f leaves as much memory held as before. */
export const usingToy =
  (device: () => Device, seed = 4) =>
  async (f: (model: Geneformer) => Promise<void>): Promise<void> => {
    const model = new Geneformer(toyConfig, Key.from(seed));
    const { live } = device().memory;
    await f(model);
    expect(device().memory.live).toBe(live);
    freeParameters(model);
  };

/** Run f with a cpu device of its own as the current one. */
export async function onCpu<T>(f: () => Promise<T>): Promise<T> {
  const { device } = await choose("cpu");
  use(device);
  try {
    return await f();
  } finally {
    use(null);
    device.close();
  }
}

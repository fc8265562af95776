/** What is measured: the works, who takes part in each, and what ours / theirs may be at most (the project's own goals). */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { huggingFaceName, valuesOf } from "../../geneformer/checkpoint.ts";
import { type Config, presets } from "../../geneformer/config.ts";
import { type Dataset, readDataset } from "../../geneformer/data/dataset.ts";
import { tokenize } from "../../geneformer/data/tokenizer.ts";
import { readVocabulary, SPECIAL } from "../../geneformer/data/vocabulary.ts";
import { maskCell } from "../../geneformer/masking.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { parameters } from "../../nn/module.ts";
import { writeSafetensors } from "../../nn/safetensors.ts";
import { choose, type DeviceName, withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import type { inNode, inPage } from "./openers.ts";
import { type Inputs, packInputs, type Task, type Train } from "./task.ts";

/** Who takes part, and where: an opener of inNode, or PyTorch; ours has one more with another number of threads, where peers have one only. */
export interface Entrant {
  readonly name: string;
  readonly opener: keyof typeof inNode | "torch";
  readonly threads: number;
  readonly atMost?: number;
}

export interface Work {
  /** What a filter on the command line looks for. */
  readonly title: string;
  readonly task: Task;
  /** Tokens of each cell, where they are real; else they are drawn. */
  readonly cells?: readonly ArrayLike<number>[];
  /** Half an hour a round: only when asked for by name. */
  readonly long?: boolean;
  /** Ours first. */
  readonly entrants: readonly Entrant[];
}

const OURS = "geneformer-ts";
const V1 = presets["V1-10M"];
/** A model that a peer without a vocabulary's worth of memory can train in a browser. */
const TINY: Config = { ...V1, vocabulary: 2000, width: 128, layers: 2, heads: 2, inner: 256, length: 256 };

const product = (m: number, n: number, k: number): Work => ({
  title: `matmul ${m} x ${n} x ${k}, f32, one thread`,
  task: { kind: "matmul", m, n, k },
  entrants: [
    { name: OURS, opener: "ours", threads: 1 },
    { name: "tfjs wasm", opener: "tfjs", threads: 1, atMost: 0.75 },
    { name: "jax-js wasm", opener: "jax", threads: 1 },
    { name: "gpu.js", opener: "gpu.js", threads: 1 },
    { name: "onnxruntime-web wasm", opener: "ort-web", threads: 1 },
    { name: "PyTorch", opener: "torch", threads: 1 },
  ],
});

const forward = (cells: number, length: number): Work => ({
  title: `encoder forward V1-10M, ${cells} x ${length}, 2 threads`,
  task: { kind: "encode", config: V1, lengths: new Array<number>(cells).fill(length) },
  entrants: [
    { name: OURS, opener: "ours", threads: 2 },
    { name: "onnxruntime-web wasm", opener: "ort-web", threads: 2, atMost: 0.65 },
    { name: "onnxruntime-web wasm, its attention", opener: "ort-web-fused", threads: 2, atMost: 0.65 },
    { name: "onnxruntime-node", opener: "ort-node", threads: 2, atMost: 1.3 },
    { name: "onnxruntime-node, its attention", opener: "ort-node-fused", threads: 2, atMost: 1.3 },
    { name: "PyTorch", opener: "torch", threads: 2, atMost: 1.5 },
  ],
});

const training = (title: string, lengths: readonly number[], atMost: number, cells?: readonly ArrayLike<number>[]): Work => ({
  title,
  task: { kind: "train", config: V1, lengths },
  cells,
  entrants: [
    { name: OURS, opener: "ours", threads: 2 },
    { name: "PyTorch", opener: "torch", threads: 2, atMost },
  ],
});

/** Of the tiny model every place is asked for: the work is the same for who gathers places and for who does not. */
const tiny: Work = {
  title: "training step, 2 layers of 128, 2 x 256, all logits of 2000",
  task: { kind: "train", config: TINY, lengths: [256, 256] },
  entrants: [
    { name: OURS, opener: "ours", threads: 2 },
    { name: `${OURS}, one thread`, opener: "ours", threads: 1 },
    { name: "jax-js wasm", opener: "jax", threads: 2, atMost: 0.5 },
    { name: "tfjs wasm", opener: "tfjs", threads: 2, atMost: 0.5 },
    { name: "PyTorch", opener: "torch", threads: 2 },
  ],
};

/** Deletions of every gene of real cells, against the original's procedure. */
const deletions = (cells: readonly ArrayLike<number>[], each: number): Work => {
  const lengths = cells.map(({ length }) => length);
  const range = `${Math.min(...lengths)} to ${Math.max(...lengths)} genes`;
  const what = Number.isFinite(each) ? `${each} genes` : "every gene";
  return {
    title: `perturb V1-10M: ${what} of each of 5 cells of pbmc3k (${range}) deleted, shifts to two states, 2 threads`,
    long: !Number.isFinite(each),
    task: { kind: "perturb", config: V1, lengths, deletions: Number.isFinite(each) ? each : V1.length, mode: "cell" },
    cells,
    entrants: [
      { name: OURS, opener: "ours", threads: 2 },
      { name: "PyTorch", opener: "torch", threads: 2, atMost: 0.5 },
    ],
  };
};

/** Of random cells this many are masked: a share, at fixed distances. */
const SHARE = 0.15;
const CELLS = 16;

/** Everything that is measured in Node. @param scratch a folder for tokenised cells. */
export async function works(scratch: string): Promise<Work[]> {
  const collections = await realCells(scratch);
  return [
    product(512, 512, 512),
    product(2048, 256, 1024),
    forward(1, 2048),
    forward(4, 512),
    training("training step V1-10M, 4 x 512, 15 % masked, 2 threads", [512, 512, 512, 512], 0.6),
    ...collections.map(({ name, cells }) => {
      const lengths = cells.map(({ length }) => length);
      const range = `${Math.min(...lengths)} to ${Math.max(...lengths)} tokens`;
      return training(`training step V1-10M, 16 cells of ${name} (${range}), theirs padded, 2 threads`, lengths, 0.4, cells);
    }),
    tiny,
    ...collections.flatMap(({ name, dataset }) =>
      name === "pbmc3k" ? [50, Number.POSITIVE_INFINITY].map((each) => deletions(cellsOfAbout(500, dataset), each)) : [],
    ),
  ];
}

/** The five cells whose numbers of genes are nearest. */
function cellsOfAbout(genes: number, { lengths, tokens }: Dataset): Int32Array[] {
  const rows = [...lengths.keys()].sort((a, b) => Math.abs(lengths[a] - genes) - Math.abs(lengths[b] - genes) || a - b);
  return rows.slice(0, 5).map(tokens);
}

/** Forward passes of growing length, for a curve. */
export const lengths = [128, 256, 512, 1024, 2048] as const;
export const forwardAt = (length: number): Work => forward(1, length);

/** What a page on a software adapter can do in reasonable time: for information only. */
export const pageWorks: readonly { readonly title: string; readonly task: Task; readonly entrants: readonly (keyof typeof inPage)[] }[] = [
  {
    title: "WebGPU: matmul 256 x 256 x 256",
    task: { kind: "matmul", m: 256, n: 256, k: 256 },
    entrants: ["ours", "tfjs", "ort-web", "jax"],
  },
  {
    title: "WebGPU: attention, 1 x 256, 2 heads of 64",
    task: { kind: "attention", length: 256, heads: 2, width: 64 },
    entrants: ["ours", "tfjs", "ort-web", "jax"],
  },
  {
    title: "WebGPU: training step, 2 layers of 128, 2 x 64, all logits of 500",
    task: { kind: "train", config: { ...TINY, vocabulary: 500, length: 64 }, lengths: [64, 64] },
    entrants: ["ours", "tfjs", "jax"],
  },
];

/** Sixteen cells of each collection that lies beside the checkout; V1's model is 2,048 tokens long, V2's cells are cut there. */
async function realCells(scratch: string): Promise<{ name: string; dataset: Dataset; cells: Int32Array[] }[]> {
  const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
  const found: { name: string; folder: string }[] = [];
  const covid = `${data}tokenized/covid_monocytes.dataset`;
  if (existsSync(covid)) found.push({ name: "covid_monocytes", folder: covid });
  const pbmc = `${data}cells/pbmc3k.h5ad`;
  if (existsSync(pbmc)) {
    const folder = `${scratch}/pbmc3k.dataset`;
    await tokenize({ inputs: [pbmc], vocabulary: await readVocabulary(`${data}dictionaries/v1`), out: folder });
    found.push({ name: "pbmc3k", folder });
  }
  return Promise.all(
    found.map(async ({ name, folder }) => {
      const dataset = await readDataset(folder);
      const rows = Key.from(0).permutation(dataset.length).subarray(0, CELLS);
      return { name, dataset, cells: Array.from(rows, (row) => dataset.tokens(row).slice(0, V1.length)) };
    }),
  );
}

/** Write what all contenders of a work are given: task.json, inputs.safetensors, and model.safetensors under Hugging Face's names. */
export async function prepareFolder(
  folder: string,
  task: Task,
  cells?: readonly ArrayLike<number>[],
  device: DeviceName = "cpu",
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/task.json`, JSON.stringify(task));
  writeFileSync(`${folder}/inputs.safetensors`, packInputs(inputsOf(task, cells)));
  writeFileSync(`${folder}/model.safetensors`, "config" in task ? await randomWeights(task.config, device) : new Uint8Array());
}

function inputsOf(task: Task, cells?: readonly ArrayLike<number>[]): Inputs {
  const key = Key.from(1);
  const normals = (site: number, length: number) => Float32Array.from(key.fold(site).normals(length));
  if (task.kind === "matmul") return { a: normals(0, task.m * task.k), b: normals(1, task.k * task.n) };
  if (task.kind === "attention") {
    const size = task.length * task.heads * task.width;
    return { q: normals(0, size), k: normals(1, size), v: normals(2, size) };
  }
  const { vocabulary } = task.config;
  const drawn = (length: number, cell: number) =>
    key
      .fold(cell)
      .uniforms(length)
      .map((u) => SPECIAL.length + Math.floor(u * (vocabulary - SPECIAL.length)));
  const given = cells ?? task.lengths.map(drawn);
  if (task.kind === "perturb")
    return { tokens: Int32Array.from(given.flatMap((cell) => [...Array.from(cell)])), states: normals(0, 2 * task.config.width) };
  return task.kind === "encode" ? { tokens: Int32Array.from(given.flatMap((cell) => [...Array.from(cell)])) } : asked(task, given, key);
}

/** Cells with genes hidden, and what stood there. Of a tiny vocabulary all places are asked for. */
function asked({ config }: Train, cells: readonly ArrayLike<number>[], key: Key): Inputs {
  const all = config.vocabulary < V1.vocabulary;
  const options = { probability: SHARE, mask: 1, vocabulary: config.vocabulary, never: new Set([0, 1]) };
  const [tokens, places, labels]: number[][] = [[], [], []];
  cells.forEach((cell, c) => {
    const masked = maskCell(cell, key.fold(1000 + c), options);
    const chosen = all ? Array.from(cell, (_, i) => i) : masked.places;
    places.push(...chosen.map((place) => tokens.length + place));
    labels.push(...chosen.map((place) => cell[place]));
    tokens.push(...masked.tokens);
  });
  return { tokens: Int32Array.from(tokens), places: Int32Array.from(places), labels: Int32Array.from(labels) };
}

/** Deviation of the weights: large enough that attention attends, and that no bias or norm could be left out unseen. */
const DEVIATION = 0.05;

/** A model drawn from a seed, its biases and norms too. @param on the device to draw it on: the numbers are the same on all. */
async function randomWeights(config: Config, on: DeviceName): Promise<Uint8Array> {
  const { device } = await choose(on, { threads: 1 });
  const named = withDevice(device, () => [...parameters(new Geneformer({ ...config, deviation: DEVIATION }, Key.from(0)))]);
  const values = await valuesOf(named.map(([name, t]) => [huggingFaceName(name), t] as const));
  const noise = Key.from(2);
  const file = writeSafetensors(
    values.map(([name, { shape, data }], i) => {
      if (shape.length > 1) return [name, { shape, data }];
      const drawn = noise.fold(i).normals(data.length);
      return [name, { shape, data: Float32Array.from(data, (value, j) => value + DEVIATION * drawn[j]) }];
    }),
  );
  device.close();
  return file;
}

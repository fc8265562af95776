/** Checkpoints as Hugging Face keeps them: config.json and the weights, under the names of BertForMaskedLM. */

import { freeParameters, parameters, valuesOf } from "../nn/module.ts";
import {
  floats,
  openSafetensors,
  openSharded,
  readSafetensors,
  type SafeInfo,
  type SafeTensor,
  streamSafetensors,
  type Weights,
  writeSafetensors,
} from "../nn/safetensors.ts";
import { openTorchWeights } from "../nn/torch.ts";
import { show } from "../src/shape.ts";
import type { Tensor } from "../src/tensor.ts";
import { type Config, configFromHuggingFace, configToHuggingFace } from "./config.ts";
import { DICTIONARY, hasVocabulary, readVocabulary, type Vocabulary, writeVocabulary } from "./data/vocabulary.ts";
import { digest, exists, fileSource, readJson, writeFolderWhole, writeWhole } from "./files.ts";
import { Geneformer } from "./model.ts";

/** Beginnings of our names and of theirs; {i} is a layer's number. What follows, ".weight" or ".bias", is the same. */
const NAMES: readonly (readonly [ours: string, theirs: string])[] = [
  ["embeddings.word", "bert.embeddings.word_embeddings"],
  ["embeddings.position", "bert.embeddings.position_embeddings"],
  ["embeddings.type", "bert.embeddings.token_type_embeddings"],
  ["embeddings.norm", "bert.embeddings.LayerNorm"],
  ["layers.{i}.query", "bert.encoder.layer.{i}.attention.self.query"],
  ["layers.{i}.key", "bert.encoder.layer.{i}.attention.self.key"],
  ["layers.{i}.value", "bert.encoder.layer.{i}.attention.self.value"],
  ["layers.{i}.output", "bert.encoder.layer.{i}.attention.output.dense"],
  ["layers.{i}.norm1", "bert.encoder.layer.{i}.attention.output.LayerNorm"],
  ["layers.{i}.up", "bert.encoder.layer.{i}.intermediate.dense"],
  ["layers.{i}.down", "bert.encoder.layer.{i}.output.dense"],
  ["layers.{i}.norm2", "bert.encoder.layer.{i}.output.LayerNorm"],
  ["head.dense", "cls.predictions.transform.dense"],
  ["head.norm", "cls.predictions.transform.LayerNorm"],
  ["head", "cls.predictions"],
];

/** Copies of tied tensors that some files hold, and what each must equal. */
const TIED: Readonly<Record<string, string>> = {
  "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
  "cls.predictions.decoder.bias": "cls.predictions.bias",
};
/** Not a weight: 0, 1, 2, ... in old files. */
const POSITION_IDS = "bert.embeddings.position_ids";

function translate(name: string, from: 0 | 1): string | null {
  const layer = name.match(/\blayers?\.(\d+)\./)?.[1] ?? "";
  const end = name.lastIndexOf(".");
  const found = NAMES.find((pair) => pair[from].replace("{i}", layer) === name.slice(0, end));
  return found ? found[1 - from].replace("{i}", layer) + name.slice(end) : null;
}

/** The Hugging Face name of one of our parameters. */
export function huggingFaceName(ours: string): string {
  const theirs = translate(ours, 0);
  if (theirs === null)
    throw new Error(`checkpoint: "${ours}" has no Hugging Face name${/\.lora_[AB]\./.test(ours) ? "; mergeLora(model) first" : ""}`);
  return theirs;
}

/** Our name of a Hugging Face tensor; null where BertForMaskedLM has none such. */
export const ourName = (theirs: string): string | null => translate(theirs, 1);

export interface ReadOptions {
  /** Is a file without the masked-language-model head good enough (for embeddings), one with a classifier's, and BertModel's, which has none? Default false: all are errors. */
  readonly encoderOnly?: boolean;
}

/** The head of another task, which an encoder can be used without. */
const OTHER_HEAD = /^(bert\.pooler|classifier|cls\.seq_relationship)\./;

/** What BertModel, an encoder without any head, calls its parts: as others do, but without "bert." before them. */
const BARE = /^(embeddings|encoder|pooler)\./;

/** The weights that a folder may hold; the first that is there is read. */
const WEIGHTS: Readonly<Record<string, (path: string, directory: string) => Promise<Weights>>> = {
  "model.safetensors": async (path) => openSafetensors(await fileSource(path)),
  "model.safetensors.index.json": async (path, directory) => {
    const open = async (shard: string) => openSafetensors(await fileSource(`${directory}/${shard}`));
    return openSharded(await readJson(path), open, path);
  },
  "pytorch_model.bin": async (path) => openTorchWeights(await fileSource(path)),
};

/** The weights in a folder: whole, in shards, or as older checkpoints have them. @throws Error naming all three where none is there. */
export async function openWeights(directory: string): Promise<Weights> {
  for (const [file, open] of Object.entries(WEIGHTS))
    if (await exists(`${directory}/${file}`)) return open(`${directory}/${file}`, directory);
  throw new Error(
    `checkpoint: "${directory}" has none of ${Object.keys(WEIGHTS).join(", ")}; give a folder with config.json and one of them`,
  );
}

/** SHA-256 of the file that a model's weights are read from: which model it is, wherever it lies. */
export async function modelDigest(directory: string): Promise<string> {
  for (const file of Object.keys(WEIGHTS)) if (await exists(`${directory}/${file}`)) return digest(`${directory}/${file}`);
  throw new Error(`checkpoint: "${directory}" has none of ${Object.keys(WEIGHTS).join(", ")}`);
}

/**
 * Load a model from Hugging Face's files, onto the current device. Of the weights one tensor at a time is in memory beside the model
 * (two where a tied copy is compared).
 * @throws TypeError naming the tensors that are unknown, missing or misshapen.
 */
export async function readModel(directory: string, options: ReadOptions = {}): Promise<Geneformer> {
  const path = `${directory}/config.json`;
  if (!(await exists(path)))
    throw new Error(`checkpoint: "${directory}" has no config.json; give a folder with config.json and model.safetensors`);
  const config = configFromHuggingFace(await readJson(path), path);
  return modelFromWeights(await openWeights(directory), config, options);
}

/** The same from an opened checkpoint: what a page has of a chosen file, openSafetensors(blobSource(file)). */
export async function modelFromWeights(weights: Weights, config: Config, options: ReadOptions = {}): Promise<Geneformer> {
  const model = modelFor(weights.index, config, weights.name);
  try {
    for (const [theirs, take] of steps(model, weights.index, options, weights.name)) take(await weights.tensor(theirs));
    return model;
  } catch (error) {
    freeParameters(model);
    throw error;
  }
}

/** The same from the bytes of a file. */
export function modelFromSafetensors(
  file: Uint8Array,
  config: Config,
  { name: path = "model.safetensors", ...options }: ReadOptions & { name?: string } = {},
): Geneformer {
  const { tensors } = readSafetensors(file, path);
  const model = modelFor(tensors, config, path);
  try {
    for (const [theirs, take] of steps(model, tensors, options, path)) take(tensors.get(theirs)!);
    return model;
  } catch (error) {
    freeParameters(model);
    throw error;
  }
}

type Index = ReadonlyMap<string, SafeInfo>;

/** A model without values, once the sizes in config.json have been held against the file: a line there could ask for a billion layers. */
function modelFor(index: Index, config: Config, path: string): Geneformer {
  if (index.size < config.layers)
    throw new TypeError(`checkpoint: config.json has ${config.layers} layers, ${path} but ${index.size} tensors; do they belong together?`);
  const word = huggingFaceName("embeddings.word.weight");
  const words = index.get(word);
  if (words && show(words.shape) !== show([config.vocabulary, config.width]))
    throw new TypeError(
      `checkpoint: "${word}" is ${show(words.shape)} in ${path}, but config.json makes it ${show([config.vocabulary, config.width])}`,
    );
  return new Geneformer(config, null);
}

type Step = readonly [theirs: string, take: (tensor: SafeTensor) => void];

/** What to do with the tensors of a file, in this order. Every name and shape is checked before the first is asked for. */
function steps(model: Geneformer, index: Index, { encoderOnly = false }: ReadOptions, path: string): Step[] {
  const { config } = model;
  const wanted = new Map(parameters(model));
  const all: Step[] = [];
  for (const [theirs, { shape }] of index) {
    const name = encoderOnly && BARE.test(theirs) ? `bert.${theirs}` : theirs;
    if (Object.hasOwn(TIED, name) || name === POSITION_IDS || (encoderOnly && OTHER_HEAD.test(name))) continue;
    const ours = ourName(name);
    const parameter = ours === null ? undefined : wanted.get(ours);
    if (ours === null || !parameter)
      throw new TypeError(
        `checkpoint: "${theirs}" is in ${path} but not in the model (${config.layers} layers, width ${config.width}); does config.json belong to it?`,
      );
    if (show(parameter.shape) !== show(shape))
      throw new TypeError(`checkpoint: "${theirs}" is ${show(shape)} in ${path}, but config.json makes it ${show(parameter.shape)}`);
    wanted.delete(ours);
    all.push([theirs, (tensor) => parameter.write(floats(tensor, theirs))], ...tiedSteps(theirs, index, path));
  }
  for (const [ours, parameter] of wanted) {
    if (!(encoderOnly && ours.startsWith("head.")))
      throw new TypeError(
        `checkpoint: "${huggingFaceName(ours)}" ${show(parameter.shape)} is missing from ${path} (${index.size} tensors)`,
      );
    parameter.write(new Float32Array(parameter.size));
  }
  return all;
}

/** Hold the copies that a file has of a tied tensor against the original, which is read once more for it. */
function tiedSteps(original: string, index: Index, path: string): Step[] {
  const copies = Object.keys(TIED).filter((copy) => TIED[copy] === original && index.has(copy));
  return copies.flatMap((copy): Step[] => {
    let kept: SafeTensor | null = null;
    const keep = (tensor: SafeTensor) => {
      kept = tensor;
    };
    const compare = (tensor: SafeTensor) => {
      const same = kept?.dtype === tensor.dtype && sameBytes(kept.bytes, tensor.bytes);
      kept = null; // the list of steps outlives it
      if (!same)
        throw new TypeError(`checkpoint: "${copy}" differs from "${original}" in ${path}; Geneformer's decoder is tied to its embeddings`);
    };
    return [
      [original, keep],
      [copy, compare],
    ];
  });
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

export { valuesOf };

/** The parameters under Hugging Face's names, sorted. */
const named = (model: Geneformer): [string, Tensor][] =>
  [...parameters(model)].map(([ours, t]): [string, Tensor] => [huggingFaceName(ours), t]).sort(([a], [b]) => (a < b ? -1 : 1));

const configText = (model: Geneformer): string => `${JSON.stringify(configToHuggingFace(model.config), null, 2)}\n`;

/** The model's files, as [name, content], all in memory: for a page, or to be written together with others. */
export async function modelFiles(model: Geneformer): Promise<[string, string | Uint8Array][]> {
  return [
    ["config.json", configText(model)],
    ["model.safetensors", writeSafetensors(await valuesOf(named(model)))],
  ];
}

/**
 * Write a folder that Hugging Face's BertForMaskedLM.from_pretrained reads, with the dictionary its tokens were made with beside it.
 * Of the weights one tensor at a time is in memory beside the model.
 */
export async function writeModel(
  directory: string,
  model: Geneformer,
  vocabulary: Vocabulary | null,
  { force = false } = {},
): Promise<void> {
  const promised = named(model).map(([name, t]) => [name, { shape: t.shape, data: () => t.data() }] as const);
  await writeFolderWhole(
    directory,
    async (folder) => {
      await writeWhole(`${folder}/config.json`, configText(model));
      await writeWhole(`${folder}/model.safetensors`, streamSafetensors(promised));
      if (vocabulary) await writeVocabulary(vocabulary, `${folder}/${DICTIONARY}`);
    },
    { force, mark: ["config.json"] },
  );
}

/** The dictionary beside a model, or null. */
export const modelVocabulary = async (directory: string): Promise<Vocabulary | null> =>
  (await hasVocabulary(`${directory}/${DICTIONARY}`)) ? readVocabulary(`${directory}/${DICTIONARY}`) : null;

/** Checkpoints as Hugging Face keeps them: config.json and model.safetensors, under the names of BertForMaskedLM. */

import { freeParameters, load, parameters, type Stored } from "../nn/module.ts";
import { floats, readSafetensors, type SafeTensor, writeSafetensors } from "../nn/safetensors.ts";
import { show } from "../src/shape.ts";
import type { Tensor } from "../src/tensor.ts";
import { type Config, configFromHuggingFace, configToHuggingFace } from "./config.ts";
import { DICTIONARY, hasVocabulary, readVocabulary, type Vocabulary, writeVocabulary } from "./data/vocabulary.ts";
import { exists, readFile, readJson, writeFolderWhole, writeWhole } from "./files.ts";
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
  if (theirs === null) throw new Error(`checkpoint: "${ours}" has no Hugging Face name`);
  return theirs;
}

/** Our name of a Hugging Face tensor; null where BertForMaskedLM has none such. */
export const ourName = (theirs: string): string | null => translate(theirs, 1);

export interface ReadOptions {
  /** Is a file without the masked-language-model head good enough (for embeddings), and one with a classifier's? Default false: both are errors. */
  readonly encoderOnly?: boolean;
}

/** The head of another task, which an encoder can be used without. */
const OTHER_HEAD = /^(bert\.pooler|classifier|cls\.seq_relationship)\./;

/**
 * Load a model from Hugging Face's files, onto the current device.
 * @throws TypeError naming the tensors that are unknown, missing or misshapen.
 */
export async function readModel(directory: string, options: ReadOptions = {}): Promise<Geneformer> {
  const path = `${directory}/config.json`;
  if (!(await exists(path)))
    throw new Error(`checkpoint: "${directory}" has no config.json; give a folder with config.json and model.safetensors`);
  const config = configFromHuggingFace(await readJson(path), path);
  return modelFromSafetensors(await readFile(`${directory}/model.safetensors`), config, {
    ...options,
    name: `${directory}/model.safetensors`,
  });
}

/** The same from bytes: what a page has. */
export function modelFromSafetensors(
  file: Uint8Array,
  config: Config,
  { encoderOnly = false, name: path = "model.safetensors" }: ReadOptions & { name?: string } = {},
): Geneformer {
  const { tensors } = readSafetensors(file, path);
  if (tensors.size < config.layers)
    // before a model of a billion layers is made of a line in config.json
    throw new TypeError(
      `checkpoint: config.json has ${config.layers} layers, ${path} but ${tensors.size} tensors; do they belong together?`,
    );
  const words = tensors.get(huggingFaceName("embeddings.word.weight"));
  if (words && show(words.shape) !== show([config.vocabulary, config.width]))
    throw new TypeError(
      `checkpoint: "${huggingFaceName("embeddings.word.weight")}" is ${show(words.shape)} in ${path}, but config.json makes it ${show([config.vocabulary, config.width])}`,
    );
  const model = new Geneformer(config, null);
  try {
    load(model, valuesFor(model, tensors, encoderOnly, path), "checkpoint");
    return model;
  } catch (error) {
    freeParameters(model);
    throw error;
  }
}

/** A file's tensors under our names, each checked against the parameter it is for. */
function valuesFor(model: Geneformer, tensors: ReadonlyMap<string, SafeTensor>, encoderOnly: boolean, path: string): Map<string, Stored> {
  const { config } = model;
  const wanted = new Map(parameters(model));
  const values = new Map<string, Stored>();
  for (const [theirs, value] of tensors) {
    const tied = TIED[theirs];
    if (tied) {
      const original = tensors.get(tied);
      if (original && (original.dtype !== value.dtype || !sameBytes(original.bytes, value.bytes)))
        throw new TypeError(`checkpoint: "${theirs}" differs from "${tied}" in ${path}; Geneformer's decoder is tied to its embeddings`);
      continue;
    }
    if (theirs === POSITION_IDS || (encoderOnly && OTHER_HEAD.test(theirs))) continue;
    const ours = ourName(theirs);
    const parameter = ours === null ? undefined : wanted.get(ours);
    if (ours === null || !parameter)
      throw new TypeError(
        `checkpoint: "${theirs}" is in ${path} but not in the model (${config.layers} layers, width ${config.width}); does config.json belong to it?`,
      );
    if (show(parameter.shape) !== show(value.shape))
      throw new TypeError(`checkpoint: "${theirs}" is ${show(value.shape)} in ${path}, but config.json makes it ${show(parameter.shape)}`);
    values.set(ours, { shape: value.shape, data: floats(value, theirs) });
  }
  for (const [ours, parameter] of wanted) {
    if (values.has(ours)) continue;
    if (!(encoderOnly && ours.startsWith("head.")))
      throw new TypeError(
        `checkpoint: "${huggingFaceName(ours)}" ${show(parameter.shape)} is missing from ${path} (${tensors.size} tensors)`,
      );
    values.set(ours, { shape: parameter.shape, data: new Float32Array(parameter.size) });
  }
  return values;
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Values of tensors, read from their device. */
export async function valuesOf(
  tensors: Iterable<readonly [string, Tensor]>,
): Promise<[string, { shape: readonly number[]; data: Float32Array }][]> {
  const values: [string, { shape: readonly number[]; data: Float32Array }][] = [];
  for (const [name, t] of tensors) values.push([name, { shape: t.shape, data: Float32Array.from(await t.data()) }]);
  return values;
}

/** The model's files, as [name, content]. */
export async function modelFiles(model: Geneformer): Promise<[string, string | Uint8Array][]> {
  const named = [...parameters(model)].map(([ours, t]) => [huggingFaceName(ours), t] as const).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    ["config.json", `${JSON.stringify(configToHuggingFace(model.config), null, 2)}\n`],
    ["model.safetensors", writeSafetensors(await valuesOf(named))],
  ];
}

/** Write a folder that Hugging Face's BertForMaskedLM.from_pretrained reads, with the dictionary its tokens were made with beside it. */
export async function writeModel(
  directory: string,
  model: Geneformer,
  vocabulary: Vocabulary | null,
  { force = false } = {},
): Promise<void> {
  const files = await modelFiles(model);
  await writeFolderWhole(
    directory,
    async (folder) => {
      for (const [name, content] of files) await writeWhole(`${folder}/${name}`, content);
      if (vocabulary) await writeVocabulary(vocabulary, `${folder}/${DICTIONARY}`);
    },
    { force, mark: ["config.json"] },
  );
}

/** The dictionary beside a model, or null. */
export const modelVocabulary = async (directory: string): Promise<Vocabulary | null> =>
  (await hasVocabulary(`${directory}/${DICTIONARY}`)) ? readVocabulary(`${directory}/${DICTIONARY}`) : null;

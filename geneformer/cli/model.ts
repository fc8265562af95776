/** What commands that run a model on cells share: the device, the model, the cells, and whether they belong together. */

import { Option } from "commander";
import { calibrate, fileStore } from "../../src/calibrate.ts";
import { choose, type Device, type DeviceName, use } from "../../src/device.ts";
import { modelVocabulary, type ReadOptions, readModel } from "../checkpoint.ts";
import { type Dataset, readDataset } from "../data/dataset.ts";
import { readVocabulary, type Vocabulary } from "../data/vocabulary.ts";
import { type EmbeddingMode, type Ends, endsOf } from "../embed.ts";
import type { Geneformer } from "../model.ts";
import type { Precision } from "../pretrain.ts";
import { type Context, integer } from "./command.ts";

/** The options of every command that opens a device. */
export interface DeviceOptions {
  device: "auto" | DeviceName;
  precision?: Precision;
  /** A file that a calibration was kept in. */
  calibration?: string;
}

/** Open the device asked for, take what was calibrated on it, and say which it became. */
export async function openDevice({ device: name, precision = "f32", calibration }: DeviceOptions, { say }: Context): Promise<Device> {
  const { device, reason } = await choose(name, { precision });
  if (calibration && device.choices) await calibrate(device, { problems: [], store: fileStore(calibration), warn: say });
  const details = [
    `device: ${device.name}, ${device.description}${name === "auto" ? ` (${reason})` : ""}`,
    ...(precision === "mixed" ? [`mixed precision${effectOn(device)}`] : []),
    ...(calibration && device.choices ? [`${Object.keys(device.choices.table.tried).length} kinds of problems calibrated`] : []),
  ];
  say(details.join("; "));
  return use(device);
}

/** What comes of mixed precision on a device, where nothing does. */
function effectOn({ name, choices }: Device): string {
  if (!choices) return `, of which ${name} makes no use: it rounds nothing to f16`;
  return choices.abilities.features.has("shader-f16") ? "" : ", of which nothing comes: this adapter has no shader-f16";
}

/** The options of every command that runs a model on a dataset and writes a table. */
export interface ModelOptions extends DeviceOptions {
  model: string;
  layer: number;
  mode?: EmbeddingMode;
  maxCells?: number;
  dictionary?: string;
  tokensPerBatch: number;
  out: string;
  force: boolean;
}

export interface Opened {
  readonly model: Geneformer;
  readonly dataset: Dataset;
  /** The dictionary of the cells, or the model's; null where neither folder has one. */
  readonly vocabulary: Vocabulary | null;
  readonly ends: Ends;
}

/**
 * Load a model, and cells it can read.
 * @param dictionary a folder to take names from, where neither model nor dataset has one.
 * @throws Error when the cells hold tokens or are longer than the model has, or when the two dictionaries differ.
 */
export async function openModel(
  directory: string,
  cells: string,
  dictionary: string | undefined,
  options: ReadOptions = { encoderOnly: true },
): Promise<Opened> {
  if (/\.h5ad$/.test(cells))
    throw new Error(`"${cells}" holds counts; tokenize it first: geneformer tokenize ${cells} --dictionary DIR --out cells.dataset`);
  const dataset = await readDataset(cells);
  const model = await readModel(directory, options);
  const { config } = model;
  if (dataset.largest >= config.vocabulary)
    throw new Error(
      `token ${dataset.largest} of "${cells}" is beyond the vocabulary of ${config.vocabulary} of "${directory}"; tokenize the cells with the model's dictionary`,
    );
  const longest = dataset.lengths.reduce((a, b) => Math.max(a, b), 0);
  if (longest > config.length)
    throw new Error(
      `the longest cell of "${cells}" has ${longest} tokens, the model of "${directory}" places for ${config.length}; tokenize with --model-input-size ${config.length}`,
    );
  const [own, models] = [await dataset.vocabulary(), await modelVocabulary(directory)];
  if (own && models && !sameTokens(own, models))
    throw new Error(
      `"${cells}" was tokenized with another dictionary than "${directory}" was trained with; tokenize it with ${directory}/dictionary`,
    );
  const vocabulary = dictionary ? await readVocabulary(dictionary) : (own ?? models);
  const ends = endsOf(rowsOf(dataset), vocabulary?.modelVersion ?? null);
  return { model, dataset, vocabulary, ends };
}

function* rowsOf(dataset: Dataset): Generator<ArrayLike<number>> {
  for (let i = 0; i < dataset.length; i++) yield dataset.tokens(i);
}

const sameTokens = (a: Vocabulary, b: Vocabulary): boolean =>
  a.size === b.size && [...a.tokens].every(([word, token]) => b.tokens.get(word) === token);

/** `--layer`, whose output is read. */
export const layer = (): Option =>
  new Option("--layer <number>", "0 the last layer, -1 the one before it, and so on").argParser(integer(-1000, 0)).default(-1);

/** `--dictionary`, what tokens are called. */
export const dictionary = (): Option =>
  new Option("--dictionary <folder>", "the dictionary of the cells, where neither dataset nor model has one beside it");

/** Where the tokens of a batch end by default: fits a laptop's memory, and fills a small GPU. */
export const TOKENS_PER_BATCH = 8192;

/** `--tokens-per-batch`, which memory sets. */
export const tokensPerBatch = (): Option =>
  new Option("--tokens-per-batch <number>", "tokens that run together at most").argParser(integer(1)).default(TOKENS_PER_BATCH);

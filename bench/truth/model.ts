/** A small model pretrained into a folder, or the one that lies there already from the same cells and settings; and the same model untrained. */

import { type Config, configToHuggingFace } from "../../geneformer/config.ts";
import { type Dataset, readDataset } from "../../geneformer/data/dataset.ts";
import type { Vocabulary } from "../../geneformer/data/vocabulary.ts";
import { exists, readText } from "../../geneformer/files.ts";
import { Geneformer, type PretrainOptions, presets, pretrain, readModel } from "../../geneformer/index.ts";
import { Key } from "../../src/key.ts";

/** What a bench trains with: everything that changes the outcome. */
export interface Training {
  readonly config: Config;
  readonly options: PretrainOptions;
}

/** What the log of a training says. */
export interface Course {
  readonly steps: number;
  readonly tokens: number;
  readonly seconds: number;
  /** Cells trained on, and how often each was read, on average. */
  readonly epochs: number;
  /** Nats: on held-out cells at the end; and what how common genes are, and rank and gene, give. */
  readonly heldOut: number;
  readonly untrained: number;
  readonly unigram: number;
  readonly rank: number;
}

/** A model of V1's kind, cut down to what two cores train in minutes. */
export const small = (vocabulary: number, length: number): Config => ({
  ...presets["V1-10M"],
  ...{ vocabulary, length, layers: 3, width: 128, heads: 4, inner: 256 },
});

/** What a log says first: settings, sizes, cells. */
const headOf = ({ config, options }: Training, { fingerprint }: Dataset) =>
  JSON.stringify({ ...options, config: configToHuggingFace(config), fingerprint });

/** Is there a finished training in the folder, of these settings and cells? */
async function finished(folder: string, training: Training, dataset: Dataset): Promise<boolean> {
  if (!(await exists(`${folder}/model.safetensors`))) return false;
  const { baselines: _, ...head } = JSON.parse((await readText(`${folder}/log.jsonl`)).split("\n", 1)[0]) as Record<string, unknown>;
  return JSON.stringify(head) === headOf(training, dataset);
}

/** Train into the folder, unless that was done; a training that was broken off goes on. What is there of other settings is replaced. */
export async function trained(
  dataset: Dataset,
  vocabulary: Vocabulary,
  training: Training,
  folder: string,
  say: (line: string) => void,
): Promise<{ readonly model: Geneformer; readonly course: Course }> {
  if (!(await finished(folder, training, dataset))) {
    const { config, options } = training;
    const whole = await exists(`${folder}/model.safetensors`); // of other settings
    const run = { ...options, saveEvery: 200, evaluateEvery: 200, evaluateCells: 200, resume: !whole, force: whole };
    for await (const event of pretrain(dataset, vocabulary, config, folder, run))
      if (event.kind === "evaluation") say(`step ${event.step} of ${options.steps}: held-out loss ${event.loss.toFixed(4)}`);
  }
  return { model: await readModel(folder), course: courseOf(await readText(`${folder}/log.jsonl`), dataset.length, training.options) };
}

/** The weights that such a training begins from. */
export function untrained({ config, options: { seed } }: Training): Geneformer {
  return new Geneformer(config, Key.from(seed).fold(WEIGHTS));
}

/** What pretraining folds its seed with for the first weights (KEYS in geneformer/pretrain.ts); model.test.ts holds the two together. */
const WEIGHTS = 0;

/** A training's log, summed up.   @param cells of the dataset, held-out ones among them. */
export function courseOf(log: string, cells: number, { heldOut }: PretrainOptions): Course {
  const lines = log
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number> & { baselines?: { unigram: number; rank: number } });
  const steps = lines.filter(({ ms }) => ms !== undefined);
  const evaluations = lines.filter(({ questions }) => questions !== undefined);
  const sum = (of: (line: Record<string, number>) => number) => steps.reduce((total, line) => total + of(line), 0);
  return {
    steps: steps.length,
    tokens: sum(({ tokens }) => tokens),
    seconds: sum(({ ms }) => ms) / 1000,
    epochs: sum((line) => line.cells) / (cells - Math.round(heldOut * cells)),
    heldOut: evaluations.at(-1)?.heldOut ?? Number.NaN,
    untrained: evaluations[0]?.heldOut ?? Number.NaN,
    unigram: lines[0].baselines?.unigram ?? Number.NaN,
    rank: lines[0].baselines?.rank ?? Number.NaN,
  };
}

/** The dataset in a folder, made first if it is not there. */
export async function dataset(folder: string, make: () => Promise<unknown>): Promise<Dataset> {
  if (!(await exists(folder))) await make();
  return readDataset(folder);
}

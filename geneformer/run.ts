/** A pretraining run on disk: checkpoints written whole, a log of JSON lines, and the way back from them after a break. */

import { floats, readSafetensors, writeSafetensors } from "../nn/safetensors.ts";
import { type Device, device } from "../src/device.ts";
import { type Baselines, baselines } from "./baselines.ts";
import { modelFiles, modelVocabulary, readModel, valuesOf } from "./checkpoint.ts";
import { type Config, configToHuggingFace } from "./config.ts";
import type { Dataset } from "./data/dataset.ts";
import { DICTIONARY, formatVocabulary, type Vocabulary, writeVocabulary } from "./data/vocabulary.ts";
import { appendTo, exists, list, readFile, readJson, readText, refuseForeign, remove, writeFolderWhole, writeWhole } from "./files.ts";
import { type Evaluation, Pretraining, type PretrainOptions, type Progress, type Step } from "./pretrain.ts";

export interface RunOptions extends PretrainOptions {
  /** Steps between checkpoints, evaluations, and lines of the log. */
  readonly saveEvery: number;
  readonly evaluateEvery: number;
  /** Held-out cells an evaluation looks at, at most. */
  readonly evaluateCells: number;
  /** Go on from the newest checkpoint in the folder. */
  readonly resume: boolean;
  /** Begin anew in a folder where a run is. */
  readonly force: boolean;
}

export type Event =
  | { readonly kind: "start"; readonly pretraining: Pretraining; readonly baselines: Baselines | null; readonly from: number }
  | ({ readonly kind: "step" } & Step)
  | ({ readonly kind: "evaluation"; readonly step: number } & Evaluation)
  | { readonly kind: "saved"; readonly step: number; readonly directory: string }
  | { readonly kind: "done"; readonly directory: string };

const LOG = "log.jsonl";
const CHECKPOINT = /^checkpoint-(\d+)$/;
/** Checkpoints that stay: the newest, and the one before it. */
const KEPT = 2;
const FORMAT = 1;

/** What must be the same in a resumed run: anything else would make another run of it. */
interface Saved {
  readonly format: number;
  readonly progress: Progress;
  readonly options: PretrainOptions;
  readonly config: Record<string, unknown>;
  readonly fingerprint: string;
  readonly device: Device["name"];
}

/**
 * Pretrain into a folder: `log.jsonl`, `checkpoint-N/` as it goes, and at the end the model itself, as Hugging Face's files with the dictionary beside.
 * Gives an event for every step, evaluation and checkpoint; stop by not asking for the next one (after `save`, nothing is lost).
 * @throws Error when the folder holds a run and neither `resume` nor `force` was asked for, or when a run to resume was another one.
 */
export async function* pretrain(
  dataset: Dataset,
  vocabulary: Vocabulary,
  config: Config,
  out: string,
  options: RunOptions,
  signal?: AbortSignal,
): AsyncGenerator<Event> {
  const { saveEvery, evaluateEvery, evaluateCells, resume, force, ...settings } = options;
  const found = await checkpoints(out);
  if ((await exists(out)) && !resume && !force)
    throw new Error(`pretrain: "${out}" exists; go on with --resume, begin anew with --force, or choose another name`);
  if (resume && found.length === 0 && (await exists(`${out}/model.safetensors`)))
    throw new Error(`pretrain: the run in "${out}" is finished; there is nothing to resume`);

  const newest = resume ? found[found.length - 1] : undefined;
  const pretraining = newest
    ? await resumed(`${out}/checkpoint-${newest}`, dataset, vocabulary, config, settings)
    : new Pretraining(dataset, vocabulary, config, settings);
  try {
    const from = pretraining.progress.step;
    if (force && !resume) {
      await refuseForeign(out, [LOG, "config.json"]);
      await remove(out); // only now, when nothing is wrong with the new run
    }
    if (resume) await sweep(out);
    const log = await openLog(`${out}/${LOG}`, from);
    const say = (line: object) => log.write(new TextEncoder().encode(`${JSON.stringify(line)}\n`));
    try {
      const asked = [...pretraining.heldOutQuestions(evaluateCells)].flatMap(({ places, labels }) =>
        labels.map((gene, i) => ({ gene, rank: places[i] })),
      );
      const known = asked.length > 0 ? baselines(tokensOf(dataset, pretraining.split.training), asked, config.vocabulary) : null;
      if (from === 0) await say({ ...settings, config: configToHuggingFace(config), fingerprint: dataset.fingerprint, baselines: known });
      yield { kind: "start", pretraining, baselines: known, from };

      const evaluation = async (): Promise<Event> => {
        const { step } = pretraining.progress;
        const result = await pretraining.evaluate(evaluateCells);
        await say({ step, heldOut: result.loss, questions: result.questions });
        return { kind: "evaluation", step, ...result };
      };
      const save = async (): Promise<Event> => {
        const directory = await writeCheckpoint(out, pretraining, vocabulary, dataset.fingerprint);
        return { kind: "saved", step: pretraining.progress.step, directory };
      };
      if (from === 0 && known) yield await evaluation();
      while (pretraining.progress.step < settings.steps) {
        const next = (every: number) => (Math.floor(pretraining.progress.step / every) + 1) * every;
        let began = performance.now();
        for await (const step of pretraining.steps(Math.min(next(evaluateEvery), next(saveEvery), settings.steps), signal)) {
          await say({ ...step, ms: Math.round(performance.now() - began) });
          began = performance.now();
          yield { kind: "step", ...step };
        }
        const { step } = pretraining.progress;
        const last = step === settings.steps;
        if (known && (last || step % evaluateEvery === 0)) yield await evaluation();
        if (!last && (signal?.aborted || step % saveEvery === 0)) yield await save();
        if (!last && signal?.aborted) return;
      }
      await writeVocabulary(vocabulary, `${out}/${DICTIONARY}`);
      for (const [name, content] of await modelFiles(pretraining.model)) await writeWhole(`${out}/${name}`, content); // the weights last: with them the run is finished
      for (const step of await checkpoints(out)) await remove(`${out}/checkpoint-${step}`);
      yield { kind: "done", directory: out };
    } finally {
      await log.close();
    }
  } finally {
    pretraining.free();
  }
}

/** Training cells that the baselines are counted on, at most: their frequencies settle long before. */
const COUNTED = 20_000;

function* tokensOf(dataset: Dataset, rows: Uint32Array): Generator<Int32Array> {
  const every = Math.ceil(rows.length / COUNTED);
  for (let i = 0; i < rows.length; i += every) yield dataset.tokens(rows[i]);
}

/** Steps of the checkpoints in a folder, ascending. */
async function checkpoints(out: string): Promise<number[]> {
  if (!(await exists(out))) return [];
  const steps = (await list(out)).map((name) => Number(name.match(CHECKPOINT)?.[1] ?? Number.NaN));
  return steps.filter((step) => !Number.isNaN(step)).sort((a, b) => a - b);
}

/** Remove what a killed run was in the middle of writing (files.ts says how such things are named). */
async function sweep(out: string): Promise<void> {
  if (!(await exists(out))) return;
  for (const name of await list(out)) if (/^\..+\.partial-\d+-\d+$/.test(name)) await remove(`${out}/${name}`);
}

/** A checkpoint holds all that the run is: weights, optimiser, step, place in the data, seed, dictionary. Whole, or not there. */
async function writeCheckpoint(out: string, pretraining: Pretraining, vocabulary: Vocabulary, fingerprint: string): Promise<string> {
  const { progress, options, model } = pretraining;
  const directory = `${out}/checkpoint-${progress.step}`;
  const saved: Saved = { format: FORMAT, progress, options, config: configToHuggingFace(model.config), fingerprint, device: device().name };
  const files: [string, string | Uint8Array][] = [
    ...(await modelFiles(model)),
    ["optimizer.safetensors", writeSafetensors(await valuesOf(pretraining.optimizer.state()))],
    ["run.json", `${JSON.stringify(saved, null, 2)}\n`],
  ];
  await writeFolderWhole(
    directory,
    async (folder) => {
      for (const [name, content] of files) await writeWhole(`${folder}/${name}`, content);
      await writeVocabulary(vocabulary, `${folder}/${DICTIONARY}`);
    },
    { force: true, mark: ["config.json"] },
  );
  for (const step of (await checkpoints(out)).slice(0, -KEPT)) await remove(`${out}/checkpoint-${step}`);
  return directory;
}

/** A checkpoint's run.json, checked. @throws Error for one that is damaged or of another format. */
function readSaved(json: unknown, directory: string): Saved {
  const saved = (json ?? {}) as Partial<Saved>;
  if (saved.format !== FORMAT)
    throw new Error(`pretrain: "${directory}" has format ${JSON.stringify(saved.format)}; this version reads ${FORMAT}`);
  const { progress, options, config } = saved;
  const natural = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  if (!options || !config || !natural(progress?.step) || !natural(progress?.cursor?.epoch) || !natural(progress?.cursor?.place))
    throw new Error(`pretrain: "${directory}/run.json" is damaged; remove that checkpoint to go on from the one before it`);
  return { ...(saved as Saved), options: { ...options, precision: options.precision ?? "f32" } }; // older ones had no choice
}

async function resumed(
  directory: string,
  dataset: Dataset,
  vocabulary: Vocabulary,
  config: Config,
  options: PretrainOptions,
): Promise<Pretraining> {
  const saved = readSaved(await readJson(`${directory}/run.json`), directory);
  if (saved.fingerprint !== dataset.fingerprint)
    throw new Error(`pretrain: "${directory}" was trained on other cells than "${dataset.directory}"; resume with the same dataset`);
  const dictionary = await modelVocabulary(directory);
  if (!dictionary || formatVocabulary(dictionary) !== formatVocabulary(vocabulary))
    throw new Error(`pretrain: "${directory}" was made with another dictionary; resume with the one in ${directory}/${DICTIONARY}`);
  if (saved.device !== device().name)
    throw new Error(
      `pretrain: "${directory}" was computed on ${saved.device}, this is ${device().name}, whose bits differ; resume with --device ${saved.device}`,
    );
  const differs = (was: object, is: object) =>
    Object.entries(is).find(([name, value]) => JSON.stringify((was as Record<string, unknown>)[name]) !== JSON.stringify(value));
  const other = differs(saved.options, options) ?? differs(saved.config, configToHuggingFace(config));
  if (other) {
    const was = { ...saved.config, ...saved.options } as Record<string, unknown>;
    throw new Error(
      `pretrain: "${directory}" was made with ${other[0]} ${JSON.stringify(was[other[0]])}, now it is ${JSON.stringify(other[1])}; resume with the same settings`,
    );
  }
  const model = await readModel(directory);
  const pretraining = new Pretraining(dataset, vocabulary, config, options, { model, progress: saved.progress });
  const path = `${directory}/optimizer.safetensors`;
  const state = [...readSafetensors(await readFile(path), path).tensors].map(
    ([name, t]) => [name, { shape: t.shape, data: floats(t, name) }] as const,
  );
  pretraining.optimizer.restore(saved.progress.step, new Map(state));
  return pretraining;
}

/** The log, without lines of steps that will be done again. */
async function openLog(path: string, from: number): ReturnType<typeof appendTo> {
  const lines = from > 0 && (await exists(path)) ? (await readText(path)).split("\n").filter((line) => stepOf(line) <= from) : [];
  await writeWhole(path, lines.map((line) => `${line}\n`).join(""));
  return appendTo(path);
}

/** The step a line is about; infinite for a line that was cut off. */
function stepOf(line: string): number {
  try {
    return (JSON.parse(line) as { step?: number }).step ?? 0;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

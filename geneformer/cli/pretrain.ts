/** `geneformer pretrain`: masked pretraining, with checkpoints to go on from. */

import { Option } from "commander";
import { countParameters } from "../../nn/module.ts";
import { scheduleNames } from "../../nn/schedule.ts";
import { fileStore } from "../../src/calibrate.ts";
import type { Device } from "../../src/device.ts";
import { type Config, configFromHuggingFace, preset, presets } from "../config.ts";
import { type Dataset, readDataset } from "../data/dataset.ts";
import { readVocabulary } from "../data/vocabulary.ts";
import { readJson } from "../files.ts";
import { type Pretraining, type PretrainOptions, pretrainDefaults } from "../pretrain.ts";
import { pretrain } from "../run.ts";
import {
  type Context,
  calibration,
  type Define,
  device,
  examples,
  force,
  integer,
  out,
  precision,
  real,
  Stopped,
  seed,
} from "./command.ts";
import { type DeviceOptions, openDevice } from "./model.ts";
import { count } from "./terminal.ts";

interface Options extends Omit<PretrainOptions, "steps" | "rate">, DeviceOptions {
  precision: PretrainOptions["precision"];
  preset?: string;
  config?: string;
  layers?: number;
  width?: number;
  heads?: number;
  inner?: number;
  dictionary?: string;
  steps?: number;
  epochs?: number;
  lr: number;
  saveEvery: number;
  evaluateEvery: number;
  evaluateCells: number;
  resume: boolean;
  force: boolean;
  out: string;
}

export const command: Define = (program, context) => {
  const d = pretrainDefaults;
  program
    .argument("<dataset>", "a .dataset folder of tokenized cells")
    .addOption(new Option("--preset <name>", "sizes of a published model").choices(Object.keys(presets)))
    .addOption(new Option("--config <file>", "sizes from a config.json, as Hugging Face writes it").conflicts("preset"))
    .option("--layers <number>", "another number of layers", integer(1))
    .option("--width <number>", "another embedding size", integer(1))
    .option("--heads <number>", "another number of attention heads", integer(1))
    .option("--inner <number>", "another width of the feed-forward layers", integer(1))
    .option("--dictionary <folder>", "the dictionary of the cells, where the dataset has none beside it")
    .option("--steps <number>", `optimiser steps (default: ${d.steps})`, integer(1))
    .addOption(new Option("--epochs <number>", "as many steps as read the cells this often").argParser(real(0.001)).conflicts("steps"))
    .option("--tokens-per-batch <number>", "tokens of a batch at most", integer(1), d.tokensPerBatch)
    .option("--accumulate <number>", "batches of a step", integer(1), d.accumulate)
    .option("--lr <number>", "peak learning rate", real(0), d.rate)
    .option("--warmup <number>", "steps to reach it", integer(0), d.warmup)
    .addOption(new Option("--schedule <name>", "how the rate falls after that").choices(scheduleNames).default(d.schedule))
    .option("--decay <number>", "weight decay", real(0), d.decay)
    .option("--clip <number>", "largest global norm of the gradients; 0 does not clip", real(0), d.clip)
    .option("--mask-probability <number>", "share of places to hide", real(0.001, 0.999), d.maskProbability)
    .option("--keep-special", "never hide <cls> and <eos>", d.keepSpecial)
    .option("--held-out <number>", "share of cells held out for evaluation", real(0, 0.99), d.heldOut)
    .option("--evaluate-every <number>", "steps between evaluations", integer(1), 200)
    .option("--evaluate-cells <number>", "held-out cells of an evaluation at most", integer(1), 200)
    .option("--save-every <number>", "steps between checkpoints", integer(1), 200)
    .option("--resume", "go on from the newest checkpoint in --out, with the same settings", false)
    .addOption(seed())
    .addOption(device())
    .addOption(precision())
    .addOption(
      calibration(
        "which ways of writing a step's kernels are fastest on this adapter: taken from there, else measured and kept there (default with mixed: calibration.json in --out)",
      ),
    )
    .addOption(out("folder of the run: log.jsonl, checkpoints, and at the end the model", "--out <folder>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "pretrain cells.dataset --preset V1-10M --layers 2 --width 128 --heads 2 --inner 256 --steps 2000 --out run",
        "pretrain cells.dataset --config config.json --epochs 3 --lr 5e-4 --schedule cosine --out run --resume",
      ),
    )
    .action(async (path: string, options: Options) => {
      const dataset = await readDataset(path);
      const vocabulary = options.dictionary ? await readVocabulary(options.dictionary) : await dataset.vocabulary();
      if (!vocabulary) throw new Error(`"${path}" has no dictionary beside its shards; name its folder with --dictionary`);
      const config = await configOf(options, vocabulary.size, vocabulary.modelVersion);
      const { lr: rate, saveEvery, evaluateEvery, evaluateCells, resume, force } = options;
      const { seed, tokensPerBatch, accumulate, warmup, schedule, decay, clip, maskProbability, keepSpecial, heldOut, precision } = options;
      const steps = options.steps ?? (options.epochs ? stepsOf(dataset, options.epochs, options) : d.steps);
      const settings = {
        seed,
        steps,
        tokensPerBatch,
        accumulate,
        rate,
        warmup,
        schedule,
        decay,
        clip,
        maskProbability,
        keepSpecial,
        heldOut,
        precision,
      };

      const on = await openDevice(options, context);
      let bar: ReturnType<typeof context.progress> | null = null;
      let [first, last, heldOutLoss, unigram, rank, done] = [Number.NaN, Number.NaN, Number.NaN, Number.NaN, Number.NaN, 0];
      let [tokens, skipped] = [0, 0];
      let began = performance.now();
      const run = { ...settings, saveEvery, evaluateEvery, evaluateCells, resume, force };
      for await (const event of pretrain(dataset, vocabulary, config, options.out, run, context.signal)) {
        switch (event.kind) {
          case "start": {
            const { model, split } = event.pretraining;
            context.say(
              `${config.layers} layers of width ${config.width}, ${count(countParameters(model))} parameters; ${count(split.training.length)} cells to train on, ${count(split.heldOut.length)} held out`,
            );
            if (event.from > 0) context.say(`going on from step ${event.from}`);
            if (event.baselines) ({ unigram, rank } = event.baselines);
            await calibrated(event.pretraining, on, options, context);
            began = performance.now();
            bar = context.progress("Pretraining", steps, "steps", event.from);
            done = event.from;
            break;
          }
          case "step":
            if (Number.isNaN(first)) first = event.loss;
            last = event.loss;
            done = event.step;
            tokens += event.tokens;
            skipped += Number(event.skipped ?? false);
            bar?.update(done, `loss ${last.toFixed(3)}${Number.isNaN(heldOutLoss) ? "" : `, held out ${heldOutLoss.toFixed(3)}`}`);
            break;
          case "evaluation":
            heldOutLoss = event.loss;
            break;
          case "saved":
          case "done":
            break;
        }
      }
      bar?.stop();
      if (done < steps)
        throw new Stopped(`step ${done} of ${steps} is in ${options.out}/checkpoint-${done}; go on with the same command and --resume`);
      const seconds = (performance.now() - began) / 1000;
      const compare = Number.isNaN(heldOutLoss)
        ? []
        : [
            `held-out loss ${heldOutLoss.toFixed(4)} nats; by how common genes are ${unigram.toFixed(4)}, by rank and gene ${rank.toFixed(4)}`,
          ];
      context.report(
        {
          out: options.out,
          steps,
          precision,
          skipped,
          loss: last,
          heldOutLoss,
          unigram,
          rank,
          seconds,
          tokensPerSecond: tokens / seconds,
          peakBytes: on.memory.peak,
        },
        `${count(steps)} steps, loss ${first.toFixed(4)} at first, ${last.toFixed(4)} at last, ${count(tokens / seconds)} tokens/s`,
        ...(skipped > 0 ? [`${count(skipped)} steps were skipped: their gradients overflowed f16`] : []),
        ...compare,
        `wrote ${options.out}`,
      );
      on.close();
    });
};

/** Have the kernels of a step calibrated, where mixed precision or a file to keep that in was asked for, and there is something to choose. */
async function calibrated(
  pretraining: Pretraining,
  on: Device,
  { precision, calibration, out }: Options,
  { signal, say, progress }: Context,
): Promise<void> {
  if (!on.choices || !(precision === "mixed" || calibration)) return;
  const bar = progress("Calibrating", undefined, "problems");
  const store = fileStore(calibration ?? `${out}/calibration.json`); // a run that is resumed takes the same kernels
  const onProgress = (done: number, total: number) => bar.update(done, undefined, total);
  try {
    await pretraining.calibrate({ store, signal, warn: say, onProgress });
  } catch (error) {
    if (signal.aborted) throw new Stopped("it was calibrating and had not trained yet; go on with the same command and --resume");
    throw error;
  } finally {
    bar.stop();
  }
}

/** The model's sizes: a preset or a config.json, with what was said otherwise, and the dictionary's vocabulary. */
async function configOf(
  { preset: name, config: file, layers, width, heads, inner }: Options,
  vocabulary: number,
  version: "V1" | "V2",
): Promise<Config> {
  const base = file ? configFromHuggingFace(await readJson(file), file) : preset(name ?? (version === "V1" ? "V1-10M" : "V2-104M"));
  const other = Object.fromEntries(Object.entries({ layers, width, heads, inner }).filter(([, value]) => value !== undefined));
  return { ...base, ...other, vocabulary };
}

/** Steps that read the training cells so often, batches taken as full. */
function stepsOf(dataset: Dataset, epochs: number, { heldOut, tokensPerBatch, accumulate }: Options): number {
  const tokens = dataset.lengths.reduce((sum, length) => sum + length, 0) * (1 - heldOut);
  return Math.max(1, Math.ceil((epochs * tokens) / (tokensPerBatch * accumulate)));
}

/** `geneformer perturb`: in silico perturbation of genes in cells, into a folder that `stats` reads. */

import { InvalidArgumentError, Option } from "commander";
import { modelDigest } from "../checkpoint.ts";
import type { Dataset } from "../data/dataset.ts";
import { namesOf, tokensOf } from "../data/names.ts";
import { DICTIONARY, type Vocabulary, writeVocabulary } from "../data/vocabulary.ts";
import { longestFirst } from "../embed.ts";
import { exists, readText } from "../files.ts";
import type { Geneformer } from "../model.ts";
import type { PerturbationType, Quartiles } from "../perturb/edit.ts";
import type { Measure } from "../perturb/exact.ts";
import type { Perturbation } from "../perturb/plan.ts";
import { writePickles } from "../perturb/results.ts";
import { type Cells, memoryOf, type Plan, planOf, refuseRun, runPerturbation, TOKENS_PER_SHARD } from "../perturb/run.ts";
import { readStates, rowsOf, stateEmbeddings, writeStates } from "../perturb/states.ts";
import { screenAndVerify, smoothness } from "../perturb/verify.ts";
import {
  type Context,
  calibration,
  type Define,
  device,
  examples,
  filters,
  force,
  integer,
  list,
  out,
  precision,
  Stopped,
} from "./command.ts";
import { type ModelOptions, type Opened, openDevice, openModel, TOKENS_PER_BATCH } from "./model.ts";
import { count, figure, megabytes, type Progress } from "./terminal.ts";

interface Options extends ModelOptions {
  type: PerturbationType;
  by: Quartiles;
  genes: string;
  as: "each" | "group";
  anchor?: string;
  affected: boolean;
  states?: string;
  stateColumn?: string;
  start?: string;
  goal?: string;
  alternatives: string[];
  stateCells?: number;
  filter: Map<string, string[]>;
  slice?: [number, number];
  tokensPerShard?: number;
  pickles?: string;
  screen: boolean;
  points?: number;
  verify: number;
  upstreamQuirks: boolean;
  resume: boolean;
}

export const command: Define = (program, context) => {
  program
    .argument("<dataset>", "a .dataset folder of tokenized cells")
    .requiredOption("--model <folder>", "config.json and model.safetensors, as Hugging Face keeps them")
    .addOption(
      new Option(
        "--type <name>",
        "what is done to a gene: it goes, comes to the front, or moves down or up by quartiles of its cell's ranking",
      )
        .choices(["delete", "overexpress", "inhibit", "activate"])
        .default("delete"),
    )
    .option("--by <quartiles>", "how far inhibit and activate move a gene", integer(1, 3), 1)
    .option("--genes <which>", "all that a cell has; or Ensembl ids or symbols, with commas between them; or a file of them", "all")
    .addOption(new Option("--as <how>", "a list one gene at a time, or all together").choices(["each", "group"]).default("each"))
    .option("--anchor <gene>", "perturb each gene together with this one, too: effects of both alone and of the pair")
    .addOption(
      new Option(
        "--mode <name>",
        "what stands for a cell: the mean of its genes, or its <cls> token (default: cls where cells have one, else cell)",
      ).choices(["cell", "cls"]),
    )
    .option("--layer <number>", "0 the last layer, -1 the one before it, and so on", integer(-1000, 0), -1)
    .option("--affected", "also how far every other gene moves: a row for each pair of genes of a cell", false)
    .option("--states <file>", "embeddings of states, .safetensors or .json, as --state-column leaves them")
    .option("--state-column <name>", "the column whose values are states; with --start and --goal, whose embeddings are computed")
    .option("--start <state>", "only cells of this state are perturbed; with --goal effects are shifts from one to the other")
    .option("--goal <state>", "where cells are to go")
    .option("--alternatives <states>", "other states, where they are not to go", list, [])
    .option("--state-cells <number>", "cells that a state is computed from, at most (default: all of them)", integer(1))
    .option("--filter <column=values>", "only cells that have one of these values; may be repeated", filters, new Map())
    .option("--max-cells <number>", "the first so many of those cells only", integer(1))
    .option("--slice <from:to>", "of those, longest first, cells from (counted from 0) to (not included): to share a run out", range)
    .option("--dictionary <folder>", "the dictionary of the cells, where neither dataset nor model has one beside it")
    .option("--tokens-per-batch <number>", "tokens that run together at most", integer(1), TOKENS_PER_BATCH)
    .option(
      "--tokens-per-shard <number>",
      "tokens between two files of results: what a break can cost (default: a million, with --affected a quarter of it)",
      integer(1),
    )
    .option(
      "--screen",
      "estimate all shifts from a few passes a cell, then perturb exactly the strongest genes and a random control",
      false,
    )
    .option("--verify <number>", "genes that --screen verifies: so many of the strongest, as many others", integer(1), 50)
    .option(
      "--points <number>",
      "points between ranks that --screen averages over (default: 1, or 4 where the model's positions are rough)",
      integer(1),
    )
    .option("--pickles <folder>", "also the original's _raw.pickle files, there")
    .option("--upstream-quirks", "what the original does where it errs: a cell's first gene is never overexpressed", false)
    .option("--resume", "go on with the run in the folder", false)
    .addOption(device())
    .addOption(precision())
    .addOption(
      calibration(
        "which ways of writing kernels are fastest on this adapter, as pretrain or doctor --calibrate keeps it; without, mixed rounds nothing",
      ),
    )
    .addOption(out("a folder: run.json, and a row for every gene of every cell in pairs-*.parquet", "--out <folder>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "perturb cells.dataset --model run --type delete --genes all --max-cells 50 --out deletions",
        "perturb cells.dataset --model V2-104M --type overexpress --state-column disease --start covid --goal normal --screen --out shifts",
      ),
    )
    .action(async (path: string, options: Options) => {
      const folders = options.screen ? [`${options.out}/screen`, `${options.out}/exact`] : [options.out];
      for (const folder of folders) await refuseRun(folder, options);
      const on = await openDevice(options, context);
      const opened = await openModel(options.model, path, options.dictionary);
      const { model, dataset, vocabulary, ends } = opened;
      const mode = options.mode ?? (ends.cls ? "cls" : "cell");
      const { layer, tokensPerBatch, affected } = options;
      const perturbation = await perturbationOf(options, vocabulary);
      const [rows, states] = [cellsOf(options, opened), await statesOf(options, opened, mode, context)];
      const measure: Measure = { layer, mode, ends, affected, tokensPerBatch, ...(states && { states }) };
      const cells = { rows, tokens: dataset.tokens };
      present(perturbation, rows, dataset, vocabulary);

      const { resume, force, tokensPerShard = affected ? TOKENS_PER_SHARD / 4 : TOKENS_PER_SHARD } = options;
      const plan = planOf(cells, perturbation, measure, model.config, tokensPerShard);
      const longest = rows.reduce((most, row) => Math.max(most, dataset.lengths[row]), 0);
      context.say(
        `${count(plan.pairs)} pairs of a gene and a cell in ${count(plan.cells)} cells: ${count(plan.passes)} forward passes of ${count(plan.tokens / plan.passes)} tokens, ${figure(plan.flop / 1e12)} TFLOP, ${megabytes(memoryOf(model, measure, longest))} beside the model`,
      );
      const identity = {
        dataset: dataset.fingerprint,
        model: await modelDigest(options.model),
        device: on.name,
        precision: options.precision,
        cells: {
          ...(options.start && { start: options.start }),
          filter: [...options.filter],
          maxCells: options.maxCells,
          slice: options.slice,
        },
      };
      if (options.screen) {
        await screened({ model, cells, perturbation, measure, plan, identity, tokensPerShard }, options, vocabulary, context);
        on.close();
        return;
      }
      const bar = context.progress("Perturbing", plan.pairs, "pairs");
      const began = performance.now();
      const onProgress = (pairs: number) => {
        if (context.signal.aborted) throw new Stopped(`stopped; what is whole in "${options.out}" stays: go on with --resume`);
        bar.update(pairs);
      };
      const run = await runPerturbation(model, cells, perturbation, measure, options.out, {
        ...{ tokensPerShard, identity, resume, force, onProgress },
      });
      const seconds = (performance.now() - began) / 1000;
      bar.stop();
      if (vocabulary && !(await exists(`${options.out}/${DICTIONARY}`))) await writeVocabulary(vocabulary, `${options.out}/${DICTIONARY}`);
      if (states && !(await exists(`${options.out}/states.safetensors`))) await writeStates(`${options.out}/states.safetensors`, states);
      const pickles = options.pickles ? await writePickles(run, options.pickles, options.out.split("/").at(-1) ?? "") : [];
      context.report(
        {
          out: options.out,
          ...plan,
          mode,
          layer,
          states: run.states,
          seconds,
          pairsPerSecond: plan.pairs / seconds,
          flopPerPair: plan.flop / plan.pairs,
          pickles,
        },
        `${count(plan.pairs)} pairs in ${count(plan.cells)} cells, ${figure(plan.pairs / seconds)} pairs/s, ${figure(plan.flop / plan.pairs / 1e9)} GFLOP a pair`,
        ...(vocabulary ? [] : ["genes have no names: neither dataset nor model has a dictionary beside it; give --dictionary"]),
        `wrote ${[options.out, ...pickles].join(" and ")}; tables: geneformer stats ${options.out} --out table.csv`,
      );
      on.close();
    });
};

/** Positions whose neighbours are less alike than this are rough: a point of the way between them says little of the rest. */
const SMOOTH = 0.9;

/** `--screen`: estimates of all, exact passes for some. */
async function screened(
  { model, cells, perturbation, measure, plan, identity, tokensPerShard }: Screened,
  { out, resume, force, verify, points: asked }: Options,
  vocabulary: Vocabulary | null,
  context: Context,
): Promise<void> {
  if (!measure.states) throw new Error("--screen: shifts to states are screened; give --state-column, --start and --goal");
  if (measure.affected) throw new Error("--screen: it is of cells; leave --affected to exact runs");
  const longest = cells.rows.reduce((most, row) => Math.max(most, cells.tokens(row).length), 0);
  const alike = await smoothness(model, longest);
  const points = asked ?? (alike < SMOOTH ? 4 : 1);
  context.say(
    `neighbouring ranks of this model have a cosine of ${alike.toFixed(3)}${alike < SMOOTH ? ": rough, so that estimates may say little; see what the control says" : ""}; ${points} ${points === 1 ? "point" : "points"} between them`,
  );
  let bar: Progress | null = null;
  const onStage = (stage: "screen" | "verify") => {
    bar?.stop();
    bar = stage === "screen" ? context.progress("Screening", plan.pairs, "pairs") : context.progress("Verifying", undefined, "pairs");
  };
  const onProgress = (pairs: number) => {
    if (context.signal.aborted) throw new Stopped(`stopped; what is whole in "${out}" stays: go on with --resume`);
    bar?.update(pairs);
  };
  const done = await screenAndVerify(model, cells, perturbation, measure, out, {
    ...{ tokensPerShard, identity, resume, force, onProgress, onStage, verify, screen: { points } },
  });
  (bar as Progress | null)?.stop();
  for (const folder of ["screen", "exact"])
    if (vocabulary && !(await exists(`${out}/${folder}/${DICTIONARY}`)))
      await writeVocabulary(vocabulary, `${out}/${folder}/${DICTIONARY}`);
  const { run, ...said } = done;
  context.report(
    { out, pairs: plan.pairs, points, smoothness: alike, verifiedPairs: run.plan.pairs, ...said },
    `${count(plan.pairs)} pairs of ${count(done.genes)} genes screened, ${figure(done.screenRate)} pairs/s; ${count(run.plan.pairs)} of ${count(done.top.length)} strongest and ${count(done.control.length)} other genes verified, ${figure(done.verifyRate)} pairs/s`,
    `estimates and exact shifts: Spearman ${done.spearmanOfControl.toFixed(3)} over the random control, ${done.spearman.toFixed(3)} over all verified; exact is ${figure(done.slope)} times the estimate`,
    `${count(done.missed)} of ${count(done.control.length)} control genes shift cells more than half of the strongest do`,
    `wrote ${out}/screen and ${out}/exact; tables: geneformer stats ${out}/exact --out table.csv`,
  );
}

interface Screened {
  readonly model: Geneformer;
  readonly cells: Cells;
  readonly perturbation: Perturbation;
  readonly measure: Measure;
  readonly plan: Plan;
  readonly identity: Readonly<Record<string, unknown>>;
  readonly tokensPerShard: number;
}

/** Parser of "20:40". */
function range(text: string): [number, number] {
  const [from, to] = (/^(\d*):(\d*)$/.exec(text) ?? [])
    .slice(1)
    .map((part, i) => (part === "" ? [0, Number.MAX_SAFE_INTEGER][i] : Number(part)));
  if (from === undefined || !(from < to))
    throw new InvalidArgumentError('It must be two numbers with ":" between them, the smaller first.');
  return [from, to];
}

/** What is to be done, with genes as tokens. */
async function perturbationOf(options: Options, vocabulary: Vocabulary | null): Promise<Perturbation> {
  const { type, by, as, anchor, upstreamQuirks: quirks } = options;
  const named = async (words: readonly string[]): Promise<number[]> => {
    if (!vocabulary)
      throw new Error("--genes: neither dataset nor model has a dictionary beside it, so genes have no names; give --dictionary");
    const tokens = tokensOf(vocabulary, words);
    const twice = tokens.findIndex((token, i) => tokens.indexOf(token) < i);
    if (twice >= 0) throw new Error(`--genes: "${words[twice]}" is named twice, or under two names; leave one out`);
    return tokens;
  };
  if (options.genes === "all" && as === "group") throw new Error("--as group: a group is a list; give --genes");
  if (anchor && (as === "group" || options.affected))
    throw new Error("--anchor: pairs are perturbed one after the other, whole cells alone; leave --as group and --affected out");
  const words = (await exists(options.genes)) ? (await readText(options.genes)).split(/[\s,]+/) : options.genes.split(",");
  const genes = options.genes === "all" ? "all" : await named(words.map((word) => word.trim()).filter((word) => word !== ""));
  if (genes.length === 0) throw new Error(`--genes: "${options.genes}" names none`);
  return {
    ...{ type, genes, as },
    ...((type === "inhibit" || type === "activate") && { by }),
    ...(anchor && { anchor: (await named([anchor]))[0] }),
    ...(quirks && { quirks }),
  };
}

/** The rows to perturb, longest cell first. @throws Error where none is left, saying what took them. */
function cellsOf({ filter, stateColumn, start, maxCells, slice }: Options, { dataset }: Opened): number[] {
  let rows = longestFirst(dataset);
  const keep = (what: string, wanted: (row: number) => boolean) => {
    rows = rows.filter(wanted);
    if (rows.length === 0) throw new Error(`"${dataset.directory}": no cell is left after ${what}; there were ${count(dataset.length)}`);
  };
  for (const [column, values] of filter) {
    const held = dataset.column(column);
    keep(`--filter ${column}=${values.join(",")}`, (row) => values.includes(String(held[row])));
  }
  if (stateColumn && start) {
    const ofStart = new Set(rowsOf(dataset, stateColumn, start));
    keep(`--start ${start}`, (row) => ofStart.has(row));
  }
  if (maxCells) {
    const first = new Set([...rows].sort((a, b) => a - b).slice(0, maxCells));
    keep(`--max-cells ${maxCells}`, (row) => first.has(row));
  }
  if (slice) {
    const part = new Set(rows.slice(...slice));
    keep(`--slice ${slice.join(":")}`, (row) => part.has(row));
  }
  return rows;
}

/** The states, start first, then goal, then the others; null where there are none. */
async function statesOf(
  options: Options,
  { model, dataset, ends }: Opened,
  mode: Measure["mode"],
  context: Context,
): Promise<Map<string, Float32Array> | null> {
  const { states: file, stateColumn, start, goal, alternatives, layer, tokensPerBatch, stateCells: maxCells } = options;
  if (!file && !stateColumn) {
    if (start || goal || alternatives.length > 0)
      throw new Error("--start, --goal: give the column of the states with --state-column, or their embeddings with --states");
    return null;
  }
  if (!start || !goal) throw new Error("--states: shifts are from one state to another; give --start and --goal");
  const names = [start, goal, ...alternatives];
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice) throw new Error(`--goal, --alternatives: "${twice}" is named twice; start, goal and alternatives are different states`);
  if (file) {
    const held = await readStates(file, model.config.width);
    const missing = names.find((name) => !held.has(name));
    if (missing) throw new Error(`--states: "${file}" has no state "${missing}"; it has ${[...held.keys()].join(", ")}`);
    return new Map(names.map((name) => [name, held.get(name) as Float32Array]));
  }
  const total = names.reduce(
    (sum, name) => sum + Math.min(rowsOf(dataset, stateColumn ?? "", name).length, maxCells ?? Number.POSITIVE_INFINITY),
    0,
  );
  const bar = context.progress("Embedding states", total, "cells");
  const onProgress = (cells: number) => {
    context.signal.throwIfAborted();
    bar.update(cells);
  };
  const states = await stateEmbeddings(model, dataset, stateColumn ?? "", names, {
    layer,
    mode,
    ends,
    tokensPerBatch,
    maxCells,
    onProgress,
  });
  bar.stop();
  return states;
}

/** @throws Error naming listed genes that no cell has, where that means that nothing is done with them. */
function present({ type, genes, anchor }: Perturbation, rows: readonly number[], dataset: Dataset, vocabulary: Vocabulary | null): void {
  const listed = [...(genes === "all" || type === "overexpress" ? [] : genes), ...(anchor === undefined ? [] : [anchor])];
  const absent = new Set(listed);
  for (const row of rows) {
    if (absent.size === 0) return;
    for (const token of dataset.tokens(row)) absent.delete(token);
  }
  const names = namesOf(vocabulary);
  const shown = [...absent].map((token) => names.symbol(token) ?? names.id(token) ?? token);
  if (shown.length > 0)
    throw new Error(
      `--genes: none of the ${count(rows.length)} cells has ${shown.join(", ")}; leave ${shown.length === 1 ? "it" : "them"} out, or choose other cells`,
    );
}

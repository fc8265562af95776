/** `geneformer perturb`: in silico perturbation of genes in cells, into a folder that `stats` reads. */

import { type Command, Option } from "commander";
import { modelDigest } from "../checkpoint.ts";
import type { Dataset } from "../data/dataset.ts";
import { namesOf } from "../data/names.ts";
import { DICTIONARY, type Vocabulary, writeVocabulary } from "../data/vocabulary.ts";
import { exists } from "../files.ts";
import type { Geneformer } from "../model.ts";
import type { PerturbationType, Quartiles } from "../perturb/edit.ts";
import type { Measure } from "../perturb/exact.ts";
import type { Perturbation } from "../perturb/plan.ts";
import { writePickles } from "../perturb/results.ts";
import { type Cells, memoryOf, type Plan, paceOf, planOf, refuseRun, runPerturbation, TOKENS_PER_SHARD } from "../perturb/run.ts";
import { FINE, PLAIN, type ScreenOptions } from "../perturb/screen.ts";
import { writeStates } from "../perturb/states.ts";
import { refuseScreening, screenAndVerify, smoothness } from "../perturb/verify.ts";
import { type Context, calibration, type Define, device, examples, force, integer, out, precision, Stopped } from "./command.ts";
import { dictionary, layer, type ModelOptions, openDevice, openModel, tokensPerBatch } from "./model.ts";
import { cellsOf, genesOf, mode as modeOption, type StateOptions, stateOptions, statesOf } from "./states.ts";
import { correlation, count, duration, figure, megabytes, type Progress } from "./terminal.ts";

interface Options extends ModelOptions, StateOptions, FinenessOptions {
  type: PerturbationType;
  by: Quartiles;
  genes: string;
  as: "each" | "group";
  anchor?: string;
  affected: boolean;
  tokensPerShard?: number;
  pickles?: string;
  screen: boolean;
  directions: number;
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
    .option(
      "--genes <which>",
      "all that a cell has; vocabulary, all that the dictionary has; or Ensembl ids or symbols, with commas between them; or a file of them",
      "all",
    )
    .addOption(new Option("--as <how>", "a list one gene at a time, or all together").choices(["each", "group"]).default("each"))
    .option("--anchor <gene>", "perturb each gene together with this one, too: effects of both alone and of the pair")
    .addOption(modeOption())
    .addOption(layer())
    .option("--affected", "also how far every other gene moves: a row for each pair of genes of a cell", false);
  stateOptions(program)
    .addOption(dictionary())
    .addOption(tokensPerBatch())
    .option(
      "--tokens-per-shard <number>",
      "tokens between two files of results: what a break can cost (default: a million, with --affected a quarter of it)",
      integer(1),
    )
    .option(
      "--screen",
      "estimate all effects from a few passes a cell, then perturb exactly the strongest genes and a random control",
      false,
    )
    .option("--verify <number>", "genes that --screen verifies: so many of the strongest, as many others", integer(1), 50);
  finenessOptions(program)
    .option("--directions <number>", "without states: random directions that --screen projects motions on", integer(1), 16)
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
      if (options.screen) refuseScreening(perturbation, measure);
      present(perturbation, rows, dataset, vocabulary);

      const { resume, force, tokensPerShard = affected ? TOKENS_PER_SHARD / 4 : TOKENS_PER_SHARD } = options;
      const plan = planOf(cells, perturbation, measure, model.config, tokensPerShard);
      const largest = rows.reduce((a, b) => (dataset.lengths[b] > dataset.lengths[a] ? b : a));
      const longest = dataset.lengths[largest];
      const seconds = plan.flop / (await paceOf(model, dataset.tokens(largest), measure));
      const cost = `${count(plan.passes)} forward passes of ${count(plan.tokens / plan.passes)} tokens, ${figure(plan.flop / 1e12)} TFLOP, about ${duration(seconds)} on ${on.name}`;
      context.say(
        `${count(plan.pairs)} pairs of a gene and a cell in ${count(plan.cells)} cells: ${options.screen ? "done exactly, " : ""}${cost}, ${megabytes(memoryOf(model, measure, longest))} beside the model`,
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
        await screened({ model, cells, perturbation, measure, plan, longest, identity, tokensPerShard }, options, vocabulary, context);
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
      const took = (performance.now() - began) / 1000;
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
          seconds: took,
          pairsPerSecond: plan.pairs / took,
          flopPerPair: plan.flop / plan.pairs,
          pickles,
        },
        `${count(plan.pairs)} pairs in ${count(plan.cells)} cells, ${figure(plan.pairs / took)} pairs/s, ${figure(plan.flop / plan.pairs / 1e9)} GFLOP a pair`,
        ...(vocabulary ? [] : ["genes have no names: neither dataset nor model has a dictionary beside it; give --dictionary"]),
        `wrote ${[options.out, ...pickles].join(" and ")}; tables: geneformer stats ${options.out} --out table.csv`,
      );
      on.close();
    });
};

/** Positions whose neighbours are less alike than this are rough: a slope at a point between them says little of the rest. */
const SMOOTH = 0.9;

/** Of screening: how finely it follows the ranks. */
export type FinenessOptions = Pick<ScreenOptions, "points" | "knots">;

export const finenessOptions = (program: Command): Command =>
  program
    .option(
      "--points <number>",
      "points between ranks that screening averages over (default: 1, or 2 where the model's positions are rough)",
      integer(1),
    )
    .option(
      "--knots <number>",
      "edits of a cell whose moving genes screening passes exactly, to correct the others' estimates (default: 0, or 8 where positions are rough)",
      integer(0),
    );

/** How finely screening follows the ranks, as asked, or as the model's positions need; it says what those are like. */
export async function finenessOf(
  model: Geneformer,
  longest: number,
  asked: FinenessOptions,
  { say }: Context,
): Promise<Required<FinenessOptions>> {
  const alike = await smoothness(model, longest);
  const usual = alike < SMOOTH ? FINE : PLAIN;
  const [points, knots] = [asked.points ?? usual.points, asked.knots ?? usual.knots];
  say(
    `neighbouring ranks of this model have a cosine of ${alike.toFixed(3)}${alike < SMOOTH ? ": rough, so that estimates may say little; see what the control says" : ""}; ${points} ${points === 1 ? "point" : "points"} between them, ${knots} ${knots === 1 ? "knot" : "knots"}`,
  );
  return { points, knots };
}

/** `--screen`: estimates of all, exact passes for some. */
async function screened(
  { model, cells, perturbation, measure, plan, longest, identity, tokensPerShard }: Screened,
  { out, resume, force, verify, points, knots, directions }: Options,
  vocabulary: Vocabulary | null,
  context: Context,
): Promise<void> {
  const fineness = await finenessOf(model, longest, { points, knots }, context);
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
    ...{ tokensPerShard, identity, resume, force, onProgress, onStage, verify },
    screen: { ...fineness, ...(!measure.states && { directions }) },
  });
  (bar as Progress | null)?.stop();
  for (const folder of ["screen", "exact"])
    if (vocabulary && !(await exists(`${out}/${folder}/${DICTIONARY}`)))
      await writeVocabulary(vocabulary, `${out}/${folder}/${DICTIONARY}`);
  const { run, ...said } = done;
  context.report(
    { out, pairs: plan.pairs, ...fineness, verifiedPairs: run.plan.pairs, ...said },
    `${count(plan.pairs)} pairs of ${count(done.genes)} genes screened, ${figure(done.screenRate)} pairs/s; ${count(run.plan.pairs)} of ${count(done.top.length)} strongest and ${count(done.control.length)} other genes verified, ${figure(done.verifyRate)} pairs/s`,
    `estimates and exact effects: Spearman ${correlation(done.spearmanOfControl)} over the random control, ${correlation(done.spearman)} over all verified; exact is ${figure(done.slope)} times the estimate`,
    `of the ${count(done.top.length)} strongest genes in truth, screening had ${(100 * done.recall).toFixed(0)} % among its own, as the control tells`,
    `wrote ${out}/screen and ${out}/exact; tables: geneformer stats ${out}/exact --out table.csv`,
  );
}

interface Screened {
  readonly model: Geneformer;
  readonly cells: Cells;
  readonly perturbation: Perturbation;
  readonly measure: Measure;
  readonly plan: Plan;
  /** Tokens of the longest cell. */
  readonly longest: number;
  readonly identity: Readonly<Record<string, unknown>>;
  readonly tokensPerShard: number;
}

/** What is to be done, with genes as tokens. */
async function perturbationOf(options: Options, vocabulary: Vocabulary | null): Promise<Perturbation> {
  const { type, by, as, anchor, upstreamQuirks: quirks } = options;
  if (["all", "vocabulary"].includes(options.genes) && as === "group") throw new Error("--as group: a group is a list; give --genes");
  if (anchor && (as === "group" || options.affected))
    throw new Error("--anchor: pairs are perturbed one after the other, whole cells alone; leave --as group and --affected out");
  const genes = options.genes === "all" ? "all" : await genesOf(options.genes, vocabulary);
  return {
    ...{ type, genes, as },
    ...((type === "inhibit" || type === "activate") && { by }),
    ...(anchor && { anchor: (await genesOf(anchor, vocabulary))[0] }),
    ...(quirks && { quirks }),
  };
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

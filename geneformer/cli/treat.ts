/** `geneformer treat`: which genes, perturbed, bring cells from one state to another. */

import { Option } from "commander";
import { Key } from "../../src/key.ts";
import { namesOf } from "../data/names.ts";
import { refuseOverwrite } from "../files.ts";
import type { Measure } from "../perturb/exact.ts";
import { type Action, type Round, type Step, treat } from "../perturb/treat.ts";
import type { Table } from "../table.ts";
import { calibration, type Define, device, ending, examples, force, integer, out, precision, seed } from "./command.ts";
import { dictionary, layer, type ModelOptions, openDevice, openModel, tokensPerBatch } from "./model.ts";
import { type FinenessOptions, finenessOf, finenessOptions } from "./perturb.ts";
import { cellsOf, genesOf, mode as modeOption, type StateOptions, stateOptions, statesOf } from "./states.ts";
import { writeTable } from "./table.ts";
import { correlation, count, figure, type Progress } from "./terminal.ts";

interface Options extends ModelOptions, StateOptions, FinenessOptions {
  action: "both" | Action;
  genes: string;
  steps: number;
  verify: number;
  resamples: number;
  seed: number;
}

export const command: Define = (program, context) => {
  program
    .argument("<dataset>", "a .dataset folder of tokenized cells")
    .requiredOption("--model <folder>", "config.json and model.safetensors, as Hugging Face keeps them")
    .addOption(
      new Option(
        "--action <name>",
        "what is done to genes: overexpress puts them first in every cell, delete takes them out where they are",
      )
        .choices(["both", "overexpress", "delete"])
        .default("both"),
    )
    .option("--genes <which>", "genes to try: vocabulary, all that the dictionary has; a list with commas between; or a file", "vocabulary")
    .option("--steps <number>", "genes of a treatment, at most: each is added to the best before it", integer(1, 10), 2)
    .option("--verify <number>", "treatments that exact passes try each round, and as many others for a null", integer(1), 50)
    .addOption(modeOption())
    .addOption(layer());
  stateOptions(program).addOption(dictionary()).addOption(tokensPerBatch());
  finenessOptions(program)
    .option("--resamples <number>", "resamples of the cells behind an interval", integer(40), 2000)
    .addOption(seed())
    .addOption(device())
    .addOption(precision())
    .addOption(calibration("which ways of writing kernels are fastest on this adapter, as pretrain or doctor --calibrate keeps it"))
    .addOption(out("the table of treatments, .csv or .parquet", "--out <file>").argParser(ending(".csv", ".parquet")))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "treat cells.dataset --model run --state-column disease --start covid --goal normal --max-cells 50 --out treatments.csv",
        "treat cells.dataset --model run --state-column type --start A --goal B --alternatives C,D --action overexpress --steps 1 --out genes.csv",
      ),
    )
    .action(async (path: string, options: Options) => {
      await refuseOverwrite(options.out, options.force);
      const on = await openDevice(options, context);
      const opened = await openModel(options.model, path, options.dictionary);
      const { model, dataset, vocabulary, ends } = opened;
      const mode = options.mode ?? (ends.cls ? "cls" : "cell");
      const { layer, tokensPerBatch, goal, alternatives, steps, verify, resamples } = options;
      const genes = await genesOf(options.genes, vocabulary);
      const rows = cellsOf(options, opened);
      const states = await statesOf(options, opened, mode, context);
      if (!states || !goal) throw new Error("treat: cells go from one state to another; give --state-column, --start and --goal");
      const actions: readonly Action[] = options.action === "both" ? ["overexpress", "delete"] : [options.action];
      const measure: Measure = { layer, mode, ends, tokensPerBatch, states };
      const longest = rows.reduce((most, row) => Math.max(most, dataset.lengths[row]), 0);
      const screen = await finenessOf(model, longest, options, context);

      let [bar, at]: [Progress | null, string] = [null, ""];
      const onProgress = (stage: "screen" | "verify", round: number, pairs: number, most: number) => {
        context.signal.throwIfAborted();
        if (at !== `${stage} ${round}`) {
          bar?.stop();
          bar = context.progress(`${stage === "screen" ? "Screening" : "Verifying"}, round ${round}`, most, "pairs");
          at = `${stage} ${round}`;
        }
        bar?.update(pairs);
      };
      const key = Key.from(options.seed);
      const rounds: Round[] = [];
      const cells = { rows, tokens: dataset.tokens };
      for await (const round of treat(model, cells, measure, {
        actions,
        genes,
        goal,
        alternatives,
        steps,
        verify,
        key,
        screen,
        resamples,
        onProgress,
      }))
        rounds.push(round);
      (bar as Progress | null)?.stop();

      const names = namesOf(vocabulary);
      const called = ({ action, gene }: Step) => `${action} ${names.symbol(gene) ?? names.id(gene) ?? gene}`;
      const table = tableOf(rounds, alternatives, called, rows.length);
      await writeTable(options.out, table, options);
      const best = rounds.map(({ trials: [first] }) => first);
      const lines = rounds.map(({ trials: [first], screened, spearman }, i) => {
        const [low, high] = first.interval.map((end) => (end === null ? "?" : figure(end)));
        return `round ${i + 1}: ${count(screened)} candidates; best ${first.steps.map(called).join(" + ")}: score ${figure(first.score)} (${low} to ${high}), p ${figure(first.p)}; estimates and exact scores of the null: Spearman ${correlation(spearman)}`;
      });
      context.report(
        {
          out: options.out,
          cells: rows.length,
          candidates: actions.length * genes.length,
          rounds: rounds.map(({ screened, spearman }) => ({ screened, spearman })),
          best: best.map(({ steps, score, interval, p }) => ({ treatment: steps.map(called), score, interval, p })),
        },
        ...lines,
        `wrote ${options.out}: ${count(table.rows.length)} treatments of ${count(rows.length)} cells`,
      );
      on.close();
    });
};

/** A row for each treatment tried, smaller ones first; the best of each size first, those of the null behind. */
function tableOf(rounds: readonly Round[], alternatives: readonly string[], called: (step: Step) => string, cells: number): Table {
  const columns = [
    ...["Treatment", "Steps", "Score", "Score_low", "Score_high", "Shift_to_goal_end"],
    ...alternatives.map((state) => `Shift_to_alt_end_${state}`),
    ...["Estimate", "Sum_of_indiv_scores", "Combo_minus_sum_score", "Pval", "FDR", "N_Cells", "N_Changed", "N_Null", "Of_null"],
  ];
  const finite = (value: number) => (Number.isNaN(value) ? null : value);
  const rows = rounds.flatMap(({ trials }) =>
    trials.map(({ steps, score, interval, shifts, estimate, sum, p, fdr, changed, ofNull }) => {
      const { action } = steps[steps.length - 1];
      const nulls = trials.filter((other) => other.ofNull && other.steps[other.steps.length - 1].action === action).length;
      return [
        ...[steps.map(called).join(" + "), steps.length, score, ...interval, ...shifts, estimate, finite(sum), finite(score - sum)],
        ...[finite(p), finite(fdr), cells, changed, nulls, Number(ofNull)],
      ];
    }),
  );
  return { columns, index: [...rows.keys()], rows };
}

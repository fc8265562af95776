/** `geneformer stats`: what a run of perturbations says, as upstream's tables. */

import { Option } from "commander";
import { namesOf } from "../data/names.ts";
import { parquetBytes, tableColumns } from "../data/parquet.ts";
import { DICTIONARY, hasVocabulary, readVocabulary } from "../data/vocabulary.ts";
import { refuseOverwrite, writeLines, writeWhole } from "../files.ts";
import { type Effects, type Results, readResults } from "../perturb/results.ts";
import {
  aggregateData,
  aggregateGeneShifts,
  combinationShifts,
  combinations,
  goalStateShift,
  groupStateShift,
  mixtureModel,
  versusNull,
} from "../stats/tables.ts";
import { csvLines, type Table } from "../table.ts";
import { type Define, ending, examples, force, out } from "./command.ts";
import { count } from "./terminal.ts";

const MODES = ["goal-state-shift", "vs-null", "mixture-model", "aggregate-data", "aggregate-gene-shifts"] as const;

interface Options {
  mode?: (typeof MODES)[number];
  goal?: string;
  null?: string;
  dictionary?: string;
  upstreamQuirks: boolean;
  out: string;
  force: boolean;
}

export const command: Define = (program, context) => {
  program
    .argument("<run>", "the folder that perturb wrote, or one of the original's _raw.pickle files")
    .addOption(
      new Option(
        "--mode <name>",
        "shifts to a goal state beside all genes'; beside those of another run (--null); which genes have an impact at all; every cosine; what each gene did to each other (default: goal-state-shift where there are states, aggregate-data for a group, else mixture-model)",
      ).choices(MODES),
    )
    .option("--goal <state>", "the state that is the goal (default: the second that perturb was given)")
    .option("--null <run>", "the run that vs-null compares with")
    .option("--dictionary <folder>", "what genes are called (default: the dictionary in the run)")
    .option("--upstream-quirks", "number the components of a mixture by chance, as the original does", false)
    .addOption(out("the table, .csv or .parquet", "--out <file>").argParser(ending(".csv", ".parquet")))
    .addOption(force())
    .addHelpText("after", examples("stats deletions --out impact.csv", "stats shifts --mode goal-state-shift --out shifts.csv"))
    .action(async (run: string, options: Options) => {
      await refuseOverwrite(options.out, options.force);
      const dictionary = options.dictionary ?? `${run}/${DICTIONARY}`;
      const vocabulary = options.dictionary || (await hasVocabulary(dictionary)) ? await readVocabulary(dictionary) : null;
      const results = await readResults(run);
      const table = await tableOf(run, results, options, vocabulary);
      if (options.out.endsWith(".csv")) await writeLines(options.out, csvLines(table.columns, table.rows, table.index), options);
      else await writeWhole(options.out, await parquetBytes(tableColumns(table)), options);
      context.report(
        { out: options.out, mode: modeOf(results, options), pairs: results.pairs, rows: table.rows.length },
        `${modeOf(results, options)}: ${count(table.rows.length)} rows of ${count(results.pairs)} pairs of a gene and a cell`,
        ...(vocabulary ? [] : [`genes have no names: there is no dictionary in "${run}"; give --dictionary`]),
        `wrote ${options.out}`,
      );
    });
};

const modeOf = ({ effects, group }: Results, { mode }: Options): (typeof MODES)[number] =>
  mode ?? (!effects.has("") ? "goal-state-shift" : group.length > 0 ? "aggregate-data" : "mixture-model");

async function tableOf(run: string, results: Results, options: Options, vocabulary: Parameters<typeof namesOf>[0]): Promise<Table> {
  const names = namesOf(vocabulary);
  const mode = modeOf(results, options);
  const { effects, group } = results;
  const original = options.upstreamQuirks;
  if (mode === "goal-state-shift") {
    const goal = options.goal ?? [...effects.keys()][1];
    const states = [...effects.keys()].map((state) => `"${state}"`).join(", ");
    if (effects.has("")) throw new Error(`"${run}" was run without states; give perturb --start and --goal, or take another --mode`);
    if (goal === undefined || !effects.has(goal)) throw new Error(`--goal: "${run}" has no state "${goal}"; it has ${states}`);
    const start = [...effects.keys()][0];
    const others = [...effects].filter(([state]) => state !== goal && state !== start);
    const alternatives = <T>(part: (effects: Effects) => T) => new Map(others.map(([state, each]) => [state, part(each)]));
    const toGoal = effects.get(goal) as Effects;
    if (toGoal.group.length > 0)
      return groupStateShift(
        toGoal.group,
        alternatives(({ group }) => group),
      );
    if (toGoal.pairs.size > 0) return combinationShifts(toGoal.pairs, names);
    return goalStateShift(
      toGoal.genes,
      alternatives(({ genes }) => genes),
      names,
    );
  }
  const cosines = effects.get("");
  if (!cosines)
    throw new Error(`--mode ${mode}: "${run}" has shifts to states, not cosines; take goal-state-shift, or run perturb without states`);
  if (mode === "aggregate-gene-shifts") return aggregateGeneShifts(await results.affected(), names);
  if (mode === "aggregate-data") {
    const called = (genes: readonly number[]) => genes.map((gene) => names.symbol(gene) ?? names.id(gene) ?? String(gene)).join("+");
    const [[gene, values] = [], another] = cosines.genes;
    if (cosines.group.length > 0) return aggregateData(cosines.group, called(group));
    if (gene === undefined || another)
      throw new Error(`--mode aggregate-data: "${run}" has ${count(cosines.genes.size)} genes; it is for one gene, or one group`);
    return aggregateData(values ?? [], called([gene]));
  }
  if (cosines.group.length > 0) throw new Error(`--mode ${mode}: "${run}" perturbed one group; take aggregate-data`);
  if (mode === "mixture-model")
    return cosines.pairs.size > 0 ? combinations(cosines.pairs, names, { original }) : mixtureModel(cosines.genes, names, { original });
  if (!options.null) throw new Error("--mode vs-null: give the run to compare with, --null");
  const nulls = (await readResults(options.null)).effects.get("");
  if (!nulls) throw new Error(`--null: "${options.null}" has shifts to states, not cosines; run it as "${run}" was`);
  return versusNull(cosines.genes, nulls.genes, names);
}

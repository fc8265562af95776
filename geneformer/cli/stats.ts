/** `geneformer stats`: what a run of perturbations says, as upstream's tables, and each gene's effect beside genes like it. */

import { Option } from "commander";
import { Key } from "../../src/key.ts";
import { namesOf } from "../data/names.ts";
import { DICTIONARY, hasVocabulary, readVocabulary } from "../data/vocabulary.ts";
import { refuseOverwrite } from "../files.ts";
import { type Effects, type Results, readPairs, readResults } from "../perturb/results.ts";
import { matchedEffects } from "../stats/effects.ts";
import { FEWEST_RESAMPLES } from "../stats/resample.ts";
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
import type { Table } from "../table.ts";
import { type Define, ending, examples, force, integer, out, seed } from "./command.ts";
import { writeTable } from "./table.ts";
import { count } from "./terminal.ts";

const MODES = ["goal-state-shift", "vs-null", "mixture-model", "aggregate-data", "aggregate-gene-shifts"] as const;
const EFFECTS = "effects";
type Mode = (typeof MODES)[number];

interface Options {
  mode?: Mode | typeof EFFECTS;
  goal?: string;
  null?: string;
  matched: number;
  resamples: number;
  seed: number;
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
        "shifts to a goal state beside all genes'; beside those of another run (--null); which genes have an impact at all; every cosine; what each gene did to each other; or effects: each gene beside genes of like rank and detection, within cells, with bootstrap intervals and permutation p-values (default: goal-state-shift where there are states, aggregate-data for a group, else mixture-model)",
      ).choices([...MODES, EFFECTS]),
    )
    .option("--goal <state>", "the state that is the goal (default: the goal that perturb was given)")
    .option("--null <run>", "the run that vs-null compares with")
    .option("--matched <number>", "effects: genes that each gene is held against", integer(1), 50)
    .option("--resamples <number>", "effects: bootstrap resamples of an interval", integer(FEWEST_RESAMPLES), 2000)
    .addOption(seed())
    .option("--dictionary <folder>", "what genes are called (default: the dictionary in the run)")
    .option("--upstream-quirks", "number the components of a mixture by chance, as the original does", false)
    .addOption(out("the table, .csv or .parquet", "--out <file>").argParser(ending(".csv", ".parquet")))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "stats deletions --out impact.csv",
        "stats shifts --mode goal-state-shift --out shifts.csv",
        "stats shifts --mode effects --out effects.csv",
        'stats shifts --mode effects --goal "B cell" --matched 100 --resamples 5000 --seed 1 --out effects.parquet',
      ),
    )
    .action(async (run: string, options: Options) => {
      await refuseOverwrite(options.out, options.force);
      const dictionary = options.dictionary ?? `${run}/${DICTIONARY}`;
      const vocabulary = options.dictionary || (await hasVocabulary(dictionary)) ? await readVocabulary(dictionary) : null;
      const made = options.mode === EFFECTS ? await effectsOf(run, options, vocabulary) : await upstreams(run, options, vocabulary);
      const { table, mode, pairs, more, said } = made;
      await writeTable(options.out, table, options);
      context.report(
        { out: options.out, mode, pairs, rows: table.rows.length, ...more },
        `${mode}: ${count(table.rows.length)} rows of ${count(pairs)} pairs of a gene and a cell`,
        ...said,
        ...(vocabulary ? [] : [`genes have no names: there is no dictionary in "${run}"; give --dictionary`]),
        `wrote ${options.out}`,
      );
    });
};

interface Made {
  readonly table: Table;
  readonly mode: string;
  readonly pairs: number;
  /** What else --json says. */
  readonly more: Readonly<Record<string, unknown>>;
  readonly said: readonly string[];
}

type Vocabulary = Parameters<typeof namesOf>[0];

async function upstreams(run: string, options: Options, vocabulary: Vocabulary): Promise<Made> {
  const results = await readResults(run);
  const table = await tableOf(run, results, options, vocabulary);
  return { table, mode: modeOf(results, options), pairs: results.pairs, more: {}, said: [] };
}

async function effectsOf(run: string, { goal: asked, matched, resamples, seed }: Options, vocabulary: Vocabulary): Promise<Made> {
  const pairs = await readPairs(run, asked);
  const { goal, ranks } = pairs;
  const table = matchedEffects(pairs, namesOf(vocabulary), { key: Key.from(seed), matched, resamples });
  const by = ranks ? ["rank", "detection"] : ["detection"];
  return {
    table,
    mode: EFFECTS,
    pairs: pairs.values.length,
    more: { goal, matched, matchedBy: by, resamples, seed },
    said: [
      `${goal === null ? "1 - cosine" : `shifts to "${goal}"`}, each gene beside the ${count(matched)} nearest in ${by.join(" and ")}${ranks ? "" : " alone: there are no ranks in the run"}`,
    ],
  };
}

const modeOf = ({ effects, group }: Results, { mode }: Options): string =>
  mode ?? (!effects.has("") ? "goal-state-shift" : group.length > 0 ? "aggregate-data" : "mixture-model");

async function tableOf(run: string, results: Results, options: Options, vocabulary: Vocabulary): Promise<Table> {
  const names = namesOf(vocabulary);
  const mode = modeOf(results, options);
  const { effects, group } = results;
  const original = options.upstreamQuirks;
  if (mode === "goal-state-shift") {
    const goal = options.goal ?? results.goal ?? undefined;
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

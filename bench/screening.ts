/**
 * How fast is screening, and what does it miss? `npm run bench:screening -- [--model DIR --dataset DIR] [--cells 8] [--ranks] [--save [--name screening]]`: rates of
 * V1-10M beside exact passes, unless `--ranks` alone are asked for, then ranks beside exact ones on a trained model (by default the one that `bench:truth`
 * leaves), with states and without.
 */

import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Config, presets } from "../geneformer/config.ts";
import { type Ends, embed, endsOf } from "../geneformer/embed.ts";
import {
  editsOf,
  Geneformer,
  type Measure,
  type PerturbationType,
  perturb,
  readDataset,
  readModel,
  type Subject,
  screen,
  smoothness,
  spearman,
  unitsOf,
} from "../geneformer/index.ts";
import { FINE, PLAIN } from "../geneformer/perturb/screen.ts";
import { freeParameters } from "../nn/module.ts";
import { open } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { meanInterval } from "./truth/bootstrap.ts";
import { type Answers, type Figure, save, textTable } from "./truth/report.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const FOLDER = join(ROOT, "out/truth");
const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: `${FOLDER}/model` },
    dataset: { type: "string", default: `${FOLDER}/cells.dataset` },
    cells: { type: "string", default: "8" },
    ranks: { type: "boolean", default: false },
    name: { type: "string", default: "screening" },
    save: { type: "boolean", default: false },
  },
});
const CELLS = Number(options.cells);
if (!(Number.isInteger(CELLS) && CELLS > 1)) throw new RangeError(`--cells: must be an integer of at least 2; got ${options.cells}`);

/** Genes of the cells that rates are taken at, those cells, exact passes of each, and the times that screening is timed. */
const [GENES, TIMED, EXACT, ROUNDS] = [500, 8, 64, 5];
/** Of the strongest, exactly, how many are looked for. */
const TOP = 50;
/** Without states: random directions. */
const DIRECTIONS = [1, 4, 16, 64];
const fineness = `${FINE.points} points and ${FINE.knots} knots`;
const KINDS: readonly PerturbationType[] = ["delete", "overexpress", "inhibit", "activate"];

const none = { cls: false, eos: false };
const { description } = await open("cpu");
const answers: Answers[] = [];
const answer = (each: Answers) => {
  console.log(textTable(each));
  answers.push(each);
};
if (!options.ranks) answer(await rates());
for await (const each of ranks()) answer(each);
if (options.save) {
  const shown = { model: relative(ROOT, options.model), dataset: relative(ROOT, options.dataset) }; // a machine's own paths say nothing
  const about = {
    title: "Screening beside exact perturbation",
    settings: { ...options, ...shown, GENES, TIMED, EXACT, TOP },
    lines: [description],
  };
  for (const file of save(options.name, about, answers, {})) console.log(`wrote ${file}`);
}
process.exit(0);

function subjects(
  cells: readonly ArrayLike<number>[],
  type: PerturbationType,
  { ends }: Measure,
  { length }: Config,
  most = Number.POSITIVE_INFINITY,
): Subject[] {
  return cells.map((cell, row) => ({
    row,
    cell,
    edits: editsOf(cell, ends, [...unitsOf(cell, ends, { type, genes: "all" })].slice(0, most), length),
  }));
}

/** Pairs a second, and how many there were. */
async function rate(outcomes: AsyncIterable<unknown>): Promise<number> {
  const began = performance.now();
  let pairs = 0;
  for await (const _ of outcomes) pairs++;
  return (1000 * pairs) / (performance.now() - began);
}

/** V1-10M with random weights, one state: what cells come from is not screened. */
async function rates(): Promise<Answers> {
  const config = presets["V1-10M"];
  const model = new Geneformer(config, Key.from(1));
  const key = Key.from(2);
  const cells = Array.from({ length: TIMED }, (_, i) => key.fold(i).permutation(config.vocabulary - 2).subarray(0, GENES).map((token) => token + 2)); // biome-ignore format: one line
  const states = new Map([["goal", Float32Array.from(Key.from(3).normals(config.width))]]);
  const measure: Measure = { layer: -1, mode: "cell", ends: none, tokensPerBatch: 8192, states }; // as the command has it
  const rows: [string, ...Figure[]][] = [];
  for (const type of KINDS) {
    const [plain, fine, slow]: number[][] = [[], [], []];
    for (let round = 0; round < ROUNDS; round++) {
      plain.push(await rate(screen(model, subjects(cells, type, measure, config), measure, PLAIN)));
      slow.push(await rate(perturb(model, subjects(cells.slice(0, 1), type, measure, config, EXACT), measure)));
      fine.push(await rate(screen(model, subjects(cells, type, measure, config), measure, FINE)));
    }
    const exact = Math.max(...slow);
    const beside = [plain, fine].map((rates) => [Math.max(...rates).toFixed(0), (Math.max(...rates) / exact).toFixed(0)]);
    rows.push([type, exact.toFixed(1), ...beside.flat()]);
  }
  freeParameters(model);
  return {
    title: "Pairs of a gene and a cell a second, V1-10M, random weights",
    note: `${TIMED} cells of ${GENES} genes, all of them perturbed, shifts to one state; exact passes of ${EXACT} genes; the fastest of ${ROUNDS} runs in turn; screened at one point between ranks, as where positions are smooth, or as where they are rough: ${fineness}`,
    columns: ["exact/s", "screened/s", "times", "rough: screened/s", "times"],
    rows,
  };
}

/** Estimates beside exact effects, cell by cell. */
async function* ranks(): AsyncGenerator<Answers> {
  const [model, dataset] = [await readModel(options.model, { encoderOnly: true }), await readDataset(options.dataset)];
  const { config } = model;
  const every = Math.floor(dataset.length / CELLS);
  const cells = Array.from({ length: CELLS }, (_, i) => dataset.tokens(i * every + i)); // types take turns in simulated cells
  const ends = endsOf(cells, (await dataset.vocabulary())?.modelVersion ?? null);
  const bare: Measure = { layer: -1, mode: "cell", ends, tokensPerBatch: 8192 };
  const others = Array.from({ length: 20 }, (_, i) => dataset.tokens(i * 3 + 1));
  const vectors = await embed(model, others, bare);
  const goal = Float32Array.from({ length: config.width }, (_, c) => others.reduce((sum, _, i) => sum + vectors[i * config.width + c] / others.length, 0)); // biome-ignore format: one line
  const measure: Measure = { ...bare, states: new Map([["goal", goal]]) };
  const longest = Math.max(...cells.map(({ length }) => length));
  const about = `${CELLS} cells of ${Math.min(...cells.map(({ length }) => length))} to ${longest} tokens; neighbouring ranks have a cosine of ${(await smoothness(model, longest)).toFixed(3)}; means over cells, 95 % bootstrap over cells`;

  const trained = `a trained model of ${config.layers} layers of ${config.width}, mode cell`;

  const withStates: [string, ...Figure[]][] = [];
  for (const type of KINDS) {
    const exact = await effects(perturb(model, subjects(cells, type, measure, config), measure));
    const figures: Figure[] = [];
    let estimates: number[][] = [];
    for (const how of [PLAIN, FINE]) {
      estimates = await effects(screen(model, subjects(cells, type, measure, config), measure, how));
      figures.push(...agreement(exact, estimates));
    }
    const [a, b] = [exact, estimates].map((values) => byGene(cells, values, ends));
    figures.push(spearman(a, b), share(a, b));
    withStates.push([type, ...figures]);
  }
  yield {
    title: `With a state: ${trained}`,
    note: `${about}; at one point between ranks, then at ${fineness}; the last two columns are of genes' mean effects, at the latter`,
    columns: [
      ...["one: Spearman", `of the top ${TOP}`, "fine: Spearman", `of the top ${TOP}`],
      ...["means of genes: Spearman", `of the top ${TOP}`],
    ],
    rows: withStates,
  };

  const without: [string, ...Figure[]][] = [];
  for (const type of ["delete", "overexpress"] as const) {
    const exact = await effects(perturb(model, subjects(cells, type, bare, config), bare));
    for (const directions of DIRECTIONS) {
      const began = performance.now();
      const estimates = await effects(screen(model, subjects(cells, type, bare, config), bare, { ...FINE, directions }));
      const pairs = estimates.reduce((sum, { length }) => sum + length, 0);
      const rate = (1000 * pairs) / (performance.now() - began);
      without.push([`${type}, K = ${directions}`, ...agreement(exact, estimates, true), rate.toFixed(0)]);
    }
  }
  yield {
    title: `Without states, along K random directions: ${trained}`,
    note: `${about}; ${fineness}`,
    columns: ["Spearman", `of the top ${TOP}`, "pairs/s"],
    rows: without,
  };
  freeParameters(model);
}

/** Effects of each cell; of cosines what they lack of 1. */
async function effects(outcomes: AsyncIterable<{ readonly row: number; readonly effect: readonly number[] }>): Promise<number[][]> {
  const all: number[][] = Array.from({ length: CELLS }, () => []);
  for await (const { row, effect } of outcomes) all[row].push(effect[0]);
  return all;
}

/** Spearman's correlation, and the share of the strongest that are among the strongest of estimates. */
function agreement(exact: readonly number[][], estimates: readonly number[][], cosines = false): Figure[] {
  const found = exact.map((values, i) => share(values, estimates[i], cosines));
  const correlations = exact.map((values, i) => spearman(values, estimates[i]));
  return [meanInterval(correlations), meanInterval(found)];
}

/** The share of the strongest that are among the strongest of estimates. */
function share(exact: readonly number[], estimates: readonly number[], cosines = false): number {
  const [a, b] = [exact, estimates].map((values) => {
    const strength = values.map((value) => Math.abs(cosines ? 1 - value : value));
    return new Set([...strength.keys()].sort((x, y) => strength[y] - strength[x]).slice(0, TOP));
  });
  return [...a].filter((gene) => b.has(gene)).length / a.size;
}

/** Each gene's mean effect over the cells that have it, in the order of tokens: what a table of a run says. */
function byGene(cells: readonly ArrayLike<number>[], values: readonly (readonly number[])[], ends: Ends): number[] {
  const of = new Map<number, number[]>();
  for (const [i, cell] of cells.entries())
    for (const [rank, value] of values[i].entries()) {
      const gene = cell[Number(ends.cls) + rank];
      of.set(gene, [...(of.get(gene) ?? []), value]);
    }
  return [...of].sort(([a], [b]) => a - b).map(([, all]) => all.reduce((sum, value) => sum + value, 0) / all.length);
}

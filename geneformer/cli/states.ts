/** What commands that move cells between states share: which cells, from which state to which, and which genes. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { geneTokens, tokensOf } from "../data/names.ts";
import type { Vocabulary } from "../data/vocabulary.ts";
import { longestFirst } from "../embed.ts";
import { exists, readText } from "../files.ts";
import type { Measure } from "../perturb/exact.ts";
import { readStates, rowsOf, stateEmbeddings } from "../perturb/states.ts";
import { type Context, filters, integer, list } from "./command.ts";
import type { ModelOptions, Opened } from "./model.ts";
import { count } from "./terminal.ts";

/** The options of every such command. */
export interface StateOptions {
  states?: string;
  stateColumn?: string;
  start?: string;
  goal?: string;
  alternatives: string[];
  stateCells?: number;
  filter: Map<string, string[]>;
  slice?: [number, number];
}

/** `--mode`, what stands for a cell. */
export const mode = (): Option =>
  new Option(
    "--mode <name>",
    "what stands for a cell: the mean of its genes, or its <cls> token (default: cls where cells have one, else cell)",
  ).choices(["cell", "cls"]);

/** Give a command those options. */
export const stateOptions = (program: Command): Command =>
  program
    .option(
      "--states <file>",
      "embeddings of states: .safetensors, as --state-column leaves them, .json, or what the original pickles, .pkl, .pickle, .pt, .pth",
    )
    .option("--state-column <name>", "the column whose values are states; with --start and --goal, whose embeddings are computed")
    .option("--start <state>", "only cells of this state are perturbed; with --goal effects are shifts from one to the other")
    .option("--goal <state>", "where cells are to go")
    .option("--alternatives <states>", "other states, where they are not to go", list, [])
    .option("--state-cells <number>", "cells that a state is computed from, at most (default: all of them)", integer(1))
    .option("--filter <column=values>", "only cells that have one of these values; may be repeated", filters, new Map())
    .option("--max-cells <number>", "the first so many of those cells only", integer(1))
    .option("--slice <from:to>", "of those, longest first, cells from (counted from 0) to (not included): to share a run out", range);

/** Parser of "20:40". */
function range(text: string): [number, number] {
  const [from, to] = (/^(\d*):(\d*)$/.exec(text) ?? [])
    .slice(1)
    .map((part, i) => (part === "" ? [0, Number.MAX_SAFE_INTEGER][i] : Number(part)));
  if (from === undefined || !(from < to))
    throw new InvalidArgumentError('It must be two numbers with ":" between them, the smaller first.');
  return [from, to];
}

/**
 * Genes that an option names: all of the dictionary, a list, or a file of them.
 * @throws Error where there is no dictionary, or one is named twice; as `tokensOf` does.
 */
export async function genesOf(which: string, vocabulary: Vocabulary | null): Promise<readonly number[]> {
  if (!vocabulary)
    throw new Error("--genes: neither dataset nor model has a dictionary beside it, so genes have no names; give --dictionary");
  if (which === "vocabulary") return geneTokens(vocabulary);
  const text = (await exists(which)) ? (await readText(which)).split(/[\s,]+/) : which.split(",");
  const words = text.map((word) => word.trim()).filter((word) => word !== "");
  if (words.length === 0) throw new Error(`--genes: "${which}" names none`);
  const tokens = tokensOf(vocabulary, words);
  const twice = tokens.findIndex((token, i) => tokens.indexOf(token) < i);
  if (twice >= 0) throw new Error(`--genes: "${words[twice]}" is named twice, or under two names; leave one out`);
  return tokens;
}

/** The rows to perturb, longest cell first. @throws Error where none is left, saying what took them. */
export function cellsOf(
  { filter, stateColumn, start, maxCells, slice }: StateOptions & Pick<ModelOptions, "maxCells">,
  { dataset }: Opened,
): number[] {
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
export async function statesOf(
  options: StateOptions & ModelOptions,
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

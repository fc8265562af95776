/** `geneformer tokenize`: counts of cells to rank value encodings, a Hugging Face `.dataset` folder. */

import { Option } from "commander";
import { tokenize } from "../data/tokenizer.ts";
import { readVocabulary } from "../data/vocabulary.ts";
import { type Define, examples, filters, force, integer, out, pairs, watch } from "./command.ts";
import { count, megabytes } from "./terminal.ts";

interface Options {
  dictionary: string;
  modelVersion?: "V1" | "V2";
  attr: Map<string, string>;
  filter: Map<string, string[]>;
  modelInputSize?: number;
  keepCounts: boolean;
  useIndex: boolean;
  out: string;
  force: boolean;
}

export const command: Define = (program, context) => {
  program
    .argument("<input...>", ".h5ad files of raw counts, one after the other")
    .requiredOption("--dictionary <folder>", "the token and median dictionaries: vocabulary.json, or the original's .pkl files")
    .addOption(new Option("--model-version <name>", "what the dictionary must be of (default: what it is of)").choices(["V1", "V2"]))
    .option("--attr <obs:column>", "keep this column of obs under that name; may be repeated", pairs(":"), new Map())
    .option(
      "--filter <obs=values>",
      "only cells that have one of these values, with commas between them; may be repeated",
      filters,
      new Map(),
    )
    .option("--model-input-size <number>", "places in a cell (default: 2048 for V1, 4096 for V2)", integer(3))
    .option("--keep-counts", "add the column counts: counts per 10,000 in the order of the tokens", false)
    .option("--use-index", "take gene ids from the index of var", false)
    .addOption(out("the .dataset folder", "--out <folder>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "tokenize cells.h5ad --dictionary dictionary --attr cell_type:cell_type --out cells.dataset",
        "tokenize a.h5ad b.h5ad --dictionary v1 --model-version V1 --filter tissue=blood,marrow --out ab.dataset",
      ),
    )
    .action(async (inputs: string[], { attr, filter, dictionary, ...options }: Options) => {
      const began = performance.now();
      const vocabulary = await readVocabulary(dictionary);
      const { onProgress, stop } = watch(context, "Tokenizing", "cells");
      const done = await tokenize({ ...options, inputs, vocabulary, attributes: attr, filters: filter, onProgress });
      stop();

      const seconds = (performance.now() - began) / 1000;
      const peakMemory = process.resourceUsage().maxRSS * 1024; // libuv counts KiB
      const { cells, written, filtered, empty, tokens, truncated } = done;
      context.report(
        { out: options.out, ...done, seconds, cellsPerSecond: cells / seconds, peakMemory },
        ...done.files.map(({ path, known, genes, idsFrom, totalsFrom }) => {
          return `${path}: ${count(known)} of ${count(genes)} genes known; ids from ${idsFrom}, totals from ${totalsFrom}`;
        }),
        ...done.warnings.map((warning) => `warning: ${warning}`),
        `${count(written)} of ${count(cells)} cells written (${count(filtered)} filtered out, ${count(empty)} without a known gene), ` +
          `${count(tokens / written)} tokens a cell, ${count(truncated)} cropped`,
        `${count(cells / seconds)} cells/s, peak memory ${megabytes(peakMemory)}`,
        `wrote ${options.out}`,
      );
    });
};

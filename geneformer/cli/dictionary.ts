/** `geneformer dictionary`: the token and median dictionaries of a corpus. */

import { Option } from "commander";
import { buildDictionary } from "../data/dictionary.ts";
import { writeVocabulary } from "../data/vocabulary.ts";
import { refuseOverwrite } from "../files.ts";
import { type Define, examples, filters, force, out, watch } from "./command.ts";
import { count } from "./terminal.ts";

interface Options {
  modelVersion: "V1" | "V2";
  filter: Map<string, string[]>;
  useIndex: boolean;
  out: string;
  force: boolean;
}

export const command: Define = (program, context) => {
  program
    .argument("<input...>", ".h5ad files of raw counts")
    .addOption(new Option("--model-version <name>", "V2 has <cls> and <eos>, V1 neither").choices(["V1", "V2"]).default("V2"))
    .option(
      "--filter <obs=values>",
      "only cells that have one of these values, with commas between them; may be repeated",
      filters,
      new Map(),
    )
    .option("--use-index", "take gene ids from the index of var", false)
    .addOption(out("the folder that vocabulary.json goes into", "--out <folder>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "dictionary cells.h5ad --out dictionary",
        "dictionary a.h5ad b.h5ad --model-version V1 --filter tissue=blood --out dictionary",
      ),
    )
    .action(async (inputs: string[], { modelVersion, filter, useIndex, ...options }: Options) => {
      await refuseOverwrite(`${options.out}/vocabulary.json`, options.force);
      const { onProgress, stop } = watch(context, "Counting", "cells");
      const vocabulary = await buildDictionary({ inputs, modelVersion, filters: filter, useIndex, onProgress });
      stop();
      await writeVocabulary(vocabulary, options.out);

      const genes = vocabulary.medians.size;
      context.report(
        { out: options.out, modelVersion, genes, size: vocabulary.size },
        `${count(genes)} genes detected, ${count(vocabulary.size)} tokens (${modelVersion})`,
        `wrote ${options.out}/vocabulary.json`,
      );
    });
};

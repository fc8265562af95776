/** `geneformer embed`: a vector for each cell, as CSV. */

import { Option } from "commander";
import { embed, longestFirst } from "../embed.ts";
import { refuseOverwrite, writeLines } from "../files.ts";
import { VOTERS, vote } from "../neighbors.ts";
import { csvLines, type Field, single } from "../table.ts";
import { calibration, type Define, device, ending, examples, force, integer, list, out, precision } from "./command.ts";
import { dictionary, layer, type ModelOptions, openDevice, openModel, tokensPerBatch } from "./model.ts";
import { count } from "./terminal.ts";

interface Options extends ModelOptions {
  label: string[];
  vote?: string;
  order: "longest" | "dataset";
}

export const command: Define = (program, context) => {
  program
    .argument("<dataset>", "a .dataset folder of tokenized cells")
    .requiredOption("--model <folder>", "config.json and model.safetensors, as Hugging Face keeps them")
    .addOption(layer())
    .addOption(
      new Option("--mode <name>", "mean over genes, or the <cls> token (default: cls where cells have one, else cell)").choices([
        "cell",
        "cls",
      ]),
    )
    .option("--label <columns>", "columns of the dataset to write behind the vectors; all of them with 'all'", list, [])
    .option(
      "--vote <column>",
      `say how often a cell's ten nearest neighbours bear its own value of this column, of ${count(VOTERS)} cells at most`,
    )
    .option("--max-cells <number>", "the first so many cells of the dataset only", integer(1))
    .addOption(
      new Option("--order <name>", "rows by length, longest first, as upstream; or as in the dataset")
        .choices(["longest", "dataset"])
        .default("longest"),
    )
    .addOption(dictionary())
    .addOption(tokensPerBatch())
    .addOption(device())
    .addOption(precision())
    .addOption(
      calibration(
        "which ways of writing kernels are fastest on this adapter, as pretrain or doctor --calibrate keeps it; without, mixed rounds nothing",
      ),
    )
    .addOption(out("the table: columns 0 to C - 1, then labels", "--out <file.csv>").argParser(ending(".csv")))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "embed cells.dataset --model run --label cell_type --out embeddings.csv",
        "embed cells.dataset --model Geneformer-V2-104M --mode cls --layer 0 --out embeddings.csv",
      ),
    )
    .action(async (path: string, options: Options) => {
      await refuseOverwrite(options.out, options.force);
      const on = await openDevice(options, context);
      const { model, dataset, ends } = await openModel(options.model, path, options.dictionary);
      const mode = options.mode ?? (ends.cls ? "cls" : "cell");
      const most = options.maxCells ?? dataset.length;
      const ordered = options.order === "longest" ? longestFirst(dataset) : [...dataset.lengths.keys()];
      const rows = ordered.filter((row) => row < most);
      const labels = options.label.includes("all")
        ? dataset.columns.filter((name) => name !== "input_ids" && name !== "counts")
        : options.label;
      const columns = labels.map((name) => dataset.column(name));
      const column = options.vote === undefined ? null : dataset.column(options.vote);
      const voters = column && rows.map((row) => column[row]);
      const labelled = voters?.filter((label) => label !== null);
      if (labelled && labelled.length < 2)
        throw new Error(`--vote ${options.vote}: ${labelled.length} of ${rows.length} cells bear a value; at least two are needed`);

      const bar = context.progress("Embedding", rows.length, "cells");
      const began = performance.now();
      const { layer, tokensPerBatch } = options;
      const onProgress = (cells: number) => {
        context.signal.throwIfAborted();
        bar.update(cells);
      };
      const values = await embed(
        model,
        rows.map((row) => dataset.tokens(row)),
        { layer, mode, ends, tokensPerBatch, onProgress },
      );
      const seconds = (performance.now() - began) / 1000;
      bar.stop();

      const { width } = model.config;
      const header = [...Array.from({ length: width }, (_, c) => String(c)), ...labels];
      const table = function* (): Generator<Field[]> {
        for (const [i, row] of rows.entries())
          yield [...Array.from(values.subarray(i * width, (i + 1) * width), single), ...columns.map((column) => column[row])];
      };
      await writeLines(options.out, csvLines(header, table()), options);
      const votes = voters && vote(values, width, voters);
      const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
      context.report(
        {
          out: options.out,
          cells: rows.length,
          width,
          mode,
          layer,
          seconds,
          cellsPerSecond: rows.length / seconds,
          ...(votes && { vote: votes }),
        },
        `${count(rows.length)} cells, ${mode} embeddings of layer ${layer}, ${width} wide, ${count(rows.length / seconds)} cells/s`,
        ...(votes
          ? [
              `ten nearest neighbours name ${options.vote} right for ${percent(votes.accuracy)} of ${count(votes.cells)} cells, ${percent(votes.balanced)} as a mean over its values; the commonest value is ${percent(votes.majority)}`,
            ]
          : []),
        `wrote ${options.out}`,
      );
      on.close();
    });
};

/** `geneformer perturb`: in silico deletion of each gene of each cell, as CSV. */

import { Option } from "commander";
import { nameOf } from "../data/vocabulary.ts";
import { longestFirst } from "../embed.ts";
import { refuseOverwrite, writeLines } from "../files.ts";
import { byGene, type Deletion, deleteEach } from "../perturb.ts";
import { csvLines, type Field, single } from "../table.ts";
import { calibration, type Define, device, ending, examples, force, integer, out, precision } from "./command.ts";
import { type ModelOptions, openDevice, openModel, TOKENS_PER_BATCH } from "./model.ts";
import { count, figure } from "./terminal.ts";

interface Options extends ModelOptions {
  type: "delete";
  genes: "all";
  as: "each";
  raw?: string;
}

export const command: Define = (program, context) => {
  program
    .argument("<dataset>", "a .dataset folder of tokenized cells")
    .requiredOption("--model <folder>", "config.json and model.safetensors, as Hugging Face keeps them")
    .addOption(new Option("--type <name>", "what is done to a gene").choices(["delete"]).default("delete"))
    .addOption(new Option("--genes <which>", "which genes: all that a cell has").choices(["all"]).default("all"))
    .addOption(new Option("--as <how>", "one gene at a time").choices(["each"]).default("each"))
    .option("--layer <number>", "0 the last layer, -1 the one before it, and so on", integer(-1000, 0), -1)
    .addOption(
      new Option(
        "--mode <name>",
        "compare the genes that are left, or the <cls> token (default: cls where cells have one, else cell)",
      ).choices(["cell", "cls"]),
    )
    .option("--max-cells <number>", "the first so many cells of the dataset only", integer(1))
    .option("--dictionary <folder>", "the dictionary of the cells, where neither dataset nor model has one beside it")
    .option("--tokens-per-batch <number>", "tokens that run together at most", integer(1), TOKENS_PER_BATCH)
    .option("--raw <file.csv>", "also a row for every cell and gene", ending(".csv"))
    .addOption(device())
    .addOption(precision())
    .addOption(
      calibration(
        "which ways of writing kernels are fastest on this adapter, as pretrain or doctor --calibrate keeps it; without, mixed rounds nothing",
      ),
    )
    .addOption(
      out("the table, a row for every gene: mean cosine over the cells that have it; 1 is unmoved", "--out <file.csv>").argParser(
        ending(".csv"),
      ),
    )
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "perturb cells.dataset --model run --type delete --genes all --max-cells 50 --out shifts.csv",
        "perturb cells.dataset --model Geneformer-V2-104M --mode cls --raw cells.csv --out shifts.csv",
      ),
    )
    .action(async (path: string, options: Options) => {
      for (const file of [options.out, ...(options.raw ? [options.raw] : [])]) await refuseOverwrite(file, options.force);
      const on = await openDevice(options, context);
      const { model, dataset, vocabulary, ends } = await openModel(options.model, path, options.dictionary);
      const mode = options.mode ?? (ends.cls ? "cls" : "cell");
      const special = Number(ends.cls) + Number(ends.eos);
      const most = options.maxCells ?? dataset.length;
      const chosen = longestFirst(dataset).filter((row) => row < most);
      const rows = chosen.filter((row) => dataset.lengths[row] - special >= 2);
      if (rows.length === 0) throw new Error(`"${path}": no cell has two genes or more; there is nothing to compare`);
      const total = rows.reduce((sum, row) => sum + dataset.lengths[row] - special, 0);

      const bar = context.progress("Deleting", total, "genes");
      const began = performance.now();
      const all: (Deletion & { row: number })[] = [];
      for (const row of rows) {
        const before = all.length;
        const onProgress = (deletions: number) => {
          context.signal.throwIfAborted();
          bar.update(before + deletions);
        };
        const { layer, tokensPerBatch } = options;
        for (const deletion of await deleteEach(model, dataset.tokens(row), { layer, mode, ends, tokensPerBatch, onProgress }))
          all.push({ ...deletion, row });
      }
      const seconds = (performance.now() - began) / 1000;
      bar.stop();

      const ids = new Map([...(vocabulary?.tokens ?? [])].map(([id, token]) => [token, id]));
      const named = (token: number) => {
        const id = ids.get(token) ?? "";
        return [token, vocabulary && id ? nameOf(vocabulary, id) : id, id];
      };
      const gene = ["Gene", "Gene_name", "Ensembl_ID"];
      const shifts = byGene(all);
      const each = function* (): Generator<Field[]> {
        for (const { row, token, cosine } of all) yield [row, ...named(token), single(cosine)];
      };
      const means = function* (): Generator<Field[]> {
        for (const { token, mean, deviation, detections } of shifts) yield [...named(token), mean, mean, deviation, detections];
      };
      if (options.raw) await writeLines(options.raw, csvLines(["Cell", ...gene, "Cosine_sim"], each()), options);
      const header = [...gene, "Test_avg_shift", "Cosine_sim_mean", "Cosine_sim_stdev", "N_Detections"];
      await writeLines(options.out, csvLines(header, means()), options); // last: where it is, all is
      const skipped = chosen.length - rows.length;
      context.report(
        {
          out: options.out,
          cells: rows.length,
          skipped,
          deletions: all.length,
          genes: shifts.length,
          mode,
          layer: options.layer,
          seconds,
          deletionsPerSecond: all.length / seconds,
        },
        `${count(all.length)} deletions in ${count(rows.length)} cells, ${count(shifts.length)} genes, ${figure(all.length / seconds)} deletions/s`,
        ...(skipped > 0 ? [`${count(skipped)} cells of fewer than two genes were left out`] : []),
        ...(vocabulary ? [] : ["genes have no names: neither dataset nor model has a dictionary beside it; give --dictionary"]),
        `wrote ${[options.out, ...(options.raw ? [options.raw] : [])].join(" and ")}`,
      );
      on.close();
    });
};

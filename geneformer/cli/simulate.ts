/** `geneformer simulate`: single cells from a known gene regulatory network, the network beside them. */

import { writeCells } from "../data/h5ad.ts";
import { refuseOverwrite, writeWhole } from "../files.ts";
import { describeNetwork, simulate } from "../simulate.ts";
import { type Define, examples, force, integer, list, out, real, seed } from "./command.ts";
import { count } from "./terminal.ts";

interface Options {
  cells: number;
  genes: number;
  types: number;
  depth?: number;
  knockout: string[];
  seed: number;
  out: string;
  force: boolean;
}

export const command: Define = (program, { signal, progress, report }) => {
  program
    .option("--cells <number>", "how many cells", integer(1, 2 ** 31 - 1), 2000)
    .option("--genes <number>", "how many genes", integer(1), 1000)
    .option("--types <number>", "how many cell types, 1 to 16", integer(1), 6)
    .option("--depth <number>", "molecules in a median cell before dropout (default: 3 per gene)", real(1))
    .option("--knockout <genes>", "genes that are not made, by symbol or Ensembl id, with commas between them", list, [])
    .addOption(seed())
    .addOption(out("the cells, an .h5ad file; the network goes beside it as .network.json", "--out <file>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "simulate --cells 2000 --genes 1000 --types 6 --out cells.h5ad",
        "simulate --knockout GATA1 --seed 1 --out without-gata1.h5ad",
      ),
    )
    .action(async (options: Options) => {
      const truth = `${options.out.replace(/\.h5ad$/, "")}.network.json`;
      for (const path of [options.out, truth]) await refuseOverwrite(path, options.force);

      const bar = progress("Simulating", options.cells, "cells");
      const cells = await simulate({ ...options, signal, onProgress: bar.update });
      bar.stop();

      const { genes } = cells.network;
      await writeWhole(
        truth,
        `${JSON.stringify({ seed: options.seed, knockout: options.knockout, ...describeNetwork(cells.network) })}\n`,
        options,
      );
      // last: where the cells are, the network is
      await writeCells(
        options.out,
        {
          X: cells.counts,
          obs: {
            index: cells.barcodes,
            columns: new Map<string, string[] | Float64Array>([
              ["cell_type", [...cells.cellTypes]],
              ["n_counts", cells.nCounts],
            ]),
          },
          var: {
            index: genes.map(({ symbol }) => symbol),
            columns: new Map([
              ["ensembl_id", genes.map(({ ensembl }) => ensembl)],
              ["gene_symbol", genes.map(({ symbol }) => symbol)],
            ]),
          },
        },
        options,
      );

      const detected = cells.counts.data.length / options.cells;
      const types = [...new Set(cells.cellTypes)];
      report(
        { out: options.out, network: truth, cells: options.cells, genes: genes.length, types, genesPerCell: detected },
        `${count(options.cells)} cells of ${types.length} types (${types.join(", ")}), ${count(detected)} of ${count(genes.length)} genes detected in a cell`,
        `wrote ${options.out} and ${truth}`,
      );
    });
};

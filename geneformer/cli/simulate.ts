/** `geneformer simulate`: single cells from a known gene regulatory network, the network beside them. */

import { writeCells } from "../data/h5ad.ts";
import { type ParquetColumn, parquetBytes } from "../data/parquet.ts";
import { PSEUDO_LEVEL, type TrueEffects, trueEffects } from "../effects.ts";
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
  activate: string[];
  effects: boolean;
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
    .option("--activate <genes>", "genes that every cell makes at twice the rate of the type that makes most of them", list, [])
    .option(
      "--effects",
      "also what silencing, and activating, each regulator truly does: the same cells expressed again, the mean log2 fold changes of what it regulates in .effects.parquet (perturbed, kind, cell_type, affected, log2_fold_change, cells)",
      false,
    )
    .addOption(seed())
    .addOption(out("the cells, an .h5ad file; the network goes beside it as .network.json", "--out <file>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "simulate --cells 2000 --genes 1000 --types 6 --out cells.h5ad",
        "simulate --knockout GATA1 --activate SPI1 --seed 1 --out without-gata1.h5ad",
        "simulate --genes 600 --types 4 --effects --out cells.h5ad",
      ),
    )
    .action(async (options: Options) => {
      const stem = options.out.replace(/\.h5ad$/, "");
      const [truth, effects] = [`${stem}.network.json`, `${stem}.effects.parquet`];
      for (const path of [options.out, truth, ...(options.effects ? [effects] : [])]) await refuseOverwrite(path, options.force);

      const bar = progress("Simulating", options.cells, "cells");
      const cells = await simulate({ ...options, signal, onProgress: bar.update });
      bar.stop();
      const again = options.effects ? progress("Expressing again", options.cells, "cells") : null;
      const effectsOf = again && (await trueEffects({ ...options, signal, onProgress: again.update }));
      again?.stop();

      const { genes } = cells.network;
      await writeWhole(
        truth,
        `${JSON.stringify({ seed: options.seed, knockout: options.knockout, activate: options.activate, ...describeNetwork(cells.network) })}\n`,
        options,
      );
      if (effectsOf) await writeWhole(effects, await parquetBytes(columnsOf(effectsOf), { pseudo_level: String(PSEUDO_LEVEL) }), options);
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
      const perturbed = new Set(effectsOf?.effects.map((effect) => effect.perturbed)).size;
      report(
        {
          out: options.out,
          network: truth,
          ...(effectsOf && { effects, perturbed }),
          cells: options.cells,
          genes: genes.length,
          types,
          genesPerCell: detected,
        },
        `${count(options.cells)} cells of ${types.length} types (${types.join(", ")}), ${count(detected)} of ${count(genes.length)} genes detected in a cell`,
        ...(effectsOf ? [`${count(perturbed)} regulators silenced and activated`] : []),
        `wrote ${[options.out, truth, ...(effectsOf ? [effects] : [])].join(", ").replace(/, ([^,]*)$/, " and $1")}`,
      );
    });
};

/** A row for each gene that an intervention reaches, in each cell type. */
function columnsOf({ network: { genes, types }, effects }: TrueEffects): ParquetColumn[] {
  const each = <T>(of: (effect: TrueEffects["effects"][number]) => ArrayLike<T>): T[] =>
    effects.flatMap((effect) => Array.from(of(effect)));
  const same = (word: (effect: TrueEffects["effects"][number]) => string) =>
    each((effect) => new Array<string>(effect.affected.length).fill(word(effect)));
  return [
    { name: "perturbed", type: "string", data: same(({ perturbed }) => genes[perturbed].symbol) },
    { name: "kind", type: "string", data: same(({ intervention }) => intervention) },
    { name: "cell_type", type: "string", data: same(({ type }) => types[type].name) },
    { name: "affected", type: "string", data: each(({ affected }) => affected).map((gene) => genes[gene].symbol) },
    { name: "log2_fold_change", type: "f64", data: Float64Array.from(each(({ log2FoldChange }) => log2FoldChange)) },
    { name: "cells", type: "i32", data: Int32Array.from(each(({ affected, cells }) => new Array<number>(affected.length).fill(cells))) },
  ];
}

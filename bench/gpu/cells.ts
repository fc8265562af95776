/** Writes the real cells that are measured on a GPU to a JSON file: `tsx bench/gpu/cells.ts FILE`, from the data beside the checkout. */

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readDataset } from "../../geneformer/data/dataset.ts";
import { tokenize } from "../../geneformer/data/tokenizer.ts";
import { readVocabulary } from "../../geneformer/data/vocabulary.ts";
import { Key } from "../../src/key.ts";

const CELLS = 1000;
const out = process.argv[2];
if (!out) throw new Error("cells: say where to write: tsx bench/gpu/cells.ts FILE");
const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
if (!existsSync(data)) {
  console.error(`cells: there are no real cells at ${data}; the GPU bench draws random ones then`);
  process.exit(0);
}
const scratch = mkdtempSync(join(tmpdir(), "cells-"));
const cells: Record<string, number[][]> = {};
for (const version of ["v1", "v2"]) {
  const folder = join(scratch, `${version}.dataset`);
  await tokenize({ inputs: [`${data}cells/pbmc3k.h5ad`], vocabulary: await readVocabulary(`${data}dictionaries/${version}`), out: folder });
  const dataset = await readDataset(folder);
  const rows = Key.from(0).permutation(dataset.length).subarray(0, CELLS);
  cells[version] = Array.from(rows, (row) => Array.from(dataset.tokens(row)));
}
rmSync(scratch, { recursive: true });
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, JSON.stringify(cells));
console.log(
  `wrote ${out}: ${Object.entries(cells)
    .map(([name, list]) => `${list.length} cells in ${name}`)
    .join(", ")}`,
);

/** The demo: simulated cells, from counts to a small pretrained Geneformer, its embeddings and the effect of deleting genes. Two cores, no download. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type LossPoint, lossPlot, principalComponents, scatterPlot } from "./plot.ts";

const OUT = "out/demo";
const TS = import.meta.url.endsWith(".ts");
const cli = fileURLToPath(new URL(TS ? "./cli.ts" : "./cli.js", import.meta.url));

/** Run a command as one would at a shell, show it, and give what it reports. */
function geneformer(...args: string[]): Record<string, unknown> {
  process.stderr.write(`\n$ npx --no geneformer ${args.join(" ")}\n`);
  const { status, stdout } = spawnSync(process.execPath, [...process.execArgv, cli, ...args, "--json"], {
    stdio: ["inherit", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (status !== 0) process.exit(status ?? 1);
  return JSON.parse(stdout);
}

const rowsOf = (file: string): string[][] =>
  readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.split(","));

const began = performance.now();
if (existsSync(OUT)) rmSync(OUT, { recursive: true });
mkdirSync(OUT, { recursive: true });

geneformer("simulate", "--cells", "2000", "--genes", "1000", "--types", "6", "--out", `${OUT}/cells.h5ad`);
geneformer("dictionary", `${OUT}/cells.h5ad`, "--model-version", "V2", "--out", `${OUT}/dictionary`);
geneformer(
  "tokenize",
  `${OUT}/cells.h5ad`,
  "--dictionary",
  `${OUT}/dictionary`,
  "--attr",
  "cell_type:cell_type",
  "--out",
  `${OUT}/cells.dataset`,
);
const size = ["--layers", "2", "--width", "64", "--heads", "2", "--inner", "128"];
const pace = [
  "--steps",
  "300",
  "--tokens-per-batch",
  "4096",
  "--warmup",
  "50",
  "--lr",
  "2e-3",
  "--evaluate-every",
  "100",
  "--evaluate-cells",
  "100",
];
const trained = geneformer("pretrain", `${OUT}/cells.dataset`, ...size, ...pace, "--device", "cpu", "--out", `${OUT}/model`);
const embedded = geneformer(
  "embed",
  `${OUT}/cells.dataset`,
  "--model",
  `${OUT}/model`,
  "--mode",
  "cell",
  "--label",
  "cell_type",
  "--vote",
  "cell_type",
  "--device",
  "cpu",
  "--out",
  `${OUT}/embeddings.csv`,
);
const deleted = geneformer(
  "perturb",
  `${OUT}/cells.dataset`,
  "--model",
  `${OUT}/model`,
  "--mode",
  "cell",
  "--max-cells",
  "6",
  "--device",
  "cpu",
  "--out",
  `${OUT}/deletions`,
);
const tabled = geneformer("stats", `${OUT}/deletions`, "--out", `${OUT}/deletions.csv`);
geneformer("stats", `${OUT}/deletions`, "--mode", "effects", "--out", `${OUT}/effects.csv`);
geneformer(
  "plot",
  "shifts",
  `${OUT}/effects.csv`,
  "--min-cells",
  "5",
  "--title",
  "Genes by what deleting them does",
  "--out",
  `${OUT}/effects.svg`,
);

// ---- pictures ------------------------------------------------------------------------------

type Logged = { step?: number; loss?: number; heldOut?: number };
const log: Logged[] = readFileSync(`${OUT}/model/log.jsonl`, "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line));
const points = log.flatMap(({ step, loss, heldOut }): LossPoint[] => {
  if (step === undefined) return [];
  return heldOut === undefined ? [{ step, loss: loss as number, kind: "train" }] : [{ step, loss: heldOut, kind: "held-out" }];
});
const marks = [
  { label: "how common a gene is", value: trained.unigram as number },
  { label: "how common at its rank", value: trained.rank as number },
];
writeFileSync(`${OUT}/loss.svg`, await lossPlot(points, marks));

const table = rowsOf(`${OUT}/embeddings.csv`);
const { coordinates, explained } = principalComponents(table.map((row) => row.slice(1, -1).map(Number)));
const cells = coordinates.map(([x, y], i) => ({ x, y, label: table[i][table[i].length - 1] }));
const shares = explained.map((share) => `${(100 * share).toFixed(0)} %`).join(" and ");
writeFileSync(
  `${OUT}/embeddings.svg`,
  await scatterPlot(cells, {
    title: "Cell embeddings of simulated cells",
    subtitle: `two principal components, ${shares} of the variance`,
    axes: ["PC 1", "PC 2"],
  }),
);

// ---- summary -------------------------------------------------------------------------------

const fixed = (value: unknown, digits = 3) => (value as number).toFixed(digits);
const share = (embedded.vote as { accuracy: number; majority: number }) ?? { accuracy: Number.NaN, majority: Number.NaN };
const strongest = rowsOf(`${OUT}/deletions.csv`)
  .filter((row) => Number(row[7]) >= 3)
  .slice(0, 8);
process.stdout.write(`
What came out (${((performance.now() - began) / 1000).toFixed(0)} s):
  held-out loss          ${fixed(trained.heldOutLoss)} nats; guessing by how common a gene is gives ${fixed(trained.unigram)}, by its rank ${fixed(trained.rank)}
  embeddings             the ten nearest cells name a cell's type right for ${(100 * share.accuracy).toFixed(1)} % (the commonest type is ${(100 * share.majority).toFixed(1)} %)
  deletions              ${deleted.pairs} in ${deleted.cells} cells, of ${tabled.rows} genes; among genes of three cells or more these move a cell most (1 is unmoved):
${strongest.map((row) => `                           ${row[2].padEnd(10)} ${Number(row[4]).toFixed(5)} in ${row[7]} cells`).join("\n")}
  pictures               ${OUT}/loss.svg, ${OUT}/embeddings.svg, ${OUT}/effects.svg
  files                  ${OUT}/cells.h5ad, cells.network.json, dictionary/, cells.dataset/, model/, embeddings.csv, deletions/, deletions.csv, effects.csv
`);

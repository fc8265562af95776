#!/usr/bin/env node
/** The command line, `geneformer`: a table of commands, each in a small file of its own that is loaded when it is asked for. */

import { existsSync, readFileSync } from "node:fs";
import { run, STOPPED, type Table } from "./cli/run.ts";

/** One line a command; what its file exports is said in cli/command.ts. */
const COMMANDS: Table = {
  doctor: ["devices found, whether every kernel is right on them, what auto takes", () => import("./cli/doctor.ts")],
  simulate: ["single cells from a known gene regulatory network", () => import("./cli/simulate.ts")],
  dictionary: ["token and median dictionaries of a corpus", () => import("./cli/dictionary.ts")],
  tokenize: ["counts to rank value encodings, a .dataset folder", () => import("./cli/tokenize.ts")],
  pretrain: ["masked pretraining", () => import("./cli/pretrain.ts")],
  embed: ["embeddings of cells", () => import("./cli/embed.ts")],
  perturb: ["in silico perturbation of genes", () => import("./cli/perturb.ts")],
  treat: ["genes whose perturbation brings cells to another state", () => import("./cli/treat.ts")],
  stats: ["tables of what perturbations did", () => import("./cli/stats.ts")],
  plot: ["pictures of what perturbations did, as SVG or PNG", () => import("./cli/plot.ts")],
  inspect: ["the inside of a forward pass as safetensors", () => import("./cli/inspect.ts")],
};

const stop = new AbortController();
process.on("SIGINT", () => {
  if (stop.signal.aborted) process.exit(STOPPED);
  process.stderr.write("\nstopping (Ctrl-C again: at once)\n");
  stop.abort();
});

// One folder up from the sources, two from dist/.
const manifest = ["../package.json", "../../package.json"].map((path) => new URL(path, import.meta.url)).find((url) => existsSync(url))!;
const status = await run(COMMANDS, process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
  version: JSON.parse(readFileSync(manifest, "utf8")).version,
  debug: Boolean(process.env.GENEFORMER_DEBUG),
});
// Devices and workers may hold the process open; what is left in stdout goes out first.
process.stdout.write("", () => process.exit(status));

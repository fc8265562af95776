/**
 * On a machine with a GPU: ours on WebGPU beside PyTorch on the same card, in one run. It is packed into one file, as such a machine may have no network:
 *
 *   npm run bench:gpu                                     packs it into .gpu/, with the cells that are measured (bench/gpu/cells.ts)
 *   bash .gpu/run.sh gpu.mjs --cells .gpu/cells.json --torch bench/peers/pytorch.py --out FOLDER       there, with PyTorch in its python3
 *
 * `--small` is a rehearsal of all of it that a software adapter can do; `--rounds N`; words choose works by their titles.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { open } from "../src/device.ts";
import { type CardWork, cardWorks } from "./gpu/works.ts";
import { openOurs } from "./peers/ours.ts";
import { inProcess } from "./peers/process.ts";
import { type Racer, race } from "./peers/race.ts";
import { json, linesOf, markdown, type Section, textTable } from "./peers/report.ts";
import { serve } from "./peers/serve.ts";
import type { Open } from "./peers/task.ts";
import { prepareFolder } from "./peers/works.ts";

/** Ours, f32 and mixed: what is fastest on the card is found out first, by calibration, and not timed. */
const openers: Readonly<Record<string, Open>> = {
  ours: (job) => openOurs("webgpu", job, { calibrated: job.threads > 0 }),
  "ours-mixed": (job) => openOurs("webgpu", job, { calibrated: job.threads > 0, precision: "mixed", experimental: true }),
};

if (process.argv.includes("--child")) await serve(openers);

const { values: options, positionals: words } = parseArgs({
  allowPositionals: true,
  options: {
    cells: { type: "string" },
    torch: { type: "string", default: "bench/peers/pytorch.py" },
    out: { type: "string" },
    rounds: { type: "string", default: "5" },
    small: { type: "boolean", default: false },
    "no-torch": { type: "boolean", default: false },
  },
});

/** Milliseconds a turn lasts, unless one run takes longer. */
const TURN = 1000;
const rounds = Number(options.rounds);

const adapter = await open("webgpu", { experimental: true, precision: "mixed" });
console.log(`${adapter.description}: ${[...(adapter.choices?.abilities.features ?? [])].join(", ")}`);
for (const { type, m, n, k } of adapter.choices?.abilities.units ?? []) console.log(`matrix unit ${m} x ${n} x ${k} of ${type}, sums f32`);
const card = adapter.description;
adapter.close();

/** This program again, holding a contender: a bundle is one file, a checkout needs the loader that runs this. */
const again = [process.execPath, ...process.execArgv, process.argv[1], "--child"];
const python = existsSync(options.torch) ? [process.env.PYTHON ?? "python3", options.torch] : null;
const scratch = mkdtempSync(join(tmpdir(), "gpu-"));
const sections: Section[] = [];
try {
  const given = options.cells ? (JSON.parse(readFileSync(options.cells, "utf8")) as Readonly<Record<string, number[][]>>) : {};
  for (const work of cardWorks(options.small, given)) {
    if (words.length > 0 && !words.some((word) => work.title.includes(word))) continue;
    const section = await run(work);
    sections.push(section);
    console.log(textTable(section));
    for (const { name, min } of linesOf(section)) if (min !== null) console.log(`  ${name}: ${work.rate(min)}`);
    console.log();
  }
} finally {
  rmSync(scratch, { recursive: true });
}
if (options.out) {
  mkdirSync(options.out, { recursive: true });
  const date = new Date().toISOString().slice(0, 10);
  const machine = `${card}; ${cpus().length} cores of ${cpus()[0].model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB; driver ${driver()}`;
  const circumstances = { date, commit: process.env.COMMIT ?? "unknown", machine, node: process.version, rounds };
  writeFileSync(join(options.out, `gpu-${date}.md`), markdown(sections, circumstances));
  writeFileSync(join(options.out, `gpu-${date}.json`), json(sections, circumstances));
}
process.exit(0);

async function run({ title, task, cells, entrants, limits }: CardWork): Promise<Section> {
  const folder = join(scratch, "work");
  await prepareFolder(folder, task, cells, "reference"); // the cpu device's kernels are not in a bundle
  const racers = entrants.flatMap(({ name, opener, slack }): Racer[] => {
    const torch = opener.startsWith("torch");
    if (torch && (!python || options["no-torch"])) return [];
    const threads = options.small ? 0 : 1; // 0: without calibration
    return [{ ...inProcess({ name, command: torch ? (python ?? []) : again, folder, opener, threads }), slack }];
  });
  try {
    return { title, limits, outcomes: await race(racers, { rounds, turn: TURN }) };
  } finally {
    for (const racer of racers) await racer.close();
  }
}

function driver(): string {
  try {
    return execFileSync("nvidia-smi", ["--query-gpu=driver_version", "--format=csv,noheader"], { encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}

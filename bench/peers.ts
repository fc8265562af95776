/** Ours beside others at the same work, results compared first: `npm run bench:peers -- [word ...] [--rounds 5] [--save] [--curve] [--browser]`. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { commit, machine, today } from "./circumstances.ts";
import { curve } from "./peers/curve.ts";
import { disturbance } from "./peers/disturbance.ts";
import { commandOf, findTorch, inProcess, newest, here as thisNode } from "./peers/process.ts";
import { type Outcome, type Racer, race } from "./peers/race.ts";
import { type Circumstances, isDisturbed, json, markdown, type Section, textTable } from "./peers/report.ts";
import { forwardAt, lengths, prepareFolder, type Work, works } from "./peers/works.ts";

const here = fileURLToPath(new URL("./", import.meta.url));

const { values: options, positionals: words } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "5" },
    save: { type: "boolean", default: false },
    curve: { type: "boolean", default: false },
    browser: { type: "boolean", default: false },
  },
});
const rounds = Number(options.rounds);
if (!(Number.isInteger(rounds) && rounds > 0)) throw new RangeError(`--rounds: must be a positive integer; got ${options.rounds}`);

/** Milliseconds a turn lasts, unless one run takes longer. */
const TURN = 1000;

install();
const torch = findTorch();
const engine = newest();
console.log(`${machine()}; Node ${engine.version}; ${"reason" in torch ? `no PyTorch: ${torch.reason}` : torch.description}\n`);
const scratch = mkdtempSync(join(tmpdir(), "peers-"));
process.once("exit", () => rmSync(scratch, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
const sections: Section[] = [];
if (options.browser) {
  const { pageSections } = await import("./peers/browser.ts");
  for await (const section of pageSections({ scratch, rounds, words })) show(section, sections);
} else if (options.curve) {
  const times = new Map<string, [length: number, ms: number][]>();
  for (const length of lengths) {
    const section = await run(forwardAt(length));
    show(section, sections);
    for (const each of section.outcomes)
      if (each.state === "timed") times.set(each.name, [...(times.get(each.name) ?? []), [length, Math.min(...each.times)]]);
  }
  const file = `${here}results/forward-${today()}.svg`;
  writeFileSync(
    file,
    await curve(times, `${machine()}; commit ${commit()}${sections.some(isDisturbed) ? "; DISTURBED by other programs" : ""}`),
  );
  console.log(`wrote ${file}`);
} else
  for (const work of await works(scratch)) {
    if (words.length > 0 ? !words.some((word) => work.title.includes(word)) : work.long) continue;
    show(await run(work), sections);
  }
if (options.save) save(sections);
process.exit(0);

/** Peers are installed when they are first asked for: nobody else needs them. */
function install(): void {
  if (existsSync(`${here}node_modules`)) return;
  console.error("bench: installing the peers (npm ci, in bench/)");
  execFileSync("npm", ["ci"], { cwd: here, stdio: ["ignore", "inherit", "inherit"] });
}

async function run({ title, task, cells, entrants }: Work): Promise<Section> {
  const folder = join(scratch, "work");
  await prepareFolder(folder, task, cells);
  const racers = entrants.flatMap(({ name, opener, threads }, i): Racer[] => {
    const by = (command: readonly string[], called = name) => inProcess({ name: called, command, folder, opener, threads });
    if (opener === "torch") return ["reason" in torch ? absent(name, torch.reason) : by(torch.command)];
    const older = i === 0 && engine !== thisNode ? [by(commandOf(thisNode), `${name}, Node ${thisNode.version}`)] : [];
    return [by(commandOf(engine)), ...older];
  });
  try {
    const looks: number[] = [];
    const onRound = async () => void looks.push(await disturbance());
    const outcomes: Outcome[] = await race(racers, { rounds, turn: TURN, onProgress: progress, onRound });
    const limits = Object.fromEntries(entrants.flatMap(({ name, atMost }) => (atMost === undefined ? [] : [[name, atMost]])));
    return { title, limits, outcomes, disturbance: looks.reduce((a, b) => a + b, 0) / looks.length };
  } finally {
    for (const racer of racers) await racer.close();
  }
}

/** Somebody who is not there. */
function absent(name: string, reason: string): Racer {
  const refuse = () => Promise.reject(new Error(reason));
  return { name, open: refuse, result: refuse, time: refuse, close: async () => {} };
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function show(section: Section, sections: Section[]): void {
  progress("");
  console.log(textTable(section));
  sections.push(section);
}

function save(sections: readonly Section[]): void {
  const circumstances: Circumstances = { date: today(), commit: commit(), machine: machine(), node: engine.version, rounds };
  const where = options.browser ? "browser" : `node${/\d+/.exec(engine.version)}`;
  const chosen = words.map((word) => `${word.replaceAll(/\W+/g, "-")}-`).join("");
  const name = `${here}results/peers-${chosen}${where}-${today()}`;
  writeFileSync(`${name}.md`, markdown(sections, circumstances));
  writeFileSync(`${name}.json`, json(sections, circumstances));
  console.log(`wrote ${name}.md and .json`);
}

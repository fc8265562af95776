/**
 * Puts each deliberate bug into a copy of the tree and sees that the tests find it: `npx tsx test/mutation/run.ts [words of a bug]`.
 *
 * Exit status 1 when a bug survives, when its line is no longer found, or when the suites fail without any bug.
 */

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { type Mutant, others, required } from "./mutants.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const tree = ["kernels", "src", "autograd", "nn", "geneformer", "bench", "test", "package.json", "tsconfig.json", "vitest.config.ts"];
const wanted = process.argv.slice(2).join(" ");
const mutants = [...required, ...others].filter(({ bug }) => bug.includes(wanted));

const copy = mkdtempSync(join(tmpdir(), "mutation-"));
process.on("exit", () => rmSync(copy, { recursive: true, force: true }));
const filter = (path: string) => !path.endsWith("node_modules"); // the bench's peers are many
for (const name of tree) if (existsSync(join(root, name))) cpSync(join(root, name), join(copy, name), { recursive: true, filter });
symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));

const node = (args: readonly string[], devices?: string) =>
  spawnSync(process.execPath, args, { cwd: copy, encoding: "utf8", env: { ...process.env, ...(devices && { TEST_DEVICES: devices }) } });

/** What the suites say, as the tree stands: null when they pass, else the first of their errors. */
function complaint({ suites, tests, devices }: Mutant): string | null {
  const pattern = tests ? ["-t", tests] : [];
  const { status, stdout, stderr } = node(
    ["node_modules/vitest/vitest.mjs", "run", "--bail", "1", "--reporter=dot", ...pattern, ...suites],
    devices,
  );
  const said = stripVTControlCharacters(stdout + stderr);
  if (!/^\s*Tests\s+.*\d+ (passed|failed)/m.test(said)) throw new Error(`no test ran: ${suites.join(" ")} ${tests ?? ""}\n${said}`);
  return status === 0 ? null : (/^(?:Caused by: )?(\w*Error: (?!Property failed).*)/m.exec(said)?.[1] ?? `exit status ${status}`);
}

/** Compile the AssemblyScript kernels anew, where the bug is in them. */
const build = ({ file }: Mutant): void => {
  if (!file.startsWith("kernels/cpu/assembly")) return;
  for (const name of readdirSync(join(copy, "kernels/cpu"))) if (name.endsWith(".wasm")) rmSync(join(copy, "kernels/cpu", name));
  if (node(["kernels/cpu/build.mjs"]).status !== 0) throw new Error(`${file} does not compile with the bug in it`);
};

const sound = new Map<string, string | null>();
let bad = 0;
const say = (verdict: string, { bug, file }: Mutant, since: number) =>
  console.log(`${verdict.padEnd(9)} ${((Date.now() - since) / 1000).toFixed(0).padStart(4)} s  ${bug} (${file})`);

for (const mutant of mutants) {
  const path = join(copy, mutant.file);
  const text = readFileSync(path, "utf8");
  const since = Date.now();
  const command = JSON.stringify([mutant.suites, mutant.tests, mutant.devices]);
  try {
    if (!text.includes(mutant.find)) throw new Error(`its line is not in the file any more: ${mutant.find}`);
    if (!sound.has(command)) sound.set(command, complaint(mutant));
    if (sound.get(command) !== null) throw new Error(`the suites fail without it: ${mutant.suites.join(" ")}: ${sound.get(command)}`);
    writeFileSync(
      path,
      text.replace(mutant.find, () => mutant.replace),
    );
    build(mutant);
    const why = complaint(mutant);
    if (why === null) bad++;
    say(why === null ? "SURVIVED" : "caught", mutant, since);
    if (why !== null) console.log(`                  ${why.slice(0, 160)}`);
  } catch (error) {
    bad++;
    say("BROKEN", mutant, since);
    console.log(`          ${(error as Error).message}`);
  } finally {
    writeFileSync(path, text);
    build(mutant);
  }
}
console.log(`${mutants.length - bad} of ${mutants.length} bugs were caught`);
process.exitCode = bad === 0 ? 0 : 1;

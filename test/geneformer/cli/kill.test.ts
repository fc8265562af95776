/** A run of perturbations whose process is killed at ten random moments, each time resumed: it ends with the bytes of an undisturbed one. */

import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Key } from "../../../src/key.ts";
import { scratch } from "../data/scratch.ts";
import { toyCells, writeRandomModel, writeToy } from "../toy.ts";

const path = scratch();
const root = fileURLToPath(new URL("../../../", import.meta.url));
const KILLS = 10;

/** The command in a process of its own. @param kill ms after it began to perturb, to send SIGKILL. @returns the exit status, or null if it was killed; and how long it perturbed. */
function run(out: string, kill: number | null): Promise<{ status: number | null; ms: number }> {
  const settings = ["--device", "cpu", "--tokens-per-batch", "40", "--tokens-per-shard", "2000", "--affected", "--mode", "cell"];
  const command = ["perturb", path("cells.dataset"), "--model", path("model"), ...settings, "--resume", "--out", out];
  const child = spawn(process.execPath, [`${root}node_modules/tsx/dist/cli.mjs`, `${root}geneformer/cli.ts`, ...command], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  let [said, began, timer]: [string, number, NodeJS.Timeout | null] = ["", 0, null];
  child.stderr.on("data", (text) => {
    said += text;
    if (began || !/forward passes/.test(said)) return;
    began = performance.now();
    if (kill === null) return;
    timer = setTimeout(() => {
      try {
        process.kill(-(child.pid ?? 0), "SIGKILL"); // the group: tsx runs it in a child
      } catch {} // it ended by itself
    }, kill);
  });
  return new Promise((resolve) => {
    child.once("exit", (status) => {
      if (timer) clearTimeout(timer);
      resolve({ status, ms: performance.now() - began });
    });
  });
}

/** The shards of a run, in order: none where it was killed before its folder was. */
const shards = (out: string) =>
  existsSync(out) ? readdirSync(out).filter((name) => /^(pairs|genes)-\d+\.parquet$/.test(name)).sort() : []; // biome-ignore format: one line

test("kill -9, ten times", async () => {
  await writeToy(path("cells.dataset"), toyCells(600));
  await writeRandomModel(path("model"));
  const [whole, broken] = [path("whole"), path("broken")];
  const { status, ms } = await run(whole, null);
  expect(status).toBe(0);
  expect(shards(whole).length).toBeGreaterThan(10);
  const done: number[] = [];
  for (const moment of Key.from(Date.now() % 1000).uniforms(KILLS)) {
    if ((await run(broken, (moment * ms) / 4)).status !== null) break; // it came to its end
    done.push(shards(broken).length);
  }
  console.log(`files after each kill: ${done.join(", ")} of ${shards(whole).length}`);
  expect(done.length).toBeGreaterThan(1);
  expect((await run(broken, null)).status).toBe(0);
  expect(shards(broken)).toEqual(shards(whole));
  for (const name of shards(whole)) expect(readFileSync(`${broken}/${name}`).equals(readFileSync(`${whole}/${name}`)), name).toBe(true);
  const partial = readdirSync(broken).filter((name) => name.includes(".partial-"));
  expect(partial).toEqual([]);
});

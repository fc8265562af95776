/** Where and when a figure was taken: without these it is a rumour. */

import { execFileSync } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("./", import.meta.url));

export const today = (): string => new Date().toISOString().slice(0, 10);

export function machine(): string {
  const all = cpus();
  return `${all.length} cores of ${all[0].model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${process.arch}`;
}

export function commit(): string {
  const git = (...args: string[]) => execFileSync("git", args, { cwd: here, encoding: "utf8" }).trim();
  return `${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--untracked-files=no") ? " and changes" : ""}`;
}

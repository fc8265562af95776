/** What a command of the command line is, what it is given, and the options that commands share. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { Progress } from "./terminal.ts";

/**
 * The contract of a file in cli/: it exports this function under the name `command`, and cli.ts has one line that names it.
 *
 *     export const command: Define = (program, { report, progress }) => {
 *       program
 *         .argument("<dataset>", "a .dataset folder")
 *         .addOption(out("where the embeddings go"))
 *         .addHelpText("after", examples("embed a.dataset --out a.csv", "embed a.dataset --layer 0 --out a.csv"))
 *         .action(async (dataset: string, options: { out: string }) => { ... report({ cells }, `${cells} cells in ${options.out}`); });
 *     };
 *
 * `program` carries its name, its summary and --json already. The action calls one function of the library and reports what it did. It throws to
 * fail (exit status 1, the error's message as one sentence on stderr), hands `context.signal` on to long work, and throws `Stopped` if it can say more than
 * that nothing was written. Outputs are written whole or not at all (files.ts) and not over others without --force.
 */
export type Define = (program: Command, context: Context) => void;

export interface Context {
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
  /** A line on stderr. */
  say(line: string): void;
  /** The results: `lines` on stderr for people; with --json also `result` on stdout, for programs. */
  report(result: Record<string, unknown>, ...lines: string[]): void;
  /** Progress of `total` things called `unit`, `start` of them done before: `progress("Tokenizing", 2700, "cells")`. */
  progress(label: string, total: number | undefined, unit: string, start?: number): Progress;
}

/** Thrown by a command that Ctrl-C stopped: the message says what is on disk and how to go on. */
export class Stopped extends Error {
  override readonly name = "Stopped";
}

/** `--device`, where to compute. */
export const device = (): Option => new Option("--device <name>", "where to compute").choices(["auto", "webgpu", "cpu"]).default("auto");

/** `--precision`, what products may be rounded to. */
export const precision = (): Option =>
  new Option("--precision <name>", "mixed lets WebGPU round what it multiplies to f16, where a calibration found that faster")
    .choices(["f32", "mixed"])
    .default("f32");

/** `--calibration`, which ways of writing kernels are fastest. */
export const calibration = (description: string): Option => new Option("--calibration <file.json>", description).argParser(ending(".json"));

/** `--seed`, a number that all randomness comes from. */
export const seed = (): Option =>
  new Option("--seed <number>", "the same seed gives the same result").argParser(integer(0, Number.MAX_SAFE_INTEGER)).default(0);

/** `--out`, which a command that writes cannot do without. */
export const out = (description: string, flags = "--out <path>"): Option => new Option(flags, description).makeOptionMandatory();

/** Parser of the name of a file, whose ending says in what format it is written. */
export function ending(...extensions: string[]): (text: string) => string {
  return (text) => {
    if (extensions.some((extension) => text.endsWith(extension))) return text;
    throw new InvalidArgumentError(`It must end in ${extensions.join(" or ")}.`);
  };
}

/** `--force`, to write over what is there. */
export const force = (): Option => new Option("--force", "replace an output that exists").default(false);

/** Parser of an integer option in a range, both ends included. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return number("an integer", least, most, (text) => (/^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN));
}

/** Parser of an option that is a number in a range, both ends included. */
export function real(least: number, most = Number.POSITIVE_INFINITY): (text: string) => number {
  return number("a number", least, most, (text) => (text.trim() === "" ? Number.NaN : Number(text)));
}

function number(kind: string, least: number, most: number, parse: (text: string) => number): (text: string) => number {
  const open = most === Number.MAX_SAFE_INTEGER || most === Number.POSITIVE_INFINITY;
  return (text) => {
    const value = parse(text);
    if (value >= least && value <= most && Number.isFinite(value)) return value;
    throw new InvalidArgumentError(`It must be ${kind} ${open ? `of at least ${least}` : `from ${least} to ${most}`}.`);
  };
}

/** Parser of an option that may be given several times, each a list: `--knockout GATA1,SPI1 --knockout PAX5`. */
export function list(text: string, before: readonly string[] = []): string[] {
  const items = text.split(",").map((item) => item.trim());
  if (items.includes("")) throw new InvalidArgumentError("It must be names with commas between them.");
  return [...before, ...items];
}

/** Parser of an option that may be given several times, each a pair: with ":" between, `--attr louvain:cell_type`. */
export function pairs(separator: string): (text: string, before?: ReadonlyMap<string, string>) => Map<string, string> {
  return (text, before = new Map()) => {
    const at = text.indexOf(separator);
    const [key, value] = [text.slice(0, at).trim(), text.slice(at + 1).trim()];
    if (at < 0 || key === "" || value === "") throw new InvalidArgumentError(`It must be two names with "${separator}" between them.`);
    if (before.has(key)) throw new InvalidArgumentError(`"${key}" is given twice.`);
    return new Map(before).set(key, value);
  };
}

/** Parser of `--filter tissue=blood,marrow`, which may be given for several columns. */
export function filters(text: string, before: ReadonlyMap<string, string[]> = new Map()): Map<string, string[]> {
  const [[column, values]] = pairs("=")(text);
  return new Map(before).set(column, [...(before.get(column) ?? []), ...list(values)]);
}

/** An `onProgress(done, total)` for the library, which draws progress, and throws once the user wants to stop. */
export function watch(context: Context, label: string, unit: string): { onProgress(done: number, total: number): void; stop(): void } {
  const bar = context.progress(label, undefined, unit);
  return {
    onProgress(done, total) {
      context.signal.throwIfAborted();
      bar.update(done, undefined, total);
    },
    stop: bar.stop,
  };
}

/** The end of a command's help. */
export const examples = (...lines: [string, string, ...string[]]): string =>
  `\nExamples:\n${lines.map((line) => `  $ geneformer ${line}`).join("\n")}`;

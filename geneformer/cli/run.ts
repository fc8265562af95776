/** Runs one command of a table: loads its file alone, and turns whatever happens into one sentence and an exit status. */

import { Command, CommanderError, Help } from "commander";
import { type Context, type Define, Stopped } from "./command.ts";
import { ERASE, progress, type Stream } from "./terminal.ts";

/** Name -> [summary, loader of the file that exports `command`]. */
export type Table = Readonly<Record<string, readonly [summary: string, load: () => Promise<{ command: Define }>]>>;

export interface Surroundings {
  stdout: Stream;
  stderr: Stream;
  /** Aborted when the user wants to stop. */
  signal: AbortSignal;
  version: string;
  /** Whether errors show where they come from. */
  debug?: boolean;
}

/** Exit statuses. A run stopped by Ctrl-C ends as shells expect of SIGINT: 128 + 2. */
export const DONE = 0;
export const FAILED = 1;
export const MISUSED = 2;
export const STOPPED = 130;

/** Runs the command that `args` names; resolves to the exit status. */
export async function run(
  table: Table,
  args: readonly string[],
  { stdout, stderr, signal, version, debug }: Surroundings,
): Promise<number> {
  const words = args[0] === "help" ? [...args.slice(1), "--help"] : args;
  const name = Object.hasOwn(table, words[0] ?? "") ? words[0] : undefined;
  const say = (line: string) => void stderr.write(`${stderr.isTTY ? ERASE : ""}${line}\n`); // over what a bar drew
  const root = new Command("geneformer")
    .description("Geneformer, the transformer that reads a cell as its genes ranked by expression.")
    .version(version)
    .helpCommand(false)
    .addHelpText("after", "\ngeneformer COMMAND --help says more. Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.")
    .usage("COMMAND [options]");
  for (const [each, [summary]] of Object.entries(table)) root.command(each).description(summary);
  for (const command of [root, ...root.commands]) {
    command.configureHelp({
      // That a switch is off and a list empty goes without saying.
      optionDescription: (option) => new Help().optionDescription(option).replace(/ \(default: (false|\{\}|\[\])\)/, ""),
    });
    command.exitOverride().configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      outputError: () => {}, // said below, in our grammar
    });
  }
  try {
    if (words.length === 0) {
      root.outputHelp({ error: true });
      return MISUSED;
    }
    if (name !== undefined) {
      const command = root.commands.find((each) => each.name() === name)!;
      const context: Context = {
        signal,
        say,
        progress: (...args) => progress(stderr, ...args),
        report(result, ...lines) {
          lines.forEach(say);
          if (command.opts().json) stdout.write(`${JSON.stringify(result)}\n`);
        },
      };
      (await table[name][1]()).command(command, context);
      command.option("--json", "print the results as JSON on stdout", false);
    }
    await root.parseAsync(words, { from: "user" });
    return DONE;
  } catch (error) {
    const where = name === undefined ? "geneformer" : `geneformer ${name}`;
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return DONE; // --help and --version
      const command = root.commands.find((each) => each.name() === name);
      say(`${where}: ${usage((command && (await misspelt(root, command, words, error))) ?? error, command ?? root)}`);
      return MISUSED;
    }
    if (debug && error instanceof Error) say(error.stack ?? "");
    if (error instanceof Stopped) say(`${where}: stopped; ${error.message}`);
    else if (signal.aborted) say(`${where}: stopped; nothing was written under its final name, run the same command again`);
    else say(`${where}: ${sentence(error, name)}`);
    return signal.aborted ? STOPPED : FAILED;
  }
}

/** An error in one line. A library function of the command's own name has said that already. */
function sentence(error: unknown, name: string | undefined): string {
  const message = error instanceof Error ? error.message || error.name : String(error);
  const line = message.trim().replace(/\s*\n\s*/g, "; ");
  return name !== undefined && line.startsWith(`${name}: `) ? line.slice(name.length + 2) : line;
}

/** Commander looks for missing options first; but who wrote --otu for --out wants to hear of that. */
async function misspelt(
  root: Command,
  command: Command,
  words: readonly string[],
  error: CommanderError,
): Promise<CommanderError | undefined> {
  if (error.code !== "commander.missingMandatoryOptionValue") return undefined;
  for (const option of command.options) option.makeOptionMandatory(false);
  command.action(() => {});
  return root.parseAsync(words, { from: "user" }).then(
    () => undefined,
    (other) => (other instanceof CommanderError ? other : undefined),
  );
}

/** Commander's message in one line, with the nearest name, or all of them if none is near. */
function usage(error: CommanderError, command: Command): string {
  const line = error.message
    .replace(/^error: /, "")
    .replace(/\n\(Did you mean (.*)\?\)$/, "; did you mean $1?")
    .replace(/\s*\n\s*/g, " ");
  if (line.includes("did you mean")) return line;
  if (error.code === "commander.unknownOption")
    return `${line}; the options are ${command.options.map((option) => option.long).join(", ")}`;
  if (error.code === "commander.unknownCommand")
    return `${line}; the commands are ${command.commands.map((each) => each.name()).join(", ")}`;
  return line;
}

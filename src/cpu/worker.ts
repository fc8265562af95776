/** A thread of the cpu device, in a page's Worker or Node's: a helper that does parts of kernels, or the one that owns the queue in a page. */

import { kernelOf } from "../../kernels/all.ts";
import type { Command, Reply } from "./calls.ts";
import { bottomOf, Engine, functionsOf, grow, memoryOf } from "./engine.ts";
import { type Control, help } from "./team.ts";

/** The first message. */
export interface Start {
  readonly module: WebAssembly.Module;
  /** Was it compiled for vectors of 8? */
  readonly wide: boolean;
  /** The memory shared with other threads; null: a memory of its own. */
  readonly memory: WebAssembly.Memory | null;
  readonly control: Control | null;
  readonly threads: number;
  /** A helper's number, from 1; 0 for the owner of the queue. */
  readonly part: number;
}

interface Port {
  postMessage(message: unknown, transfer?: readonly ArrayBuffer[]): void;
  listen(hear: (message: unknown) => void): void;
}

/** How a thread talks to who started it: by its global scope in a page, by its parent's port in Node. */
function portOf(): Port {
  const node = globalThis.process?.getBuiltinModule?.("node:worker_threads")?.parentPort;
  if (node)
    return {
      postMessage: (message, transfer = []) => node.postMessage(message, [...transfer]),
      listen: (hear) => void node.on("message", hear),
    };
  const page = globalThis as unknown as DedicatedWorkerGlobalScope;
  return {
    postMessage: (message, transfer = []) => page.postMessage(message, [...transfer]),
    listen: (hear) => page.addEventListener("message", ({ data }) => hear(data)),
  };
}

interface DedicatedWorkerGlobalScope {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  addEventListener(type: "message", hear: (event: { readonly data: unknown }) => void): void;
}

/** The kernel of a command, for an error. */
const said = (command: Command): string =>
  command.do === "call" ? command.name : command.do === "loops" ? command.kernel.join(" ") : command.do;

/** Carries out commands, remembering the first that failed until somebody reads. */
function owner(engine: Engine, port: Port): (commands: readonly Command[]) => void {
  let error: string | undefined;
  let short: number | undefined;
  const kept = new Map<number, readonly Command[]>();
  const carryOut = (command: Command): void => {
    switch (command.do) {
      case "call":
        engine.call(command);
        break;
      case "loops": {
        const kernel = kernelOf(command.kernel);
        if (!kernel) throw new Error(`cpu: there is no kernel ${command.kernel.join(" ")}`);
        engine.loops(kernel, command.buffers, command.params);
        break;
      }
      case "write":
        engine.view(command.to).set(command.values);
        break;
      case "keep":
        kept.set(command.id, command.commands);
        break;
      case "replay":
        for (const each of kept.get(command.id) ?? []) attempt(each);
        break;
      case "forget":
        kept.delete(command.id);
        break;
      case "grow":
        if (!grow(engine.memory, command.bytes)) short = engine.memory.buffer.byteLength;
        break;
      case "read": {
        const failed = error !== undefined || short !== undefined;
        const reply: Reply = failed ? { id: command.id, error, short } : { id: command.id, values: engine.copy(command.from) };
        error = undefined;
        short = undefined;
        port.postMessage(reply, reply.values ? [reply.values.buffer as ArrayBuffer] : []);
      }
    }
  };
  const attempt = (command: Command): void => {
    try {
      carryOut(command);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      error ??= command.do === "call" || command.do === "loops" ? `cpu: ${said(command)}: ${why}` : why;
      if (command.do !== "read") return;
      port.postMessage({ id: command.id, error } satisfies Reply);
      error = undefined;
      short = undefined;
    }
  };
  return (commands) => {
    for (const command of commands) attempt(command);
  };
}

const port = portOf();
let commands: ((commands: readonly Command[]) => void) | null = null;

async function start({ module, wide, memory: given, control, threads, part }: Start): Promise<void> {
  const memory = given ?? memoryOf(false);
  const functions = await functionsOf(module, wide, memory);
  port.postMessage(bottomOf(functions)); // ready
  if (part > 0 && control) help(control, functions, part);
  commands = owner(new Engine(memory, functions, threads, control), port);
}

port.listen((message) => {
  if (commands) commands(message as readonly Command[]);
  else void start(message as Start);
});

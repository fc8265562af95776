/** The cpu device: WebAssembly memory, the kernels compiled from AssemblyScript on one or more threads, and the loops of those that have none. */

import { bytesOf, type Dtype, type Kernel, type Values, valuesOf, variantOf } from "../kernels/kernel.ts";
import { type Command, callOf, paramsOf, type Region, type Reply, shares, WORTHWHILE } from "./cpu/calls.ts";
import { bottomOf, Engine, functionsOf, grow, MOST_BYTES, memoryOf } from "./cpu/engine.ts";
import { type Build, kernelsAt, mayFuse, mayWiden } from "./cpu/module.ts";
import { type Control, controlFor } from "./cpu/team.ts";
import type { Start } from "./cpu/worker.ts";
import type { Device, Memory, OpenOptions, Recording, Replay } from "./device.ts";
import { DeviceLost, OutOfMemory } from "./errors.ts";
import { Heap, HeapBranch } from "./heap.ts";
import { node } from "./node.ts";
import { Branching } from "./pool.ts";

/** The event loop gets a turn at a read so often, ms: work done in place would leave timers and signals unheard. */
const TURN = 100;
/** The most threads that are taken unasked: beyond, kernels of our sizes gain little. */
const MOST_THREADS = 16;

// ---- what the platform has -----------------------------------------------------------------

/** The compiled kernels, found by bundlers through `new URL`. */
const kernels = (build: Build): Promise<WebAssembly.Module> =>
  kernelsAt(
    build.fused ? new URL("../kernels/cpu/kernels.fused.wasm", import.meta.url) : new URL("../kernels/cpu/kernels.wasm", import.meta.url),
    build,
  );

/** May threads share memory here? In a page only when it is cross-origin isolated. */
const mayShare = (): boolean => typeof SharedArrayBuffer !== "undefined" && globalThis.crossOriginIsolated !== false;

const cores = (): number =>
  node ? node.getBuiltinModule("node:os").availableParallelism() : (globalThis.navigator?.hardwareConcurrency ?? 1);

/** A page's main thread may not wait: there the queue is carried out by a worker. */
const mayWait = (): boolean => node !== null || typeof document === "undefined";

/** A thread, whichever kind the platform has. */
interface Thread {
  post(message: unknown, transfer?: readonly ArrayBuffer[]): void;
  /** Hear what it says, and when it fails. */
  hear(message: (message: unknown) => void, failure: (why: string) => void): void;
  /** Is somebody waiting for it? Then it keeps Node's process alive; an idle one does not. */
  awaited(yes: boolean): void;
  stop(): void;
}

function threadOf(): Thread {
  if (node) {
    const { Worker } = node.getBuiltinModule("node:worker_threads");
    const worker = new Worker(new URL("./cpu/worker.js", import.meta.url));
    return {
      post: (message, transfer = []) => worker.postMessage(message, [...transfer]),
      hear(message, failure) {
        worker.removeAllListeners("message").removeAllListeners("error").removeAllListeners("exit");
        worker.on("message", message);
        worker.on("error", (error) => failure(error.message));
        worker.on("exit", (status) => failure(`its thread ended with status ${status}`));
      },
      awaited: (yes) => void (yes ? worker.ref() : worker.unref()),
      stop: () => void worker.terminate(),
    };
  }
  const worker = new Worker(new URL("./cpu/worker.js", import.meta.url), { type: "module" });
  return {
    post: (message, transfer = []) => worker.postMessage(message, [...transfer]),
    hear(message, failure) {
      worker.onmessage = ({ data }) => message(data);
      worker.onerror = ({ message: why }) => failure(why || "its script could not be loaded");
    },
    awaited() {},
    stop: () => worker.terminate(),
  };
}

/** A thread that is ready, and the first address that the kernels leave free in its memory. */
interface Started {
  readonly thread: Thread;
  readonly bottom: number;
}

/** Start a thread and wait until it is ready. */
async function started(start: Start): Promise<Started> {
  const thread = threadOf();
  const bottom = await new Promise<number>((resolve, reject) => {
    thread.hear(
      (message) => resolve(message as number),
      (why) => reject(new Error(`cpu: a thread did not start: ${why}`)),
    );
    thread.post(start);
  });
  thread.awaited(false);
  return { thread, bottom };
}

/** All of them, or none: when one does not start, the others are stopped. */
async function together(starting: readonly Promise<Started>[]): Promise<Started[]> {
  const settled = await Promise.allSettled(starting);
  const failed = settled.find((one) => one.status === "rejected");
  const all = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  if (!failed) return all;
  for (const { thread } of all) thread.stop();
  throw failed.reason;
}

// ---- who carries out the commands ----------------------------------------------------------

/** A kernel on its buffers, and the command that says so to another thread. */
interface Work {
  readonly kernel: Kernel;
  readonly buffers: readonly (readonly [string, Region])[];
  readonly params: Readonly<Record<string, number>>;
  readonly command: Command;
}

/** Carries out commands in the order they come: in place, or in a thread of its own. */
interface Queue {
  run(work: Work): void;
  /** Note what is run, until the function that comes back is called: it gives all of it, to be run again. */
  record(): () => Omit<Replay, "bytes">;
  write(to: Region, values: Values): void;
  read(from: Region): Promise<Values>;
  /** Make the memory at least so large; false when that is known not to be possible. */
  grow(bytes: number): boolean;
  /** A thread is no more: nothing can be carried out from now on. */
  lose(why: string): void;
  /** What `lose` was told. */
  readonly lost: DeviceLost | null;
}

/** In place: a command is carried out when it comes. */
function inPlace(engine: Engine): Queue {
  let turned = performance.now();
  let lost: DeviceLost | null = null;
  let recorded: Work[] | null = null;
  const carryOut = ({ kernel, command, buffers, params }: Work): void => {
    try {
      if (command.do === "call") engine.call(command);
      else engine.loops(kernel, buffers, params);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw new Error(`cpu: ${kernel.name}: ${error.message}`, { cause: error });
      throw error;
    }
  };
  return {
    get lost() {
      return lost;
    },
    lose(why) {
      lost ??= new DeviceLost("cpu", why);
    },
    grow: (bytes) => grow(engine.memory, bytes),
    run(work) {
      recorded?.push(work);
      carryOut(work);
    },
    record() {
      const list: Work[] = [];
      recorded = list;
      return () => {
        recorded = null;
        return { run: () => list.forEach(carryOut), commands: list.length, free() {} };
      };
    },
    write: (to, values) => engine.view(to).set(values),
    async read(from) {
      const values = engine.copy(from); // now: while others have their turn the buffer may become somebody else's
      if (performance.now() - turned > TURN) {
        await new Promise((turn) => setTimeout(turn));
        turned = performance.now();
      }
      return values;
    },
  };
}

/** A kernel that the other thread does not know: its loops run here, between the commands before it and those after it. */
interface Foreign extends Omit<Work, "command"> {
  readonly do: "here";
}

/** In another thread: commands gather and are sent together, at the end of the current task or when somebody reads. */
class Remote implements Queue {
  readonly #thread: Thread;
  readonly #memory: WebAssembly.Memory | null;
  readonly #knows: (kernel: Kernel) => boolean;
  readonly #short: (bytes: number) => Error;
  #waiting: (Command | Foreign)[] = [];
  #recorded: (Command | Foreign)[] | null = null;
  /** Lists of commands that the thread was told to keep. */
  #lists = 0;
  #sending = false;
  #asked = 0;
  /** What went wrong in loops that ran here, until somebody reads. */
  #failed: Error | null = null;
  readonly #answers = new Map<number, { resolve(values: Values): void; reject(error: Error): void }>();
  lost: DeviceLost | null = null;

  /** @param memory where it is shared with this thread.   @param knows has the thread the loops of this kernel?   @param short what to make of a memory that could not grow beyond so many bytes. */
  constructor(thread: Thread, memory: WebAssembly.Memory | null, knows: (kernel: Kernel) => boolean, short: (bytes: number) => Error) {
    this.#thread = thread;
    this.#memory = memory;
    this.#knows = knows;
    this.#short = short;
    thread.hear(
      (message) => this.#answer(message as Reply),
      (why) => this.lose(why),
    );
    thread.awaited(false);
  }

  lose(why: string): void {
    this.lost ??= new DeviceLost("cpu", why);
    for (const { reject } of this.#answers.values()) reject(this.lost);
    this.#answers.clear();
  }

  #answer({ id, values, error, short }: Reply): void {
    const waiting = this.#answers.get(id);
    this.#answers.delete(id);
    if (this.#answers.size === 0) this.#thread.awaited(false);
    if (values) waiting?.resolve(values);
    else waiting?.reject(short === undefined ? new Error(error) : this.#short(short));
  }

  grow(bytes: number): boolean {
    if (this.#memory) return grow(this.#memory, bytes);
    this.#enqueue({ do: "grow", bytes });
    return true; // if not, the next read says so
  }

  #enqueue(command: Command | Foreign): void {
    this.#waiting.push(command);
    if (this.#sending) return;
    this.#sending = true;
    queueMicrotask(() => void this.#send());
  }

  async #send(): Promise<void> {
    while (this.#waiting.length > 0 && !this.lost) {
      const end = this.#waiting.findIndex((command) => command.do === "here");
      const batch = this.#waiting.splice(0, end < 0 ? this.#waiting.length : end) as Command[];
      if (batch.length > 0) this.#post(batch);
      if (end >= 0) await this.#here(this.#waiting.shift() as Foreign);
    }
    this.#sending = false;
  }

  /** Send commands together; where one of them cannot be sent, each by itself, so that the others are. */
  #post(batch: readonly Command[]): void {
    try {
      this.#thread.post(batch);
    } catch (error) {
      if (batch.length > 1) for (const command of batch) this.#post([command]);
      else this.#failed ??= error as Error;
    }
  }

  /** Fetch a kernel's buffers, run its loops, send them back. */
  async #here({ kernel, buffers, params }: Foreign): Promise<void> {
    const ids = buffers.map(() => this.#asked++);
    const answers = Promise.all(ids.map((id) => this.#await(id)));
    this.#thread.post(buffers.map(([, from], i): Command => ({ do: "read", from, id: ids[i] })));
    try {
      const values = await answers;
      kernel.loops(Object.fromEntries(buffers.map(([name], i) => [name, values[i]])), params);
      this.#thread.post(
        buffers.flatMap(([name, to], i): Command[] => (name in kernel.outputs ? [{ do: "write", to, values: values[i] }] : [])),
      );
    } catch (error) {
      this.#failed ??= error as Error;
    }
  }

  #await(id: number): Promise<Values> {
    this.#thread.awaited(true);
    return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
  }

  run({ command, ...work }: Work): void {
    const told: Command | Foreign = command.do === "loops" && !this.#knows(work.kernel) ? { do: "here", ...work } : command;
    this.#recorded?.push(told);
    this.#enqueue(told);
  }

  record(): () => Omit<Replay, "bytes"> {
    const list: (Command | Foreign)[] = [];
    this.#recorded = list;
    return () => {
      this.#recorded = null;
      return this.#kept(list);
    };
  }

  /** Have the thread keep a list: in pieces, between which come the kernels that it does not know. */
  #kept(list: readonly (Command | Foreign)[]): Omit<Replay, "bytes"> {
    const steps: (Command | Foreign)[] = [];
    const pieces = new Map<number, Command[]>();
    let piece: Command[] | null = null;
    for (const told of list) {
      if (told.do === "here") {
        steps.push(told);
        piece = null;
        continue;
      }
      if (!piece) {
        piece = [];
        pieces.set(this.#lists, piece);
        steps.push({ do: "replay", id: this.#lists++ });
      }
      piece.push(told);
    }
    for (const [id, commands] of pieces) this.#enqueue({ do: "keep", id, commands });
    return {
      run: () => {
        for (const step of steps) this.#enqueue(step);
      },
      commands: list.length,
      free: () => {
        for (const id of pieces.keys()) this.#enqueue({ do: "forget", id });
      },
    };
  }

  write(to: Region, values: Values): void {
    this.#enqueue({ do: "write", to, values: values.slice() }); // who gave them may change them before they are sent
  }

  async read(from: Region): Promise<Values> {
    if (this.lost) throw this.lost;
    const id = this.#asked++;
    const answer = this.#await(id);
    this.#enqueue({ do: "read", from, id });
    const values = await answer;
    const failed = this.#failed;
    this.#failed = null;
    if (failed) throw failed;
    return values;
  }
}

// ---- the device ----------------------------------------------------------------------------

/**
 * Open the cpu device: its own memory, which grows as it is asked to, up to 4 GiB.
 * @throws RangeError for a number of threads that is none; Error when WebAssembly or a thread cannot be started.
 */
export async function openCpu({
  threads: wanted,
  limit = MOST_BYTES,
  worker = !mayWait(),
  least = WORTHWHILE,
  fused: wantFused = true,
  wide: wantWide = true,
}: OpenOptions = {}): Promise<Device> {
  if (wanted !== undefined && !(Number.isInteger(wanted) && wanted >= 1))
    throw new RangeError(`open("cpu", { threads }): threads are 1 or more; got ${wanted}`);
  const threads = mayShare() ? (wanted ?? Math.min(cores(), MOST_THREADS)) : 1;
  const shared = threads > 1;
  const fused = wantFused && mayFuse();
  const wide = fused && wantWide && mayWiden();
  const module = await kernels({ shared, fused, wide });
  const control: Control | null = shared ? controlFor(threads) : null;
  // A worker that shares nothing makes its own memory; else all work on this one.
  const memory = shared || !worker ? memoryOf(shared) : null;
  const first = worker ? 0 : 1; // the owner of the queue is number 0, in place or not
  const team = await together(
    Array.from({ length: threads - first }, (_, i) => started({ module, wide, memory, control, threads, part: first + i })),
  );

  const outOfMemory = (asked: number) =>
    new OutOfMemory("cpu", { asked, live: heap.live, limit: heap.limit }, "use smaller batches, or --device webgpu");
  let queue: Queue;
  let bottom: number;
  if (memory && !worker) {
    const functions = await functionsOf(module, wide, memory);
    queue = inPlace(new Engine(memory, functions, threads, control));
    bottom = bottomOf(functions);
  } else {
    const { isOurs } = await import("../kernels/all.ts");
    queue = new Remote(team[0].thread, memory, isOurs, (bytes) => {
      heap.limit = Math.min(heap.limit, bytes); // what lies beyond was never there
      return outOfMemory(0);
    });
    bottom = team[0].bottom;
  }
  const heap = new Heap(bottom, Math.min(limit, MOST_BYTES), (bytes) => queue.grow(bytes), outOfMemory);
  const blocks = new Branching<number>(heap, (root) => new HeapBranch(root));

  let closed = false;
  const check = () => {
    if (closed) throw new Error("cpu: this device was closed; open another");
    if (queue.lost) throw queue.lost;
  };
  // A helper that is gone would be waited for in vain. In place that is seen between two tasks, which is when a thread's end is told.
  for (const { thread } of team.slice(1 - first)) {
    thread.hear(
      () => {},
      (why) => queue.lose(why),
    );
    thread.awaited(false);
  }
  const regionOf = (memory: Memory) => memory as Region;

  return {
    name: "cpu",
    description: `WebAssembly ${fused ? "relaxed " : ""}SIMD${wide ? " in pairs (AVX2)" : ""}, ${threads === 1 ? "one thread" : `${threads} threads`}${worker ? ", in a worker" : ""}`,
    memory: heap,
    allocate(dtype: Dtype, length: number): Region {
      check();
      return { dtype, length, address: blocks.take(bytesOf(dtype, length)) };
    },
    free: (region) => blocks.give(regionOf(region).address),
    upload(to, values) {
      check();
      queue.write(regionOf(to), valuesOf(to.dtype, values));
    },
    run(kernel: Kernel, buffers, params) {
      check();
      const named = Object.entries(buffers) as [string, Region][];
      const { compiled } = kernel;
      const enqueue = (command: Command) => queue.run({ kernel, buffers: named, params, command });
      if (!compiled) return enqueue({ do: "loops", kernel: variantOf(kernel), buffers: named, params });
      const parts = shares(compiled, params, threads, least);
      const addresses = compiled.buffers.map((name) => (name === null ? 0 : regionOf(buffers[name]).address));
      const scratch: number[] = [];
      try {
        if (compiled.scratch) {
          const bytes = compiled.scratch(paramsOf(params, parts.split, parts.pieces[0])); // no part has more
          const own = parts.pieces.length > 1 && !compiled.finish;
          for (let i = 0; i < (own ? threads : 1); i++) scratch.push(blocks.take(bytes));
        }
        enqueue(callOf(kernel, compiled, addresses, params, parts, scratch));
        const { finish } = compiled;
        if (finish) enqueue(callOf(kernel, { ...compiled, name: finish }, addresses, params, shares(compiled, params, 1, least), scratch));
      } finally {
        for (const address of scratch) blocks.give(address); // the queue keeps order: whoever takes it next writes after this
      }
    },
    record(): Recording {
      check();
      const branch = blocks.begin();
      const recorded = queue.record();
      return {
        end() {
          blocks.end();
          const { commands, run, free } = recorded();
          return {
            run() {
              check();
              run();
            },
            commands,
            bytes: branch.reserved,
            free() {
              free();
              branch.close();
            },
          };
        },
      };
    },
    async read(region): Promise<Values> {
      check();
      return queue.read(regionOf(region));
    },
    close() {
      closed = true;
      queue.lose("it was closed");
      for (const { thread } of team) thread.stop();
    },
  };
}

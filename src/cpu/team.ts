/** Threads that call kernels together on one shared memory: they sleep until there is work, and each does its part of it. */

import { type Call, mostParts } from "./calls.ts";

/** Words of the control block. */
const GENERATION = 0;
const REMAINING = 1;
const FUNCTION = 2;
const PARTS = 3;
const NEXT = 4;
const SCRATCH = 5;
const FAILED = 6;
const WORDS = 8;
/** The most arguments of a call: kernels have some twenty. */
const MOST_ARGUMENTS = 64;
/** Looks at a word before going to sleep over it: some 20 microseconds, about what waking up takes. */
const SPINS = 2000;

export type Functions = Readonly<Record<string, (...args: number[]) => void>>;

/** The memory that a team shares: its state, the arguments of each part, and the address of each thread's working memory. */
export interface Control {
  readonly words: Int32Array;
  readonly args: Float64Array;
  readonly scratch: Float64Array;
}

/** A control block for so many threads, on shared memory. */
export const controlFor = (threads: number): Control => ({
  words: new Int32Array(new SharedArrayBuffer(4 * WORDS)),
  args: new Float64Array(new SharedArrayBuffer(8 * MOST_ARGUMENTS * mostParts(threads))),
  scratch: new Float64Array(new SharedArrayBuffer(8 * threads)),
});

/** The names of the kernels, in an order that all threads agree on. */
export const namesOf = (functions: Functions): string[] =>
  Object.keys(functions)
    .filter((name) => typeof functions[name] === "function")
    .sort();

/** Wait until a word holds something else, awake for a moment, then asleep. Gives what it holds. */
function changed(words: Int32Array, which: number, from: number): number {
  for (let spin = 0; ; spin++) {
    const now = Atomics.load(words, which);
    if (now !== from) return now;
    if (spin >= SPINS) Atomics.wait(words, which, from);
  }
}

/** Do parts until there are none left, in one's own working memory. */
function takePart(f: (...args: number[]) => void, { words, args, scratch }: Control, thread: number): void {
  const parts = Atomics.load(words, PARTS);
  const own = Atomics.load(words, SCRATCH);
  for (let part = Atomics.add(words, NEXT, 1); part < parts; part = Atomics.add(words, NEXT, 1)) {
    const at = part * MOST_ARGUMENTS;
    const numbers = Array.from(args.subarray(at + 1, at + 1 + args[at]));
    if (own >= 0) numbers[own] = scratch[thread];
    f(...numbers);
  }
}

/** What a helper does for ever: wait, take part, say so. */
export function help(control: Control, functions: Functions, thread: number): never {
  const names = namesOf(functions);
  const { words } = control;
  for (let seen = 0; ; ) {
    seen = changed(words, GENERATION, seen);
    try {
      takePart(functions[names[Atomics.load(words, FUNCTION)]], control, thread);
    } catch {
      Atomics.store(words, FAILED, 1);
    }
    if (Atomics.sub(words, REMAINING, 1) === 1) Atomics.notify(words, REMAINING);
  }
}

/** The thread that has the work, with its helpers. */
export class Team {
  readonly #control: Control;
  readonly #functions: Functions;
  /** Each kernel's place among the names. */
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #helpers: number;

  constructor(control: Control, functions: Functions, threads: number) {
    this.#control = control;
    this.#functions = functions;
    this.#numbers = new Map(namesOf(functions).map((name, i) => [name, i]));
    this.#helpers = threads - 1;
  }

  /** Call a kernel by parts and wait until all are done. @throws Error when one of them failed. */
  call({ name, parts, scratch: own }: Call): void {
    const { words, args, scratch } = this.#control;
    parts.forEach((numbers, part) => {
      args[part * MOST_ARGUMENTS] = numbers.length;
      args.set(numbers, part * MOST_ARGUMENTS + 1);
    });
    if (own) scratch.set(own.addresses);
    Atomics.store(words, FUNCTION, this.#numbers.get(name) ?? -1);
    Atomics.store(words, PARTS, parts.length);
    Atomics.store(words, NEXT, 0);
    Atomics.store(words, SCRATCH, own ? own.at : -1);
    Atomics.store(words, FAILED, 0);
    Atomics.store(words, REMAINING, this.#helpers);
    Atomics.add(words, GENERATION, 1);
    Atomics.notify(words, GENERATION);
    try {
      takePart(this.#functions[name], this.#control, 0);
    } finally {
      this.#wait();
    }
    if (Atomics.load(words, FAILED)) throw new Error(`cpu: a thread failed in ${name}`);
  }

  #wait(): void {
    const { words } = this.#control;
    for (let left = Atomics.load(words, REMAINING); left > 0; ) left = changed(words, REMAINING, left);
  }
}

/** Threads that call kernels together on one shared memory: they sleep until there is work, and each does its part of it. */

/** Words of the control block. */
const GENERATION = 0;
const REMAINING = 1;
const FUNCTION = 2;
const PARTS = 3;
const FAILED = 4;
const WORDS = 8;
/** The most arguments of a call: kernels have some twenty. */
const MOST_ARGUMENTS = 64;
/** Looks at the counter before going to sleep over it: some 20 microseconds, about what waking up takes. */
const SPINS = 2000;

export type Functions = Readonly<Record<string, (...args: number[]) => void>>;

/** The memory that a team shares: its state, and the arguments of each part. */
export interface Control {
  readonly words: Int32Array;
  readonly args: Float64Array;
}

/** A control block for so many threads, on shared memory. */
export const controlFor = (threads: number): Control => ({
  words: new Int32Array(new SharedArrayBuffer(4 * WORDS)),
  args: new Float64Array(new SharedArrayBuffer(8 * MOST_ARGUMENTS * threads)),
});

/** The names of the kernels, in an order that all threads agree on. */
export const namesOf = (functions: Functions): string[] =>
  Object.keys(functions)
    .filter((name) => typeof functions[name] === "function")
    .sort();

const call = (f: (...args: number[]) => void, { args }: Control, part: number): void => {
  const at = part * MOST_ARGUMENTS;
  f(...args.subarray(at + 1, at + 1 + args[at]));
};

/** What a helper does for ever: wait, do part number `part` if there is one, say so. */
export function help(control: Control, functions: Functions, part: number): never {
  const names = namesOf(functions);
  const { words } = control;
  for (let seen = 0; ; ) {
    Atomics.wait(words, GENERATION, seen);
    seen = Atomics.load(words, GENERATION);
    try {
      if (part < Atomics.load(words, PARTS)) call(functions[names[Atomics.load(words, FUNCTION)]], control, part);
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

  /** Call a kernel, a part a thread, and wait until all are done. @throws Error when one of them failed. */
  call(name: string, parts: readonly (readonly number[])[]): void {
    const { words, args } = this.#control;
    parts.forEach((numbers, part) => {
      args[part * MOST_ARGUMENTS] = numbers.length;
      args.set(numbers, part * MOST_ARGUMENTS + 1);
    });
    Atomics.store(words, FUNCTION, this.#numbers.get(name) ?? -1);
    Atomics.store(words, PARTS, parts.length);
    Atomics.store(words, FAILED, 0);
    Atomics.store(words, REMAINING, this.#helpers);
    Atomics.add(words, GENERATION, 1);
    Atomics.notify(words, GENERATION);
    try {
      call(this.#functions[name], this.#control, 0);
    } finally {
      this.#wait();
    }
    if (Atomics.load(words, FAILED)) throw new Error(`cpu: a thread failed in ${name}`);
  }

  #wait(): void {
    const { words } = this.#control;
    for (let spin = 0; spin < SPINS; spin++) if (Atomics.load(words, REMAINING) === 0) return;
    for (let left = Atomics.load(words, REMAINING); left > 0; left = Atomics.load(words, REMAINING)) Atomics.wait(words, REMAINING, left);
  }
}

/** The memory of the cpu device and the kernels that work on it: what carries out its commands, in whichever thread it lives. */

import { arrayOf, type Kernel, type Values } from "../../kernels/kernel.ts";
import type { Call, Region } from "./calls.ts";
import { type Control, type Functions, Team } from "./team.ts";

/** A WebAssembly page, bytes (WebAssembly 2.0, 2.5.5). */
const PAGE = 65536;
/** The most pages a 32-bit memory may have: 4 GiB. */
const MOST_PAGES = 65536;
/** What a memory starts with, pages. */
const FIRST_PAGES = 64;

/** The most bytes there can be. */
export const MOST_BYTES = PAGE * MOST_PAGES;

/** A memory, which threads can share or not. */
export const memoryOf = (shared: boolean): WebAssembly.Memory =>
  new WebAssembly.Memory({ initial: FIRST_PAGES, maximum: MOST_PAGES, shared });

/** The kernels of a compiled module, on a memory. @param wide was it compiled for vectors of 8? Then they hold more of them at once. */
export async function functionsOf(module: WebAssembly.Module, wide: boolean, memory: WebAssembly.Memory): Promise<Functions> {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, abort: () => {} } });
  const functions = exports as unknown as Functions;
  if (wide) functions.widen();
  return functions;
}

/** The first address that the module itself leaves free. */
export const bottomOf = (functions: Functions): number => (functions.heapBase as unknown as () => number)();

/** Make a memory at least so large; false when there is not so much. Growing moves nothing but takes time, so a quarter more where it can be had. */
export function grow(memory: WebAssembly.Memory, bytes: number): boolean {
  const pages = memory.buffer.byteLength / PAGE;
  const missing = Math.ceil(bytes / PAGE) - pages;
  if (missing <= 0) return true;
  for (const more of [Math.min(Math.max(missing, pages >> 2), MOST_PAGES - pages), missing]) {
    if (more < missing) continue;
    try {
      memory.grow(more);
      return true;
    } catch {} // the next is smaller
  }
  return false;
}

export class Engine {
  readonly memory: WebAssembly.Memory;
  readonly #functions: Functions;
  readonly #team: Team | null;

  /** @param threads how many there are, this one among them.   @param control what they share, where there is more than one. */
  constructor(memory: WebAssembly.Memory, functions: Functions, threads: number, control: Control | null) {
    this.memory = memory;
    this.#functions = functions;
    this.#team = control ? new Team(control, functions, threads) : null;
  }

  view({ dtype, address, length }: Region): Values {
    return arrayOf(dtype, this.memory.buffer, address, length);
  }

  call(call: Call): void {
    if (this.#team && call.parts.length > 1) this.#team.call(call);
    else for (const numbers of call.parts) this.#functions[call.name](...numbers);
  }

  loops(kernel: Kernel, buffers: readonly (readonly [string, Region])[], params: Readonly<Record<string, number>>): void {
    kernel.loops(Object.fromEntries(buffers.map(([name, region]) => [name, this.view(region)])), params);
  }

  /** A copy of a buffer, in memory of its own. */
  copy(region: Region): Values {
    return this.view(region).slice();
  }
}

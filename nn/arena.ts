/** Parameters side by side in few buffers, with what an optimiser keeps of each: where starting a kernel is dear, a step is a few of them. */

import { COLLECTED, collect, loadsOf, PART, roomOf } from "../kernels/collect.ts";
import { paste } from "../kernels/permute.ts";
import { type Memory, withDevice } from "../src/device.ts";
import { empty, integers, keep, run, scoped, type Tensor, zeros } from "../src/tensor.ts";

/** The most numbers of an arena, unless one parameter has more: what WebGPU promises to bind (128 MiB: WebGPU, 3.6.2). */
const MOST = 2 ** 25;

/** A parameter, its number among all, and where it lies. */
interface Part {
  readonly w: Tensor;
  readonly slot: number;
  readonly first: number;
}

export class Arena {
  /** f32 [n]: the parameters, each from a multiple of PART on, with zeros between them. */
  readonly whole: Tensor;
  /** f32 [n] of each kind of state: where a parameter lies in `whole`, its state lies there. */
  readonly states: readonly Tensor[];
  /** u32 [n / PART]: whose numbers those are. */
  readonly slots: Tensor;
  /** Workgroups that carry the gradients, each of which leaves a sum of squares. */
  readonly loads: number;
  readonly #parts: readonly (Part & { readonly place: Memory })[];

  /** Moves the parameters in. @param kinds how many tensors of state a parameter has. */
  constructor(parts: readonly Part[], length: number, kinds: number) {
    this.whole = keep(zeros([length]));
    this.states = Array.from({ length: kinds }, () => keep(zeros([length])));
    const slots = new Uint32Array(length / PART);
    for (const { w, slot, first } of parts) slots.fill(slot, first / PART, (first + roomOf(w.size)) / PART);
    this.slots = keep(integers(slots));
    this.loads = parts.reduce((sum, { w }) => sum + loadsOf(w.size), 0);
    this.#parts = parts.map(({ w, slot, first }) => {
      run(paste("f32"), { x: w }, { y: this.whole }, { n: w.size, size: w.size, whole: length, inner: 1, start: first });
      const place = this.whole.part(first, w.shape);
      w.moveTo(place);
      const { memory } = place;
      place.free();
      return { w, slot, first, place: memory };
    });
  }

  /**
   * Do all parameters lie here? Not those that a captured function knew before, nor those that another optimiser has taken to its own since.
   */
  get complete(): boolean {
    return this.#parts.every(({ w, place }) => w.memory === place);
  }

  /** What is kept of each parameter, in the order of their numbers: its part of each state. */
  *kept(): Generator<readonly [slot: number, state: readonly Tensor[]]> {
    for (const { w, slot, first } of this.#parts) yield [slot, this.states.map((state) => keep(state.part(first, w.shape)))];
  }

  /** The gradients laid out like the parameters, f32 [n]; the sums of their squares go to `squares`, `loads` of them from `at` on. */
  gather(grads: readonly Tensor[], squares: Tensor, at: number): Tensor {
    const g = empty(this.whole.shape);
    let load = at;
    for (let i = 0; i < this.#parts.length; i += COLLECTED) {
      const taken = this.#parts.slice(i, i + COLLECTED);
      const [inputs, numbers]: [Record<string, Tensor>, Record<string, number>] = [{}, {}];
      for (let j = 0; j < COLLECTED; j++) {
        const { w, slot, first } = taken[j] ?? taken[0];
        inputs[`x${j}`] = grads[slot];
        numbers[`n${j}`] = j < taken.length ? w.size : 0;
        numbers[`to${j}`] = first;
      }
      const rows = taken.reduce((sum, { w }) => sum + loadsOf(w.size), 0);
      run(collect, inputs, { whole: g, squares }, { rows, cols: 0, load, ...numbers });
      load += rows;
    }
    return g;
  }

  free(): void {
    for (const t of [this.whole, this.slots, ...this.states]) t.free();
  }
}

/**
 * Arenas of these parameters, in their order, of at most so many numbers each; none where the device has no parts, where they are not all f32, each
 * in a buffer of its own, or where one has to stay where it is.
 */
export function arenasOf(parameters: readonly Tensor[], kinds: number, most = MOST): Arena[] {
  const [{ device }] = parameters;
  const own = new Set(parameters.map((w) => w.memory)).size === parameters.length;
  if (!device.part || !own || !parameters.every((w) => w.device === device && w.dtype === "f32")) return [];
  const lists: { readonly parts: Part[]; length: number }[] = [];
  for (const [slot, w] of parameters.entries()) {
    const room = roomOf(w.size);
    if (lists.length === 0 || lists[lists.length - 1].length + room > most) lists.push({ parts: [], length: 0 });
    const last = lists[lists.length - 1];
    last.parts.push({ w, slot, first: last.length });
    last.length += room;
  }
  const arenas = withDevice(device, () => scoped(() => lists.map(({ parts, length }) => new Arena(parts, length, kinds))));
  if (arenas.every(({ complete }) => complete)) return arenas;
  for (const arena of arenas) arena.free();
  return [];
}

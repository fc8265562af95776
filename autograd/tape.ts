/**
 * The tape: ops write themselves on it going forward, and it is read in reverse for the gradients (Wengert 1964; reverse accumulation).
 *
 * An op is its value, what it keeps, and the way back: `[y, [kept...], (dy, need) => [dx...]]`. What an op makes and does not keep is freed when
 * it ends, values nobody kept when the forward pass ends, kept ones as the way back passes them: memory is visible in the code.
 */

import { zip } from "../kernels/elementwise.ts";
import { show } from "../src/shape.ts";
import { alike, full, run, scoped, Tensor } from "../src/tensor.ts";

/** Gradients for the op's tensor arguments, in order; null where `need` says nobody asks, or where there is none. */
export type Back = (dy: Tensor, need: readonly boolean[]) => readonly (Tensor | null)[];
export type Application = readonly [y: Tensor, kept: readonly Tensor[], back: Back];

interface Entry {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  readonly need: readonly boolean[];
  readonly output: Tensor;
  readonly kept: readonly Tensor[];
  readonly back: Back;
}

interface Tape {
  readonly entries: Entry[];
  /** Tensors that the wanted gradients flow through. */
  readonly tracked: Set<Tensor>;
}

let tape: Tape | null = null;

/** Run f with the tape put away. */
function unrecorded<T>(f: () => T): T {
  const held = tape;
  tape = null;
  try {
    return f();
  } finally {
    tape = held;
  }
}

/**
 * Make a differentiable op of a function that computes a value and says the way back. Its tensor arguments (null where optional ones are absent)
 * are its inputs; everything else is an option.
 */
export function op<A extends readonly unknown[]>(name: string, apply: (...args: A) => Application): (...args: A) => Tensor {
  return (...args) => {
    const inputs = args.filter((a) => a instanceof Tensor);
    const need = inputs.map((t) => tape?.tracked.has(t) ?? false);
    const recording = need.includes(true);
    const made = unrecorded(() =>
      scoped(() => {
        const [y, kept, back] = apply(...args);
        if (recording) for (const t of kept) t.hold(); // outlive this scope, until the way back has used them
        return { y, rest: () => ({ kept, back }) };
      }),
    );
    if (tape && recording) {
      tape.tracked.add(made.y);
      tape.entries.push({ op: name, inputs, need, output: made.y, ...made.rest() });
    }
    return made.y;
  };
}

/** Run f without recording and free everything it made but its result. */
export const inference = <T>(f: () => T): T => unrecorded(() => scoped(f));

export interface ValueAndGrad<R> {
  /** What f returned. */
  readonly value: R;
  /** The gradient for each tensor asked for, in order. */
  readonly grads: Tensor[];
}

/**
 * The value of f and its gradients. f returns one number [1] or [], or a list whose first item it is (the others come back as they are).
 * @param wrt the tensors to differentiate by; whatever else f uses costs nothing. One that f does not use gets zeros.
 * @throws RangeError when the value is not one number.
 */
export function valueAndGrad<R extends Tensor | readonly [Tensor, ...unknown[]]>(f: () => R, wrt: readonly Tensor[]): ValueAndGrad<R> {
  return unrecorded(() =>
    scoped(() => {
      const entries: Entry[] = [];
      const value = scoped(() => {
        tape = { entries, tracked: new Set(wrt) };
        try {
          return f();
        } catch (error) {
          for (const { kept } of entries) for (const t of kept) t.free();
          throw error;
        } finally {
          tape = null;
        }
      });
      const loss = value instanceof Tensor ? value : (value[0] as Tensor);
      try {
        if (loss.size !== 1) throw new RangeError(`valueAndGrad(f, wrt): f must return one number; got ${show(loss.shape)}`);
        const grads = walkBack(entries, loss);
        const given = wrt.map((t) => grads.get(t)?.withShape(t.shape) ?? full(t.shape, 0));
        for (const grad of grads.values()) grad.free();
        return { value, grads: given };
      } finally {
        for (const { kept } of entries) for (const t of kept) t.free();
      }
    }),
  );
}

/** Read the tape in reverse, taking entries off and freeing what they kept. The map holds each gradient in it once. */
function walkBack(entries: Entry[], loss: Tensor): Map<Tensor, Tensor> {
  const grads = new Map<Tensor, Tensor>([[loss, full(loss.shape, 1).hold()]]);
  try {
    for (let entry = entries.at(-1); entry; entry = entries.at(-1)) {
      const { op: name, inputs, need, output, kept, back } = entry;
      const dy = grads.get(output);
      if (dy) {
        grads.delete(output);
        try {
          scoped(() => {
            back(dy, need).forEach((dx, i) => {
              if (dx === null || !need[i]) return;
              if (!alike(dx, inputs[i]))
                throw new Error(`${name}: gradient ${i + 1} has shape ${show(dx.shape)}, its input has ${show(inputs[i].shape)}`);
              const sum = grads.get(inputs[i]);
              grads.set(inputs[i], (sum ? accumulate(sum, dx) : dx).hold());
              sum?.free();
            });
          });
        } finally {
          dy.free();
        }
      }
      entries.pop(); // only now: what a broken way back kept is freed with the rest of the tape
      for (const t of kept) t.free();
    }
  } catch (error) {
    for (const grad of grads.values()) grad.free();
    throw error;
  }
  return grads;
}

/** A tensor used twice receives two gradients; they add. */
const accumulate = (a: Tensor, b: Tensor): Tensor => run(zip("add"), { a, b }, { z: a.shape }, { n: a.size }).z;

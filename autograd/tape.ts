/**
 * The tape: ops write themselves on it going forward, and it is read in reverse for the gradients (Wengert 1964; reverse accumulation).
 *
 * An op is its value, what it keeps, and the way back: `[y, [kept...], (dy, need) => [dx...]]`. What an op makes and does not keep is freed when
 * it ends, values nobody kept when the forward pass ends, kept ones as the way back passes them: memory is visible in the code.
 */

import { cast } from "../kernels/cast.ts";
import { zip } from "../kernels/elementwise.ts";
import type { Kernel } from "../kernels/kernel.ts";
import { eagerly } from "../src/capture.ts";
import { show } from "../src/shape.ts";
import { alike, Freed, full, isForeign, kindOf, Mismatch, refusePromise, run, runStored, scoped, storedAs, Tensor } from "../src/tensor.ts";

/**
 * Gradients for the op's tensor arguments, in order; null where `need` says nobody asks, or where there is none. They may be f32 or f16: the tape brings
 * each to what its argument is, so that those of activations in f16 are f16 and those of weights f32.
 */
export type Back = (dy: Tensor, need: readonly boolean[]) => readonly (Tensor | null)[];
export type Application = readonly [y: Tensor, kept: readonly Tensor[], back: Back];

/** What an op writes on a tape. */
export interface Entry {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  /** Which inputs want a gradient. */
  readonly need: readonly boolean[];
  readonly output: Tensor;
  /** Held once for the tape. */
  readonly kept: readonly Tensor[];
  readonly back: Back;
}

export interface Tape {
  /** Do the wanted gradients flow through a tensor? */
  tracks(t: Tensor): boolean;
  /** Write an entry, whose output is tracked from then on. */
  record(entry: Entry): void;
}

let tape: Tape | null = null;

/** The tape that ops write themselves on now. */
export const currentTape = (): Tape | null => tape;

/** Run f with ops writing on another tape, or on none. */
export function onTape<T>(other: Tape | null, f: () => T): T {
  const held = tape;
  tape = other;
  try {
    return f();
  } finally {
    tape = held;
  }
}

/** Hears of every value and every gradient that an op makes. */
export interface Watch {
  made(op: string, inputs: readonly Tensor[], y: Tensor): void;
  back(op: string, gradients: readonly (Tensor | null)[]): void;
}

let watch: Watch | null = null;

/** Run f with somebody watching. */
export function watching<T>(by: Watch, f: () => T): T {
  const held = watch;
  watch = by;
  try {
    return f();
  } finally {
    watch = held;
  }
}

/**
 * A door: a function that says in its own name what is wrong with its arguments, whatever fails inside for their sake.
 * @throws TypeError listing the arguments, when one of them is of a kind that the function cannot take, or a tensor of another copy of this library.
 */
export function door<A extends readonly unknown[], R>(name: string, f: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    const foreign = args.findIndex(isForeign);
    if (foreign >= 0)
      throw new TypeError(
        `${name}: argument ${foreign + 1} is a tensor of another copy of geneformer-ts; load the library once, or pass its numbers on (await data())`,
      );
    try {
      return f(...args);
    } catch (error) {
      if (error instanceof Mismatch) throw new Mismatch(name, error.why, { cause: error });
      // Our own errors open with a name; what the language throws when a property is missing does not.
      if (!(error instanceof TypeError) || /^[\w.]+[(:]/.test(error.message)) throw error;
      const given = args.length > 0 ? args.map(kindOf).join(", ") : "nothing";
      throw new TypeError(`${name}: these are not the arguments it takes; got ${given} (${error.message})`, { cause: error });
    }
  };
}

/** @throws Error when an op is not made as ops are: [y, [kept...], (dy, need) => [dx...]]. */
function applied(name: string, made: Application): Application {
  const [y, kept, back] = Array.isArray(made) ? made : [];
  if (!(y instanceof Tensor && Array.isArray(kept) && kept.every((t) => t instanceof Tensor) && typeof back === "function"))
    throw new Error(
      `${name}: an op gives [y, [kept...], (dy, need) => [dx...]]: its value, the tensors it keeps and the way back; this one gave ${kindOf(made)}`,
    );
  return made;
}

/**
 * Make a differentiable op of a function that computes a value and says the way back. Its tensor arguments (null where optional ones are absent)
 * are its inputs; everything else is an option.
 */
export function op<A extends readonly unknown[]>(name: string, apply: (...args: A) => Application): (...args: A) => Tensor {
  return door(name, (...args: A) => {
    const inputs = args.filter((a) => a instanceof Tensor);
    const need = inputs.map((t) => tape?.tracks(t) ?? false);
    const recording = need.includes(true);
    const made = onTape(null, () =>
      scoped(() => {
        const [y, kept, back] = applied(name, apply(...args));
        if (recording) for (const t of kept) t.hold(); // outlive this scope, until the way back has used them
        return { y, rest: () => ({ kept, back }) };
      }),
    );
    if (recording) tape?.record({ op: name, inputs, need, output: made.y, ...made.rest() });
    watch?.made(name, inputs, made.y);
    return made.y;
  });
}

/** Run f without recording and free everything it made but its result. */
export const inference = <T>(f: () => T): T => onTape(null, () => scoped(f));

export interface ValueAndGrad<R> {
  /** What f returned. */
  readonly value: R;
  /** The gradient for each tensor asked for, in order; to be read, not written to: two may share a buffer. */
  readonly grads: Tensor[];
}

/**
 * The value of f and its gradients. f returns one number [1] or [], or a list whose first item it is (the others come back as they are).
 * @param wrt the tensors to differentiate by; whatever else f uses costs nothing. One that f does not use gets zeros.
 * @throws RangeError when the value is not one number.
 */
export function valueAndGrad<R extends Tensor | readonly [Tensor, ...unknown[]]>(f: () => R, wrt: readonly Tensor[]): ValueAndGrad<R> {
  return differentiate("valueAndGrad(f, wrt)", f, wrt, (value) => {
    const loss: unknown = Array.isArray(value) ? value[0] : value;
    if (!(loss instanceof Tensor))
      throw new TypeError(`valueAndGrad(f, wrt): f must return a tensor, or a list that begins with one; got ${kindOf(value)}`);
    if (loss.size !== 1) throw new RangeError(`valueAndGrad(f, wrt): f must return one number; got ${show(loss.shape)}`);
    return [loss, full(loss.shape, 1, "f32", loss.device)];
  });
}

/**
 * The vector-Jacobian product: f's value y, of any shape, and sum(dy * dy/dt) for each tensor t of `wrt`.
 * @param dy a number for each of y's.
 * @throws RangeError when dy has another shape than f's value.
 */
export function vjp(f: () => Tensor, wrt: readonly Tensor[], dy: Tensor): ValueAndGrad<Tensor> {
  return differentiate("vjp(f, wrt, dy)", f, wrt, (y) => {
    if (!(y instanceof Tensor)) throw new TypeError(`vjp(f, wrt, dy): f must return a tensor; got ${kindOf(y)}`);
    if (!alike(y, dy))
      throw new RangeError(`vjp(f, wrt, dy): f returned ${show(y.shape)} but dy is ${show(dy.shape)}; give one number for each`);
    return [y, dy];
  });
}

/** A value, and the way back from it for as many gradients of it as are of interest. */
export interface Pullback {
  /** f's value y. It belongs to the scope around. */
  readonly value: Tensor;
  /** sum(dy * dy/dt) for each tensor t of `wrt`. @throws RangeError when dy has another shape than y; Error after `free`. */
  pull(dy: Tensor): Tensor[];
  /** Give back what the forward pass kept. */
  free(): void;
}

/**
 * As `vjp`, for several dy after one forward pass: a Jacobian row by row, or projections of it. What the forward pass kept stays until `free`.
 *
 *   const { value, pull, free } = pullback(() => model.encode(stream), [gates]);
 *   const gradients = directions.map((dy) => pull(dy));
 *   free();
 */
export function pullback(f: () => Tensor, wrt: readonly Tensor[]): Pullback {
  const where = "pullback(f, wrt)";
  const { value, entries } = record(where, f, wrt);
  let held: Entry[] | null = entries;
  const free = () => {
    for (const { kept } of held ?? []) for (const t of kept) t.free();
    held = null;
  };
  if (!(value instanceof Tensor)) {
    free();
    throw new TypeError(`${where}: f must return a tensor; got ${kindOf(value)}`);
  }
  const pull = (dy: Tensor): Tensor[] => {
    if (!held) throw new Error(`${where}: what the forward pass kept was given back; pull before free()`);
    if (!alike(value, dy))
      throw new RangeError(`${where}: f returned ${show(value.shape)} but dy is ${show(dy.shape)}; give one number for each`);
    const written = held;
    return onTape(null, () => scoped(() => gradientsOf(wrt, walkBack(written, value, dy))));
  };
  return { value, pull, free };
}

/** @param seed says which tensor of f's result the walk starts from, and its gradient. */
function differentiate<R>(
  where: string,
  f: () => R,
  wrt: readonly Tensor[],
  seed: (value: R) => readonly [Tensor, Tensor],
): ValueAndGrad<R> {
  return scoped(() => {
    const { value, entries } = record(where, f, wrt);
    try {
      return onTape(null, () => ({ value, grads: gradientsOf(wrt, walkBack(entries, ...seed(value), true)) }));
    } finally {
      for (const { kept } of entries) for (const t of kept) t.free();
    }
  });
}

/** Run f and write down what it does with the tensors to differentiate by, and with what comes of them. */
function record<R>(where: string, f: () => R, wrt: readonly Tensor[]): { readonly value: R; readonly entries: Entry[] } {
  const outer = tape;
  if (!Array.isArray(wrt) || !wrt.every((t) => t instanceof Tensor))
    throw new TypeError(
      `${where}: wrt is a list of tensors; got ${Array.isArray(wrt) ? `[${wrt.slice(0, 3).map(kindOf).join(", ")}]` : kindOf(wrt)}; of [name, tensor] pairs take the tensors`,
    );
  const entries: Entry[] = [];
  const tracked = new Set(wrt);
  const recorder: Tape = {
    tracks(t) {
      if (outer?.tracks(t))
        throw new Error(
          `${where}: it runs inside another and uses a tensor ${show(t.shape)} that the outer one follows, whose gradient would be lost: there are no second derivatives; inference(() => ...) around the inner one makes a constant of it`,
        );
      return tracked.has(t);
    },
    record(entry) {
      tracked.add(entry.output);
      entries.push(entry);
    },
  };
  try {
    const value = scoped(() =>
      refusePromise(
        where,
        onTape(recorder, () => eagerly(where, f)),
      ),
    );
    return { value, entries };
  } catch (error) {
    for (const { kept } of entries) for (const t of kept) t.free();
    throw error;
  }
}

/** The gradient for each tensor asked for; zeros where there is none. */
function gradientsOf(wrt: readonly Tensor[], grads: Map<Tensor, Tensor>): Tensor[] {
  const given = wrt.map((t) => grads.get(t)?.withShape(t.shape) ?? storedLike(t, full(t.shape, 0, "f32", t.device)));
  for (const grad of grads.values()) grad.free();
  return given;
}

/**
 * Read the tape in reverse. The map holds each gradient in it once.
 * @param once take entries off and free what they kept on the way.
 */
function walkBack(entries: Entry[], from: Tensor, seed: Tensor, once = false): Map<Tensor, Tensor> {
  const grads = new Map<Tensor, Tensor>([[from, seed.hold()]]);
  try {
    for (let i = entries.length - 1; i >= 0; i--) {
      const entry = entries[i];
      const { op: name, inputs, need, output, kept } = entry;
      const dy = grads.get(output);
      if (dy) {
        grads.delete(output);
        try {
          scoped(() => {
            const gradients = wayBack(entry, dy);
            watch?.back(name, gradients);
            gradients.forEach((dx, i) => {
              if (dx === null || !need[i]) return;
              if (!alike(dx, inputs[i]))
                throw new Error(`${name}: gradient ${i + 1} has shape ${show(dx.shape)}, its input has ${show(inputs[i].shape)}`);
              const sum = grads.get(inputs[i]);
              const own = storedLike(inputs[i], dx);
              grads.set(inputs[i], (sum ? plus(sum, own) : own).hold());
              sum?.free();
            });
          });
        } finally {
          dy.free();
        }
      }
      if (!once) continue;
      entries.pop(); // only now: what a broken way back kept is freed with the rest of the tape
      for (const t of kept) t.free();
    }
  } catch (error) {
    for (const grad of grads.values()) grad.free();
    throw error;
  }
  return grads;
}

/** What an op's way back gives. @throws Error in the op's name when that is no list, or when it used a tensor that was not kept for it. */
function wayBack({ op: name, need, back }: Entry, dy: Tensor): readonly (Tensor | null)[] {
  let gradients: readonly (Tensor | null)[];
  try {
    gradients = back(dy, need);
  } catch (error) {
    if (!(error instanceof Freed)) throw error;
    throw new Error(
      `${name}: its way back uses a tensor ${error.shape} that was not kept for it; name it in the op's second item, [kept...]`,
      { cause: error },
    );
  }
  if (!Array.isArray(gradients) || need.some((wanted, i) => wanted && gradients[i] === undefined))
    throw new Error(
      `${name}: its way back gives a gradient, or null, for each of ${need.length} inputs; got ${Array.isArray(gradients) ? `a list of ${gradients.length}` : kindOf(gradients)}`,
    );
  return gradients;
}

/** Floats as another tensor's are stored, such as a gradient as what it is of: f16 or f32. Itself where it is stored so, or where one of the two holds integers. */
export function storedLike({ dtype }: Tensor, x: Tensor): Tensor {
  if (dtype === x.dtype || ![dtype, x.dtype].every((each) => each === "f32" || each === "f16")) return x;
  return run(cast(x.dtype, dtype) as unknown as Kernel, { x }, { y: x.shape }, { n: x.size }).y;
}

/** A tensor used twice receives two gradients; they add. */
const plus = (a: Tensor, b: Tensor): Tensor => runStored(zip("add"), { a, b }, { z: storedAs(a) }, { n: a.size }).z;

/**
 * Gradients of several batches as those of one: add a batch's to the sums so far, which are freed. null begins.
 *
 *   let sums: Tensor[] | null = null;
 *   for (const batch of batches) sums = accumulate(sums, valueAndGrad(() => loss(batch), weights).grads);
 *
 * Let each loss divide by the count of the whole (crossEntropy's `count`), and the sums are the whole's gradients.
 */
export function accumulate(sums: readonly Tensor[] | null, grads: readonly Tensor[]): Tensor[] {
  if (!sums) return [...grads];
  if (sums.length !== grads.length) throw new RangeError(`accumulate(sums, grads): ${grads.length} gradients for ${sums.length} sums`);
  sums.forEach((sum, i) => {
    if (!alike(sum, grads[i]))
      throw new RangeError(`accumulate(sums, grads): gradient ${i} is ${show(grads[i].shape)} but its sum ${show(sum.shape)}`);
  });
  return sums.map((sum, i) => {
    const total = plus(sum, grads[i]);
    sum.free();
    grads[i].free();
    return total;
  });
}

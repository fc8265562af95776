/** Looking into a model while it runs: functions that read, or replace, what its modules give. */

import { eagerly } from "../src/capture.ts";
import { show } from "../src/shape.ts";
import { alike, refusePromise, refuseRecorded, Tensor } from "../src/tensor.ts";
import { modules } from "./module.ts";
import { matcher, nearest } from "./names.ts";

/**
 * Called with what a module's forward gave, what it was given, and where the module is. What the hook returns takes the place of y, and
 * gradients flow through it; nothing returned leaves y as it is. A tensor it reads goes when the scope does in which it was made, so one that is
 * to be looked at afterwards is held there: `found.push(y.hold())`, and freed by hand.
 *
 * The gradient of a loss by what a module gives is that by zeros added to it:
 *
 *   const delta = zeros([N, C]);
 *   withHooks(model, { "layers.3": (y) => add(y, delta) }, () => valueAndGrad(loss, [delta]));
 */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that returns nothing may be any function that does
export type Hook = (y: Tensor, at: { readonly args: readonly unknown[]; readonly path: string }) => Tensor | void;

interface Hookable {
  forward(...args: unknown[]): unknown;
}

const hookable = (part: unknown): part is Hookable =>
  typeof part === "object" && part !== null && "forward" in part && typeof part.forward === "function";

/** Every module that a path or pattern names. */
function named(model: object, pattern: string): [path: string, module: Hookable][] {
  const all = [...modules(model)].filter((entry): entry is [string, Hookable] => hookable(entry[1]));
  if (pattern.includes("*")) {
    const matches = matcher(pattern);
    const found = all.filter(([path]) => matches(path));
    if (found.length > 0) return found;
  } else {
    // step by step, since a module that stands in two places is walked to by one of them only
    const parts = pattern === "" ? [] : pattern.split(".");
    const found = parts.reduce<unknown>((part, key) => (part as Readonly<Record<string, unknown>> | null | undefined)?.[key], model);
    if (hookable(found)) return [[pattern, found]];
  }
  const near = nearest(
    pattern,
    all.map(([path]) => path),
  );
  throw new RangeError(
    `withHooks(model, hooks, f): "${pattern}" names no module with a forward; ${near === undefined ? "the model has none" : `the nearest is "${near}"`}`,
  );
}

/** Let a hook follow a module's forward. Gives what undoes it. */
function install(module: Hookable, path: string, hook: Hook): () => void {
  const own = Object.getOwnPropertyDescriptor(module, "forward");
  const { forward } = module;
  const hooked = function (this: unknown, ...args: unknown[]): unknown {
    const y = forward.apply(this, args);
    const given: unknown = hook(y as Tensor, { args, path });
    if (given === undefined) return y;
    const at = `withHooks(model, hooks, f): the hook at "${path}"`;
    if (!(given instanceof Tensor)) throw new TypeError(`${at} returned ${typeof given}; return a tensor in the place of y, or nothing`);
    if (y instanceof Tensor && !alike(y, given))
      throw new RangeError(`${at} returned ${show(given.shape)} for ${show(y.shape)}; return a tensor of the same shape`);
    return given;
  };
  Object.defineProperty(module, "forward", { value: hooked, configurable: true, writable: true, enumerable: false });
  return () => {
    if (own) Object.defineProperty(module, "forward", own);
    else Reflect.deleteProperty(module, "forward");
  };
}

/**
 * Run f while hooks follow the modules they are put at:
 *
 *   withHooks(model, { "layers.3.output": (y) => mul(y, zero) }, () => model.encode(stream))
 *
 * A key is a module's path, or a pattern for some ("layers.*.norm*"). Where several hooks meet, they run in the order they were given, each on
 * what the one before it left; hooks of an inner `withHooks` come last. Whatever happens, the model is then as it was.
 *
 * @param f enqueues work and returns; what it made is read afterwards.
 * @throws RangeError for a path that names no module with a forward, with the nearest one that does.   @throws TypeError when f returns a promise, or for a
 *   hook that is no function.   @throws Error inside a captured function, and when f runs a captured step: a replay calls no hooks.
 */
export function withHooks<T>(model: object, hooks: Readonly<Record<string, Hook>>, f: () => T): T {
  refuseRecorded("withHooks(model, hooks, f)", "calls hooks", "run the function under hooks without capturing it");
  const places = Object.entries(hooks).flatMap(([pattern, hook]) => {
    if (typeof hook !== "function")
      throw new TypeError(
        `withHooks(model, hooks, f): the hook at "${pattern}" is ${hook === null ? "null" : `a ${typeof hook}`}; give a function (y, { args, path }) => ...`,
      );
    return named(model, pattern).map(([path, module]) => ({ path, module, hook }));
  });
  const undo = places.map(({ path, module, hook }) => install(module, path, hook));
  try {
    const where = "withHooks(model, hooks, f)";
    return refusePromise(where, eagerly(where, f), ", but hooks end with f; return tensors, and await data() after it");
  } finally {
    for (const restore of undo.reverse()) restore();
  }
}

/** A point in a model where hooks may be put, which does nothing else: what no module gives by itself, such as attention weights. */
export class Tap {
  forward(x: Tensor): Tensor {
    return x;
  }

  /** Is a hook here now? What only a hook would see need not be computed otherwise. */
  get hooked(): boolean {
    return Object.hasOwn(this, "forward");
  }
}

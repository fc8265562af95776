/**
 * A module is a plain object with tensors in it; its parameters are what a walk finds, and a path is a name.
 *
 * Nothing marks a parameter as frozen: what is given to `valueAndGrad` and to an optimiser is trained, the rest is constant and costs no gradient.
 *
 *   const head = select(model, "head.**");      // train these alone
 *   const { grads } = valueAndGrad(loss, head.map(([, t]) => t));
 */

import { paste } from "../kernels/permute.ts";
import { type Shape, sameShape, show } from "../src/shape.ts";
import { run, Tensor } from "../src/tensor.ts";
import { type Match, select as selectNamed } from "./names.ts";

/** Every object reachable from a module, tensors included, by its path, before what lies in it. One that is reached twice is given once. */
function* walk(module: object, path: string, seen: Set<unknown>): Generator<[path: string, part: object]> {
  for (const [key, value] of Object.entries(module)) {
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value) || seen.has(value)) continue;
    seen.add(value);
    yield [path + key, value];
    if (!(value instanceof Tensor)) yield* walk(value, `${path}${key}.`, seen);
  }
}

/** Every tensor reachable from a module, by its path: "layers.0.query.weight". One that is reached twice is given once. */
export function* parameters(module: object): Generator<[name: string, parameter: Tensor]> {
  for (const [path, part] of walk(module, "", new Set())) if (part instanceof Tensor) yield [path, part];
}

/** Every object in a module but its tensors, by its path, before what lies in it: layers, lists of them, and whatever else; itself first, as "". */
export function* modules(module: object): Generator<[path: string, part: object]> {
  yield ["", module];
  for (const [path, part] of walk(module, "", new Set([module]))) if (!(part instanceof Tensor)) yield [path, part];
}

/** The parameters whose names match, in order: what to train of a model. @throws RangeError when none does, with the nearest name. */
export const select = (module: object, match: Match): [name: string, parameter: Tensor][] =>
  selectNamed(parameters(module), match, "select(module, match)", "parameter");

/** How many numbers a module has. */
export const countParameters = (module: object): number => [...parameters(module)].reduce((sum, [, t]) => sum + t.size, 0);

/** Give back the buffers of all parameters. */
export const freeParameters = (module: object): void => {
  for (const [, t] of parameters(module)) t.free();
};

/** Values for a parameter: what a file holds. */
export interface Stored {
  readonly shape: Shape;
  readonly data: ArrayLike<number>;
}

/**
 * Overwrite every parameter with the values of its name.
 * @throws TypeError naming the parameters that are missing, that nobody asked for, or that have another shape. Nothing is written then.
 */
export function load(module: object, values: ReadonlyMap<string, Stored>, where = "load"): void {
  for (const [t, { data }] of paired(module, values, where)) t.write(data);
}

/**
 * Overwrite the parameters of one module with those of the same names in another, on the device.
 * @throws TypeError as `load` does. Nothing is written then.
 */
export function copyParameters(from: object, to: object): void {
  for (const [y, x] of paired(to, new Map(parameters(from)), "copyParameters(from, to)"))
    run(paste("f32"), { x }, { y }, { n: x.size, size: x.size, whole: x.size, inner: 1, start: 0 });
}

/** Each parameter of a module beside what has its name, when every name and shape fits. */
function paired<V extends { readonly shape: Shape }>(
  module: object,
  values: ReadonlyMap<string, V>,
  where: string,
): [parameter: Tensor, value: V][] {
  const found = new Map(parameters(module));
  for (const name of values.keys()) if (!found.has(name)) throw new TypeError(`${where}: "${name}" is given but not in the model`);
  return [...found].map(([name, t]) => {
    const value = values.get(name);
    if (!value) throw new TypeError(`${where}: "${name}" is in the model but not given`);
    if (!sameShape(value.shape, t.shape))
      throw new TypeError(`${where}: "${name}" is ${show(value.shape)} but the model has ${show(t.shape)}`);
    return [t, value];
  });
}

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
import { floats, isFloat, type SafeTensor } from "./safetensors.ts";

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
 * The values of named tensors, read from their device: what a file is to hold.
 *
 *   writeSafetensors(await valuesOf(parameters(model)))      writeSafetensors(await valuesOf(optimizer.state()))
 */
export async function valuesOf(tensors: Iterable<readonly [name: string, t: Tensor]>): Promise<[name: string, values: Stored][]> {
  const values: [string, Stored][] = [];
  for (const [name, t] of tensors) values.push([name, { shape: t.shape, data: await t.data() }]);
  return values;
}

/**
 * Overwrite every parameter with the values of its name.
 *
 *   load(model, readSafetensors(file).tensors)
 *
 * @param values numbers, or tensors of a file in any float dtype.
 * @throws TypeError naming the parameters that are missing, that nobody asked for, that have another shape, or are no floats. Nothing is written then.
 */
export function load(module: object, values: ReadonlyMap<string, Stored | SafeTensor>, where = "load"): void {
  const unfit = (value: Stored | SafeTensor) =>
    "bytes" in value && !isFloat(value.dtype) ? `is ${value.dtype}, and weights must be F32, F64, F16, BF16 or F8` : null;
  for (const [t, value] of paired(module, values, where, unfit)) t.write("bytes" in value ? floats(value) : value.data);
}

/**
 * Overwrite the parameters of one module with those of the same names in another, on the device.
 * @throws TypeError as `load` does. Nothing is written then.
 */
export function copyParameters(from: object, to: object): void {
  for (const [y, x] of paired(to, new Map(parameters(from)), "copyParameters(from, to)"))
    run(paste("f32"), { x }, { y }, { n: x.size, size: x.size, whole: x.size, inner: 1, start: 0 });
}

/** The most names that one error lists. */
const MOST_NAMED = 12;

/** Each parameter of a module beside what has its name, when every name and shape fits. @param unfit what else is wrong with a value. */
function paired<V extends { readonly shape: Shape }>(
  module: object,
  values: ReadonlyMap<string, V>,
  where: string,
  unfit: (value: V) => string | null = () => null,
): [parameter: Tensor, value: V][] {
  const found = new Map(parameters(module));
  const wrong = [...values.keys()].filter((name) => !found.has(name)).map((name) => `"${name}" is given but not in the model`);
  const pairs: [Tensor, V][] = [];
  for (const [name, t] of found) {
    const value = values.get(name);
    const other = value && unfit(value);
    if (!value) wrong.push(`"${name}" is in the model but not given`);
    else if (!sameShape(value.shape, t.shape)) wrong.push(`"${name}" is ${show(value.shape)} but the model has ${show(t.shape)}`);
    else if (other) wrong.push(`"${name}" ${other}`);
    else pairs.push([t, value]);
  }
  if (wrong.length === 0) return pairs;
  const more = wrong.length > MOST_NAMED ? `; and ${wrong.length - MOST_NAMED} more` : "";
  throw new TypeError(`${where}: ${wrong.slice(0, MOST_NAMED).join("; ")}${more}`);
}

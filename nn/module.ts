/** A module is a plain object with tensors in it; its parameters are what a walk finds, and a path is a name. */

import { type Shape, sameShape, show } from "../src/shape.ts";
import { Tensor } from "../src/tensor.ts";

/** Every tensor reachable from a module, by its path: "layers.0.query.weight". One that is reached twice is given once. */
export function* parameters(module: object, path = "", seen = new Set<unknown>()): Generator<[name: string, parameter: Tensor]> {
  for (const [key, value] of Object.entries(module)) {
    if (value === null || typeof value !== "object" || seen.has(value)) continue;
    seen.add(value);
    if (value instanceof Tensor) yield [path + key, value];
    else yield* parameters(value, `${path}${key}.`, seen);
  }
}

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
  const found = new Map(parameters(module));
  for (const name of values.keys()) if (!found.has(name)) throw new TypeError(`${where}: "${name}" is given but not in the model`);
  for (const [name, t] of found) {
    const value = values.get(name);
    if (!value) throw new TypeError(`${where}: "${name}" is in the model but not given`);
    if (!sameShape(value.shape, t.shape))
      throw new TypeError(`${where}: "${name}" is ${show(value.shape)} but the model has ${show(t.shape)}`);
  }
  for (const [name, t] of found) t.write(values.get(name)?.data ?? []);
}

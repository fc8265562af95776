/** What constructors of layers check in what they are given: sizes and keys. */

import { Key } from "../src/key.ts";

const shown = (value: unknown): string => (typeof value === "object" && value !== null ? "an object" : String(value));

/**
 * Sizes, by the names of the arguments.
 * @param where what to say first in the error: "Linear(inputs, outputs, key)".
 * @throws TypeError for what is no number, RangeError for one that is no positive integer.
 */
export function checkSizes(where: string, sizes: Readonly<Record<string, unknown>>): void {
  for (const [name, size] of Object.entries(sizes))
    if (!(Number.isSafeInteger(size) && (size as number) > 0))
      throw new (typeof size === "number" ? RangeError : TypeError)(`${where}: ${name} must be a positive integer; got ${shown(size)}`);
}

/** @throws TypeError for what is neither a key nor null: a seed is not a key yet, and without a key weights have unknown content. */
export function checkKey(where: string, key: unknown): void {
  if (key === null || key instanceof Key) return;
  const seed = Number.isSafeInteger(key) ? String(key) : "seed";
  throw new TypeError(`${where}: the key is ${shown(key)}; give Key.from(${seed}), or null for weights that will be loaded`);
}

/** The cases that a row of the catalogue stands for: shapes whose sizes cross the kernels' edges one letter at a time, and shapes drawn by fast-check. */

import fc from "fast-check";
import { Key } from "../src/key.ts";
import { type Shape, show, sizeOf } from "../src/shape.ts";
import { catalogue, edges, type Random, type Row, type Sizes } from "./catalogue.ts";
import { setting } from "./devices.ts";

/** Numbers from Threefry, one after the other. */
function randomFrom(key: Key): Random {
  let drawn = 0;
  let words: number[] = [];
  const next = () => {
    if (words.length === 0) words = [...key.fold(drawn++).bits(1024)];
    return words.pop()! / 2 ** 32;
  };
  return { next, below: (n) => Math.floor(next() * n) };
}

export interface Case {
  readonly sizes: Sizes;
  readonly shapes: readonly Shape[];
  /** Arguments, multiples of what f32 holds: the same on every device. */
  readonly values: readonly Float64Array[];
  readonly drawn: unknown;
  readonly seed: number;
}

const letters = ({ shapes }: Row<unknown>): string[] => [...new Set(shapes.match(/[a-z]/g))];
const free = (row: Row<unknown>): string[] => letters(row).filter((letter) => !row.sizes?.[letter]);

function caseOf(row: Row<unknown>, sizes: Sizes, seed: number): Case {
  const { shapes: all, range: [low, high] = [-3, 3], lattice, draw } = row;
  const random = randomFrom(Key.from(seed));
  const sizeOfLetter = (letter: string) => (/\d/.test(letter) ? Number(letter) : sizes[letter]);
  const shapes = all
    .split(";")[0]
    .split(",")
    .map((term) =>
      term
        .trim()
        .split(/\s+/)
        .map((part) => part.split("*").reduce((size, letter) => size * sizeOfLetter(letter), 1)),
    );
  const values = shapes.map((shape, i) => {
    const grid = lattice?.[i];
    return Float64Array.from({ length: sizeOf(shape) }, () => {
      const value = low + (high - low) * random.next();
      return grid ? Math.round(value / grid.step) * grid.step + grid.offset : Math.fround(value);
    });
  });
  return { sizes, shapes, values, seed, drawn: draw?.(random, sizes) };
}

/** How a failure names a case: "[1, 257], seed 0". */
export const say = ({ shapes, seed }: Case): string => `${shapes.map(show).join(" ")}, seed ${seed}`;

/** Each letter in turn at each of the edges, the others small. */
export function* edgeCases(row: Row<unknown>, at: readonly number[]): Generator<Case> {
  const small = Object.fromEntries(letters(row).map((letter, i) => [letter, row.sizes?.[letter]?.[0] ?? 2 + (i % 2)]));
  let seed = 0;
  for (const letter of free(row))
    for (const size of at) if (size > 0 || !row.nonempty?.includes(letter)) yield caseOf(row, { ...small, [letter]: size }, seed++);
  const middling = Object.fromEntries(free(row).map((letter) => [letter, Math.round(35 ** (1 / free(row).length))]));
  for (const [letter, sizes] of Object.entries(row.sizes ?? {}))
    for (const size of sizes) yield caseOf(row, { ...small, ...middling, [letter]: size }, seed++);
}

/** Small sizes, and perhaps one at an edge. Shapes shrink, values are redrawn: a failure arrives as "[1, 257], seed 0". */
export function anyCase(row: Row<unknown>): fc.Arbitrary<Case> {
  const names = letters(row);
  const small = fc.tuple(
    ...names.map((letter) => (row.sizes?.[letter] ? fc.constantFrom(...row.sizes[letter]) : fc.integer({ min: 1, max: 6 }))),
  );
  const large = fc.option(fc.tuple(fc.constantFrom(...free(row)), fc.constantFrom(...edges)));
  return fc.record({ small, large, seed: fc.nat({ max: 9999 }) }).map(({ small, large, seed }) => {
    const sizes = Object.fromEntries(names.map((letter, i) => [letter, large?.[0] === letter ? large[1] : small[i]]));
    const made = caseOf(row, sizes, seed);
    return Object.assign(made, { [fc.toStringMethod]: () => say(made) });
  });
}

/** The seed of all draws; TEST_SEED sets another. */
export const options = (numRuns: number) => ({ numRuns, seed: Number(setting("TEST_SEED") ?? 1) });

/** Every row, by the name of its op, its number and its shapes. */
export const rows = Object.entries(catalogue).flatMap(([op, variants]) =>
  variants.map((row, i) => [`${op} ${i}: ${row.shapes}`, row] as const),
);

/**
 * Two properties for every op: its derivative is right (tape against central difference, both in f64), and every device computes what the kernels'
 * loops say (value and gradients, within f32 bounds). Sizes cross the kernels' edges one letter at a time; then fast-check draws them.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkGradients } from "../autograd/check.ts";
import { mul, sum } from "../autograd/ops.ts";
import { inference, valueAndGrad } from "../autograd/tape.ts";
import { type Device, withDevice } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { openReference } from "../src/reference.ts";
import { type Shape, show, sizeOf } from "../src/shape.ts";
import { scoped, tensor } from "../src/tensor.ts";
import { catalogue, edges, type Random, type Row, type Sizes } from "./catalogue.ts";
import { allDeviceNames, onDevices } from "./devices.ts";

/** f32's unit roundoff. */
const U = 2 ** -24;

// ---- cases ---------------------------------------------------------------------------------

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

interface Case {
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

const say = ({ shapes, seed }: Case): string => `${shapes.map(show).join(" ")}, seed ${seed}`;

/** Each letter in turn at each of the edges, the others small. */
function* edgeCases(row: Row<unknown>, at: readonly number[]): Generator<Case> {
  const small = Object.fromEntries(letters(row).map((letter, i) => [letter, row.sizes?.[letter]?.[0] ?? 2 + (i % 2)]));
  let seed = 0;
  for (const letter of free(row)) for (const size of at) yield caseOf(row, { ...small, [letter]: size }, seed++);
  const middling = Object.fromEntries(free(row).map((letter) => [letter, Math.round(35 ** (1 / free(row).length))]));
  for (const [letter, sizes] of Object.entries(row.sizes ?? {}))
    for (const size of sizes) yield caseOf(row, { ...small, ...middling, [letter]: size }, seed++);
}

/** Small sizes, and perhaps one at an edge. Shapes shrink, values are redrawn: a failure arrives as "[1, 257], seed 0". */
function anyCase(row: Row<unknown>): fc.Arbitrary<Case> {
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
const options = (numRuns: number) => ({ numRuns, seed: Number(process.env.TEST_SEED ?? 1) });

// ---- properties ----------------------------------------------------------------------------

const derivative = (row: Row<unknown>, { shapes, values, drawn, seed }: Case) =>
  checkGradients(
    (...args) => row.call(args, drawn),
    shapes.map((shape, i) => ({ shape, values: values[i] })),
    { key: Key.from(seed) },
  );

/** The value and all gradients of sum(w call(args)). */
async function evaluate(
  device: Device,
  call: Row<unknown>["call"],
  { shapes, values, drawn }: Case,
  w: (size: number) => Float64Array,
): Promise<Float64Array[]> {
  const made = withDevice(device, () =>
    scoped(() => {
      const args = values.map((value, i) => tensor(value, shapes[i]));
      const y = inference(() => call(args, drawn));
      const { grads } = valueAndGrad(() => sum(mul(call(args, drawn), tensor(w(y.size), y.shape))), args);
      return [y, ...grads];
    }),
  );
  const read = await Promise.all(made.map(async (t) => Float64Array.from(await t.data())));
  for (const t of made) t.free();
  return read;
}

const abs = (x: Float64Array) => x.map(Math.abs);

/** How far the device is from the loops, in parts of what the row allows; the worst place is named when that is more than one. */
async function agree(device: Device, reference: Device, row: Row<unknown>, it: Case): Promise<void> {
  const w = (size: number) => Float64Array.from(Key.from(it.seed).fold(1).uniforms(size), (u) => Math.fround(2 * u - 1));
  const want = await evaluate(reference, row.call, it, w);
  const got = await evaluate(device, row.call, it, w);
  const magnitude = row.magnitude
    ? row.magnitude({ args: it.values, dy: w(want[0].length), drawn: it.drawn, sizes: it.sizes })
    : await evaluate(reference, row.absolute ?? row.call, { ...it, values: it.values.map(abs) }, (size) => abs(w(size)));
  const units = row.rounding(it.sizes);
  want.forEach((expected, part) => {
    if (got[part].length !== expected.length) throw new Error(`${say(it)}: got ${got[part].length} numbers for ${expected.length}`);
    expected.forEach((value, i) => {
      const bound = units * U * Math.abs(magnitude[part][i]) + 1e-37; // f32's least normal number is near 1e-38
      if (!(Math.abs(got[part][i] - value) <= bound))
        throw new Error(
          `${say(it)}: ${part === 0 ? "value" : `gradient ${part}`}[${i}] is ${got[part][i]} but must be ${value} to ${bound.toExponential(1)}`,
        );
    });
  });
}

// ---- the sweep -----------------------------------------------------------------------------

const rows = Object.entries(catalogue).flatMap(([op, variants]) => variants.map((row, i) => [`${op} ${i}: ${row.shapes}`, row] as const));

describe("the derivative of", () => {
  for (const [name, row] of rows.filter(([, { derivative }]) => derivative !== false))
    test(name, async () => {
      for (const it of edgeCases(row, [16, 33, 65]))
        await derivative(row, it).catch((error) => expect.fail(`${say(it)}: ${error.message}`));
      await fc.assert(
        fc.asyncProperty(anyCase(row), async (it) => void (await derivative(row, it))),
        options(25),
      );
    });
});

onDevices(
  (device, name) => {
    const reference = openReference();
    const sizes = edges;
    test.each(rows)("%s", async (_, row) => {
      for (const it of edgeCases(row, sizes)) await agree(device(), reference, row, it);
      await fc.assert(
        fc.asyncProperty(anyCase(row), (it) => agree(device(), reference, row, it)),
        options(name === "webgpu" ? 5 : 20),
      );
    });
  },
  allDeviceNames.filter((name) => name !== "reference"), // the loops in f64 are what the others are held against
);

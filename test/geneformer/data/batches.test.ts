/** Cells packed into a stream: every gene at its place with its rank, and what does not fit named. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { streamOf } from "../../../geneformer/data/batches.ts";
import { withDevice } from "../../../src/device.ts";
import { openReference } from "../../../src/reference.ts";
import type { Tensor } from "../../../src/tensor.ts";
import { config } from "../../small.ts";

const on = openReference();
const pack = (...args: Parameters<typeof streamOf>) => withDevice(on, () => streamOf(...args));
const numbers = async (t: Tensor) => [...(await t.data())];

test("genes and ranks, cell after cell, then the dead tail", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.nat({ max: config.vocabulary - 1 }), { maxLength: config.length }), { maxLength: 5 }),
      fc.nat({ max: 9 }),
      async (cells, tail) => {
        const used = cells.flat().length;
        const { tokens, positions, segments } = pack(cells, config, { capacity: { tokens: used + tail, cells: cells.length + 1 } });
        expect(await numbers(tokens.values)).toEqual([...cells.flat(), ...new Array(tail).fill(0)]);
        expect(await numbers(positions.values)).toEqual([
          ...cells.flatMap((cell) => cell.map((_, rank) => rank)),
          ...new Array(tail).fill(0),
        ]);
        expect(segments.rows).toBe(used + tail);
        expect(segments.count).toBe(cells.length + 1);
        // gradients: <pad> and the tail give none to the genes; every rank does
        expect((await numbers(tokens.inverse!.starts)).at(-1)).toBe(cells.flat().filter((gene) => gene !== 0).length);
        expect((await numbers(positions.inverse!.starts)).at(-1)).toBe(used);
      },
    ),
    { seed: 1, numRuns: 40 },
  ));

test("without gradients there is no inverse, and without capacities nothing to spare", async () => {
  const { tokens, segments } = pack([[1, 2], [3]], config, { gradients: false });
  expect(tokens.inverse).toBeNull();
  expect([segments.rows, segments.count]).toEqual([3, 2]);
});

describe("errors name cell and place:", () => {
  const long = new Uint32Array(config.length + 1);
  test.each<[string, ArrayLike<number>[], string]>([
    ["too long", [[1], long], "stream: cell 1 has 65 tokens, but the model has positions for 64; tokenize with that input size"],
    [
      "beyond the vocabulary",
      [
        [1, 2],
        [3, 40],
      ],
      "stream: token 40 at place 1 of cell 1 is beyond the model's vocabulary of 40; was it tokenized with another dictionary?",
    ],
    ["negative", [[-1]], "stream: token -1 at place 0 of cell 0 is beyond the model's vocabulary of 40"],
    ["not a number", [[Number.NaN]], "stream: token NaN at place 0 of cell 0 is beyond"],
  ])("%s", (_, cells, message) => {
    expect(() => pack(cells, config)).toThrow(message);
    expect(() => pack(cells, config)).toThrow(RangeError);
  });

  test("more cells or tokens than the capacity", () => {
    expect(() => pack([[1, 2], [3]], config, { capacity: { tokens: 2, cells: 2 } })).toThrow(RangeError);
    expect(() => pack([[1, 2], [3]], config, { capacity: { tokens: 3, cells: 1 } })).toThrow(RangeError);
  });
});

/** MT19937 as Python and numpy use it: numbers that they printed (CPython 3.11, numpy 1.24). */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { pythonSample, RandomState } from "../../../geneformer/stats/twister.ts";

/** random.seed(seed); s = random.sample(range(size), count); sum(i * x for i, x in enumerate(s)) % 1000003 */
const checksum = (sample: Uint32Array) => sample.reduce((sum, x, i) => (sum + ((i * x) % 1000003)) % 1000003, 0);

describe("random.sample", () => {
  test.each([
    [42, 50, 8, [40, 7, 1, 17, 15, 14, 8, 6]],
    [42, 2_000_000, 6, [1340975, 233478, 52451, 1555144, 576778, 513575]],
    [7, 100_000, 3, [42445, 19772, 51750]],
  ])("seed %i: of %i, %i", (seed, size, count, want) => {
    expect([...pythonSample(seed, size, count)]).toEqual(want);
  });

  test.each([
    ["from a pool", 150_000, [29184, 6556, 72097, 64196], [49761, 26711, 66257], 860587],
    ["from a set of those taken", 1_500_000, [1340975, 233478, 52451, 576778], [1241598, 1435316, 1073819], 824800],
  ])("100,000 %s", (_, size, first, last, sum) => {
    const sample = pythonSample(42, size, 100_000);
    expect([...sample.slice(0, 4)]).toEqual(first);
    expect([...sample.slice(-3)]).toEqual(last);
    expect(checksum(sample)).toBe(sum);
  });

  test("takes no place twice, and all of them where as many are asked for", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 1, max: 300 }), fc.nat(300), (seed, size, count) => {
        const sample = pythonSample(seed, size, Math.min(count, size));
        expect(new Set(sample).size).toBe(Math.min(count, size));
        expect(sample.every((place) => place < size)).toBe(true);
      }),
    );
  });
});

test("RandomState(0): randint and random_sample, one after the other", () => {
  const random = new RandomState(0);
  expect(Array.from({ length: 6 }, () => random.below(7))).toEqual([4, 5, 0, 3, 3, 3]);
  expect([random.uniform(), random.uniform()]).toEqual([0.8472517387841254, 0.6235636967859723]);
});

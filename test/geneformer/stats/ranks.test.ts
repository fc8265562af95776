/** Rank sums against their definition, the normal tail against C's erfc, false discovery rates against theirs. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { erfc, falseDiscoveryRates, rankSum, Sorted, spearman, twoSided } from "../../../geneformer/stats/ranks.ts";

test.each([
  [0, 1],
  [0.1, 0.8875370839817152],
  [0.5, 0.4795001221869535],
  [1, 0.15729920705028513],
  [1.9, 0.0072095707647425325],
  [2, 0.004677734981047265],
  [2.1, 0.002979466656332984],
  [3, 2.2090496998585438e-5],
  [5, 1.5374597944280351e-12],
  [8, 1.1224297172982928e-29],
  [15, 7.212994172451206e-100],
  [26, 5.663192408856143e-296],
  [-1, 1.842700792949715],
])("erfc(%d), as C computes it, to 1e-12", (x, want) => {
  expect(Math.abs(erfc(x) / want - 1)).toBeLessThan(1e-12);
});

test("erfc at its ends", () => {
  expect([erfc(40), erfc(-40), erfc(Number.NaN), twoSided(0)]).toEqual([0, 2, Number.NaN, 1]);
});

describe("rankSum", () => {
  /** Ranks by counting: half of a value's equals stand before it. */
  const byDefinition = (first: readonly number[], second: readonly number[]) => {
    const all = [...first, ...second];
    const rank = (x: number) => all.filter((y) => y < x).length + (all.filter((y) => y === x).length + 1) / 2;
    const sum = first.reduce((total, x) => total + rank(x), 0);
    const [n1, n2] = [first.length, second.length];
    return (sum - (n1 * (n1 + n2 + 1)) / 2) / Math.sqrt((n1 * n2 * (n1 + n2 + 1)) / 12);
  };
  const sample = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 20 });

  test("z is that of the ranks, equal values sharing theirs", () => {
    fc.assert(
      fc.property(sample, sample, (first, second) => {
        expect(rankSum(new Sorted(first), second).z).toBeCloseTo(byDefinition(first, second), 10);
      }),
    );
  });

  test("the samples change places, z its sign, and p stays", () => {
    fc.assert(
      fc.property(sample, sample, (first, second) => {
        const [there, back] = [rankSum(new Sorted(first), second), rankSum(new Sorted(second), first)];
        expect(there.z).toBeCloseTo(-back.z, 10);
        expect(there.p).toBeCloseTo(back.p, 10);
      }),
    );
  });

  test("scipy.stats.ranksums's own example by hand: 1, 2, 3 against 4, 5, 6", () => {
    const { z, p } = rankSum(new Sorted([1, 2, 3]), [4, 5, 6]);
    expect(z).toBeCloseTo(-4.5 / Math.sqrt(5.25), 12);
    expect(p).toBeCloseTo(0.04953461343562649, 12);
  });

  test("an empty sample has no z; a NaN no rank", () => {
    expect(rankSum(new Sorted([]), [1])).toEqual({ z: Number.NaN, p: Number.NaN });
    expect(rankSum(new Sorted([1]), [])).toEqual({ z: Number.NaN, p: Number.NaN });
    expect(() => new Sorted([1, Number.NaN, 0])).toThrow("ranksums: a value is NaN; leave such values out");
  });
});

describe("falseDiscoveryRates", () => {
  test("Benjamini and Hochberg's: the least, over ranks from a p-value's own on, of p times tests / rank", () => {
    const p = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.array(p, { maxLength: 20 }), (ps) => {
        const sorted = [...ps].sort((a, b) => a - b);
        const want = ps.map((value) => {
          const at = sorted.lastIndexOf(value);
          return Math.min(1, ...sorted.slice(at).map((q, i) => (q * ps.length) / (at + i + 1)));
        });
        expect([...falseDiscoveryRates(ps)].map((rate) => rate.toPrecision(12))).toEqual(want.map((rate) => rate.toPrecision(12)));
      }),
    );
  });

  test("a textbook's: five tests", () => {
    expect([...falseDiscoveryRates([0.01, 0.04, 0.03, 0.005, 0.5])].map((rate) => Number(rate.toFixed(4)))).toEqual([
      0.025, 0.05, 0.05, 0.025, 0.5,
    ]);
  });
});

test("Spearman's correlation: of ranks, equal values sharing theirs", () => {
  expect(spearman([1, 2, 3, 4], [10, 20, 30, 1000])).toBeCloseTo(1, 12);
  expect(spearman([1, 2, 3], [3, 2, 1])).toBeCloseTo(-1, 12);
  expect(spearman([1, 2, 2, 3], [1, 3, 2, 4])).toBeCloseTo(0.9486832980505138, 12); // scipy.stats.spearmanr
  expect(spearman([1, 1], [1, 2])).toBeNaN();
});

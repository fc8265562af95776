/** Intervals and sign flips against scipy's, and against what they promise: coverage, uniform p-values, order that does not matter. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { intervals, type Statistic, signFlips } from "../../../geneformer/stats/resample.ts";
import { Key } from "../../../src/key.ts";

const golden = JSON.parse(readFileSync(new URL("../../golden/resample.json", import.meta.url), "utf8")) as {
  readonly flips: readonly { readonly sample: number[]; readonly p: number }[];
  readonly intervals: readonly {
    readonly sample: number[];
    readonly seed: number;
    readonly resamples: number;
    readonly level: number;
    readonly mean: [number, number];
    readonly effect: [number, number];
  }[];
};
const mean: Statistic = (average) => average;
const effect: Statistic = (average, deviation) => (average === 0 ? 0 : average / deviation);
const key = Key.from(3);

/** Samples of n normal numbers around `shift`. */
const normals = (count: number, n: number, shift = 0, seed = 7): Float64Array[] => {
  const all = Key.from(seed)
    .fold(n)
    .normals(count * n);
  return Array.from({ length: count }, (_, i) => all.slice(i * n, (i + 1) * n).map((value) => value + shift));
};
const share = (items: ArrayLike<number>, is: (item: number) => boolean) => Array.from(items).filter(is).length / items.length;
/** How far a share of `count` draws may be from its expectation: four standard deviations of a binomial, once in 16,000. */
const room = (p: number, count: number) => 4 * Math.sqrt((p * (1 - p)) / count);

describe("intervals", () => {
  test.each(golden.intervals)("scipy's BCa with the same draws: seed $seed", ({ sample, seed, resamples, level, ...want }) => {
    for (const [name, statistic] of [
      ["mean", mean],
      ["effect", effect],
    ] as const) {
      const [made] = intervals([sample], statistic, { key: Key.from(seed), resamples, level });
      for (const [i, end] of made.entries()) expect(end, name).toBeCloseTo(want[name][i], 10);
    }
  });

  test("they hold the truth at about the level they say: 600 samples of 60", () => {
    const samples = normals(600, 60, 0.5);
    for (const [statistic, level] of [
      [mean, 0.95],
      [effect, 0.95],
      [mean, 0.8],
    ] as const) {
      const made = intervals(samples, statistic, { key, resamples: 800, level });
      const held = made.filter(([low, high]) => low !== null && high !== null && low <= 0.5 && 0.5 <= high).length / made.length;
      expect(Math.abs(held - level)).toBeLessThan(room(level, 600) + 0.015); // .015: resamples are finite in number, and the same for all samples
    }
  });

  test("the order of a sample's values, and of samples, changes nothing; other samples do not either; the key does", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -5, max: 5, noNaN: true }), { minLength: 6, maxLength: 12 }), (sample) => {
        const others = normals(3, 9);
        const options = { key, resamples: 40 };
        const [made] = intervals([sample], effect, options);
        expect(intervals([...others, [...sample].reverse()], effect, options)[3]).toEqual(made);
      }),
      { numRuns: 30 },
    );
    const [sample] = normals(1, 20);
    expect(intervals([sample], mean, { key: Key.from(4) })).not.toEqual(intervals([sample], mean, { key }));
  });

  test("values shifted and scaled shift and scale the mean's interval, and leave the effect's when scaled", () => {
    const [sample] = normals(1, 20, 0.3);
    const moved = sample.map((value) => 1000 + 2 * value);
    const [[low, high]] = intervals([sample], mean, { key });
    const [[low2, high2]] = intervals([moved], mean, { key });
    expect(low2).toBeCloseTo(1000 + 2 * (low as number), 9);
    expect(high2).toBeCloseTo(1000 + 2 * (high as number), 9);
    const [[a, b]] = intervals([sample], effect, { key });
    const [[c, d]] = intervals([sample.map((value) => 2 * value)], effect, { key });
    expect([c, d]).toEqual([expect.closeTo(a as number, 9), expect.closeTo(b as number, 9)]);
  });

  test("samples too small have none; equal values have their own, and no effect's", () => {
    expect(intervals([[], [1], [1, 2]], effect, { key })).toEqual([
      [null, null],
      [null, null],
      [null, null],
    ]);
    expect(intervals([[0.1, 0.1, 0.1]], mean, { key })).toEqual([[0.1, 0.1]]);
    expect(intervals([[0.1, 0.1, 0.1]], effect, { key })).toEqual([[null, null]]);
    expect(intervals([[0, 0, 0]], effect, { key })).toEqual([[0, 0]]);
  });

  test.each([0, 39, 40.5, Number.NaN])("%d resamples are refused", (resamples) => {
    expect(() => intervals([[1, 2]], mean, { key, resamples })).toThrow(
      /^bootstrap: .* resamples say nothing of an interval's ends; take at least 40$/,
    );
  });
});

describe("signFlips", () => {
  test.each(golden.flips)(
    "all flips, as enumerated and as scipy.stats.permutation_test has them: $sample.length values",
    ({ sample, p }) => {
      expect(signFlips([sample], { key })[0]).toBeCloseTo(p, 12);
    },
  );

  test("drawn at random they come near: the exact p of 13 values, beside their 9,999 flips with a 14th of 0", () => {
    for (const { sample, p } of golden.flips.filter(({ sample: { length } }) => length === 13)) {
      const drawn = signFlips([[...sample, 0]], { key })[0]; // a 0 doubles the flips and changes no sum
      expect(drawn).not.toBe(p);
      expect(Math.abs(drawn - p)).toBeLessThan(room(p, 9999) + 1e-4);
    }
  });

  test("p-values of samples around 0 are uniform, exact or drawn; those of shifted ones are small", () => {
    for (const n of [8, 13, 14, 25]) {
      const ps = signFlips(normals(2000, n), { key, flips: 999 });
      for (const level of [0.05, 0.3, 0.8]) {
        const attained = n < 14 ? Math.floor(level * 2 ** (n - 1)) / 2 ** (n - 1) : level; // exact ones are multiples of 2 / 2^n
        expect(Math.abs(share(ps, (p) => p <= attained) - attained), `${n} values, p <= ${level}`).toBeLessThan(
          room(attained, 2000) + 0.005,
        );
      }
    }
    expect(share(signFlips(normals(200, 25, 1), { key }), (p) => p < 0.05)).toBeGreaterThan(0.95);
  });

  test("the least p is 2 / 2^n, or 1 / 10,000 where flips are drawn; never 0", () => {
    for (let n = 1; n <= 13; n++) expect(signFlips([Array.from({ length: n }, (_, i) => 1 + i)], { key })[0]).toBe(2 / 2 ** n);
    for (const n of [40, 400]) expect(signFlips([Array(n).fill(1)], { key })[0]).toBe(1e-4);
    expect([...signFlips([[], [0, 0], [1, -1], Array(20).fill(0)], { key })]).toEqual([1, 1, 1, 1]);
  });

  test("neither order nor sign nor scale matters", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 16 }), (sample) => {
        const [p] = signFlips([sample], { key, flips: 99 });
        expect(signFlips([[...sample].reverse()], { key, flips: 99 })[0]).toBe(p);
        if (sample.length < 14) expect(signFlips([sample.map((value) => -0.1 * value)], { key })[0]).toBe(p);
      }),
      { numRuns: 60 },
    );
  });
});

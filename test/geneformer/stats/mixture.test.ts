/** Two normal distributions found again: the lower one first, whichever is the smaller and however near they lie. */

import { describe, expect, test } from "vitest";
import { fitMixture, likelier } from "../../../geneformer/stats/mixture.ts";
import { Key } from "../../../src/key.ts";

/** `few` values about `low`, the rest about `high`. */
const sample = (seed: number, few: number, many: number, low: number, high: number, deviation: number) =>
  Float64Array.from(Key.from(seed).normals(few + many), (z, i) => (i < few ? low : high) + deviation * z);

describe("two components", () => {
  test.each([
    ["few are low", 5, 55],
    ["half", 30, 30],
    ["most are low", 55, 5],
  ])("%s", (_, low, high) => {
    for (let seed = 0; seed < 20; seed++) {
      const values = sample(seed, low, high, 0.9, 0.98, 0.004);
      const mixture = fitMixture(values);
      expect(mixture[0].mean).toBeLessThan(mixture[1].mean);
      expect(Math.abs(mixture[0].mean - 0.9)).toBeLessThan(0.01);
      expect(Math.abs(mixture[0].weight - low / 60)).toBeLessThan(0.02);
      for (const [i, value] of values.entries()) expect(likelier(mixture, value)).toBe(Number(i >= low));
    }
  });

  test("cosines within 1e-3 of each other are told apart; with the original's regularisation they are not", () => {
    const values = sample(3, 30, 30, 0.9995, 0.9998, 2e-5);
    const mixture = fitMixture(values);
    expect(values.every((value, i) => likelier(mixture, value) === Number(i >= 30))).toBe(true);
    const [a, b] = fitMixture(values, { original: true });
    expect(Math.min(a.variance, b.variance)).toBeGreaterThan(9e-7); // a deviation of .001, three times what they lie apart
  });

  test("the original numbers components by chance: of few low values it calls the high ones the first", () => {
    const turned = Array.from({ length: 20 }, (_, seed) => fitMixture(sample(seed, 5, 55, 0.9, 0.98, 0.004), { original: true }));
    expect(turned.filter(([a, b]) => a.mean > b.mean).length).toBeGreaterThan(10);
  });

  test("weights sum to 1, and order does not matter but for the first centre", () => {
    const [a, b] = fitMixture([0.9, 0.91, 0.99, 0.98, 0.985]);
    expect(a.weight + b.weight).toBeCloseTo(1, 12);
    expect(a.mean).toBeCloseTo(0.905, 4);
  });

  test.each([
    [[], "mixture: two components need two values that differ; got 0 values; perturb more genes"],
    [[0.9], "mixture: two components need two values that differ; got 1 value; perturb more genes"],
    [[0.9, 0.9], "mixture: two components need two values that differ; got 2 values, all the same; perturb more genes"],
  ])("%j has no two components", (values, message) => {
    expect(() => fitMixture(values)).toThrow(new RangeError(message));
  });
});

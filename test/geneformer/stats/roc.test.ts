/** The area under the ROC curve: against counting all pairs, its symmetries, and the rank sum that it is. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { rankSum, Sorted } from "../../../geneformer/stats/ranks.ts";
import { auroc } from "../../../geneformer/stats/roc.ts";

/** Whole numbers, so that ties are frequent. */
const scores = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 30 });

describe("auroc", () => {
  test("is the share of pairs that the positive wins, ties half", () => {
    fc.assert(
      fc.property(scores, scores, (positives, negatives) => {
        const won = positives.flatMap((p) => negatives.map((n): number => (p > n ? 1 : p === n ? 0.5 : 0)));
        expect(auroc(positives, negatives)).toBeCloseTo(won.reduce((a, b) => a + b, 0) / won.length, 12);
      }),
    );
  });

  test("turns over with the groups, and sees order alone", () => {
    fc.assert(
      fc.property(scores, scores, (positives, negatives) => {
        expect(auroc(negatives, positives)).toBeCloseTo(1 - auroc(positives, negatives), 12);
        const bent = (values: number[]) => values.map((x) => Math.exp(x));
        expect(auroc(bent(positives), bent(negatives))).toBe(auroc(positives, negatives));
      }),
    );
  });

  test("is the rank sum of the positives, on another scale", () => {
    const [positives, negatives] = [
      [3, 1, 4, 1, 5],
      [9, 2, 6, 5],
    ];
    const { z } = rankSum(new Sorted(positives), negatives);
    const [n1, n2] = [5, 4];
    const u = z * Math.sqrt((n1 * n2 * (n1 + n2 + 1)) / 12) + (n1 * n2) / 2;
    expect(auroc(positives, negatives)).toBeCloseTo(u / (n1 * n2), 12);
    expect(auroc(positives, negatives)).toBe(0.175); // 3 of 20 pairs won and one tied, counted by hand
  });

  test("of nothing is no number, and of NaN an error", () => {
    expect(auroc([], [1])).toBeNaN();
    expect(auroc([1], [])).toBeNaN();
    expect(() => auroc([1, Number.NaN], [1])).toThrow(/NaN/);
    expect(() => auroc([1], [Number.NaN])).toThrow(/NaN/);
  });
});

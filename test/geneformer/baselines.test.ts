/** What can be guessed without a model, by hand and in general. */

import { describe, expect, test } from "vitest";
import { baselines } from "../../geneformer/baselines.ts";
import { toyCells } from "./toy.ts";

const cells = [
  [2, 3],
  [2, 4],
  [3, 2],
];

test("by hand: three cells, two questions", () => {
  const questions = [
    { gene: 2, rank: 0 },
    { gene: 4, rank: 1 },
  ];
  const { unigramEntropy, unigram, rank } = baselines(cells, questions, 5);
  const p = [1, 1, 4, 3, 2].map((count) => count / 11); // each token once more than it was seen
  expect(unigramEntropy).toBeCloseTo(-p.reduce((sum, x) => sum + x * Math.log(x), 0), 12);
  expect(unigram).toBeCloseTo(-(Math.log(4 / 11) + Math.log(2 / 11)) / 2, 12);
  // at rank 0 gene 2 stands in two cells of three, at rank 1 gene 4 in one; a hundred counts are shared out as genes are in general
  expect(rank).toBeCloseTo(-(Math.log((2 + 100 * p[2]) / 103) + Math.log((1 + 100 * p[4]) / 103)) / 2, 12);
});

test("genes all alike have the entropy of the vocabulary", () => {
  expect(baselines([[0, 1, 2, 3]], [{ gene: 0, rank: 0 }], 4).unigramEntropy).toBeCloseTo(Math.log(4), 12);
  expect(baselines([], [{ gene: 0, rank: 0 }], 7)).toEqual({
    unigramEntropy: expect.closeTo(Math.log(7), 12),
    unigram: expect.closeTo(Math.log(7), 12),
    rank: expect.closeTo(Math.log(7), 12),
  });
});

test("a gene never seen at its rank, or a rank never seen, is guessed by how common the gene is", () => {
  const [seen, unseen] = [
    { gene: 2, rank: 0 },
    { gene: 2, rank: 9 },
  ].map((question) => baselines(cells, [question], 5));
  expect(unseen.rank).toBeCloseTo(unseen.unigram, 12);
  expect(seen.rank).toBeLessThan(seen.unigram);
  const never = baselines(cells, [{ gene: 1, rank: 0 }], 5);
  expect(never.rank).toBeCloseTo(-Math.log((100 * 1) / 11 / 103), 12);
});

describe("ranks", () => {
  /** Does what stands at one rank say anything about another? */
  const together = (a: number, b: number) => {
    const cell = Array.from({ length: 200 }, () => 0);
    cell[a] = 1;
    const { rank, unigram } = baselines(
      Array.from({ length: 50 }, () => cell),
      [{ gene: 1, rank: b }],
      2,
    );
    return rank < unigram;
  };
  test.each([
    [15, 15, true],
    [14, 15, false],
    [15, 16, false],
    [16, 19, true],
    [19, 20, false],
    [100, 107, true],
    [100, 120, false],
  ])("%i and %i are in one bin: %s", (a, b, expected) => expect(together(a, b)).toBe(expected));
});

test("cells that agree on their order are guessed better by rank", () => {
  const all = toyCells(60);
  const questions = all.flatMap((cell) => cell.map((gene, rank) => ({ gene, rank })));
  const { unigram, rank, unigramEntropy } = baselines(all, questions, 16);
  expect(rank).toBeLessThan(unigram);
  expect(unigram).toBeCloseTo(unigramEntropy, 1);
});

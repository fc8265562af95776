/** The three questions, on effects made up so that the answers are known. */

import { describe, expect, test } from "vitest";
import { direction, displacement, impact, movedBy, movedMoreBy, type Shift, targets, trueChange } from "../../../bench/truth/answers.ts";
import type { Moved, Truth } from "../../../bench/truth/predicted.ts";

const GENES = 30;
/** Regulator r changes the ten genes from 10 r on, the first of them most. */
const change = (r: number) => Float64Array.from({ length: GENES }, (_, g) => (Math.floor(g / 10) === r ? -(1 - (g % 10) / 10) : 0));
const changes = new Map([0, 1, 2].map((r) => [100 + r, change(r)]));
const seen = () => 1;

describe("which genes does it reach?", () => {
  test("the truth itself is never wrong, its contrary always, a constant never knows", () => {
    const truth = (r: number, g: number) => Math.abs(change(r - 100)[g]);
    const right = targets(truth, changes, seen, 0.05);
    expect([right.spearman.value, right.auroc.value, right.regulators]).toEqual([expect.closeTo(1, 12), 1, 3]);
    const wrong = targets((r, g) => -truth(r, g), changes, seen, 0.05);
    expect([wrong.spearman.value, wrong.auroc.value]).toEqual([expect.closeTo(-1, 12), 0]);
    expect(targets(() => 1, changes, seen, 0.05).auroc.value).toBe(0.5);
  });

  test("the perturbed gene itself and genes without an answer are left out", () => {
    const own = new Map([[0, change(0)]]);
    const score = (_: number, g: number) => (g === 0 ? -100 : Math.abs(change(0)[g])); // wrong about the gene itself alone
    expect(targets(score, own, seen, 0.05).auroc.value).toBe(1);
    const blind = (_: number, g: number) => (g < 25 ? 1 : Number.NaN);
    expect(targets((_, g) => (g < 25 ? Math.abs(change(0)[g]) : 1e9), own, blind, 0.05).auroc.value).toBe(1);
    expect(targets(score, own, (_, g) => (g < 5 ? 1 : Number.NaN), 0.05).regulators).toBe(0); // too few
  });
});

describe("effects on genes", () => {
  const moved: Moved = {
    sums: new Map([
      [0, Float64Array.of(0, 8, 4)],
      [1, Float64Array.of(3, 0, 4)],
    ]),
    counts: new Map([
      [0, Uint32Array.of(0, 4, 4)],
      [1, Uint32Array.of(3, 0, 2)],
    ]),
  };

  test("are means over cells, where there are enough", () => {
    expect(movedBy(moved)(0, 1)).toBe(2);
    expect(movedBy(moved)(1, 2)).toBeNaN(); // two cells are too few
    expect(movedBy(moved)(7, 1)).toBeNaN();
  });

  test("beside the average perturbation are log ratios", () => {
    const counts = new Map([...moved.counts.keys()].map((gene) => [gene, Uint32Array.of(4, 4, 4)]));
    const sums = new Map([
      [0, Float64Array.of(0, 8, 4)],
      [1, Float64Array.of(3, 0, 16)],
    ]);
    expect(movedMoreBy({ sums, counts })(1, 2)).toBeCloseTo(Math.log(2), 6); // 4, where the mean log is of 1 and 4
  });

  test("are told apart by whether a gene was displaced", () => {
    const still: Moved = { sums: new Map([[0, Float64Array.of(0, 1, 1)]]), counts: new Map([[0, Uint32Array.of(0, 2, 2)]]) };
    // 19 in all over 13 cells and genes, of which 2 over 4 stayed.
    expect(displacement({ moved, still, cells: new Map() })).toEqual({ stayed: 0.5, displaced: 17 / 9 });
  });
});

test("a true change is the mean over the cells that were perturbed", () => {
  const truth = (value: number): Truth => ({ change: Float64Array.of(value, 0), shifts: [], withoutOwn: [] });
  const all = new Map([
    [
      5,
      new Map([
        [0, truth(1)],
        [4, truth(3)],
        [8, truth(100)],
      ]),
    ],
  ]);
  expect([...trueChange(all, 5, [0, 4])]).toEqual([2, 0]);
});

test("regulators that score highest have all the area; genes without a score are left out", () => {
  const score = (gene: number) => (gene === 3 ? Number.NaN : gene);
  const { auroc, spearman } = impact(score, [10, 11, 12, 3], [0, 1, 2], (gene) => -gene);
  expect(auroc.value).toBe(1);
  expect(spearman.value).toBeCloseTo(-1, 12);
});

describe("where does it move cells?", () => {
  const shifts = (predicted: (truth: number) => number, pairs = ["a b", "b a"]): Shift[] =>
    pairs.flatMap((pair) =>
      Array.from({ length: 12 }, (_, regulator) => ({
        regulator,
        pair,
        predicted: predicted(regulator - 5.5),
        truth: (regulator - 5.5) / 100,
      })),
    );

  test("right order and right signs, wrong ones, and one way only", () => {
    const right = direction(shifts((truth) => truth ** 3));
    expect([right.spearman.value, right.signs.value, right.shifts]).toEqual([expect.closeTo(1, 12), 1, 24]);
    const wrong = direction(shifts((truth) => -truth));
    expect([wrong.spearman.value, wrong.signs.value]).toEqual([expect.closeTo(-1, 12), 0]);
    expect(direction(shifts(Math.abs)).signs.value).toBe(0.5);
  });

  test("pairs with too few regulators do not count, nor shifts without a direction", () => {
    const few: Shift[] = [{ regulator: 0, pair: "c d", predicted: -1, truth: 1 }];
    expect(direction([...shifts((truth) => truth), ...few]).signs.value).toBe(1);
    const still = shifts((truth) => truth).map((shift) => (shift.regulator === 0 ? { ...shift, predicted: 1, truth: 1e-9 } : shift));
    expect(direction(still).signs.value).toBe(1);
  });
});

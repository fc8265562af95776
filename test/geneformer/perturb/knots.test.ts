/** Knots: which edits are passed, and what the others between them are corrected by. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { errorsOf, knotsOf, type Moves } from "../../../geneformer/perturb/knots.ts";

/** An edit after which so many genes have moved down, with one that comes at `rank`. */
const moving = (count: number, rank = 0): Moves => ({ moved: count === 0 ? [] : [[0, count, 1]], ranks: [rank] });
const distance = ({ moved }: Moves) => moved.reduce((sum, [from, to, by]) => sum + (to - from) * Math.abs(by), 0);

describe("knotsOf", () => {
  test("evenly spaced by rank, the farthest among them, none that moves nothing", () => {
    const edits = Array.from({ length: 9 }, (_, i) => moving(i));
    expect(knotsOf(edits, 4)).toEqual([2, 4, 6, 8]);
    expect(knotsOf(edits, 1)).toEqual([8]);
    expect(knotsOf(edits, 100)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(knotsOf([moving(0), moving(0, 1)], 4)).toEqual([]);
    expect(knotsOf([], 4)).toEqual([]);
  });

  test("those that move as many genes to the same ranks need one pass", () => {
    expect(knotsOf(Array(5).fill(moving(7)), 4)).toHaveLength(1);
    expect(knotsOf([moving(7), moving(7, 1)], 2)).toEqual([0, 1]);
  });

  test("families have their share each, and one at least", () => {
    const edits = [...Array.from({ length: 30 }, (_, i) => moving(i + 1)), moving(3, 9), moving(2, 9)];
    const knots = knotsOf(edits, 4);
    expect(knots.filter((knot) => knot < 30)).toEqual([7, 14, 22, 29]);
    expect(knots.filter((knot) => knot >= 30)).toEqual([30]);
  });
});

describe("errorsOf", () => {
  test("a straight line from nothing moved to the first knot, and from knot to knot", () => {
    const edits = [4, 0, 8, 2, 6].map((count) => moving(count));
    const estimates = [1, 0, 1, 1, 1];
    // at 4 it lacks 2, at 8 it has 4 too much
    const errors = errorsOf(edits, estimates, new Map([[0, 3], [2, -3]])); // biome-ignore format: one line
    expect([...errors]).toEqual([2, 0, -4, 1, -1]);
  });

  const cells = fc
    .array(fc.record({ count: fc.integer({ min: 0, max: 40 }), rank: fc.integer({ min: 0, max: 2 }) }), { minLength: 1, maxLength: 60 })
    .map((all) => all.map(({ count, rank }) => moving(count, rank)));

  test("at knots estimates become exact, where nothing moves they stay, and between they are between", () =>
    fc.assert(
      fc.property(cells, fc.integer({ min: 1, max: 12 }), fc.nat(), (edits, count, seed) => {
        const draw = (i: number) => Math.sin(seed + 7.3 * i);
        const estimates = edits.map((_, i) => draw(i));
        // alike in what moves: alike in truth
        const truth = edits.map(({ moved, ranks }) => draw(1000 + 50 * ranks[0] + (moved[0]?.[1] ?? 0)));
        const knots = knotsOf(edits, count);
        const errors = errorsOf(edits, estimates, new Map(knots.map((knot) => [knot, truth[knot]])));
        for (const knot of knots) expect(estimates[knot] + errors[knot]).toBeCloseTo(truth[knot], 10);
        for (const [i, edit] of edits.entries()) {
          if (distance(edit) === 0) expect(errors[i]).toBe(0);
          const own = knots.filter((knot) => edits[knot].ranks[0] === edit.ranks[0]);
          const bounds = [0, ...own.map((knot) => errors[knot])];
          expect(errors[i]).toBeGreaterThanOrEqual(Math.min(...bounds) - 1e-12);
          expect(errors[i]).toBeLessThanOrEqual(Math.max(...bounds) + 1e-12);
        }
      }),
    ));

  test("ranks that genes move by count whichever way they move, and in however many runs", () => {
    const edits: Moves[] = [
      { moved: [[3, 5, -1]], ranks: [] }, // 2
      { moved: [[0, 2, 1], [4, 6, -1]], ranks: [] }, // 4
      { moved: [[1, 4, -2]], ranks: [] }, // 6
    ]; // biome-ignore format: a line each
    expect(knotsOf(edits, 1)).toEqual([2]);
    expect([...errorsOf(edits, [0, 0, 0], new Map([[2, 6]]))]).toEqual([2, 4, 6]);
  });

  test("one family's knots say nothing of another", () => {
    const edits = [moving(4, 0), moving(2, 0), moving(4, 1), moving(2, 1)];
    const errors = errorsOf(edits, [0, 0, 0, 0], new Map([[0, 1], [2, -10]])); // biome-ignore format: one line
    expect([...errors]).toEqual([1, 0.5, -10, -5]);
  });
});

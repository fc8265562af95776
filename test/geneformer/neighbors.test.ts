/** Nearest neighbours by hand, and votes that must come out whatever the cells. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VOTERS, vote } from "../../geneformer/neighbors.ts";

const at = (...rows: readonly (readonly number[])[]) => Float32Array.from(rows.flat());

test("two groups in two directions are named right", () => {
  const rows = at([1, 0.1], [1, 0], [1, -0.1], [-1, 0.1], [-1, 0], [-1, -0.1]);
  const labels = ["a", "a", "a", "b", "b", "b"];
  expect(vote(rows, 2, labels, 2)).toEqual({ accuracy: 1, majority: 0.5, balanced: 1, cells: 6 });
  expect(vote(rows, 2, ["a", "b", "a", "b", "a", "b"], 2)).toEqual({ accuracy: 0, majority: 0.5, balanced: 0, cells: 6 }); // the middle one is nearest to both, and alone
});

test("similarity is the cosine about the mean: how far a cell lies out does not matter", () => {
  // mean [0, 0]; by distance the cell at [1, 0] would be nearest to those at [0, +-1]
  const rows = at([9, 0], [1, 0.05], [0, 1], [0, -1], [-10, -0.05]);
  expect(vote(rows, 2, ["far", "far", "up", "down", "left"], 1).accuracy).toBeCloseTo(2 / 5);
  const shifted = rows.map((value) => value + 100);
  expect(vote(shifted, 2, ["far", "far", "up", "down", "left"], 1).accuracy).toBeCloseTo(2 / 5);
});

describe("the vote", () => {
  const angles = (...degrees: number[]) => at(...degrees.map((d) => [Math.cos((d * Math.PI) / 180), Math.sin((d * Math.PI) / 180)]));
  // Four at the right, and their mirror images so that the mean is the middle.
  const rows = angles(0, 10, 25, 45, 180, 190, 205, 225);

  test("is by the most frequent label, the nearest of equals decides", () => {
    // of the cell at 0: nearest are 10 (b), 25 (c), 45 (c)
    const labels = ["c", "b", "c", "c", "x", "x", "x", "x"];
    expect(vote(rows, 2, labels, 1).accuracy).toBeCloseTo((4 + 1) / 8); // 0 sees 10, 10 sees 0, 25 sees 10; 45 sees 25 (c)
    expect(vote(rows, 2, labels, 2).accuracy).toBeCloseTo((4 + 1) / 8); // 0: b before c; 10: c, c; 25: b before c; 45: c before b
    expect(vote(rows, 2, labels, 3).accuracy).toBeCloseTo((4 + 3) / 8);
  });

  test("a label that most bear is the majority; balanced counts labels alike", () => {
    const { accuracy, majority, balanced } = vote(rows, 2, ["c", "b", "c", "c", "x", "x", "x", "x"], 3);
    expect([accuracy, majority]).toEqual([7 / 8, 4 / 8]);
    expect(balanced).toBeCloseTo((1 + 0 + 1) / 3);
  });

  test("cells without a label take no part", () => {
    const labels = ["a", null, null, "a", "b", null, null, "b"];
    expect(vote(rows, 2, labels, 1)).toMatchObject({ accuracy: 1, cells: 4 });
    const garbage = Float32Array.from(rows, (value, i) => ([1, 2, 5, 6].includes(Math.floor(i / 2)) ? 1e6 : value));
    expect(vote(garbage, 2, labels, 1)).toMatchObject({ accuracy: 1, cells: 4 });
  });

  test("numbers are labels too, and 1 is not '1'", () => {
    expect(vote(rows, 2, [1, 1, 1, 1, 2, 2, 2, 2], 3).accuracy).toBe(1);
    expect(vote(at([1, 0], [1, 0.1], [-1, 0]), 2, [1, "1", 2], 1).accuracy).toBe(0);
  });

  test("of fewer others than k all vote", () => {
    expect(vote(at([1, 0], [1, 0.1], [-2, 0]), 2, ["a", "a", "a"], 10)).toEqual({ accuracy: 1, majority: 1, balanced: 1, cells: 3 });
  });
});

test("of very many cells some vote, evenly spaced", () => {
  const many = 3 * VOTERS;
  // Of every three cells the first lies with its label, the others lie wrong; one cell without a label shifts none.
  const label = (i: number) => (Math.floor(i / 3) % 2 ? "up" : "down");
  const rows = at([9, 9], ...Array.from({ length: many }, (_, i) => [0, (label(i) === "up") === (i % 3 === 0) ? 1 : -1]));
  const labels = [null, ...Array.from({ length: many }, (_, i) => label(i))];
  expect(vote(rows, 2, labels, 1)).toEqual({ accuracy: 1, majority: 0.5, balanced: 1, cells: VOTERS });
});

test("fewer than two labelled cells have no neighbours", () => {
  expect(() => vote(at([1, 2], [3, 4]), 2, ["a", null])).toThrow(
    new RangeError("vote(rows, labels): 1 cells bear a label; at least two are needed"),
  );
});

test("shares lie between 0 and 1, and labels that all agree are named right, wherever the cells lie", () =>
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: -9, max: 9 }), fc.integer({ min: -9, max: 9 }), fc.nat({ max: 2 })), {
        minLength: 2,
        maxLength: 30,
      }),
      fc.integer({ min: 1, max: 12 }),
      (cells, k) => {
        const rows = at(...cells.map(([x, y]) => [x, y]));
        const { accuracy, balanced, majority } = vote(rows, 2, cells.map(([, , label]) => label), k); // biome-ignore format: one line
        for (const share of [accuracy, balanced, majority]) expect(share >= 0 && share <= 1 + 1e-12).toBe(true);
        expect(vote(rows, 2, cells.map(() => "all"), k)).toMatchObject({ accuracy: 1, balanced: 1, majority: 1 }); // biome-ignore format: one line
      },
    ),
  ));

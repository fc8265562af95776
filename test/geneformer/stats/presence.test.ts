/** How common genes are, how high they stand, and which are alike. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { matched, presenceOf } from "../../../geneformer/stats/presence.ts";

test("where genes stand in cells: counted by hand", () => {
  const presence = presenceOf([
    [7, 8, 9, 5],
    [8, 7],
  ]);
  expect(presence.get(7)).toEqual({ gene: 7, rate: 1, rank: 0.25 });
  expect(presence.get(9)).toEqual({ gene: 9, rate: 0.5, rank: 0.5 });
  expect(presence.has(6)).toBe(false);
});

test("matched genes are the nearest, none twice, as many as there are", () => {
  const one = fc.record({ rate: fc.double({ min: 0, max: 1, noNaN: true }), rank: fc.double({ min: 0, max: 1, noNaN: true }) });
  fc.assert(
    fc.property(
      fc.array(one, { minLength: 1, maxLength: 6 }),
      fc.array(one, { maxLength: 20 }),
      fc.integer({ min: 1, max: 4 }),
      (a, b, each) => {
        const genes = a.map((of, gene) => ({ gene, ...of }));
        const candidates = b.map((of, i) => ({ gene: 100 + i, ...of }));
        const found = [...matched(genes, candidates, each).values()];
        const all = found.flat();
        expect(new Set(all).size).toBe(all.length);
        expect(all.length).toBe(Math.min(candidates.length, each * genes.length));
        for (const gene of all) expect(gene).toBeGreaterThanOrEqual(100);
      },
    ),
  );
  const near = { gene: 1, rate: 0.9, rank: 0.1 };
  const candidates = [
    { gene: 2, rate: 0.1, rank: 0.9 },
    { gene: 3, rate: 0.85, rank: 0.1 },
    { gene: 4, rate: 0.9, rank: 0.8 },
  ];
  expect(matched([near], candidates, 1)).toEqual(new Map([[1, [3]]]));
  // Both in deviations: ranks that hardly differ count as much as rates that differ much. Of those as near, the first.
  const far = { gene: 5, rate: 0.9, rank: 0.11 };
  const wide = [{ gene: 6, rate: 0.5, rank: 0.11 }, { gene: 7, rate: 0.88, rank: 0.2 }, { gene: 8, rate: 0.5, rank: 0.11 }]; // biome-ignore format: one line
  expect(matched([far], wide, 2)).toEqual(new Map([[5, [6, 8]]]));
  // Genes take turns: the second has its nearest before the first has its second.
  const twins = [{ gene: 1, rate: 0.5, rank: 0.5 }, { gene: 2, rate: 0.6, rank: 0.5 }]; // biome-ignore format: one line
  const between = [3, 4, 5, 6].map((gene) => ({ gene, rate: 0.2 * gene - 0.1, rank: 0.5 }));
  expect(matched(twins, between, 2)).toEqual(new Map([[1, [3, 5]], [2, [4, 6]]])); // biome-ignore format: one line
});

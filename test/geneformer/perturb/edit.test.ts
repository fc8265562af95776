/** What a perturbation makes of a ranking: against plain splicing, for cells with and without special tokens. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Ends } from "../../../geneformer/embed.ts";
import { edit, type Move, NEW, original, type Quartiles, rankAfter } from "../../../geneformer/perturb/edit.ts";
import { anchorOf, type Perturbation, unitsOf } from "../../../geneformer/perturb/plan.ts";

const [NONE, BOTH]: [Ends, Ends] = [
  { cls: false, eos: false },
  { cls: true, eos: true },
];
const whole = (genes: readonly number[], { cls, eos }: Ends) => [...(cls ? [2] : []), ...genes, ...(eos ? [3] : [])];
const ends = fc.constantFrom(NONE, BOTH);
const cells = fc.uniqueArray(fc.integer({ min: 4, max: 60 }), { minLength: 2, maxLength: 30 });

/** The rankings that a perturbation makes of a cell, without special tokens. */
const rankings = (genes: readonly number[], of: Ends, perturbation: Perturbation, longest = 2048) => {
  const cell = whole(genes, of);
  return [...unitsOf(cell, of, perturbation)].map(({ gene, moves }) => {
    const edits = moves.map((each) => edit(cell, of, each, longest));
    for (const { tokens } of edits) {
      expect(tokens[0] === 2).toBe(of.cls);
      expect(tokens.at(-1) === 3).toBe(of.eos);
    }
    return { gene, edits, tokens: edits.map(({ tokens }) => tokens.slice(Number(of.cls), tokens.length - Number(of.eos))) };
  });
};

describe("all genes of a cell, each", () => {
  test("delete takes it out, and every place says where it was", () => {
    fc.assert(
      fc.property(cells, ends, (genes, of) => {
        const cell = whole(genes, of);
        const made = rankings(genes, of, { type: "delete", genes: "all" });
        expect(made.map(({ gene }) => gene)).toEqual(genes);
        for (const [i, { tokens, edits }] of made.entries()) {
          expect(tokens).toEqual([genes.toSpliced(i, 1)]);
          expect(edits[0].tokens).toEqual(edits[0].from.map((place) => cell[place]));
          expect([...edits[0].perturbed]).toEqual([i + Number(of.cls)]);
          expect(edits[0].fallen).toBe(0);
          expect(edits[0].runs.length).toBeLessThanOrEqual(4); // <cls>, what stood before it and behind it, <eos>
        }
      }),
    );
  });

  test("overexpress brings it to the front, the first gene too; the original leaves that out", () => {
    fc.assert(
      fc.property(cells, ends, (genes, of) => {
        const made = rankings(genes, of, { type: "overexpress", genes: "all" });
        expect(made.map(({ tokens }) => tokens[0])).toEqual(genes.map((gene, i) => [gene, ...genes.toSpliced(i, 1)]));
        expect(rankings(genes, of, { type: "overexpress", genes: "all", quirks: true }).map(({ gene }) => gene)).toEqual(genes.slice(1));
      }),
    );
  });

  test("activate and inhibit keep the genes, and the order of the others; the gene goes where rankAfter says", () => {
    fc.assert(
      fc.property(cells, ends, fc.constantFrom("activate", "inhibit"), fc.constantFrom(1, 2, 3), (genes, of, type, by) => {
        for (const [i, { tokens }] of rankings(genes, of, { type, by: by as Quartiles, genes: "all" }).entries()) {
          const [moved] = tokens;
          const at = moved.indexOf(genes[i]);
          expect(at).toBe(rankAfter(type, i, genes.length, by as Quartiles));
          expect(moved.toSpliced(at, 1)).toEqual(genes.toSpliced(i, 1));
          expect(type === "activate" ? at <= i || Math.floor((4 * i) / genes.length) === 0 : at >= 0).toBe(true);
        }
      }),
    );
  });
});

test("quartiles of eight genes: to the middle of the next one, and to the ends where there is none", () => {
  const after = (type: "activate" | "inhibit", by: Quartiles) => Array.from({ length: 8 }, (_, rank) => rankAfter(type, rank, 8, by));
  expect(after("activate", 1)).toEqual([0, 0, 1, 1, 3, 3, 5, 5]);
  expect(after("activate", 2)).toEqual([0, 0, 0, 0, 1, 1, 3, 3]);
  expect(after("activate", 3)).toEqual([0, 0, 0, 0, 0, 0, 1, 1]);
  expect(after("inhibit", 1)).toEqual([3, 3, 5, 5, 7, 7, 7, 7]);
  expect(after("inhibit", 3)).toEqual([7, 7, 7, 7, 7, 7, 7, 7]);
});

describe("a list", () => {
  const genes = [10, 11, 12, 13, 14];
  const of = (perturbation: Perturbation) => rankings(genes, BOTH, perturbation).map(({ tokens }) => tokens[0]);

  test("one gene after the other: overexpression puts in what the cell has not, nothing else does", () => {
    expect(of({ type: "delete", genes: [12, 40, 10] })).toEqual([
      [10, 11, 13, 14],
      [11, 12, 13, 14],
    ]);
    expect(of({ type: "overexpress", genes: [12, 40] })).toEqual([
      [12, 10, 11, 13, 14],
      [40, 10, 11, 12, 13, 14],
    ]);
    expect(of({ type: "activate", genes: [40] })).toEqual([]);
  });

  test("as a group: all of them or none; overexpression in the order given", () => {
    expect(of({ type: "delete", genes: [12, 10], as: "group" })).toEqual([[11, 13, 14]]);
    expect(of({ type: "delete", genes: [12, 40], as: "group" })).toEqual([]);
    expect(of({ type: "overexpress", genes: [12, 40, 10], as: "group" })).toEqual([[12, 40, 10, 11, 13, 14]]);
    expect(of({ type: "inhibit", by: 3, genes: [10, 11], as: "group" })).toEqual([[12, 13, 14, 10, 11]]);
    expect(of({ type: "delete", genes: [], as: "group" })).toEqual([]);
  });

  test("beside an anchor: it and each other gene, alone and together; cells without it are left out", () => {
    const anchored: Perturbation = { type: "delete", genes: "all", anchor: 12 };
    const made = rankings(genes, BOTH, anchored);
    expect(made.map(({ gene }) => gene)).toEqual([10, 11, 13, 14]);
    expect(made[1].tokens).toEqual([
      [10, 12, 13, 14],
      [10, 13, 14],
    ]);
    expect(rankings(genes, BOTH, { ...anchored, type: "overexpress" })[3].tokens[1]).toEqual([12, 14, 10, 11, 13]);
    expect(anchorOf(whole(genes, BOTH), BOTH, anchored)).toEqual({ gene: 12, moves: [[{ token: 12, place: 3, to: null }]] });
    expect(rankings(genes, BOTH, { ...anchored, anchor: 40 })).toEqual([]);
    expect(anchorOf(whole(genes, BOTH), BOTH, { ...anchored, anchor: 3 })).toBeNull(); // <eos> is no gene
  });

  test("a gene that stands in a cell twice is perturbed at its higher rank; of all genes, each at its own", () => {
    expect(rankings([10, 11, 10], NONE, { type: "delete", genes: [10] }).map(({ tokens }) => tokens[0])).toEqual([[11, 10]]);
    expect(rankings([10, 11, 10], NONE, { type: "delete", genes: "all" }).map(({ tokens }) => tokens[0])).toEqual([
      [11, 10],
      [10, 10],
      [10, 11],
    ]);
  });
});

test("where no gene would stay as it is, nothing is done", () => {
  const count = (genes: readonly number[], perturbation: Perturbation) => rankings(genes, BOTH, perturbation).length;
  expect([1, 2].map((length) => count([10, 11].slice(0, length), { type: "delete", genes: "all" }))).toEqual([0, 2]);
  expect([2, 3].map((length) => count([10, 11, 12].slice(0, length), { type: "delete", genes: "all", anchor: 10 }))).toEqual([0, 2]);
  expect(count([10, 11], { type: "delete", genes: [11, 10], as: "group" })).toBe(0);
  expect(count([10, 11], { type: "overexpress", genes: [11, 10, 12], as: "group" })).toBe(0);
  expect(count([10], { type: "overexpress", genes: [10, 12] })).toBe(1); // 12 is put in before 10
  expect(count([10, 11], { type: "inhibit", genes: [10], anchor: 11 })).toBe(0);
});

test("any genes to any ranks, together: each stands where it was sent, the others keep their order", () => {
  fc.assert(
    fc.property(cells, ends, fc.infiniteStream(fc.nat()), fc.nat(), fc.nat(), (genes, of, draws, many, fresh) => {
      const cell = whole(genes, of);
      const draw = (below: number) => (draws.next().value as number) % below;
      const pick = <T>(list: T[]) => list.splice(draw(list.length), 1)[0];
      const [places, count] = [genes.map((_, i) => i + Number(of.cls)), 1 + (many % genes.length)];
      const ranks = genes.map((_, i) => i); // as many as there are: some moves go to no rank
      const moves: Move[] = Array.from({ length: count }, (_, i) => {
        const place = i < fresh % 3 ? NEW : pick(places);
        const to = place === NEW || draw(3) > 0 ? pick(ranks) : null;
        return { token: place === NEW ? 100 + i : cell[place], place, to };
      });
      const left = genes.filter((_, i) => places.includes(i + Number(of.cls)));
      const arriving = moves.filter(({ to }) => to !== null).sort((a, b) => (a.to ?? 0) - (b.to ?? 0));
      // Put in one by one, from the front: what is beyond the end stands at the end.
      const want = arriving.reduce((all, { token, to }) => all.toSpliced(to ?? 0, 0, token), left);
      const { tokens, from } = edit(cell, of, moves, 2048);
      expect(tokens).toEqual(whole(want, of));
      for (const [i, place] of from.entries()) if (place !== NEW) expect(cell[place]).toBe(tokens[i]);
    }),
  );
});

test("what no longer fits falls off the end, <eos> stays, and the cell to compare with loses the same genes", () => {
  fc.assert(
    fc.property(cells, ends, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 3 }), (genes, of, absent, room) => {
      const cell = whole(genes, of);
      const longest = cell.length + room;
      fc.pre(genes.length > absent);
      const moves: Move[] = Array.from({ length: absent }, (_, i) => ({ token: 100 + i, place: NEW, to: 0 }));
      const { tokens, from, fallen } = edit(cell, of, moves, longest);
      expect(fallen).toBe(Math.max(0, absent - room));
      const before = original(cell, of, fallen);
      expect(tokens.length).toBe(Math.min(cell.length + absent, longest));
      expect(tokens.filter((token) => token < 100)).toEqual(before);
      expect(from.filter((place) => place !== NEW).map((place) => cell[place])).toEqual(before);
    }),
  );
});

test("a group as long as the model has places leaves nothing of the cell, which is an error", () => {
  const moves = [100, 101].map((token) => ({ token, place: NEW, to: 0 }));
  expect(() => edit([2, 10, 11, 3], BOTH, moves, 4)).toThrow(
    new RangeError("perturb: 2 genes in front of a cell of 2 leave no other gene within the model's 4 places; give fewer genes"),
  );
});

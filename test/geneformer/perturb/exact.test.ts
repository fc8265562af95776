/** What perturbations do to cells: cosines and shifts by hand, from each cell run alone. */

import { expect, test } from "vitest";
import { inference } from "../../../autograd/tape.ts";
import { streamOf } from "../../../geneformer/data/batches.ts";
import type { Geneformer } from "../../../geneformer/model.ts";
import { edit, type PerturbationType } from "../../../geneformer/perturb/edit.ts";
import { type Measure, type Outcome, perturb, type Subject } from "../../../geneformer/perturb/exact.ts";
import { editsOf, type Perturbation, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { Key } from "../../../src/key.ts";
import { onDevice } from "../../devices.ts";
import { toyConfig, usingToy } from "../toy.ts";

onDevice("cpu", (device) => {
  const using = usingToy(device);
  const ends = { cls: true, eos: true };
  const cells = [
    [2, 9, 4, 14, 7, 11, 12, 5, 3],
    [2, 5, 6, 9, 3],
    [2, 8, 4, 3],
  ];
  const measure: Measure = { layer: -1, mode: "cell", ends, tokensPerBatch: 40 };
  const subjects = (perturbation: Perturbation, of = cells, longest = toyConfig.length): Subject[] =>
    of.map((cell, row) => ({
      row,
      cell,
      edits: editsOf(cell, ends, unitsOf(cell, ends, perturbation), longest), // biome-ignore format: one line
    }));
  const outcomes = async (model: Geneformer, given: Iterable<Subject>, how: Measure): Promise<Outcome[]> => {
    const all: Outcome[] = [];
    for await (const outcome of perturb(model, given, how)) all.push(outcome);
    return all;
  };

  /** The hidden states of a cell alone, each place a row. */
  async function states(model: Geneformer, of: readonly number[], layers = 1): Promise<number[][]> {
    const x = inference(() => model.encode(streamOf([of], toyConfig), { layers }));
    const values = [...(await x.data())];
    x.free();
    return of.map((_, i) => values.slice(i * toyConfig.width, (i + 1) * toyConfig.width));
  }
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cosine = (a: readonly number[], b: readonly number[]) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const middle = (rows: readonly number[][]) => rows[0].map((_, c) => mean(rows.map((row) => row[c])));
  const near = (got: number, want: number) => expect(Math.abs(got - want)).toBeLessThan(2e-6);

  const kinds: Perturbation[] = [
    ...(["delete", "overexpress", "inhibit", "activate"] as PerturbationType[]).map((type): Perturbation => ({ type, genes: "all" })),
    { type: "overexpress", genes: [15, 9], as: "group" },
    { type: "delete", genes: [9], as: "each" },
    { type: "delete", genes: "all", anchor: 4 },
  ];

  test.each(kinds)("$type of $genes: each remaining gene's cosine, and their mean", (kind) =>
    using(async (model) => {
      const got = await outcomes(model, subjects(kind), { ...measure, affected: true });
      expect(got.length).toBeGreaterThan(0);
      for (const { row, edit, effect, genes } of got) {
        const [before, after] = [await states(model, cells[row]), await states(model, [...edit.tokens])];
        const kept = cells[row].slice(1, -1).filter((token) => !edit.genes.includes(token));
        const cosines = kept.map((token) => cosine(before[cells[row].indexOf(token)], after[edit.tokens.indexOf(token)]));
        expect([...(genes?.tokens ?? [])].sort()).toEqual([...kept].sort());
        genes?.tokens.forEach((token, i) => void near(genes.cosines[i], cosines[kept.indexOf(token)]));
        near(effect[0], mean(cosines));
      }
    }),
  );

  test.each(["cell", "cls"] as const)("shifts of %s to states are differences of cosines", (mode) =>
    using(async (model) => {
      const vectors = [1, 2, 3].map((seed) => Float32Array.from(Key.from(seed).normals(toyConfig.width)));
      const given = new Map(vectors.map((vector, i) => [`state ${i}`, vector]));
      const point = async (of: readonly number[]) => {
        const rows = await states(model, of);
        return mode === "cls" ? rows[0] : middle(rows.slice(1, -1));
      };
      for (const kind of kinds)
        for (const { row, edit, effect } of await outcomes(model, subjects(kind), { ...measure, mode, states: given })) {
          const [before, after] = [await point(cells[row]), await point([...edit.tokens])];
          expect(effect).toHaveLength(3);
          for (const [s, vector] of vectors.entries()) near(effect[s], cosine(after, [...vector]) - cosine(before, [...vector]));
        }
    }),
  );

  test.each([0, -1, -2])("cls without states, at layer %i: the cosine before and after, of its row alone or of all", (layer) =>
    using(async (model) => {
      const kind: Perturbation = { type: "delete", genes: "all" };
      const alone = await outcomes(model, subjects(kind), { ...measure, layer, mode: "cls" });
      const all = await outcomes(model, subjects(kind), { ...measure, layer, mode: "cls", affected: true });
      for (const [i, { row, edit, effect }] of alone.entries()) {
        const [before, after] = [await states(model, cells[row], 2 + layer), await states(model, [...edit.tokens], 2 + layer)];
        near(effect[0], cosine(before[0], after[0]));
        near(all[i].effect[0], effect[0]);
      }
    }),
  );

  test("genes that fall off the end are not in the cell compared with", () =>
    using(async (model) => {
      const kind: Perturbation = { type: "overexpress", genes: [15, 10], as: "group" };
      const [{ edit, effect }] = await outcomes(model, subjects(kind, [cells[0]], 10), measure);
      expect([edit.tokens, edit.fallen]).toEqual([[2, 15, 10, 9, 4, 14, 7, 11, 12, 3], 1]);
      const shorter = [2, 9, 4, 14, 7, 11, 12, 3];
      const [before, after] = [await states(model, shorter), await states(model, [...edit.tokens])];
      near(effect[0], mean([1, 2, 3, 4, 5, 6].map((place) => cosine(before[place], after[place + 2]))));
    }));

  test.each([1, 12, 30, 10_000])("cut into batches of %i tokens, outcomes are the same", (tokensPerBatch) =>
    using(async (model) => {
      for (const how of [{ affected: true }, { mode: "cls" as const }]) {
        const [want, got] = await Promise.all(
          [40, tokensPerBatch].map((tokens) => outcomes(model, subjects(kinds[0]), { ...measure, ...how, tokensPerBatch: tokens })),
        );
        expect(got.map(({ row, edit }) => [row, edit.genes])).toEqual(want.map(({ row, edit }) => [row, edit.genes]));
        for (const [i, { effect }] of got.entries()) near(effect[0], want[i].effect[0]);
      }
    }),
  );

  test("what cannot be is named, and leaves no memory behind", () =>
    using(async (model) => {
      const all = subjects({ type: "delete", genes: "all" });
      const none = { cls: false, eos: false };
      await expect(outcomes(model, all, { ...measure, mode: "cls", ends: none })).rejects.toThrow("perturb: these cells have no <cls>");
      await expect(outcomes(model, all, { ...measure, layer: -3 })).rejects.toThrow("layer: must be an integer from -2 to 0");
      await expect(outcomes(model, all, { ...measure, states: new Map([["old", [1, 2]]]) })).rejects.toThrow(
        'perturb: the state "old" has 2 numbers, but the model is 16 wide; compute states with the same model',
      );
      const bare = [{ row: 0, cell: [2, 5, 3], edits: [edit([2, 5, 3], ends, [{ token: 5, place: 1, to: null }], 20)] }];
      await expect(outcomes(model, bare, measure)).rejects.toThrow(
        "perturb: nothing is left of cell 0 when 1 of its genes go; leave such cells out",
      );
      await expect(outcomes(model, subjects({ type: "delete", genes: "all" }, [[2, 5, 16, 3]]), measure)).rejects.toThrow(
        "is beyond the model's vocabulary of 16",
      );
      for await (const _ of perturb(model, all, measure)) break; // whoever stops asking
    }));
});

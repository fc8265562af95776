/** Treatments: against all of them tried one by one, and what is added round after round. */

import { expect, test } from "vitest";
import { type Ends, embed } from "../../../geneformer/embed.ts";
import type { Geneformer } from "../../../geneformer/model.ts";
import { cosineOf, type Measure } from "../../../geneformer/perturb/exact.ts";
import { editsOf, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { screen } from "../../../geneformer/perturb/screen.ts";
import { type Action, type Round, type Step, type TreatOptions, treat } from "../../../geneformer/perturb/treat.ts";
import { Key } from "../../../src/key.ts";
import { onDevice } from "../../devices.ts";
import { GENES, toyCells, toyConfig, usingToy } from "../toy.ts";

const ends: Ends = { cls: true, eos: true };
const tokens = toyCells(6);
const rows = [4, 1, 0, 2, 5];
const cells = { rows, tokens: (row: number) => tokens[row] };
const state = (seed: number) => Float32Array.from(Key.from(seed).normals(toyConfig.width));
const states = new Map([["start", state(1)], ["goal", state(2)], ["away", state(3)], ["far", state(4)]]); // biome-ignore format: one line
const measure: Measure = { layer: 0, mode: "cell", ends, tokensPerBatch: 100, states };
const genes = Array.from({ length: GENES }, (_, i) => i + 4);
const both: readonly Action[] = ["overexpress", "delete"];
const options: TreatOptions = { actions: both, genes, goal: "goal", alternatives: ["away", "far"], key: Key.from(7), resamples: 50 };

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** A cell after steps, by its edits one after the other. */
const after = (cell: readonly number[], steps: readonly Step[]): readonly number[] =>
  steps.reduce((left, { action, gene }) => {
    const [edit] = editsOf(left, ends, unitsOf(left, ends, { type: action, genes: [gene] }), toyConfig.length);
    return edit?.tokens ?? left;
  }, cell);

/** The score of steps, by embedding all cells before and after. */
async function scoreOf(model: Geneformer, steps: readonly Step[], names = ["goal", "away", "far"]) {
  const { width } = toyConfig;
  const vectors = await embed(model, [...rows.map((row) => tokens[row]), ...rows.map((row) => after(tokens[row], steps))], measure);
  const shifts = names.map((name) =>
    mean(rows.map((_, i) => {
      const [before, now] = [i, i + rows.length].map((at) => cosineOf(vectors.subarray(at * width, (at + 1) * width), states.get(name) ?? []));
      return now - before;
    })),
  ); // biome-ignore format: short
  const [goal, ...away] = shifts;
  return { shifts, score: goal - (away.length > 0 ? mean(away) : 0) };
}

const roundsOf = async (search: AsyncIterable<Round>) => {
  const all: Round[] = [];
  for await (const round of search) all.push(round);
  return all;
};

onDevice("cpu", (device) => {
  const using = usingToy(device);

  test("one gene: the best of all, with what each does to every cell", () =>
    using(async (model) => {
      const [{ trials, screened }] = await roundsOf(treat(model, cells, measure, { ...options, steps: 1, verify: 100 }));
      const present = new Set(rows.flatMap((row) => tokens[row].slice(1, -1)));
      expect(screened).toBe(GENES + present.size);
      expect(trials).toHaveLength(screened);
      for (const { steps, score, shifts, changed, sum, ofNull, interval } of trials) {
        const want = await scoreOf(model, steps);
        expect(score).toBeCloseTo(want.score, 5);
        for (const [i, shift] of shifts.entries()) expect(shift).toBeCloseTo(want.shifts[i], 5);
        expect(sum).toBe(score);
        expect(ofNull).toBe(false);
        const [{ action, gene }] = steps;
        expect(changed).toBe(action === "overexpress" ? rows.length : rows.filter((row) => tokens[row].includes(gene)).length);
        if (changed > 1) expect([(interval[0] as number) <= score, (interval[1] as number) >= score]).toEqual([true, true]);
      }
      // Estimates are means over all cells, too.
      for (const { steps, estimate } of trials) {
        const [{ action, gene }] = steps;
        const subjects = rows.map((row) => ({ row, cell: tokens[row], edits: editsOf(tokens[row], ends, unitsOf(tokens[row], ends, { type: action, genes: [gene] }), toyConfig.length) })); // biome-ignore format: one line
        let sum = 0;
        for await (const { effect: [, goal, ...away] } of screen(model, subjects, measure)) sum += goal - mean(away); // biome-ignore format: one line
        expect(estimate).toBeCloseTo(sum / rows.length, 5);
      }
      const scores = trials.map(({ score }) => score);
      expect(scores).toEqual([...scores].sort((a, b) => b - a));
    }));

  test("pairs, and three: the best so far and a gene beside it, from where cells were", () =>
    using(async (model) => {
      const rounds = await roundsOf(treat(model, cells, measure, { ...options, verify: 5, steps: 3 }));
      expect(rounds).toHaveLength(3);
      for (const [i, { trials }] of rounds.entries())
        for (const { steps, score, sum, ofNull } of trials) {
          expect(steps.slice(0, -1)).toEqual(i === 0 ? [] : rounds[i - 1].trials[0].steps);
          expect(new Set(steps.map(({ gene }) => gene)).size).toBe(i + 1);
          expect(score).toBeCloseTo((await scoreOf(model, steps)).score, 5);
          if (ofNull) continue;
          const parts = await Promise.all(steps.map((step) => scoreOf(model, [step])));
          expect(sum).toBeCloseTo(parts.reduce((total, part) => total + part.score, 0), 5); // biome-ignore format: one line
        }
    }));

  test("the null: as many, of the same actions, none of the best; p counts those that score as much", () =>
    using(async (model) => {
      const [{ trials, spearman }] = await roundsOf(treat(model, cells, measure, { ...options, steps: 1, verify: 4 }));
      const [top, nulls] = [trials.filter(({ ofNull }) => !ofNull), trials.filter(({ ofNull }) => ofNull)];
      const name = ({ steps: [{ action, gene }] }: (typeof trials)[number]) => `${action} ${gene}`;
      expect([top.length, nulls.length, new Set(trials.map(name)).size]).toEqual([4, 4, 8]);
      const actions = (some: typeof trials) => some.map(({ steps: [{ action }] }) => action).sort();
      expect(actions(nulls)).toEqual(actions(top));
      expect(Math.max(...nulls.map(({ estimate }) => estimate))).toBeLessThanOrEqual(Math.min(...top.map(({ estimate }) => estimate)));
      for (const { p, score, steps } of top) {
        const same = nulls.filter(({ steps: [{ action }] }) => action === steps[0].action);
        expect(p).toBe((1 + same.filter((other) => other.score >= score).length) / (1 + same.length));
      }
      for (const { p, fdr } of nulls) expect([p, fdr]).toEqual([Number.NaN, Number.NaN]);
      expect(Math.abs(spearman)).toBeLessThanOrEqual(1);
      const [again] = await roundsOf(treat(model, cells, measure, { ...options, steps: 1, verify: 4 }));
      expect(again.trials).toEqual(trials);
    }));

  test("the nearest gene is the null: as common, and as high up", () =>
    using(async (model) => {
      // Genes 4 and 5 stand first and second in cells of one kind, 15 and 14 in those of the other; gene 9 is in the middle of all.
      const [{ trials }] = await roundsOf(treat(model, cells, measure, { ...options, actions: ["delete"], genes: [4, 5, 15, 14, 9], steps: 1, verify: 2 })); // biome-ignore format: one line
      const [top, nulls] = [false, true].map((which) =>
        trials.filter(({ ofNull }) => ofNull === which).map(({ steps: [{ gene }] }) => gene),
      );
      const twin = new Map([[4, 5], [5, 4], [14, 15], [15, 14]]); // biome-ignore format: one line
      for (const gene of top) {
        const other = twin.get(gene);
        if (other !== undefined && !top.includes(other)) expect(nulls).toContain(other);
      }
      expect(new Set([...top, ...nulls]).size).toBe(4);
    }));

  test("it ends where nothing is better, or nothing is left", () =>
    using(async (model) => {
      const rounds = await roundsOf(
        treat(model, cells, measure, { ...options, actions: ["overexpress"], genes: [4, 9, 12], steps: 9, verify: 9 }),
      );
      const bests = rounds.map(({ trials: [{ score }] }) => score);
      expect(rounds.length).toBeLessThanOrEqual(4);
      for (let i = 1; i + 1 < bests.length; i++) expect(bests[i]).toBeGreaterThan(bests[i - 1]);
    }));

  test("what cannot be searched is said; progress may stop it", () =>
    using(async (model) => {
      const search = (change: Partial<TreatOptions>, how: Measure = measure, of = cells) => roundsOf(treat(model, of, how, { ...options, ...change })); // biome-ignore format: one line
      await expect(search({ goal: "moon" })).rejects.toThrow('treat: there is no state "moon"; there are start, goal, away, far');
      await expect(search({ genes: [] })).rejects.toThrow("treat: no gene to try");
      await expect(search({}, measure, { ...cells, rows: [] })).rejects.toThrow("treat: no cell to treat");
      await expect(search({}, { ...measure, states: undefined })).rejects.toThrow("there are none");
      await expect(search({ screen: { knots: -1 } })).rejects.toThrow("knots must be an integer from 0; got -1");
      const { live } = device().memory;
      let seen = 0;
      const onProgress = (_stage: string, _round: number, pairs: number, most: number) => {
        expect(pairs).toBeLessThanOrEqual(most);
        if (++seen > 20) throw new Error("enough");
      };
      await expect(search({ onProgress })).rejects.toThrow("enough");
      expect(device().memory.live).toBe(live);
    }));
});

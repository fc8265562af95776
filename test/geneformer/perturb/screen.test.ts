/** Estimates are derivatives: against differences of the model's own cosines; and what verification says of them. */

import { existsSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { div, mul, sum } from "../../../autograd/ops.ts";
import { inference } from "../../../autograd/tape.ts";
import type { Context } from "../../../geneformer/cli/command.ts";
import { finenessOf } from "../../../geneformer/cli/perturb.ts";
import { streamOf } from "../../../geneformer/data/batches.ts";
import type { Geneformer } from "../../../geneformer/model.ts";
import { type Edit, NEW } from "../../../geneformer/perturb/edit.ts";
import { cosineOf, type Estimate, type Measure, perturb, type Subject } from "../../../geneformer/perturb/exact.ts";
import { editsOf, type Perturbation, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { readResults } from "../../../geneformer/perturb/results.ts";
import { type RunOptions, readRun } from "../../../geneformer/perturb/run.ts";
import { type ScreenOptions, screen } from "../../../geneformer/perturb/screen.ts";
import { recallOf, screenAndVerify, smoothness } from "../../../geneformer/perturb/verify.ts";
import { spearman } from "../../../geneformer/stats/ranks.ts";
import { type Hook, withHooks } from "../../../nn/hooks.ts";
import { Key } from "../../../src/key.ts";
import { tensor } from "../../../src/tensor.ts";
import { onDevice } from "../../devices.ts";
import { scratch } from "../data/scratch.ts";
import { toyCells, toyConfig, usingToy } from "../toy.ts";

const path = scratch();
const ends = { cls: true, eos: true };
const { width } = toyConfig;
const state = Float32Array.from(Key.from(9).normals(width));
const states = new Map([["goal", state]]);
const measure: Measure = { layer: 0, mode: "cell", ends, states, tokensPerBatch: 200 };
const cell = [2, 9, 4, 14, 7, 11, 12, 5, 3];

// In f64: a difference across a relu's kink is no slope, so steps must be small.
onDevice("reference", (device) => {
  const using = usingToy(device);
  const subject = (perturbation: Perturbation): Subject => {
    return { row: 0, cell, edits: editsOf(cell, ends, unitsOf(cell, ends, perturbation), toyConfig.length) };
  };
  const outcomes = async (of: AsyncIterable<Estimate>) => {
    const all: Estimate[] = [];
    for await (const outcome of of) all.push(outcome);
    return all;
  };

  /**
   * What has become of a cell's places where a share `t` of an edit is done, from half of the way that all ranks go: written out by hooks on who looks at
   * whom. What comes stands behind the cell.   -> rows, and how much each counts
   */
  async function partly(model: Geneformer, { from, tokens, perturbed }: Edit, way: -1 | 1, t: number) {
    const table = await model.embeddings.position.weight.data();
    const rank = (place: number) => [...table.subarray(place * width, (place + 1) * width)];
    const mix = (a: readonly number[], b: readonly number[], share: number) => a.map((value, c) => value + share * (b[c] - value));
    const inner = (place: number) => place > 0 && place < cell.length - 1;
    const comes = [...from.keys()].filter((place) => from[place] === NEW || perturbed.has(from[place]));
    const gates = [...cell.map((_, place) => (perturbed.has(place) ? 1 - t : 1)), ...comes.map(() => t)];
    const places = cell.map((_, place) => {
      const half = inner(place) ? mix(rank(place), rank(Math.max(place + way, 1)), 0.5) : rank(place);
      const after = comes.includes(from.indexOf(place)) ? -1 : from.indexOf(place);
      return after < 0 ? half : half.map((value, c) => value + t * (rank(after)[c] - rank(place)[c]));
    });
    const all = [...places, ...comes.map(rank)];
    const gate = tensor(Float32Array.from(gates), [1, 1, gates.length]);
    const hooks: Record<string, Hook> = {
      "embeddings.position": () => tensor(all.flat(), [all.length, width]),
      "layers.*.attention.weights": (w) => div(mul(w, gate), sum(mul(w, gate), [2], true)),
    };
    const x = inference(() => {
      const stream = streamOf([[...cell, ...comes.map((place) => tokens[place])]], toyConfig, { gradients: false });
      return withHooks(model, hooks, () => model.encode(stream));
    });
    const values = [...(await x.data())];
    for (const made of [x, gate]) made.free();
    return { rows: all.map((_, i) => values.slice(i * width, (i + 1) * width)), gates };
  }

  /** The first gene come to the front, the last one to the end: half way between ranks their slopes are not 0, and they are not asked for. */
  const changesNothing = ({ tokens }: Edit) => tokens.join() === cell.join();
  const STEP = 1e-4;
  const kinds = (["delete", "overexpress", "inhibit"] as const).flatMap((type) => (["cell", "cls"] as const).map((mode) => [type, mode] as const)); // biome-ignore format: one line

  test.each(kinds)("%s, %s: the slope along gates that open and close and ranks that move", (type, mode) =>
    using(async (model) => {
      const way = type === "overexpress" ? 1 : -1;
      const edits = [...subject({ type, genes: "all" }).edits];
      const at = async (edit: Edit, t: number) => {
        const { rows, gates } = await partly(model, edit, way, t);
        if (mode === "cls") return cosineOf(rows[0], state);
        const weights = gates.map((gate, i) => (i === 0 || i === cell.length - 1 ? 0 : gate));
        return cosineOf(rows[0].map((_, c) => rows.reduce((sum, row, i) => sum + weights[i] * row[c], 0)), state); // biome-ignore format: one line
      };
      const got = await outcomes(screen(model, [{ row: 0, cell, edits }], { ...measure, mode }));
      expect(got).toHaveLength(cell.length - 2);
      for (const [i, { effect }] of got.entries()) {
        if (changesNothing(edits[i])) continue;
        const slope = ((await at(edits[i], STEP)) - (await at(edits[i], -STEP))) / (2 * STEP);
        expect(Math.abs(effect[0] - slope)).toBeLessThan(5e-6); // weights, places and seeds are f32
      }
    }),
  );

  test.each(kinds)("%s, %s, without states: how far vectors go across their own directions", (type, mode) =>
    using(async (model) => {
      const way = type === "overexpress" ? 1 : -1;
      const edits = [...subject({ type, genes: "all" }).edits];
      // Straight out of a norm vectors are all as long, and go across themselves alone; with one number larger than the others they go along, too.
      model.layers[1].norm2.weight.write(Float32Array.from({ length: width }, (_, c) => (c === 0 ? 8 : 1)));
      const directions = 600; // the mean of so many squares is off by 6 % (one standard deviation)
      const got = await outcomes(screen(model, [{ row: 0, cell, edits }], { ...measure, mode, states: undefined }, { directions }));
      for (const [i, { effect }] of got.entries()) {
        if (changesNothing(edits[i])) continue;
        const [more, less, now] = [await partly(model, edits[i], way, STEP), await partly(model, edits[i], way, -STEP), await partly(model, edits[i], way, 0)]; // biome-ignore format: one line
        const across = now.rows.map((row, place) => {
          const slope = row.map((_, c) => (more.rows[place][c] - less.rows[place][c]) / (2 * STEP));
          const [own, along, length] = [row, slope, slope].map((a, k) => a.reduce((sum, value, c) => sum + value * (k === 2 ? value : row[c]), 0)); // biome-ignore format: one line
          return (length - along ** 2 / own) / own;
        });
        const genes = cell.map((_, place) => place).filter((place) => place > 0 && place < cell.length - 1);
        const counted = mode === "cls" ? [0] : genes;
        const vectors = mode === "cls" ? 1 : genes.length - 1;
        const want = counted.reduce((sum, place) => sum + across[place], 0) / (2 * vectors);
        expect(Math.abs((1 - effect[0]) / want - 1)).toBeLessThan(0.25);
      }
    }),
  );

  test("edits that change nothing are estimated as nothing; kinds differ", () =>
    using(async (model) => {
      for (const [type, gene] of [
        ["overexpress", 9],
        ["activate", 9],
        ["inhibit", 5],
      ] as const) {
        const all = await outcomes(screen(model, [subject({ type, genes: "all" })], measure, { points: 2, knots: 4 }));
        expect(all.filter(({ effect }) => effect[0] === 0).map(({ edit }) => edit.genes)).toEqual([[gene]]); // first, and last, of the cell
      }
      const [up, down] = await Promise.all(
        (["overexpress", "inhibit"] as const).map(
          async (type) => (await outcomes(screen(model, [subject({ type, genes: [7] })], measure)))[0],
        ),
      );
      expect(up.effect[0]).not.toBeCloseTo(down.effect[0], 4);
    }));

  test("cells in one batch, or each alone, get the same estimates; points are averaged over", () =>
    using(async (model) => {
      const cells = toyCells(5);
      const subjects = cells.map((tokens, row): Subject => {
        return {
          row,
          cell: tokens,
          edits: [...editsOf(tokens, ends, unitsOf(tokens, ends, { type: "overexpress", genes: "all" }), toyConfig.length)],
        };
      });
      const run = (tokensPerBatch: number, points?: number) =>
        outcomes(screen(model, subjects, { ...measure, tokensPerBatch }, { points }));
      const [together, alone, more] = [await run(1000), await run(1), await run(1000, 4)];
      for (const [i, { row, edit, effect }] of together.entries()) {
        expect([alone[i].row, alone[i].edit.genes]).toEqual([row, edit.genes]);
        expect(Math.abs(alone[i].effect[0] - effect[0])).toBeLessThan(1e-5);
      }
      expect(more.some(({ effect }, i) => Math.abs(effect[0] - together[i].effect[0]) > 1e-4)).toBe(true);
    }));

  test.each([0, 3, 100])("what is estimated of a cell does not depend on what stands beside it, %d knots", (knots) =>
    using(async (model) => {
      const kinds = [
        { type: "overexpress", genes: [5, 7, 15, 14, 11, 12, 4, 9, 6, 8, 10, 13] }, // more than a batch of one cell has room for: cut
        { type: "delete", genes: "all" }, // no probes
        { type: "activate", genes: "all" },
        { type: "inhibit", genes: "all" },
      ] as const;
      for (const mode of ["cell", "cls"] as const) {
        const run = async (subjects: readonly Subject[], tokensPerBatch: number) =>
          (await outcomes(screen(model, subjects, { ...measure, mode, tokensPerBatch }, { knots }))).map(({ edit, effect }) => [edit.genes[0], effect[0]]); // biome-ignore format: one line
        const of = () => kinds.map((kind) => subject(kind));
        const together = await run(of(), 1000);
        const alone: number[][] = [];
        for (const each of of()) alone.push(...(await run([each], 1000)));
        expect(together.map(([gene]) => gene)).toEqual(alone.map(([gene]) => gene));
        for (const [i, [, effect]] of together.entries()) expect(Math.abs(effect - alone[i][1])).toBeLessThan(1e-6);
        if (knots === 3) continue; // a part that is cut off has knots of its own
        const cut = await run(of(), 1);
        for (const [i, [, effect]] of together.entries()) expect(Math.abs(effect - cut[i][1])).toBeLessThan(1e-6);
      }
    }),
  );

  /** The first of the genes goes behind m others, which move up: nothing comes and nothing goes, so that only ranks change. */
  const turned = (tokens: readonly number[]): Edit[] =>
    Array.from({ length: tokens.length - 3 }, (_, i) => {
      const from = tokens.map((_, place) => (place === 0 || place > i + 2 ? place : place === i + 2 ? 1 : place + 1));
      return { genes: [i], runs: from.map((place) => ({ from: place, count: 1 })), tokens: from.map((place) => tokens[place]), from, perturbed: new Set<number>(), fallen: 0 }; // biome-ignore format: one line
    });
  const goals = new Map([["goal", state], ["other", Float32Array.from(Key.from(10).normals(width))]]); // biome-ignore format: one line
  const turning = (): Subject[] => toyCells(4).filter(({ length }) => length > 4).map((tokens, row) => ({ row, cell: tokens, edits: turned([...tokens]) })); // biome-ignore format: one line

  test.each(["cell", "cls"] as const)("%s: where all edits are knots, what moving genes do is exact; where some are, at those", (mode) =>
    using(async (model) => {
      const whole = { ...measure, mode, states: goals };
      const exact = await outcomes(perturb(model, turning(), whole));
      const off = async (options: ScreenOptions, tokensPerBatch = 200) => {
        const got = await outcomes(screen(model, turning(), { ...whole, tokensPerBatch }, options));
        expect(got.map(({ row, edit }) => [row, edit.genes])).toEqual(exact.map(({ row, edit }) => [row, edit.genes]));
        return got.map(({ effect }, i) => Math.max(...effect.map((shift, k) => Math.abs(shift - exact[i].effect[k]))));
      };
      for (const tokensPerBatch of [1000, 20, 1]) expect(Math.max(...(await off({ knots: 100 }, tokensPerBatch)))).toBeLessThan(1e-6);
      expect(Math.max(...(await off({ points: 4 })))).toBeGreaterThan(1e-3); // ranks of a random model are rough
      const some = await off({ knots: 2 });
      const last = exact.flatMap(({ row }, i) => (exact[i + 1]?.row === row ? [] : [i]));
      for (const i of last) expect(some[i]).toBeLessThan(1e-6); // the farthest of each cell is a knot
      expect(some.some((error) => error > 1e-3)).toBe(true);
    }),
  );

  test.each(["cell", "cls"] as const)("%s, without states: knots mend motions along each direction", (mode) =>
    using(async (model) => {
      const { weight } = model.embeddings.position;
      weight.write((await weight.data()).map((value) => value / 3)); // so that 1 - cos is nearly half of a square, and slopes alone are not enough
      const bare = { ...measure, mode, states: undefined };
      const lacks = (all: readonly Estimate[]) => all.map(({ effect }) => 1 - effect[0]);
      const exact = lacks(await outcomes(perturb(model, turning(), bare)));
      const off = async (knots: number) => {
        const got = lacks(await outcomes(screen(model, turning(), bare, { directions: 600, knots })));
        return Math.max(...got.map((lack, i) => Math.abs(lack / exact[i] - 1)));
      };
      expect(await off(100)).toBeLessThan(0.15);
      expect(await off(0)).toBeGreaterThan(0.15);
    }),
  );

  test("what cannot be screened is said", () =>
    using(async (model) => {
      const all = subject({ type: "delete", genes: "all" });
      await expect(outcomes(screen(model, [all], measure, { points: 0 }))).rejects.toThrow("points must be a positive integer; got 0");
      await expect(outcomes(screen(model, [all], measure, { knots: -1 }))).rejects.toThrow("knots must be an integer from 0; got -1");
      await expect(outcomes(screen(model, [all], measure, { directions: 1.5 }))).rejects.toThrow("directions must be a positive integer; got 1.5"); // biome-ignore format: one line
    }));

  test("screen, then verify: the strongest and a control exactly, and what the two say of each other", () =>
    using(async (model) => {
      const tokens = toyCells(12);
      const cells = { rows: tokens.map((_, i) => i), tokens: (row: number) => tokens[row] };
      const options: RunOptions = { tokensPerShard: 100, identity: {}, resume: false, force: false };
      const stages: string[] = [];
      const both = new Map([["start", state], ["goal", Float32Array.from(Key.from(10).normals(width))]]); // biome-ignore format: one line
      const given = { ...options, verify: 3, onStage: (stage: string) => void stages.push(stage) };
      for (const type of ["delete", "overexpress"] as const) {
        const out = path(type);
        const said = await screenAndVerify(model, cells, { type, genes: "all" }, { ...measure, states: both }, out, given);
        expect([said.top.length, said.control.length, new Set([...said.top, ...said.control]).size]).toEqual([3, 3, 6]);
        const estimates = (await readResults(`${out}/screen`)).effects.get("goal")?.genes ?? new Map<number, number[]>();
        const exact = (await readResults(`${out}/exact`)).effects.get("goal")?.genes ?? new Map<number, number[]>();
        expect(said.genes).toBe(estimates.size);
        expect([...exact.keys()].sort()).toEqual([...said.top, ...said.control].sort());
        const mean = (values: readonly number[] = []) => values.reduce((a, b) => a + b, 0) / values.length;
        const strength = (gene: number) => Math.abs(mean(estimates.get(gene)));
        expect(Math.min(...said.top.map(strength))).toBeGreaterThanOrEqual(Math.max(...said.control.map(strength)));
        // Exact passes are of the cells that were screened: overexpression puts nothing in.
        for (const [gene, values] of exact) expect(values).toHaveLength(estimates.get(gene)?.length ?? 0);
        const order = [...said.top, ...said.control];
        // Few genes: the control is all of the rest or a half of it, and the share is what counting says.
        const strengths = (genes: readonly number[]) => genes.map((gene) => Math.abs(mean(exact.get(gene))));
        expect(said.recall).toBe(recallOf(strengths(said.top), strengths(said.control), said.genes - 3));
        expect(said.spearman).toBeCloseTo(spearman(order.map((gene) => mean(estimates.get(gene))), order.map((gene) => mean(exact.get(gene)))), 10); // biome-ignore format: one line
      }
      expect(stages).toEqual(["screen", "verify", "screen", "verify"]);
      // Where cells come from orders nothing, and is verified alone.
      expect((await readRun(`${path("delete")}/screen`)).states).toEqual(["goal"]);
      expect(await readRun(`${path("delete")}/exact`)).toMatchObject({ states: ["start", "goal"], goal: "goal" });
      await expect(
        screenAndVerify(model, cells, { type: "delete", genes: "all", anchor: 5 }, measure, path("no"), options),
      ).rejects.toThrow("genes are screened one at a time");
      expect(existsSync(path("no"))).toBe(false);
    }));

  test("without states genes are ordered by how far they move cells", () =>
    using(async (model) => {
      const tokens = toyCells(12);
      const cells = { rows: tokens.map((_, i) => i), tokens: (row: number) => tokens[row] };
      const options: RunOptions = { tokensPerShard: 100, identity: {}, resume: false, force: false };
      const bare = { ...measure, states: undefined };
      const said = await screenAndVerify(model, cells, { type: "delete", genes: "all" }, bare, path("bare"), { ...options, verify: 4, screen: { directions: 200 } }); // biome-ignore format: one line
      const of = async (folder: string) => (await readResults(`${path("bare")}/${folder}`)).effects.get("")?.genes ?? new Map<number, number[]>(); // biome-ignore format: one line
      const moved = (values: readonly number[] = []) => values.reduce((sum, value) => sum + 1 - value, 0) / values.length;
      const estimates = await of("screen");
      expect(Math.min(...said.top.map((gene) => moved(estimates.get(gene))))).toBeGreaterThanOrEqual(Math.max(...said.control.map((gene) => moved(estimates.get(gene))))); // biome-ignore format: one line
      for (const values of [...estimates.values()].flat()) expect(values).toBeLessThanOrEqual(1);
      expect([...(await of("exact")).keys()].sort()).toEqual([...said.top, ...said.control].sort());
      expect(said.slope).toBeGreaterThan(0);
    }));

  test("how finely the command follows ranks: as asked, or as the model's positions need", () =>
    using(async (model) => {
      const lines: string[] = [];
      const of = (asked: { points?: number; knots?: number }) =>
        finenessOf(model, 20, asked, { say: (line: string) => void lines.push(line) } as unknown as Context);
      expect(await of({})).toEqual({ points: 2, knots: 8 });
      expect(await of({ knots: 0 })).toEqual({ points: 2, knots: 0 });
      expect(await of({ points: 5 })).toEqual({ points: 5, knots: 8 });
      const { weight } = model.embeddings.position;
      weight.write((await weight.data()).map((_, i) => 1 + (i % width)));
      expect(await of({})).toEqual({ points: 1, knots: 0 });
      expect(await of({ knots: 1 })).toEqual({ points: 1, knots: 1 });
      expect(lines[0]).toMatch(/: rough, .*; 2 points between them, 8 knots$/);
      expect(lines.at(-1)).toMatch(/cosine of 1.000; 1 point between them, 1 knot$/);
    }));

  test("smoothness is the mean cosine of neighbouring ranks", () =>
    using(async (model) => {
      const { weight } = model.embeddings.position;
      expect(Math.abs(await smoothness(model, 20))).toBeLessThan(0.5); // drawn at random
      const before = await weight.data();
      weight.write(Float32Array.from(before, (_, i) => (Math.floor(i / width) === 19 ? -1 : 1) * (1 + (i % width))));
      expect(await smoothness(model, 19)).toBeCloseTo(1, 6);
      expect(await smoothness(model, 20)).toBeCloseTo(17 / 19, 6);
    }));
});

test("recall: the share of the strongest that was found, others standing for those that were not looked at", () => {
  expect(recallOf([9, 8, 7], [1, 2, 3], 100)).toBe(1);
  expect(recallOf([9, 8, 7], [8.5, 2, 3], 3)).toBeCloseTo(2 / 3, 12); // 9, 8.5, 8
  expect(recallOf([9, 8, 7, 6], [8.5, 2], 4)).toBe(0.5); // 8.5 stands for two
  expect(recallOf([1, 1], [5, 6, 7], 30)).toBe(0);
  expect(recallOf([1, 2], [], 0)).toBe(1);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 2, maxLength: 40 }), fc.nat(), (all, cut) => {
      const unlike = all.map((value, i) => value + i / 100); // no two the same
      const top = unlike.slice(0, 1 + (cut % (all.length - 1)));
      const rest = unlike.slice(top.length);
      const strongest = [...unlike].sort((a, b) => b - a).slice(0, top.length);
      expect(recallOf(top, rest, rest.length)).toBeCloseTo(top.filter((value) => strongest.includes(value)).length / top.length, 12);
    }),
  );
});

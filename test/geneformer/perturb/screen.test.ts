/** Estimates are derivatives: against differences of the model's own cosines; and what verification says of them. */

import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { cosine, gather, mul, segmentMean, sub, sum } from "../../../autograd/ops.ts";
import { inference } from "../../../autograd/tape.ts";
import { streamOf } from "../../../geneformer/data/batches.ts";
import type { EmbeddingMode } from "../../../geneformer/embed.ts";
import type { Measure, Outcome, Subject } from "../../../geneformer/perturb/exact.ts";
import { editsOf, type Perturbation, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { readResults } from "../../../geneformer/perturb/results.ts";
import type { RunOptions } from "../../../geneformer/perturb/run.ts";
import { screen } from "../../../geneformer/perturb/screen.ts";
import { screenAndVerify, smoothness, spearman } from "../../../geneformer/perturb/verify.ts";
import { Key } from "../../../src/key.ts";
import { index, inner } from "../../../src/stream.ts";
import { type Tensor, tensor } from "../../../src/tensor.ts";
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

/** The mean of `genes` rows, one of which counts 1 - t.   mean, own [1, C] */
const weighted = (mean: Tensor, own: Tensor, genes: number, t: number): Tensor => mul(sub(mul(mean, genes), mul(own, t)), 1 / (genes - t));

// In f64: a difference across a relu's kink is no slope, so steps must be small.
onDevice("reference", (device) => {
  const using = usingToy(device);
  const subject = (perturbation: Perturbation): Subject => {
    return { row: 0, cell, edits: editsOf(cell, ends, unitsOf(cell, ends, perturbation), toyConfig.length) };
  };
  const outcomes = async (of: AsyncIterable<Outcome>) => {
    const all: Outcome[] = [];
    for await (const outcome of of) all.push(outcome);
    return all;
  };

  test.each(["cell", "cls"] as const)("deletion, %s: the slope along a gate that closes and ranks that close up", (mode: EmbeddingMode) =>
    using(async (model) => {
      const table = await model.embeddings.position.weight.data();
      const rank = (place: number) => [...table.subarray(place * width, (place + 1) * width)];
      /** f where a share `t` of the deletion of a place is done, from half of the way that all ranks go up. */
      const at = async (deleted: number, t: number) => {
        const places = cell.flatMap((_, place) => {
          const [here, above] = [rank(place), rank(Math.max(place - 1, 1))];
          const to = place === 0 ? rank(0) : here.map((value, c) => (value + above[c]) / 2);
          return place > deleted ? to.map((value, c) => value + t * (above[c] - here[c])) : to;
        });
        const gates = cell.map((_, place) => (place === deleted ? 1 - t : 1));
        const y = inference(() => {
          const stream = streamOf([cell], toyConfig, { gradients: false });
          const x = model.encode(stream, { gate: tensor(gates, [cell.length]), places: tensor(places, [cell.length, width]) });
          if (mode === "cls") return sum(cosine(gather(x, index([0], cell.length)), tensor(state, [1, width])));
          // The mean with the gate in it: the whole's and the gene's own part of it.
          const [mean, own] = [segmentMean(x, inner([cell.length], 1, 1)), gather(x, index([deleted], cell.length))];
          const genes = cell.length - 2;
          return sum(cosine(weighted(mean, own, genes, t), tensor(state, [1, width])));
        });
        const [value] = await y.data();
        y.free();
        return value;
      };
      const got = await outcomes(screen(model, [subject({ type: "delete", genes: "all" })], { ...measure, mode }));
      expect(got).toHaveLength(cell.length - 2);
      for (const { edit, effect } of got) {
        const [deleted] = edit.perturbed;
        const step = 1e-4;
        const slope = ((await at(deleted, step)) - (await at(deleted, -step))) / (2 * step);
        expect(Math.abs(effect[0] - slope)).toBeLessThan(1e-7);
      }
    }),
  );

  test("edits that change nothing are estimated as nothing; kinds differ", () =>
    using(async (model) => {
      const first = (await outcomes(screen(model, [subject({ type: "overexpress", genes: [9] })], measure)))[0];
      expect(first.edit.tokens).toEqual(cell);
      expect(Math.abs(first.effect[0])).toBeLessThan(1e-4); // a probe at the gene's own rank against the gene
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

  test("what cannot be screened is said", () =>
    using(async (model) => {
      const all = subject({ type: "delete", genes: "all" });
      await expect(outcomes(screen(model, [all], { ...measure, states: undefined }))).rejects.toThrow("give states, or perturb exactly");
      await expect(outcomes(screen(model, [all], measure, { points: 0 }))).rejects.toThrow("points must be a positive integer; got 0");
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
        expect(said.spearman).toBeCloseTo(spearman(order.map((gene) => mean(estimates.get(gene))), order.map((gene) => mean(exact.get(gene)))), 10); // biome-ignore format: one line
      }
      expect(stages).toEqual(["screen", "verify", "screen", "verify"]);
      await expect(
        screenAndVerify(model, cells, { type: "delete", genes: "all", anchor: 5 }, measure, path("no"), options),
      ).rejects.toThrow("genes are screened one at a time");
      expect(existsSync(path("no"))).toBe(false);
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

test("Spearman's correlation: of ranks, equal values sharing theirs", () => {
  expect(spearman([1, 2, 3, 4], [10, 20, 30, 1000])).toBeCloseTo(1, 12);
  expect(spearman([1, 2, 3], [3, 2, 1])).toBeCloseTo(-1, 12);
  expect(spearman([1, 2, 2, 3], [1, 3, 2, 4])).toBeCloseTo(0.9486832980505138, 12); // scipy.stats.spearmanr
  expect(spearman([1, 1], [1, 2])).toBeNaN();
});

/** Screening against exact passes, as the trial that it comes from: real cells, a random model, positions smooth along the rank. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { readModel } from "../../geneformer/checkpoint.ts";
import { embed } from "../../geneformer/embed.ts";
import type { Geneformer } from "../../geneformer/model.ts";
import { type Estimate, type Measure, perturb, type Subject } from "../../geneformer/perturb/exact.ts";
import { editsOf, type Perturbation, unitsOf } from "../../geneformer/perturb/plan.ts";
import { type ScreenOptions, screen } from "../../geneformer/perturb/screen.ts";
import { freeParameters } from "../../nn/module.ts";
import { onDevice } from "../devices.ts";

const oracle = new URL("../../../shared/data/oracle/", import.meta.url);
const none = { cls: false, eos: false };
const GENES = 300;
const CELLS = [0, 3, 7];

/** Position embeddings smoothed along the rank by a normal distribution of 20 ranks, as large as before. */
async function smooth(model: Geneformer): Promise<void> {
  const { weight } = model.embeddings.position;
  const [length, width] = weight.shape;
  const rough = await weight.data();
  const kernel = Array.from({ length: 121 }, (_, i) => Math.exp(-0.5 * ((i - 60) / 20) ** 2));
  const total = kernel.reduce((a, b) => a + b, 0);
  const made = new Float32Array(length * width);
  for (let place = 0; place < length; place++)
    for (let c = 0; c < width; c++)
      made[place * width + c] =
        kernel.reduce((sum, k, i) => sum + k * rough[Math.min(Math.max(place + i - 60, 0), length - 1) * width + c], 0) / total;
  const deviation = (x: ArrayLike<number>) => Math.sqrt(Array.from(x).reduce((sum, v) => sum + v * v, 0) / x.length);
  const scale = deviation(rough) / deviation(made);
  weight.write(made.map((value) => value * scale));
}

const ranks = (values: readonly number[]) => {
  const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
  const rank = new Array<number>(values.length);
  for (const [i, at] of order.entries()) rank[at] = i;
  return rank;
};
function spearman(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [ranks(a), ranks(b)];
  const middle = (a.length - 1) / 2;
  const product = (u: readonly number[], v: readonly number[]) => u.reduce((sum, value, i) => sum + (value - middle) * (v[i] - middle), 0);
  return product(x, y) / Math.sqrt(product(x, x) * product(y, y));
}
const top = (values: readonly number[]) =>
  new Set([...values.keys()].sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, 50));

onDevice("cpu", (device) => {
  test.each([
    ["delete", 0.998],
    ["overexpress", 0.997],
    ["inhibit", 0.99],
    ["activate", 0.99],
  ] as const)("%s: ranks of 300 estimates and of 300 exact shifts", async (type, least) => {
    const model = await readModel(new URL("models/tiny_v1", oracle).pathname);
    await smooth(model);
    const found = await beside(model, type);
    for (const { correlation, shared } of found) {
      expect(correlation).toBeGreaterThan(least);
      expect(shared).toBeGreaterThanOrEqual(45);
    }
    freeParameters(model);
  });

  // Unrelated neighbours are the worst case: one slope says nothing of where genes come from far.
  test.each([
    ["delete", 0.75],
    ["overexpress", 0.75],
    ["activate", 0.7],
  ] as const)("%s, positions as they were drawn: two points and eight knots", async (type, least) => {
    const model = await readModel(new URL("models/tiny_v1", oracle).pathname);
    for (const { correlation } of await beside(model, type, { points: 2, knots: 8 })) expect(correlation).toBeGreaterThan(least);
    freeParameters(model);
  });

  /** Of each cell, how ranks of 300 estimates and of 300 exact shifts agree, and how many of the strongest both have. */
  async function beside(model: Geneformer, type: Perturbation["type"], how?: ScreenOptions) {
    const { input_ids: ids } = JSON.parse(readFileSync(new URL("inputs/v1_12.json", oracle), "utf8")) as { input_ids: number[][] };
    const vectors = await embed(model, ids.slice(0, 6), { layer: -1, mode: "cell", ends: none, tokensPerBatch: 8192 });
    const goal = Float32Array.from({ length: 64 }, (_, c) => [0, 1, 2, 3, 4, 5].reduce((sum, i) => sum + vectors[i * 64 + c] / 6, 0));
    const measure: Measure = { layer: -1, mode: "cell", ends: none, tokensPerBatch: 8192, states: new Map([["goal", goal]]) };
    const kind: Perturbation = { type, genes: "all" };
    const subjects = (): Subject[] =>
      CELLS.map((row) => {
        const cell = ids[row].slice(0, GENES);
        return {
          row,
          cell,
          edits: editsOf(cell, none, unitsOf(cell, none, kind), 2048),
        };
      });
    const { live } = device().memory;
    const collect = async (outcomes: AsyncIterable<Estimate>) => {
      const all: Estimate[] = [];
      for await (const outcome of outcomes) all.push(outcome);
      return all;
    };
    const [exact, estimates] = [await collect(perturb(model, subjects(), measure)), await collect(screen(model, subjects(), measure, how))];
    expect(device().memory.live).toBe(live);
    expect(estimates.map(({ row, edit }) => [row, edit.genes])).toEqual(exact.map(({ row, edit }) => [row, edit.genes]));
    return CELLS.map((row) => {
      const [a, b] = [exact, estimates].map((all) => all.filter((outcome) => outcome.row === row).map(({ effect }) => effect[0]));
      return { correlation: spearman(a, b), shared: [...top(a)].filter((i) => top(b).has(i)).length };
    });
  }
});

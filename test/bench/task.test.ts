/** What contenders are given survives the way to them, and training is the same work for everybody. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { normsOf, packInputs, rectangle, type Task, timed, unpackInputs, weightsOf } from "../../bench/peers/task.ts";
import { prepareFolder } from "../../bench/peers/works.ts";
import { presets } from "../../geneformer/config.ts";

const folder = mkdtempSync(join(tmpdir(), "task-"));
afterAll(() => rmSync(folder, { recursive: true }));
const config = { ...presets["V1-10M"], vocabulary: 30, width: 8, heads: 2, inner: 8, layers: 1, length: 16 };
const read = (name: string) => readFileSync(join(folder, name));

test("inputs as safetensors and back", () => {
  const inputs = { tokens: Int32Array.of(1, -2, 3), a: Float32Array.of(0.5, -1) };
  expect(unpackInputs(packInputs(inputs))).toEqual(inputs);
});

test("norms stand in the order of names", () => {
  expect([...normsOf({ b: [3, 4], a: [1] })]).toEqual([1, 5]);
});

test("a tiny vocabulary is asked for at every place, and genes are hidden at some", async () => {
  const task: Task = { kind: "train", config, lengths: [16, 16] };
  await prepareFolder(folder, task);
  expect(JSON.parse(read("task.json").toString())).toEqual(task);
  const { tokens, places, labels } = unpackInputs(read("inputs.safetensors"));
  expect([...places]).toEqual(Array.from({ length: 32 }, (_, i) => i));
  expect(tokens.some((token, i) => token !== labels[i])).toBe(true);
  for (const label of labels) expect(label).toBeGreaterThanOrEqual(4);
  const weights = weightsOf(read("model.safetensors"));
  expect(weights.get("bert.embeddings.word_embeddings.weight")?.shape).toEqual([30, 8]);
  for (const [name, { data }] of weights) expect(new Set(data).size, `${name} is random`).toBeGreaterThan(1);
});

test("given cells stand in the stream one after the other; with the real vocabulary only hidden places are asked for", async () => {
  const cells = [Array.from({ length: 12 }, (_, i) => 100 + i), Array.from({ length: 20 }, (_, i) => 200 + i)];
  await prepareFolder(folder, { kind: "train", config: { ...config, vocabulary: 25426, length: 32 }, lengths: [12, 20] }, cells);
  const { tokens, places, labels } = unpackInputs(read("inputs.safetensors"));
  const flat = cells.flat();
  expect(places.length).toBeGreaterThan(0);
  expect(places.length).toBeLessThan(16);
  expect([...labels]).toEqual([...places].map((place) => flat[place]));
  flat.forEach((token, i) => {
    if (!places.includes(i)) expect(tokens[i]).toBe(token);
  });
});

test("cells of unequal length are no rectangle", () => {
  expect(rectangle("x", { kind: "encode", config, lengths: [4, 4, 4] })).toEqual([3, 4]);
  expect(() => rectangle("x", { kind: "encode", config, lengths: [4, 5] })).toThrow("x: has no program for cells of unequal length");
});

test("runs are timed one by one, after one that does not count", async () => {
  let runs = 0;
  const contender = {
    description: "",
    run: async () => {
      runs++;
    },
    result: async () => ({}),
  };
  expect((await timed(contender, 3, true)).length).toBe(3);
  expect(runs).toBe(4);
});

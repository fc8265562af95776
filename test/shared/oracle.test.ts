/** The original package's embeddings, on every device. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { readModel } from "../../geneformer/checkpoint.ts";
import { readVocabulary } from "../../geneformer/data/vocabulary.ts";
import { type EmbeddingMode, embed, endsOf } from "../../geneformer/embed.ts";
import type { Geneformer } from "../../geneformer/model.ts";
import { freeParameters } from "../../nn/module.ts";
import { deviceNames, onDevices } from "../devices.ts";

const oracle = new URL("../../../shared/data/oracle/", import.meta.url);
const json = (path: string) => JSON.parse(readFileSync(new URL(path, oracle), "utf8"));
const worst = (got: ArrayLike<number>, want: readonly number[]): number => {
  expect(got.length).toBe(want.length);
  return want.reduce((most, value, i) => Math.max(most, Math.abs(got[i] - value)), 0);
};

/** Cells in upstream's order: longest first, stable. */
function cellsOf(name: string): number[][] {
  const { input_ids: ids } = json(`inputs/${name}.json`) as { input_ids: number[][] };
  return ids
    .map((cell, i) => [cell, i] as const)
    .sort(([a, i], [b, j]) => b.length - a.length || i - j)
    .map(([cell]) => cell);
}

const EMBEDDINGS: readonly (readonly [run: string, mode: EmbeddingMode, layer: number, version: "V1" | "V2"])[] = [
  ["v1_cell_L-1", "cell", -1, "V1"],
  ["v1_cell_L0", "cell", 0, "V1"],
  ["v2_cls_L-1", "cls", -1, "V2"],
];

// The reference device takes minutes for what the others take seconds for, and its loops are held against theirs elsewhere.
const fast = deviceNames.filter((name) => name !== "reference");

onDevices(() => {
  async function withModel<T>(folder: string, f: (model: Geneformer) => Promise<T>): Promise<T> {
    const model = await readModel(new URL(`models/${folder}`, oracle).pathname);
    try {
      return await f(model);
    } finally {
      freeParameters(model);
    }
  }

  test.each(EMBEDDINGS)("embeddings of %s to 2e-5", async (run, mode, layer, version) => {
    const { model: folder, data, tensor } = json("emb/embeddings.json")[run] as { model: string; data: string; tensor: number[][] };
    const cells = cellsOf(data);
    await withModel(folder, async (model) => {
      const got = await embed(model, cells, { layer, mode, ends: endsOf(cells, version), tokensPerBatch: 4096 });
      expect(worst(got, tensor.flat())).toBeLessThanOrEqual(2e-5);
    });
  });
}, fast);

test("the dictionary of the perturbed cells names their genes", async () => {
  const { names, tokens } = await readVocabulary(new URL("../dictionaries/v1", oracle).pathname);
  const { rows } = json("stats/stats.json").mixture_v1 as { rows: [number, string, string][] };
  for (const [token, name, id] of rows) {
    expect(tokens.get(id)).toBe(token);
    expect(names.get(id) ?? null).toBe(name); // some genes have none
  }
});

/** In silico deletion: the cosines by hand, from cells shortened one by one. */

import { describe, expect, test } from "vitest";
import { inference } from "../../autograd/tape.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { byGene, type DeleteOptions, deleteEach } from "../../geneformer/perturb.ts";
import { freeParameters } from "../../nn/module.ts";
import { Key } from "../../src/key.ts";
import { onDevice } from "../devices.ts";
import { toyConfig } from "./toy.ts";

describe("by gene", () => {
  const deletion = (token: number, cosine: number) => ({ place: 0, token, cosine });

  test("mean, deviation and count over cells, the strongest first, equal ones by token", () => {
    const shifts = byGene([deletion(7, 0.9), deletion(5, 0.5), deletion(7, 0.7), deletion(4, 0.8), deletion(9, 0.5)]);
    expect(shifts).toEqual([
      { token: 5, mean: 0.5, deviation: 0, detections: 1 },
      { token: 9, mean: 0.5, deviation: 0, detections: 1 },
      { token: 4, mean: expect.closeTo(0.8, 12), deviation: 0, detections: 1 },
      { token: 7, mean: expect.closeTo(0.8, 12), deviation: expect.closeTo(0.1, 12), detections: 2 },
    ]);
    expect(byGene([])).toEqual([]);
  });
});

onDevice("cpu", (device) => {
  const using = async (f: (model: Geneformer) => Promise<void>) => {
    const model = new Geneformer(toyConfig, Key.from(4));
    const { live } = device().memory;
    await f(model);
    expect(device().memory.live).toBe(live);
    freeParameters(model);
  };
  const genes = [9, 4, 14, 7, 4, 12, 5]; // gene 4 twice
  const cell = [2, ...genes, 3];
  const none = { cls: false, eos: false };
  const options: DeleteOptions = { layer: -1, mode: "cell", ends: { cls: true, eos: true }, tokensPerBatch: 40 };

  /** The hidden states of a cell alone, each place a row. */
  async function states(model: Geneformer, of: readonly number[], layers: number): Promise<number[][]> {
    const x = inference(() => model.encode(streamOf([of], toyConfig), { layers }));
    const values = [...(await x.data())];
    x.free();
    return of.map((_, i) => values.slice(i * toyConfig.width, (i + 1) * toyConfig.width));
  }
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cosine = (a: readonly number[], b: readonly number[]) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const shortened = (of: readonly number[], place: number) => of.filter((_, i) => i !== place);

  test.each([
    ["with <cls> and <eos>, which are no genes", cell, 1, -1, -1],
    ["without", genes, 0, undefined, -1],
    ["at the last layer", genes, 0, undefined, 0],
  ])("cell: the mean cosine of the genes that are left, %s", (_, of, head, tail, layer) =>
    using(async (model) => {
      const ends = head === 1 ? options.ends : none;
      const got = await deleteEach(model, of, { ...options, ends, layer });
      expect(got.map(({ token }) => token)).toEqual(genes);
      expect(got.map(({ place }) => place)).toEqual(genes.map((_, i) => i + head));
      const whole = await states(model, of, 2 + layer);
      for (const { place, cosine: value } of got) {
        const [copy, left] = [await states(model, shortened(of, place), 2 + layer), shortened(of, place)];
        const kept = whole.filter((_, i) => i !== place);
        const cosines = left.map((_, i) => cosine(copy[i], kept[i])).slice(head, tail);
        expect(Math.abs(value - cosines.reduce((a, b) => a + b, 0) / cosines.length)).toBeLessThan(1e-6);
        expect(value).toBeLessThan(1 - 1e-6); // a deletion does move the others
      }
    }),
  );

  test("cls: the cosine of <cls> with the gene and without", () =>
    using(async (model) => {
      const [[whole], got] = [await states(model, cell, 1), await deleteEach(model, cell, { ...options, mode: "cls" })];
      expect(got).toHaveLength(genes.length);
      for (const { place, cosine: value } of got) {
        const [copy] = await states(model, shortened(cell, place), 1);
        expect(Math.abs(value - cosine(copy, whole))).toBeLessThan(1e-6);
      }
      expect(new Set(got.map(({ cosine: value }) => value)).size).toBeGreaterThan(genes.length / 2);
    }));

  test.each(["cell", "cls"] as const)("%s: how copies are batched changes nothing, and progress counts deletions", (mode) =>
    using(async (model) => {
      const run = async (tokensPerBatch: number) => {
        const progress: number[] = [];
        const got = await deleteEach(model, cell, { ...options, mode, tokensPerBatch, onProgress: (done) => void progress.push(done) });
        return { cosines: got.map(({ cosine: value }) => value), progress };
      };
      const [alone, three, together] = [await run(1), await run(24), await run(10_000)];
      expect([alone.progress, three.progress, together.progress]).toEqual([[1, 2, 3, 4, 5, 6, 7], [3, 6, 7], [7]]);
      for (const { cosines } of [three, together])
        cosines.forEach((value, i) => {
          expect(Math.abs(value - alone.cosines[i])).toBeLessThan(1e-6);
        });
    }),
  );

  test("a cell of two genes is the smallest that can be compared", () =>
    using(async (model) => {
      const got = await deleteEach(model, [2, 5, 9, 3], options);
      expect(got.map(({ token, place }) => [token, place])).toEqual([[5, 1], [9, 2]]); // biome-ignore format: one line
      for (const [of, ends, genes] of [
        [[2, 5, 3], options.ends, 1],
        [[2, 3], options.ends, 0],
        [[5], none, 1],
      ] as const)
        await expect(deleteEach(model, of, { ...options, ends })).rejects.toThrow(
          new RangeError(`perturb: a cell of ${genes} genes has nothing left to compare when one is deleted; leave such cells out`),
        );
    }));

  test("what cannot be is named, and leaves no memory behind", () =>
    using(async (model) => {
      await expect(deleteEach(model, genes, { ...options, mode: "cls", ends: none })).rejects.toThrow(
        "perturb: these cells have no <cls> (V1 has none); use --mode cell",
      );
      await expect(deleteEach(model, cell, { ...options, layer: -3 })).rejects.toThrow("layer: must be an integer from -2 to 0");
      await expect(deleteEach(model, [2, 5, 16, 3], options)).rejects.toThrow(
        "token 16 at place 2 of cell 0 is beyond the model's vocabulary of 16",
      );
      const stop = () => {
        throw new Error("stopped");
      };
      await expect(deleteEach(model, cell, { ...options, onProgress: stop })).rejects.toThrow("stopped");
    }));
});

/** Cell embeddings: what they are a mean of, at which layer, and that company does not change them. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { inference } from "../../autograd/tape.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { batchesOf, type EmbedOptions, embed, endsOf, longestFirst } from "../../geneformer/embed.ts";
import type { Geneformer } from "../../geneformer/model.ts";
import { onDevice } from "../devices.ts";
import { datasetOf, toyCells, toyConfig, usingToy } from "./toy.ts";

const none = { cls: false, eos: false };
const both = { cls: true, eos: true };
const width = toyConfig.width;

describe("what stands at the ends", () => {
  const V2 = [[2, 7, 8, 3], [2, 9, 3]]; // biome-ignore format: one line
  test.each([
    ["V2 cells", V2, "V2", both],
    ["V2 cells without a dictionary", V2, null, both],
    ["V1 cells, whose token 2 and 3 are genes", V2, "V1", none],
    ["cells without special tokens", [[7, 8], [9]], "V2", none],
    ["the same without a dictionary", [[7, 8], [9]], null, none],
    [
      "<cls> alone",
      [
        [2, 8],
        [2, 9],
      ],
      "V2",
      { cls: true, eos: false },
    ],
    [
      "some cells that happen to begin with gene 2",
      [
        [2, 8],
        [9, 3],
      ],
      null,
      none,
    ],
    ["no cells", [], "V2", none],
  ] as const)("%s", (_, cells, version, ends) => expect(endsOf(cells, version)).toEqual(ends));

  test("cells that disagree are an error", () => {
    expect(() => endsOf([[2, 7, 3], [8, 3]], "V2")).toThrow("embed: 1 of 2 cells have <cls>; tokenize them alike"); // biome-ignore format: one line
    expect(() => endsOf([[2, 7, 3], [2, 8], [2, 9]], "V2")).toThrow("embed: 1 of 3 cells have <eos>; tokenize them alike"); // biome-ignore format: one line
  });
});

test("batches hold all cells in order, each as many as its budget has room for", () =>
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 30 })), fc.integer({ min: 1, max: 60 }), (lengths, budget) => {
      const batches = [...batchesOf(lengths, budget, (length) => length)];
      expect(batches.flat()).toEqual(lengths);
      const sum = (batch: readonly number[]) => batch.reduce((a, b) => a + b, 0);
      batches.forEach((batch, i) => {
        expect(batch.length === 1 || (batch.length > 0 && sum(batch) <= budget)).toBe(true);
        if (i + 1 < batches.length) expect(sum(batch) + batches[i + 1][0]).toBeGreaterThan(budget);
      });
    }),
  ));

test("the longest cell first, cells of one length as they stood", () => {
  expect(longestFirst(datasetOf([[4, 5], [4], [5, 6], [4, 5, 6], [7]]))).toEqual([3, 0, 2, 1, 4]);
});

onDevice("cpu", (device) => {
  const using = usingToy(device, 3);
  const cells = toyCells(9);
  const bare = toyCells(9, { ends: false });
  const options: EmbedOptions = { layer: -1, mode: "cell", ends: both, tokensPerBatch: 64 };

  /** The hidden state of each place of one cell, alone, after some layers. */
  async function places(model: Geneformer, cell: readonly number[], layers: number): Promise<number[][]> {
    const x = inference(() => [...model.hidden(streamOf([cell], toyConfig))][layers]);
    const values = [...(await x.data())];
    x.free();
    return cell.map((_, i) => values.slice(i * width, (i + 1) * width));
  }
  const mean = (rows: readonly number[][]) =>
    Array.from({ length: width }, (_, c) => rows.reduce((sum, row) => sum + row[c], 0) / rows.length);
  const close = (got: ArrayLike<number>, want: readonly number[]) => {
    expect(got).toHaveLength(want.length);
    want.forEach((value, i) => {
      expect(Math.abs(got[i] - value), `${i}: ${got[i]} but ${value}`).toBeLessThan(2e-6);
    });
  };
  const each = async (of: readonly number[][], f: (cell: number[]) => Promise<number[]>) => {
    const rows: number[] = [];
    for (const cell of of) rows.push(...(await f(cell)));
    return rows;
  };

  test.each([
    [0, 2],
    [-1, 1],
    [-2, 0],
  ])("layer %i is hidden state %i of 0 ... 2", (layer, hidden) =>
    using(async (model) => {
      close(
        await embed(model, bare, { ...options, ends: none, layer }),
        await each(bare, async (cell) => mean(await places(model, cell, hidden))),
      );
    }),
  );

  test("a cell is the mean over its genes, <cls> and <eos> left out", () =>
    using(async (model) => {
      close(await embed(model, cells, options), await each(cells, async (cell) => mean((await places(model, cell, 1)).slice(1, -1))));
      const clsOnly = cells.map((cell) => cell.slice(0, -1));
      close(
        await embed(model, clsOnly, { ...options, ends: { cls: true, eos: false } }),
        await each(clsOnly, async (cell) => mean((await places(model, cell, 1)).slice(1))),
      );
    }));

  test("cls is what became of <cls>", () =>
    using(async (model) => {
      close(await embed(model, cells, { ...options, mode: "cls" }), await each(cells, async (cell) => (await places(model, cell, 1))[0]));
      await expect(embed(model, bare, { ...options, mode: "cls", ends: none })).rejects.toThrow(
        "embed: these cells have no <cls> (V1 has none); use --mode cell",
      );
    }));

  test("how cells are batched changes nothing, and progress counts cells", () =>
    using(async (model) => {
      const seen: number[][] = [];
      const run = (tokensPerBatch: number) => {
        const progress: number[] = [];
        seen.push(progress);
        return embed(model, cells, { ...options, tokensPerBatch, onProgress: (done) => void progress.push(done) });
      };
      const alone = await run(1);
      close(await run(30), [...alone]);
      close(await run(10_000), [...alone]);
      expect(seen[0]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      expect(seen[1].at(-1)).toBe(9);
      expect(seen[1].length).toBeLessThan(9);
      expect(seen[2]).toEqual([9]);
    }));

  test("a cell of one gene is that gene; one of none is zeros", () =>
    using(async (model) => {
      close(
        await embed(model, [[5], [6, 7]], { ...options, ends: none }),
        await each([[5], [6, 7]], async (cell) => mean(await places(model, cell, 1))),
      );
      close(await embed(model, [[2, 5, 3], [2, 3]], options), [...(await places(model, [2, 5, 3], 1))[1], ...new Array(width).fill(0)]); // biome-ignore format: one line
      expect(await embed(model, [], options)).toHaveLength(0);
    }));

  test("what the model cannot take is named, and leaves no memory behind", () =>
    using(async (model) => {
      await expect(embed(model, cells, { ...options, layer: -3 })).rejects.toThrow(
        "layer: must be an integer from -2 to 0 (0 is the last layer, -1 the one before); got -3",
      );
      await expect(embed(model, cells, { ...options, layer: 1 })).rejects.toThrow(RangeError);
      await expect(embed(model, [[2, 16, 3]], options)).rejects.toThrow(
        "stream: token 16 at place 1 of cell 0 is beyond the model's vocabulary of 16",
      );
      await expect(embed(model, [new Array(21).fill(4)], options)).rejects.toThrow(
        "stream: cell 0 has 21 tokens, but the model has positions for 20",
      );
      const stop = () => {
        throw new Error("stopped");
      };
      await expect(embed(model, cells, { ...options, onProgress: stop })).rejects.toThrow("stopped");
    }));
});

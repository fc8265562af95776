/** What the benches of truth take for trained and untrained, smaller vocabularies, and shifts beside those of `perturb`. */

import { expect, test } from "vitest";
import { inference } from "../../../autograd/tape.ts";
import { restricted } from "../../../bench/truth/kang.ts";
import { courseOf, untrained } from "../../../bench/truth/model.ts";
import { type Shifted, shifts } from "../../../bench/truth/shifts.ts";
import { streamOf } from "../../../geneformer/data/batches.ts";
import { cosineOf, perturb } from "../../../geneformer/perturb/exact.ts";
import { editsOf, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { Pretraining, pretrainDefaults } from "../../../geneformer/pretrain.ts";
import { freeParameters, parameters } from "../../../nn/module.ts";
import { onDevice } from "../../devices.ts";
import { datasetOf, ensembl, settings, toyCells, toyConfig, usingToy, V1, V2 } from "../../geneformer/toy.ts";

onDevice("cpu", (device) => {
  const using = usingToy(device);

  test("untrained is what a training of these settings begins from", async () => {
    const options = { ...settings, seed: 3 };
    const run = new Pretraining(datasetOf(toyCells(20)), V2, toyConfig, options);
    const model = untrained({ config: toyConfig, options });
    const values = async (of: typeof model) => Promise.all([...parameters(of)].map(async ([name, t]) => [name, [...(await t.data())]]));
    expect(await values(model)).toEqual(await values(run.model));
    run.free();
    freeParameters(model);
  });

  test.each(["delete", "overexpress"] as const)(
    "shifts by %s are those of perturb, and without the own place those of the other genes",
    (type) =>
      using(async (model) => {
        const ends = { cls: false, eos: false };
        const [row, tokens] = [4, [9, 4, 14, 7, 11, 12, 5]];
        const goal = Float32Array.from({ length: toyConfig.width }, (_, c) => Math.sin(c + 1));
        const genes = type === "delete" ? tokens : [...tokens, 8, 6];
        const made: Shifted[] = [];
        for await (const shift of shifts(model, [{ row, tokens }], type, genes, goal)) made.push(shift);
        expect(made.map(({ gene }) => gene)).toEqual(genes);

        const edits = [...editsOf(tokens, ends, unitsOf(tokens, ends, { type, genes }), toyConfig.length)];
        const states = new Map([["goal", goal]]);
        let i = 0;
        for await (const { effect } of perturb(model, [{ row, cell: tokens, edits }], {
          layer: -1,
          mode: "cell",
          ends,
          states,
          tokensPerBatch: 40,
        }))
          expect(Math.abs(made[i++].shift - effect[0])).toBeLessThan(2e-6);

        // The mean of the genes but one, from each cell run alone.
        const { width } = toyConfig;
        const without = async (cell: readonly number[], gene: number) => {
          const x = inference(() => model.encode(streamOf([cell], toyConfig), { layers: 1 }));
          const values = await x.data();
          x.free();
          const rest = [...cell.keys()].filter((place) => cell[place] !== gene);
          return Float64Array.from(
            { length: width },
            (_, c) => rest.reduce((sum, place) => sum + values[place * width + c], 0) / rest.length,
          );
        };
        for (const [e, { tokens: after }] of edits.entries()) {
          const [x, y] = [await without(tokens, genes[e]), await without(after, genes[e])];
          expect(Math.abs(made[e].others - (cosineOf(y, goal) - cosineOf(x, goal)))).toBeLessThan(2e-6);
        }
      }),
  );
});

test("a restricted vocabulary keeps the order, the medians and the names of what is left", () => {
  const small = restricted(V1, new Set([ensembl(7), ensembl(2), "ENSG_none"]));
  expect([...small.tokens]).toEqual([
    ["<pad>", 0],
    ["<mask>", 1],
    [ensembl(2), 2],
    [ensembl(7), 3],
  ]);
  expect(small.names.get(ensembl(7))).toBe("H");
  expect([small.size, small.medians.size, small.modelVersion]).toEqual([4, 2, "V1"]);
});

test("a training's log is summed up", () => {
  const log = [
    { seed: 0, baselines: { unigram: 6, rank: 5 } },
    { step: 0, heldOut: 7, questions: 9 },
    { step: 1, loss: 3, tokens: 100, cells: 4, ms: 500 },
    { step: 2, loss: 2, tokens: 120, cells: 5, ms: 1500 },
    { step: 2, heldOut: 4, questions: 9 },
  ];
  const text = `${log.map((line) => JSON.stringify(line)).join("\n")}\n`;
  expect(courseOf(text, 20, { ...pretrainDefaults, heldOut: 0.1 })).toEqual({
    ...{ steps: 2, tokens: 220, seconds: 2, epochs: 0.5 },
    ...{ heldOut: 4, untrained: 7, unigram: 6, rank: 5 },
  });
});

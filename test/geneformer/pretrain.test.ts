/** Masked pretraining on cells that can be learnt: that it learns, what must not change a step, and what it refuses. */

import { beforeAll, describe, expect, test } from "vitest";
import { baselines } from "../../geneformer/baselines.ts";
import type { Config } from "../../geneformer/config.ts";
import type { Dataset } from "../../geneformer/data/dataset.ts";
import { maskCell, maskOptions } from "../../geneformer/masking.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { Pretraining, type PretrainOptions, type Step } from "../../geneformer/pretrain.ts";
import { countParameters, parameters } from "../../nn/module.ts";
import { use } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { deviceNames, onDevice, onDevices } from "../devices.ts";
import { datasetOf, settings, toyCells, toyConfig, V1, V2 } from "./toy.ts";

/** The number that pretrain.ts folds into a run's key for its masks. */
const MASKS = 3;
const still: Config = { ...toyConfig, dropout: 0, attentionDropout: 0 };
const even = datasetOf(toyCells(40, { lengths: () => 8 })); // 10 tokens each, with <cls> and <eos>

interface Given {
  dataset?: Dataset;
  config?: Config;
  options?: Partial<PretrainOptions>;
}
const begin = ({ dataset = datasetOf(toyCells(50)), config = toyConfig, options = {} }: Given = {}) =>
  new Pretraining(dataset, V2, config, { ...settings, ...options });

/** Do something with a run, and free it. */
async function during<T>(given: Given, f: (run: Pretraining) => Promise<T>): Promise<T> {
  const run = begin(given);
  try {
    return await f(run);
  } finally {
    run.free();
  }
}
async function stepsOf(run: Pretraining, count: number): Promise<Step[]> {
  const steps: Step[] = [];
  while (steps.length < count) steps.push(await run.step());
  return steps;
}
const weightsOf = async ({ model }: Pretraining) => {
  const values: number[][] = [];
  for (const [, t] of parameters(model)) values.push([...(await t.data())]);
  return values;
};
const close = (got: readonly number[], want: readonly number[], bound: number) => {
  expect(got).toHaveLength(want.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - want[i]), `${i}: ${value} but ${want[i]}`).toBeLessThanOrEqual(bound * Math.max(1, Math.abs(want[i])));
  });
};
const losses = (steps: readonly Step[]) => steps.map(({ loss }) => loss);

onDevice("reference", (device) => {
  test("more batches to a step hold no more memory: gradients are summed as they come", async () => {
    const over = async (accumulate: number) => {
      const before = device().memory.live;
      (device().memory as { peak: number }).peak = before;
      await during({ dataset: even, options: { steps: 1, tokensPerBatch: 40, accumulate } }, (run) => run.step());
      return device().memory.peak - before;
    };
    // Each batch has its loss and its tables, six times some 2,000 bytes; but there is not one set of gradients more.
    const gradients = await during({}, async ({ model }) => 8 * countParameters(model));
    expect(await over(8)).toBeLessThan((await over(2)) + gradients / 2);
  });
});

onDevice("cpu", (device) => {
  test("a rule is learnt: the held-out loss falls far below what counting can say", () =>
    during({ dataset: datasetOf(toyCells(200)), options: { steps: 150 } }, async (run) => {
      const before = await run.evaluate();
      expect(before.loss).toBeGreaterThan(2.3); // 16 tokens: 2.77 of an untrained model
      const steps = await stepsOf(run, 150);
      const after = await run.evaluate();
      const questions = [...run.heldOutQuestions()].flatMap(({ places, labels }) => labels.map((gene, i) => ({ gene, rank: places[i] })));
      expect(questions).toHaveLength(after.questions);
      const { unigram, rank } = baselines(toyCells(200), questions, V2.size);
      expect(after.loss).toBeLessThan(0.5 * unigram);
      expect(after.loss).toBeLessThan(rank);
      expect(Math.min(...losses(steps).slice(-20))).toBeLessThan(0.5 * steps[0].loss);
    }));

  test("a step reports its number, rate, epoch, cells and tokens", () =>
    during(
      { dataset: even, options: { steps: 10, warmup: 2, schedule: "linear", tokensPerBatch: 45, rate: 0.01, maskProbability: 0.1 } },
      async (run) => {
        const steps = await stepsOf(run, 10);
        expect(steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        close(steps.map(({ rate }) => rate), [0, 0.005, 0.01, ...[7, 6, 5, 4, 3, 2, 1].map((left) => (0.01 * left) / 8)], 1e-12); // biome-ignore format: one line
        for (const { cells, tokens, norm } of steps) {
          expect([1, 2, 3, 4]).toContain(cells);
          expect(tokens).toBe(10 * cells);
          expect(norm).toBeGreaterThan(0);
        }
        const total = steps.reduce((sum, { cells }) => sum + cells, 0);
        expect(run.progress).toEqual({ step: 10, cursor: { epoch: Math.floor(total / 32), place: total % 32 } });
        expect(steps.at(-1)?.epoch).toBe(Math.floor((total - 1) / 32));
      },
    ));

  test("held-out cells are a fixed share, and are never trained on", async () => {
    const seen = new Set<number>();
    await during({ dataset: datasetOf(toyCells(50), "toy", (row) => seen.add(row)) }, async (run) => {
      const { training, heldOut } = run.split;
      expect([training.length, heldOut.length]).toEqual([40, 10]);
      expect([...training, ...heldOut].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
      await stepsOf(run, 12);
      expect([...seen].sort((a, b) => a - b)).toEqual([...training]);
    });
    await during({ options: { seed: 1 } }, async (other) => {
      await during({}, async ({ split }) => expect(other.split).not.toEqual(split));
    });
    await during({ options: { heldOut: 0 } }, async (run) => {
      expect(run.split.heldOut).toHaveLength(0);
      expect(await run.evaluate()).toEqual({ loss: Number.NaN, questions: 0 });
    });
  });

  test("a seed says everything: the same bits again, others from another", async () => {
    const run = (seed: number) =>
      during({ options: { seed } }, async (run) => [await stepsOf(run, 4), await run.evaluate(), await weightsOf(run)]);
    const first = await run(3);
    expect(await run(3)).toEqual(first);
    expect(await run(4)).not.toEqual(first);
  });

  test("every step has a dropout of its own, and a resumed run goes on at its own", async () => {
    const at = async (step: number, config: Config) => {
      const progress = { step, cursor: { epoch: 0, place: 0 } };
      const run = new Pretraining(even, V2, config, settings, { model: new Geneformer(config, Key.from(1)), progress });
      expect(run.progress).toEqual(progress);
      const done = await run.step();
      expect(done.step).toBe(step + 1);
      run.free();
      return done.loss;
    };
    expect(await at(1, still)).toBe(await at(0, still)); // the same cells, the same masks
    expect(await at(1, toyConfig)).not.toBe(await at(0, toyConfig));
  });

  test("steps that run ahead are the same steps, and none is under way when the last has been told of", async () => {
    const many = { steps: 9, accumulate: 2 };
    const [one, weights] = await during({ options: many }, async (run) => [await stepsOf(run, 9), await weightsOf(run)]);
    await during({ options: many }, async (run) => {
      const told: Step[] = [];
      const until = async (last: number, signal?: AbortSignal) => {
        for await (const step of run.steps(last, signal)) {
          told.push(step);
          expect(run.progress.step).toBe(Math.min(last, told.length + 2)); // two are enqueued, or all
        }
        expect(run.progress.step).toBe(told.length);
      };
      await until(1);
      await until(5);
      await until(5 + 1, AbortSignal.abort()); // one at least
      for await (const step of run.steps(9)) told.push(step);
      expect(told).toEqual(one);
      expect(await weightsOf(run)).toEqual(weights);
      const stop = new AbortController();
      const before = run.progress.step;
      for await (const _ of run.steps(before + 100, stop.signal)) stop.abort();
      expect(run.progress.step).toBe(before + 3);
    });
  });

  test("two batches of a step are one batch twice as large", async () => {
    const run = (options: Partial<PretrainOptions>) =>
      during({ dataset: even, config: still, options: { maskProbability: 0.2, ...options } }, async (run) => ({
        steps: await stepsOf(run, 3),
        weights: await weightsOf(run),
      }));
    const [two, one] = [await run({ tokensPerBatch: 40, accumulate: 2 }), await run({ tokensPerBatch: 80 })];
    expect(two.steps.map(({ cells }) => cells)).toEqual([8, 8, 8]);
    expect(one.steps.map(({ cells }) => cells)).toEqual([8, 8, 8]);
    close(losses(two.steps), losses(one.steps), 1e-6);
    close(two.steps.map(({ norm }) => norm), one.steps.map(({ norm }) => norm), 1e-5); // biome-ignore format: one line
    close(two.weights.flat(), one.weights.flat(), 1e-4);
  });

  test("the dead tail of a batch changes nothing, dropout included", async () => {
    const run = (tokensPerBatch: number) =>
      during({ dataset: even, options: { maskProbability: 0.2, tokensPerBatch } }, async (run) => await stepsOf(run, 4));
    const [full, tailed] = [await run(40), await run(49)];
    expect(full.map(({ cells }) => cells)).toEqual([4, 4, 4, 4]);
    expect(tailed.map(({ cells }) => cells)).toEqual([4, 4, 4, 4]);
    close(losses(tailed), losses(full), 1e-5);
    close(tailed.map(({ norm }) => norm), full.map(({ norm }) => norm), 1e-4); // biome-ignore format: one line
  });

  test("a cell that alone asks for more places than a batch has room for is asked for all of them", async () => {
    // Ten tokens at 2 % leave room for two places (three deviations above the mean), nineteen for three. Find a seed whose first mask has three.
    const cell = even.tokens(0);
    const asks = (seed: number) =>
      maskCell(cell, Key.from(seed).fold(MASKS).fold(0).fold(0), maskOptions(V2, { probability: 0.02 })).places.length;
    let seed = 0;
    while (asks(seed) !== 3) seed++;
    const step = (tokensPerBatch: number) =>
      during(
        { dataset: datasetOf([[...cell]]), config: still, options: { seed, tokensPerBatch, maskProbability: 0.02, heldOut: 0 } },
        (run) => run.step(),
      );
    const live = device().memory.live;
    const [narrow, wide] = [await step(10), await step(19)];
    expect(device().memory.live).toBe(live);
    expect(wide).toMatchObject({ cells: 1, tokens: 10 });
    close([narrow.loss, narrow.norm], [wide.loss, wide.norm], 1e-6);
    expect(narrow.loss).toBeGreaterThan(1);
  });

  test("a batch that asks for nothing has loss 0", () =>
    during({ dataset: even, options: { tokensPerBatch: 10, maskProbability: 1e-9, warmup: 0, decay: 0 } }, async (run) => {
      const before = await weightsOf(run);
      expect(await run.step()).toMatchObject({ loss: 0, norm: 0, cells: 1 });
      expect(await weightsOf(run)).toEqual(before);
    }));

  test("evaluation asks the same every time, however cells are batched, and changes nothing", async () => {
    const evaluate = (tokensPerBatch: number) =>
      during({ options: { tokensPerBatch } }, async (run) => {
        const [first, asked] = [await run.evaluate(), [...run.heldOutQuestions()]];
        expect(await run.evaluate()).toEqual(first);
        await run.step();
        expect([...run.heldOutQuestions()]).toEqual(asked);
        expect((await run.evaluate(3)).questions).toBeLessThan(first.questions);
        return first;
      });
    const [small, large] = [await evaluate(20), await evaluate(1000)];
    expect(small.questions).toBe(large.questions);
    expect(Math.abs(small.loss - large.loss)).toBeLessThan(1e-5);

    const four = (looking: boolean) =>
      during({}, async (run) => {
        const steps: Step[] = [];
        for (let i = 0; i < 4; i++) {
          if (looking) await run.evaluate();
          steps.push(await run.step());
        }
        return steps;
      });
    expect(await four(true)).toEqual(await four(false));
  });

  test("<cls> and <eos> are asked for unless they are to be kept", () =>
    during({}, (run) =>
      during({ options: { keepSpecial: true } }, async (keeping) => {
        const asked = (each: Pretraining) => new Set([...each.heldOutQuestions()].flatMap(({ labels }) => labels));
        expect([...asked(run)]).toEqual(expect.arrayContaining([2, 3]));
        expect([2, 3].some((special) => asked(keeping).has(special))).toBe(false);
      }),
    ));

  test("fifty steps leave the device's memory flat, and the end gives all of it back", async () => {
    const empty = device().memory.live;
    await during({ options: { steps: 60, accumulate: 2 } }, async (run) => {
      await stepsOf(run, 2);
      const { live, reserved } = device().memory;
      for (let i = 0; i < 50; i++) {
        await run.step();
        expect(device().memory.live).toBe(live);
      }
      await run.evaluate();
      expect(device().memory.live).toBe(live);
      expect(device().memory.reserved).toBeLessThan(2 * reserved);
    });
    expect(device().memory.live).toBe(empty);
  });

  test("a loss that is no number ends the run in words", () =>
    during({ options: { rate: 1e30, warmup: 0, clip: 0 } }, (run) =>
      expect(stepsOf(run, 5)).rejects.toThrow(
        /^pretrain: the loss is (NaN|Infinity) and the gradient's norm \S+ at step [2-5]; lower the learning rate, or lengthen the warm-up$/,
      ),
    ));

  describe("is refused:", () => {
    const one = (cell: number[]) => datasetOf([...toyCells(10), cell]);
    const long = (length: number) => one(Array.from({ length }, (_, i) => 4 + (i % 12)));
    test.each<[string, Given, string]>([
      [
        "a dictionary larger than the model",
        { config: { ...toyConfig, vocabulary: 15 } },
        "pretrain: the model has 15 tokens but the dictionary 16; set the vocabulary to the dictionary's size",
      ],
      [
        "a token beyond the dictionary",
        { dataset: one([2, 16, 3]) },
        "pretrain: token 16 is in the data but the dictionary ends at 15; was it tokenized with another dictionary?",
      ],
      [
        "a cell longer than the model",
        { dataset: long(21) },
        "pretrain: the longest cell has 21 tokens but the model places for 20; tokenize with --model-input-size 20, or make the model longer",
      ],
      [
        "a cell longer than a batch",
        { dataset: long(20), options: { tokensPerBatch: 19 } },
        "pretrain: the longest cell has 20 tokens but a batch holds 19; raise --tokens-per-batch to 20 or more",
      ],
      [
        "no cells",
        { dataset: { ...even, length: 0, lengths: new Int32Array(0), largest: -1 } },
        "Order(count, key): there are no cells to order",
      ],
      ["no step", { options: { steps: 0 } }, "pretrain: steps must be a positive integer; got 0"],
      ["half a token", { options: { tokensPerBatch: 64.5 } }, "pretrain: tokensPerBatch must be a positive integer; got 64.5"],
      ["no batch", { options: { accumulate: -1 } }, "pretrain: accumulate must be a positive integer; got -1"],
      ["a negative rate", { options: { rate: -1 } }, "pretrain: rate must be 0 or more; got -1"],
      ["no rate", { options: { rate: Number.NaN } }, "pretrain: rate must be 0 or more; got NaN"],
      ["a negative warm-up", { options: { warmup: -1 } }, "pretrain: warmup must be 0 or more; got -1"],
      ["a negative decay", { options: { decay: -1 } }, "pretrain: decay must be 0 or more; got -1"],
      ["a negative clip", { options: { clip: -1 } }, "pretrain: clip must be 0 or more; got -1"],
      ["nothing hidden", { options: { maskProbability: 0 } }, "pretrain: maskProbability must be between 0 and 1; got 0"],
      ["all hidden", { options: { maskProbability: 1 } }, "pretrain: maskProbability must be between 0 and 1; got 1"],
      ["all held out", { options: { heldOut: 1 } }, "pretrain: heldOut must be 0 or more and below 1; got 1"],
      ["half a seed", { options: { seed: 0.5 } }, "Key.from(seed): a seed is an integer from 0 to 2^53 - 1; got 0.5"],
      ["a model that is none", { config: { ...toyConfig, heads: 3 } }, "config: width 16 does not divide into 3 heads"],
    ])("%s", (_, given, message) => {
      const { live } = device().memory;
      expect(() => begin(given)).toThrow(new RangeError(message));
      expect(device().memory.live).toBe(live);
    });
  });

  test("cells without <cls> and <eos> are learnt as well", async () => {
    const run = new Pretraining(datasetOf(toyCells(40, { ends: false })), V1, { ...toyConfig, vocabulary: V1.size }, settings);
    const steps = losses(await stepsOf(run, 40));
    expect(Math.min(...steps.slice(-10))).toBeLessThan(0.7 * steps[0]);
    run.free();
  });
});

describe("five steps, with dropout, are the same on every device", () => {
  let want: Step[];
  beforeAll(async () => {
    use(openReference());
    want = await during({}, (run) => stepsOf(run, 5));
    use(null);
  });

  onDevices(
    () => {
      test("loss and gradient norm", () =>
        during({}, async (run) => {
          const got = await stepsOf(run, 5);
          close(losses(got), losses(want), 1e-4);
          close(got.map(({ norm }) => norm), want.map(({ norm }) => norm), 1e-3); // biome-ignore format: one line
          expect(got.map(({ loss, norm, ...rest }) => rest)).toEqual(want.map(({ loss, norm, ...rest }) => rest));
        }));
    },
    deviceNames.filter((name) => name !== "reference"),
  );
});

/** The meaning is right: every op, two whole models, and five training steps of each, against values from PyTorch (test/golden/README.md). */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as ops from "../autograd/ops.ts";
import { inference, valueAndGrad } from "../autograd/tape.ts";
import { huggingFaceName, modelFromSafetensors } from "../geneformer/checkpoint.ts";
import { configFromHuggingFace } from "../geneformer/config.ts";
import { streamOf } from "../geneformer/data/batches.ts";
import type { Geneformer } from "../geneformer/model.ts";
import { IGNORED } from "../kernels/loss.ts";
import { threefry } from "../kernels/random.ts";
import { freeParameters, parameters } from "../nn/module.ts";
import { AdamW } from "../nn/optimizer.ts";
import { floats, readSafetensors } from "../nn/safetensors.ts";
import { schedule } from "../nn/schedule.ts";
import { sizeOf } from "../src/shape.ts";
import { index } from "../src/stream.ts";
import { integers, scoped, type Tensor, tensor } from "../src/tensor.ts";
import { deviceNames, onDevices } from "./devices.ts";
import { calls, type Golden, type Options, withoutGolden } from "./golden/calls.ts";

const bytes = (name: string): Uint8Array => readFileSync(new URL(`golden/${name}`, import.meta.url));
const json = <T>(name: string): T => JSON.parse(new TextDecoder().decode(bytes(name)));

/** Every tensor of a file, indices as integers. */
const goldens = (name: string): Map<string, Golden> =>
  new Map(
    [...readSafetensors(bytes(name), name).tensors].map(([key, stored]) => [
      key,
      { shape: stored.shape, values: stored.dtype === "U32" ? new Uint32Array(new Uint8Array(stored.bytes).buffer) : floats(stored) },
    ]),
  );

const largest = (values: ArrayLike<number>): number => Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** No value is further off than `bound`, or than a share of itself; NaN and the infinities are met exactly. */
function near(what: string, got: ArrayLike<number>, want: ArrayLike<number>, bound: number, share = 0): void {
  expect(got.length, what).toBe(want.length);
  for (const [i, value] of Array.from(want).entries()) {
    const allowed = Math.max(bound, share * Math.abs(value));
    const close = Number.isFinite(value) ? Math.abs(got[i] - value) <= allowed : Object.is(got[i], value);
    if (!close) expect.fail(`${what}[${i}] is ${got[i]}, not ${value} to ${allowed}`);
  }
}

// ---- ops -----------------------------------------------------------------------------------

interface OpCase {
  readonly name: string;
  readonly op: string;
  readonly options: Options;
  readonly inputs: number;
  readonly outputs: number;
  readonly gradients: readonly number[];
}

const { cases, schedules } = json<{
  cases: OpCase[];
  schedules: { name: "linear" | "cosine"; learningRate: number; warmup: number; total: number; steps: number[]; rates: number[] }[];
}>("ops.json");
const opValues = goldens("ops.safetensors");

const opCases = cases.filter(({ op }) => op in calls);
const others = { adamw: cases.filter(({ op }) => op === "adamw"), clip: cases.filter(({ op }) => op === "clip") };

test("every op has a golden or a reason for none, and every golden is compared", () => {
  expect(new Set(cases.map(({ op }) => op))).toEqual(new Set([...Object.keys(calls), ...Object.keys(others)]));
  expect(new Set(Object.keys(ops))).toEqual(new Set([...Object.keys(calls), ...Object.keys(withoutGolden)]));
});

onDevices((device, name) => {
  /** Of the largest finite value: f32 differs by the longest sums, the loops in f64 by what cancels; and of each value by the rounding of the file. */
  const [tolerance, rounding] = name === "reference" ? [1e-12, 1e-6] : [1e-4, 0];

  test.each(opCases)("$name", async ({ name: it, options, op, ...counts }) => {
    const values = (part: string) => opValues.get(`${it}/${part}`)!;
    const given = Array.from({ length: counts.inputs }, (_, i) => values(`inputs/${i}`));
    const isWhole = ({ values }: Golden) => values instanceof Uint32Array;
    const read = scoped(() => {
      const inputs = given.map((input) => (isWhole(input) ? null : tensor(input.values, input.shape)));
      const floats = inputs.filter((input) => input !== null);
      const call = () => [calls[op as keyof typeof calls](floats, options, given.filter(isWhole))].flat();
      const outputs = inference(call);
      if (counts.gradients.length === 0) return outputs;
      const dy = tensor(values("dy").values, values("dy").shape);
      const wrt = counts.gradients.map((i) => inputs[i]!);
      return [...outputs, ...valueAndGrad(() => ops.sum(ops.mul(call()[0], dy)), wrt).grads];
    });
    const parts = [...Array.from({ length: counts.outputs }, (_, i) => `outputs/${i}`), ...counts.gradients.map((i) => `gradients/${i}`)];
    const got = await Promise.all(read.map((t) => t.data()));
    for (const t of read) t.free(); // before anything can fail
    expect(read.map(({ shape }) => shape)).toEqual(parts.map((part) => values(part).shape));
    for (const [i, part] of parts.entries()) {
      const want = values(part).values;
      near(part, got[i], want, tolerance * Math.max(largest([...want].filter(Number.isFinite)), 1e-2), rounding); // 0 may be what numbers near 1 leave of each other
    }
  });

  test.each(others.adamw)("$name", async ({ name: it, options }) => {
    const { step, learningRate, betas, eps, weightDecay } = options as unknown as {
      step: number;
      learningRate: number;
      betas: number[];
      eps: number;
      weightDecay: number;
    };
    const [p, g, m, v] = Array.from({ length: 4 }, (_, i) => opValues.get(`${it}/inputs/${i}`)!);
    const parameter = tensor(p.values, p.shape);
    const optimizer = new AdamW([["weight", parameter]], { beta1: betas[0], beta2: betas[1], eps, decay: weightDecay });
    const stored = (of: Golden) => ({ shape: of.shape, data: of.values });
    optimizer.restore(
      step - 1,
      new Map([
        ["mean.weight", stored(m)],
        ["square.weight", stored(v)],
      ]),
    );
    scoped(() => void optimizer.step([tensor(g.values, g.shape)], learningRate));
    const [mean, square] = [...optimizer.state()].map(([, t]) => t);
    for (const [i, t] of [parameter, mean, square].entries()) {
      const want = opValues.get(`${it}/outputs/${i}`)!.values;
      near(["parameter", "mean", "square"][i], await t.data(), want, (name === "reference" ? 1e-7 : 1e-6) * largest(want));
    }
    optimizer.free();
    parameter.free();
  });

  test.each(others.clip)("$name", async ({ name: it, options }) => {
    const all = Array.from({ length: 3 }, (_, i) => opValues.get(`${it}/inputs/${i}`)!);
    const parameters = all.map(({ shape }, i) => [`p${i}`, tensor(new Float32Array(sizeOf(shape)), shape)] as const);
    const optimizer = new AdamW(parameters, { clip: (options as unknown as { maxNorm: number }).maxNorm, beta1: 0 });
    const read = scoped(() =>
      optimizer.step(
        all.map(({ values, shape }) => tensor(values, shape)),
        0,
      ),
    );
    const [norm, scale] = await read.data();
    const wantNorm = opValues.get(`${it}/outputs/3`)!.values[0];
    near("norm", [norm], [wantNorm], 1e-6 * wantNorm);
    // with beta1 = 0 the running mean is the clipped gradient
    const means = [...optimizer.state()].filter(([key]) => key.startsWith("mean."));
    for (const [i, [, mean]] of means.entries()) near(`gradient ${i}`, await mean.data(), opValues.get(`${it}/outputs/${i}`)!.values, 1e-6);
    expect(scale).toBeLessThanOrEqual(1);
    for (const t of [read, ...parameters.map(([, t]) => t)]) t.free();
    optimizer.free();
    expect(device().memory.live).toBe(0);
  });
});

// ---- models --------------------------------------------------------------------------------

const training = json<{ betas: number[]; eps: number; weightDecay: number; maxNorm: number; rates: number[] }>("training.json");
/** Issue 2: of a tensor's largest value, on every device. */
const TOLERANCE = 1e-4;

/** The whole comparison, once for each model. */
const model = (folder: string) => {
  const config = configFromHuggingFace(json(`${folder}/config.json`));
  const cells = json<{ input_ids: number[]; labels: number[] }[]>(`${folder}/cells.json`);
  const expected = goldens(`${folder}/expected.safetensors`);
  const want = (key: string): Float32Array => expected.get(key)!.values as Float32Array;
  const lengths = cells.map(({ input_ids }) => input_ids.length);
  const startOf = (cell: number) => lengths.slice(0, cell).reduce((a, b) => a + b, 0);
  const labels = Uint32Array.from(cells.flatMap(({ labels }) => labels.map((label) => (label < 0 ? IGNORED : label))));

  const load = () => modelFromSafetensors(bytes(`${folder}/model.safetensors`), config);
  const stream = () =>
    streamOf(
      cells.map(({ input_ids }) => input_ids),
      config,
    );
  const places = () =>
    index(
      labels.map((_, i) => i),
      labels.length,
    );
  const within = (what: string, got: ArrayLike<number>, key: string) => near(what, got, want(key), TOLERANCE * largest(want(key)));
  /** Rows of each cell, from a tensor of all rows. */
  const byCell = async (t: Tensor, check: (cell: number, rows: ArrayLike<number>) => void) => {
    const values = await t.data();
    const width = t.shape[1];
    cells.forEach((_, cell) => {
      check(cell, values.subarray(startOf(cell) * width, startOf(cell + 1) * width));
    });
    t.free();
  };

  describe(folder, () => {
    onDevices((device) => {
      const using = async (f: (model: Geneformer) => Promise<void>) => {
        const made = load();
        await f(made);
        freeParameters(made);
        expect(device().memory.live).toBe(0);
      };

      test("hidden states of every layer, and attention weights", () =>
        using(async (made) => {
          const hidden = inference(() => [...made.hidden(stream())]);
          expect(hidden).toHaveLength(config.layers + 1);
          for (const [layer] of made.layers.entries())
            for (const [cell, length] of lengths.entries()) {
              const start = startOf(cell);
              const weights = inference(() => made.layers[layer].weights(ops.slice(hidden[layer], 0, start, start + length)));
              within(`attention.${layer + 1}.${cell}`, await weights.data(), `attention.${layer + 1}.${cell}`);
              weights.free();
            }
          for (const [layer, x] of hidden.entries())
            await byCell(x, (cell, rows) => within(`hidden.${layer}.${cell}`, rows, `hidden.${layer}.${cell}`));
        }));

      test("logits", () =>
        using(async (made) => {
          await byCell(
            inference(() => made.predict(stream(), places())),
            (cell, rows) => within(`logits.${cell}`, rows, `logits.${cell}`),
          );
        }));

      test("loss and every gradient", () =>
        using(async (made) => {
          const named = [...parameters(made)];
          const { value, grads } = valueAndGrad(
            () => made.loss(stream(), places(), integers(labels)),
            named.map(([, t]) => t),
          );
          within("loss", await value.data(), "loss");
          value.free();
          const keys = named.map(([name]) => `gradient.${huggingFaceName(name)}`);
          expect(new Set(keys)).toEqual(new Set([...expected.keys()].filter((key) => key.startsWith("gradient."))));
          const all = keys.flatMap((key) => [...want(key)]);
          const rms = Math.sqrt(all.reduce((sum, g) => sum + g * g, 0) / all.length);
          for (const [i, key] of keys.entries()) {
            near(key, await grads[i].data(), want(key), TOLERANCE * Math.max(largest(want(key)), rms / 1000));
            grads[i].free();
          }
        }));

      test("five steps of AdamW", () =>
        using(async (made) => {
          const named = [...parameters(made)];
          const { betas, eps, weightDecay, maxNorm, rates } = training;
          const optimizer = new AdamW(named, { beta1: betas[0], beta2: betas[1], eps, decay: weightDecay, clip: maxNorm });
          const loss = () => made.loss(stream(), places(), integers(labels));
          for (const [step, rate] of rates.entries()) {
            const [value, clip] = scoped(() => {
              const { value, grads } = valueAndGrad(
                loss,
                named.map(([, t]) => t),
              );
              return [value, optimizer.step(grads, rate)];
            });
            within(`loss before step ${step}`, await value.data(), `step.${step}.loss`);
            within(`norm of step ${step}`, (await clip.data()).subarray(0, 1), `step.${step}.norm`);
            value.free();
            clip.free();
          }
          const after = inference(loss);
          within("the last loss", await after.data(), `step.${rates.length}.loss`);
          after.free();
          for (const [name, t] of named) {
            const theirs = huggingFaceName(name);
            if (!theirs.endsWith("attention.self.key.bias")) within(theirs, await t.data(), `final.${theirs}`); // its gradient is rounding alone
          }
          await byCell(
            inference(() => made.predict(stream(), places())),
            (cell, rows) => within(`final logits.${cell}`, rows, `final.logits.${cell}`),
          );
          optimizer.free();
        }));
    }, deviceNames);
  });
};

model("model-relu");
model("model-gelu");

// ---- schedules and random numbers ----------------------------------------------------------

test.each(schedules)("schedule $name, warmup $warmup of $total", ({ name, learningRate, warmup, total, steps, rates }) => {
  steps.forEach((step, i) => {
    expect(learningRate * schedule(name, step, warmup, total)).toBeCloseTo(rates[i], 12);
  });
});

test("the rates of the training steps are a linear schedule", () => {
  training.rates.forEach((rate, step) => {
    expect(1e-3 * schedule("linear", step, 2, 5)).toBeCloseTo(rate, 12);
  });
});

const vectors = json<{ key: [string, string]; counter: [string, string]; output: [string, string]; source: string }[]>("random.json");
const words = ([a, b]: readonly [string, string]) => [Number.parseInt(a, 16), Number.parseInt(b, 16)] as const;
test.each(vectors)("threefry of $counter under $key ($source)", ({ key, counter, output }) => {
  expect(threefry(words(key), words(counter))).toEqual(words(output));
});

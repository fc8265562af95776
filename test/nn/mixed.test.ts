/** Mixed precision: in products of f16 large numbers overflow and small ones vanish; with a loss scale, training comes to what it comes to in f32. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { crossEntropy, matmul } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { Linear } from "../../nn/linear.ts";
import { LossScale } from "../../nn/lossscale.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { capture } from "../../src/capture.ts";
import { choose, type Device, use } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { full, integers, keep, normal, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { deviceNames } from "../devices.ts";
import { halveAll } from "../halves.ts";

// ---- a network of two layers, and what it learns -----------------------------------------------

const [ROWS, WIDTH, INNER, CLASSES] = [64, 16, 32, 8];

/** Rows, their labels by a random linear rule, and a network that has yet to find it. */
function task() {
  const key = Key.from(5);
  const model = { up: new Linear(WIDTH, INNER, key.fold(0), 0.3), down: new Linear(INNER, CLASSES, key.fold(1), 0.3) };
  const x = keep(normal(key.fold(2), 1, [ROWS, WIDTH]));
  const rows = key.fold(2).normals(ROWS * WIDTH, 1);
  const rule = key.fold(3).normals(CLASSES * WIDTH, 1);
  const best = (row: number) => {
    const scores = Array.from({ length: CLASSES }, (_, c) =>
      Array.from({ length: WIDTH }, (_, i) => rows[row * WIDTH + i] * rule[c * WIDTH + i]).reduce((a, b) => a + b, 0),
    );
    return scores.indexOf(Math.max(...scores));
  };
  const labels = keep(integers(Array.from({ length: ROWS }, (_, row) => best(row))));
  const named = [...parameters(model)];
  const weights = named.map(([, t]) => t);
  const loss = (count?: Tensor) => crossEntropy(model.down.forward(model.up.forward(x, { relu: true })), labels, count && { count });
  return {
    named,
    weights,
    loss,
    free() {
      freeParameters(model);
      for (const t of [x, labels]) t.free();
    },
  };
}

const bitsOf = async (tensors: readonly Tensor[]) => (await Promise.all(tensors.map((t) => t.data()))).map((values) => [...values]);

/** What a step of training was. */
interface Taken {
  readonly loss: number;
  readonly skipped: boolean;
  /** The factor it left, and the weights. */
  readonly factor: number;
  readonly weights: number[][];
}

/** Steps by a loss scale that begins with `initial`, recorded once and replayed. */
async function train(on: Device, initial: number, steps: number): Promise<Taken[]> {
  const { named, weights, loss, free } = task();
  const scale = new LossScale({ initial });
  const optimizer = new AdamW(named, { decay: 0, clip: 1, scale });
  const step = capture(() => {
    const { value, grads } = valueAndGrad(() => {
      const own = loss();
      return [scale.apply(own), own] as const;
    }, weights);
    return { loss: value[1], clip: optimizer.apply(grads) };
  });
  if (on.choices?.abilities.mixed) halveAll(on, step);
  const taken: Taken[] = [];
  while (taken.length < steps) {
    optimizer.advance(0.02);
    const { loss, clip } = step();
    const [value, [, by], [factor], now] = await Promise.all([loss.item(), clip.data(), scale.state.data(), bitsOf(weights)]);
    taken.push({ loss: value, skipped: by < 0, factor, weights: now });
  }
  step.free();
  optimizer.free();
  scale.free();
  free();
  return taken;
}

describe.runIf(deviceNames.includes("webgpu"))("on webgpu", () => {
  /** One that rounds nothing, and one whose products are all made of f16. */
  let [exact, mixed]: readonly Device[] = [];
  const onEach = async <T>(f: (on: Device) => Promise<T>): Promise<readonly [T, T]> => [await f(use(exact)), await f(use(mixed))];

  beforeEach(async () => {
    exact = (await choose("webgpu")).device;
    mixed = (await choose("webgpu", { precision: "mixed" })).device;
  });
  afterEach(() => {
    expect([exact.memory.live, mixed.memory.live]).toEqual([0, 0]);
    use(null);
    exact.close();
    mixed.close();
  });

  test("a product of f16 makes Infinity of what f16 cannot hold, and 0 of what is too small for it", async () => {
    use(mixed);
    const product = (by: number) => inference(() => matmul(tensor([by, 0, 0, 0], [1, 4]), full([4, 4], 1)));
    halveAll(mixed, () => product(1));
    for (const [given, want] of [
      [65504, 65504], // the largest
      [65519, 65504], // rounded to it
      [65520, Number.POSITIVE_INFINITY],
      [-1e6, Number.NEGATIVE_INFINITY],
      [2 ** -24, 2 ** -24], // the least
      [2 ** -26, 0],
    ]) {
      const y = product(given);
      expect([...(await y.data())], `${given}`).toEqual(new Array(4).fill(want));
      y.free();
    }
  });

  test("gradients too small for f16 vanish without the factor, and are those of f32 with it", async () => {
    // divided by so many rows, no gradient of a logit reaches f16's least number
    const count = 2 ** 27;
    const gradients = async (on: Device, factor: number) => {
      const { weights, loss, free } = task();
      const many = full([1], count);
      const scale = new LossScale({ initial: factor });
      const back = () => valueAndGrad(() => scale.apply(loss(many)), weights).grads;
      if (on === mixed) halveAll(on, back);
      const grads = scoped(back);
      const values = await bitsOf(grads);
      for (const t of [...grads, many]) t.free();
      scale.free();
      free();
      return values.map((each) => each.map((value) => (value / factor) * count));
    };
    const [want, vanished] = await onEach((on) => gradients(on, 1));
    const [scaled, got] = await onEach((on) => gradients(on, 2 ** 24));
    expect(scaled).toEqual(want); // a power of two changes no bit of f32
    const [upWeight, , downWeight] = vanished;
    expect(new Set([...upWeight, ...downWeight])).toEqual(new Set([0]));
    want.forEach((each, i) => {
      const largest = Math.max(...each.map(Math.abs));
      expect(largest).toBeGreaterThan(0);
      each.forEach((value, j) => {
        expect(Math.abs(got[i][j] - value) / largest).toBeLessThan(2e-3);
      });
    });
    expect(got).not.toEqual(want);
  });

  test("thirty steps come to the loss of f32, to half a percent", async () => {
    const [want, got] = await onEach((on) => train(on, 2 ** 16, 30));
    expect(got.map(({ skipped }) => skipped)).toEqual(new Array(30).fill(false));
    expect(want[29].loss).toBeLessThan(0.05 * want[0].loss);
    got.forEach(({ loss }, i) => {
      expect(Math.abs(loss / want[i].loss - 1), `step ${i + 1}`).toBeLessThan(0.005);
    });
    expect(got[29].weights).not.toEqual(want[29].weights); // it did round
  });

  test("a factor far too high is halved step by step, no weight changing, until f16 holds the gradients; then training goes on", async () => {
    use(exact);
    const { weights, free } = task();
    const start = await bitsOf(weights);
    free();
    const [want, got] = await onEach((on) => train(on, 2 ** 40, 50));
    expect(want.every(({ skipped }) => !skipped)).toBe(true); // f32 holds them
    const skipped = got.findIndex((step) => !step.skipped);
    expect(skipped).toBeGreaterThan(10);
    expect(skipped).toBeLessThan(26); // 2^40 to 2^15
    got.slice(0, skipped).forEach((step, i) => {
      expect(step).toMatchObject({ skipped: true, factor: 2 ** (39 - i), loss: got[0].loss });
      expect(step.weights).toEqual(start);
    });
    expect(got[skipped].weights).not.toEqual(start);
    expect(got[49].loss).toBeLessThan(0.05 * got[0].loss);
  });
});

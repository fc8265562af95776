/** The loss scale: it changes no step, skips those that overflow, and grows and shrinks as it is told. */

import { expect, test } from "vitest";
import { mul, sum } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { LossScale, type LossScaleOptions } from "../../nn/lossscale.ts";
import { AdamW, type Optimizer, SGD } from "../../nn/optimizer.ts";
import { keep, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

const start = [0.5, -2, 3, 1e-3];

/** Steps on the sum of a w, by these factors a, and the weights, state and norms that they come to. */
async function train(
  make: (w: Tensor, scale: LossScale | null) => Optimizer,
  factors: readonly number[],
  options: LossScaleOptions | null,
) {
  const w = keep(tensor(start));
  const scale = options && new LossScale(options);
  const optimizer = make(w, scale);
  const norms: number[] = [];
  for (const a of factors) {
    const clip = scoped(() => {
      const { grads } = valueAndGrad(() => {
        const loss = sum(mul(mul(w, w), tensor([a])));
        return scale ? scale.apply(loss) : loss;
      }, [w]);
      return optimizer.step(grads, 0.1);
    });
    norms.push((await clip.data())[0]);
    clip.free();
  }
  const weights = await w.data();
  const state = scale ? [...(await scale.state.data())] : [];
  const names = [...optimizer.state()].map(([name]) => name);
  optimizer.free();
  scale?.free();
  w.free();
  return { weights, state, norms, names };
}

const adam = (w: Tensor, scale: LossScale | null) => new AdamW([["w", w]], { clip: 1, scale });
const descent = (w: Tensor, scale: LossScale | null) => new SGD([["w", w]], { momentum: 0.9, clip: 2, scale });

onDevices(() => {
  test.each([
    ["AdamW", adam],
    ["SGD", descent],
  ] as const)("%s takes the same steps with a factor, a power of 2, as without", async (_, make) => {
    const factors = [1, 0.01, 3];
    const plain = await train(make, factors, null);
    const scaled = await train(make, factors, { initial: 1024 });
    scaled.weights.forEach((value, i) => {
      expect(value).toBeCloseTo(plain.weights[i], 6);
    });
    scaled.norms.forEach((norm, i) => {
      expect(norm / plain.norms[i]).toBeCloseTo(1, 5);
    });
    expect(scaled.state).toEqual([1024, 3]);
    expect(scaled.names).toEqual([...plain.names, "lossScale"]);
  });

  test.each([
    ["AdamW", adam],
    ["SGD", descent],
  ] as const)("%s skips a step whose gradients overflow, and halves the factor", async (_, make) => {
    const before = await train(make, [1], { initial: 2 ** 20 });
    const after = await train(make, [1, 1e35, Number.NaN], { initial: 2 ** 20, backoff: 0.5 });
    expect(after.weights).toEqual(before.weights);
    expect(after.state).toEqual([2 ** 18, 0]);
  });

  test("the factor grows after so many steps in a row that were none of them skipped", async () => {
    const states: number[][] = [];
    for (let n = 1; n <= 6; n++)
      states.push((await train(adam, [1, 1, Number.POSITIVE_INFINITY, 1, 1, 1].slice(0, n), { initial: 8, growth: 4, interval: 3 })).state);
    expect(states).toEqual([
      [8, 1],
      [8, 2],
      [4, 0],
      [4, 1],
      [4, 2],
      [16, 0],
    ]);
  });

  test("it multiplies a loss of either shape", async () => {
    const scale = new LossScale({ initial: 4 });
    for (const shape of [[], [1]]) {
      const y = inference(() => scale.apply(tensor([0.75], shape)));
      expect(y.shape).toEqual(shape);
      expect(await y.item()).toBe(3);
      y.free();
    }
    scale.free();
  });

  test.each([
    [{ initial: 0 }, "LossScale(options): initial must be positive; got 0"],
    [{ growth: 0.5 }, "LossScale(options): growth must be 1 or more; got 0.5"],
    [{ backoff: 1 }, "LossScale(options): backoff must be between 0 and 1; got 1"],
    [{ interval: 1.5 }, "LossScale(options): interval must be an integer, 1 or more; got 1.5"],
    [{ intervall: 3 }, /there is no option "intervall".*"interval"/],
  ])("%j is refused", (options: object, message) => expect(() => new LossScale(options)).toThrow(message));
});

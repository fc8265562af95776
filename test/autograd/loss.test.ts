/** Losses against torch.nn.functional (torch 1.13, f64): cross_entropy with weight, label_smoothing and ignored labels, and mse_loss. */

import { describe, expect, test } from "vitest";
import { crossEntropy, mse } from "../../autograd/ops.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { integers, ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

const logits = [1, -2, 0.5, 0, 0.25, 3, -1, 2, -0.5, 0.75, 1.5, -3, 2, 2, 2, -4, 0, 1, 0, -1];
const labels = [0, 3, IGNORED, 1, 2];
const weights = [0.5, 2, 0, 1.25];

onDevices((device) => {
  /** The value of a loss, and its gradients. */
  const evaluate = async (f: (...args: Tensor[]) => Tensor, ...args: (readonly [values: number[], shape: number[]])[]) => {
    const made = scoped(() => {
      const xs = args.map(([values, shape]) => tensor(values, shape));
      const { value, grads } = valueAndGrad(() => f(...xs), xs);
      return [value, ...grads];
    });
    const read = await Promise.all(made.map(async (t) => [...(await t.data())]));
    for (const t of made) t.free();
    expect(device().memory.live).toBe(0);
    return read;
  };
  const close = (found: readonly number[], wanted: readonly number[]) => {
    expect(found.length).toBe(wanted.length);
    for (const [i, x] of found.entries()) expect(x).toBeCloseTo(wanted[i], 6);
  };

  describe("cross_entropy with", () => {
    test.each([
      [
        "label_smoothing",
        { smoothing: 0.1 },
        1.2897582688776732,
        [
          [-0.107744245, -0.000101011, 0.068660027, 0.039185228],
          [0.004771111, 0.166149176, -0.003092399, -0.167827888],
          [0, 0, 0, 0],
          [0.077014536, -0.147985464, 0.077014536, -0.006043608],
          [0.042902983, 0.127361661, -0.182097017, 0.011832372],
        ],
      ],
      [
        "weight",
        { weights },
        1.1376062406749174,
        [
          [-0.067463597, 0.003279461, 0.039952014, 0.024232122],
          [0.014694814, 0.229865568, 0.004210135, -0.248770517],
          [0, 0, 0, 0],
          [0.17763101, -0.355702323, 0.17763101, 0.000440303],
          [0, 0, 0, 0],
        ],
      ],
      [
        "weight and label_smoothing",
        { weights, smoothing: 0.1 },
        1.2297485268285264,
        [
          [-0.051699995, -0.009766919, 0.043447816, 0.018019099],
          [0.01099411, 0.210785595, 0.004104881, -0.225884587],
          [0, 0, 0, 0],
          [0.164861029, -0.325138971, 0.168194363, -0.007916421],
          [0.001581965, 0.000027833, 0.004915298, -0.006525096],
        ],
      ],
      [
        "weight and label_smoothing of all",
        { weights, smoothing: 1 },
        2.059029102211007,
        [
          [0.090172422, -0.127184344, 0.074910027, -0.037898105],
          [-0.022312223, 0.039065843, 0.003157601, -0.019911221],
          [0, 0, 0, 0],
          [0.049931203, -0.050068797, 0.083264536, -0.083126941],
          [0.01581965, 0.000278328, 0.049152983, -0.065250961],
        ],
      ],
    ])("%s", async (_, { weights, smoothing }: { weights?: number[]; smoothing?: number }, value, gradient) => {
      const call = (x: Tensor) => crossEntropy(x, integers(labels), { smoothing, weights: weights ? tensor(weights) : null });
      const [loss, dx] = await evaluate(call, [logits, [5, 4]]);
      close(loss, [value]);
      close(dx, gradient.flat());
    });
  });

  test("equal weights change nothing, and a count takes the place of the weights' sum", async () => {
    const at = async (options: { weights?: number; count?: number }) =>
      evaluate(
        (x) =>
          crossEntropy(x, integers(labels), {
            weights: options.weights ? tensor(new Array(4).fill(options.weights)) : null,
            count: options.count ? tensor([options.count]) : null,
          }),
        [logits, [5, 4]],
      );
    const [plain, weighted, counted] = [await at({}), await at({ weights: 3 }), await at({ weights: 3, count: 24 })];
    for (const part of [0, 1]) {
      close(weighted[part], plain[part]);
      close(
        counted[part],
        plain[part].map((value) => value / 2),
      );
    }
  });

  test("where no row counts, or none weighs anything, the loss and its gradient are 0", async () => {
    const nothing = [[0], [0, 0, 0, 0]];
    for (const options of [{}, { smoothing: 0.5 }])
      expect(
        await evaluate(
          (x) => crossEntropy(x, integers([IGNORED, IGNORED]), options),
          [
            [1, 2, 3, 4],
            [2, 2],
          ],
        ),
      ).toEqual(nothing);
    const unweighed = await evaluate(
      (x) => crossEntropy(x, integers([0, 1]), { weights: tensor([0, 0]) }),
      [
        [1, 2, 3, 4],
        [2, 2],
      ],
    );
    for (const [i, part] of unweighed.entries()) close(part, nothing[i]);
    const held = ones([1]);
    await held.data(); // whose buffer the loss may get
    held.free();
    for (const options of [{}, { smoothing: 0.5 }])
      expect(await evaluate((x) => crossEntropy(x, integers([]), options), [[], [0, 3]])).toEqual([[0], []]);
  });

  test("a label beyond the columns shows in the weighted loss too, and touches no other row's gradient", async () => {
    const at = (label: number) =>
      evaluate(
        (x) => crossEntropy(x, integers([0, label, 1]), { smoothing: 0.1, count: tensor([1]) }),
        [
          [1, 2, 3, 4, 5, 6],
          [3, 2],
        ],
      );
    const [good, bad] = [await at(IGNORED), await at(2)];
    expect(bad[0][0]).toBeGreaterThan(1e38);
    expect([...bad[1].slice(0, 2), ...bad[1].slice(4)]).toEqual([...good[1].slice(0, 2), ...good[1].slice(4)]);
  });

  test("mse_loss", async () => {
    const [value, da, db] = await evaluate(
      mse,
      [
        [1, -2, 0.5, 0, 3, 0.25],
        [2, 1, 3, 1, 1, 1],
      ],
      [
        [0.5, 1, 0.5, -1, 2, 4],
        [2, 1, 3, 1, 1, 1],
      ],
    );
    close(value, [4.21875]);
    close(da, [1 / 6, -1, 0, 1 / 3, 1 / 3, -1.25]);
    close(db, [-1 / 6, 1, 0, -1 / 3, -1 / 3, 1.25]);
    expect(await evaluate(mse, [[], [0, 2]], [[], [0, 2]])).toEqual([[0], [], []]);
    expect(await evaluate(mse, [[3], []], [[1], []])).toEqual([[4], [4], [-4]]);
  });

  test("errors say what disagrees", () => {
    const [x, y, w] = [tensor([1, 2], [1, 2]), integers([0]), tensor([1, 1, 1])];
    expect(() => crossEntropy(x, y, { smoothing: 1.5 })).toThrow("crossEntropy(m v, m): smoothing is 1.5; give a share from 0 to 1");
    expect(() => crossEntropy(x, y, { weights: w })).toThrow(
      "crossEntropy(m v, m, v): v is 2 in argument 1 but 3 in argument 3; got [1, 2] and [1] and [3]",
    );
    expect(() => mse(x, w)).toThrow("mse(a, b): shapes differ; got [1, 2] and [3]; make them equal, nothing is stretched here");
    for (const t of [x, y, w]) t.free();
  });
});

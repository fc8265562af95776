/** AdamW against a few lines of f64, on every device: bias correction, decay, clipping, state that comes back. */

import { describe, expect, test } from "vitest";
import { AdamW, type AdamWOptions, decaysByDefault } from "../../nn/optimizer.ts";
import { Key } from "../../src/key.ts";
import { scoped, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

/** Loshchilov and Hutter 2019, algorithm 2, with PyTorch's order, for one parameter. */
function expected(
  w: readonly number[],
  grads: readonly (readonly number[])[],
  rates: readonly number[],
  { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.01, clip = 0 }: AdamWOptions,
) {
  const weights = [...w];
  const [m, v] = [new Array<number>(w.length).fill(0), new Array<number>(w.length).fill(0)];
  grads.forEach((grad, step) => {
    const norm = Math.hypot(...grad);
    const scale = clip > 0 ? Math.min(1, clip / (norm + 1e-6)) : 1;
    grad.forEach((raw, i) => {
      const g = raw * scale;
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const first = m[i] / (1 - beta1 ** (step + 1));
      const second = v[i] / (1 - beta2 ** (step + 1));
      weights[i] -= rates[step] * (decay * weights[i] + first / (Math.sqrt(second) + eps));
    });
  });
  return weights;
}

const noise = (seed: number, n: number) => [...Key.from(seed).uniforms(n)].map((u) => Math.fround(2 * u - 1));

onDevices((device, name) => {
  const tolerance = name === "reference" ? 1e-12 : 1e-6;

  test.each<[string, AdamWOptions]>([
    ["plain", {}],
    ["no decay", { decay: 0 }],
    ["strong decay", { decay: 0.5 }],
    ["clipped", { clip: 0.7 }],
    ["other betas", { beta1: 0.5, beta2: 0.9, eps: 1e-3 }],
  ])("%s, for six steps at changing rates", async (_, options) => {
    const n = 300; // more than a workgroup
    const start = noise(1, n);
    const grads = Array.from({ length: 6 }, (_, step) => noise(2 + step, n).map((g) => Math.fround(g / (step + 1))));
    const rates = [0, 0.1, 0.05, 0.01, 0.2, 0.001];
    const weight = tensor(start);
    const optimizer = new AdamW([["layer.weight", weight]], options);
    const norms: number[] = [];
    for (const [step, grad] of grads.entries()) {
      const clip = scoped(() => optimizer.step([tensor(grad)], rates[step]));
      norms.push((await clip.data())[0]);
      clip.free();
    }
    const got = await weight.data();
    expected(start, grads, rates, options).forEach((value, i) => {
      expect(Math.abs(got[i] - value)).toBeLessThanOrEqual(tolerance * 3);
    });
    norms.forEach((norm, step) => {
      expect(norm).toBeCloseTo(Math.hypot(...grads[step]), 5);
    });
    expect(optimizer.steps).toBe(6);
    optimizer.free();
    weight.free();
    expect(device().memory.live).toBe(0);
  });

  test("the first step moves by the rate, whatever the gradient's size: bias correction", async () => {
    const weight = tensor([0, 0, 0]);
    const optimizer = new AdamW([["weight", weight]], { decay: 0 });
    scoped(() => void optimizer.step([tensor([1e-3, -5, 70])], 0.01));
    const [a, b, c] = await weight.data();
    for (const [got, want] of [
      [a, -0.01],
      [b, 0.01],
      [c, -0.01],
    ])
      expect(got).toBeCloseTo(want, 6);
    optimizer.free();
    weight.free();
  });

  test("clipping takes the norm of all gradients together", async () => {
    const all = [tensor([3, 0]), tensor([0, 4])];
    const optimizer = new AdamW(
      [
        ["a", all[0]],
        ["b", all[1]],
      ],
      { clip: 1 },
    );
    const made = scoped(() => optimizer.step([tensor([3, 0]), tensor([0, 4])], 0));
    const [norm, scale] = await made.data();
    expect(norm).toBeCloseTo(5, 6);
    expect(scale).toBeCloseTo(0.2, 6);
    optimizer.free();
    for (const t of [...all, made]) t.free();
  });

  test("biases and layer norms do not decay", async () => {
    const names = ["layers.0.query.weight", "layers.0.query.bias", "layers.0.norm1.weight", "embeddings.norm.bias", "head.bias"];
    const all = names.map(() => tensor([1]));
    const optimizer = new AdamW(
      names.map((name, i) => [name, all[i]] as const),
      { decay: 0.5 },
    );
    scoped(
      () =>
        void optimizer.step(
          names.map(() => tensor([0])),
          0.1,
        ),
    );
    const after = await Promise.all(all.map((t) => t.item()));
    expect(after.map((value) => Number(value.toFixed(6)))).toEqual([0.95, 1, 1, 1, 1]);
    optimizer.free();
    for (const t of all) t.free();
  });

  test("a state saved and restored goes on to the same bits", async () => {
    const steps = async (restart: boolean) => {
      const weight = tensor(noise(1, 5));
      let optimizer = new AdamW([["w", weight]]);
      for (let step = 0; step < 6; step++) {
        if (restart && step === 3) {
          const saved = new Map<string, { shape: readonly number[]; data: ArrayLike<number> }>();
          for (const [key, t] of optimizer.state()) saved.set(key, { shape: t.shape, data: await t.data() });
          const { steps } = optimizer;
          optimizer.free();
          optimizer = new AdamW([["w", weight]]);
          optimizer.restore(steps, saved);
        }
        scoped(() => void optimizer.step([tensor(noise(10 + step, 5))], 0.1));
      }
      const values = [...(await weight.data())];
      optimizer.free();
      weight.free();
      return values;
    };
    expect(await steps(true)).toEqual(await steps(false));
  });

  test("what does not fit is named", () => {
    const weight = tensor([1, 2]);
    const optimizer = new AdamW([["w", weight]]);
    expect(() => optimizer.step([], 0.1)).toThrow(new RangeError("AdamW.step(grads, rate): 0 gradients for 1 parameters"));
    expect(() => optimizer.restore(1, new Map())).toThrow(new TypeError('AdamW.restore: "mean.w" is missing in the optimiser\'s state'));
    expect(() => optimizer.restore(1, new Map([["mean.w", { shape: [3], data: [1, 2, 3] }]]))).toThrow('"mean.w" is misshapen');
    optimizer.free();
    weight.free();
  });
});

describe("decaysByDefault", () => {
  test.each([
    ["layers.3.up.weight", true],
    ["embeddings.word.weight", true],
    ["layers.3.up.bias", false],
    ["bias", false],
    ["layers.3.norm2.weight", false],
    ["encoder.LayerNorm.weight", false],
    ["unbiased.weight", true],
  ])("%s: %s", (name, decays) => {
    expect(decaysByDefault(name)).toBe(decays);
  });
});

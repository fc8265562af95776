/** The optimisers against PyTorch's and a few lines of f64, on every device: groups, clipping, bias correction, decay, state that comes back. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Adam, AdamW, type AdamWOptions, clipGradients, decaysByDefault, type Optimizer, SGD } from "../../nn/optimizer.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import type { Shape } from "../../src/shape.ts";
import { scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";

type Values = Readonly<Record<string, readonly number[]>>;

/** What test/golden/optimizers.py wrote. */
const golden: {
  shapes: Record<string, Shape>;
  rates: number[];
  start: Values;
  gradients: Values[];
  cases: { name: string; optimizer: "AdamW" | "Adam" | "SGD"; options: object; final: Values; norms: number[] }[];
} = JSON.parse(readFileSync(new URL("../golden/optimizers.json", import.meta.url), "utf8"));
const classes = { AdamW, Adam, SGD };

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

/** Values by name as tensors, in order. */
const tensorsOf = (values: Values): [string, Tensor][] =>
  Object.entries(values).map(([name, numbers]) => [name, tensor(numbers, golden.shapes[name])]);

/** What a saved state is read back as. */
async function saved(optimizer: Optimizer): Promise<Map<string, { shape: Shape; data: ArrayLike<number> }>> {
  const state = new Map<string, { shape: Shape; data: ArrayLike<number> }>();
  for (const [name, t] of optimizer.state()) state.set(name, { shape: t.shape, data: await t.data() });
  return state;
}

const noise = (seed: number, n: number) => [...Key.from(seed).uniforms(n)].map((u) => Math.fround(2 * u - 1));

onDevices((device, name) => {
  const tolerance = name === "reference" ? 1e-12 : 1e-6;

  test.each(golden.cases)("$name: five steps as PyTorch's", async ({ optimizer: kind, options, final, norms }) => {
    const parameters = tensorsOf(golden.start);
    const optimizer = new classes[kind](parameters, options);
    for (const [step, gradients] of golden.gradients.entries()) {
      const grads = tensorsOf(gradients).map(([, t]) => t);
      const clip = optimizer.step(grads, golden.rates[step]);
      expect((await clip.data())[0]).toBeCloseTo(norms[step], 5);
      for (const t of [...grads, clip]) t.free();
    }
    for (const [key, t] of parameters) {
      const got = await t.data();
      for (const [i, value] of final[key].entries()) expect(Math.abs(got[i] - value), `${key}[${i}]`).toBeLessThanOrEqual(5 * tolerance);
      t.free();
    }
    optimizer.free();
    expect(device().memory.live).toBe(0);
  });

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

  test.each<[string, (parameters: [string, Tensor][]) => Optimizer]>([
    ["AdamW", (parameters) => new AdamW(parameters)],
    ["Adam", (parameters) => new Adam(parameters, { decay: 0.1 })],
    ["SGD", (parameters) => new SGD(parameters, { momentum: 0.9, dampening: 0.5 })],
  ])("a state of %s saved and restored goes on to the same bits", async (_, make) => {
    const steps = async (restart: boolean) => {
      const weight = tensor(noise(1, 5));
      let optimizer = make([["w", weight]]);
      for (let step = 0; step < 6; step++) {
        if (restart && step === 3) {
          const { steps } = optimizer;
          const state = await saved(optimizer);
          optimizer.free();
          optimizer = make([["w", weight]]);
          optimizer.restore(steps, state);
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

  test("of several groups that match, the later one has the last word, and says nothing of what it leaves open", async () => {
    const names = ["layers.0.up.weight", "layers.1.up.weight", "layers.1.up.bias", "head.weight"];
    const all = names.map((name): [string, Tensor] => [name, tensor([1])]);
    const optimizer = new AdamW(all, {
      decay: 0.1,
      groups: [
        { match: "layers.**", decay: 0.5 },
        { match: (name) => name.startsWith("layers.1."), rate: 0.1 },
      ],
    });
    scoped(
      () =>
        void optimizer.step(
          all.map(() => tensor([0])),
          0.1,
        ),
    ); // no gradient: only decay
    const after = await Promise.all(all.map(([, t]) => t.item()));
    expect(after.map((value) => Number(value.toFixed(6)))).toEqual([0.95, 0.995, 1, 0.99]);
    optimizer.free();
    for (const [, t] of all) t.free();
  });

  test("a group may let biases decay, and Adam and SGD let everything", async () => {
    const moved = async (make: (w: [string, Tensor][]) => Optimizer) => {
      const bias = tensor([1]);
      const optimizer = make([["norm.bias", bias]]);
      scoped(() => void optimizer.step([tensor([0])], 0.5));
      const value = await bias.item();
      optimizer.free();
      bias.free();
      return value;
    };
    expect(await moved((w) => new AdamW(w, { decay: 0.5 }))).toBe(1);
    expect(await moved((w) => new AdamW(w, { groups: [{ match: "**", decay: 0.5, decays: () => true }] }))).toBeCloseTo(0.75, 6);
    expect(await moved((w) => new SGD(w, { decay: 0.5 }))).toBeCloseTo(0.75, 6);
    expect(await moved((w) => new Adam(w, { decay: 0.5 }))).toBeCloseTo(0.5, 6); // the first step is the rate
  });

  test("SGD without momentum keeps nothing beside a parameter", () => {
    const parameters = tensorsOf(golden.start);
    const state = (optimizer: Optimizer) => {
      const names = [...optimizer.state()].map(([name]) => name);
      optimizer.free();
      return names;
    };
    expect(state(new SGD(parameters))).toEqual([]);
    expect(state(new SGD(parameters, { groups: [{ match: "*.bias", momentum: 0.9 }] }))).toEqual(["momentum.layer.bias"]);
    expect(state(new Adam(parameters.slice(0, 1)))).toEqual(["mean.embeddings.weight", "square.embeddings.weight"]);
    for (const [, t] of parameters) t.free();
  });

  test("a step's kernels are the same whatever its numbers: advance() writes them, apply() runs", async () => {
    const on = watched(device());
    await withDevice(on, async () => {
      const [whole, halves] = [tensor([1, 2]), tensor([1, 2])];
      const [one, two] = [new SGD([["w", whole]], { momentum: 0.9, clip: 1 }), new SGD([["w", halves]], { momentum: 0.9, clip: 1 })];
      const g = tensor([3, 4]);
      const lists = [0.1, 0.2, 0].map((rate) => {
        two.advance(rate);
        on.ran.length = 0;
        two.apply([g]).free();
        const ran = [...on.ran];
        one.step([g], rate).free();
        return ran;
      });
      expect(lists[0].length).toBeGreaterThan(0);
      expect(new Set(lists.map((ran) => ran.join())).size).toBe(1);
      expect(await halves.data()).toEqual(await whole.data());
      expect(two.steps).toBe(3);
      for (const made of [whole, halves, g, one, two]) made.free();
    });
  });

  test("clipGradients scales all by one factor, and leaves what it was given", async () => {
    const grads = [tensor([3, 0]), tensor([0, 4], [2, 1])];
    for (const [most, factor] of [
      [1, 0.2],
      [10, 1],
    ]) {
      const clipped = clipGradients(grads, most);
      const [norm, scale] = await clipped.clip.data();
      expect(norm).toBeCloseTo(5, 6);
      expect(scale).toBeCloseTo(factor, 6);
      expect(clipped.grads.map(({ shape }) => shape)).toEqual([[2], [2, 1]]);
      expect((await clipped.grads[0].data())[0]).toBeCloseTo(3 * factor, 6);
      expect((await clipped.grads[1].data())[1]).toBeCloseTo(4 * factor, 6);
      for (const t of [...clipped.grads, clipped.clip]) t.free();
    }
    expect([...(await grads[0].data())]).toEqual([3, 0]);
    expect(() => clipGradients(grads, 0)).toThrow(new RangeError("clipGradients(grads, most): most must be positive; got 0"));
    for (const t of grads) t.free();
    expect(device().memory.live).toBe(0);
  });

  test("a gradient that is NaN is not clipped away", async () => {
    const weight = tensor([1, 1]);
    const optimizer = new SGD([["w", weight]], { clip: 1 });
    const clip = scoped(() => optimizer.step([tensor([Number.NaN, 1])], 0.1));
    expect([...(await clip.data())]).toEqual([Number.NaN, Number.NaN]);
    expect([...(await weight.data())]).toEqual([Number.NaN, Number.NaN]);
    for (const made of [weight, optimizer, clip]) made.free();
  });

  test("what does not fit is named", () => {
    const weight = tensor([1, 2]);
    const optimizer = new AdamW([["w", weight]]);
    expect(() => optimizer.step([], 0.1)).toThrow(new RangeError("AdamW.step(grads, rate): 0 gradients for 1 parameters"));
    expect(() => optimizer.restore(1, new Map())).toThrow(new TypeError('AdamW.restore: "mean.w" is missing in the optimiser\'s state'));
    expect(() => optimizer.restore(1, new Map([["mean.w", { shape: [3], data: [1, 2, 3] }]]))).toThrow('"mean.w" is misshapen');
    const g = tensor([1, 2, 3]);
    expect(() => optimizer.step([g], 0.1)).toThrow(new RangeError('AdamW.step(grads, rate): the gradient of "w" is [3], not [2]'));
    expect(() => optimizer.step([weight], Number.NaN)).toThrow("AdamW.step(grads, rate): rate must be 0 or more; got NaN");
    expect(optimizer.steps).toBe(0);
    g.free();
    optimizer.free();
    weight.free();
  });
});

describe("options that cannot be:", () => {
  test.each<[string, () => unknown]>([
    ['SGD(parameters, options): there is no option "weightDecay"; did you mean "decay"?', () => new SGD([], { weightDecay: 1 } as object)],
    [
      'Adam(parameters, options): there is no option "beta"; did you mean "beta1"?',
      () => new Adam([], { groups: [{ match: "*", beta: 1 } as never] }),
    ],
    ["Adam(parameters, options): clip must be 0 or more; got -1", () => new Adam([], { clip: -1 })],
    [
      "AdamW(parameters, options): there are no parameters; give a list of [name, tensor], which a generator gives only once",
      () => new AdamW([], { groups: [{ match: "a*" }] }),
    ],
  ])("%s", (message, make) => {
    expect(make).toThrow(new RangeError(message));
  });

  onDevices(() => {
    test.each<[string, (w: [string, Tensor][]) => Optimizer]>([
      [
        'AdamW(parameters, options): groups[0]: "upp.*" matches no parameter; there are 1, such as "up.weight"',
        (w) => new AdamW(w, { groups: [{ match: "upp.*" }] }),
      ],
      [
        'AdamW(parameters, options): groups[1]: match holds for no parameter; there are 1, such as "up.weight"',
        (w) => new AdamW(w, { groups: [{ match: "*.weight" }, { match: () => false }] }),
      ],
      ["AdamW(parameters, options): beta1 must be 0 or more and below 1; got 1", (w) => new AdamW(w, { beta1: 1 })],
      ["Adam(parameters, options): beta2 must be 0 or more and below 1; got -0.1", (w) => new Adam(w, { beta2: -0.1 })],
      ["Adam(parameters, options): eps must be 0 or more; got NaN", (w) => new Adam(w, { eps: Number.NaN })],
      ["SGD(parameters, options): decay must be 0 or more; got -1", (w) => new SGD(w, { groups: [{ match: "**", decay: -1 }] })],
      ["SGD(parameters, options): rate must be 0 or more; got -1", (w) => new SGD(w, { groups: [{ match: "**", rate: -1 }] })],
      ["SGD(parameters, options): momentum must be 0 or more; got -1", (w) => new SGD(w, { momentum: -1 })],
      ["SGD(parameters, options): dampening must be at most 1; got 2", (w) => new SGD(w, { momentum: 0.9, dampening: 2 })],
      [
        "SGD(parameters, options): nesterov must be false without momentum, or with dampening; got true",
        (w) => new SGD(w, { nesterov: true }),
      ],
    ])("%s", (message, make) => {
      const weight = tensor([1]);
      expect(() => make([["up.weight", weight]])).toThrow(new RangeError(message));
      weight.free();
    });
  }, ["reference"]);
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

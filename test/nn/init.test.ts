/** How weights begin: the spread that each paper asks for, and the same numbers on every device. */

import { describe, expect, test } from "vitest";
import { MultiHeadAttention } from "../../nn/attention.ts";
import { Embedding } from "../../nn/embedding.ts";
import * as init from "../../nn/init.ts";
import { LayerNorm } from "../../nn/layernorm.ts";
import { Linear } from "../../nn/linear.ts";
import { freeParameters } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rmsnorm.ts";
import { Key } from "../../src/key.ts";
import { scoped } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

const OUT = 120;
const IN = 80;
const shape = [OUT, IN];
const n = OUT * IN;

/** The deviation of N(0, 1) cut at two: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)) (Johnson, Kotz and Balakrishnan 1994, 10.1). */
const CUT = 0.8796256610342398;

onDevices((device) => {
  const moments = async (make: init.Init, of: readonly number[] = shape) => {
    const made = scoped(() => make(Key.from(7), of)); // kept: it outlives the scope
    expect(made.shape).toEqual(of);
    const values = [...(await made.data())];
    made.free();
    expect(device().memory.live).toBe(0);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return {
      mean,
      deviation: Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length),
      largest: Math.max(...values.map(Math.abs)),
    };
  };

  /** Deviation, and the bound of an even distribution with it. */
  test.each<[string, init.Init, number, "normal" | "even" | "cut"]>([
    ["normal", init.normal, 1, "normal"],
    ["normal of 0.02", (key, shape) => init.normal(key, shape, 0.02), 0.02, "normal"],
    ["truncatedNormal", init.truncatedNormal, CUT, "cut"],
    ["truncatedNormal of 0.02", (key, shape) => init.truncatedNormal(key, shape, 0.02), 0.02 * CUT, "cut"],
    ["uniform of -3 to 3", (key, shape) => init.uniform(key, shape, -3, 3), Math.sqrt(3), "even"],
    ["xavierUniform", init.xavierUniform, Math.sqrt(2 / (IN + OUT)), "even"],
    ["xavierNormal, gain 2", (key, shape) => init.xavierNormal(key, shape, 2), 2 * Math.sqrt(2 / (IN + OUT)), "normal"],
    ["kaimingUniform", init.kaimingUniform, Math.sqrt(2 / IN), "even"],
    ["kaimingUniform, back", (key, shape) => init.kaimingUniform(key, shape, { fan: "out" }), Math.sqrt(2 / OUT), "even"],
    ["kaimingNormal, leaky", (key, shape) => init.kaimingNormal(key, shape, { slope: 0.5 }), Math.sqrt(2 / 1.25 / IN), "normal"],
  ])("%s", async (_, make, want, kind) => {
    const { mean, deviation, largest } = await moments(make);
    expect(Math.abs(mean)).toBeLessThan((4 * want) / Math.sqrt(n));
    expect(deviation / want).toBeGreaterThan(0.97); // four standard errors of a deviation are 4 / sqrt(2 n) = 0.03
    expect(deviation / want).toBeLessThan(1.03);
    const bound = kind === "even" ? Math.sqrt(3) * want : (2 * want) / CUT;
    if (kind === "normal") expect(largest).toBeGreaterThan(3 * want);
    else {
      expect(largest).toBeLessThanOrEqual(Math.fround(bound) * (1 + 1e-6));
      expect(largest).toBeGreaterThan(0.99 * bound);
    }
  });

  test("uniform is from 0 to 1 when nothing else is said", async () => {
    const { mean, deviation, largest } = await moments(init.uniform);
    expect(mean).toBeCloseTo(0.5, 1);
    expect(deviation).toBeCloseTo(1 / Math.sqrt(12), 2);
    expect(largest).toBeLessThanOrEqual(1);
  });

  test("the field of a convolution counts", async () => {
    const { deviation } = await moments(init.kaimingNormal, [60, 10, 4, 4]);
    expect(deviation / Math.sqrt(2 / (10 * 16))).toBeCloseTo(1, 1);
    expect(() => init.xavierUniform(Key.from(1), [5])).toThrow(
      new RangeError("init(key, shape): a shape of 1 axes has no inputs and outputs; give two or more"),
    );
  });

  test("zeros are zeros, and without a key there is only room", async () => {
    const [zeros, room] = [init.zeros(null, [3]), init.truncatedNormal(null, [2, 2])];
    expect([...(await zeros.data())]).toEqual([0, 0, 0]);
    expect(room.shape).toEqual([2, 2]);
    for (const t of [zeros, room]) t.free();
  });

  test("sizes that are none, and keys that are none, are refused before anything is made", () => {
    const key = Key.from(1);
    const cases: [string, () => unknown][] = [
      [
        "Linear(inputs, outputs, key): the key is 42; give Key.from(42), or null for weights that will be loaded",
        () => new Linear(2, 3, 42 as unknown as Key),
      ],
      [
        "Linear(inputs, outputs, key): the key is undefined; give Key.from(seed), or null",
        () => new (Linear as unknown as new (...sizes: number[]) => Linear)(2, 3),
      ],
      [
        "Linear(inputs, outputs, key): inputs must be a positive integer; got an object",
        () => new Linear({ inputs: 2 } as unknown as number, 3, key),
      ],
      ["Linear(inputs, outputs, key): outputs must be a positive integer; got 0", () => new Linear(2, 0, key)],
      ["Embedding(rows, width, key): width must be a positive integer; got NaN", () => new Embedding(2, Number.NaN, key)],
      ["Embedding(rows, width, key): the key is an object; give Key.from(seed)", () => new Embedding(2, 3, {} as unknown as Key)],
      ["LayerNorm(width, eps): width must be a positive integer; got 2.5", () => new LayerNorm(2.5)],
      ["RMSNorm(width, eps): width must be a positive integer; got -1", () => new RMSNorm(-1)],
      ["MultiHeadAttention(width, heads, key): the key is 7; give Key.from(7)", () => new MultiHeadAttention(4, 2, 7 as unknown as Key)],
      ["MultiHeadAttention(width, heads, key): width must be a positive integer; got 0", () => new MultiHeadAttention(0, 2, key)],
    ];
    for (const [message, make] of cases) expect(make).toThrow(message);
    expect(() => new Linear("2" as unknown as number, 3, key)).toThrow(TypeError);
    expect(() => new Linear(-2, 3, key)).toThrow(RangeError);
    expect(device().memory.live).toBe(0);
  });

  describe("layers take them:", () => {
    test("a linear layer begins as it is told", async () => {
      const layer = new Linear(3, 2, Key.from(1), init.xavierUniform);
      const alone = init.xavierUniform(Key.from(1), [2, 3]);
      expect(await layer.weight.data()).toEqual(await alone.data());
      for (const module of [layer, { alone }]) freeParameters(module);
    });

    test("an embedding too, and its padding row is zero, the others as they were", async () => {
      const make = (padding?: number) => new Embedding(4, 3, Key.from(2), (key, shape) => init.uniform(key, shape, -2, -1), padding);
      const [plain, padded] = [make(), make(2)];
      const values = [...(await plain.weight.data())];
      expect(values.every((value) => value < 0)).toBe(true);
      expect([...(await padded.weight.data())]).toEqual(values.map((value, i) => (i >= 6 && i < 9 ? 0 : value)));
      for (const module of [plain, padded]) freeParameters(module);
      expect(device().memory.live).toBe(0);
    });
  });
});

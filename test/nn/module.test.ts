/** Modules: a walk finds the parameters, paths name them, and loading names what does not fit. */

import { describe, expect, test } from "vitest";
import { Embedding } from "../../nn/embedding.ts";
import { LayerNorm } from "../../nn/layernorm.ts";
import { Linear } from "../../nn/linear.ts";
import {
  copyParameters,
  countParameters,
  freeParameters,
  load,
  modules,
  parameters,
  type Stored,
  select,
  valuesOf,
} from "../../nn/module.ts";
import { readSafetensors, type SafeDtype, writeSafetensors } from "../../nn/safetensors.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { index } from "../../src/stream.ts";
import { normal, ones, scoped, tensor, zeros } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices((device) => {
  const make = () => {
    const shared = new Linear(3, 2, Key.from(1));
    return { first: shared, layers: [new LayerNorm(2), { again: shared, depth: 4, name: "x", none: null }] };
  };

  test("load names all that does not fit, up to a dozen", () => {
    withDevice(openReference(), () => {
      const model = { a: zeros([2]), b: zeros([3]), c: zeros([4]) };
      const values = new Map([
        ["a", { shape: [5], data: [1, 2, 3, 4, 5] }],
        ["c", { shape: [4], data: [1, 2, 3, 4] }],
        ...Array.from({ length: 12 }, (_, i) => [`x${i}`, { shape: [1], data: [0] }] as [string, Stored]),
      ]);
      expect(() => load(model, values)).toThrow(
        /^load: "x0" is given but not in the model; .*"x11" is given but not in the model; and 2 more$/,
      );
      const few = new Map([
        ["a", { shape: [5], data: [1, 2, 3, 4, 5] }],
        ["c", { shape: [4], data: [1, 2, 3, 4] }],
      ]);
      expect(() => load(model, few)).toThrow('load: "a" is [5] but the model has [2]; "b" is in the model but not given');
    });
  });

  describe("parameters", () => {
    test("have their paths for names, and one that is reached twice is given once", () => {
      const model = make();
      expect([...parameters(model)].map(([name]) => name)).toEqual(["first.weight", "first.bias", "layers.0.weight", "layers.0.bias"]);
      expect(countParameters(model)).toBe(3 * 2 + 2 + 2 + 2);
      freeParameters(model);
      expect(device().memory.live).toBe(0);
    });

    test("outlive the scope they were made in", async () => {
      const model = scoped(() => ({
        layer: new Linear(2, 2, Key.from(1)),
        norm: new LayerNorm(3),
        table: new Embedding(4, 2, Key.from(2), 0.02, 0),
      }));
      for (const [, t] of parameters(model)) expect((await t.data()).every(Number.isFinite)).toBe(true);
      freeParameters(model);
    });

    test("begin as BERT's: normal weights, zero biases, unit norms, a padding row of zeros", async () => {
      const layer = new Linear(100, 100, Key.from(3));
      const weights = [...(await layer.weight.data())];
      const mean = weights.reduce((a, b) => a + b, 0) / weights.length;
      const deviation = Math.sqrt(weights.reduce((a, b) => a + (b - mean) ** 2, 0) / weights.length);
      expect(Math.abs(mean)).toBeLessThan(5 * (0.02 / 100));
      expect(deviation).toBeCloseTo(0.02, 3);
      expect([...(await layer.bias.data())]).toEqual(new Array(100).fill(0));
      const table = new Embedding(5, 3, Key.from(4), 0.02, 2);
      const rows = [...(await table.weight.data())];
      expect(rows.slice(6, 9)).toEqual([0, 0, 0]);
      expect(rows.filter((value) => value === 0)).toHaveLength(3);
      const norm = new LayerNorm(3);
      expect([...(await norm.weight.data()), ...(await norm.bias.data())]).toEqual([1, 1, 1, 0, 0, 0]);
      for (const module of [layer, table, norm]) freeParameters(module);
    });
  });

  test("an embedding looks rows up, a layer norm norms, a linear layer adds its residual", async () => {
    const read = scoped(() => {
      const table = { weight: tensor([1, 2, 3, 4, 5, 6], [3, 2]) };
      const layer = { weight: tensor([1, 0, 0, 2], [2, 2]), bias: tensor([10, 20]) };
      const x = Embedding.prototype.forward.call(table, index([2, 0], 3));
      return [x, Linear.prototype.forward.call(layer, x, { residual: x }), new LayerNorm(2, 1e-5).forward(x)];
    });
    expect([...(await read[0].data())]).toEqual([5, 6, 1, 2]);
    expect([...(await read[1].data())]).toEqual([20, 38, 12, 26]);
    expect([...(await read[2].data())].map((value) => Math.round(value * 100) / 100)).toEqual([-1, 1, -1, 1]);
    for (const t of read) t.free();
  });

  describe("load", () => {
    const values = (entries: [string, number[]][]) =>
      new Map(entries.map(([name, shape]) => [name, { shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(7) }]));
    const whole: [string, number[]][] = [
      ["first.weight", [2, 3]],
      ["first.bias", [2]],
      ["layers.0.weight", [2]],
      ["layers.0.bias", [2]],
    ];

    test("writes every value", async () => {
      const model = make();
      load(model, values(whole));
      for (const [, t] of parameters(model)) expect((await t.data()).every((value) => value === 7)).toBe(true);
      freeParameters(model);
    });

    test.each<[string, [string, number[]][], string]>([
      ["missing", whole.slice(1), 'checkpoint: "first.weight" is in the model but not given'],
      ["unknown", [...whole, ["second.weight", [1]]], 'checkpoint: "second.weight" is given but not in the model'],
      ["misshapen", [...whole.slice(0, 3), ["layers.0.bias", [3]]], 'checkpoint: "layers.0.bias" is [3] but the model has [2]'],
    ])("names what is %s, and writes nothing", async (_, given, message) => {
      const model = make();
      const before = [...(await model.first.weight.data())];
      expect(() => load(model, values(given), "checkpoint")).toThrow(new TypeError(message));
      expect([...(await model.first.weight.data())]).toEqual(before);
      freeParameters(model);
    });
  });

  describe("files", () => {
    const from = () => ({ first: new Linear(3, 2, Key.from(7), 1), scale: tensor([0.5, -2]) });
    const to = () => ({ first: new Linear(3, 2, null), scale: zeros([2]) });
    const dataOf = async (model: object) => (await valuesOf(parameters(model))).map(([, { data }]) => [...(data as Float32Array)]);

    test("what valuesOf reads, a file holds, and load takes", async () => {
      const [model, copy] = [from(), to()];
      const file = writeSafetensors(await valuesOf(parameters(model)));
      load(copy, readSafetensors(file).tensors);
      const f32 = (await dataOf(model)).map((values) => values.map(Math.fround));
      expect(await dataOf(copy)).toEqual(f32);
      for (const module of [model, copy]) freeParameters(module);
    });

    test("narrow floats are widened; integers are refused, and nothing is written", async () => {
      const copy = to();
      const written = (dtype: SafeDtype) =>
        readSafetensors(
          writeSafetensors([
            ["first.weight", { shape: [2, 3], data: [1, 2, 3, 4, 5, 6] }],
            ["first.bias", { shape: [2], data: [7, 8] }],
            ["scale", { dtype, shape: [2], data: [3, -2] }],
          ]),
        ).tensors;
      const before = await dataOf(copy);
      expect(() => load(copy, written("I32"))).toThrow(
        new TypeError('load: "scale" is I32, and weights must be F32, F64, F16, BF16 or F8'),
      );
      expect(await dataOf(copy)).toEqual(before);
      for (const dtype of ["F16", "BF16", "F64"] as const) {
        load(copy, written(dtype));
        expect(await dataOf(copy)).toEqual([
          [1, 2, 3, 4, 5, 6],
          [7, 8],
          [3, -2],
        ]);
        copy.scale.write([0, 0]);
      }
      freeParameters(copy);
    });
  });

  describe("modules", () => {
    test("are all objects but tensors, by their paths, from the whole to its parts", () => {
      const model = make();
      const found = [...modules(model)];
      expect(found.map(([path]) => path)).toEqual(["", "first", "layers", "layers.0", "layers.1"]);
      expect(found[0][1]).toBe(model);
      expect(found[3][1]).toBe(model.layers[0]);
      const knot: { self?: object; values: Float32Array } = { values: new Float32Array(3) };
      knot.self = knot;
      expect([...modules(knot)]).toEqual([["", knot]]);
      freeParameters(model);
    });
  });

  describe("select", () => {
    test("gives the parameters whose names match, or names the nearest", () => {
      const model = make();
      const names = (match: string | ((name: string) => boolean)) => select(model, match).map(([name]) => name);
      expect(names("**.bias")).toEqual(["first.bias", "layers.0.bias"]);
      expect(names((name) => !name.startsWith("first."))).toEqual(["layers.0.weight", "layers.0.bias"]);
      expect(select(model, "first.weight")[0][1]).toBe(model.first.weight);
      expect(() => select(model, "frist.weight")).toThrow(
        new RangeError('select(module, match): "frist.weight" matches no parameter; there are 4, such as "first.weight"'),
      );
      freeParameters(model);
    });
  });

  describe("copyParameters", () => {
    test("writes the values of one module into another, which keeps its own tensors", async () => {
      const [from, to] = [new Linear(3, 2, Key.from(1)), new Linear(3, 2, Key.from(2))];
      const { weight } = to;
      from.bias.write([7, 8]);
      copyParameters(from, to);
      from.bias.write([0, 0]);
      expect(to.weight).toBe(weight);
      expect(await weight.data()).toEqual(await from.weight.data());
      expect([...(await to.bias.data())]).toEqual([7, 8]);
      for (const module of [from, to]) freeParameters(module);
    });

    test("names what does not fit, and writes nothing", async () => {
      const before = device().memory.live;
      const [from, to, wide] = [{ bias: tensor([1]) }, { bias: tensor([2]), weight: tensor([3]) }, { bias: tensor([4, 5]) }];
      expect(() => copyParameters(from, to)).toThrow(new TypeError('copyParameters(from, to): "weight" is in the model but not given'));
      expect(() => copyParameters(to, from)).toThrow(new TypeError('copyParameters(from, to): "weight" is given but not in the model'));
      expect(() => copyParameters(wide, from)).toThrow('"bias" is [2] but the model has [1]');
      expect([...(await to.bias.data()), ...(await from.bias.data())]).toEqual([2, 1]);
      for (const module of [from, to, wide]) freeParameters(module);
      expect(device().memory.live).toBe(before);
    });
  });

  test("the same key makes the same weights, bit for bit, on every device", async () => {
    const [a, b] = [normal(Key.from(5), 0.02, [3]), ones([1])];
    const want = Key.from(5).normals(3);
    [...(await a.data())].forEach((value, i) => {
      expect(Math.fround(value)).toBe(Math.fround(want[i] * 0.02));
    });
    for (const t of [a, b]) t.free();
  });
});

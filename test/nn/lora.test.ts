/** Adapters: nothing changes at first, they alone are trained, frozen weights cost nothing, and merged they are the same model. */

import { describe, expect, test } from "vitest";
import { sum } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { withHooks } from "../../nn/hooks.ts";
import { Linear } from "../../nn/linear.ts";
import { addLora, LoraLinear, lora, mergeLora, withLoraDropout } from "../../nn/lora.ts";
import { countParameters, freeParameters, load, parameters, type Stored, select } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

const noise = (seed: number, n: number) => Key.from(seed).normals(n);

onDevices((device, name) => {
  const read = async (t: Tensor) => {
    const values = [...(await t.data())];
    t.free();
    return values;
  };
  /** To 1e-5 of the largest value in f32. */
  const near = (got: readonly number[], want: readonly number[]) => {
    const bound = (name === "reference" ? 1e-12 : 1e-5) * Math.max(...want.map(Math.abs));
    expect(got.length).toBe(want.length);
    for (const [i, value] of want.entries()) expect(Math.abs(got[i] - value)).toBeLessThanOrEqual(bound);
  };
  /** Run f, after which as much memory is held as before. */
  const balanced = async (f: () => unknown) => {
    const before = device().memory.live;
    await f();
    expect(device().memory.live).toBe(before);
  };

  describe("one layer", () => {
    /** An adapter whose B is not zero, and an input. */
    const using = (f: (adapter: LoraLinear, x: Tensor) => unknown) =>
      balanced(async () => {
        const adapter = lora(new Linear(4, 3, Key.from(1), 1), { rank: 2, alpha: 6, dropout: 0.5 }, Key.from(2));
        adapter.bias.write(noise(3, 3));
        adapter.lora_B.weight.write(noise(4, 6));
        const x = tensor(noise(5, 20), [5, 4]);
        await f(adapter, x);
        x.free();
        freeParameters(adapter);
      });

    test("gives x weightT + bias + alpha / rank (x AT) BT, then relu, then the residual", () =>
      using(async (adapter, x) => {
        const residual = tensor(noise(6, 15), [5, 3]);
        const [w, b, a, up, xs, rs] = await Promise.all(
          [adapter.weight, adapter.bias, adapter.lora_A.weight, adapter.lora_B.weight, x, residual].map((t) => t.data()),
        );
        const plain = Array.from({ length: 15 }, (_, at) => {
          const [row, out] = [Math.floor(at / 3), at % 3];
          let y = b[out];
          for (let i = 0; i < 4; i++) {
            const change = up[2 * out] * a[i] + up[2 * out + 1] * a[4 + i];
            y += xs[4 * row + i] * (w[4 * out + i] + (6 / 2) * change);
          }
          return y;
        });
        const rectified = plain.map((y) => Math.max(y, 0));
        const [y, withRelu, withResidual, withBoth] = scoped(() => [
          adapter.forward(x),
          adapter.forward(x, { relu: true }),
          adapter.forward(x, { residual }),
          adapter.forward(x, { relu: true, residual }),
        ]);
        near(await read(y), plain);
        near(await read(withRelu), rectified);
        near(
          await read(withResidual),
          plain.map((y, i) => y + rs[i]),
        );
        near(
          await read(withBoth),
          rectified.map((y, i) => y + rs[i]),
        );
        residual.free();
      }));

    test("begins as the linear layer it stands for, A within (-1, 1) / sqrt(in)", () =>
      balanced(async () => {
        const base = new Linear(16, 3, Key.from(1));
        const x = tensor(noise(5, 32), [2, 16]);
        const before = await read(base.forward(x));
        const adapter = lora(base, { rank: 8 }, Key.from(2));
        expect(await read(scoped(() => adapter.forward(x)))).toEqual(before);
        expect(adapter.scale).toBe(1);
        const largest = Math.max(...[...(await adapter.lora_A.weight.data())].map(Math.abs));
        expect(largest).toBeLessThanOrEqual(0.25);
        expect(largest).toBeGreaterThan(0.22);
        expect([...(await adapter.lora_B.weight.data())]).toEqual(new Array(24).fill(0));
        expect([...parameters(adapter)].map(([key, t]) => [key, t.shape])).toEqual([
          ["weight", [3, 16]],
          ["bias", [3]],
          ["lora_A.weight", [8, 16]],
          ["lora_B.weight", [3, 8]],
        ]);
        x.free();
        freeParameters(adapter);
      }));

    test("its frozen weights cost nothing: no kernel makes their gradients", async () => {
      const on = watched(device());
      await withDevice(on, () =>
        using((adapter, x) => {
          /** The products and sums of the way back. */
          const wayBack = (wrt: Tensor[]) => {
            on.ran.length = 0;
            inference(() => sum(adapter.forward(x))).free();
            const forward = on.ran.length;
            const { value, grads } = valueAndGrad(() => sum(adapter.forward(x)), wrt);
            for (const t of [value, ...grads]) t.free();
            return on.ran.slice(2 * forward).filter((kernel) => /^(matmul|sum)/.test(kernel));
          };
          const { lora_A, lora_B, weight, bias } = adapter;
          expect(wayBack([lora_A.weight, lora_B.weight])).toEqual(["matmul NN", "matmul TN", "matmul TN"]); // dh = dy B, dB = dyT h, dA = dhT x
          expect(wayBack([lora_A.weight, lora_B.weight, weight, bias])).toHaveLength(5);
        }),
      );
    });

    test("drops its input when a key is given, and what is frozen sees all of it", () =>
      using(async (adapter) => {
        const x = ones([400, 4]);
        const [one, other] = [StepKey.from(Key.from(1)), StepKey.from(Key.from(2))];
        const run = (key: StepKey | null) => read(scoped(() => adapter.withKey(key, () => adapter.forward(x))));
        const plain = await run(null);
        const dropped = await run(one);
        expect(await read(scoped(() => adapter.forward(x)))).toEqual(plain);
        expect(await run(one)).toEqual(dropped);
        expect(await run(other)).not.toEqual(dropped);
        // with all four values dropped, one row in 16, the linear layer is left
        const frozen = await read(scoped(() => Linear.prototype.forward.call(adapter, x)));
        const rows = Array.from({ length: 400 }, (_, i) => [0, 1, 2].every((j) => Math.abs(dropped[3 * i + j] - frozen[j]) < 1e-5));
        const alone = rows.filter(Boolean).length;
        expect(Math.abs(alone - 25)).toBeLessThan(4 * Math.sqrt(25));
        for (const t of [x, one.words, other.words]) t.free();
      }));

    test.each<[string, { rank: number; alpha?: number; dropout?: number }]>([
      ["rank must be a positive integer; got 0", { rank: 0 }],
      ["rank must be a positive integer; got 1.5", { rank: 1.5 }],
      ["alpha must be positive; got 0", { rank: 2, alpha: 0 }],
      ["dropout must lie in [0, 1); got 1", { rank: 2, dropout: 1 }],
    ])("%s", (message, options) =>
      balanced(() => {
        const base = new Linear(2, 2, null);
        expect(() => lora(base, options, null)).toThrow(new RangeError(`lora(linear, options): ${message}`));
        freeParameters(base);
      }),
    );
  });

  describe("Geneformer", () => {
    const using = (f: (model: Geneformer, batch: ReturnType<typeof packed>) => unknown) =>
      balanced(async () => {
        const model = new Geneformer(config, Key.from(1));
        const batch = packed(cellsOf([5, 9]));
        await f(model, batch);
        freeParameters(model);
        freeParameters(batch);
      });
    const namesOf = (model: object) => [...parameters(model)].map(([key]) => key);

    test("with adapters is at first the model it was, its weights under their names", () =>
      using(async (model, { stream }) => {
        const encode = () => read(inference(() => model.encode(stream)));
        const before = await encode();
        const [names, size] = [namesOf(model), countParameters(model)];
        const linears = model.layers.map(({ query }) => query);
        const adapters = addLora(model, "layers.*.query", { rank: 4, alpha: 8 }, Key.from(2));
        expect(adapters.map(([key, t]) => [key, t.shape])).toEqual([
          ["layers.0.query.lora_A.weight", [4, 32]],
          ["layers.0.query.lora_B.weight", [32, 4]],
          ["layers.1.query.lora_A.weight", [4, 32]],
          ["layers.1.query.lora_B.weight", [32, 4]],
        ]);
        expect(select(model, "**.lora_*.weight")).toEqual(adapters);
        expect(namesOf(model).filter((key) => !key.includes("lora"))).toEqual(names);
        expect(countParameters(model)).toBe(size + 2 * 2 * 4 * 32);
        expect(model.layers[0].query).toBeInstanceOf(LoraLinear);
        expect(model.layers[0].key).toBeInstanceOf(Linear);
        expect(await encode()).toEqual(before);
        mergeLora(model);
        expect(model.layers.map(({ query }) => query)).toEqual(linears);
        expect(namesOf(model)).toEqual(names);
        expect(await encode()).toEqual(before); // B was still 0
      }));

    test("learns by its adapters alone, and merged answers the same", () =>
      using(async (model, { stream, places, labels }) => {
        const frozen = [...parameters(model)];
        const valuesOf = () => Promise.all(frozen.map(async ([, t]) => [...(await t.data())]));
        const before = await valuesOf();
        const adapters = addLora(model, "**", { rank: 3, alpha: 6 }, Key.from(2)); // with a residual, with relu, with neither
        expect(adapters).toHaveLength(2 * (2 * 6 + 1));
        const optimizer = new AdamW(adapters, { decay: 0 });
        const losses: number[] = [];
        for (let step = 0; step < 8; step++) {
          const loss = scoped(() => {
            const { value, grads } = valueAndGrad(
              () => model.loss(stream, places, labels),
              adapters.map(([, t]) => t),
            );
            optimizer.step(grads, 0.02);
            return value;
          });
          losses.push((await read(loss))[0]);
        }
        optimizer.free();
        expect(losses[7]).toBeLessThan(0.7 * losses[0]);
        expect(await valuesOf()).toEqual(before);

        const predict = () => read(inference(() => model.predict(stream, places)));
        const learned = await predict();
        mergeLora(model);
        near(await predict(), learned);
        const after = [...parameters(model)];
        expect(after.map(([key]) => key)).toEqual(frozen.map(([key]) => key));
        expect(after.every(([, t], i) => t === frozen[i][1])).toBe(true);
        for (const [, t] of adapters) expect(() => t.memory).toThrow("used after it was freed");
      }));

    test("a step's products are those that the adapters need", async () => {
      const on = watched(device());
      await withDevice(on, () =>
        using((model, { stream, places, labels }) => {
          const wrt = addLora(model, "layers.1.up", { rank: 2 }, Key.from(2)).map(([, t]) => t);
          const { value, grads } = valueAndGrad(() => model.loss(stream, places, labels), wrt);
          // what is transposed on the left makes a weight's gradient: B's and A's
          expect(on.ran.filter((kernel) => kernel.startsWith("matmul T"))).toEqual(["matmul TN", "matmul TN"]);
          expect(on.ran.filter((kernel) => /^(layerNormGradWeights|attentionGrad|sumColumns)/.test(kernel))).toEqual([]);
          for (const t of [value, ...grads]) t.free();
        }),
      );
    });

    test("every adapter draws dropout of its own, while a key is given", () =>
      using(async (model, { stream }) => {
        addLora(model, "layers.*.query", { rank: 4, dropout: 0.5 }, Key.from(2));
        for (const [, t] of select(model, "**.lora_B.weight")) t.write(noise(3, t.size));
        const key = StepKey.from(Key.from(4));
        const encode = () => inference(() => model.encode(stream));
        const plain = await read(encode());
        const dropped = await read(withLoraDropout(model, key, encode));
        expect(dropped).not.toEqual(plain);
        expect(await read(withLoraDropout(model, key, encode))).toEqual(dropped);
        expect(await read(encode())).toEqual(plain);
        // two adapters with the same weights
        const [one, other] = model.layers.map(({ query }) => query);
        load(other, new Map(await Promise.all([...parameters(one)].map(async ([name, t]) => [name, { shape: t.shape, data: await t.data() }] as const)))); // biome-ignore format: one line
        const x = ones([40, 32]);
        const twins = () => scoped(() => [one.forward(x), other.forward(x)]);
        const [first, second] = await Promise.all(twins().map(read));
        expect(first).toEqual(second);
        const [a, b] = await Promise.all(withLoraDropout(model, key, twins).map(read));
        expect(a).not.toEqual(b);
        for (const t of [x, key.words]) t.free();
      }));

    test("adapters are a module of their own: loaded into another model, they make it the same", () =>
      using(async (model, { stream }) => {
        const mine = addLora(model, "layers.*.value", { rank: 2 }, Key.from(2));
        for (const [key, t] of mine) if (key.includes("lora_B")) t.write(noise(7, t.size));
        const saved = new Map<string, Stored>();
        for (const [key, t] of mine) saved.set(key, { shape: t.shape, data: await t.data() });
        const encode = (of: Geneformer) => read(inference(() => of.encode(stream)));
        await using(async (other) => {
          const theirs = addLora(other, "layers.*.value", { rank: 2 }, null);
          load(Object.fromEntries(theirs), saved);
          expect(await encode(other)).toEqual(await encode(model));
        });
      }));

    test("hooks see an adapter as the layer it stands for", () =>
      using((model, { stream }) => {
        addLora(model, "layers.0.output", { rank: 2 }, Key.from(2));
        const shapes: (readonly number[])[] = [];
        const hooks = { "layers.0.output": (y: Tensor) => void shapes.push(y.shape) };
        withHooks(model, hooks, () => inference(() => model.encode(stream))).free();
        expect(shapes).toEqual([[14, 32]]);
      }));

    test("a Linear in two places is replaced in both, and comes back to both", () =>
      balanced(() => {
        const shared = new Linear(2, 2, Key.from(1));
        const model = { one: shared, list: [shared] };
        expect(addLora(model, "one", { rank: 1 }, Key.from(2)).map(([key]) => key)).toEqual(["one.lora_A.weight", "one.lora_B.weight"]);
        expect(model.list[0]).toBe(model.one);
        expect(model.one).toBeInstanceOf(LoraLinear);
        mergeLora(model);
        expect([model.one, model.list[0]]).toEqual([shared, shared]);
        freeParameters(model);
      }));

    test("what is not there is named", () =>
      using((model) => {
        expect(() => addLora(model, "layers.*.qeury", { rank: 1 }, null)).toThrow(
          new RangeError('addLora(model, match, options, key): "layers.*.qeury" matches no Linear; there are 13, such as "layers.0.query"'),
        );
        expect(() => addLora(model, "layers.*.norm1", { rank: 1 }, null)).toThrow("matches no Linear");
        expect(() => mergeLora(model)).toThrow(new RangeError("mergeLora(model): the model has no adapters; addLora() puts them in"));
      }));
  });
});

test("a model that is itself the Linear has no place for another", () => {
  withDevice(openReference(), () => {
    expect(() => addLora(new Linear(2, 3, Key.from(1)), "**", { rank: 1 }, Key.from(2))).toThrow(
      "addLora(model, match, options, key): the model is itself the Linear; wrap it: addLora({ head: linear }, ...)",
    );
    expect(() => new AdamW([])).toThrow(/^AdamW\(parameters, options\): there are no parameters; give a list/);
  });
});

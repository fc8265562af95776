/** Hooks on Geneformer's own layers: reading, replacing, ablating, gradients through what was replaced; and the model is afterwards as it was. */

import { describe, expect, test } from "vitest";
import { add, mul, square, sum, tanh } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { type Hook, Tap, withHooks } from "../../nn/hooks.ts";
import { Linear } from "../../nn/linear.ts";
import { freeParameters } from "../../nn/module.ts";
import { Key } from "../../src/key.ts";
import { full, keep, ones, scoped, Tensor, tensor, zeros } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

onDevices((device, name) => {
  const digits = name === "reference" ? 10 : 4;

  /** Run f, after which as much memory is held as before. */
  const balanced = async (f: () => unknown) => {
    const before = device().memory.live;
    await f();
    expect(device().memory.live).toBe(before);
  };
  /** A model and a stream to run it on, given back afterwards. */
  const using = (f: (model: Geneformer, encode: () => Tensor, batch: ReturnType<typeof packed>) => Promise<void>) =>
    balanced(async () => {
      const model = new Geneformer(config, Key.from(1));
      const batch = packed(cellsOf([5, 9]));
      await f(model, () => model.encode(batch.stream), batch);
      freeParameters(model);
      freeParameters(batch);
    });
  const read = async (t: Tensor) => {
    const values = [...(await t.data())];
    t.free();
    return values;
  };
  const near = (got: readonly number[], want: readonly number[]) => {
    expect(got.length).toBe(want.length);
    for (const [i, value] of want.entries()) expect(got[i]).toBeCloseTo(value, digits);
  };

  test("a hook reads what a module gives, with its arguments and its path, and changes nothing", () =>
    using(async (model, encode) => {
      const plain = await read(inference(encode));
      const seen: { y: Tensor; path: string; x: unknown }[] = [];
      const hooked = withHooks(model, { "layers.*.norm1": (y, { args, path }) => void seen.push({ y: y.hold(), path, x: args[0] }) }, () =>
        inference(encode),
      );
      expect(await read(hooked)).toEqual(plain);
      expect(seen.map(({ path }) => path)).toEqual(["layers.0.norm1", "layers.1.norm1"]);
      for (const { y, x } of seen) {
        expect(x).toBeInstanceOf(Tensor);
        expect(y.shape).toEqual([14, config.width]);
        const row = (await read(y)).slice(0, config.width); // of a norm with weight 1 and bias 0
        expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 3);
        expect(row.reduce((a, b) => a + b * b, 0) / config.width).toBeCloseTo(1, 3);
      }
    }));

  test("hidden states read by hooks on the layers are those of hidden()", () =>
    using(async (model, encode, { stream }) => {
      const states = inference(() => [...model.hidden(stream)]);
      const seen: Tensor[] = [];
      const last = withHooks(model, { "layers.*": (y) => void seen.push(y.hold()) }, () => inference(encode));
      for (const [i, t] of seen.entries()) expect(await read(t)).toEqual([...(await states[i + 1].data())]);
      for (const t of [...states, last]) t.free();
    }));

  test("what is kept stays, what is not goes with its scope", () =>
    using(async (model, encode) => {
      const [kept, lost]: Tensor[][] = [[], []];
      const hooks: Record<string, Hook> = { "layers.0.up": (y) => void kept.push(keep(y)), "layers.1.up": (y) => void lost.push(y) };
      const y = withHooks(model, hooks, () => inference(encode));
      expect((await kept[0].data()).length).toBe(14 * config.inner);
      expect(() => lost[0].memory).toThrow("used after it was freed");
      for (const t of [...kept, y]) t.free();
    }));

  test("a replaced activation is what the model goes on with", () =>
    using(async (model, encode, { stream }) => {
      const given = tensor(Key.from(5).normals(14 * config.width), [14, config.width]);
      const y = withHooks(model, { "layers.0": () => given }, () => inference(encode));
      const want = inference(() => model.layers[1].forward(given, stream.segments, null));
      near(await read(y), await read(want));
      given.free();
    }));

  test("ablation: with its values zeroed, attention adds nothing", () =>
    using(async (model, encode) => {
      const { output } = model.layers[1];
      const ablated = withHooks(model, { "layers.1.value": (y) => mul(y, full([], 0)) }, () => inference(encode));
      const weight = [...(await output.weight.data())];
      output.weight.write(weight.map(() => 0)); // the same without a hook, biases being 0
      near(await read(ablated), await read(inference(encode)));
    }));

  test("gradients flow through a replaced activation, and through what the hook uses", () =>
    balanced(async () => {
      const layer = new Linear(2, 2, null);
      layer.weight.write([1, 2, 3, 4]);
      const [x, scale] = [tensor([1, -1], [1, 2]), tensor([10])];
      const { value, grads } = withHooks({ layer }, { layer: (y) => mul(y, scale) }, () =>
        valueAndGrad(() => sum(layer.forward(x)), [x, scale, layer.weight]),
      );
      // y = 10 (x0 + 2 x1) + 10 (3 x0 + 4 x1)
      expect(await read(value)).toEqual([-20]);
      expect(await read(grads[0])).toEqual([40, 60]);
      expect(await read(grads[1])).toEqual([-2]);
      expect(await read(grads[2])).toEqual([10, -10, 10, -10]);
      for (const t of [x, scale]) t.free();
      freeParameters(layer);
    }));

  test("the gradient of a loss by an activation: add zeros to it that are asked for", () =>
    using(async (model, _, { stream, places, labels }) => {
      const shape = [14, config.width];
      const delta = zeros(shape);
      const at = (values: ArrayLike<number>) => {
        delta.write(values);
        return withHooks(model, { "layers.0": (y) => add(y, delta) }, () =>
          valueAndGrad(() => model.loss(stream, places, labels), [delta]),
        );
      };
      const none = new Float64Array(delta.size);
      const { value, grads } = at(none);
      const [grad] = [await read(grads[0])];
      const loss = (await read(value))[0];
      const step = name === "reference" ? 1e-5 : 1e-3;
      const direction = Key.from(8).normals(delta.size);
      const moved = at(direction.map((d) => step * d));
      const back = at(direction.map((d) => -step * d));
      const slope = ((await read(moved.value))[0] - (await read(back.value))[0]) / (2 * step);
      const want = grad.reduce((total, g, i) => total + g * direction[i], 0);
      expect(loss).toBeGreaterThan(0);
      expect(Math.abs(slope - want)).toBeLessThan((name === "reference" ? 1e-6 : 1e-2) * Math.max(1, Math.abs(want)));
      for (const t of [...moved.grads, ...back.grads, delta]) t.free();
    }));

  describe("the model is afterwards as it was:", () => {
    const model = () => ({ a: new Linear(2, 2, Key.from(1)), list: [new Tap(), new Tap()] });

    test("when all goes well, and when f or a hook throws", () => {
      const made = model();
      const x = ones([1, 2]);
      const broken = () => {
        throw new Error("on purpose");
      };
      scoped(() => withHooks(made, { a: () => {} }, () => made.a.forward(x)));
      expect(() => withHooks(made, { "**": () => {} }, broken)).toThrow("on purpose");
      expect(() => scoped(() => withHooks(made, { a: broken, "list.*": () => {} }, () => made.a.forward(x)))).toThrow("on purpose");
      for (const part of [made.a, ...made.list]) expect(Object.hasOwn(part, "forward")).toBe(false);
      expect(made.a.forward).toBe(Linear.prototype.forward);
      freeParameters(made);
      x.free();
    });

    test("hooks follow one another: in the order given, and inner ones last", async () => {
      const made = model();
      const x = tensor([3]);
      const plus =
        (n: number): Hook =>
        (y) =>
          add(y, full([], n));
      const twice: Hook = (y) => add(y, y);
      const run = () => made.list[0].forward(x);
      const all = scoped(() => [
        withHooks(made, { "list.0": plus(1), "list.*": twice }, run), // (3 + 1) 2
        withHooks(made, { "list.*": twice, "list.0": plus(1) }, run), // 3 2 + 1
        withHooks(made, { "list.0": plus(1) }, () => withHooks(made, { "list.0": twice }, run)), // (3 + 1) 2
        withHooks(made, { "list.0": twice }, () => {
          withHooks(made, { "list.0": plus(1) }, run);
          return run(); // the inner one is gone, the outer one not
        }),
      ]);
      expect(await Promise.all(all.map((t) => t.item()))).toEqual([8, 7, 8, 6]);
      for (const t of [x, ...all]) t.free();
      freeParameters(made);
    });

    test("a forward of an object's own comes back, and is called with its object", async () => {
      const own = { factor: full([1], 3), forward: function (this: { factor: Tensor }, x: Tensor) { return mul(x, this.factor); } }; // biome-ignore format: one line
      const { forward } = own;
      const x = tensor([2]);
      const y = scoped(() => withHooks({ own }, { own: (y) => square(y) }, () => own.forward(x)));
      expect(await read(y)).toEqual([36]);
      expect(own.forward).toBe(forward);
      expect(Object.keys(own)).toEqual(["factor", "forward"]);
      for (const t of [x, own.factor]) t.free();
    });

    test("a module in two places is hooked by either path", async () => {
      const shared = new Tap();
      const x = tensor([2]);
      const found = ["one", "other"].map((path) =>
        scoped(() => withHooks({ one: shared, other: shared }, { [path]: (y) => tanh(y) }, () => shared.forward(x))),
      );
      for (const t of found) expect((await read(t))[0]).toBeCloseTo(Math.tanh(2), 6);
      x.free();
    });
  });

  test("a tap passes on what it is given, and knows whether a hook is there", () => {
    const model = { tap: new Tap() };
    const x = ones([2]);
    expect(model.tap.forward(x)).toBe(x);
    expect(model.tap.hooked).toBe(false);
    expect(withHooks(model, { tap: () => {} }, () => model.tap.hooked)).toBe(true);
    expect(model.tap.hooked).toBe(false);
    x.free();
  });

  describe("what cannot be is refused:", () => {
    test("paths that name nothing, or nothing with a forward", () =>
      using(async (model) => {
        const at = (path: string) => () => withHooks(model, { [path]: () => {} }, () => 1);
        expect(at("layers.0.outptu")).toThrow(
          new RangeError('withHooks(model, hooks, f): "layers.0.outptu" names no module with a forward; the nearest is "layers.0.output"'),
        );
        for (const path of [
          "layers.7.output",
          "layers",
          "config",
          "",
          "layers.0.query.weight",
          "head.bias.x",
          "layers.*.outptu",
          "*.forward",
        ])
          expect(at(path), path).toThrow(/names no module with a forward; the nearest is "/);
        expect(() => withHooks({}, { a: () => {} }, () => 1)).toThrow("the model has none");
        // and nothing was installed before the error
        expect(() => withHooks(model, { "layers.0.output": () => {}, nothing: () => {} }, () => 1)).toThrow("nothing");
        expect(Object.hasOwn(model.layers[0].output, "forward")).toBe(false);
      }));

    test("what is no function", () => {
      const at = (hook: unknown) => () => withHooks({ tap: new Tap() }, { tap: hook as Hook }, () => 1);
      expect(at(7)).toThrow(
        new TypeError('withHooks(model, hooks, f): the hook at "tap" is a number; give a function (y, { args, path }) => ...'),
      );
      expect(at(null)).toThrow('the hook at "tap" is null');
    });

    test("another shape, something else, a promise", () =>
      balanced(() => {
        const model = { tap: new Tap() };
        const x = ones([2, 3]);
        const run = (hook: unknown) => () => scoped(() => withHooks(model, { tap: hook as Hook }, () => model.tap.forward(x)));
        expect(run(() => ones([3]))).toThrow(
          new RangeError('withHooks(model, hooks, f): the hook at "tap" returned [3] for [2, 3]; return a tensor of the same shape'),
        );
        expect(run(() => 7)).toThrow('the hook at "tap" returned number; return a tensor in the place of y, or nothing');
        expect(run(async () => {})).toThrow('the hook at "tap" returned object');
        const late = async () => {
          throw new Error("nobody hears this");
        };
        expect(() => withHooks(model, { tap: () => {} }, late)).toThrow(/f returned a promise, but hooks end with f/);
        expect(model.tap.hooked).toBe(false);
        x.free();
      }));
  });
});

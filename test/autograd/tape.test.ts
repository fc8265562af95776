/** The tape: gradients that add up, nothing computed that nobody asked for, and every buffer given back. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { accumulate, inference, op, pullback, valueAndGrad, vjp } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { type Device, withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { integers, keep, normal, ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

const values = async (t: Tensor) => [...(await t.data())];

/** Run f and see that every buffer it took is back. */
async function balanced(device: Device, f: () => unknown): Promise<void> {
  const before = device.memory.live;
  await f();
  expect(device.memory.live).toBe(before);
}

onDevices((device) => {
  describe("gradients", () => {
    test("a tensor used twice gets the sum", () =>
      balanced(device(), async () => {
        const x = tensor([2, 3]);
        const { value, grads } = valueAndGrad(() => ops.sum(ops.add(ops.mul(x, x), x)), [x]);
        expect(await value.item()).toBe(18);
        expect(await values(grads[0])).toEqual([5, 7]);
        for (const t of [x, value, ...grads]) t.free();
      }));

    test("the same tensor on both sides of one op", async () => {
      const x = tensor([2, -3]);
      const { value, grads } = valueAndGrad(() => ops.sum(ops.mul(x, x)), [x]);
      expect(await values(grads[0])).toEqual([4, -6]);
      for (const t of [x, value, ...grads]) t.free();
    });

    test("a tensor asked for twice gets its gradient twice, in buffers that live apart", () =>
      balanced(device(), async () => {
        const x = tensor([2]);
        const { value, grads } = valueAndGrad(() => ops.square(x), [x, x]);
        grads[0].free();
        expect(await values(grads[1])).toEqual([4]);
        for (const t of [x, value, grads[1]]) t.free();
      }));

    test("pullback: several gradients of one forward pass, those of vjp; what it kept goes back", () =>
      balanced(device(), async () => {
        const [x, w] = [normal(Key.from(1), 1, [4, 3]), normal(Key.from(2), 1, [5, 3])];
        const f = () => ops.softmax(ops.matmul(ops.square(x), w, { transposeB: true }));
        const live = device().memory.live;
        const { value, pull, free } = pullback(f, [x, w]);
        for (const seed of [3, 4, 3]) {
          const dy = normal(Key.from(seed), 1, [4, 5]);
          const [grads, once] = [pull(dy), vjp(f, [x, w], dy)];
          for (const [i, grad] of grads.entries()) expect(await values(grad)).toEqual(await values(once.grads[i]));
          for (const t of [dy, ...grads, once.value, ...once.grads]) t.free();
        }
        const odd = ones([5, 4]);
        expect(() => pull(odd)).toThrow("pullback(f, wrt): f returned [4, 5] but dy is [5, 4]; give one number for each");
        odd.free();
        free();
        free();
        const dy = ones([4, 5]);
        expect(() => pull(dy)).toThrow("pullback(f, wrt): what the forward pass kept was given back");
        for (const t of [dy, value]) t.free();
        expect(device().memory.live).toBe(live);
        expect(() => pullback(() => 3 as unknown as Tensor, [x])).toThrow("pullback(f, wrt): f must return a tensor; got the number 3");
        expect(() =>
          pullback(() => {
            ops.square(x);
            throw new Error("half way");
          }, [x]),
        ).toThrow("half way");
        for (const t of [x, w]) t.free();
      }));

    test("a tensor that f does not use gets zeros", () =>
      balanced(device(), async () => {
        const [x, unused] = [tensor([1, 2]), ones([2, 3])];
        const { value, grads } = valueAndGrad(() => ops.sum(x), [x, unused]);
        expect(grads[1].shape).toEqual([2, 3]);
        expect(await values(grads[1])).toEqual([0, 0, 0, 0, 0, 0]);
        for (const t of [x, unused, value, ...grads]) t.free();
      }));

    test("the value itself, and what f returns beside it", () =>
      balanced(device(), async () => {
        const x = tensor([3]);
        const { value, grads } = valueAndGrad(() => [ops.square(x), ops.neg(x), "as it is"] as const, [x]);
        expect(await value[0].item()).toBe(9);
        expect(await value[1].item()).toBe(-3);
        expect(value[2]).toBe("as it is");
        expect(await grads[0].item()).toBe(6);
        for (const t of [x, value[0], value[1], ...grads]) t.free();
        const y = tensor([3]);
        const own = valueAndGrad(() => y, [y]);
        expect(await own.grads[0].item()).toBe(1);
        for (const t of [y, ...own.grads]) t.free();
      }));

    test("what inference computes is a constant", async () => {
      const x = tensor([3]);
      const { value, grads } = valueAndGrad(
        () =>
          ops.mul(
            x,
            inference(() => ops.square(x)),
          ),
        [x],
      );
      expect(await value.item()).toBe(27);
      expect(await grads[0].item()).toBe(9);
      for (const t of [x, value, ...grads]) t.free();
    });

    test("a gradient inside another leaves the outer tape as it was", () =>
      balanced(device(), async () => {
        const x = tensor([3]);
        const { value, grads } = valueAndGrad(() => {
          const inner = inference(() => valueAndGrad(() => ops.square(x), [x]));
          return ops.mul(x, inner.grads[0]); // a constant here
        }, [x]);
        // without inference it would be taken for more than that
        expect(() => valueAndGrad(() => ops.add(ops.sum(x), valueAndGrad(() => ops.square(x), [x]).value), [x])).toThrow(
          /^valueAndGrad\(f, wrt\): it runs inside another and uses a tensor \[1\] that the outer one follows/,
        );
        expect(await value.item()).toBe(18);
        expect(await grads[0].item()).toBe(6);
        for (const t of [x, value, ...grads]) t.free();
      }));

    test("f must return one number", () =>
      balanced(device(), () => {
        const x = ones([2, 2]);
        expect(() => valueAndGrad(() => ops.exp(x), [x])).toThrow(
          new RangeError("valueAndGrad(f, wrt): f must return one number; got [2, 2]"),
        );
        x.free();
      }));

    test("a way back of another shape is named", () =>
      balanced(device(), () => {
        const crooked = op("crooked", (x: Tensor) => [ops.sum(x), [], () => [ones([3])]]);
        const x = ones([2]);
        expect(() => valueAndGrad(() => crooked(x), [x])).toThrow("crooked: gradient 1 has shape [3], its input has [2]");
        x.free();
      }));
  });

  describe("what nobody asks for is not computed:", () => {
    /** The kernels that the way back runs. */
    const backward = (wrt: (x: Tensor, w: Tensor, b: Tensor) => Tensor[]): string[] => {
      const on = watched(device());
      return withDevice(on, () => {
        const [x, w, b] = [ones([4, 3]), ones([2, 3]), ones([2])];
        const mark = noting(() => on.ran.push("-- back --"));
        const { value, grads } = valueAndGrad(() => ops.sum(mark(ops.linear(x, w, b))), wrt(x, w, b));
        for (const t of [x, w, b, value, ...grads]) t.free();
        return on.ran.slice(on.ran.indexOf("-- back --") + 1);
      });
    };

    test("a linear layer's weights", () => {
      expect(backward((x) => [x])).toEqual(["matmul NN"]);
      expect(backward((_, w) => [w])).toEqual(["matmul TN"]);
      expect(backward((_, __, b) => [b])).toEqual(["sumColumns"]);
      expect(backward((x, w, b) => [x, w, b])).toEqual(["matmul NN", "matmul TN", "sumColumns"]);
    });

    test("layers below the first that learns", () => {
      const on = watched(device());
      withDevice(on, () => {
        const model = new Geneformer(config, Key.from(1));
        const { value, grads } = scoped(() => {
          const { stream, places, labels } = packed(cellsOf([9, 5]));
          return valueAndGrad(() => model.loss(stream, places, labels), [model.layers[1].up.weight, model.head.bias]);
        });
        expect(on.ran.filter((name) => name.startsWith("attentionGrad"))).toEqual([]);
        expect(on.ran.filter((name) => name === "layerNormGrad").length).toBe(2); // the head's and the last layer's second
        for (const t of [value, ...grads]) t.free();
        freeParameters(model);
      });
    });

    test("without anything that learns nothing is kept", () => {
      const x = ones([1000]);
      const before = device().memory.live;
      const { value } = valueAndGrad(() => {
        let y = x;
        for (let i = 0; i < 5; i++) y = ops.tanh(y);
        return ops.sum(y);
      }, []);
      value.free();
      expect(device().memory.live).toBe(before);
      x.free();
    });
  });

  describe("memory", () => {
    test("50 training steps leave live bytes flat", async () => {
      const model = new Geneformer(config, Key.from(3));
      const named = [...parameters(model)];
      const optimizer = new AdamW(named, { clip: 1 });
      const words = integers([0, 0]);
      const step = (n: number) =>
        scoped(() => {
          words.write(Key.from(4).fold(n).words);
          const { stream, places, labels } = packed(cellsOf([7 + (n % 5), 3, 12], n), { tokens: 32, cells: 4, places: 16 });
          const { value, grads } = valueAndGrad(
            () => model.loss(stream, places, labels, { key: new StepKey(words) }),
            named.map(([, t]) => t),
          );
          optimizer.step(grads, 1e-3);
          return value;
        });
      const losses: number[] = [];
      const live: number[] = [];
      const reserved: number[] = [];
      for (let n = 0; n < 50; n++) {
        const loss = step(n);
        losses.push(await loss.item());
        loss.free();
        live.push(device().memory.live);
        reserved.push(device().memory.reserved);
      }
      expect(new Set(live).size).toBe(1);
      expect(new Set(reserved.slice(2)).size).toBe(1); // every batch has the same shapes: nothing new is made either
      expect(losses.every(Number.isFinite)).toBe(true);
      optimizer.free();
      words.free();
      freeParameters(model);
      expect(device().memory.live).toBe(0);
    });

    test("kept values go as the way back passes them", async () => {
      const live: number[] = [];
      const probe = noting(() => live.push(device().memory.live));
      const x = ones([1000]);
      const { value, grads } = valueAndGrad(() => ops.sum(probe(ops.tanh(probe(ops.tanh(probe(ops.tanh(probe(x)))))))), [x]);
      expect(live).toHaveLength(4);
      for (let i = 1; i < 4; i++) expect(live[i]).toBeLessThan(live[i - 1]);
      for (const t of [x, value, ...grads]) t.free();
    });

    test("values that nobody keeps go when the forward pass ends", () => {
      const x = ones([1000]);
      const before = device().memory.live;
      let after = 0;
      const probe = noting(() => {
        after = device().memory.live;
      });
      const { value, grads } = valueAndGrad(() => ops.sum(probe(ops.neg(ops.neg(ops.neg(x))))), [x]);
      expect(after - before).toBeLessThan(3 * 1000 * (device().name === "reference" ? 8 : 4)); // dy, the probe's, and small change
      for (const t of [x, value, ...grads]) t.free();
    });

    test.each([
      ["f", (x: Tensor) => failing(ops.tanh(x))],
      ["an op", (x: Tensor) => ops.sum(op("broken", (t: Tensor) => failing(ops.neg(t)))(ops.tanh(x)))],
      ["an op's shapes", (x: Tensor) => ops.sum(ops.matmul(ops.exp(x), ops.tanh(x)))],
      ["the way back", (x: Tensor) => ops.sum(ops.tanh(brokenBack(ops.tanh(x))))],
      ["the way back, with other gradients waiting", (x: Tensor) => ops.sum(ops.add(brokenBack(ops.tanh(x)), ops.exp(x)))],
    ])("an exception in %s loses nothing", (_, f) =>
      balanced(device(), async () => {
        const x = ones([100, 2]);
        expect(() => valueAndGrad(() => f(x), [x])).toThrow(/on purpose|k is 2/);
        const { value, grads } = valueAndGrad(() => ops.sum(x), [x]); // and the tape works as before
        expect((await grads[0].data())[0]).toBe(1);
        for (const t of [x, value, ...grads]) t.free();
      }),
    );

    test("nested scopes hand on what they return, and free the rest", () =>
      balanced(device(), async () => {
        let lost!: Tensor;
        const [a, list] = scoped(() => {
          const { first, second } = scoped(() => {
            lost = ones([4]);
            return { first: tensor([1]), second: [tensor([2]), tensor([3])] };
          });
          return [first, second] as const;
        });
        expect([await a.item(), await list[0].item(), await list[1].item()]).toEqual([1, 2, 3]);
        await expect(lost.data()).rejects.toThrow("used after it was freed");
        for (const t of [a, ...list]) t.free();
      }));

    test("keep takes a tensor out of its scopes", () =>
      balanced(device(), async () => {
        let kept!: Tensor;
        scoped(() => {
          scoped(() => {
            kept = keep(tensor([5]));
          });
        });
        expect(await kept.item()).toBe(5);
        kept.free();
      }));

    test("freeing twice is harmless, and a view outlives its source", () =>
      balanced(device(), async () => {
        const x = tensor([1, 2, 3, 4]);
        const view = x.withShape([2, 2]);
        x.free();
        x.free();
        expect(await values(view)).toEqual([1, 2, 3, 4]);
        view.free();
      }));
  });

  describe("errors", () => {
    const freed = "tensor [2]: used after it was freed; return it from its scope, or keep() it there, to use it outside";
    test("a freed tensor says so wherever it is used", async () => {
      const x = ones([2]);
      x.free();
      for (const use of [() => ops.neg(x), () => x.withShape([2, 1]), () => x.write([1, 2]), () => x.hold()]) expect(use).toThrow(freed);
      await expect(x.data()).rejects.toThrow(freed);
    });

    test("a value that left valueAndGrad unreturned says so", () => {
      let escaped!: Tensor;
      const x = ones([2]);
      const { value } = valueAndGrad(() => {
        escaped = ops.neg(x);
        return ops.sum(escaped);
      }, []);
      expect(() => ops.neg(escaped)).toThrow(freed);
      for (const t of [x, value]) t.free();
    });

    test("devices do not mix", () => {
      const other = openReference();
      const [x, y] = [ones([2]), withDevice(other, () => ones([2]))];
      expect(() => ops.add(x, y)).toThrow(/^add: b is on reference .* but another tensor is on .*; bring them to one device$/);
      x.free();
    });

    test("dtypes do not mix", () => {
      const [x, n] = [ones([2]), integers([1, 2])];
      expect(() => ops.add(x, n)).toThrow(new TypeError('add: b must be f32 but is u32; cast(x, "f32") makes it so'));
      for (const t of [x, n]) t.free();
    });
  });
});

onDevices((device) => {
  test("gradients of two halves, accumulated, are those of the whole", async () => {
    const [x, labels, w, count] = [normal(Key.from(1), 1, [6, 4]), [0, 2, 1, 1, 2, 0], normal(Key.from(2), 1, [3, 4]), tensor([6])];
    const grads = (from: number, to: number) =>
      scoped(() => {
        const loss = () => {
          const rows = ops.slice(x, 0, from, to);
          return ops.crossEntropy(ops.linear(rows, w), integers(labels.slice(from, to)), { count });
        };
        return valueAndGrad(loss, [w]).grads;
      });
    const whole = grads(0, 6);
    let sums: Tensor[] | null = null;
    for (const [from, to] of [
      [0, 2],
      [2, 3],
      [3, 6],
    ])
      sums = accumulate(sums, grads(from, to));
    const [want, got] = [await whole[0].data(), await sums![0].data()];
    got.forEach((value, i) => {
      expect(value).toBeCloseTo(want[i], 6);
    });
    expect(() => accumulate(sums, [])).toThrow("accumulate(sums, grads): 0 gradients for 1 sums");
    expect(() => accumulate(sums, [x])).toThrow("accumulate(sums, grads): gradient 0 is [6, 4] but its sum [3, 4]");
    for (const t of [x, w, count, ...whole, ...sums!]) t.free();
    expect(device().memory.live).toBe(0);
  });
});

test("what is no op, no gradient, no list of tensors, or async is said by name", async () => {
  await withDevice(openReference(), async () => {
    const x = ones([3]);
    const made = (how: unknown) => op("mine", ((t: Tensor) => (how as (t: Tensor) => unknown)(t)) as never);
    expect(() => made((t: Tensor) => ops.neg(t))(x)).toThrow(/^mine: an op gives \[y, \[kept...\], .*; this one gave f32 \[3\]$/);
    const gradient = (back: unknown) => () => valueAndGrad(() => ops.sum(made((t: Tensor) => [ops.neg(t), [], back])(ops.mul(x, 2))), [x]);
    expect(gradient((dy: Tensor) => ops.neg(dy))).toThrow(
      /^mine: its way back gives a gradient, or null, for each of 1 inputs; got f32 \[3\]$/,
    );
    expect(gradient(() => [])).toThrow(/got a list of 0$/);
    const forgets = op("forgets", (t: Tensor) => [ops.square(t), [], (dy) => [ops.mul(dy, t)]]);
    expect(() => valueAndGrad(() => ops.sum(forgets(ops.mul(x, 2))), [x])).toThrow(
      "forgets: its way back uses a tensor [3] that was not kept for it; name it in the op's second item, [kept...]",
    );
    expect(() => valueAndGrad(() => ops.sum(x), [["x", x]] as never)).toThrow(
      /^valueAndGrad\(f, wrt\): wrt is a list of tensors; got \[a list\]/,
    );
    expect(() => valueAndGrad(() => ops.sum(x), x as never)).toThrow("wrt is a list of tensors; got f32 [3]");
    expect(() => valueAndGrad((async () => ops.sum(x)) as never, [x])).toThrow("valueAndGrad(f, wrt): f returned a promise");
    expect(() => valueAndGrad((() => undefined) as never, [x])).toThrow(
      "f must return a tensor, or a list that begins with one; got undefined",
    );
    expect(() => x.withShape([40])).toThrow("withShape(shape): [3] does not fill [40]");
    expect(`${x}`).toBe("Tensor f32 [3] on reference");
  });
});

test("gradients are made where their tensors are", () => {
  const [here, there] = [openReference(), openReference()];
  const x = withDevice(here, () => ones([4]));
  const { value, grads } = withDevice(there, () => valueAndGrad(() => ops.add(ops.sum(ops.square(x)), ops.mean(x)), [x]));
  expect([value.device, grads[0].device]).toEqual([here, here]);
});

test("what is no tensor's values or shape is refused", () => {
  withDevice(openReference(), () => {
    const give =
      (...args: unknown[]) =>
      () =>
        tensor(...(args as Parameters<typeof tensor>));
    expect(
      give([
        [1, 2],
        [3, 4],
      ]),
    ).toThrow("tensor(values, shape): values[0] is a list; give plain numbers row by row and the shape beside them");
    expect(give("abc")).toThrow("tensor(values, shape): values are a list of numbers; got a string");
    expect(give([1, null])).toThrow("values[1] is null");
    expect(give([1, 2, 3], [1.5, 2])).toThrow("tensor(values, shape): sizes are integers, 0 or more; got [1.5, 2]");
    expect(give([1, 2], [-1, -2])).toThrow("sizes are integers, 0 or more; got [-1, -2]");
    expect(give([1], [1], "float32")).toThrow("there is no dtype float32; give one of f32, u32, i32, f16");
    expect(() => ones(3 as never)).toThrow("a shape is a list of sizes such as [2, 3]; got 3");
    expect(() => integers([-1])).toThrow("integers(values, shape): values[0] is -1; give integers from 0 to 2^32 - 1");
    const shape = [2, 2];
    const t = tensor([1, 2, 3, 4], shape);
    shape[0] = 4;
    expect(t.shape).toEqual([2, 2]);
  });
});

/** What was made before it is lost, unless somebody frees it. */
function failing(_made: Tensor): never {
  throw new Error("on purpose");
}

/** -x, which tells when the way back passes it. */
const noting = (note: () => void) =>
  op("noting", (x: Tensor) => [
    ops.neg(x),
    [],
    (dy) => {
      note();
      return [dy];
    },
  ]);

/** An op whose way back makes something, and fails. */
const brokenBack = op("broken", (t: Tensor) => [ops.neg(t), [t], (dy) => failing(ops.neg(dy))]);

test("weights without a key are of unknown content, with one multiples of its numbers", async () => {
  const [nothing, a, b] = withDevice(openReference(), () => [
    normal(null, 1, [3]),
    normal(Key.from(1), 2, [3]),
    normal(Key.from(1), 1, [3]),
  ]);
  expect((await nothing.data()).every(Number.isNaN)).toBe(true);
  expect(await values(a)).toEqual((await values(b)).map((value) => 2 * value));
});

/** Checkpointing: the same value and gradients, bit for bit, dropout included, in less memory. */

import { beforeEach, expect, test } from "vitest";
import { checkpoint } from "../../autograd/checkpoint.ts";
import { add, attention, dropout, gather, linear, matmul, mul, sum, tanh } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { inference, valueAndGrad, vjp } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { Key } from "../../src/key.ts";
import { index, segments } from "../../src/stream.ts";
import { keep, normal, ones, scoped, type Tensor } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

type Through = (f: () => Tensor) => Tensor;
const plain: Through = (f) => f();

onDevices((device) => {
  let before = 0;
  beforeEach(() => {
    before = device().memory.live;
  });
  const numbers = async (made: { value: Tensor; grads: Tensor[] }) => {
    const read = await Promise.all([made.value, ...made.grads].map((t) => t.data()));
    for (const t of [made.value, ...made.grads]) t.free();
    return read;
  };

  test("a part with dropout, an index and segments of its own, and arguments nobody differentiates by", async () => {
    const [x, w, table] = keep(
      scoped(() => [normal(Key.from(1), 1, [6, 8]), normal(Key.from(2), 1, [8, 8]), normal(Key.from(3), 1, [5, 8])]),
    );
    const part = (through: Through) =>
      valueAndGrad(() => {
        const key = StepKey.from(Key.from(4));
        const frozen = tanh(ones([6, 8])); // made here, and gone when the forward pass ends
        const places = index([0, 1, 2, 3, 4, 0], 5);
        const cells = segments([4, 2]);
        const y = through(() => {
          const wide = add(linear(add(x, frozen), w), gather(table, places));
          return dropout(attention(wide, wide, x, cells, 2), { p: 0.3, key: key.fold(1) });
        });
        return sum(mul(y, y));
      }, [x, w, table]);
    const want = await numbers(part(plain));
    expect(await numbers(part(checkpoint))).toEqual(want);
    expect(await numbers(part((f) => checkpoint(() => checkpoint(f))))).toEqual(want);
    for (const t of [x, w, table]) t.free();
    expect(device().memory.live).toBe(before);
  });

  test("a whole model, layer by layer", async () => {
    const model = new Geneformer(config, Key.from(1));
    const { stream, places, labels } = packed(cellsOf([9, 5]));
    const key = StepKey.from(Key.from(2));
    const weights = [...parameters(model)].map(([, t]) => t);
    const held = device().memory.live;
    const loss = (checkpointing: boolean) => valueAndGrad(() => model.loss(stream, places, labels, { key, checkpointing }), weights);
    const want = await numbers(loss(false));
    expect(await numbers(loss(true))).toEqual(want);
    expect(device().memory.live).toBe(held);
    freeParameters(model);
  });

  test("holds less, and pays with another forward pass", async () => {
    const w = normal(Key.from(1), 0.1, [64, 64]);
    // one weight for all layers: its gradients add up in another order
    const near = (a: ArrayLike<number>[], b: ArrayLike<number>[]) =>
      a.forEach((values, i) => {
        const largest = Math.max(...Array.from(values, Math.abs));
        for (let j = 0; j < values.length; j++) expect(Math.abs(values[j] - b[i][j])).toBeLessThanOrEqual(1e-5 * largest);
      });
    const deep = (through: Through) =>
      valueAndGrad(() => {
        let y = ones([256, 64]);
        for (let i = 0; i < 8; i++) {
          const x = y;
          y = through(() => tanh(matmul(tanh(matmul(tanh(matmul(x, w)), w)), w)));
        }
        return sum(y);
      }, [w]);
    const cost = async (through: Through) => {
      const { value, grads } = deep(plain); // so that what is reserved does not tell the two apart
      for (const t of [value, ...grads]) t.free();
      const on = watched(device());
      let most = 0;
      const made = deep((f) => {
        const y = through(f);
        most = Math.max(most, on.memory.live);
        return y;
      });
      const read = await numbers(made);
      return { most, read };
    };
    const [full, thrifty] = [await cost(plain), await cost(checkpoint)];
    near(full.read, thrifty.read);
    expect(thrifty.most).toBeLessThan(0.4 * full.most);
    w.free();
  });

  test("without a tape, or with nothing to differentiate by, it is f", async () => {
    const x = ones([3]);
    const y = inference(() => checkpoint(() => mul(x, x)));
    const { value, grads } = valueAndGrad(
      () =>
        sum(
          mul(
            x,
            checkpoint(() => tanh(ones([3]))),
          ),
        ),
      [x],
    );
    expect([...(await y.data())]).toEqual([1, 1, 1]);
    expect((await grads[0].data())[0]).toBeCloseTo(Math.tanh(1), 6);
    for (const t of [x, y, value, ...grads]) t.free();
    expect(device().memory.live).toBe(before);
  });

  test("an exception on the way back leaves nothing behind", () => {
    const x = ones([3]);
    let runs = 0;
    const flaky = () => {
      if (++runs > 1) throw new Error("not the same twice");
      return mul(x, x);
    };
    expect(() => valueAndGrad(() => sum(checkpoint(flaky)), [x])).toThrow("not the same twice");
    x.free();
    expect(device().memory.live).toBe(before);
  });

  test("vjp weighs each number of the value", async () => {
    const [x, dy] = [ones([2, 3]), normal(Key.from(1), 1, [2, 3])];
    const { value, grads } = vjp(() => mul(x, x), [x], dy);
    const [want, got] = [await dy.data(), await grads[0].data()];
    got.forEach((d, i) => {
      expect(d).toBeCloseTo(2 * want[i], 5);
    });
    expect(() => vjp(() => sum(x), [x], dy)).toThrow("vjp(f, wrt, dy): f returned [] but dy is [2, 3]");
    for (const t of [x, dy, value, ...grads]) t.free();
    expect(device().memory.live).toBe(before);
  });
});

/** What the catalogue's drawn sizes leave out: batches of nothing, views, options that are refused. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { Key } from "../../src/key.ts";
import { index, segments } from "../../src/stream.ts";
import { integers, ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices((device) => {
  /** The value of an op, and the gradients of its sum. */
  const evaluate = async (call: (...args: Tensor[]) => Tensor, ...shapes: number[][]) => {
    const made = scoped(() => {
      const args = shapes.map((shape) => ones(shape));
      const { value, grads } = valueAndGrad(() => {
        const y = call(...args);
        return [ops.sum(y), y] as const;
      }, args);
      return [value[1], ...grads];
    });
    const read = await Promise.all(made.map(async (t) => ({ shape: t.shape, values: [...(await t.data())] })));
    for (const t of made) t.free();
    return read;
  };

  describe("a batch of nothing has results of nothing, and gradients of zero:", () => {
    const key = () => StepKey.from(Key.from(1));
    test.each<[string, (...args: Tensor[]) => Tensor, number[][], number[]]>([
      ["add, broadcast", (a, b) => ops.add(a, b), [[0, 3], [3]], [0, 3]],
      ["exp", (a) => ops.exp(a), [[0, 3]], [0, 3]],
      ["sum of rows", (a) => ops.sum(a, [1]), [[0, 3]], [0]],
      ["softmax", (a) => ops.softmax(a), [[0, 3]], [0, 3]],
      ["layerNorm", (x, w, b) => ops.layerNorm(x, w, b, 1e-5), [[0, 3], [3], [3]], [0, 3]],
      [
        "cosine",
        (a, b) => ops.cosine(a, b),
        [
          [0, 3],
          [0, 3],
        ],
        [0],
      ],
      [
        "matmul",
        (a, b) => ops.matmul(a, b),
        [
          [0, 3],
          [3, 2],
        ],
        [0, 2],
      ],
      ["linear", (x, w, b) => ops.linear(x, w, b), [[0, 3], [2, 3], [2]], [0, 2]],
      ["gather", (x) => ops.gather(x, index([], 4)), [[4, 3]], [0, 3]],
      [
        "attention",
        (q, k, v) => ops.attention(q, k, v, segments([]), 1),
        [
          [0, 4],
          [0, 4],
          [0, 4],
        ],
        [0, 4],
      ],
      [
        "attention of empty cells",
        (q, k, v) => ops.attention(q, k, v, segments([0, 0]), 1),
        [
          [0, 4],
          [0, 4],
          [0, 4],
        ],
        [0, 4],
      ],
      ["segmentMean", (x) => ops.segmentMean(x, segments([])), [[0, 3]], [0, 3]],
      ["dropout", (x) => ops.dropout(x, { p: 0.5, key: key() }), [[0, 3]], [0, 3]],
      ["permute", (x) => ops.permute(x, [1, 0]), [[0, 3]], [3, 0]],
      ["slice", (x) => ops.slice(x, 0, 1, 1), [[2, 3]], [0, 3]],
      ["reshape", (x) => ops.reshape(x, [3, 0]), [[0, 3]], [3, 0]],
    ])("%s", async (_, call, shapes, shape) => {
      const [y, ...grads] = await evaluate(call, ...shapes);
      expect(y).toEqual({ shape, values: [] });
      for (const [i, { shape, values }] of grads.entries()) {
        expect(shape).toEqual(shapes[i]);
        expect(values.every((value) => value === 0)).toBe(true);
      }
    });

    test("and sums of nothing are zero", async () => {
      expect((await evaluate((x) => ops.sum(x), [0, 3]))[0].values).toEqual([0]);
      expect((await evaluate((x) => ops.sum(x, [0]), [0, 3]))[0].values).toEqual([0, 0, 0]);
      expect((await evaluate((a, b) => ops.matmul(a, b), [2, 0], [0, 2]))[0].values).toEqual([0, 0, 0, 0]);
      expect((await evaluate((x) => ops.crossEntropy(x, integers([])), [0, 3]))[0].values).toEqual([0]);
      expect((await evaluate((x) => ops.segmentMean(x, segments([0])), [0, 2]))[0].values).toEqual([0, 0]);
      expect((await evaluate((x) => ops.scatterAdd(x, index([], 2)), [0, 2]))[0].values).toEqual([0, 0, 0, 0]);
    });
  });

  test("a view through reshape has its gradient too, and shares its buffer", async () => {
    const x = tensor([1, 2, 3, 4], [2, 2]);
    const live = device().memory.live;
    const view = ops.reshape(x, [-1]);
    expect(device().memory.live).toBe(live);
    const { value, grads } = valueAndGrad(() => ops.sum(ops.mul(ops.reshape(x, [4]), ops.reshape(ops.permute(x, [1, 0]), [4]))), [x]);
    expect([...(await grads[0].data())]).toEqual([2, 6, 4, 8]);
    for (const t of [x, view, value, ...grads]) t.free();
  });

  test("a row without gradient: the frozen one, and those of places that do not count", async () => {
    const [y, grad] = await evaluate((x) => ops.gather(x, index([0, 1, 2, 2, 1], 3, { count: 4, frozen: 0 })), [3, 1]);
    expect(y.values).toEqual([1, 1, 1, 1, 1]);
    expect(grad.values).toEqual([0, 1, 2]);
  });

  test("an index that leaves places out cannot scatter: its way back would not know them", () => {
    const x = ones([2, 1]);
    for (const options of [{ count: 1 }, { frozen: 1 }])
      expect(() => ops.scatterAdd(x, index([0, 1], 2, options))).toThrow(/^scatterAdd\(x, index\): the index leaves places out/);
    x.free();
  });

  test("a loss divided by a count that is given: parts of one mean", async () => {
    const labels = () => integers([0, 1]);
    const mean = (await evaluate((x) => ops.crossEntropy(x, labels()), [2, 3]))[0].values[0];
    const part = (await evaluate((x) => ops.crossEntropy(x, labels(), { count: tensor([8]) }), [2, 3]))[0].values[0];
    expect(mean).toBeCloseTo(Math.log(3), 5);
    expect(part).toBeCloseTo(mean / 4, 5);
  });

  test("cosine of a row of zeros is zero, guarded by eps", async () => {
    const made = scoped(() => {
      const [a, b] = [tensor([0, 0, 3, 4], [2, 2]), tensor([1, 2, 3, 4], [2, 2])];
      const { value, grads } = valueAndGrad(() => {
        const y = ops.cosine(a, b);
        return [ops.sum(y), y] as const;
      }, [a, b]);
      return [value[1], ...grads];
    });
    const [y, da, db] = await Promise.all(made.map(async (t) => [...(await t.data())]));
    expect(y[0]).toBe(0);
    expect(y[1]).toBeCloseTo(1, 6);
    expect([...da, ...db].every(Number.isFinite)).toBe(true);
    for (const t of made) t.free();
  });
});

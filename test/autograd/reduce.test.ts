/** Reductions where the catalogue does not go: NaN and infinities, axes of size 0 and 1, what is refused. Values from torch 1.13 unless said. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";
import { evaluate, readAll, rounded } from "./evaluate.ts";

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

onDevices((device) => {
  /** Value and gradient of a reduction of the last axis. */
  const ofRows = async (call: (x: Tensor) => Tensor, values: number[], shape: number[]) => {
    const [y, dx] = await evaluate(call, [values, shape]);
    return { y: rounded(y.values), dx: rounded(dx.values) };
  };
  const third = 0.333333;

  test("max and min: NaN prevails, numbers that tie share the gradient", async () => {
    expect(await ofRows((x) => ops.max(x, [-1]), [1, 3, 3, nan, 1, 2, -inf, -inf, -inf, -0, 0, -1], [4, 3])).toEqual({
      y: [3, nan, -inf, 0],
      dx: [0, 0.5, 0.5, nan, nan, nan, third, third, third, 0.5, 0.5, 0],
    });
    expect(await ofRows((x) => ops.min(x, [-1]), [1, 1, 3, 1, nan, 2, inf, inf, inf, -1, -0, 0], [4, 3])).toEqual({
      y: [1, nan, inf, -1],
      dx: [0.5, 0.5, 0, nan, nan, nan, third, third, third, 1, 0, 0],
    });
  });

  test("NaN of either sign is found wherever it stands in a long row", async () => {
    const bits = new Float32Array(Uint32Array.of(0xffc00001).buffer); // a negative NaN
    for (const at of [0, 255, 256, 599])
      for (const value of [nan, bits[0]]) {
        const x = tensor(new Float32Array(600).with(at, value));
        const read = await readAll(inference(() => [ops.max(x), ops.min(x), ops.argmax(x), ops.argmin(x)]));
        expect(read.map(({ values }) => values[0])).toEqual([nan, nan, at, at]);
        x.free();
      }
  });

  test("log-sum-exp: NaN and Infinity prevail; nothing but -Infinity has no gradient, where torch's is NaN", async () => {
    const x = [0, 0, -inf, nan, 1, 2, -inf, -inf, -inf, 0, inf, 1, 1000, 1000, 0, -1000, -1000, -2000];
    const { y, dx } = await ofRows((x) => ops.logSumExp(x, [-1]), x, [6, 3]);
    expect(y.slice(0, 4)).toEqual([Number(Math.LN2.toFixed(6)), nan, -inf, inf]);
    expect(y[4]).toBeCloseTo(1000.693147, 3);
    expect(y[5]).toBeCloseTo(-999.306853, 3);
    expect(dx.slice(0, 12)).toEqual([0.5, 0.5, 0, nan, nan, nan, 0, 0, 0, 0, nan, 0]);
    for (const [i, d] of [0.5, 0.5, 0, 0.5, 0.5, 0].entries()) expect(dx[12 + i]).toBeCloseTo(d, 3);
  });

  test("variance over axes that are not neighbours, with and without Bessel's correction", async () => {
    const x = [0, 1, 2, 3, 4, 5, 6, 7];
    expect(await ofRows((x) => ops.variance(x, [2, 0]), x, [2, 2, 2])).toEqual({
      y: [4.25, 4.25],
      dx: [-1.25, -0.75, -1.25, -0.75, 0.75, 1.25, 0.75, 1.25],
    });
    const { y, dx } = await ofRows((x) => ops.variance(x, [0, -1], false, { correction: 1 }), x, [2, 2, 2]);
    expect(y).toEqual([5.666667, 5.666667]);
    expect(dx).toEqual([-1.666667, -1, -1.666667, -1, 1, 1.666667, 1, 1.666667]);
    expect((await ofRows((x) => ops.variance(x, null, false, { correction: 1 }), [3], [1])).y).toEqual([nan]);
    expect((await ofRows((x) => ops.variance(x), [3], [1])).y).toEqual([0]);
  });

  test("variance of numbers far from zero: squares of differences, not a difference of squares", async () => {
    const x = Array.from({ length: 1000 }, (_, i) => 1e6 + (i % 2));
    expect((await ofRows((x) => ops.variance(x), x, [1000])).y[0]).toBeCloseTo(0.25, 5);
  });

  describe("the largest number's place", () => {
    test("is the first of those that tie, along an axis or in all of x", async () => {
      const x = tensor([1, 3, 3, 3, -inf, -inf, 2, 0, -0], [3, 3]);
      const read = await readAll(
        inference(() => [
          ops.argmax(x),
          ops.argmax(x, 0),
          ops.argmax(x, -1, true),
          ops.argmin(x),
          ops.argmin(x, 1),
          ops.argmin(x, 0),
          ops.argmax(x, null, true),
        ]),
      );
      expect(read).toEqual([
        { shape: [], values: [1] },
        { shape: [3], values: [1, 0, 0] },
        { shape: [3, 1], values: [1, 0, 0] },
        { shape: [], values: [4] },
        { shape: [3], values: [0, 1, 1] },
        { shape: [3], values: [0, 1, 1] },
        { shape: [1, 1], values: [1] },
      ]);
      x.free();
    });

    test("holds a place, u32, and lets no gradient through", async () => {
      const [places, [, dx]] = await Promise.all([
        (async () => {
          const x = tensor([2, 7, 1]);
          const place = ops.argmax(x);
          x.free();
          const { dtype } = place;
          place.free();
          return dtype;
        })(),
        evaluate((x) => ops.mul(x, ops.oneHot(ops.argmax(x), 3)), [[2, 7, 1], [3]]),
      ]);
      expect(places).toBe("u32");
      expect(dx.values).toEqual([0, 1, 0]);
    });

    test("frees what it makes on the way", () => {
      const x = ones([4, 5, 6]);
      const live = device().memory.live;
      const place = ops.argmax(x, 0);
      place.free();
      expect(device().memory.live).toBe(live);
      x.free();
    });
  });

  test("axes of nothing: sums are 0, means NaN, a log-sum-exp -Infinity", async () => {
    const all = [ops.sum, ops.mean, ops.variance, ops.logSumExp];
    for (const [axes, shape, count] of [
      [[1], [2], 2],
      [[0, 1], [], 1],
    ] as const)
      for (const [i, op] of all.entries()) {
        const [y, dx] = await evaluate((x) => op(x, axes), [[], [2, 0]]);
        expect(y).toEqual({ shape, values: new Array(count).fill([0, nan, nan, -inf][i]) });
        expect(dx).toEqual({ shape: [2, 0], values: [] });
      }
    for (const op of [...all, ops.max, ops.min]) {
      const [y, dx] = await evaluate((x) => op(x, [1], true), [[], [0, 3]]);
      expect(y).toEqual({ shape: [0, 1], values: [] });
      expect(dx).toEqual({ shape: [0, 3], values: [] });
    }
    const [places] = await readAll(inference(() => [ops.argmin(ones([0, 3]), 1)]));
    expect(places).toEqual({ shape: [0], values: [] });
  });

  test("no axes: each number is its own reduction", async () => {
    for (const op of [ops.sum, ops.mean, ops.max, ops.min, ops.logSumExp])
      expect(await evaluate((x) => op(x, []), [[1, -2], [2]])).toEqual([
        { shape: [2], values: [1, -2] },
        { shape: [2], values: [1, 1] },
      ]);
    expect((await evaluate((x) => ops.variance(x, []), [[1, -2], [2]]))[0].values).toEqual([0, 0]);
    for (const op of [ops.max, ops.logSumExp]) expect((await evaluate((x) => op(x), [[5], []]))[0]).toEqual({ shape: [], values: [5] });
  });

  test("what is refused", () => {
    const [x, none] = [ones([2, 3]), ones([2, 0])];
    expect(() => ops.max(none, [1])).toThrow(
      "max(x, axes): the axes hold no numbers, of which none can be the max; reduce over axes of size 1 or more",
    );
    expect(() => ops.min(none)).toThrow(/^min\(x, axes\): the axes hold no numbers/);
    expect(() => ops.argmax(none, -1)).toThrow(/^argmax\(x, axes\): the axes hold no numbers/);
    expect(() => ops.sum(x, [0, -2])).toThrow("sum(x, axes): axes [0, -2] name an axis of [2, 3] twice; name each once");
    expect(() => ops.variance(x, [2])).toThrow(/^variance: axis 2 does not exist in \[2, 3\]/);
    expect(() => ops.argmin(x, 2)).toThrow(/^argmin: axis 2 does not exist in \[2, 3\]/);
    for (const t of [x, none]) t.free();
  });

  test("gradients of two reductions of one tensor add up, and nothing stays behind", async () => {
    const live = device().memory.live;
    const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    const { value, grads } = scoped(() => valueAndGrad(() => ops.add(ops.sum(ops.max(x, [0])), ops.sum(ops.min(x, [1]))), [x]));
    expect((await readAll([value, ...grads])).map(({ values }) => values)).toEqual([[20], [1, 0, 0, 2, 1, 1]]);
    x.free();
    expect(device().memory.live).toBe(live);
  });
});

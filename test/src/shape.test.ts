/** Shapes: what a signature binds, how shapes broadcast, and the sentences their errors are. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { withDevice } from "../../src/device.ts";
import { openReference } from "../../src/reference.ts";
import { axisOf, bind, broadcast, type Shape, sizeOf, stridesOf } from "../../src/shape.ts";
import { segments } from "../../src/stream.ts";
import { full, integers, ones, tensor, zeros } from "../../src/tensor.ts";

describe("bind", () => {
  test("gives the letters their sizes, and the rest to ...", () => {
    expect(
      bind("matmul", "... m k, k n", [
        [8, 2, 3],
        [3, 5],
      ]),
    ).toEqual({ "...": [8], m: 2, k: 3, n: 5 });
    expect(bind("sum", "", [[]])).toEqual({ "...": [] });
  });

  test.each([
    [
      "m k, k n",
      [
        [2, 3],
        [4, 2],
      ],
      "matmul(m k, k n): k is 3 in argument 1 but 4 in argument 2; got [2, 3] and [4, 2]",
    ],
    ["n n", [[2, 3]], "matmul(n n): n is 2 in argument 1 but 3 in argument 1; got [2, 3]"],
    [
      "m k, k n",
      [
        [2, 3, 4],
        [4, 2],
      ],
      "matmul(m k, k n): argument 1 needs 2 axes but has 3; got [2, 3, 4] and [4, 2]",
    ],
    ["... m k, k", [[3], [3]], "matmul(... m k, k): argument 1 needs at least 2 axes but has 1; got [3] and [3]"],
    ["a, b", [[3]], "matmul(a, b): needs 2 arguments, not 1; got [3]"],
  ] as const)("%s of %j", (signature, shapes, message) => {
    expect(() => bind("matmul", signature, shapes)).toThrow(new RangeError(message));
  });
});

describe("broadcast", () => {
  test("aligns at the last axis, and 1 stretches", () => {
    expect(broadcast("add", [2, 1, 4], [3, 1])).toEqual([2, 3, 4]);
    expect(broadcast("add", [], [5])).toEqual([5]);
    expect(broadcast("add", [1], [0])).toEqual([0]);
  });

  test("says which axis does not", () => {
    expect(() => broadcast("add", [2, 3], [4])).toThrow(
      new RangeError("add(a, b): axis -1 is 3 in argument 1 but 4 in argument 2; got [2, 3] and [4]; sizes must be equal or 1"),
    );
  });

  test("either way round gives the same", () => {
    const shape = fc.array(fc.constantFrom(1, 3), { maxLength: 4 });
    fc.assert(
      fc.property(shape, shape, (a, b) => {
        expect(broadcast("add", a, b)).toEqual(broadcast("add", b, a));
      }),
      { seed: 1 },
    );
  });
});

test("strides step through row-major order", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 5 }), (shape: Shape) => {
      const strides = stridesOf(shape);
      const last = shape.reduce((at, size, axis) => at + (size - 1) * strides[axis], 0);
      expect(last).toBe(sizeOf(shape) - 1);
      if (shape.length > 0) expect(strides.at(-1)).toBe(1);
    }),
    { seed: 1 },
  );
});

test("axes count from either end", () => {
  expect([axisOf("sum", 0, [2, 3]), axisOf("sum", -1, [2, 3])]).toEqual([0, 1]);
  for (const axis of [2, -3, 0.5])
    expect(() => axisOf("sum", axis, [2, 3])).toThrow(new RangeError(`sum: axis ${axis} does not exist in [2, 3]; give one from -2 to 1`));
});

describe("ops say what disagrees:", () => {
  const on = openReference();
  const [x, y, v] = withDevice(on, () => [ones([2, 3]), ones([4, 2]), ones([3])]);
  const errors: [string, () => unknown, string][] = [
    ["matmul", () => ops.matmul(x, y), "matmul(... m k, ... k n): k is 3 in argument 1 but 4 in argument 2; got [2, 3] and [4, 2]"],
    [
      "matmul's transposes",
      () => ops.matmul(x, v, { transposeA: true }),
      "matmul(... k m, ... k n): argument 2 needs at least 2 axes but has 1; got [2, 3] and [3]",
    ],
    [
      "matmul's batches",
      () => ops.matmul(ones([2, 2, 2]), ones([3, 2, 2])),
      "matmul(... m k, ... k n): batches differ; got [2, 2, 2] and [3, 2, 2]; make them equal, or leave one out",
    ],
    ["linear", () => ops.linear(x, y), "linear(... in, out in): in is 3 in argument 1 but 2 in argument 2; got [2, 3] and [4, 2]"],
    [
      "linear's bias",
      () => ops.linear(x, ones([4, 3]), v),
      "linear(out in, out): out is 4 in argument 1 but 3 in argument 2; got [4, 3] and [3]",
    ],
    [
      "linear's residual",
      () => ops.linear(x, ones([4, 3]), null, x),
      "linear(... in, out in): the residual must have the result's shape [2, 4]; got [2, 3]",
    ],
    [
      "linear's relu",
      () => ops.linear(x, ones([3, 3]), null, x, { relu: true }),
      "linear(... in, out in): relu with a residual hides where relu was zero; add the residual by itself",
    ],
    [
      "add",
      () => ops.add(x, ones([2])),
      "add(a, b): axis -1 is 3 in argument 1 but 2 in argument 2; got [2, 3] and [2]; sizes must be equal or 1",
    ],
    ["six axes", () => ops.add(ones([1, 1, 1, 1, 1, 2]), ones([2])), "add: [1, 1, 1, 1, 1, 2] has 6 axes; at most 5 are supported"],
    ["sum", () => ops.sum(x, [2]), "sum: axis 2 does not exist in [2, 3]; give one from -2 to 1"],
    ["softmax", () => ops.softmax(full([], 1)), "softmax(... n): argument 1 needs at least 1 axes but has 0; got []"],
    [
      "layerNorm",
      () => ops.layerNorm(x, v, ones([2]), 1e-5),
      "layerNorm(... n, n, n): n is 3 in argument 1 but 2 in argument 3; got [2, 3] and [3] and [2]",
    ],
    ["cosine", () => ops.cosine(x, v), "cosine(... n, ... n): shapes differ; got [2, 3] and [3]"],
    [
      "attention",
      () => ops.attention(x, x, x, segments([2]), 2),
      "attention(n c, n c, n c): width 3 does not divide into 2 heads; got q [2, 3]",
    ],
    [
      "attention's rows",
      () => ops.attention(x, x, x, segments([3]), 1),
      "attention(n c, n c, n c): the segments cover 3 rows; got q [2, 3]",
    ],
    [
      "attention's width",
      () => ops.attention(ones([2, 129]), ones([2, 129]), ones([2, 129]), segments([2]), 1),
      "attention(n c, n c, n c): heads are 129 wide; at most 128 are supported; got q [2, 129]",
    ],
    ["segmentMean", () => ops.segmentMean(x, segments([3])), "segmentMean(n c): the segments cover 3 rows; got x [2, 3]"],
    [
      "crossEntropy",
      () => ops.crossEntropy(x, integers([0])),
      "crossEntropy(m v, m): m is 2 in argument 1 but 1 in argument 2; got [2, 3] and [1]",
    ],
    ["reshape", () => ops.reshape(x, [4, -1]), "reshape(x, shape): [2, 3] has 6 elements, which do not fill [4, -1]"],
    ["permute", () => ops.permute(x, [0, 0]), "permute(x, axes): axes [0, 0] do not name each axis of [2, 3] once"],
    ["slice", () => ops.slice(x, 1, 2, 4), "slice(x, axis, start, stop): 2 to 4 does not lie within axis 1 of [2, 3]"],
    ["tensor", () => tensor([1, 2, 3], [2]), "tensor(values, shape): 3 values do not fill [2]"],
    ["write", () => zeros([2]).write([1]), "write(values): 1 values do not fill [2]"],
  ];
  test.each(errors)("%s", (_, call, message) => {
    expect(() => withDevice(on, call)).toThrow(message);
    expect(() => withDevice(on, call)).toThrow(RangeError);
  });
});

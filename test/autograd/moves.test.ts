/** Ops that move numbers, beyond what the catalogue draws: whole numbers, sizes of 0 and 1, five axes and more, and what they refuse. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import type { Dtype } from "../../kernels/kernel.ts";
import { withDevice } from "../../src/device.ts";
import { index } from "../../src/stream.ts";
import { integers, ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";

onDevices((device) => {
  const read = async (call: () => Tensor) => {
    const y = scoped(call);
    const found = { dtype: y.dtype, shape: y.shape, values: [...(await y.data())] };
    y.free();
    expect(device().memory.live).toBe(0);
    return found;
  };

  describe("what moves:", () => {
    const numbers: [Dtype, number[]][] = [
      ["f32", [1.5, -2, 3, 4, -5.25, 6]],
      ["u32", [1, 2 ** 32 - 1, 3, 0x7fc00001, 5, 6]], // bits that are NaN as a float stay as they are
      ["i32", [-1, 2, -(2 ** 31), 4, -5, 6]],
      ["f16", [1.5, -0.25, 65504, 0, 2 ** -14, -3]],
    ];
    const moves: [string, (x: Tensor) => Tensor, number[], (number | null)[]][] = [
      ["permute", (x) => ops.permute(x, [1, 0]), [3, 2], [0, 3, 1, 4, 2, 5]],
      ["slice", (x) => ops.slice(x, 1, 1, 3), [2, 2], [1, 2, 4, 5]],
      ["pad", (x) => ops.pad(x, 0, 1, 0), [3, 3], [null, null, null, 0, 1, 2, 3, 4, 5]],
      ["pad, nothing", (x) => ops.pad(x, -1, 0, 0), [2, 3], [0, 1, 2, 3, 4, 5]],
      ["broadcastTo", (x) => ops.broadcastTo(ops.slice(x, 1, 0, 1), [2, 2, 2]), [2, 2, 2], [0, 0, 3, 3, 0, 0, 3, 3]],
      ["concat", (x) => ops.concat([x, ops.slice(x, 1, 2, 3)], 1), [2, 4], [0, 1, 2, 2, 3, 4, 5, 5]],
      ["concat of one", (x) => ops.concat([x], 1), [2, 3], [0, 1, 2, 3, 4, 5]],
      ["stack", (x) => ops.stack([x, x], -1), [2, 3, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]],
      ["reshape", (x) => ops.reshape(x, [3, -1]), [3, 2], [0, 1, 2, 3, 4, 5]],
      ["gather", (x) => ops.gather(x, index([1, 0, 1], 2, { gradients: false })), [3, 3], [3, 4, 5, 0, 1, 2, 3, 4, 5]],
      ["gather on the device", (x) => ops.gather(x, integers([2, 1], [2, 1])), [2, 1, 3], [null, null, null, 3, 4, 5]],
    ];
    for (const [dtype, values] of numbers)
      test.each(moves)(`${dtype}: %s`, async (_, move, shape, places) => {
        const wanted = { dtype, shape, values: places.map((at) => (at === null ? 0 : values[at])) };
        expect(await read(() => move(tensor(values, [2, 3], dtype)))).toEqual(wanted);
      });
  });

  describe("sizes of 0 and 1, and many axes:", () => {
    /** Shape and sum of a result, and of its gradient. */
    const evaluate = async (call: (...args: Tensor[]) => Tensor, shapes: readonly number[][]) => {
      const made = scoped(() => {
        const args = shapes.map((shape) => ones(shape));
        const { value, grads } = valueAndGrad(() => {
          const y = call(...args);
          return [ops.sum(ops.reshape(y, [y.size])), y] as const; // sum takes five axes
        }, args);
        return [value[1], ...grads];
      });
      const found = await Promise.all(made.map(async (t) => [t.shape, Float64Array.from(await t.data()).reduce((a, b) => a + b, 0)]));
      for (const t of made) t.free();
      return found;
    };
    const five = [2, 1, 3, 1, 2];
    test.each<[string, (...args: Tensor[]) => Tensor, number[][], [number[], number][]]>([
      ["pad of nothing", (x) => ops.pad(x, 0, 1, 2), [[0, 2]], [[[3, 2], 0], [[0, 2], 0]]],
      ["pad to nothing", (x) => ops.pad(x, 0, 1, 2), [[2, 0]], [[[5, 0], 0], [[2, 0], 0]]],
      ["pad of one", (x) => ops.pad(x, 0, 1, 0), [[1]], [[[2], 1], [[1], 1]]],
      ["pad of five axes", (x) => ops.pad(x, 2, 1, 1), [five], [[[2, 1, 5, 1, 2], 12], [five, 12]]],
      ["slice of five axes", (x) => ops.slice(x, 2, 1, 2), [five], [[[2, 1, 1, 1, 2], 4], [five, 4]]],
      ["permute of five axes", (x) => ops.permute(x, [4, 3, 2, 1, 0]), [five], [[[2, 1, 3, 1, 2], 12], [five, 12]]],
      ["permute of none", (x) => ops.permute(x, []), [[]], [[[], 1], [[], 1]]],
      ["broadcastTo nothing", (x) => ops.broadcastTo(x, [0, 2]), [[1, 2]], [[[0, 2], 0], [[1, 2], 0]]],
      ["broadcastTo of one", (x) => ops.broadcastTo(x, [2, 3]), [[]], [[[2, 3], 6], [[], 6]]],
      ["broadcastTo five axes", (x) => ops.broadcastTo(x, [2, 4, 3, 5, 2]), [five], [[[2, 4, 3, 5, 2], 240], [five, 240]]],
      ["broadcastTo the same", (x) => ops.broadcastTo(x, [2, 3]), [[2, 3]], [[[2, 3], 6], [[2, 3], 6]]],
      ["concat of nothing", (a, b) => ops.concat([a, b]), [[0, 2], [0, 2]], [[[0, 2], 0], [[0, 2], 0], [[0, 2], 0]]],
      ["concat with nothing", (a, b) => ops.concat([a, b]), [[0, 2], [1, 2]], [[[1, 2], 2], [[0, 2], 0], [[1, 2], 2]]],
      ["concat of six axes", (a, b) => ops.concat([a, b], 3), [[1, ...five], [1, ...five]], [[[1, 2, 1, 6, 1, 2], 24], [[1, ...five], 12], [[1, ...five], 12]]],
      ["stack of numbers", (a, b) => ops.stack([a, b]), [[], []], [[[2], 2], [[], 1], [[], 1]]],
      ["stack of nothing", (a, b) => ops.stack([a, b], 1), [[2, 0], [2, 0]], [[[2, 2, 0], 0], [[2, 0], 0], [[2, 0], 0]]],
      ["gather from nothing", (x) => ops.gather(x, integers([0, 1])), [[0, 2]], [[[2, 2], 0], [[0, 2], 0]]],
      ["gather of nothing", (x) => ops.gather(x, integers([])), [[3, 2]], [[[0, 2], 0], [[3, 2], 0]]],
      ["gather of empty rows", (x) => ops.gather(x, integers([0, 2])), [[3, 0]], [[[2, 0], 0], [[3, 0], 0]]],
      ["gather of one", (x) => ops.gather(x, integers([0], [])), [[1]], [[[], 1], [[1], 1]]],
      ["gather of five axes", (x) => ops.gather(x, integers([0, 1, 1], [3, 1])), [five], [[[3, 1, 1, 3, 1, 2], 18], [five, 18]]],
      ["scatterAdd of nothing", (x) => ops.scatterAdd(x, integers([]), 2), [[0, 3]], [[[2, 3], 0], [[0, 3], 0]]],
      ["scatterAdd into nothing", (x) => ops.scatterAdd(x, integers([0, 1]), 0), [[2, 3]], [[[0, 3], 0], [[2, 3], 0]]],
      ["scatterAdd of one", (x) => ops.scatterAdd(x, integers([0], []), 1), [[]], [[[1], 1], [[], 1]]],
      ["matmul, m = 0", (a, b) => ops.matmul(a, b), [[2, 0, 3], [2, 3, 4]], [[[2, 0, 4], 0], [[2, 0, 3], 0], [[2, 3, 4], 0]]],
      ["matmul, n = 0", (a, b) => ops.matmul(a, b), [[2, 4, 3], [2, 3, 0]], [[[2, 4, 0], 0], [[2, 4, 3], 0], [[2, 3, 0], 0]]],
      ["matmul, k = 0", (a, b) => ops.matmul(a, b), [[2, 4, 0], [2, 0, 3]], [[[2, 4, 3], 0], [[2, 4, 0], 0], [[2, 0, 3], 0]]],
      ["matmul, k = 0, a transposed", (a, b) => ops.matmul(a, b, { transposeA: true }), [[0, 4], [0, 3]], [[[4, 3], 0], [[0, 4], 0], [[0, 3], 0]]],
      ["matmul, k = 0, repeated", (a, b) => ops.matmul(a, b), [[2, 1, 4, 0], [3, 0, 3]], [[[2, 3, 4, 3], 0], [[2, 1, 4, 0], 0], [[3, 0, 3], 0]]],
      ["matmul, batch 0", (a, b) => ops.matmul(a, b), [[0, 2, 3], [3, 2]], [[[0, 2, 2], 0], [[0, 2, 3], 0], [[3, 2], 0]]],
      ["matmul, batch 0 and 1", (a, b) => ops.matmul(a, b), [[0, 2, 2, 3], [1, 2, 3, 2]], [[[0, 2, 2, 2], 0], [[0, 2, 2, 3], 0], [[1, 2, 3, 2], 0]]],
      ["matmul of ones", (a, b) => ops.matmul(a, b), [[1, 1, 1], [1, 1]], [[[1, 1, 1], 1], [[1, 1, 1], 1], [[1, 1], 1]]],
      ["matmul, both repeat", (a, b) => ops.matmul(a, b), [[2, 1, 1, 2], [3, 2, 1]], [[[2, 3, 1, 1], 12], [[2, 1, 1, 2], 12], [[3, 2, 1], 12]]],
    ])("%s", async (_, call, shapes, wanted) => {
      expect(await evaluate(call, shapes)).toEqual(wanted);
    }); // biome-ignore format: a line each
  });

  test("equal and one-sided batches copy nothing; others repeat one side", () => {
    const on = watched(device());
    const moved = (a: number[], b: number[]) => {
      on.ran.length = 0;
      withDevice(on, () => scoped(() => void ops.matmul(ones(a), ones(b))));
      return on.ran.filter((name) => !name.startsWith("fill"));
    };
    expect(moved([4, 2, 3], [1, 4, 3, 2])).toEqual(["matmul NN"]);
    expect(moved([4, 2, 3], [3, 2])).toEqual(["matmul NN"]);
    expect(moved([1, 2, 3], [2, 4, 3, 2])).toEqual(["matmul NN"]);
    expect(moved([4, 2, 3], [2, 4, 3, 2])).toEqual(["permute f32", "matmul NN"]);
    expect(moved([2, 1, 2, 3], [4, 3, 2])).toEqual(["permute f32", "permute f32", "matmul NN"]);
  });

  test("errors say what disagrees", () => {
    const made = scoped(() => {
      const [x, y, u] = [ones([2, 3]), ones([2, 4]), integers([1, 2, 3], [1, 3])];
      const errors: [() => Tensor, Error][] = [
        [() => ops.concat([]), new RangeError("concat(tensors, axis): the list is empty; give one tensor at least")],
        [
          () => ops.concat([x, x, y]),
          new RangeError("concat(tensors, axis): tensors 1 and 3 differ beside axis 0; got [2, 3] and [2, 4]; make all other axes equal"),
        ],
        [
          () => ops.concat([x, ones([2])]),
          new RangeError("concat(tensors, axis): tensors 1 and 2 differ beside axis 0; got [2, 3] and [2]; make all other axes equal"),
        ],
        [() => ops.concat([x], 2), new RangeError("concat: axis 2 does not exist in [2, 3]; give one from -2 to 1")],
        [() => ops.concat([x, u]), new TypeError("concat(tensors, axis): tensor 1 is f32 but tensor 2 is u32; give all in one dtype")],
        [() => ops.stack([]), new RangeError("stack(tensors, axis): the list is empty; give one tensor at least")],
        [
          () => ops.stack([x, y]),
          new RangeError("stack(tensors, axis): tensors 1 and 2 differ; got [2, 3] and [2, 4]; make all shapes equal"),
        ],
        [() => ops.stack([x], 3), new RangeError("stack: axis 3 does not exist in [2, 3, 1]; give one from -3 to 2")],
        [() => ops.pad(x, 0, -1, 2), new RangeError("pad(x, axis, before, after): -1 and 2 rows of zeros; give integers from 0")],
        [() => ops.pad(x, 0, 0, 0.5), new RangeError("pad(x, axis, before, after): 0 and 0.5 rows of zeros; give integers from 0")],
        [
          () => ops.broadcastTo(x, [1, 3]),
          new RangeError("broadcastTo(x, shape): [2, 3] does not stretch to [1, 3]; its sizes must be equal, or 1 in x"),
        ],
        [
          () => ops.matmul(ones([3]), ones([3, 2])),
          new RangeError("matmul(... m k, ... k n): argument 1 needs at least 2 axes but has 1; got [3] and [3, 2]"),
        ],
        [
          () => ops.matmul(ones([2, 3]), ones([3])),
          new RangeError("matmul(... m k, ... k n): argument 2 needs at least 2 axes but has 1; got [2, 3] and [3]"),
        ],
        [
          () => ops.matmul(ones([2, 3, 1, 1]), ones([2, 1, 1])),
          new RangeError(
            "matmul(... m k, ... k n): batches differ; got [2, 3, 1, 1] and [2, 1, 1]; make them equal, or leave one out, or 1 where it repeats",
          ),
        ],
      ];
      for (const [call, error] of errors) expect(call).toThrow(error);
      return [];
    });
    expect(made).toEqual([]);
  });
});

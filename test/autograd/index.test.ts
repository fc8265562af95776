/** Indices made on the device: inverted there, the same at each run, and places that name no row. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { baseOf, invert } from "../../kernels/gather.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { index, segments } from "../../src/stream.ts";
import { integers, ones, run, scoped, type Tensor, tensor, zeros } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";

onDevices((device, name) => {
  const numbers = async (made: readonly Tensor[]) => {
    const read = await Promise.all(made.map(async (t) => [...(await t.data())]));
    for (const t of made) t.free();
    expect(device().memory.live).toBe(0);
    return read;
  };
  const uniform = (seed: number, n: number) =>
    Key.from(seed)
      .uniforms(n)
      .map((u) => Math.fround(2 * u - 1));

  describe("invert", () => {
    const checked = async (values: readonly number[], rows: number) => {
      const made = scoped(() =>
        (["u32", "i32"] as const).flatMap((dtype) => {
          const given = tensor(dtype === "u32" ? values.map((value) => value >>> 0) : values, [values.length], dtype);
          const { order, starts } = run(
            invert(dtype),
            { index: given },
            { order: [values.length], starts: [rows + 1] },
            { n: values.length, rows, base: baseOf(rows) },
          );
          return [order, starts];
        }),
      );
      const [order, starts, ...signed] = await numbers(made);
      const end = starts[rows];
      expect([signed[0].slice(0, end), signed[1]]).toEqual([order.slice(0, end), starts]);
      for (let row = 0; row < rows; row++)
        expect(order.slice(starts[row], starts[row + 1])).toEqual(values.flatMap((value, i) => (value === row ? [i] : [])));
      expect(starts[0]).toBe(0);
      expect(end).toBe(values.filter((value) => value >= 0 && value < rows).length);
    };

    test("groups places by the row they name, in order, and leaves out those that name none", () =>
      fc.assert(fc.asyncProperty(fc.array(fc.integer({ min: -2, max: 11 }), { maxLength: 60 }), fc.integer({ min: 0, max: 10 }), checked), {
        numRuns: name === "webgpu" ? 20 : 60,
        seed: 1,
      }));

    test.each([
      [255, 700],
      [256, 257],
      [3, 1000],
      [5000, 2000], // 71 digits in 8 chunks of places: more counts than lanes to add them up
    ])("%d rows, %d places", (rows, n) =>
      checked(
        Array.from(uniform(rows, n), (u) => Math.floor((u + 1) * 0.55 * rows)),
        rows,
      ),
    );
  });

  test("gives what an index of the host gives: values and gradients, to the bit, and again at each run", async () => {
    const places = Array.from(uniform(1, 500), (u) => Math.floor((u + 1) * 20));
    const evaluate = (made: () => Parameters<typeof ops.gather>[1]) =>
      scoped(() => {
        const [x, w, z] = [
          tensor(uniform(2, 40 * 5), [40, 5]),
          tensor(uniform(3, 500 * 5), [500, 5]),
          tensor(uniform(4, 500 * 5), [500, 5]),
        ];
        const { value, grads } = valueAndGrad(() => {
          const at = made();
          const y = ops.gather(x, at);
          const s = ops.scatterAdd(z, at, 40);
          return [ops.sum(ops.mul(y, w)), y, s] as const;
        }, [x]);
        return [...value, ...grads];
      });
    const host = await numbers(evaluate(() => index(places, 40)));
    for (let again = 0; again < 3; again++) {
      expect(await numbers(evaluate(() => integers(places)))).toEqual(host);
      expect(await numbers(evaluate(() => tensor(places, [500], "i32")))).toEqual(host);
    }
  });

  test("a place that names no row reads zeros, gets no gradient, and adds nothing", async () => {
    const places = [0, -1, 3, 2, 2 ** 31 - 1, 2];
    for (const dtype of ["i32", "u32"] as const) {
      const made = scoped(() => {
        const given = tensor(
          places.map((place) => (dtype === "u32" ? place >>> 0 : place)),
          [2, 3],
          dtype,
        );
        const [x, z] = [tensor([1, 2, 3], [3]), ones([2, 3])];
        const { value, grads } = valueAndGrad(() => {
          const [y, s] = [ops.gather(x, given), ops.scatterAdd(z, given, 3)];
          return [ops.add(ops.sum(y), ops.sum(s)), y, s] as const;
        }, [x, z]);
        return [value[1], value[2], ...grads];
      });
      expect(await numbers(made)).toEqual([
        [1, 0, 0, 3, 0, 3],
        [1, 0, 2],
        [1, 0, 2],
        [1, 0, 0, 1, 0, 1],
      ]);
    }
  });

  test("is inverted only where a gradient is asked for", () => {
    const on = watched(device());
    withDevice(on, () =>
      scoped(() => {
        const x = ones([3, 2]);
        const at = integers([2, 0]);
        ops.gather(x, at);
        valueAndGrad(() => ops.sum(ops.gather(zeros([3, 2]), at)), [x]);
        expect(on.ran.filter((name) => name.startsWith("invert"))).toEqual([]);
        valueAndGrad(() => ops.sum(ops.gather(x, at)), [x]);
        expect(on.ran.filter((name) => name.startsWith("invert"))).toEqual(["invert u32"]);
      }),
    );
    expect(device().memory.live).toBe(0);
  });

  test("segmentMax: rows that tie share the gradient, and an empty segment has 0", async () => {
    const made = scoped(() => {
      const x = tensor([-1, 5, -1, 7, -2, 7, -3, 7, 9, 9], [5, 2]);
      const { value, grads } = valueAndGrad(() => {
        const y = ops.segmentMax(x, segments([4, 0], { rows: 5 }));
        return [ops.sum(ops.mul(y, tensor([4, 3, 5, 5], [2, 2]))), y] as const;
      }, [x]);
      return [value[1], ...grads];
    });
    expect(await numbers(made)).toEqual([
      [-1, 7, 0, 0],
      [2, 0, 2, 1, 0, 1, 0, 1, 0, 0],
    ]);
  });

  test("errors say what disagrees", () => {
    scoped(() => {
      const x = ones([2, 3]);
      expect(() => ops.gather(x, ones([2]))).toThrow(new TypeError("gather(x, index): the index is f32; give u32 or i32"));
      expect(() => ops.gather(ones([]), integers([0]))).toThrow("gather(x, index): the index points into rows; got x []");
      expect(() => ops.gather(x, index([0], 3))).toThrow("gather(x, index): the index points into 3 rows; got x [2, 3]");
      expect(() => ops.scatterAdd(x, integers([0, 1]))).toThrow(
        "scatterAdd(x, index, rows): rows is null; give the result's number of rows",
      );
      expect(() => ops.scatterAdd(x, integers([0]), 4)).toThrow("scatterAdd(x, index, rows): the index has shape [1]; got x [2, 3]");
      expect(() => ops.scatterAdd(x, index([0, 1], 4), 5)).toThrow(
        "scatterAdd(x, index): rows is 5; give the result's number of rows as the index has it, 4",
      );
      expect(() => ops.segmentSum(x, segments([3]))).toThrow("segmentSum(n c): the segments cover 3 rows; got x [2, 3]");
      expect(() => ops.segmentMax(x, segments([3]))).toThrow("segmentMax(n c): the segments cover 3 rows; got x [2, 3]");
    });
  });
});

/** Casts between dtypes: what truncates, saturates and overflows, halves in odd numbers, and every f16 there is. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { fromHalf, toHalf } from "../../kernels/half.ts";
import type { Dtype } from "../../kernels/kernel.ts";
import { Key } from "../../src/key.ts";
import { tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

/** Values of one dtype in others, one after the other, as numbers. */
async function through(values: ArrayLike<number>, ...dtypes: readonly [Dtype, ...Dtype[]]): Promise<number[]> {
  const made = inference(() => {
    const x = tensor(values, [values.length], dtypes[0]);
    return dtypes.slice(1).reduce((y, dtype) => ops.cast(y, dtype), x);
  });
  expect(made.dtype).toBe(dtypes.at(-1));
  const read = [...(await made.data())];
  made.free();
  return read;
}

/** The place of an f16 among all of them in order: neighbours differ by 1. */
const rank = (x: number): number => {
  const bits = toHalf(x);
  return bits & 0x8000 ? -(bits & 0x7fff) : bits;
};

onDevices((device, name) => {
  describe("f32 to integers", () => {
    const wild = [0, -0, 0.99, -0.99, 1.5, -1.5, 2.5, 1e-40, nan, inf, -inf, 3e38, -3e38];
    test("truncates toward zero, saturates, and takes NaN for 0: u32", async () => {
      const [most, last] = [0xffffffff, 4294967040]; // the largest f32 below 2^32
      expect(await through([...wild, last, 2 ** 32], "f32", "u32")).toEqual([0, 0, 0, 0, 1, 0, 2, 0, 0, most, 0, most, 0, last, most]);
    });

    test("and i32", async () => {
      const [most, least, last] = [0x7fffffff, -0x80000000, 2147483520]; // the largest f32 below 2^31
      expect((await through([...wild, last, 2 ** 31, -(2 ** 31)], "f32", "i32")).map((x) => x + 0)).toEqual(
        [0, 0, 0, 0, 1, -1, 2, 0, 0, most, least, most, least, last, most, least], // biome-ignore format: one line
      );
    });
  });

  test("between u32 and i32 the bits stay", async () => {
    expect(await through([0, 1, 0x7fffffff, 0x80000000, 0xffffffff], "u32", "i32")).toEqual([0, 1, 0x7fffffff, -0x80000000, -1]);
    expect(await through([0, 1, -1, -0x80000000], "i32", "u32")).toEqual([0, 1, 0xffffffff, 0x80000000]);
  });

  test("integers to f32 are exact up to 2^24, and beyond one of the two neighbours", async () => {
    const exact = [0, 1, 2 ** 24 - 1, 2 ** 24];
    expect(await through(exact, "u32", "f32")).toEqual(exact);
    expect(await through(exact.map((x) => -x || 0), "i32", "f32")).toEqual(exact.map((x) => -x || 0)); // biome-ignore format: one line
    const beyond = [2 ** 24 + 1, 2 ** 31 - 1, 2 ** 31 + 129];
    const found = await through(beyond, "u32", "f32");
    for (const [i, x] of beyond.entries()) expect(Math.abs(found[i] - x)).toBeLessThan(2 ** (Math.floor(Math.log2(x)) - 23));
  });

  describe("f32 to f16", () => {
    test("is exact where f16 has the number", async () => {
      const exact = [0, -0, 1, -1, 0.5, 65504, -65504, 2 ** -14, 1023, 1 / 3].map((x) => fromHalf(toHalf(x)));
      expect(await through(exact, "f32", "f16")).toEqual(exact);
    });

    test("is infinite from 65,520 on, and NaN stays", async () => {
      expect(await through([65520, -65520, 1e6, 3e38, inf, -inf, nan], "f32", "f16")).toEqual([inf, -inf, inf, inf, inf, -inf, nan]);
      const [a, b] = await through([65519, -65519], "f32", "f16");
      expect([a, b]).toEqual([65504, -65504]);
    });

    test(`else is ${name === "webgpu" ? "a neighbour" : "the nearest, ties to even"}`, async () => {
      const drawn = Key.from(1).uniforms(2001);
      const values = Float32Array.from(drawn, (u, i) => (u - 0.5) * 2 ** ((i % 30) - 13));
      const found = await through(values, "f32", "f16");
      for (const [i, x] of values.entries()) {
        const off = Math.abs(rank(found[i]) - rank(x));
        const vanished = name === "webgpu" && Math.abs(x) < 2 ** -14 && found[i] === 0; // subnormal in f16
        if (off > (name === "webgpu" ? 1 : 0) && !vanished) expect.fail(`${x} became ${found[i]}, not ${fromHalf(toHalf(x))}`);
      }
      if (name !== "webgpu") expect(await through([2049, 2051, 1 + 2 ** -11], "f32", "f16")).toEqual([2048, 2052, 1]);
    });
  });

  test("every f16 to f32 and back", async () => {
    const all = Float64Array.from({ length: 0x10000 }, (_, bits) => fromHalf(bits));
    for (const found of [await through(all, "f16", "f32"), await through(all, "f16", "f32", "f16")]) {
      const wrong = all.findIndex((x, i) => !Object.is(x, found[i]) && !(name === "webgpu" && Math.abs(x) < 2 ** -14 && found[i] === 0));
      expect(wrong < 0 ? "all the same" : `${all[wrong]} became ${found[wrong]}`).toBe("all the same");
    }
  });

  test("f16 to integers and from them goes through f32", async () => {
    expect(await through([1.5, -1.5, 65504, inf, -inf, nan], "f16", "u32")).toEqual([1, 0, 65504, 0xffffffff, 0, 0]);
    expect((await through([1.5, -1.5, 65504, inf, -inf, nan], "f16", "i32")).map((x) => x + 0)).toEqual([
      1, -1, 65504, 0x7fffffff, -0x80000000, 0,
    ]);
    expect(await through([0, 7, 2048, 100_000], "u32", "f16")).toEqual([0, 7, 2048, inf]);
    expect(await through([-7, -2048, -100_000], "i32", "f16")).toEqual([-7, -2048, -inf]);
  });

  test.each([0, 1, 2, 3, 255, 256, 257, 511, 513, 1025])("%i halves", async (n) => {
    const values = Array.from({ length: n }, (_, i) => (i % 2048) - 1024);
    expect(await through(values, "f32", "f16")).toEqual(values);
    expect(await through(values, "f16", "f32")).toEqual(values);
  });

  test("half the bytes, and none beside them", async () => {
    const before = device().memory.live;
    const x = tensor(Array(1024).fill(1));
    const whole = device().memory.live - before;
    const y = ops.cast(x, "f16");
    expect(device().memory.live - before - whole).toBe(whole / (name === "reference" ? 4 : 2)); // f32 is f64 there
    y.free();
    const same = ops.cast(x, "f32");
    expect(device().memory.live - before).toBe(whole); // the same buffer
    for (const t of [x, same]) t.free();
    expect(device().memory.live).toBe(before);
  });

  test("the gradient passes through f16 as f32, and through an integer not at all", async () => {
    const before = device().memory.live;
    const x = tensor([1.5, -2, 3]);
    const gradient = async (dtype: Dtype) => {
      const { value, grads } = valueAndGrad(() => ops.sum(ops.square(ops.cast(ops.cast(x, dtype), "f32"))), [x]);
      expect(grads[0].dtype).toBe("f32");
      const read = [...(await grads[0].data())];
      for (const t of [value, ...grads]) t.free();
      return read;
    };
    expect(await gradient("f16")).toEqual([3, -4, 6]);
    expect(await gradient("f32")).toEqual([3, -4, 6]);
    expect(await gradient("i32")).toEqual([0, 0, 0]);
    const half = ops.cast(x, "f16");
    const { value, grads } = valueAndGrad(() => ops.sum(ops.square(ops.cast(half, "f32"))), [half]);
    expect([...(await grads[0].data())]).toEqual([3, -4, 6]);
    for (const t of [x, half, value, ...grads]) t.free();
    expect(device().memory.live).toBe(before);
  });

  test("there is no other dtype", () => {
    const x = tensor([1]);
    expect(() => ops.cast(x, "f64" as Dtype)).toThrow(
      new RangeError('cast(x, dtype): there is no dtype "f64"; give one of f32, u32, i32, f16'),
    );
    expect(() => ops.cast([1] as never, "f32")).toThrow(
      new TypeError("cast: x must be a tensor but is a list; make one with tensor(values, shape)"),
    );
    x.free();
  });
});

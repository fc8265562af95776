/** safetensors: what is written is read again, and a file that lies is told so. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { floats, readSafetensors, writeSafetensors } from "../../nn/safetensors.ts";

/** A file of a header and some bytes of data. */
const fileOf = (header: unknown, data = 0, length?: bigint): Uint8Array => {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + data);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  file.set(json, 8);
  return file;
};

test("tensors come back with their names, shapes, values and metadata", () => {
  const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 });
  const name = fc.string({ minLength: 1 }).filter((key) => key !== "__metadata__" && key !== "__proto__");
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, shape), { selector: ([key]) => key, maxLength: 6 }), (all) => {
      const given = all.map(
        ([key, shape], i) =>
          [key, { shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, j) => i + j / 8) }] as const,
      );
      const file = writeSafetensors(given, { format: "pt", made: "here" });
      const { tensors, metadata } = readSafetensors(file);
      expect(metadata).toEqual({ format: "pt", made: "here" });
      expect([...tensors.keys()].sort()).toEqual(all.map(([key]) => key).sort());
      for (const [key, { shape, data }] of given) {
        expect(tensors.get(key)!.shape).toEqual(shape);
        expect(floats(tensors.get(key)!)).toEqual(data);
      }
    }),
    { seed: 1, numRuns: 50 },
  );
});

test("data begins at a multiple of 8, and a view into a larger buffer, or a Node Buffer, reads the same", () => {
  const file = writeSafetensors([["x", { shape: [3], data: [1, 2, 3] }]]);
  expect(Number(new DataView(file.buffer).getBigUint64(0, true)) % 8).toBe(0);
  const larger = new Uint8Array(file.length + 13);
  larger.set(file, 5);
  for (const view of [larger.subarray(5, 5 + file.length), Buffer.from(larger).subarray(5, 5 + file.length)])
    expect([...floats(readSafetensors(view).tensors.get("x")!)]).toEqual([1, 2, 3]);
});

test("every float dtype is read", () => {
  const header = (dtype: string, size: number) => ({ x: { dtype, shape: [4], data_offsets: [0, 4 * size] } });
  const read = (dtype: string, bytes: ArrayBufferView) => {
    const file = fileOf(header(dtype, bytes.byteLength / 4), bytes.byteLength);
    file.set(new Uint8Array(bytes.buffer), file.length - bytes.byteLength);
    return [...floats(readSafetensors(file).tensors.get("x")!)];
  };
  expect(read("F64", Float64Array.of(1, -2.5, 0, 1e300))).toEqual([1, -2.5, 0, Number.POSITIVE_INFINITY]);
  expect(read("F32", Float32Array.of(1, -2.5, 0, 3))).toEqual([1, -2.5, 0, 3]);
  // IEEE 754 binary16: 1, -2, the least subnormal, the largest number
  expect(read("F16", Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff))).toEqual([1, -2, 2 ** -24, 65504]);
  expect(read("F16", Uint16Array.of(0x7c00, 0xfc00, 0x7e00, 0x8000))).toEqual([
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
    -0,
  ]);
  expect(read("BF16", Uint16Array.of(0x3f80, 0xc000, 0x0000, 0x4049))).toEqual([1, -2, 0, 3.140625]);
  expect(() => read("I32", Int32Array.of(1, 2, 3, 4))).toThrow(new TypeError("tensor: is I32; weights must be F32, F64, F16 or BF16"));
});

const x = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
describe("a header that lies:", () => {
  test.each<[string, Uint8Array, string]>([
    ["too short", new Uint8Array(7), "7 bytes are too few for a header"],
    ["longer than the file", fileOf({ x }, 8, 10_000n), "the header claims 10000 bytes, the file has"],
    ["longer than the format allows", fileOf({ x }, 8, 200_000_000n), "the header claims 200000000 bytes; at most 100000000 are allowed"],
    ["not JSON", fileOf("{not json", 8), "the header is not JSON"],
    ["not an object", fileOf([1], 8), "the header is not a JSON object"],
    ["no dtype", fileOf({ x: { shape: [2], data_offsets: [0, 8] } }, 8), '"x" has the unknown dtype undefined'],
    ["an unknown dtype", fileOf({ x: { ...x, dtype: "toString" } }, 8), '"x" has the unknown dtype "toString"'],
    ["a negative size", fileOf({ x: { ...x, shape: [-2] } }, 8), '"x" has the shape [-2]'],
    ["a size that is no number", fileOf({ x: { ...x, shape: ["2"] } }, 8), '"x" has the shape ["2"]'],
    ["offsets beyond the data", fileOf({ x: { ...x, data_offsets: [0, 8] } }, 4), '"x" lies at 0 to 8, but there are 4 bytes of data'],
    ["offsets backwards", fileOf({ x: { ...x, data_offsets: [8, 0] } }, 8), '"x" lies at 8 to 0'],
    ["offsets of another size", fileOf({ x: { ...x, shape: [1] } }, 8), '"x" is F32 [1], 4 bytes, but its offsets span 8'],
    [
      "a hole",
      fileOf({ x: { ...x, data_offsets: [4, 12] } }, 12),
      '"x" begins at 4, where 0 was due: tensors must neither overlap nor leave holes',
    ],
    ["an overlap", fileOf({ x, y: { ...x, data_offsets: [4, 12] } }, 12), '"y" begins at 4, where 8 was due'],
    ["bytes at the end", fileOf({ x }, 11), "3 bytes after the last tensor belong to nothing"],
    ["nothing where a tensor should be", fileOf({ x: null }, 0), '"x" has the unknown dtype undefined'],
  ])("%s", (_, file, why) => {
    expect(() => readSafetensors(file, "model.safetensors")).toThrow(`model.safetensors: not a valid safetensors file: ${why}`);
  });

  test("whatever bytes it is, reading ends in tensors or in one sentence", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 120 }), (bytes, length) => {
        const file = bytes.slice();
        if (file.length >= 8) new DataView(file.buffer).setBigUint64(0, BigInt(length), true);
        try {
          readSafetensors(file);
        } catch (error) {
          expect((error as Error).message).toMatch(/^safetensors: not a valid safetensors file: /);
        }
      }),
      { seed: 1, numRuns: 300 },
    );
  });
});

test("values that do not fill their shape are not written", () => {
  expect(() => writeSafetensors([["x", { shape: [2, 2], data: [1, 2, 3] }]])).toThrow(
    new RangeError('writeSafetensors: "x" has 3 values for [2, 2]'),
  );
});

/** Floats of 16 and 8 bits: every code and every tie, against torch and numpy (test/golden/checkpoints.py) and against the formats' own tables. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fromBfloat, fromE4M3, fromE5M2, fromE8M0, fromHalf, toBfloat, toHalf } from "../../kernels/half.ts";

const golden = JSON.parse(readFileSync(new URL("../golden/torch/half.json", import.meta.url), "utf8")) as Record<
  string,
  { values: string; inputs: string; count: number; rounded: string }
>;

const digest = (array: Float32Array | Uint16Array): string =>
  createHash("sha256")
    .update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))
    .digest("hex");

/** The f32 one step above or below: the next bits, as IEEE 754 orders them. */
function next(x: number, up: boolean): number {
  if (x === 0) return (up ? 1 : -1) * 2 ** -149;
  const bits = new Int32Array(Float32Array.of(x).buffer);
  bits[0] += x > 0 === up ? 1 : -1;
  return new Float32Array(bits.buffer)[0];
}

const codes = Uint16Array.from({ length: 65536 }, (_, code) => code);

describe.each([
  { name: "f16", read: fromHalf, write: toHalf, edge: 65520, infinity: 0x7c00 },
  { name: "bf16", read: fromBfloat, write: toBfloat, edge: (2 - 2 ** -8) * 2 ** 127, infinity: 0x7f80 },
])("$name", ({ name, read, write, edge, infinity }) => {
  const values = Float32Array.from(codes, read);

  test("all 65,536 codes are torch's numbers", () => {
    expect(digest(Float32Array.from(values, (x) => (Number.isNaN(x) ? Number.NaN : x)))).toBe(golden[name].values);
  });

  test("every code comes back from its number, but for the many NaNs", () => {
    expect(codes.filter((code) => !Number.isNaN(values[code]) && write(values[code]) !== code)).toEqual(new Uint16Array());
    expect(read(write(Number.NaN))).toBeNaN();
  });

  test("between two neighbours: the middle goes to the even one, a step to either side to the nearer", () => {
    for (let code = 0; code < infinity - 1; code++) {
      const middle = (values[code] + values[code + 1]) / 2;
      const [below, above] = [next(middle, false), next(middle, true)];
      const got = [write(below), write(middle), write(above), write(-below), write(-middle), write(-above)];
      const even = code + (code % 2);
      const want = [code, even, code + 1, code | 0x8000, even | 0x8000, (code + 1) | 0x8000];
      if (got.join() !== want.join()) expect({ code, got }).toEqual({ code, got: want });
    }
  });

  test("ties and their neighbours, both signs, and what overflows, round as in torch and numpy", () => {
    const finite = [...new Set(values.filter(Number.isFinite))].sort((a, b) => a - b); // a Set holds 0 and -0 once
    const middle = finite.slice(1).map((x, i) => Math.fround((x + finite[i]) / 2));
    const edges = [edge, next(edge, false), -edge, 3.4e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-45, -1e-45];
    const inputs = Float32Array.from([middle, middle.map((x) => next(x, false)), middle.map((x) => next(x, true)), edges].flat());
    expect(inputs.length).toBe(golden[name].count);
    expect(digest(inputs)).toBe(golden[name].inputs); // else the next line would compare different questions
    expect(digest(Uint16Array.from(inputs, write))).toBe(golden[name].rounded);
  });
});

test("f16 rounds once, from the double itself: not through f32", () => {
  // 1 + 2^-11 is a tie between 1 and 1 + 2^-10; a hair above it f32 cannot see
  expect(fromHalf(toHalf(1 + 2 ** -11))).toBe(1);
  expect(fromHalf(toHalf(1 + 2 ** -11 + 2 ** -40))).toBe(1 + 2 ** -10);
});

describe("8 bits", () => {
  // OCP 8-bit Floating Point Specification 1.0, tables 1 and 2
  test.each([
    [0x00, 0],
    [0x80, -0],
    [0x01, 2 ** -9],
    [0x07, 0.875 * 2 ** -6],
    [0x08, 2 ** -6],
    [0x38, 1],
    [0xb9, -1.125],
    [0x7e, 448],
    [0xfe, -448],
    [0x7f, Number.NaN],
    [0xff, Number.NaN],
  ])("E4M3 %i is %d", (code, value) => {
    expect(fromE4M3(code)).toBe(value);
  });

  test.each([
    [0x00, 0],
    [0x80, -0],
    [0x01, 2 ** -16],
    [0x03, 0.75 * 2 ** -14],
    [0x04, 2 ** -14],
    [0x3c, 1],
    [0xbd, -1.25],
    [0x7b, 57344],
    [0x7c, Number.POSITIVE_INFINITY],
    [0xfc, Number.NEGATIVE_INFINITY],
    [0x7d, Number.NaN],
  ])("E5M2 %i is %d", (code, value) => {
    expect(fromE5M2(code)).toBe(value);
  });

  test("both rise from code to code", () => {
    for (let code = 1; code < 0x7f; code++) expect(fromE4M3(code)).toBeGreaterThan(fromE4M3(code - 1));
    for (let code = 1; code <= 0x7c; code++) expect(fromE5M2(code)).toBeGreaterThan(fromE5M2(code - 1));
  });

  test("E8M0 is a power of two", () => {
    expect([0, 1, 126, 127, 128, 254, 255].map(fromE8M0)).toEqual([2 ** -127, 2 ** -126, 0.5, 1, 2, 2 ** 127, Number.NaN]);
  });
});

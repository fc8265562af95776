/** The compiled kernels against the loops in f64, at the edges of their registers, panels and blocks, within the bounds that rounding has. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { attention, attentionGrad, FIELDS } from "../../kernels/attention.ts";
import type { Kernel, Values } from "../../kernels/kernel.ts";
import { matmul } from "../../kernels/matmul.ts";
import { dropThreshold, keepScale } from "../../kernels/random.ts";
import type { Device } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { spansOf, tilesOf } from "../../src/stream.ts";
import { onDevice } from "../devices.ts";
import * as magnitudes from "../magnitudes.ts";

/** The unit roundoff of f32. */
const U = 2 ** -24;

type Buffers = Record<string, Values>;

/** Numbers in [-1, 1) that f32 holds. */
const draw = (seed: number, n: number) => Key.from(seed).uniforms(n).map((u) => 2 * u - 1); // biome-ignore format: one line
const absolute = (buffers: Buffers): Buffers =>
  Object.fromEntries(Object.entries(buffers).map(([name, x]) => [name, x instanceof Float64Array ? x.map(Math.abs) : x]));

/** A kernel's outputs on the device, which holds NaN in them before. */
async function compute(device: Device, kernel: Kernel, inputs: Buffers, outputs: Record<string, number>, params: Record<string, number>) {
  const held = { ...inputs };
  for (const [name, length] of Object.entries(outputs)) held[name] = new Float64Array(length).fill(Number.NaN);
  const buffers = Object.fromEntries(
    Object.entries(held).map(([name, x]) => [name, device.allocate(x instanceof Float64Array ? "f32" : "u32", x.length)]),
  );
  for (const [name, x] of Object.entries(held)) device.upload(buffers[name], x);
  device.run(kernel, buffers, params);
  const found: Buffers = {};
  for (const name of Object.keys(outputs)) found[name] = await device.read(buffers[name]);
  for (const buffer of Object.values(buffers)) device.free(buffer);
  return found;
}

/** |found - wanted| <= c u magnitude at every place; what cannot be rounded must be exact. */
function expectWithin(found: Values, wanted: Values, magnitude: Values, c: number) {
  expect(found.length).toBe(wanted.length);
  const wrong = Array.from(found).findIndex((x, i) => !(Math.abs(x - wanted[i]) <= c * U * magnitude[i]));
  expect(wrong < 0 ? "all within the bound" : `${found[wrong]} at ${wrong}, not ${wanted[wrong]} to ${c * U * magnitude[wrong]}`).toBe(
    "all within the bound",
  );
}

interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  readonly ta: boolean;
  readonly tb: boolean;
  readonly bias: boolean;
  readonly relu: boolean;
  readonly residual: boolean;
  readonly shareB: boolean;
  readonly seed: number;
}

async function checkProduct(device: Device, { m, n, k, batch, ta, tb, bias, relu, residual, shareB, seed }: Product) {
  const params = { m, n, k, batch, strideA: m * k, strideB: shareB ? 0 : k * n };
  const floats = (which: number, length: number) => draw(4 * seed + which, length);
  const inputs: Buffers = { a: floats(0, batch * m * k), b: floats(1, (shareB ? 1 : batch) * k * n) };
  if (bias) inputs.bias = floats(2, n);
  if (residual) inputs.residual = floats(3, batch * m * n);
  const kernel = matmul(ta, tb, bias, relu, residual) as unknown as Kernel;
  const loops = (given: Buffers) => {
    const c = new Float64Array(batch * m * n).fill(Number.NaN);
    kernel.loops({ ...given, c }, params);
    return c;
  };
  const { c } = await compute(device, kernel, inputs, { c: batch * m * n }, params);
  // k products, k - 1 sums of them, bias and residual: gamma_(k + 2) of the absolute terms (Higham 2002, 3.1); relu makes no error larger
  expectWithin(c, loops(inputs), loops(absolute(inputs)), 1.01 * (k + 2));
}

/** Around the 2 rows and 16 columns in registers, and the vectors of four. */
const side = fc.constantFrom(0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 50);
const product = fc.record({
  m: side,
  n: side,
  k: side,
  batch: fc.integer({ min: 1, max: 3 }),
  ta: fc.boolean(),
  tb: fc.boolean(),
  bias: fc.boolean(),
  relu: fc.boolean(),
  residual: fc.boolean(),
  shareB: fc.boolean(),
  seed: fc.nat(1e6),
});

const layouts = [false, true].flatMap((ta) => [false, true].map((tb) => [ta, tb] as const));

interface Heads {
  readonly lengths: readonly number[];
  readonly tail: number;
  readonly heads: number;
  readonly width: number;
  readonly dropped: boolean;
  readonly causal: boolean;
  readonly seed: number;
}

async function checkAttention(device: Device, { lengths, tail, heads, width, dropped, causal, seed }: Heads) {
  const rows = lengths.reduce((a, b) => a + b, tail);
  const size = rows * heads * width;
  const [q, k, v, dy] = [0, 1, 2, 3].map((which) => draw(4 * seed + which, size));
  const tiles = Uint32Array.from([...tilesOf(spansOf(lengths), rows), 0, 0, 0, 0, 0]);
  const scale = Math.fround(keepScale(0.1));
  const count = tiles.length / FIELDS;
  const sizes = { count, keyCount: count, rows, keyRows: rows, heads };
  const params = { ...sizes, ...(dropped && { threshold: dropThreshold(0.1), scale, site0: seed, site1: 1 }) };
  const inputs: Buffers = { q, k, v, tiles, keyTiles: tiles, ...(dropped && { key: Uint32Array.of(seed, 3) }) };
  const forward = attention(width, dropped, causal) as unknown as Kernel;
  const backward = attentionGrad(width, dropped, causal) as unknown as Kernel;
  const [y, lse, dq, dkv] = [size, rows * heads, size, 2 * size].map((n) => new Float64Array(n).fill(Number.NaN));
  forward.loops({ ...inputs, y, lse }, params);
  backward.loops({ ...inputs, y, dy, lse, dq, dkv }, params);

  const first = await compute(device, forward, inputs, { y: size, lse: rows * heads }, params);
  const second = await compute(
    device,
    backward,
    { ...inputs, ...first, y: Float64Array.from(first.y), lse: Float64Array.from(first.lse), dy },
    { dq: size, dkv: 2 * size },
    params,
  );
  const [my, mdq, mdk, mdv] = magnitudes.attention([q, k, v], dy, lengths, heads * width, heads, scale, { causal });
  // a dot product over the width, one over the segment, and some twenty roundings of the softmax in between
  const c = width + Math.max(0, ...lengths) + 20;
  expectWithin(first.y, y, my, c);
  expectWithin(first.lse, lse, lse.map((x) => Math.abs(x) + 1), c); // biome-ignore format: one line
  expectWithin(second.dq, dq, mdq, c);
  expectWithin(second.dkv.subarray(0, size), dkv.subarray(0, size), mdk, c);
  expectWithin(second.dkv.subarray(size), dkv.subarray(size), mdv, c);
}

const stream = fc.record({
  lengths: fc.array(fc.constantFrom(1, 2, 3, 15, 16, 17, 31, 32, 33, 65, 127, 128, 129), { maxLength: 3 }),
  tail: fc.constantFrom(0, 1, 33),
  heads: fc.integer({ min: 1, max: 3 }),
  width: fc.constantFrom(1, 3, 4, 15, 16, 17, 32, 64),
  dropped: fc.boolean(),
  causal: fc.boolean(),
  seed: fc.nat(1e6),
});

const suite = (device: () => Device) => {
  describe("matmul", () => {
    test("at the edges of registers and panels", () =>
      fc.assert(
        fc.asyncProperty(product, (one) => checkProduct(device(), one)),
        { numRuns: 300 },
      ));

    // one past each block: 128 rows, 1,024 columns, 256 deep
    test.each(layouts)("at the edges of blocks, transposed: %s, %s", (ta, tb) =>
      checkProduct(device(), { m: 129, n: 1025, k: 257, batch: 1, ta, tb, bias: true, relu: true, residual: true, shareB: false, seed: 1 }),
    );

    test("the same numbers give the same bits, whatever rows stand beside them", async () => {
      const [a, b] = [draw(1, 33 * 300), draw(2, 300 * 20)];
      const rows = async (m: number) => {
        const params = { m, n: 20, k: 300, batch: 1, strideA: 0, strideB: 0 };
        const kernel = matmul(false, false, false, false, false) as unknown as Kernel;
        return (await compute(device(), kernel, { a: a.slice(0, m * 300), b }, { c: m * 20 }, params)).c;
      };
      const all = await rows(33);
      for (const m of [1, 2, 17]) expect(await rows(m)).toEqual(all.slice(0, m * 20));
    });

    test("NaN and infinity come through", async () => {
      const params = { m: 1, n: 2, k: 1, batch: 1, strideA: 0, strideB: 0 };
      const kernel = matmul(false, false, false, true, false) as unknown as Kernel;
      const { c } = await compute(device(), kernel, { a: Float64Array.of(1), b: Float64Array.of(Number.NaN, Infinity) }, { c: 2 }, params);
      expect(Array.from(c)).toEqual([Number.NaN, Infinity]);
    });
  });

  describe("attention and its gradient", () => {
    test("at the edges of tiles, blocks of keys and panels", () =>
      fc.assert(
        fc.asyncProperty(stream, (one) => checkAttention(device(), one)),
        { numRuns: 40 },
      ));

    test.each([false, true])("in the widest head there may be, over several blocks of keys, causal: %s", (causal) =>
      checkAttention(device(), { lengths: [300, 5], tail: 7, heads: 1, width: 128, dropped: true, causal, seed: 2 }),
    );

    test("raise e as exactly as a score of f32 lets them, and to 0 below e^-50", async () => {
      // a cell of one place, one wide, with lse = 0, k = 1 and dy = 1: dv = e^q
      const q = Float64Array.from({ length: 3000 }, (_, i) => Math.fround(i < 1000 ? (i - 500) / 1000 : (i - 2000) * 0.087));
      const [ones, zeros] = [q.map(() => 1), q.map(() => 0)];
      const tiles = Uint32Array.from(tilesOf(spansOf(Array.from(ones)), 3000));
      const inputs = { q, k: ones, v: ones, y: ones, dy: ones, lse: zeros, tiles, keyTiles: tiles };
      const kernel = attentionGrad(1, false, false) as unknown as Kernel;
      const params = { count: 3000, keyCount: 3000, rows: 3000, keyRows: 3000, heads: 1 };
      const { dkv } = await compute(device(), kernel, inputs, { dq: 3000, dkv: 6000 }, params);
      const want = q.map((x) => (x < -50 ? 0 : Math.exp(x)));
      expect(want.filter((value) => value === 0).length).toBeGreaterThan(100);
      // a unit of x is |x| of e^x, and so it is of x log2 e
      const magnitude = want.map((value, i) => value * (1 + Math.abs(q[i])));
      expectWithin(dkv.subarray(3000), want, magnitude, 4);
    });

    test("of a NaN is NaN in the rows of its cell, and there alone", async () => {
      const x = draw(1, 40 * 4);
      const v = x.slice();
      v[0] = Number.NaN;
      const inputs = { q: x, k: v, v: x, tiles: Uint32Array.from(tilesOf(spansOf([20, 20]), 40)) };
      const kernel = attention(4, false, false) as unknown as Kernel;
      const { y } = await compute(device(), kernel, inputs, { y: 160, lse: 40 }, { count: 2, keyRows: 40, heads: 1 });
      expect(y.subarray(0, 80).every(Number.isNaN)).toBe(true);
      expect(y.subarray(80).every(Number.isFinite)).toBe(true);
    });
  });
};

onDevice("cpu", suite);

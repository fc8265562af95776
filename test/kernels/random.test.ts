/** Random numbers: the same bits everywhere, a fair share dropped, and the same mask in both directions. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { dropThreshold, keepScale, threefry, threefryBlocks } from "../../kernels/random.ts";
import { Key } from "../../src/key.ts";
import { segments } from "../../src/stream.ts";
import { ones, scoped, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

const N = 20_000;
/** Five standard deviations of a share p of n coins. */
const spread = (p: number, n: number) => 5 * Math.sqrt((p * (1 - p)) / n);
const share = (values: ArrayLike<number>, of: (value: number) => boolean) => Array.from(values).filter(of).length / values.length;

onDevices((device) => {
  /** The mask of a key, and the gradient of the sum through it. */
  const dropped = async (key: StepKey, p: number, n = N) => {
    const [y, dx] = scoped(() => {
      const x = ones([n]);
      const { value, grads } = valueAndGrad(() => {
        const y = ops.dropout(x, { p, key });
        return [ops.sum(y), y] as const;
      }, [x]);
      return [value[1], grads[0]];
    });
    const read = [[...(await y.data())], [...(await dx.data())]];
    for (const t of [y, dx]) t.free();
    return read;
  };

  test.each([0.02, 0.1, 0.5])("dropout of %d keeps its share, scaled so that the mean stays; the way back has the same mask", async (p) => {
    const key = StepKey.from(Key.from(11));
    const [y, dx] = await dropped(key, p);
    expect(dx).toEqual(y);
    expect(Math.abs(share(y, (value) => value === 0) - p)).toBeLessThan(spread(p, N));
    const kept = Math.fround(keepScale(p));
    expect(y.every((value) => value === 0 || Math.fround(value) === kept)).toBe(true);
    expect(keepScale(p)).toBeCloseTo(1 / (1 - p), 3);
    key.words.free();
  });

  test("draws depend on key, site and place, and on nothing else", async () => {
    const key = StepKey.from(Key.from(12));
    const [a] = await dropped(key, 0.5);
    const [again, longer, folded, other] = [
      (await dropped(key, 0.5))[0],
      (await dropped(key, 0.5, N + 3))[0],
      (await dropped(key.fold(1), 0.5))[0],
      (await dropped(key.fold(1).fold(1), 0.5))[0],
    ];
    expect(again).toEqual(a);
    expect(longer.slice(0, N)).toEqual(a);
    // independent masks agree at half of the places
    for (const [one, two] of [
      [a, folded],
      [folded, other],
      [a, other],
    ])
      expect(
        Math.abs(
          share(
            one.map((value, i) => Number(value === two[i])),
            Boolean,
          ) - 0.5,
        ),
      ).toBeLessThan(spread(0.5, N));
    // and so do a mask and itself, shifted
    for (const shift of [1, 2, 4])
      expect(
        Math.abs(
          share(
            a.slice(shift).map((value, i) => Number(value === a[i])),
            Boolean,
          ) - 0.5,
        ),
      ).toBeLessThan(spread(0.5, N - shift));
    key.words.write(Key.from(13).words); // a new step's key, in the same buffer
    expect((await dropped(key, 0.5))[0]).not.toEqual(a);
    key.words.free();
  });

  test("p = 0 drops nothing, and p outside [0, 1) is an error", async () => {
    const key = StepKey.from(Key.from(1));
    expect((await dropped(key, 0, 5))[0]).toEqual([1, 1, 1, 1, 1]);
    const x = ones([2]);
    for (const p of [1, -0.1, Number.NaN])
      expect(() => ops.dropout(x, { p, key })).toThrow(new RangeError(`dropout: p must lie in [0, 1); got ${p}`));
    for (const t of [x, key.words]) t.free();
  });

  test("attention drops its share of the weights, the same forward and backward", async () => {
    // with q = k = 0 each weight is 1 / n; with an identity for each head's v, the result is the dropped weights themselves
    const [n, heads, p] = [16, 4, 0.25];
    const key = StepKey.from(Key.from(21));
    const made = scoped(() => {
      const q = tensor(new Float32Array(heads * n * n), [n, heads * n]);
      const v = tensor(
        Float32Array.from({ length: heads * n * n }, (_, at) => Number(at % n === Math.floor(at / (heads * n)))),
        [n, heads * n],
      );
      const { value, grads } = valueAndGrad(() => {
        const y = ops.attention(q, q, v, segments([n]), heads, { drop: { p, key } });
        return [ops.sum(y), y] as const;
      }, [v]);
      return [value[1], grads[0]];
    });
    const [weights, dv] = [await made[0].data(), await made[1].data()];
    expect(Math.abs(share(weights, (value) => value === 0) - p)).toBeLessThan(spread(p, heads * n * n));
    for (const value of weights) if (value !== 0) expect(value * n).toBeCloseTo(1 / (1 - p), 3);
    for (let column = 0; column < heads * n; column++) {
      let sum = 0; // of the weights that look at this head's key: its gradient
      for (let i = 0; i < n; i++) sum += weights[i * heads * n + column];
      const key = column % n;
      expect(dv[key * heads * n + column]).toBeCloseTo(sum, 4);
    }
    for (const t of [...made, key.words]) t.free();
    expect(device().memory.live).toBe(0);
  });
});

describe("threefry", () => {
  test("a threshold in steps of 2^-16", () => {
    expect([0, 0.5, 0.1].map(dropThreshold)).toEqual([0, 32768, 6554]);
  });

  test("changing one bit of key or counter changes half of the bits", () => {
    const ones = (a: number, b: number) => (a ^ b).toString(2).replace(/[^1]/g, "").length;
    const flips: number[] = [];
    for (let bit = 0; bit < 32; bit++)
      for (const [key, counter] of [
        [
          [1 << bit, 0],
          [5, 6],
        ],
        [
          [0, 0],
          [5 ^ (1 << bit), 6],
        ],
        [
          [0, 0],
          [5, 6 ^ (1 << bit)],
        ],
      ]) {
        const [a, b] = [threefry([0, 0], [5, 6]), threefry(key as [number, number], counter as [number, number])];
        flips.push(ones(a[0] >>> 0, b[0] >>> 0) + ones(a[1] >>> 0, b[1] >>> 0));
      }
    const mean = flips.reduce((x, y) => x + y, 0) / flips.length;
    expect(Math.abs(mean - 32)).toBeLessThan(2);
    expect(Math.min(...flips)).toBeGreaterThan(12);
  });
});

test("blocks drawn together are those drawn one by one", () => {
  for (const key of [
    [0, 0],
    [7, 0xffffffff],
    [0x80000001, 3],
  ] as const) {
    const words = new Uint32Array(200);
    threefryBlocks(key, words);
    for (let i = 0; i < 100; i++) expect([words[2 * i], words[2 * i + 1]]).toEqual(threefry(key, [i, 0]));
  }
});

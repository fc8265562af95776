/** A stream's tables, and its dead tail: rows of no cell, on which no result may depend. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { TILE } from "../../kernels/attention.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { NOBODY } from "../../kernels/segment.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { index, inner, mostTiles, segments, tilesOf } from "../../src/stream.ts";
import { integers, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices((device) => {
  const [rows, live, width] = [70, 41, 32];
  const lengths = [33, 0, 1, 7];
  const uniform = (seed: number, n: number) =>
    Key.from(seed)
      .uniforms(n)
      .map((u) => Math.fround(2 * u - 1));
  /** Values whose live rows are the same for every tail. */
  const withTail = (seed: number, tail: number, scale: number) => {
    const values = uniform(seed, rows * width);
    values.set(
      uniform(tail, (rows - live) * width).map((value) => scale * value),
      live * width,
    );
    return tensor(values, [rows, width]);
  };
  const capacities = { rows, cells: 6, tiles: mostTiles(rows, 6) };

  /** Ops over a stream: the result, and how many of its rows are live. */
  const calls: [string, number, (x: Tensor[]) => Tensor][] = [
    ["segmentMean", 4, ([x]) => ops.segmentMean(x, segments(lengths, capacities))],
    ["segmentMean without <cls> and <eos>", 4, ([x]) => ops.segmentMean(x, inner(lengths, 1, 1, capacities))],
    ["attention", rows, ([q, k, v]) => ops.attention(q, k, v, segments(lengths, capacities), 2)],
    [
      "attention with dropout",
      rows,
      ([q, k, v]) => ops.attention(q, k, v, segments(lengths, capacities), 2, { p: 0.3, key: StepKey.from(Key.from(5)) }),
    ],
    ["gather", 3, ([x]) => ops.slice(ops.gather(x, index([40, 0, 17, 69, 50], rows, { count: 3 })), 0, 0, 3)],
    [
      "crossEntropy",
      1,
      ([x]) => ops.crossEntropy(x, integers(Uint32Array.from({ length: rows }, (_, i) => (i < live ? i % width : IGNORED)))),
    ],
  ];

  test.each(calls)("%s: nothing live depends on the tail, and the tail gets no gradient", async (_, count, call) => {
    const run = (tail: number, scale: number) =>
      scoped(() => {
        const xs = [1, 2, 3].map((seed) => withTail(seed, tail, scale));
        const weights = (y: Tensor) =>
          tensor(
            uniform(9, y.size).map((w, i) => (i < (y.size * count) / (y.shape[0] ?? 1) ? w : 0)),
            y.shape,
          );
        const { value, grads } = valueAndGrad(() => {
          const y = call(xs);
          return [ops.sum(ops.mul(y, weights(y))), y] as const;
        }, xs);
        return [value[0], value[1], ...grads];
      });
    const [one, other] = [run(20, 1), run(21, 1000)];
    for (const [i, t] of one.entries()) expect([...(await t.data())]).toEqual([...(await other[i].data())]); // to the bit
    for (const grad of one.slice(2)) expect((await grad.data()).subarray(live * width).every((g) => g === 0)).toBe(true);
    for (const t of [...one, ...other]) t.free();
    expect(device().memory.live).toBe(0);
  });

  test("the tail's own attention is zero, and empty cells' means are zero", async () => {
    const [y, means] = scoped(() => {
      const x = withTail(1, 2, 1);
      const cells = segments(lengths, capacities);
      return [ops.attention(x, x, x, cells, 2), ops.segmentMean(x, cells)];
    });
    expect((await y.data()).subarray(live * width).every((value) => value === 0)).toBe(true);
    const values = [...(await means.data())];
    expect(values.slice(width, 2 * width)).toEqual(new Array(width).fill(0));
    expect(values.slice(4 * width)).toEqual(new Array(2 * width).fill(0));
    y.free();
    means.free();
  });

  test("a mean without <cls> and <eos> is the mean of the rows between; cells too short have none", async () => {
    const [got, want] = scoped(() => {
      const x = withTail(1, 2, 1);
      return [ops.segmentMean(x, inner([33, 0, 1, 2, 5], 1, 1, { rows })), ops.mean(ops.slice(x, 0, 1, 32), [0])];
    });
    const values = [...(await got.data())];
    for (const [c, value] of (await want.data()).entries()) expect(values[c]).toBeCloseTo(value, 6);
    expect(values.slice(width, 4 * width)).toEqual(new Array(3 * width).fill(0));
    got.free();
    want.free();
  });
});

describe("tables", () => {
  const on = openReference();
  const numbers = async (t: Tensor) => [...(await t.data())];
  const lengths = fc.array(fc.integer({ min: 0, max: 80 }), { maxLength: 8 });
  const spare = fc.tuple(fc.nat({ max: 70 }), fc.nat({ max: 3 }));
  const numRuns = { numRuns: 50, seed: 1 };

  test("every row has one owner and lies in one tile, with its owner's span; the tail has none", () =>
    fc.assert(
      fc.asyncProperty(lengths, spare, async (lengths, [tail, more]) => {
        const used = lengths.reduce((a, b) => a + b, 0);
        const [rows, cells] = [used + tail, lengths.length + more];
        const made = withDevice(on, () => segments(lengths, { rows, cells, tiles: mostTiles(rows, cells) }));
        const [spans, owner, tiles] = [await numbers(made.spans), await numbers(made.owner), await numbers(made.tiles)];
        const seen = new Array<number>(rows).fill(0);
        for (let t = 0; t < tiles.length; t += 4) {
          const [row0, row1, from, to] = tiles.slice(t, t + 4);
          expect(row1 - row0).toBeLessThanOrEqual(TILE);
          for (let row = row0; row < row1; row++) {
            seen[row]++;
            expect([from, to]).toEqual(row < used ? spans.slice(2 * owner[row], 2 * owner[row] + 2) : [0, 0]);
          }
        }
        expect(seen.every((times) => times === 1)).toBe(true);
        expect(spans.length).toBe(2 * cells);
        lengths.forEach((length, cell) => {
          expect(spans[2 * cell + 1] - spans[2 * cell]).toBe(length);
          expect(owner.filter((o) => o === cell).length).toBe(length);
        });
        expect(owner.slice(used)).toEqual(new Array(tail).fill(NOBODY));
        expect(tilesOf(lengths, rows).length / 4).toBeLessThanOrEqual(mostTiles(rows, cells));
      }),
      numRuns,
    ));

  test("the inverse of an index groups its places by row, in order, and leaves out what does not count", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat({ max: 9 }), { maxLength: 60 }),
        fc.nat({ max: 60 }),
        fc.integer({ min: -1, max: 9 }),
        async (values, most, frozen) => {
          const count = Math.min(most, values.length);
          const { inverse } = withDevice(on, () => index(values, 10, { count, frozen }));
          const [order, starts] = [await numbers(inverse!.order), await numbers(inverse!.starts)];
          for (let row = 0; row < 10; row++) {
            const places = values.flatMap((value, i) => (value === row && i < count && row !== frozen ? [i] : []));
            expect(order.slice(starts[row], starts[row + 1])).toEqual(places);
          }
        },
      ),
      numRuns,
    ));

  test("errors say what does not fit", () => {
    const make = (f: () => unknown) => () => withDevice(on, f);
    expect(make(() => segments([3, -1]))).toThrow("segments(lengths): lengths are non-negative integers; got 3, -1");
    expect(make(() => segments([3, 4], { rows: 6 }))).toThrow(
      "segments(lengths): 2 cells of 7 rows do not fit 2 cells of 6 rows; use a smaller batch",
    );
    expect(make(() => segments([3, 4], { cells: 1 }))).toThrow("do not fit 1 cells of 7 rows");
    expect(make(() => segments([40, 4], { tiles: 2 }))).toThrow("segments(lengths): 3 attention tiles do not fit 2");
    for (const wrong of [-1, 5, 0.5, Number.NaN])
      expect(make(() => index([0, wrong], 5))).toThrow(
        `index(values, rows): values[1] is ${wrong}, but there are 5 rows; give one from 0 to 4`,
      );
    expect(make(() => valueAndGrad(() => ops.sum(ops.gather(ones, index([0], 2, { gradients: false }))), [ones]))).toThrow(
      "gather(x, index): the index was made without its inverse; make it with gradients: true",
    );
  });
  const ones = withDevice(on, () => tensor([1, 1], [2, 1]));
});

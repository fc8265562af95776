/** A stream's tables, and its dead tail: rows of no cell, on which no result may depend. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { FIELDS, TILE } from "../../kernels/attention.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { NOBODY } from "../../kernels/segment.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { index, inner, mostTiles, segments } from "../../src/stream.ts";
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
      ([q, k, v]) => ops.attention(q, k, v, segments(lengths, capacities), 2, { drop: { p: 0.3, key: StepKey.from(Key.from(5)) } }),
    ],
    ["causal attention", rows, ([q, k, v]) => ops.attention(q, k, v, segments(lengths, capacities), 2, { causal: true })],
    [
      "cross-attention",
      rows,
      ([q, k, v]) => ops.attention(q, k, v, segments(lengths, capacities), 2, { keys: segments([7, 1, 0, 33], capacities) }),
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

  /** Attention, and the gradients of its arguments. */
  const differentiated = (xs: readonly Tensor[], call: (x: readonly Tensor[]) => Tensor): Tensor[] => {
    const { value, grads } = valueAndGrad(() => {
      const y = call(xs);
      return [ops.sum(ops.square(y)), y] as const;
    }, xs);
    return [value[1], ...grads];
  };

  test.each([
    { causal: false, p: 0 },
    { causal: true, p: 0.3 },
  ])("attention across equal segments is attention within them, to the bit: %o", async ({ causal, p }) => {
    const made = scoped(() => {
      const xs = [1, 2, 3].map((seed) => withTail(seed, 2, 1));
      const drop = p > 0 ? { p, key: StepKey.from(Key.from(5)) } : null;
      const [cells, same] = [segments(lengths, capacities), segments(lengths, { rows })];
      const within = differentiated(xs, ([q, k, v]) => ops.attention(q, k, v, cells, 2, { drop, causal }));
      return [...within, ...differentiated(xs, ([q, k, v]) => ops.attention(q, k, v, cells, 2, { drop, causal, keys: same }))];
    });
    const values = await Promise.all(made.map((t) => t.data()));
    expect(values.slice(4)).toEqual(values.slice(0, 4));
    for (const t of made) t.free();
  });

  test("a causal row is attention over the rows up to its own", async () => {
    const places = [0, 1, 7, 31, 32];
    const [whole, ...alone] = scoped(() => {
      const [q, k, v] = [1, 2, 3].map((seed) => withTail(seed, 2, 1));
      const upTo = (place: number) => {
        const [key, value] = [k, v].map((x) => ops.slice(x, 0, 0, place + 1));
        return ops.attention(ops.slice(q, 0, place, place + 1), key, value, segments([1]), 2, { keys: segments([place + 1]) });
      };
      return [ops.attention(q, k, v, segments(lengths, capacities), 2, { causal: true }), ...places.map(upTo)];
    });
    const y = await whole.data();
    for (const [i, place] of places.entries()) {
      const row = await alone[i].data();
      // sums of at most 33 terms below 1, in other blocks
      for (const [c, value] of row.entries()) expect(Math.abs(value - y[place * width + c])).toBeLessThan(33 * 2 ** -22);
    }
    for (const t of [whole, ...alone]) t.free();
  });

  test("a row with no key to look at gets zeros, and a key nobody looks at no gradient", async () => {
    const made = scoped(() =>
      differentiated(
        [1, 2, 3].map((seed) => withTail(seed, 2, 1)),
        ([q, k, v]) => ops.attention(q, k, v, segments([20, 50], { rows }), 2, { keys: segments([0, 70], { rows }), causal: true }),
      ),
    );
    const [y, dq, dk, dv] = await Promise.all(made.map(async (t) => [...(await t.data())]));
    const zeros = (n: number) => new Array(n).fill(0);
    for (const x of [y, dq]) expect(x.slice(0, 20 * width)).toEqual(zeros(20 * width));
    for (const x of [dk, dv]) expect(x.slice(50 * width)).toEqual(zeros(20 * width)); // 50 queries see 50 of 70 keys
    for (const x of [y, dv]) expect(x.some((value) => value !== 0)).toBe(true);
    for (const t of made) t.free();
  });

  test("attention across segments leaves nothing behind", () => {
    const xs = [1, 2, 3].map((seed) => withTail(seed, 2, 1));
    const [cells, keys] = [segments(lengths, capacities), segments([7, 1, 0, 33], capacities)];
    const tables = [cells, keys].flatMap(({ spans, owner, tiles }) => [spans, owner, tiles]);
    const before = device().memory.live;
    for (let step = 0; step < 3; step++) {
      ops.attention(xs[0], xs[1], xs[2], cells, 2, { keys }).free();
      const made = scoped(() => differentiated(xs, ([q, k, v]) => ops.attention(q, k, v, cells, 2, { keys, causal: true })));
      for (const t of made) t.free();
      expect(device().memory.live).toBe(before);
    }
    for (const t of [...xs, ...tables]) t.free();
    expect(device().memory.live).toBe(0);
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

  test("every row has one owner and lies in one tile, with its owner's span; dead rows have none", () =>
    fc.assert(
      fc.asyncProperty(lengths, spare, fc.nat({ max: 2 }), fc.nat({ max: 2 }), async (lengths, [tail, more], first, last) => {
        const used = lengths.reduce((a, b) => a + b, 0);
        const [rows, cells] = [used + tail, lengths.length + more];
        const capacities = { rows, cells, tiles: mostTiles(rows, cells) };
        const made = withDevice(on, () => inner(lengths, first, last, capacities));
        const [spans, owner, tiles] = [await numbers(made.spans), await numbers(made.owner), await numbers(made.tiles)];
        const seen = new Array<number>(rows).fill(0);
        for (let t = 0; t < tiles.length; t += FIELDS) {
          const [row0, row1, from, to, origin] = tiles.slice(t, t + FIELDS);
          expect(row1 - row0).toBeLessThanOrEqual(TILE);
          expect(origin).toBe(from);
          for (let row = row0; row < row1; row++) {
            seen[row]++;
            expect([from, to]).toEqual(owner[row] === NOBODY ? [0, 0] : spans.slice(2 * owner[row], 2 * owner[row] + 2));
          }
        }
        expect(seen.every((times) => times === 1)).toBe(true);
        expect(spans.length).toBe(2 * cells);
        expect(made.lengths).toEqual(lengths.map((length) => Math.max(0, length - first - last)));
        let start = 0;
        lengths.forEach((length, cell) => {
          const mine = owner.flatMap((o, row) => (o === cell ? [row] : []));
          expect(spans[2 * cell + 1] - spans[2 * cell]).toBe(made.lengths[cell]);
          expect(mine).toEqual(Array.from({ length: made.lengths[cell] }, (_, i) => start + first + i));
          start += length;
        });
        expect(owner.slice(used)).toEqual(new Array(tail).fill(NOBODY));
        const whole = withDevice(on, () => segments(lengths, capacities)); // fits its capacities, and is the part that leaves nothing out
        const all = withDevice(on, () => inner(lengths, 0, 0, capacities));
        for (const table of ["spans", "owner"] as const) expect(await numbers(whole[table])).toEqual(await numbers(all[table]));
        expect(whole.lengths).toEqual(lengths);
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
    const across = (keys: number[], rows: number) =>
      make(() => ops.attention(ones, ones, ones, segments([2]), 1, { keys: segments(keys, { rows }) }));
    expect(across([2], 3)).toThrow("attention(n c, m c, m c): the segments of keys cover 3 rows; got k [2, 1]");
    expect(across([1, 1], 2)).toThrow("attention(n c, m c, m c): each segment of queries needs one of keys; got 1 and 2 segments");
    expect(make(() => ops.attention(ones, ones, ones, segments([2]), 1, { drop: { p: -0.1, key: StepKey.from(Key.from(1)) } }))).toThrow(
      "attention: p must lie in [0, 1); got -0.1",
    );
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

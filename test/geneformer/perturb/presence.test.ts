/** What a key's presence is worth: against attention written out with gates in it. */

import { expect, test } from "vitest";
import { attend } from "../../../autograd/attend.ts";
import { add, attention, div, exp, gather, matmul, mul, permute, reshape, sum } from "../../../autograd/ops.ts";
import { StepKey } from "../../../autograd/stepkey.ts";
import { inference, vjp } from "../../../autograd/tape.ts";
import { presence } from "../../../geneformer/perturb/presence.ts";
import { Key } from "../../../src/key.ts";
import { index, segments, spansOf } from "../../../src/stream.ts";
import { type Tensor, tensor, zeros } from "../../../src/tensor.ts";
import { onDevices } from "../../devices.ts";

const [HEADS, D] = [2, 4];
const C = HEADS * D;
const [CELLS, COMING] = [
  [5, 1, 70],
  [3, 0, 66],
]; // places of each cell, and how many more might come: across tiles, too
const both = CELLS.map((length, cell) => length + COMING[cell]);
const total = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
const noise = (seed: number, rows: number) => tensor(Key.from(seed).normals(rows * C), [rows, C]);
/** Of the rows of all, which are of the cells. */
const own = spansOf(both).flatMap(([from], cell) => Array.from({ length: CELLS[cell] }, (_, i) => from + i));
const others = [...Array(total(both)).keys()].filter((row) => !own.includes(row));
const ones = (n: number) => tensor(new Float32Array(n).fill(1));

onDevices(() => {
  test("the value is attention's, and so are the gradients of q, k and v", async () => {
    const made = inference(() => {
      const [q, k, v] = [1, 2, 3].map((seed) => noise(seed, total(CELLS)));
      const [keys, values] = [4, 5].map((seed) => noise(seed, total(COMING)));
      const [cells, dy] = [segments(CELLS), noise(6, total(CELLS))];
      const coming = { keys, values, segments: segments(COMING) };
      const [gates, more] = [ones(total(CELLS)), zeros([total(COMING)])];
      const want = vjp(() => attention(q, k, v, cells, HEADS), [q, k, v], dy);
      const got = vjp(() => presence(q, k, v, gates, more, coming, cells, HEADS), [q, k, v], dy);
      return [want, got].map(({ value, grads }) => [value, ...grads]);
    });
    const [want, got] = await Promise.all(made.map((tensors) => Promise.all(tensors.map((t) => t.data()))));
    for (const [i, values] of got.entries()) expect([...values]).toEqual([...want[i]]);
    for (const t of made.flat()) t.free();
  });

  test("gates: those of keys that are there, and of keys that might come", async () => {
    const made = inference(() => {
      const [keys, values] = [4, 5].map((seed) => noise(seed, total(both)));
      const q = noise(1, total(CELLS));
      const [k, v] = [keys, values].map((x) => gather(x, index(own, total(both))));
      const there = Float32Array.from({ length: total(both) }, (_, i) => Number(own.includes(i)));
      const [gates, dy] = [tensor(there), noise(6, total(CELLS))];

      /** exp(score) times the gate, made to sum to 1. */
      const written = () => {
        const mixed = CELLS.map((length, cell) => {
          const [[at], [from, to]] = [spansOf(CELLS)[cell], spansOf(both)[cell]];
          const rows = (x: Tensor, first: number, count: number) => gather(x, index(Array.from({ length: count }, (_, i) => first + i), x.shape[0])); // biome-ignore format: one line
          const heads = (x: Tensor) => permute(reshape(x, [x.shape[0], HEADS, D]), [1, 0, 2]);
          const scores = mul(matmul(heads(rows(q, at, length)), heads(rows(keys, from, to - from)), { transposeB: true }), 1 / Math.sqrt(D)); // biome-ignore format: one line
          const gate = reshape(gather(reshape(gates, [total(both), 1]), index(Array.from({ length: to - from }, (_, i) => from + i), total(both))), [1, 1, to - from]); // biome-ignore format: one line
          const weights = mul(exp(scores), gate);
          const y = matmul(div(weights, sum(weights, [2], true)), heads(rows(values, from, to - from)));
          const part = rows(dy, at, length);
          return sum(mul(reshape(permute(y, [1, 0, 2]), [length, C]), part));
        });
        return mixed.reduce((a, b) => add(a, b));
      };
      const want = vjp(written, [gates], tensor([1], []));
      const coming = { keys: gather(keys, index(others, total(both))), values: gather(values, index(others, total(both))), segments: segments(COMING) }; // biome-ignore format: one line
      const [present, more] = [ones(total(CELLS)), zeros([total(COMING)])];
      const got = vjp(() => presence(q, k, v, present, more, coming, segments(CELLS), HEADS), [present, more], dy);
      const alone = vjp(() => presence(q, k, v, present, null, null, segments(CELLS), HEADS), [present], dy);
      return [...want.grads, ...got.grads, ...alone.grads];
    });
    const [want, present, come, alone] = await Promise.all(made.map((t) => t.data()));
    for (const t of made) t.free();
    const largest = Math.max(...want.map(Math.abs));
    const near = (got: ArrayLike<number>, rows: readonly number[]) => {
      expect(got).toHaveLength(rows.length);
      for (const [i, row] of rows.entries()) expect(Math.abs(got[i] - want[row]) / largest).toBeLessThan(1e-5);
    };
    near(present, own);
    near(alone, own);
    near(come, others);
    expect(largest).toBeGreaterThan(0.1);
  });

  test("gates of causal attention, or with dropout, are refused", () => {
    const [q, cells] = [noise(1, total(CELLS)), segments(CELLS)];
    expect(() => attend(q, q, q, cells, HEADS, { gated: true, causal: true })).toThrow(/gates are of attention to all keys, without dropout; got causal attention/); // biome-ignore format: one line
    expect(() => inference(() => attend(q, q, q, cells, HEADS, { gated: true, drop: { p: 0.5, key: StepKey.from(Key.from(1)) } }))).toThrow(/got dropout/); // biome-ignore format: one line
    q.free();
  });
});

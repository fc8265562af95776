/** What a key's presence is worth: against attention written out with gates in it. */

import { expect, test } from "vitest";
import { add, attention, div, exp, gather, matmul, mul, permute, reshape, sum } from "../../../autograd/ops.ts";
import { inference, vjp } from "../../../autograd/tape.ts";
import { presence } from "../../../geneformer/perturb/presence.ts";
import { Key } from "../../../src/key.ts";
import { index, segments, spansOf } from "../../../src/stream.ts";
import { type Tensor, tensor } from "../../../src/tensor.ts";
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

onDevices(() => {
  test("the value is attention's, and so are the gradients of q, k and v", async () => {
    const made = inference(() => {
      const [q, k, v] = [1, 2, 3].map((seed) => noise(seed, total(CELLS)));
      const [keys, values] = [4, 5].map((seed) => noise(seed, total(both)));
      const [cells, all, dy] = [segments(CELLS), segments(both), noise(6, total(CELLS))];
      const gates = tensor(new Float32Array(total(both)).fill(1));
      const want = vjp(() => attention(q, k, v, cells, HEADS), [q, k, v], dy);
      const got = vjp(() => presence(q, k, v, gates, keys, values, cells, all, HEADS), [q, k, v], dy);
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
      const got = vjp(() => presence(q, k, v, gates, keys, values, segments(CELLS), segments(both), HEADS), [gates], dy);
      return [...want.grads, ...got.grads];
    });
    const [want, got] = await Promise.all(made.map((t) => t.data()));
    for (const t of made) t.free();
    const largest = Math.max(...want.map(Math.abs));
    for (const [i, value] of got.entries()) expect(Math.abs(value - want[i]) / largest).toBeLessThan(1e-5);
    expect(largest).toBeGreaterThan(0.1);
  });
});

/** More workgroups than WebGPU allows along one side (65,535): results of some 17 million numbers, 68 MB, and rows beyond that many. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { LANES } from "../../kernels/kernel.ts";
import { segments } from "../../src/stream.ts";
import { integers, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { deviceNames, onDevices } from "../devices.ts";

/** The most workgroups along one side (WebGPU, 3.6.2). */
const SIDE = 65_535;
const COLS = LANES;
const ROWS = SIDE + 9;

onDevices(
  (device) => {
    /** Some of a result's numbers: its ends, and the last workgroups that one side could hold and the first it could not. */
    const places = [0, 1, COLS, SIDE * COLS - 1, SIDE * COLS, SIDE * COLS + 1, ROWS * COLS - COLS, ROWS * COLS - 1];
    /** What no two neighbours, of row or column, share. */
    const at = (row: number, col: number) => (row * 31 + col * 7) % 65_521;
    const table = () => {
      const values = new Float32Array(ROWS * COLS);
      for (let row = 0, i = 0; row < ROWS; row++) for (let col = 0; col < COLS; col++) values[i++] = at(row, col);
      return tensor(values, [ROWS, COLS]);
    };
    const some = async (call: () => Tensor) => {
      const y = scoped(call);
      const values = await y.data();
      y.free();
      expect(device().memory.live).toBe(0);
      return { shape: y.shape, found: places.map((i) => values[i]) };
    };
    const wanted = (f: (row: number, col: number) => number) => places.map((i) => f(Math.floor(i / COLS), i % COLS));

    describe("moves of 17 million numbers:", () => {
      test("permute", async () => {
        const { shape, found } = await some(() => ops.permute(table(), [1, 0]));
        expect(shape).toEqual([COLS, ROWS]);
        expect(found).toEqual(places.map((i) => at(i % ROWS, Math.floor(i / ROWS))));
      });

      test("gather, by an index on the device", async () => {
        const back = () => integers(Uint32Array.from({ length: ROWS }, (_, i) => ROWS - 1 - i + Number(i === SIDE) * ROWS));
        const { found } = await some(() => ops.gather(table(), back()));
        expect(found).toEqual(wanted((row, col) => (row === SIDE ? 0 : at(ROWS - 1 - row, col))));
      });

      test("pad, slice and concat", async () => {
        const { shape, found } = await some(() => {
          const x = table();
          const padded = ops.pad(ops.slice(x, 0, 3, ROWS), 0, 1, 0);
          return ops.concat([padded, ops.slice(x, 0, 0, 2)]);
        });
        expect(shape).toEqual([ROWS, COLS]);
        expect(found).toEqual(wanted((row, col) => (row === 0 ? 0 : row < ROWS - 2 ? at(row + 2, col) : at(row - ROWS + 2, col))));
      });

      test("broadcastTo", async () => {
        const { found } = await some(() => ops.broadcastTo(tensor(Float32Array.from({ length: COLS }, (_, col) => col)), [ROWS, COLS]));
        expect(found).toEqual(wanted((_, col) => col));
      });
    });

    describe("rows beyond 65,535:", () => {
      test.each([{}, { smoothing: 0.5 }])("cross-entropy %o", async (options) => {
        const made = scoped(() => {
          const x = tensor(
            Float32Array.from({ length: ROWS * 2 }, (_, i) => (i % 2 ? Math.log(3) : 0)),
            [ROWS, 2],
          );
          const labels = integers(Uint32Array.from({ length: ROWS }, (_, i) => Number(i < SIDE)));
          const { value, grads } = valueAndGrad(() => ops.crossEntropy(x, labels, options), [x]);
          return [value, ...grads];
        });
        const [[loss], dx] = await Promise.all(made.map(async (t) => [...(await t.data())]));
        for (const t of made) t.free();
        const share = (options.smoothing ?? 0) / 2; // of the label that is not the row's
        const costs = [Math.log(4), Math.log(4 / 3)];
        const mean = (costs[1] * SIDE + costs[0] * (ROWS - SIDE)) / ROWS;
        expect(loss).toBeCloseTo((1 - share) * mean + share * (costs[0] + costs[1] - mean), 5);
        for (const row of [0, SIDE - 1, SIDE, ROWS - 1]) {
          const target = row < SIDE ? 1 - share : share;
          expect(dx[2 * row + 1] * ROWS).toBeCloseTo(0.75 - target, 5);
          expect(dx[2 * row] * ROWS).toBeCloseTo(target - 0.75, 5);
        }
      });

      test("softmax, and the mean of each of as many segments", async () => {
        const made = scoped(() => {
          const x = tensor(
            Float32Array.from({ length: ROWS * 2 }, (_, i) => (i % 2 ? Math.log(3 + (i >> 1)) : 0)),
            [ROWS, 2],
          );
          return [ops.segmentMean(ops.softmax(x), segments(new Array(ROWS).fill(1)))];
        });
        const y = await made[0].data();
        for (const t of made) t.free();
        for (const row of [0, SIDE - 1, SIDE, ROWS - 1]) expect(y[2 * row] * (4 + row)).toBeCloseTo(1, 4);
      });
    });
  },
  deviceNames.filter((name) => name !== "reference"), // which has no workgroups, and would take 136 MB a tensor
);

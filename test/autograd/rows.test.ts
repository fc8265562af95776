/** Ops along an axis where the catalogue does not go: masked rows, long ones, axes of size 0 and 1, what is refused. */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { inference } from "../../autograd/tape.ts";
import { integers, ones, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";
import { evaluate, readAll, rounded } from "./evaluate.ts";

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
/** The least number of f32, with which some mask their scores. */
const least = -(2 - 2 ** -23) * 2 ** 127;

onDevices(() => {
  describe("masked scores", () => {
    const x = [0, -inf, 0, -inf, -inf, -inf, -inf, -inf, 5, least, least, 1];

    test("have no share in a softmax; a row of nothing else has none (torch 1.13)", async () => {
      const [y, dx] = await evaluate((x) => ops.softmax(x), [x, [4, 3]]);
      expect(y.values).toEqual([0.5, 0, 0.5, nan, nan, nan, 0, 0, 1, 0, 0, 1]);
      expect(dx.values.slice(0, 3)).toEqual([0, 0, 0]);
      expect(dx.values.slice(3, 6)).toEqual([nan, nan, nan]);
      expect(dx.values.slice(6)).toEqual([0, 0, 0, 0, 0, 0]);
    });

    test("have the logarithm -Infinity, and no gradient of theirs", async () => {
      const [y, dx] = await evaluate((x) => ops.logSoftmax(x), [x.slice(0, 9), [3, 3]]);
      const ln2 = Number(Math.LN2.toFixed(6));
      expect(rounded(y.values)).toEqual([-ln2, -inf, -ln2, nan, nan, nan, -inf, -inf, 0]);
      expect(rounded(dx.values)).toEqual([-0.5, 1, -0.5, nan, nan, nan, 1, 1, -2]);
    });

    test("that are all the least number there is share alike", async () => {
      expect(
        rounded(
          (
            await evaluate(
              (x) => ops.softmax(x),
              [
                [least, least, least],
                [1, 3],
              ],
            )
          )[0].values,
        ),
      ).toEqual([0.333333, 0.333333, 0.333333]);
    });
  });

  test("a log-softmax does not vanish where the softmax does", async () => {
    const [y] = await evaluate(
      (x) => ops.logSoftmax(x),
      [
        [0, -500, 1000, 0],
        [2, 2],
      ],
    );
    expect(y.values).toEqual([0, -500, 0, -1000]);
  });

  test("any axis: a softmax of columns is that of the rows of the transpose", async () => {
    const x = [1, -2, 0.5, 3, 1, 4];
    for (const op of [ops.softmax, ops.logSoftmax, ops.cumsum]) {
      const [columns] = await evaluate((x) => op(x, 0), [x, [3, 2]]);
      const [rows] = await evaluate((x) => ops.permute(op(ops.permute(x, [1, 0])), [1, 0]), [x, [3, 2]]);
      expect(columns).toEqual(rows);
    }
  });

  describe("running sums", () => {
    test("along the first axis (torch 1.13)", async () => {
      const [y, dx] = await evaluate(
        (x) => ops.cumsum(x, 0),
        [
          [0, 1, 2, 3, 4, 5],
          [3, 2],
        ],
      );
      expect(y.values).toEqual([0, 1, 2, 4, 6, 9]);
      expect(dx.values).toEqual([3, 3, 2, 2, 1, 1]);
    });

    test("of rows longer than 65,536, both ways", async () => {
      const cols = 70_001;
      const x = Array.from({ length: 2 * cols }, (_, i) => ((i * 7) % 5) - 2); // whole numbers: sums are exact
      const [y, dx] = await evaluate((x) => ops.cumsum(x), [x, [2, cols]]);
      const wanted = x.slice();
      for (let i = 1; i < 2 * cols; i++) if (i !== cols) wanted[i] += wanted[i - 1];
      expect(y.values).toEqual(wanted);
      expect(dx.values).toEqual(x.map((_, i) => cols - (i % cols)));
    });
  });

  describe("the largest of each row", () => {
    test("come in order, NaN before all, those that tie by their places", async () => {
      const x = tensor([1, nan, 3, 3, inf, -inf, 0, 0, 0, -0, 0, 0], [2, 6]);
      const { values, indices } = inference(() => ops.topK(x, 6));
      const [value, place] = await readAll([values, indices]);
      expect(place.values).toEqual([1, 4, 2, 3, 0, 5, 0, 1, 2, 3, 4, 5]);
      expect(value.values.slice(0, 6)).toEqual([nan, inf, 3, 3, 1, -inf]);
      expect(indices.dtype).toBe("u32");
      x.free();
    });

    test("of a row much longer than a workgroup: every number, in order", async () => {
      const n = 1300;
      const x = Array.from({ length: n }, (_, i) => (i * 769) % n);
      const [y, dx] = await evaluate((x) => ops.topK(x, n).values, [x, [n]]);
      expect(y.values).toEqual(x.map((_, i) => n - 1 - i));
      expect(dx.values).toEqual(x.map(() => 1));
    });

    test("gradients go to where they stand", async () => {
      const [, dx] = await evaluate(
        (x) => ops.mul(ops.topK(x, 2).values, tensor([10, 1])),
        [
          [1, 5, 3, 4, 4, 9],
          [2, 3],
        ],
      );
      expect(dx.values).toEqual([0, 10, 1, 1, 0, 10]);
    });
  });

  describe("numbers by their places", () => {
    test("beyond the row there are none; one taken twice has both gradients", async () => {
      const places = [0, 0, 3, 2, 0xffffffff, 2];
      const [y, dx] = await evaluate(
        (x) => ops.take(x, integers(places, [2, 3])),
        [
          [1, 2, 3, 4, 5, 6],
          [2, 3],
        ],
      );
      expect(y).toEqual({ shape: [2, 3], values: [1, 1, 0, 6, 0, 6] });
      expect(dx.values).toEqual([2, 0, 0, 0, 0, 2]);
    });
  });

  test("labels as rows: of any shape, zeros for a label beyond", async () => {
    const [y] = await readAll([ops.oneHot(integers([2, 0, 3, 1], [2, 2]), 3)]);
    expect(y).toEqual({ shape: [2, 2, 3], values: [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0] });
  });

  test("rmsNorm of a row of zeros is zero, guarded by eps", async () => {
    const [y, dx, dweight] = await evaluate(
      (x, w) => ops.rmsNorm(x, w, 1e-6),
      [
        [0, 0, 3, 4],
        [2, 2],
      ],
      [[1, 2], [2]],
    );
    expect(rounded(y.values)).toEqual([0, 0, 0.848528, 2.262742]);
    expect(dx.values.slice(0, 2).map(Math.round)).toEqual([1000, 2000]); // weight / sqrt(eps)
    expect(rounded(dweight.values)).toEqual([0.848528, 1.131371]);
  });

  describe("rows of nothing, and no rows:", () => {
    const along: [string, (x: Tensor) => Tensor][] = [
      ["softmax", (x) => ops.softmax(x)],
      ["softmax of columns", (x) => ops.softmax(x, 0)],
      ["logSoftmax", (x) => ops.logSoftmax(x)],
      ["cumsum", (x) => ops.cumsum(x)],
      ["cumsum of columns", (x) => ops.cumsum(x, 0)],
      ["rmsNorm", (x) => ops.rmsNorm(x, ones([x.shape[1]]), 1e-6)],
    ];
    test.each(along)("%s", async (_, call) => {
      for (const shape of [
        [0, 3],
        [3, 0],
      ])
        expect(await evaluate(call, [[], shape])).toEqual([
          { shape, values: [] },
          { shape, values: [] },
        ]);
    });

    test("topK, take and oneHot", async () => {
      expect(
        await evaluate(
          (x) => ops.topK(x, 0).values,
          [
            [1, 2],
            [1, 2],
          ],
        ),
      ).toEqual([
        { shape: [1, 0], values: [] },
        { shape: [1, 2], values: [0, 0] },
      ]);
      expect((await evaluate((x) => ops.topK(x, 2).values, [[], [0, 3]]))[0]).toEqual({ shape: [0, 2], values: [] });
      expect((await evaluate((x) => ops.take(x, integers([0, 1], [1, 2])), [[], [1, 0]]))[0]).toEqual({ shape: [1, 2], values: [0, 0] });
      for (const [labels, n, shape] of [
        [[], 3, [0, 3]],
        [[0, 1], 0, [2, 0]],
      ] as const)
        expect(await readAll([ops.oneHot(integers(labels), n)])).toEqual([{ shape, values: [] }]);
    });

    test("the gradient of a weight that no row meets is zero", async () => {
      expect((await evaluate((x, w) => ops.rmsNorm(x, w, 1e-6), [[], [0, 2]], [[1, 1], [2]]))[2].values).toEqual([0, 0]);
    });
  });

  test("rows of one number", async () => {
    const one = [[3], [1, 1]] as const;
    expect((await evaluate((x) => ops.softmax(x), one)).map(({ values }) => values)).toEqual([[1], [0]]);
    expect((await evaluate((x) => ops.logSoftmax(x), one)).map(({ values }) => values)).toEqual([[0], [0]]);
    expect((await evaluate((x) => ops.cumsum(x), one)).map(({ values }) => values)).toEqual([[3], [1]]);
    expect((await evaluate((x) => ops.topK(x, 1).values, one)).map(({ values }) => values)).toEqual([[3], [1]]);
  });

  test("what is refused", () => {
    const [x, w] = [ones([2, 3]), ones([2])];
    expect(() => ops.softmax(x, 2)).toThrow(/^softmax: axis 2 does not exist in \[2, 3\]/);
    expect(() => ops.topK(x, 4)).toThrow("topK(... n, k): k is 4; got [2, 3]; give an integer from 0 to 3");
    expect(() => ops.oneHot(integers([0]), -1)).toThrow("oneHot(labels, n): n is -1; give the number of labels, 0 or more");
    expect(() => ops.oneHot(w, 2)).toThrow(/labels must be u32 but is f32/);
    expect(() => ops.rmsNorm(x, w, 1e-6)).toThrow(/^rmsNorm\(\.\.\. n, n\): n is 3 in argument 1 but 2 in argument 2/);
    expect(() => ops.take(x, integers([0], [1, 1]))).toThrow(
      "take(... n, ... k): all axes but the last must be the same; got [2, 3] and [1, 1]; gather takes whole rows",
    );
    for (const t of [x, w]) t.free();
  });
});

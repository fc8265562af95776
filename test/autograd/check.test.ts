/** checkGradients finds what is wrong, and only that. */

import { describe, expect, test } from "vitest";
import { checkGradients } from "../../autograd/check.ts";
import { add, exp, gather, matmul, mul, square, sum } from "../../autograd/ops.ts";
import { op } from "../../autograd/tape.ts";
import { zip } from "../../kernels/elementwise.ts";
import { Key } from "../../src/key.ts";
import { index } from "../../src/stream.ts";
import { full, run, type Tensor } from "../../src/tensor.ts";

const x = { shape: [2, 3], values: [1, -2, 3, 0.5, 0.25, -1] };
const y = { shape: [3, 2], values: [2, 1, 0.5, -1, 4, 3] };
const times = (a: Tensor, b: Tensor) => run(zip("mul"), { a, b }, { z: a.shape }, { n: a.size }).z;

describe("a right derivative passes:", () => {
  test.each([
    ["of several arguments", (a: Tensor, b: Tensor) => matmul(a, b), [x, y]],
    ["of one that is used twice", (a: Tensor) => add(mul(a, a), exp(a)), [x]],
    ["with tables made inside", (a: Tensor) => gather(a, index([1, 0, 1], 2)), [x]],
    ["of a constant", () => full([2], 3), [x]],
  ] as const)("%s", async (_, f, points) => {
    expect(Number.isFinite(await checkGradients(f as (...inputs: Tensor[]) => Tensor, points))).toBe(true);
  });

  test("and gives the slope along the direction that the key draws", async () => {
    const [v] = [
      Key.from(4)
        .fold(1)
        .uniforms(6)
        .map((u) => 2 * u - 1),
    ];
    const [w] = Key.from(4)
      .fold(0)
      .uniforms(1)
      .map((u) => 2 * u - 1);
    const slope = await checkGradients((a) => sum(square(a)), [x], { key: Key.from(4) });
    expect(slope).toBeCloseTo(
      x.values.reduce((total, value, i) => total + w * 2 * value * v[i], 0),
      12,
    );
  });
});

describe("a wrong one does not:", () => {
  /** a^2 with some way back. */
  const wrong = (back: (a: Tensor, dy: Tensor) => Tensor) => op("wrong", (a: Tensor) => [times(a, a), [a], (dy) => [back(a, dy)]]);
  const doubled = (a: Tensor, dy: Tensor) => times(times(a, dy), full(a.shape, 2));

  test.each([
    ["a factor that is lost", (a: Tensor, dy: Tensor) => times(a, dy)],
    ["a sign", (a: Tensor, dy: Tensor) => times(doubled(a, dy), full(a.shape, -1))],
    ["one part in ten thousand", (a: Tensor, dy: Tensor) => times(doubled(a, dy), full(a.shape, 1.0001))],
    ["not a number", (a: Tensor, dy: Tensor) => times(doubled(a, dy), full(a.shape, Number.NaN))],
    ["nothing", (a: Tensor) => full(a.shape, 0)],
  ])("%s", async (_, back) => {
    await expect(checkGradients(wrong(back), [x])).rejects.toThrow(
      /^checkGradients\(f, \[2, 3\]\): the tape's slope is .*, the difference's /,
    );
    await expect(checkGradients(wrong(doubled), [x])).resolves.toBeTypeOf("number");
  });
});

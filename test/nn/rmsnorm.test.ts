/** Root mean square norm as a layer: the formula, its learned scale, and its gradients against numbers by hand. */

import { expect, test } from "vitest";
import { mul, sum } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rmsnorm.ts";
import { Key } from "../../src/key.ts";
import { tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices((device, name) => {
  const digits = name === "reference" ? 10 : 5;
  const noise = (seed: number, n: number) => [...Key.from(seed).normals(n)].map(Math.fround);
  const rootOf = (row: readonly number[], eps: number) => Math.sqrt(row.reduce((total, x) => total + x * x, 0) / row.length + eps);

  test.each([
    [1, 1, 1e-6],
    [4, 257, 1e-6],
    [3, 8, 0.5],
  ])("%i rows of %i numbers, eps %f: each over the root of its mean square, times the weight", async (rows, width, eps) => {
    const before = device().memory.live;
    const norm = eps === 1e-6 ? new RMSNorm(width) : new RMSNorm(width, eps);
    expect([...parameters(norm)].map(([path, { shape }]) => [path, shape])).toEqual([["weight", [width]]]);
    expect([...(await norm.weight.data())]).toEqual(new Array(width).fill(1));
    const [w, x] = [noise(1, width), noise(2, rows * width)];
    norm.weight.write(w);
    const given = tensor(x, [rows, width]);
    const y = inference(() => norm.forward(given));
    expect(y.shape).toEqual([rows, width]);
    const values = await y.data();
    for (let r = 0; r < rows; r++) {
      const row = x.slice(r * width, (r + 1) * width);
      row.forEach((value, i) => {
        expect(values[r * width + i]).toBeCloseTo((value / rootOf(row, eps)) * w[i], digits);
      });
    }
    for (const t of [given, y]) t.free();
    freeParameters(norm);
    expect(device().memory.live).toBe(before);
  });

  test("gradients: by the weight the normed x, by x what is left when its own direction is taken out", async () => {
    const norm = new RMSNorm(5);
    const [x, dy] = [noise(3, 5), noise(4, 5)];
    const [given, weights] = [tensor(x, [1, 5]), tensor(dy, [1, 5])];
    const { value, grads } = valueAndGrad(() => sum(mul(norm.forward(given), weights)), [given, norm.weight]);
    const root = rootOf(x, norm.eps);
    const along = x.reduce((total, value, i) => total + value * dy[i], 0) / (5 * root * root);
    const [dx, dw] = await Promise.all(grads.map((t) => t.data()));
    x.forEach((value, i) => {
      expect(dw[i]).toBeCloseTo((dy[i] * value) / root, digits);
      expect(dx[i]).toBeCloseTo((dy[i] - value * along) / root, digits);
    });
    for (const t of [given, weights, value, ...grads]) t.free();
    freeParameters(norm);
  });
});

/** A second opinion on matmul, softmax and layer norm: gpu.js, written by others. */

import fc from "fast-check";
import { GPU, type IKernelFunctionThis } from "gpu.js";
import { afterAll, expect, test } from "vitest";
import { layerNorm, matmul, softmax } from "../autograd/ops.ts";
import { inference } from "../autograd/tape.ts";
import { Key } from "../src/key.ts";
import { type Tensor, tensor } from "../src/tensor.ts";
import { onDevices } from "./devices.ts";

const gpu = new GPU({ mode: "cpu" }); // its other backends need a browser or a native module; its translator wants every loop's variable to have another name
afterAll(() => void gpu.destroy());

const options = { dynamicOutput: true, dynamicArguments: true };
const theirMatmul = gpu.createKernel(function (this: IKernelFunctionThis, a: number[][], b: number[][], n: number) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
  return sum;
}, options);
const theirSoftmax = gpu.createKernel(function (this: IKernelFunctionThis, x: number[][], n: number) {
  let most = x[this.thread.y][0];
  for (let i = 1; i < n; i++) most = Math.max(most, x[this.thread.y][i]);
  let sum = 0;
  for (let j = 0; j < n; j++) sum += Math.exp(x[this.thread.y][j] - most);
  return Math.exp(x[this.thread.y][this.thread.x] - most) / sum;
}, options);
const theirLayerNorm = gpu.createKernel(function (
  this: IKernelFunctionThis,
  x: number[][],
  weight: number[],
  bias: number[],
  n: number,
  eps: number,
) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += x[this.thread.y][i];
  const mean = sum / n;
  let squares = 0;
  for (let j = 0; j < n; j++) squares += (x[this.thread.y][j] - mean) * (x[this.thread.y][j] - mean);
  const r = 1 / Math.sqrt(squares / n + eps);
  return (x[this.thread.y][this.thread.x] - mean) * r * weight[this.thread.x] + bias[this.thread.x];
}, options);

const draw = (seed: number, rows: number, cols: number): number[][] => {
  const values = Key.from(seed).uniforms(rows * cols);
  return Array.from({ length: rows }, (_, i) => Array.from({ length: cols }, (_, j) => Math.fround(4 * values[i * cols + j] - 2)));
};
const upload = (rows: number[][]): Tensor => tensor(rows.flat(), [rows.length, rows[0].length]);

const sizes = fc.record({
  rows: fc.integer({ min: 1, max: 20 }),
  cols: fc.constantFrom(1, 2, 16, 17, 64, 65, 257),
  inner: fc.constantFrom(1, 15, 33, 64, 130),
  seed: fc.nat({ max: 999 }),
});

onDevices((_, name) => {
  const runs = { numRuns: name === "webgpu" ? 8 : 25, seed: 1 };
  const compare = async (make: () => Tensor, want: unknown, bound: number) => {
    const made = inference(make);
    const got = await made.data();
    made.free();
    const flat = (want as Float32Array[]).flatMap((row) => [...row]);
    expect(got.length).toBe(flat.length);
    flat.forEach((value, i) => {
      if (!(Math.abs(got[i] - value) <= bound)) expect.fail(`[${i}] is ${got[i]}, but gpu.js says ${value}`);
    });
  };

  test("matmul", () =>
    fc.assert(
      fc.asyncProperty(sizes, async ({ rows, cols, inner, seed }) => {
        const [a, b] = [draw(seed, rows, inner), draw(seed + 1, inner, cols)];
        await compare(() => matmul(upload(a), upload(b)), theirMatmul.setOutput([cols, rows])(a, b, inner), inner * 4 * 1e-6);
      }),
      runs,
    ));

  test("softmax", () =>
    fc.assert(
      fc.asyncProperty(sizes, async ({ rows, cols, seed }) => {
        const x = draw(seed, rows, cols);
        await compare(() => softmax(upload(x)), theirSoftmax.setOutput([cols, rows])(x, cols), 1e-5);
      }),
      runs,
    ));

  test("layer norm", () =>
    fc.assert(
      fc.asyncProperty(sizes, async ({ rows, cols, seed }) => {
        const [x, [weight], [bias]] = [draw(seed, rows, cols), draw(seed + 1, 1, cols), draw(seed + 2, 1, cols)];
        const want = theirLayerNorm.setOutput([cols, rows])(x, weight, bias, cols, 1e-3);
        await compare(() => layerNorm(upload(x), tensor(weight), tensor(bias), 1e-3), want, 2e-4);
      }),
      runs,
    ));
});

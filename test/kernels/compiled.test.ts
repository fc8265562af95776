/**
 * The compiled kernels but for products and attention (cpu.test.ts): against their loops, around the ends of vectors of four and blocks of 16,
 * with NaN beyond the end of every buffer, which nothing may read and nothing may overwrite.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adamw } from "../../kernels/adamw.ts";
import { type BinaryName, clamp, clampGrad, map, type UnaryName, zip } from "../../kernels/elementwise.ts";
import { extreme, extremeGrad } from "../../kernels/extreme.ts";
import { baseOf, gather, gatherSum, invert } from "../../kernels/gather.ts";
import type { Kernel, Values } from "../../kernels/kernel.ts";
import { layerNorm, layerNormGrad, layerNormGradWeights } from "../../kernels/layernorm.ts";
import { crossEntropy, crossEntropyGrad, IGNORED } from "../../kernels/loss.ts";
import { dropout, dropThreshold, keepScale } from "../../kernels/random.ts";
import { squareSumShape, sumColumns, sumRows, sumSquares } from "../../kernels/reduce.ts";
import { rmsNorm, rmsNormGrad, rmsNormGradWeight } from "../../kernels/rmsnorm.ts";
import { samples } from "../../kernels/samples.ts";
import { NOBODY, segmentMean, segmentMeanGrad, segmentSum, segmentSumGrad } from "../../kernels/segment.ts";
import { sgd } from "../../kernels/sgd.ts";
import { logSoftmax, logSoftmaxGrad, logSumExp, logSumExpGrad, softmax, softmaxGrad } from "../../kernels/softmax.ts";
import { variance, varianceGrad } from "../../kernels/variance.ts";
import type { Device } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { onDevice } from "../devices.ts";
import * as magnitudes from "../magnitudes.ts";

/** The unit roundoff of f32, and the least number that it holds in full precision. */
const U = 2 ** -24;
const LEAST = 2 ** -126;
/** Sums in f64 of a few thousand terms: what they round, of the absolute terms. */
const SUM = 2 ** -40;
/** Numbers beyond the end of each buffer. */
const MARGIN = 5;

type Buffers = Record<string, Values>;
type Bound = (i: number) => number;

interface Run {
  readonly inputs: Buffers;
  /** The length of each output, or what it holds before. */
  readonly outputs: Record<string, number | Float64Array | Uint32Array>;
  readonly params: Record<string, number>;
  /** How far each number may be from the loops in f64. Without it, it must have the very bits of the loops in f32. */
  bounds?(wanted: Buffers): Record<string, Bound>;
}

interface Size {
  readonly rows: number;
  readonly cols: number;
  readonly seed: number;
}

const mapValues = <A, B>(of: Record<string, A>, f: (value: A, name: string) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(of).map(([name, value]) => [name, f(value, name)]));

const beyond = (values: Values): number[] => Array(MARGIN).fill(values instanceof Float64Array ? Number.NaN : 0);

/** What a kernel gives on the device. */
async function compute(device: Device, kernel: Kernel, { inputs, outputs, params }: Run): Promise<Buffers> {
  const before: Buffers = {
    ...inputs,
    ...mapValues(outputs, (given) => (typeof given === "number" ? new Float64Array(given).fill(Number.NaN) : given)),
  };
  const buffers = mapValues(before, (values) => {
    const isFloat = values instanceof Float64Array;
    const buffer = device.allocate(isFloat ? "f32" : "u32", values.length + MARGIN);
    device.upload(buffer, (isFloat ? Float64Array : Uint32Array).from([...values, ...beyond(values)]));
    return buffer;
  });
  device.run(kernel, buffers, params);
  const found: Buffers = {};
  for (const name of Object.keys(outputs)) {
    const all = await device.read(buffers[name]);
    const end = before[name].length;
    expect(Array.from(all.subarray(end)), `${name} beyond its end`).toEqual(beyond(before[name]));
    found[name] = all.slice(0, end);
  }
  for (const buffer of Object.values(buffers)) device.free(buffer);
  return found;
}

/** What its loops give, in f32 or f64. */
function loops(kernel: Kernel, { inputs, outputs, params }: Run, Floats: typeof Float32Array | typeof Float64Array): Buffers {
  const made = mapValues(outputs, (given) => {
    if (given instanceof Uint32Array) return given.slice();
    return typeof given === "number" ? new Floats(given).fill(Number.NaN) : Floats.from(given);
  });
  const given = mapValues(inputs, (values) => (values instanceof Float64Array ? Floats.from(values) : values));
  kernel.loops({ ...given, ...made }, params);
  return made;
}

async function check(device: Device, kernel: Kernel, run: Run) {
  const found = await compute(device, kernel, run);
  if (!run.bounds) {
    expect(found).toEqual(loops(kernel, run, Float32Array));
    return;
  }
  const wanted = loops(kernel, run, Float64Array);
  for (const [name, bound] of Object.entries(run.bounds(wanted))) {
    const wrong = Array.from(found[name]).findIndex(
      (x, i) => !(Object.is(x, wanted[name][i]) || Math.abs(x - wanted[name][i]) <= bound(i) + LEAST),
    );
    const said = `${name}[${wrong}] is ${found[name][wrong]}, not ${wanted[name][wrong]} to ${wrong < 0 ? 0 : bound(wrong)}`;
    expect(wrong < 0 ? "within the bounds" : said).toBe("within the bounds");
  }
}

/** Numbers in [low, high) that f32 holds, others for each `which`. */
const draw = ({ seed }: Size, which: number, n: number, low = -1, high = 1): Float64Array =>
  Float64Array.from(Key.from(seed).fold(which).uniforms(n), (u) => Math.fround(low + (high - low) * u));
/** Integers below n. */
const integers = (size: Size, which: number, length: number, n: number): Uint32Array =>
  Uint32Array.from(draw(size, which, length, 0, n), Math.floor);
const STRANGE = [Number.NaN, Infinity, -Infinity, 0, -0];
/** The same numbers, some eighth of them strange. */
const strange = (size: Size, which: number, n: number): Float64Array => {
  const dice = integers(size, which + 100, n, 8 * STRANGE.length);
  return draw(size, which, n).map((x, i) => STRANGE[dice[i]] ?? x);
};

const sum = (n: number, f: (j: number) => number): number => Array.from({ length: n }, (_, j) => f(j)).reduce((a, b) => a + b, 0);
/** A rounding of the result, and of the f64 sums behind it. */
const rounded =
  (wanted: Values, terms: Bound): Bound =>
  (i) =>
    U * Math.abs(wanted[i]) + SUM * terms(i);

const unary = (size: Size): Run => ({ inputs: { a: strange(size, 0, size.cols) }, outputs: { z: size.cols }, params: { n: size.cols } });
const binary = (size: Size): Run => ({ ...unary(size), inputs: { a: strange(size, 0, size.cols), b: strange(size, 1, size.cols) } });

const labelled = (size: Size) => {
  const { rows, cols } = size;
  const dice = integers(size, 10, rows, 4);
  return integers(size, 11, rows, cols).map((label, i) => (dice[i] === 0 || cols === 0 ? IGNORED : label));
};

/** How to run each kernel at a size. */
const runs: Record<string, readonly [kernel: unknown, run: (size: Size) => Run]> = {
  ...Object.fromEntries((["neg", "square", "sqrt", "abs", "relu"] satisfies UnaryName[]).map((name) => [name, [map(name), unary]])),
  // each of them rounds once
  ...Object.fromEntries(
    (
      [
        ...(["add", "sub", "mul", "div", "maximum", "minimum", "sqrtGrad", "squareGrad", "absGrad", "reluGrad"] as const),
        ...(["equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual"] as const),
      ] satisfies BinaryName[]
    ).map((name) => [name, [zip(name), binary]]),
  ),
  clamp: [clamp, (size) => ({ ...unary(size), params: { n: size.cols, low: -0.5, high: 0.25 } })],
  clampGrad: [
    clampGrad,
    (size) => {
      const { a, b: dz } = binary(size).inputs;
      return { inputs: { a, dz }, outputs: { da: size.cols }, params: { n: size.cols, low: -0.5, high: 0.25 } };
    },
  ],
  // an exponential and a few roundings; what cancels in gelu's tail is lost
  ...Object.fromEntries(
    Object.entries({ rsqrt: 3, exp: 4, sigmoid: 8, tanh: 8, silu: 10, softplus: 10 } satisfies Partial<Record<UnaryName, number>>).map(
      ([name, units]) => [
        name,
        [map(name as UnaryName), (size) => ({ ...unary(size), bounds: ({ z }) => ({ z: (i) => units * U * Math.abs(z[i]) }) })],
      ],
    ),
  ),
  ...Object.fromEntries(
    (["gelu", "geluTanh"] satisfies UnaryName[]).map((name) => [
      name,
      [map(name), (size) => ({ ...unary(size), bounds: () => ({ z: (i) => 12 * U * Math.abs(unary(size).inputs.a[i]) }) })],
    ]),
  ),
  rsqrtGrad: [zip("rsqrtGrad"), (size) => ({ ...binary(size), bounds: ({ z }) => ({ z: (i) => 5 * U * Math.abs(z[i]) }) })],
  ...Object.fromEntries(
    (["sigmoidGrad", "softplusGrad", "siluGrad", "geluGrad", "geluTanhGrad"] satisfies BinaryName[]).map((name) => [
      name,
      [zip(name), (size) => ({ ...binary(size), bounds: () => ({ z: (i) => 30 * U * Math.abs(binary(size).inputs.b[i]) }) })],
    ]),
  ),
  tanhGrad: [
    zip("tanhGrad"),
    (size) => {
      const run = binary(size);
      return { ...run, bounds: () => ({ z: (i) => 3 * U * (1 + run.inputs.a[i] ** 2) * Math.abs(run.inputs.b[i]) }) };
    },
  ],
  reciprocalGrad: [zip("reciprocalGrad"), (size) => ({ ...binary(size), bounds: ({ z }) => ({ z: (i) => 3 * U * Math.abs(z[i]) }) })],

  dropout: [
    dropout,
    (size) => ({
      inputs: { x: strange(size, 0, size.cols), key: Uint32Array.of(size.seed, 0x80000001) },
      outputs: { y: size.cols },
      params: { n: size.cols, threshold: dropThreshold(0.3), scale: keepScale(0.3), site0: size.rows, site1: 0xfffffff0 },
    }),
  ],

  sumRows: [
    sumRows,
    (size) => {
      const { rows, cols } = size;
      const x = draw(size, 0, rows * cols);
      return {
        inputs: { x },
        outputs: { y: rows },
        params: { rows, cols, scale: 0.75 },
        bounds: ({ y }) => ({ y: rounded(y, (i) => sum(cols, (j) => Math.abs(x[i * cols + j]))) }),
      };
    },
  ],
  sumColumns: [
    sumColumns,
    (size) => {
      const { rows, cols: inner } = size;
      const cols = 2 * inner;
      return {
        inputs: { x: draw(size, 0, rows * cols) },
        outputs: { y: cols },
        params: { cols, rows, inner, scale: 0.75 },
        bounds: ({ y }) => ({ y: rounded(y, () => rows) }),
      };
    },
  ],
  sumSquares: [
    sumSquares,
    (size) => ({
      inputs: { x: draw(size, 0, size.cols) },
      outputs: { squares: draw(size, 1, 3) },
      params: squareSumShape(size.cols, 1),
      bounds: ({ squares }) => ({ squares: (i) => 1.001 * U * squares[i] }),
    }),
  ],

  softmax: [
    softmax,
    (size) => {
      const { rows, cols } = size;
      const x = draw(size, 0, rows * cols, -20, 20);
      const [y] = magnitudes.softmax(x, x, cols);
      return { inputs: { x }, outputs: { y: x.length }, params: { rows, cols }, bounds: () => ({ y: (i) => 10 * U * y[i] }) };
    },
  ],
  softmaxGrad: [
    softmaxGrad,
    (size) => {
      const { rows, cols } = size;
      const [y, dy] = [draw(size, 0, rows * cols, 0, 1), draw(size, 1, rows * cols)];
      const dots = Float64Array.from({ length: rows }, (_, i) => sum(cols, (j) => Math.abs(y[i * cols + j] * dy[i * cols + j])));
      const bound: Bound = (i) => 4 * U * y[i] * (Math.abs(dy[i]) + dots[Math.floor(i / cols)]);
      return { inputs: { y, dy }, outputs: { dx: y.length }, params: { rows, cols }, bounds: () => ({ dx: bound }) };
    },
  ],

  ...Object.fromEntries(
    (["max", "min"] as const).map((which) => [
      which,
      [
        extreme(which),
        (size: Size) => ({
          inputs: { x: strange(size, 0, size.rows * size.cols) },
          outputs: { y: size.rows },
          params: { rows: size.rows, cols: size.cols },
        }),
      ],
    ]),
  ),
  extremeGrad: [
    extremeGrad,
    (size) => {
      const { rows, cols } = size;
      const x = strange(size, 0, rows * cols).map((v) => Math.round(4 * v)); // so that some tie, and some rows have none of y
      return {
        inputs: { x, y: strange(size, 1, rows).map((v) => Math.round(4 * v)), dy: strange(size, 2, rows) },
        outputs: { dx: x.length },
        params: { rows, cols },
      };
    },
  ],

  variance: [
    variance,
    (size) => {
      const { rows, cols } = size;
      const x = draw(size, 0, rows * cols, -1, 3);
      const [y] = magnitudes.variance(x, x, cols, 0.75);
      return {
        inputs: { x },
        outputs: { y: rows, means: rows },
        params: { rows, cols, scale: 0.75 },
        bounds: ({ means }) => ({ y: (i) => 4 * U * y[i], means: (i) => U * Math.abs(means[i]) + 3 * SUM }),
      };
    },
  ],
  varianceGrad: [
    varianceGrad,
    (size) => {
      const { rows, cols } = size;
      return {
        inputs: { x: draw(size, 0, rows * cols), means: draw(size, 1, rows), dy: draw(size, 2, rows) },
        outputs: { dx: rows * cols },
        params: { rows, cols, scale: 0.75 },
        bounds: ({ dx }) => ({ dx: (i) => 4 * U * Math.abs(dx[i]) }),
      };
    },
  ],

  logSoftmax: [
    logSoftmax,
    (size) => {
      const { rows, cols } = size;
      const x = draw(size, 0, rows * cols, -20, 20);
      const [y] = magnitudes.logSoftmax(x, x, cols);
      return { inputs: { x }, outputs: { y: x.length }, params: { rows, cols }, bounds: () => ({ y: (i) => 5 * U * y[i] }) };
    },
  ],
  logSoftmaxGrad: [
    logSoftmaxGrad,
    (size) => {
      const { rows, cols } = size;
      const [y, dy] = [draw(size, 0, rows * cols, -20, 0), draw(size, 1, rows * cols)];
      const sums = Float64Array.from({ length: rows }, (_, i) => sum(cols, (j) => Math.abs(dy[i * cols + j])));
      const bound: Bound = (i) => U * (2 * Math.abs(dy[i]) + 8 * Math.exp(y[i]) * sums[Math.floor(i / cols)]);
      return { inputs: { y, dy }, outputs: { dx: y.length }, params: { rows, cols }, bounds: () => ({ dx: bound }) };
    },
  ],
  logSumExp: [
    logSumExp,
    (size) => {
      const { rows, cols } = size;
      const x = draw(size, 0, rows * cols, -20, 20);
      const [y] = magnitudes.logSumExp(x, x, cols);
      return { inputs: { x }, outputs: { y: rows }, params: { rows, cols }, bounds: () => ({ y: (i) => 5 * U * y[i] }) };
    },
  ],
  logSumExpGrad: [
    logSumExpGrad,
    (size) => {
      const { rows, cols } = size;
      const [x, y] = [draw(size, 0, rows * cols, -20, 5), draw(size, 1, rows, 5, 9)];
      return {
        inputs: { x, y, dy: draw(size, 2, rows) },
        outputs: { dx: x.length },
        params: { rows, cols },
        bounds: ({ dx }) => ({ dx: (i) => U * Math.abs(dx[i]) * (8 + Math.abs(x[i] - y[Math.floor(i / cols)])) }),
      };
    },
  ],

  rmsNorm: [
    rmsNorm,
    (size) => {
      const { rows, cols } = size;
      const [x, weight] = [draw(size, 0, rows * cols, -1, 3), draw(size, 1, cols)];
      return {
        inputs: { x, weight },
        outputs: { y: x.length, scales: rows },
        params: { rows, cols, eps: Math.fround(1e-5) },
        bounds: ({ y, scales }) => ({ y: (i) => 4 * U * Math.abs(y[i]), scales: (i) => 2 * U * scales[i] }),
      };
    },
  ],
  rmsNormGrad: [
    rmsNormGrad,
    (size) => {
      const { rows, cols } = size;
      const [x, weight, dy] = [draw(size, 0, rows * cols), draw(size, 1, cols), draw(size, 2, rows * cols)];
      const scales = draw(size, 3, rows, 0.1, 2);
      const xhat: Bound = (i) => Math.abs(x[i]) * scales[Math.floor(i / cols)];
      const g: Bound = (i) => Math.abs(dy[i] * weight[i % cols]);
      const means = scales.map((_, i) => sum(cols, (j) => g(i * cols + j) * xhat(i * cols + j)) / cols);
      const bound: Bound = (i) => 8 * U * scales[Math.floor(i / cols)] * (g(i) + xhat(i) * means[Math.floor(i / cols)]);
      return { inputs: { x, weight, scales, dy }, outputs: { dx: x.length }, params: { rows, cols }, bounds: () => ({ dx: bound }) };
    },
  ],
  rmsNormGradWeight: [
    rmsNormGradWeight,
    (size) => {
      const { rows, cols } = size;
      const [x, dy, scales] = [draw(size, 0, rows * cols), draw(size, 1, rows * cols), draw(size, 2, rows, 0.1, 2)];
      const terms: Bound = (j) => sum(rows, (i) => Math.abs(dy[i * cols + j] * x[i * cols + j] * scales[i]));
      return {
        inputs: { x, scales, dy },
        outputs: { dweight: cols },
        params: { rows, cols },
        bounds: () => ({ dweight: (j) => 4 * U * terms(j) }),
      };
    },
  ],

  layerNorm: [
    layerNorm,
    (size) => {
      const { rows, cols } = size;
      const [x, weight, bias, eps] = [draw(size, 0, rows * cols, -1, 3), draw(size, 1, cols), draw(size, 2, cols), Math.fround(1e-5)];
      const [y] = magnitudes.layerNorm(x, weight, bias, x, cols, eps);
      return {
        inputs: { x, weight, bias },
        outputs: { y: x.length, stats: 2 * rows },
        params: { rows, cols, eps },
        bounds: ({ stats }) => ({ y: (i) => 4 * U * y[i], stats: (i) => (i % 2 ? 3 * U : U) * Math.abs(stats[i]) + SUM }),
      };
    },
  ],
  layerNormGrad: [
    layerNormGrad,
    (size) => {
      const { rows, cols } = size;
      const [x, dy] = [draw(size, 0, rows * cols), draw(size, 1, rows * cols)];
      const [weight, stats] = [draw(size, 2, cols), draw(size, 3, 2 * rows, 0.1, 2)];
      const g: Bound = (i) => Math.abs(dy[i] * weight[i % cols]);
      const xhat: Bound = (i) => Math.abs(x[i] - stats[2 * Math.floor(i / cols)]) * stats[2 * Math.floor(i / cols) + 1];
      const bound: Bound = (i) => {
        const start = i - (i % cols);
        const meanG = sum(cols, (j) => g(start + j)) / cols;
        const meanGx = sum(cols, (j) => g(start + j) * xhat(start + j)) / cols;
        return 8 * U * stats[2 * Math.floor(i / cols) + 1] * (g(i) + meanG + xhat(i) * meanGx);
      };
      return { inputs: { x, weight, stats, dy }, outputs: { dx: x.length }, params: { rows, cols }, bounds: () => ({ dx: bound }) };
    },
  ],
  layerNormGradWeights: [
    layerNormGradWeights,
    (size) => {
      const { rows, cols } = size;
      const [x, dy, stats] = [draw(size, 0, rows * cols), draw(size, 1, rows * cols), draw(size, 2, 2 * rows, 0.1, 2)];
      const terms: Bound = (j) => sum(rows, (i) => Math.abs(dy[i * cols + j] * (x[i * cols + j] - stats[2 * i]) * stats[2 * i + 1]));
      return {
        inputs: { x, stats, dy },
        outputs: { dweight: cols, dbias: cols },
        params: { rows, cols },
        bounds: ({ dbias }) => ({ dweight: (j) => 5 * U * terms(j), dbias: rounded(dbias, () => rows) }),
      };
    },
  ],

  crossEntropy: [
    crossEntropy,
    (size) => {
      const { rows, cols } = size;
      const [x, labels] = [draw(size, 0, rows * cols, -20, 20), labelled(size)];
      const given = size.seed % 2 ? 7 : 0;
      const [loss] = magnitudes.crossEntropy(x, x, Array.from(labels), cols, given, IGNORED);
      return {
        inputs: { x, labels, given: Float64Array.of(given) },
        outputs: { loss: 1, stats: 1 + rows },
        params: { rows, cols },
        // a sum of exponentials: 4 u each, and u times how far the numbers lie apart, up to 40
        bounds: ({ stats }) => ({ loss: () => 5 * U * loss[0], stats: (i) => U * Math.abs(stats[i]) + (i > 0 ? 50 * U : 0) }),
      };
    },
  ],
  crossEntropyGrad: [
    crossEntropyGrad,
    (size) => {
      const { rows, cols } = size;
      const [x, labels] = [draw(size, 0, rows * cols, -20, 5), labelled(size)];
      const [stats, dloss] = [draw(size, 1, 1 + rows, 0.5, 9), draw(size, 2, 1)];
      const bound: Bound = (i) => {
        const row = Math.floor(i / cols);
        const difference = x[i] - stats[1 + row];
        return U * Math.abs(dloss[0] * stats[0]) * (Math.exp(difference) * (8 + Math.abs(difference)) + (labels[row] === i % cols ? 3 : 0));
      };
      return { inputs: { x, labels, stats, dloss }, outputs: { dx: x.length }, params: { rows, cols }, bounds: () => ({ dx: bound }) };
    },
  ],

  adamw: [
    adamw,
    (size) => {
      const n = size.cols;
      const [b1, b2, c1, c2, d1, d2] = [0.9, 0.999, 0.19, 0.002, 0.1, 0.001].map(Math.fround);
      const [lr, eps, decay, l2] = [1e-3, 1e-3, 0.1, size.rows / 100].map(Math.fround);
      const hyper = Float64Array.of(...new Array<number>(10).fill(9), lr, b1, b2, eps, c1, c2, d1, d2, decay, l2);
      const [g, w, m, v] = [draw(size, 0, n), draw(size, 1, n), draw(size, 2, n), draw(size, 3, n, 0, 1)];
      const moved: Bound = (i) => Math.abs(g[i] * 0.5) + l2 * Math.abs(w[i]); // the gradient's terms
      const terms: Bound = (i) => b1 * Math.abs(m[i]) + d1 * moved(i);
      const wrong: Bound = (i) => 5 * U * (b2 * v[i] + d2 * moved(i) ** 2);
      return {
        inputs: { g, hyper, clip: Float64Array.of(2, 0.5) },
        outputs: { w, m, v },
        params: { n, slot: 1 },
        bounds: (wanted) => ({
          w: (i) => {
            const root = Math.sqrt(wanted.v[i] / c2) + eps;
            const below = wrong(i) / (2 * Math.sqrt(wanted.v[i] * c2)) / root; // of the step: what v's rounding makes of its root
            return U * (1.01 * Math.abs(w[i]) + (16 * lr * terms(i)) / c1 / root) + (below * lr * terms(i)) / c1 / root;
          },
          m: (i) => 5 * U * terms(i),
          v: wrong,
        }),
      };
    },
  ],
  "sgd momentum": [
    sgd(true),
    (size) => {
      const [lr, decay, momentum, share, direct, held] = [0.1, size.rows / 100, 0.9, 0.8, 1, 0.9].map(Math.fround);
      const hyper = Float64Array.of(...new Array<number>(6).fill(9), lr, decay, momentum, share, direct, held);
      const [g, w, m] = [draw(size, 0, size.cols), draw(size, 1, size.cols), draw(size, 2, size.cols)];
      const moved: Bound = (i) => Math.abs(g[i] * 0.5) + decay * Math.abs(w[i]);
      const terms: Bound = (i) => momentum * Math.abs(m[i]) + share * moved(i);
      return {
        inputs: { g, hyper, clip: Float64Array.of(2, 0.5) },
        outputs: { w, m },
        params: { n: size.cols, slot: 1 },
        bounds: () => ({
          w: (i) => U * (1.01 * Math.abs(w[i]) + 9 * lr * (direct * moved(i) + held * terms(i))),
          m: (i) => 5 * U * terms(i),
        }),
      };
    },
  ],
  sgd: [
    sgd(false),
    (size) => {
      const [lr, decay] = [0.1, size.rows / 100].map(Math.fround);
      const [g, w] = [draw(size, 0, size.cols), draw(size, 1, size.cols)];
      return {
        inputs: { g, hyper: Float64Array.of(9, 9, 9, 9, 9, 9, lr, decay, 9, 9, 9, 9), clip: Float64Array.of(2, 0.5) },
        outputs: { w },
        params: { n: size.cols, slot: 1 },
        bounds: () => ({ w: (i) => U * (1.01 * Math.abs(w[i]) + 5 * lr * (Math.abs(g[i] * 0.5) + decay * Math.abs(w[i]))) }),
      };
    },
  ],

  ...Object.fromEntries(
    (["f32", "u32", "i32"] as const).flatMap((dtype) =>
      (["u32", "i32"] as const).map((places) => [
        `gather ${dtype} by ${places}`,
        [
          gather(dtype, places),
          (size: Size) => {
            const { rows, cols } = size;
            const index = integers(size, 1, rows, 5).map((row) => (row === 4 ? 0xffffffff : row)); // 3 and -1 name no row
            const x = dtype === "f32" ? strange(size, 0, 3 * cols) : integers(size, 0, 3 * cols, 2 ** 32);
            const y = dtype === "f32" ? rows * cols : new Uint32Array(rows * cols).fill(7);
            return { inputs: { x, index }, outputs: { y }, params: { rows, cols, whole: 3 } };
          },
        ],
      ]),
    ),
  ),
  ...Object.fromEntries(
    (["u32", "i32"] as const).map((places) => [
      `invert ${places}`,
      [
        invert(places),
        (size: Size) => {
          const { rows, cols: n } = size;
          const index = integers(size, 1, n, rows + 2).map((row) => (row === rows + 1 ? 0xffffffff : row));
          const outputs = { order: new Uint32Array(n).fill(7), starts: new Uint32Array(rows + 1).fill(7) };
          return { inputs: { index }, outputs, params: { n, rows, base: baseOf(rows) } };
        },
      ],
    ]),
  ),
  gatherSum: [
    gatherSum,
    (size) => {
      const { rows, cols } = size;
      const index = integers(size, 1, rows ? 4 * rows : 0, rows);
      const order = index.map((_, i) => i).sort((i, j) => index[i] - index[j]);
      const starts = Uint32Array.from({ length: rows + 1 }, (_, row) => index.filter((at) => at < row).length);
      return { inputs: { x: strange(size, 0, index.length * cols), order, starts }, outputs: { y: rows * cols }, params: { rows, cols } };
    },
  ],
  ...Object.fromEntries(
    [segmentSum, segmentMean].map((kernel) => [
      kernel.name,
      [
        kernel,
        (size: Size) => {
          const { rows, cols } = size;
          const spans = new Uint32Array(2 * rows);
          let end = 0;
          for (const [i, length] of integers(size, 1, rows, 4).entries()) {
            spans[2 * i] = end;
            end += length;
            spans[2 * i + 1] = end;
          }
          return {
            inputs: { x: draw(size, 0, end * cols), spans },
            outputs: { y: rows * cols },
            params: { rows, cols },
            bounds: ({ y }: Buffers) => ({ y: rounded(y, () => 4) }),
          };
        },
      ],
    ]),
  ),
  ...Object.fromEntries(
    [segmentSumGrad, segmentMeanGrad].map((kernel) => [
      kernel.name,
      [
        kernel,
        (size: Size) => {
          const { rows, cols } = size;
          const owner = integers(size, 1, rows, 4).map((b) => (b === 3 ? NOBODY : b));
          return {
            inputs: { dy: strange(size, 0, 3 * cols), spans: Uint32Array.of(0, 1, 1, 4, 4, 11), owner },
            outputs: { dx: rows * cols },
            params: { rows, cols },
          };
        },
      ],
    ]),
  ),
};

const sizes = fc.record({
  rows: fc.constantFrom(0, 1, 2, 3, 5),
  cols: fc.constantFrom(0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 255, 257),
  seed: fc.nat(1e6),
});

const row = (...x: number[]) => Float64Array.from(x);
const softmaxOf = async (device: Device, x: Float64Array, rows = 1) =>
  Array.from(
    (
      await compute(device, softmax as unknown as Kernel, {
        inputs: { x },
        outputs: { y: x.length },
        params: { rows, cols: x.length / rows },
      })
    ).y,
  );

const suite = (device: () => Device) => {
  const tested = new Map(Object.values(runs).map(([kernel, run]) => [kernel as Kernel, run]));
  const compiled = new Set(samples().map(({ kernel }) => kernel).filter(({ compiled }) => compiled && !/^(matmul|attention)/.test(compiled.name))); // biome-ignore format: one line

  test("every compiled kernel stands here, and nothing else", () => {
    expect(new Set(tested.keys())).toEqual(compiled);
  });

  test.each(Object.entries(runs))("%s", (_, [kernel, run]) =>
    fc.assert(
      fc.asyncProperty(sizes, (size) => check(device(), kernel as Kernel, run(size))),
      { numRuns: 80, examples: [[{ rows: 5, cols: 257, seed: 1 }]] },
    ),
  );

  test("dropout has the bits of its loops over many blocks, whatever share it drops", async () => {
    const x = draw({ rows: 1, cols: 1, seed: 5 }, 0, 10_001);
    for (const p of [0, 2 ** -16, 0.02, 0.1, 0.5, 1 - 2 ** -16]) {
      const params = { n: x.length, threshold: dropThreshold(p), scale: keepScale(p), site0: 1, site1: 2 };
      await check(device(), dropout as unknown as Kernel, { inputs: { x, key: Uint32Array.of(3, 4) }, outputs: { y: x.length }, params });
    }
  });

  describe("what is strange in a row stays there:", () => {
    test("softmax is 0 at -Infinity, and where e^(x - m) is no normal number", async () => {
      expect(await softmaxOf(device(), row(0, -Infinity, 0, -88, -1e30))).toEqual([0.5, 0, 0.5, 0, 0]);
    });

    test("softmax finds the largest number wherever it stands", async () => {
      for (let i = 0; i < 9; i++) {
        const one = new Float64Array(9);
        one[i] = 1;
        expect(
          await softmaxOf(
            device(),
            one.map((x) => 1000 * x),
          ),
        ).toEqual(Array.from(one));
      }
    });

    test("the log-sum-exp of a row with NaN or Infinity is that, and of nothing but -Infinity it is -Infinity, with no gradient", async () => {
      const x = row(0, Number.NaN, Infinity, 0, Infinity, -Infinity, -Infinity, -Infinity, -Infinity, 0, 0, -Infinity);
      const params = { rows: 4, cols: 3 };
      const { y } = await compute(device(), logSumExp as unknown as Kernel, { inputs: { x }, outputs: { y: 4 }, params });
      expect(Array.from(y)).toEqual([Number.NaN, Infinity, -Infinity, Math.fround(Math.LN2)]);
      const inputs = { x, y: Float64Array.from(y), dy: row(1, 1, 1, 1) };
      const { dx } = await compute(device(), logSumExpGrad as unknown as Kernel, { inputs, outputs: { dx: 12 }, params });
      expect(Array.from(dx.subarray(6, 9))).toEqual([0, 0, 0]);
      for (const [i, d] of [0.5, 0.5, 0].entries()) expect(dx[9 + i]).toBeCloseTo(d, 6);
    });

    test.each([[row(-Infinity, -Infinity, -Infinity)], [row(0, Number.NaN, 1)], [row(0, Infinity, 1)]])(
      "softmax of %s is NaN",
      async (x) => {
        const found = await softmaxOf(device(), Float64Array.of(...x, 1, 1, 1), 2);
        expect(found.slice(0, 3)).toEqual([Number.NaN, Number.NaN, Number.NaN]);
        for (const y of found.slice(3)) expect(y).toBeCloseTo(1 / 3, 6);
      },
    );

    test("cross-entropy takes -Infinity beside the label, and any size of logits", async () => {
      const run = (...x: number[]): Run => ({
        inputs: { x: row(...x), labels: Uint32Array.of(0), given: row(0) },
        outputs: { loss: 1, stats: 2 },
        params: { rows: 1, cols: x.length },
      });
      const loss = async (...x: number[]) => (await compute(device(), crossEntropy as unknown as Kernel, run(...x))).loss[0];
      expect(await loss(3, -Infinity, -Infinity, -Infinity, -Infinity)).toBe(0);
      expect(await loss(1e30, 2e30)).toBe(Math.fround(2e30) - Math.fround(1e30));
      expect(await loss(-Infinity, 0)).toBe(Infinity);
      for (const x of [Number.NaN, Infinity]) expect(await loss(0, x, 0)).toBeNaN();
      expect(await loss(-Infinity, -Infinity)).toBeNaN();
    });

    test("a row without a label may hold anything: it has no share in the loss, and no gradient", async () => {
      const x = row(1, 2, Number.NaN, Infinity, 3, 4);
      const labels = Uint32Array.of(0, IGNORED, 1);
      const forward = { inputs: { x, labels, given: row(0) }, outputs: { loss: 1, stats: 4 }, params: { rows: 3, cols: 2 } };
      const { loss, stats } = await compute(device(), crossEntropy as unknown as Kernel, forward);
      expect(loss[0]).toBeCloseTo((2 * Math.log(1 + Math.E) - 1) / 2, 6);
      expect([stats[0], stats[2]]).toEqual([0.5, 0]);
      const backward = {
        inputs: { x, labels, stats: Float64Array.from(stats), dloss: row(1) },
        outputs: { dx: 6 },
        params: { rows: 3, cols: 2 },
      };
      const { dx } = await compute(device(), crossEntropyGrad as unknown as Kernel, backward);
      const p = 1 / (1 + Math.E) / 2;
      for (const [i, d] of [p - 0.5, 0.5 - p, 0, 0, p, -p].entries()) expect(dx[i]).toBeCloseTo(d, 6);
    });
  });
};

onDevice("cpu", suite);

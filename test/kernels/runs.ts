/** How to run each compiled kernel but products and attention: inputs of any size, some of them strange, and how far a result may be from the loops. */

import { adamw } from "../../kernels/adamw.ts";
import { addNorm } from "../../kernels/addnorm.ts";
import { eachLine } from "../../kernels/axes.ts";
import { cast, DTYPES } from "../../kernels/cast.ts";
import { cosine, cosineGrad } from "../../kernels/cosine.ts";
import { type BinaryName, clamp, clampGrad, map, type TernaryName, type UnaryName, zip, zipThree } from "../../kernels/elementwise.ts";
import { extreme, extremeGrad, extremePlace } from "../../kernels/extreme.ts";
import { fill } from "../../kernels/fill.ts";
import { baseOf, gather, gatherSum, invert } from "../../kernels/gather.ts";
import type { Dtype, Values } from "../../kernels/kernel.ts";
import { layerNorm, layerNormGrad, layerNormGradWeights } from "../../kernels/layernorm.ts";
import { crossEntropy, crossEntropyGrad, crossEntropyWeighted, crossEntropyWeightedGrad, IGNORED } from "../../kernels/loss.ts";
import { nans } from "../../kernels/nans.ts";
import { paste, permute, type Word, window } from "../../kernels/permute.ts";
import { dropout, dropThreshold, keepScale } from "../../kernels/random.ts";
import { squareSumShape, sumColumns, sumRows, sumSquares } from "../../kernels/reduce.ts";
import { rmsNorm, rmsNormGrad, rmsNormGradWeight } from "../../kernels/rmsnorm.ts";
import { cumsum } from "../../kernels/scan.ts";
import { NOBODY, segmentMax, segmentMaxGrad, segmentMean, segmentMeanGrad, segmentSum, segmentSumGrad } from "../../kernels/segment.ts";
import { sgd } from "../../kernels/sgd.ts";
import { logSoftmax, logSoftmaxGrad, logSumExp, logSumExpGrad, softmax, softmaxGrad } from "../../kernels/softmax.ts";
import { oneHot, take, takeGrad } from "../../kernels/take.ts";
import { topK } from "../../kernels/topk.ts";
import { variance, varianceGrad } from "../../kernels/variance.ts";
import { Key } from "../../src/key.ts";
import * as magnitudes from "../magnitudes.ts";

/** The unit roundoff of f32, and the least number that it holds in full precision. */
export const U = 2 ** -24;
export const LEAST = 2 ** -126;
/** Sums in f64 of a few thousand terms: what they round, of the absolute terms. */
const SUM = 2 ** -40;
export type Buffers = Record<string, Values>;
type Bound = (i: number) => number;

export interface Run {
  readonly inputs: Buffers;
  /** The length of each output of f32, or what it holds before. */
  readonly outputs: Record<string, number | Values>;
  readonly params: Record<string, number>;
  /** How far each number may be from the loops in f64. Without it, it must have the very bits of the loops in f32. */
  bounds?(wanted: Buffers): Record<string, Bound>;
}

export interface Size {
  readonly rows: number;
  readonly cols: number;
  readonly seed: number;
}

/** Numbers in [low, high) that f32 holds, others for each `which`. */
export const draw = ({ seed }: Size, which: number, n: number, low = -1, high = 1): Float64Array =>
  Float64Array.from(Key.from(seed).fold(which).uniforms(n), (u) => Math.fround(low + (high - low) * u));
/** Integers below n. */
export const integers = (size: Size, which: number, length: number, n: number): Uint32Array =>
  Uint32Array.from(draw(size, which, length, 0, n), Math.floor);
const STRANGE = [Number.NaN, Infinity, -Infinity, 0, -0];
/** The same numbers, some eighth of them strange. */
export const strange = (size: Size, which: number, n: number): Float64Array => {
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

/** Numbers of few kinds, so that some are equal, and some of them strange. */
const steps = (size: Size, which: number, n: number): Float64Array => strange(size, which, n).map((x) => Math.round(4 * x));
/** Numbers of all sizes up to beyond 2^32, negative ones too. */
const wild = (size: Size, dtype: Dtype): Values => {
  const sizes = integers(size, 1, size.cols, 68);
  const x = strange(size, 0, size.cols).map((u, i) => Math.fround(u * 2 ** (sizes[i] - 34)));
  const bits = integers(size, 0, size.cols, 2 ** 32);
  return dtype === "f32" ? x : dtype === "i32" ? Int32Array.from(bits) : bits;
};

/** What moves, and words of it. */
const WORDS = ["f32", "u32", "i32"] as const;
const words = (size: Size, which: number, n: number, dtype: Word): Float64Array | Uint32Array =>
  dtype === "f32" ? strange(size, which, n) : integers(size, which, n, 2 ** 32);

/** The sizes of a result of five axes: none where there are no rows. */
const fiveAxes = (size: Size) => {
  const [n1, n2, n3] = Array.from(integers(size, 20, 3, 4), (which) => [1, 2, 4, 5][which]);
  return { n: size.rows * n1 * n2 * n3 * size.cols, n1, n2, n3, n4: size.cols };
};

/** Strides of a buffer that stretches along some of them and has the others in some order, and its length. */
const stridden = (size: Size, which: number) => {
  const { n1, n2, n3, n4 } = fiveAxes(size);
  const sizes = [size.rows, n1, n2, n3, n4];
  const dice = draw(size, which, 11);
  const plain = dice[10] < -0.5; // a third in order, and some of those whole
  const order = [4, 3, 2, 1, 0].sort((i, j) => (plain ? j - i : dice[i] - dice[j]));
  const strides = [0, 0, 0, 0, 0];
  let length = 1;
  for (const axis of order) {
    if (dice[5 + axis] > (plain ? 0.8 : 0.3)) continue;
    strides[axis] = length;
    length *= sizes[axis];
  }
  return { strides, length };
};

/** Strides as parameters. */
const named = (buffer: string, strides: readonly number[]) =>
  Object.fromEntries(strides.map((stride, axis) => [`${buffer}${axis}`, stride]));

const ternary = (size: Size): Run => {
  const [a, b, d] = [30, 31, 32].map((which) => stridden(size, which));
  return {
    inputs: { a: steps(size, 0, a.length), b: steps(size, 1, b.length), d: strange(size, 2, d.length) },
    outputs: { z: fiveAxes(size).n },
    params: { ...fiveAxes(size), ...named("a", a.strides), ...named("b", b.strides), ...named("d", d.strides) },
  };
};

/** The same of two, and the two laid out as the result is, for a zip of equal shapes. */
export const stretched = (size: Size): readonly [broadcast: Run, laidOut: Run] => {
  const sizes = fiveAxes(size);
  const [a, b] = [30, 31].map((which) => stridden(size, which));
  const [x, y] = [strange(size, 0, a.length), strange(size, 1, b.length)];
  const params = { ...sizes, ...named("a", a.strides), ...named("b", b.strides) };
  const whole = { a: new Float64Array(sizes.n), b: new Float64Array(sizes.n) };
  eachLine(params, ["a", "b"], (i, p, q) => {
    for (let c4 = 0; c4 < sizes.n4; c4++) {
      whole.a[i + c4] = x[p + c4 * a.strides[4]];
      whole.b[i + c4] = y[q + c4 * b.strides[4]];
    }
  });
  return [
    { inputs: { a: x, b: y }, outputs: { z: sizes.n }, params },
    { inputs: whole, outputs: { z: sizes.n }, params: { n: sizes.n } },
  ];
};

const permuted = (size: Size, dtype: Word): Run => {
  const { strides, length } = stridden(size, 30);
  const { n } = fiveAxes(size);
  return {
    inputs: { x: words(size, 0, length, dtype) },
    outputs: { y: words(size, 1, n, dtype) },
    params: { ...fiveAxes(size), ...named("s", strides) },
  };
};

const windowed = (size: Size, dtype: Word): Run => {
  const [width, whole, shift] = integers(size, 20, 3, 6);
  const n = size.rows * (width + 1) * size.cols;
  return {
    inputs: { x: words(size, 0, size.rows * whole * size.cols, dtype) },
    outputs: { y: words(size, 1, n, dtype) },
    params: { n, size: width + 1, whole, inner: size.cols, start: 2 * shift - 6 },
  };
};

const pasted = (size: Size, dtype: Word): Run => {
  const [width, before, after] = integers(size, 20, 3, 4);
  const whole = before + width + after;
  const n = size.rows * width * size.cols;
  return {
    inputs: { x: words(size, 0, n, dtype) },
    outputs: { y: words(size, 1, size.rows * whole * size.cols, dtype) },
    params: { n, size: width, whole, inner: size.cols, start: before },
  };
};

/** Segments of none to three rows, one after the other, and where the last of them ends. */
const spanned = (size: Size) => {
  const spans = new Uint32Array(2 * size.rows);
  let end = 0;
  for (const [i, length] of integers(size, 1, size.rows, 4).entries()) {
    spans[2 * i] = end;
    end += length;
    spans[2 * i + 1] = end;
  }
  return { spans, end };
};

/** How to run each kernel at a size. */
export const runs: Record<string, readonly [kernel: unknown, run: (size: Size) => Run]> = {
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
    Object.entries({ rsqrt: 3, log: 2, exp: 4, sigmoid: 8, tanh: 8, silu: 10, softplus: 10 } satisfies Partial<
      Record<UnaryName, number>
    >).map(([name, units]) => [
      name,
      [map(name as UnaryName), (size) => ({ ...unary(size), bounds: ({ z }) => ({ z: (i) => units * U * Math.abs(z[i]) }) })],
    ]),
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
  pow: [zip("pow"), (size) => ({ ...binary(size), bounds: ({ z }) => ({ z: (i) => 2 * U * Math.abs(z[i]) }) })],
  reciprocalGrad: [zip("reciprocalGrad"), (size) => ({ ...binary(size), bounds: ({ z }) => ({ z: (i) => 3 * U * Math.abs(z[i]) }) })],

  ...Object.fromEntries((["where", "maximumGrad", "minimumGrad"] satisfies TernaryName[]).map((name) => [name, [zipThree(name), ternary]])),
  ...Object.fromEntries(
    (["powGradBase", "powGradExponent"] satisfies TernaryName[]).map((name) => [
      name,
      [zipThree(name), (size) => ({ ...ternary(size), bounds: ({ z }) => ({ z: (i) => 8 * U * Math.abs(z[i]) }) })],
    ]),
  ),

  ...Object.fromEntries(
    WORDS.flatMap((dtype) => [
      [`permute ${dtype}`, [permute(dtype), (size: Size) => permuted(size, dtype)]],
      [`window ${dtype}`, [window(dtype), (size: Size) => windowed(size, dtype)]],
      [`paste ${dtype}`, [paste(dtype), (size: Size) => pasted(size, dtype)]],
      [
        `fill ${dtype}`,
        [
          fill(dtype),
          (size: Size) => ({
            inputs: {},
            outputs: { y: words(size, 1, size.cols, dtype) },
            params: { n: size.cols, value: [0, 1, dtype === "u32" ? 2 ** 32 - 3 : -7][size.rows % 3] },
          }),
        ],
      ],
    ]),
  ),
  ...Object.fromEntries(
    DTYPES.flatMap((source) =>
      DTYPES.filter((target) => target !== source).map((target) => [
        `cast ${source} ${target}`,
        [
          cast(source, target),
          (size: Size) => ({
            inputs: { x: source === "f16" ? Uint16Array.from(integers(size, 0, size.cols, 2 ** 16)) : wild(size, source) },
            outputs: { y: target === "f16" ? new Uint16Array(size.cols) : target === "f32" ? size.cols : new Uint32Array(size.cols) },
            params: { n: size.cols },
          }),
        ],
      ]),
    ),
  ),
  nans: [
    nans,
    (size) => ({
      inputs: { x: strange(size, 0, size.cols) },
      outputs: { counts: Uint32Array.of(7, 7, 7) },
      params: { n: size.cols, slot: 1 },
    }),
  ],

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

  ...Object.fromEntries(
    (["max", "min"] as const).map((which) => [
      `place of the ${which}`,
      [
        extremePlace(which),
        ({ rows, cols, ...size }: Size) => ({
          inputs: { x: steps({ rows, cols, ...size }, 0, rows * cols) },
          outputs: { place: new Uint32Array(rows).fill(7) },
          params: { rows, cols },
        }),
      ],
    ]),
  ),
  topK: [
    topK,
    (size) => {
      const { rows, cols } = size;
      const k = integers(size, 1, 1, Math.min(cols, 20) + 1)[0];
      return {
        inputs: { x: steps(size, 0, rows * cols) },
        outputs: { indices: new Uint32Array(rows * k).fill(7) },
        params: { rows, cols, k },
      };
    },
  ],
  cumsum: [
    cumsum,
    (size) => {
      const { rows, cols } = size;
      return { inputs: { x: strange(size, 0, rows * cols) }, outputs: { y: rows * cols }, params: { rows, cols, reverse: size.seed % 2 } };
    },
  ],
  take: [
    take,
    (size) => {
      const { rows, cols } = size;
      const indices = integers(size, 1, rows * 7, cols + 2); // of which some lie beyond the row
      return { inputs: { x: strange(size, 0, rows * cols), indices }, outputs: { y: rows * 7 }, params: { rows, cols, k: 7 } };
    },
  ],
  takeGrad: [
    takeGrad,
    (size) => {
      const { rows, cols } = size;
      const indices = integers(size, 1, rows * 7, cols + 2);
      return { inputs: { indices, dy: strange(size, 0, rows * 7) }, outputs: { dx: rows * cols }, params: { rows, cols, k: 7 } };
    },
  ],
  oneHot: [
    oneHot,
    (size) => {
      const { rows, cols } = size;
      return { inputs: { labels: integers(size, 0, rows, cols + 2) }, outputs: { y: rows * cols }, params: { rows, cols } };
    },
  ],

  cosine: [
    cosine,
    (size) => {
      const { rows, cols } = size;
      return {
        inputs: { a: draw(size, 0, rows * cols), b: draw(size, 1, rows * cols) },
        outputs: { y: rows },
        params: { rows, cols, eps: size.seed % 2 ? 1e-8 : 8 },
        bounds: ({ y }) => ({ y: rounded(y, () => 1) }),
      };
    },
  ],
  cosineGrad: [
    cosineGrad,
    (size) => {
      const { rows, cols } = size;
      const [a, b, dy] = [draw(size, 0, rows * cols), draw(size, 1, rows * cols), draw(size, 2, rows)];
      const eps = size.seed % 2 ? 1e-8 : 8;
      const dot = (x: Float64Array, y: Float64Array, row: number) => sum(cols, (j) => x[row * cols + j] * y[row * cols + j]);
      const bound: Bound = (i) => {
        const row = Math.floor(i / cols);
        const aa = dot(a, a, row);
        const norm = Math.sqrt(aa * dot(b, b, row));
        const back = norm > eps ? Math.abs((dy[row] * dot(a, b, row)) / norm / aa) : 0;
        return 3 * U * ((Math.abs(dy[row]) / Math.max(norm, eps)) * Math.abs(b[i]) + back * Math.abs(a[i]));
      };
      return { inputs: { a, b, dy }, outputs: { da: a.length }, params: { rows, cols, eps }, bounds: () => ({ da: bound }) };
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
  ...Object.fromEntries(
    [false, true].map((drops) => [
      `addNorm${drops ? " dropped" : ""}`,
      [
        addNorm(drops),
        (size: Size) => {
          const { rows, cols } = size;
          const [x, r, eps] = [draw(size, 0, rows * cols, -1, 3), draw(size, 3, rows * cols), Math.fround(1e-5)];
          const [weight, bias] = [draw(size, 1, cols), draw(size, 2, cols)];
          const draws = { threshold: dropThreshold(0.3), scale: keepScale(0.3), site0: size.rows, site1: 0xfffffff0 };
          const bounds = (wanted: Buffers) => {
            const h = Float64Array.from(wanted.h);
            const [y] = magnitudes.layerNorm(
              h,
              weight,
              bias,
              h,
              cols,
              eps,
              h.map((v, i) => Math.abs(v) + 2 * Math.abs(r[i])),
            );
            return {
              h: (i: number) => U * (Math.abs(h[i]) + 2 * Math.abs(r[i])),
              y: (i: number) => 4 * U * y[i],
              // what h rounds is some units of f32, which the root of the variance feels the more the closer the numbers of a row lie
              stats: (i: number) => (i % 2 ? 3 * U * wanted.stats[i] * (1 + 5 * wanted.stats[i]) : 6 * U),
            };
          };
          return {
            inputs: { x, r, weight, bias, ...(drops && { key: Uint32Array.of(size.seed, 0x80000001) }) },
            outputs: { h: x.length, y: x.length, stats: 2 * rows },
            params: { rows, cols, eps, ...(drops && draws) },
            bounds,
          };
        },
      ],
    ]),
  ),
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

  crossEntropyWeighted: [
    crossEntropyWeighted,
    (size) => {
      const { rows, cols } = size;
      const [x, weights, labels] = [draw(size, 0, rows * cols, -20, 20), draw(size, 1, cols, 0.2, 2), labelled(size)];
      const [given, smoothing] = [size.seed % 2 ? 7 : 0, size.seed % 3 ? 0.125 : 0];
      const [loss] = magnitudes.crossEntropyWeighted(x, x, Array.from(labels), Array.from(weights), smoothing, given, IGNORED);
      return {
        inputs: { x, labels, weights, given: Float64Array.of(given) },
        outputs: { loss: 1, stats: 2 + rows },
        params: { rows, cols, smoothing },
        bounds: ({ stats }) => ({ loss: () => 5 * U * loss[0], stats: (i) => U * Math.abs(stats[i]) + (i > 1 ? 50 * U : cols * SUM) }),
      };
    },
  ],
  crossEntropyWeightedGrad: [
    crossEntropyWeightedGrad,
    (size) => {
      const { rows, cols } = size;
      const [x, weights, labels] = [draw(size, 0, rows * cols, -20, 5), draw(size, 3, cols, 0.2, 2), labelled(size)];
      const [stats, dloss, smoothing] = [draw(size, 1, 2 + rows, 0.5, 9), draw(size, 2, 1), size.seed % 3 ? 0.125 : 0];
      const share = smoothing / cols;
      const bound: Bound = (i) => {
        const row = Math.floor(i / cols);
        const own = labels[row] === IGNORED ? 0 : (1 - smoothing) * weights[labels[row]];
        const difference = x[i] - stats[2 + row];
        const factor = (own + share * stats[1]) * Math.exp(difference) * (8 + Math.abs(difference));
        return U * Math.abs(dloss[0] * stats[0]) * (factor + 3 * share * weights[i % cols] + (labels[row] === i % cols ? 3 * own : 0));
      };
      return {
        inputs: { x, labels, weights, stats, dloss },
        outputs: { dx: x.length },
        params: { rows, cols, smoothing },
        bounds: () => ({ dx: bound }),
      };
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
      const { cols } = size;
      const rows = size.rows * (size.seed % 2 ? 1 : 20); // few, and many
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
          const { spans, end } = spanned(size);
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
  segmentMax: [
    segmentMax,
    (size) => {
      const { rows, cols } = size;
      const { spans, end } = spanned(size);
      return {
        inputs: { x: steps(size, 0, end * cols), spans },
        outputs: { y: rows * cols, ties: new Uint32Array(rows * cols).fill(7) },
        params: { rows, cols },
      };
    },
  ],
  segmentMaxGrad: [
    segmentMaxGrad,
    (size) => {
      const { rows, cols } = size;
      const owner = integers(size, 1, rows, 4).map((b) => (b === 3 ? NOBODY : b));
      const [x, y] = [steps(size, 0, rows * cols), steps(size, 2, 3 * cols)];
      const inputs = { x, y, ties: integers(size, 4, 3 * cols, 4), owner, dy: strange(size, 3, 3 * cols) };
      return { inputs, outputs: { dx: rows * cols }, params: { rows, cols } };
    },
  ],
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

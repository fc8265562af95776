/** One small run of every kernel, for a device to be held against the loops: what the tests and `geneformer doctor` check. */

import { adamw, adamwTogether, clipScale, unscale } from "./adamw.ts";
import { addNorm } from "./addnorm.ts";
import { attention, attentionGrad, attentionGradGated, crossTiles } from "./attention.ts";
import { cast } from "./cast.ts";
import { COLLECTED, collect, loadsOf, padded } from "./collect.ts";
import { cosine, cosineGrad } from "./cosine.ts";
import { binaryNames, clamp, clampGrad, map, ternaryNames, unaryNames, zip, zipBroadcast, zipThree } from "./elementwise.ts";
import { extreme, extremeGrad, extremePlace } from "./extreme.ts";
import { fill } from "./fill.ts";
import { gather, gatherSum, invert } from "./gather.ts";
import { toHalf } from "./half.ts";
import type { Dtype, Kernel, Scalar, Values } from "./kernel.ts";
import { layerNorm, layerNormGrad, layerNormGradWeights } from "./layernorm.ts";
import { crossEntropy, crossEntropyGrad, crossEntropyWeighted, crossEntropyWeightedGrad, IGNORED } from "./loss.ts";
import { matmul } from "./matmul.ts";
import { nans } from "./nans.ts";
import { paste, permute, type Word, window } from "./permute.ts";
import { dropout, dropThreshold, keepScale, threefry } from "./random.ts";
import { squareSumShape, sumColumns, sumRows, sumSquares } from "./reduce.ts";
import { rmsNorm, rmsNormGrad, rmsNormGradWeight } from "./rmsnorm.ts";
import { cumsum } from "./scan.ts";
import { NOBODY, segmentMax, segmentMaxGrad, segmentMean, segmentMeanGrad, segmentSum, segmentSumGrad } from "./segment.ts";
import { sgd } from "./sgd.ts";
import { logSoftmax, logSoftmaxGrad, logSumExp, logSumExpGrad, softmax, softmaxGrad } from "./softmax.ts";
import { oneHot, take, takeGrad } from "./take.ts";
import { topK } from "./topk.ts";
import { variance, varianceGrad } from "./variance.ts";

export interface Sample {
  readonly kernel: Kernel;
  /** Values that f32 holds exactly, and integers. */
  readonly inputs: Readonly<Record<string, Values>>;
  /** The length of each output, or what it holds before, where it is updated in place. */
  readonly outputs: Readonly<Record<string, number | Values>>;
  readonly params: Readonly<Record<string, number>>;
  /** How far an output may be from the loops in f64, of its largest value. */
  readonly tolerance: number;
}

/** A sum of a few hundred f32 products, or a WGSL function accurate to some ULP. */
const TOLERANCE = 1e-5;
/** WGSL's tanh may be this wrong (WGSL, 15.7.4). */
const LOOSE = 3e-5;

/** Typed by the kernel: an input, output or parameter that is missing does not compile. */
const sample = <I extends Record<string, Dtype>, O extends Record<string, Dtype>, P extends Record<string, Scalar>>(
  kernel: Kernel<I, O, P>,
  inputs: { readonly [K in keyof I]: Values },
  outputs: { readonly [K in keyof O]: number | Values },
  params: { readonly [K in keyof P]: number },
  tolerance = TOLERANCE,
): Sample => ({ kernel: kernel as unknown as Kernel, inputs, outputs, params, tolerance }) as Sample;

let drawn = 0;
/** Random numbers of f32, others at each call. */
const floats = (length: number, low = -1, high = 1): Float64Array => {
  const site = ++drawn;
  return Float64Array.from({ length }, (_, i) => Math.fround(low + (high - low) * (threefry([0, site], [i, 0])[0] / 2 ** 32)));
};
/** Random integers below n. */
const integers = (length: number, n: number): Uint32Array => Uint32Array.from(floats(length, 0, n), Math.floor);
const words = (...values: number[]): Uint32Array => Uint32Array.from(values);
/** What moves, and numbers of it. */
const WORDS = ["f32", "u32", "i32"] as const;
const whole = (dtype: Word, length: number): Values =>
  dtype === "f32" ? floats(length) : floats(length, dtype === "u32" ? 0 : -1000, 1000).map(Math.round);

const elementwise = (): Sample[] => {
  const n = 300;
  const positive = () => floats(n, 0.2, 3);
  // three axes: b stretches along the first and the last
  const strides = { n: 300, n1: 1, n2: 1, n3: 4, n4: 15, a0: 60, a1: 60, a2: 60, a3: 15, a4: 1, b0: 0, b1: 0, b2: 0, b3: 1, b4: 0 };
  return [
    ...unaryNames.map((name) => sample(map(name), { a: positive() }, { z: n }, { n }, LOOSE)),
    ...binaryNames.map((name) => sample(zip(name), { a: positive(), b: floats(n, 0.5, 2) }, { z: n }, { n })),
    ...binaryNames.map((name) => sample(zipBroadcast(name), { a: positive(), b: floats(4, 0.5, 2) }, { z: n }, strides)),
    // a number and a column, through several blocks of what is laid out at once
    ...[1, 0].map((b3) =>
      sample(
        zipBroadcast("mul"),
        { a: floats(2600), b: floats(260) },
        { z: 2600 },
        { n: 2600, n1: 1, n2: 1, n3: 260, n4: 10, a0: 0, a1: 0, a2: 0, a3: 10, a4: 1, b0: 0, b1: 0, b2: 0, b3, b4: 0 },
      ),
    ),
    ...ternaryNames.map((name) =>
      sample(
        zipThree(name),
        { a: positive(), b: floats(4, 0.5, 2), d: floats(60) },
        { z: n },
        { ...strides, d0: 0, d1: 0, d2: 0, d3: 15, d4: 1 },
      ),
    ),
    sample(clamp, { a: floats(n, -3, 3) }, { z: n }, { n, low: -1, high: 1.5 }),
    sample(clampGrad, { a: floats(n, -3, 3), dz: floats(n) }, { da: n }, { n, low: -1, high: 1.5 }),
  ];
};

/** Each dtype as each other: whole numbers, which all of them hold. An odd number, so that the last word of f16 is half full. */
const casts = (): Sample[] => {
  const dtypes = ["f32", "u32", "i32", "f16"] as const;
  const whole = integers(301, 2048);
  const x = (dtype: Dtype) => (dtype === "f16" ? whole.map(toHalf) : whole);
  return dtypes.flatMap((source) =>
    dtypes
      .filter((target) => target !== source)
      .map((target) => sample(cast(source, target) as unknown as Kernel, { x: x(source) }, { y: 301 }, { n: 301 }, 0)),
  );
};

const rowwise = (): Sample[] => {
  const size = { rows: 5, cols: 257 };
  const n = size.rows * size.cols;
  const [x, dy, weight] = [floats(n, -4, 4), floats(n), floats(size.cols)];
  const stats = Float64Array.from({ length: 2 * size.rows }, (_, i) => (i % 2 ? 0.5 : 0.125));
  const labels = words(3, IGNORED, 256, 0, 41);
  const weights = floats(size.cols, 0.2, 2);
  return [
    sample(sumRows, { x }, { y: size.rows }, { ...size, scale: 0.5 }),
    sample(sumColumns, { x }, { y: 257 }, { cols: 257, rows: 5, inner: 257, scale: 2 }),
    sample(sumColumns, { x: floats(3 * 41 * 7) }, { y: 21 }, { cols: 21, rows: 41, inner: 7, scale: 1 }),
    sample(sumSquares, { x }, { squares: floats(3) }, squareSumShape(n, 1)),
    sample(sumSquares, { x: floats(70_000) }, { squares: floats(3) }, squareSumShape(70_000, 2)),
    sample(softmax, { x }, { y: n }, size),
    sample(softmaxGrad, { y: floats(n, 0, 0.01), dy }, { dx: n }, size),
    sample(layerNorm, { x, weight, bias: floats(size.cols) }, { y: n, stats: stats.length }, { ...size, eps: 1e-12 }),
    sample(layerNormGrad, { x, weight, stats, dy }, { dx: n }, size),
    ...[false, true].map((dropped) =>
      sample(
        addNorm(dropped),
        { x, r: dy, weight, bias: floats(size.cols), ...(dropped && { key: words(7, 8) }) },
        { h: n, y: n, stats: stats.length },
        { ...size, eps: 1e-12, ...(dropped && { threshold: 6554, scale: 65536 / (65536 - 6554), site0: 1, site1: 2 }) },
      ),
    ),
    sample(layerNormGradWeights, { x, stats, dy }, { dweight: size.cols, dbias: size.cols }, size),
    sample(cosine, { a: x, b: dy }, { y: size.rows }, { ...size, eps: 1e-8 }),
    sample(cosineGrad, { a: x, b: dy, dy: floats(size.rows) }, { da: n }, { ...size, eps: 1e-8 }),
    sample(crossEntropy, { x, labels, given: Float64Array.of(0) }, { loss: 1, stats: 6 }, size),
    sample(crossEntropyGrad, { x, labels, stats: Float64Array.of(0.25, 6, 6, 6, 6, 6), dloss: floats(1) }, { dx: n }, size),
    sample(crossEntropyWeighted, { x, labels, weights, given: Float64Array.of(0) }, { loss: 1, stats: 7 }, { ...size, smoothing: 0.125 }),
    sample(
      crossEntropyWeightedGrad,
      { x, labels, weights, stats: Float64Array.of(0.25, 200, 6, 6, 6, 6, 6), dloss: floats(1) },
      { dx: n },
      { ...size, smoothing: 0.125 },
    ),
  ];
};

/** What finds numbers in a row, adds them up or scales them. */
const folds = (): Sample[] => {
  const size = { rows: 5, cols: 257 };
  const n = size.rows * size.cols;
  const [x, dy, weight, each] = [floats(n, -4, 4), floats(n), floats(size.cols), floats(size.rows)];
  const steps = floats(n, -9, 9).map(Math.round); // so that some are equal
  const indices = integers(size.rows * 7, 260); // of which some lie beyond the row
  return [
    ...(["max", "min"] as const).flatMap((which) => [
      sample(extreme(which), { x }, { y: size.rows }, size),
      sample(extremePlace(which), { x: steps }, { place: size.rows }, size, 0),
    ]),
    sample(extremeGrad, { x: steps, y: Float64Array.of(9, -9, 0, 4, 9), dy: each }, { dx: n }, size),
    sample(variance, { x }, { y: size.rows, means: size.rows }, { ...size, scale: 1 / 256 }),
    sample(varianceGrad, { x, means: each, dy: floats(size.rows) }, { dx: n }, { ...size, scale: 1 / 256 }),
    sample(logSoftmax, { x }, { y: n }, size),
    sample(logSoftmaxGrad, { y: floats(n, -9, 0), dy }, { dx: n }, size),
    sample(logSumExp, { x }, { y: size.rows }, size),
    sample(logSumExpGrad, { x, y: floats(size.rows, 4, 9), dy: each }, { dx: n }, size),
    sample(rmsNorm, { x, weight }, { y: n, scales: size.rows }, { ...size, eps: 1e-6 }),
    sample(rmsNormGrad, { x, weight, scales: each, dy }, { dx: n }, size),
    sample(rmsNormGradWeight, { x, scales: each, dy }, { dweight: size.cols }, size),
    ...[0, 1].map((reverse) => sample(cumsum, { x }, { y: n }, { ...size, reverse })),
    sample(topK, { x: steps }, { indices: size.rows * 7 }, { ...size, k: 7 }, 0),
    sample(take, { x, indices }, { y: indices.length }, { ...size, k: 7 }),
    sample(takeGrad, { indices, dy: floats(indices.length) }, { dx: n }, { ...size, k: 7 }),
    sample(oneHot, { labels: words(0, 256, 257, 3, IGNORED) }, { y: n }, size),
  ];
};

/** The variants that ops use: plain in every layout, and the epilogues of a linear layer. */
const products = (): Sample[] => {
  const size = { m: 65, n: 66, k: 35, batch: 2, strideA: 65 * 35, strideB: 35 * 66 };
  const [a, b] = [floats(2 * 65 * 35), floats(2 * 35 * 66)];
  const [bias, residual] = [floats(66), floats(2 * 65 * 66)];
  const variants: readonly (readonly [ta: boolean, tb: boolean, bias: boolean, relu: boolean, residual: boolean])[] = [
    [false, false, false, false, false],
    [false, true, false, false, false],
    [true, false, false, false, false],
    [true, true, false, false, false],
    [false, true, true, false, false],
    [false, true, true, true, false],
    [false, true, true, false, true],
    [false, true, false, false, true],
    [false, true, false, true, false],
  ];
  return variants.map((variant) => {
    const [, , hasBias, , hasResidual] = variant;
    return sample(
      matmul(...variant) as unknown as Kernel,
      { a, b, ...(hasBias && { bias }), ...(hasResidual && { residual }) },
      { c: residual.length },
      size,
    );
  });
};

const streams = (): Sample[] => {
  const [rows, cols, heads, width] = [40, 5, 2, 16];
  const spans = words(0, 33, 33, 33, 33, 36);
  const owner = Uint32Array.from({ length: rows }, (_, i) => (i < 33 ? 0 : i < 36 ? 2 : NOBODY));
  const tiles = words(0, 32, 0, 33, 0, 32, 33, 0, 33, 0, 33, 36, 33, 36, 33, 36, 40, 0, 0, 0);
  // of the same cells in another stream, of 50 rows: 0 ... 34, 35 and 36, 37 ... 46
  const keySpans = words(0, 35, 35, 37, 37, 47);
  const crossed = words(0, 32, 0, 35, 0, 32, 33, 0, 35, 0, 33, 36, 37, 47, 33, 36, 40, 0, 0, 0);
  const keyTiles = words(0, 32, 0, 33, 0, 32, 35, 0, 33, 0, 35, 37, 33, 33, 35, 37, 47, 33, 36, 37, 47, 50, 0, 0, 0);
  const [x, index] = [floats(rows * cols), integers(20, rows)];
  const astray = index.with(3, rows).with(7, 0x7fffffff); // two places that name no row
  const levels = Float64Array.from(integers(rows * cols, 4)); // with ties
  const order = index.map((_, i) => i).sort((i, j) => index[i] - index[j]);
  const starts = Uint32Array.from({ length: rows + 1 }, (_, row) => index.filter((at) => at < row).length);
  const [q, k, v, y, dy] = Array.from({ length: 5 }, () => floats(rows * heads * width));
  const keyRows = 50;
  const [keys, values] = [k, v].map(() => floats(keyRows * heads * width));
  const lse = floats(rows * heads, 2, 3);
  const key = words(1, 2);
  const draw = { threshold: dropThreshold(0.25), scale: keepScale(0.25), site0: 3, site1: 4 };
  return [
    ...WORDS.flatMap((dtype) =>
      (["u32", "i32"] as const).map((places) =>
        sample(
          gather(dtype, places) as unknown as Kernel,
          { x: whole(dtype, rows * cols), index: astray },
          { y: 20 * cols },
          { rows: 20, cols, whole: rows },
        ),
      ),
    ),
    ...(["u32", "i32"] as const).map((places) =>
      sample(invert(places) as unknown as Kernel, { index: astray }, { order: 20, starts: rows + 1 }, { n: 20, rows, base: 7 }),
    ),
    sample(gatherSum, { x: floats(20 * cols), order, starts }, { y: rows * cols }, { rows, cols }),
    // few rows of many columns, and many of few
    sample(gatherSum, { x: floats(20 * 50), order, starts: words(0, 13, 20) }, { y: 100 }, { rows: 2, cols: 50 }),
    sample(
      gatherSum,
      { x: floats(20 * 3), order, starts: Uint32Array.from({ length: 81 }, (_, row) => row >> 2) },
      { y: 240 },
      { rows: 80, cols: 3 },
    ),
    sample(segmentSum, { x, spans }, { y: 3 * cols }, { rows: 3, cols }),
    sample(segmentSumGrad, { dy: floats(3 * cols), spans, owner }, { dx: rows * cols }, { rows, cols }),
    sample(segmentMean, { x, spans }, { y: 3 * cols }, { rows: 3, cols }),
    sample(segmentMeanGrad, { dy: floats(3 * cols), spans, owner }, { dx: rows * cols }, { rows, cols }),
    sample(segmentMax, { x: levels, spans }, { y: 3 * cols, ties: 3 * cols }, { rows: 3, cols }),
    sample(
      segmentMaxGrad,
      {
        x: levels,
        y: Float64Array.from({ length: 3 * cols }, (_, i) => i % 4),
        ties: integers(3 * cols, 5).map((n) => n + 1),
        owner,
        dy: floats(3 * cols),
      },
      { dx: rows * cols },
      { rows, cols },
    ),
    sample(dropout, { x, key }, { y: rows * cols }, { n: rows * cols, ...draw }),
    sample(crossTiles, { tiles, owner, spans: keySpans }, { turned: tiles.length }, { count: 4 }),
    ...[false, true].flatMap((dropped) =>
      [false, true].flatMap((causal) =>
        [
          { given: { q, k, v, tiles }, keyTiles: tiles, keyRows: rows },
          { given: { q, k: keys, v: values, tiles: crossed }, keyTiles, keyRows },
        ].flatMap(({ given, keyTiles, keyRows }) => {
          const shared = { ...given, ...(dropped && { key }) };
          const back = { ...shared, keyTiles, y, dy, lse };
          const gradients = { dq: q.length, dkv: 2 * given.k.length };
          const size = { count: 4, keyRows, heads, ...(dropped && draw) };
          return [
            sample(attention(width, dropped, causal) as unknown as Kernel, shared, { y: q.length, lse: lse.length }, size),
            sample(attentionGrad(width, dropped, causal) as unknown as Kernel, back, gradients, {
              ...size,
              rows,
              keyCount: keyTiles.length / 5,
            }),
            ...(dropped || causal
              ? []
              : [
                  sample(
                    attentionGradGated(width) as unknown as Kernel,
                    back,
                    { ...gradients, gates: keyRows * heads },
                    { ...size, rows, keyCount: keyTiles.length / 5 },
                  ),
                ]),
          ];
        }),
      ),
    ),
  ];
};

const moves = (): Sample[] =>
  WORDS.flatMap((dtype) =>
    (
      [
        [permute(dtype), 120, 120, { n: 120, n1: 2, n2: 3, n3: 4, n4: 5, s0: 0, s1: 60, s2: 1, s3: 3, s4: 12 }],
        [permute(dtype), 12, 60, { n: 60, n1: 1, n2: 3, n3: 5, n4: 4, s0: 0, s1: 0, s2: 4, s3: 0, s4: 1 }],
        [window(dtype), 60, 24, { n: 24, size: 2, whole: 5, inner: 4, start: 3 }],
        [window(dtype), 24, 60, { n: 60, size: 5, whole: 2, inner: 4, start: -3 }],
        [paste(dtype), 24, whole(dtype, 60), { n: 24, size: 2, whole: 5, inner: 4, start: 3 }],
      ] as const
    ).map(([kernel, length, y, params]) => sample(kernel as unknown as Kernel, { x: whole(dtype, length) }, { y }, params)),
  );

/** Parts of these sizes, laid out from their end: in another order than they come in. */
function collected(sizes: readonly number[]): Sample {
  let end = sizes.reduce((sum, n) => sum + padded(n), 0);
  const whole = end;
  const rows = sizes.reduce((sum, n) => sum + loadsOf(n), 0);
  const places = sizes.map((n) => (end -= padded(n)));
  const named = <T>(letter: string, values: readonly T[]) => Object.fromEntries(values.map((value, i) => [`${letter}${i}`, value]));
  const inputs = named("x", sizes.map((n) => floats(Math.max(1, n)))); // biome-ignore format: one line
  if (sizes.length !== COLLECTED) throw new RangeError(`collected(sizes): give ${COLLECTED}`);
  return sample(
    collect,
    inputs,
    { whole, squares: floats(1 + rows) },
    { rows, cols: 0, load: 1, ...named("n", sizes), ...named("to", places) },
  );
}

const optimizer = (): Sample[] => {
  const n = 300;
  const clip = Float64Array.of(2, 0.5);
  /** The row that is read lies after one that is not. */
  const second = (...row: number[]) => Float64Array.of(...row.map(() => 9), ...row.map(Math.fround));
  const params = { n, slot: 1 };
  const adam = second(1e-3, 0.9, 0.999, 1e-8, 0.19, 0.002, 0.1, 0.001, 0.1, 0.05);
  const descent = second(0.1, 0.05, 0.9, 0.8, 1, 0.9);
  return [
    sample(
      unscale,
      { squares: floats(9, 0, 2) },
      { clip: 2, state: Float64Array.of(1024, 3) },
      { n: 9, most: 1, growth: 2, backoff: 0.5, interval: 4 },
    ),
    sample(clipScale, { squares: floats(9, 0, 2) }, { clip: 2 }, { n: 9, most: 1 }),
    sample(adamw, { g: floats(n), hyper: adam, clip }, { w: floats(n), m: floats(n, -0.1, 0.1), v: floats(n, 0, 0.1) }, params),
    sample(
      adamw,
      { g: floats(n), hyper: adam, clip: Float64Array.of(9, -1) },
      { w: floats(n), m: floats(n), v: floats(n, 0, 0.1) },
      params,
    ), // to be skipped
    sample(
      adamwTogether,
      { g: floats(n), slots: Uint32Array.of(1, 0, 1, 1, 0), hyper: adam.map((x, i) => (i < 10 ? adam[i + 10] * 0.5 : x)), clip },
      { w: floats(n), m: floats(n, -0.1, 0.1), v: floats(n, 0, 0.1) },
      { n },
    ),
    collected([5000, 64, 0, 1, 4097, 100]),
    collected([3, 0, 0, 0, 0, 0]),
    sample(sgd(true), { g: floats(n), hyper: descent, clip: Float64Array.of(9, -1) }, { w: floats(n), m: floats(n) }, params),
    sample(sgd(true), { g: floats(n), hyper: descent, clip }, { w: floats(n), m: floats(n) }, params),
    sample(sgd(false) as unknown as Kernel, { g: floats(n), hyper: descent, clip }, { w: floats(n) }, params),
  ];
};

const anomalies = (): Sample[] => [
  sample(nans, { x: floats(1000).map((x, i) => (i % 97 ? x : Number.NaN)) }, { counts: Uint32Array.of(1, 2, 3) }, { n: 1000, slot: 1 }),
];

const constants = (): Sample[] =>
  (["f32", "u32", "i32"] as const).map((dtype) => sample(fill(dtype) as unknown as Kernel, {}, { y: 300 }, { n: 300, value: 7 }));

/** Every kernel, in each variant that ops use. */
export function samples(): Sample[] {
  drawn = 0;
  return [constants, anomalies, elementwise, casts, rowwise, folds, products, streams, moves, optimizer].flatMap((make) => make());
}

/** One small run of every kernel, for a device to be held against the loops: what the tests and `geneformer doctor` check. */

import { adamw, clipScale } from "./adamw.ts";
import { attention, attentionGrad } from "./attention.ts";
import { cosine, cosineGrad } from "./cosine.ts";
import { binaryNames, map, unaryNames, zip, zipBroadcast } from "./elementwise.ts";
import { fill } from "./fill.ts";
import { gather, gatherSum } from "./gather.ts";
import type { Dtype, Kernel, Scalar, Values } from "./kernel.ts";
import { layerNorm, layerNormGrad, layerNormGradWeights } from "./layernorm.ts";
import { crossEntropy, crossEntropyGrad, IGNORED } from "./loss.ts";
import { matmul } from "./matmul.ts";
import { permute, window } from "./permute.ts";
import { dropout, dropThreshold, keepScale, threefry } from "./random.ts";
import { squareSumShape, sumColumns, sumRows, sumSquares } from "./reduce.ts";
import { NOBODY, segmentMean, segmentMeanGrad } from "./segment.ts";
import { softmax, softmaxGrad } from "./softmax.ts";

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

const elementwise = (): Sample[] => {
  const n = 300;
  const positive = () => floats(n, 0.2, 3);
  // three axes: b stretches along the first and the last
  const strides = { n: 300, n1: 1, n2: 1, n3: 4, n4: 15, a0: 60, a1: 60, a2: 60, a3: 15, a4: 1, b0: 0, b1: 0, b2: 0, b3: 1, b4: 0 };
  return [
    ...unaryNames.map((name) => sample(map(name), { a: positive() }, { z: n }, { n }, LOOSE)),
    ...binaryNames.map((name) => sample(zip(name), { a: positive(), b: floats(n, 0.5, 2) }, { z: n }, { n })),
    ...binaryNames.map((name) => sample(zipBroadcast(name), { a: positive(), b: floats(4, 0.5, 2) }, { z: n }, strides)),
  ];
};

const rowwise = (): Sample[] => {
  const size = { rows: 5, cols: 257 };
  const n = size.rows * size.cols;
  const [x, dy, weight] = [floats(n, -4, 4), floats(n), floats(size.cols)];
  const stats = Float64Array.from({ length: 2 * size.rows }, (_, i) => (i % 2 ? 0.5 : 0.125));
  const labels = words(3, IGNORED, 256, 0, 41);
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
    sample(layerNormGradWeights, { x, stats, dy }, { dweight: size.cols, dbias: size.cols }, size),
    sample(cosine, { a: x, b: dy }, { y: size.rows }, { ...size, eps: 1e-8 }),
    sample(cosineGrad, { a: x, b: dy, dy: floats(size.rows) }, { da: n }, { ...size, eps: 1e-8 }),
    sample(crossEntropy, { x, labels, given: Float64Array.of(0) }, { loss: 1, stats: 6 }, size),
    sample(crossEntropyGrad, { x, labels, stats: Float64Array.of(0.25, 6, 6, 6, 6, 6), dloss: floats(1) }, { dx: n }, size),
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
  const tiles = words(0, 32, 0, 33, 32, 33, 0, 33, 33, 36, 33, 36, 36, 40, 0, 0);
  const [x, index] = [floats(rows * cols), integers(20, rows)];
  const order = index.map((_, i) => i).sort((i, j) => index[i] - index[j]);
  const starts = Uint32Array.from({ length: rows + 1 }, (_, row) => index.filter((at) => at < row).length);
  const [q, k, v, y, dy] = Array.from({ length: 5 }, () => floats(rows * heads * width));
  const lse = floats(rows * heads, 2, 3);
  const key = words(1, 2);
  const draw = { threshold: dropThreshold(0.25), scale: keepScale(0.25), site0: 3, site1: 4 };
  return [
    sample(gather, { x, index }, { y: 20 * cols }, { rows: 20, cols }),
    sample(gatherSum, { x: floats(20 * cols), order, starts }, { y: rows * cols }, { rows, cols }),
    sample(segmentMean, { x, spans }, { y: 3 * cols }, { rows: 3, cols }),
    sample(segmentMeanGrad, { dy: floats(3 * cols), spans, owner }, { dx: rows * cols }, { rows, cols }),
    sample(dropout, { x, key }, { y: rows * cols }, { n: rows * cols, ...draw }),
    ...[false, true].flatMap((dropped) => {
      const shared = { q, k, v, tiles, ...(dropped && { key }) };
      const size = { count: 4, heads, ...(dropped && draw) };
      return [
        sample(attention(width, dropped) as unknown as Kernel, shared, { y: q.length, lse: lse.length }, size),
        sample(
          attentionGrad(width, dropped) as unknown as Kernel,
          { ...shared, y, dy, lse },
          { dq: q.length, dkv: 2 * q.length },
          { ...size, rows },
        ),
      ];
    }),
  ];
};

const moves = (): Sample[] => [
  sample(permute, { x: floats(120) }, { y: 120 }, { n: 120, n1: 2, n2: 3, n3: 4, n4: 5, s0: 0, s1: 60, s2: 1, s3: 3, s4: 12 }),
  sample(window, { x: floats(60) }, { y: 24 }, { n: 24, size: 2, whole: 5, inner: 4, start: 3 }),
  sample(window, { x: floats(24) }, { y: 60 }, { n: 60, size: 5, whole: 2, inner: 4, start: -3 }),
];

const optimizer = (): Sample[] => [
  sample(clipScale, { squares: floats(9, 0, 2) }, { clip: 2 }, { n: 9, most: 1 }),
  sample(
    adamw,
    {
      g: floats(300),
      hyper: Float64Array.of(1e-3, 0.9, 0.999, 1e-8, 0.19, 0.002, 0.1, 0.001).map(Math.fround),
      clip: Float64Array.of(2, 0.5),
    },
    { w: floats(300), m: floats(300, -0.1, 0.1), v: floats(300, 0, 0.1) },
    { n: 300, decay: Math.fround(0.1) },
  ),
];

const constants = (): Sample[] =>
  (["f32", "u32", "i32"] as const).map((dtype) => sample(fill(dtype) as unknown as Kernel, {}, { y: 300 }, { n: 300, value: 7 }));

/** Every kernel, in each variant that ops use. */
export function samples(): Sample[] {
  drawn = 0;
  return [constants, elementwise, rowwise, products, streams, moves, optimizer].flatMap((make) => make());
}

/** Every differentiable op, each beside its derivative. */

import { attentionGrad, attention as attentionKernel } from "../kernels/attention.ts";
import { cosineGrad, cosine as cosineKernel } from "../kernels/cosine.ts";
import { type BinaryName, map as mapKernel, type UnaryName, zipBroadcast, zip as zipKernel } from "../kernels/elementwise.ts";
import { gather as gatherKernel, gatherSum } from "../kernels/gather.ts";
import { layerNormGrad, layerNormGradWeights, layerNorm as layerNormKernel } from "../kernels/layernorm.ts";
import { crossEntropyGrad, crossEntropy as crossEntropyKernel } from "../kernels/loss.ts";
import { matmul as matmulKernel } from "../kernels/matmul.ts";
import { permute as permuteKernel, window } from "../kernels/permute.ts";
import { dropout as dropoutKernel, dropThreshold, keepScale } from "../kernels/random.ts";
import { sumColumns, sumRows } from "../kernels/reduce.ts";
import { segmentMeanGrad, segmentMean as segmentMeanKernel } from "../kernels/segment.ts";
import { softmaxGrad, softmax as softmaxKernel } from "../kernels/softmax.ts";
import { axisOf, bind, broadcast, MAX_AXES, type Shape, sameShape, show, sizeOf, stridesOf } from "../src/shape.ts";
import type { Index, Segments } from "../src/stream.ts";
import { full, run, type Tensor } from "../src/tensor.ts";
import type { StepKey } from "./stepkey.ts";
import { op } from "./tape.ts";

// ---- elementwise ---------------------------------------------------------------------------

const map = (name: UnaryName, a: Tensor): Tensor => run(mapKernel(name), { a }, { z: a.shape }, { n: a.size }).z;

/** Sizes and strides of a shape, brought to five axes: what a kernel that walks coordinates takes. */
const fiveAxes = (op: string, shape: Shape): number[] => {
  if (shape.length > MAX_AXES) throw new RangeError(`${op}: ${show(shape)} has ${shape.length} axes; at most ${MAX_AXES} are supported`);
  return [...new Array<number>(MAX_AXES - shape.length).fill(1), ...shape];
};

/** Strides of `from` seen as `to`, five of them: 0 along axes that stretch. */
const stretched = (op: string, from: Shape, to: Shape): number[] => {
  const sizes = fiveAxes(op, from);
  const goal = fiveAxes(op, to);
  return stridesOf(sizes).map((stride, axis) => (sizes[axis] === 1 && goal[axis] !== 1 ? 0 : stride));
};

function zip(name: BinaryName, a: Tensor, b: Tensor): Tensor {
  if (sameShape(a.shape, b.shape)) return run(zipKernel(name), { a, b }, { z: a.shape }, { n: a.size }).z;
  const shape = broadcast(name, a.shape, b.shape);
  const [, n1, n2, n3, n4] = fiveAxes(name, shape);
  const [a0, a1, a2, a3, a4] = stretched(name, a.shape, shape);
  const [b0, b1, b2, b3, b4] = stretched(name, b.shape, shape);
  return run(zipBroadcast(name), { a, b }, { z: shape }, { n: sizeOf(shape), n1, n2, n3, n4, a0, a1, a2, a3, a4, b0, b1, b2, b3, b4 }).z;
}

/** Undo a broadcast: add up along the axes that were stretched. */
function sumTo(dz: Tensor, shape: Shape): Tensor {
  if (sameShape(dz.shape, shape)) return dz;
  const lead = dz.shape.length - shape.length;
  const axes = dz.shape.flatMap((size, axis) => (axis < lead || (shape[axis - lead] === 1 && size !== 1) ? [axis] : []));
  return reduce(dz, axes, 1).withShape(shape);
}

/** a + b, shapes broadcasting as numpy's, here and below. */
export const add = op("add", (a: Tensor, b: Tensor) => [
  zip("add", a, b),
  [],
  (dz, need) => [need[0] ? sumTo(dz, a.shape) : null, need[1] ? sumTo(dz, b.shape) : null],
]);
export const sub = op("sub", (a: Tensor, b: Tensor) => [
  zip("sub", a, b),
  [],
  (dz, need) => [need[0] ? sumTo(dz, a.shape) : null, need[1] ? map("neg", sumTo(dz, b.shape)) : null],
]);
export const mul = op("mul", (a: Tensor, b: Tensor) => [
  zip("mul", a, b),
  [a, b],
  (dz, need) => [need[0] ? sumTo(zip("mul", dz, b), a.shape) : null, need[1] ? sumTo(zip("mul", dz, a), b.shape) : null],
]);
export const div = op("div", (a: Tensor, b: Tensor) => [
  zip("div", a, b),
  [a, b],
  (dz, need) => [
    need[0] ? sumTo(zip("div", dz, b), a.shape) : null,
    need[1] ? sumTo(zip("mul", dz, zip("reciprocalGrad", b, a)), b.shape) : null, // -a / b^2
  ],
]);

export const neg = op("neg", (x: Tensor) => [map("neg", x), [], (dy) => [map("neg", dy)]]);
export const exp = op("exp", (x: Tensor) => {
  const y = map("exp", x);
  return [y, [y], (dy) => [zip("mul", dy, y)]];
});
export const log = op("log", (x: Tensor) => [map("log", x), [x], (dy) => [zip("div", dy, x)]]);
export const sqrt = op("sqrt", (x: Tensor) => {
  const y = map("sqrt", x);
  return [y, [y], (dy) => [zip("sqrtGrad", y, dy)]];
});
export const square = op("square", (x: Tensor) => [map("square", x), [x], (dy) => [zip("squareGrad", x, dy)]]);
export const tanh = op("tanh", (x: Tensor) => {
  const y = map("tanh", x);
  return [y, [y], (dy) => [zip("tanhGrad", y, dy)]];
});
export const relu = op("relu", (x: Tensor) => {
  const y = map("relu", x);
  return [y, [y], (dy) => [zip("reluGrad", y, dy)]]; // y is positive where x is
});
/** x Phi(x), with the error function (Hendrycks and Gimpel 2016), as torch.nn.functional.gelu. */
export const gelu = op("gelu", (x: Tensor) => [map("gelu", x), [x], (dy) => [zip("geluGrad", x, dy)]]);

// ---- reductions ----------------------------------------------------------------------------

/** scale * the sum over some axes, which stay with size 1. Neighbouring axes are summed together. */
function reduce(x: Tensor, axes: readonly number[], scale: number): Tensor {
  const shape = [...x.shape];
  let y = x;
  let factor = scale;
  for (let last = shape.length - 1; last >= 0; last--) {
    if (!axes.includes(last)) continue;
    let first = last;
    while (first > 0 && axes.includes(first - 1)) first--;
    const rows = sizeOf(shape.slice(first, last + 1));
    const inner = sizeOf(shape.slice(last + 1));
    const outer = sizeOf(shape.slice(0, first));
    shape.fill(1, first, last + 1);
    y =
      inner === 1
        ? run(sumRows, { x: y }, { y: shape }, { rows: outer, cols: rows, scale: factor }).y
        : run(sumColumns, { x: y }, { y: shape }, { cols: outer * inner, rows, inner, scale: factor }).y;
    factor = 1;
    last = first;
  }
  return factor === 1 ? y.withShape(shape) : zip("mul", y, full([], factor)).withShape(shape);
}

/** dy, stretched again along the axes that were summed, and scaled. */
const unreduce = (dy: Tensor, shape: Shape, kept: Shape, scale: number): Tensor => zip("mul", dy.withShape(kept), full(shape, scale));

const reduction = (name: string, scaleOf: (count: number) => number) =>
  op(name, (x: Tensor, axes: readonly number[] | null = null, keepAxes: boolean = false) => {
    const over = (axes ?? x.shape.map((_, axis) => axis)).map((axis) => axisOf(name, axis, x.shape));
    const scale = scaleOf(over.reduce((count, axis) => count * x.shape[axis], 1));
    const kept = x.shape.map((size, axis) => (over.includes(axis) ? 1 : size));
    const shape = keepAxes ? kept : x.shape.filter((_, axis) => !over.includes(axis));
    return [reduce(x, over, scale).withShape(shape), [], (dy) => [unreduce(dy, x.shape, kept, scale)]];
  });

/** The sum over axes (default: all), which vanish unless `keepAxes`. */
export const sum = reduction("sum", () => 1);
/** The mean over axes (default: all), which vanish unless `keepAxes`. */
export const mean = reduction("mean", (count) => 1 / count);

// ---- rows ----------------------------------------------------------------------------------

const rowsOf = (x: Tensor) => ({ rows: sizeOf(x.shape.slice(0, -1)), cols: x.shape[x.shape.length - 1] });

/** Softmax along the last axis. */
export const softmax = op("softmax", (x: Tensor) => {
  bind("softmax", "... n", [x.shape]);
  const size = rowsOf(x);
  const { y } = run(softmaxKernel, { x }, { y: x.shape }, size);
  return [y, [y], (dy) => [run(softmaxGrad, { y, dy }, { dx: x.shape }, size).dx]];
});

/** Layer norm along the last axis.   x [..., n], weight [n], bias [n] */
export const layerNorm = op("layerNorm", (x: Tensor, weight: Tensor, bias: Tensor, eps: number) => {
  bind("layerNorm", "... n, n, n", [x.shape, weight.shape, bias.shape]);
  const size = rowsOf(x);
  const { y, stats } = run(layerNormKernel, { x, weight, bias }, { y: x.shape, stats: [size.rows, 2] }, { ...size, eps });
  return [
    y,
    [x, weight, stats],
    (dy, need) => {
      const dx = need[0] ? run(layerNormGrad, { x, weight, stats, dy }, { dx: x.shape }, size).dx : null;
      if (!need[1] && !need[2]) return [dx, null, null];
      const { dweight, dbias } = run(layerNormGradWeights, { x, stats, dy }, { dweight: weight.shape, dbias: bias.shape }, size);
      return [dx, dweight, dbias];
    },
  ];
});

/** The cosine between rows; eps guards rows of zeros as torch.nn.CosineSimilarity.   a [..., n], b [..., n] -> [...] */
export const cosine = op("cosine", (a: Tensor, b: Tensor, eps: number = 1e-8) => {
  bind("cosine", "... n, ... n", [a.shape, b.shape]);
  if (!sameShape(a.shape, b.shape)) throw new RangeError(`cosine(... n, ... n): shapes differ; got ${show(a.shape)} and ${show(b.shape)}`);
  const size = { ...rowsOf(a), eps };
  const { y } = run(cosineKernel, { a, b }, { y: a.shape.slice(0, -1) }, size);
  return [
    y,
    [a, b],
    (dy, need) => [
      need[0] ? run(cosineGrad, { a, b, dy }, { da: a.shape }, size).da : null,
      need[1] ? run(cosineGrad, { a: b, b: a, dy }, { da: b.shape }, size).da : null,
    ],
  ];
});

// ---- matrices ------------------------------------------------------------------------------

interface Product {
  readonly ta?: boolean;
  readonly tb?: boolean;
  readonly bias?: Tensor | null;
  readonly relu?: boolean;
  readonly residual?: Tensor | null;
}

/** The kernel, for matrices m x k and k x n after transposing; `batch` of them, of which either side may be one for all. */
function product(
  a: Tensor,
  b: Tensor,
  shape: Shape,
  { ta = false, tb = false, bias = null, relu = false, residual = null }: Product = {},
): Tensor {
  const [m, n] = shape.slice(-2);
  const k = a.shape[a.shape.length - (ta ? 2 : 1)];
  const batch = sizeOf(shape.slice(0, -2));
  const kernel = matmulKernel(ta, tb, bias !== null, relu, residual !== null);
  const inputs = { a, b, ...(bias && { bias }), ...(residual && { residual }) };
  const strideA = a.shape.length > 2 && a.size > m * k ? m * k : 0;
  const strideB = b.shape.length > 2 && b.size > k * n ? k * n : 0;
  return run(kernel, inputs, { c: shape }, { m, n, k, batch, strideA, strideB }).c;
}

/** Swap the last two of a signature's letters. */
const turn = (letters: string, turned: boolean) => (turned ? letters.split(" ").reverse().join(" ") : letters);

export interface Transposes {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/**
 * a b for the last two axes, the axes before them a batch: equal, or absent on one side.
 * `transposeA`, `transposeB` read that side transposed.   a [..., m, k], b [..., k, n] -> [..., m, n]
 */
export const matmul = op("matmul", (a: Tensor, b: Tensor, { transposeA: ta = false, transposeB: tb = false }: Transposes = {}) => {
  const signature = `... ${turn("m k", ta)}, ... ${turn("k n", tb)}`;
  const { m, n } = bind("matmul", signature, [a.shape, b.shape]);
  const [leadA, leadB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  if (leadA.length > 0 && leadB.length > 0 && !sameShape(leadA, leadB))
    throw new RangeError(
      `matmul(${signature}): batches differ; got ${show(a.shape)} and ${show(b.shape)}; make them equal, or leave one out`,
    );
  const lead = leadA.length > 0 ? leadA : leadB;
  // c = a b: da = dc bT, db = aT dc; a side that is stored transposed has its gradient transposed, which swaps the factors.
  const back = (dc: Tensor, x: Tensor, first: boolean): Tensor => {
    const other = first ? b : a;
    const shape = [...lead, ...x.shape.slice(-2)];
    const dx = first
      ? ta
        ? product(other, dc, shape, { ta: tb, tb: true })
        : product(dc, other, shape, { tb: !tb })
      : tb
        ? product(dc, other, shape, { ta: true, tb: ta })
        : product(other, dc, shape, { ta: !ta });
    return sumTo(dx, x.shape);
  };
  return [
    product(a, b, [...lead, m, n], { ta, tb }),
    [a, b],
    (dc, need) => [need[0] ? back(dc, a, true) : null, need[1] ? back(dc, b, false) : null],
  ];
});

/**
 * x weightT + bias, then relu where asked, then + residual: one kernel.
 *   x [..., in], weight [out, in], bias [out] or null, residual [..., out] or null -> [..., out]
 */
export const linear = op(
  "linear",
  (x: Tensor, weight: Tensor, bias: Tensor | null = null, residual: Tensor | null = null, { relu = false }: { relu?: boolean } = {}) => {
    const { out } = bind("linear", "... in, out in", [x.shape, weight.shape]);
    if (bias) bind("linear", "out in, out", [weight.shape, bias.shape]);
    const shape = [...x.shape.slice(0, -1), out];
    if (residual && !sameShape(residual.shape, shape))
      throw new RangeError(`linear(... in, out in): the residual must have the result's shape ${show(shape)}; got ${show(residual.shape)}`);
    if (relu && residual)
      throw new RangeError("linear(... in, out in): relu with a residual hides where relu was zero; add the residual by itself");
    const { rows } = rowsOf(x);
    const flat = (t: Tensor) => t.withShape([rows, t.shape[t.shape.length - 1]]);
    const y = product(flat(x), weight, [rows, out], { tb: true, bias, relu, residual: residual && flat(residual) }).withShape(shape);
    return [
      y,
      relu ? [x, weight, y] : [x, weight],
      (dy, need) => {
        const dz = flat(relu ? zip("reluGrad", y, dy) : dy);
        const grads: (Tensor | null)[] = [
          need[0] ? product(dz, weight, [rows, x.shape[x.shape.length - 1]]).withShape(x.shape) : null,
          need[1] ? product(dz, flat(x), weight.shape, { ta: true }) : null, // dW = dzT x
        ];
        if (bias) grads.push(need[2] ? reduce(dz, [0], 1).withShape(bias.shape) : null);
        if (residual) grads.push(dy);
        return grads;
      },
    ];
  },
);

// ---- streams -------------------------------------------------------------------------------

/** Rows of a table by index.   x [R, ...], index of M places -> [M, ...] */
export const gather = op("gather", (x: Tensor, index: Index) => {
  if (x.shape.length === 0 || x.shape[0] !== index.rows)
    throw new RangeError(`gather(x, index): the index points into ${index.rows} rows; got x ${show(x.shape)}`);
  const cols = sizeOf(x.shape.slice(1));
  const shape = [index.values.size, ...x.shape.slice(1)];
  const { y } = run(gatherKernel, { x, index: index.values }, { y: shape }, { rows: index.values.size, cols });
  const kept = index.inverse ? [index.inverse.order, index.inverse.starts] : [];
  return [y, kept, (dy) => [scatter("gather", dy, index, x.shape)]];
});

function scatter(op: string, x: Tensor, { inverse, rows }: Index, shape: Shape): Tensor {
  if (!inverse) throw new Error(`${op}(x, index): the index was made without its inverse; make it with gradients: true`);
  return run(gatherSum, { x, ...inverse }, { y: shape }, { rows, cols: sizeOf(shape.slice(1)) }).y;
}

/** Add rows up where an index says: y[index[i]] += x[i]. The other way of `gather`.   x [M, ...], index of M places -> [R, ...] */
export const scatterAdd = op("scatterAdd", (x: Tensor, index: Index) => {
  if (x.shape[0] !== index.values.size)
    throw new RangeError(`scatterAdd(x, index): the index has ${index.values.size} places; got x ${show(x.shape)}`);
  if (!index.whole)
    throw new RangeError(
      "scatterAdd(x, index): the index leaves places out (count, frozen), whose gradient would not be zero; make it without",
    );
  const cols = sizeOf(x.shape.slice(1));
  return [
    scatter("scatterAdd", x, index, [index.rows, ...x.shape.slice(1)]),
    [index.values],
    (dy) => [run(gatherKernel, { x: dy, index: index.values }, { y: x.shape }, { rows: index.values.size, cols }).y],
  ];
});

/** The mean of each segment's rows.   x [N, C] -> [B, C] */
export const segmentMean = op("segmentMean", (x: Tensor, { rows, count, spans, owner }: Segments) => {
  const { n, c: cols } = bind("segmentMean", "n c", [x.shape]);
  if (n !== rows) throw new RangeError(`segmentMean(n c): the segments cover ${rows} rows; got x ${show(x.shape)}`);
  const { y } = run(segmentMeanKernel, { x, spans }, { y: [count, cols] }, { rows: count, cols });
  return [y, [spans, owner], (dy) => [run(segmentMeanGrad, { dy, spans, owner }, { dx: x.shape }, { rows, cols }).dx]];
});

/** The widest head whose blocks fit 16 KiB of workgroup memory and 256 lanes (kernels/attention.ts). */
const WIDEST = 128;

/**
 * Self-attention inside segments (Vaswani et al. 2017): each row mixes the v of its own segment by softmax(q . k / sqrt(D)).
 * The N x N weights are never held: the forward pass keeps a log-sum-exp per row and head, and the way back makes them anew.
 *   q, k, v [N, C], `heads` of width D = C / heads side by side -> [N, C]
 * @param drop dropout of the weights with probability p, drawn from the key: the same draws in both directions.
 */
export const attention = op("attention", (q: Tensor, k: Tensor, v: Tensor, segments: Segments, heads: number, drop: Drop | null = null) => {
  const { n, c } = bind("attention", "n c, n c, n c", [q.shape, k.shape, v.shape]);
  if (n !== segments.rows)
    throw new RangeError(`attention(n c, n c, n c): the segments cover ${segments.rows} rows; got q ${show(q.shape)}`);
  if (!Number.isInteger(heads) || heads < 1 || c % heads !== 0)
    throw new RangeError(`attention(n c, n c, n c): width ${c} does not divide into ${heads} heads; got q ${show(q.shape)}`);
  const dropped = drop !== null && dropThreshold(drop.p) > 0;
  const width = c / heads;
  if (width > WIDEST)
    throw new RangeError(`attention(n c, n c, n c): heads are ${width} wide; at most ${WIDEST} are supported; got q ${show(q.shape)}`);
  const { tiles } = segments;
  const params = { count: tiles.shape[0], heads, ...(dropped && draws("attention", drop)) };
  const shared = { q, k, v, tiles, ...(dropped && { key: drop.key.words }) };
  const { y, lse } = run(attentionKernel(width, dropped), shared, { y: q.shape, lse: [n, heads] }, params);
  return [
    y,
    [q, k, v, y, lse, ...(dropped ? [drop.key.words] : []), tiles],
    (dy) => {
      const outputs = { dq: q.shape, dkv: [2, n, c] };
      const { dq, dkv } = run(attentionGrad(width, dropped), { ...shared, y, dy, lse }, outputs, { ...params, rows: n });
      const half = (start: number) => run(window, { x: dkv }, { y: [n, c] }, { n: n * c, size: 1, whole: 2, inner: n * c, start }).y;
      return [dq, half(0), half(1)];
    },
  ];
});

// ---- dropout -------------------------------------------------------------------------------

/** With what probability to drop, and the key to draw from. */
export interface Drop {
  readonly p: number;
  readonly key: StepKey;
}

const draws = (op: string, { p, key }: Drop) => {
  if (!(p >= 0 && p < 1)) throw new RangeError(`${op}: p must lie in [0, 1); got ${p}`);
  return { threshold: dropThreshold(p), scale: keepScale(p), site0: key.site[0], site1: key.site[1] };
};

/** Zero each value with probability p, in steps of 2^-16, and scale what is left by 1 / (1 - p) (Srivastava et al. 2014). The way back draws the mask again. */
export const dropout = op("dropout", (x: Tensor, drop: Drop) => {
  const key = drop.key.words;
  const apply = (t: Tensor) => run(dropoutKernel, { x: t, key }, { y: t.shape }, { n: t.size, ...draws("dropout", drop) }).y;
  return [apply(x), [key], (dy) => [apply(dy)]];
});

// ---- loss ----------------------------------------------------------------------------------

/**
 * The mean cross-entropy of rows of logits against labels (natural logarithm). Rows labelled IGNORED do not count.
 *   logits [M, V], labels u32 [M] -> []
 * @param count f32 [1]: divide by this instead of the number of labelled rows: what makes the losses of several batches add up to one mean.
 */
export const crossEntropy = op("crossEntropy", (logits: Tensor, labels: Tensor, count: Tensor | null = null) => {
  const { m: rows, v: cols } = bind("crossEntropy", "m v, m", [logits.shape, labels.shape]);
  const inputs = { x: logits, labels, given: count ?? full([1], 0) };
  const { loss, stats } = run(crossEntropyKernel, inputs, { loss: [], stats: [1 + rows] }, { rows, cols });
  return [
    loss,
    [logits, labels, stats],
    (dloss) => [run(crossEntropyGrad, { x: logits, labels, stats, dloss }, { dx: logits.shape }, { rows, cols }).dx, null, null],
  ];
});

// ---- shapes --------------------------------------------------------------------------------

/** The same numbers in another shape, sharing the buffer. One size may be -1: whatever is left. */
export const reshape = op("reshape", (x: Tensor, shape: Shape) => {
  const known = shape.reduce((n, size) => (size === -1 ? n : n * size), 1);
  const whole = shape.map((size) => (size === -1 ? x.size / known : size));
  if (sizeOf(whole) !== x.size || whole.some((size) => !Number.isInteger(size) || size < 0))
    throw new RangeError(`reshape(x, shape): ${show(x.shape)} has ${x.size} elements, which do not fill ${show(shape)}`);
  return [x.withShape(whole), [], (dy) => [dy.withShape(x.shape)]];
});

const permuted = (x: Tensor, axes: readonly number[]): Tensor => {
  const shape = axes.map((axis) => x.shape[axis]);
  const strides = stridesOf(x.shape);
  const [, n1, n2, n3, n4] = fiveAxes("permute", shape);
  const [s0, s1, s2, s3, s4] = [...new Array<number>(MAX_AXES - axes.length).fill(0), ...axes.map((axis) => strides[axis])];
  return run(permuteKernel, { x }, { y: shape }, { n: x.size, n1, n2, n3, n4, s0, s1, s2, s3, s4 }).y;
};

/** Axes in another order: result axis i is axis axes[i] of x. */
export const permute = op("permute", (x: Tensor, axes: readonly number[]) => {
  const order = axes.map((axis) => axisOf("permute", axis, x.shape));
  if (new Set(order).size !== x.shape.length || order.length !== x.shape.length)
    throw new RangeError(`permute(x, axes): axes [${axes.join(", ")}] do not name each axis of ${show(x.shape)} once`);
  return [
    permuted(x, order),
    [],
    (dy) => [
      permuted(
        dy,
        order.map((_, axis) => order.indexOf(axis)),
      ),
    ],
  ];
});

/** Rows start ... stop - 1 along one axis. */
export const slice = op("slice", (x: Tensor, axis: number, start: number, stop: number) => {
  const along = axisOf("slice", axis, x.shape);
  const whole = x.shape[along];
  if (!(Number.isInteger(start) && Number.isInteger(stop) && 0 <= start && start <= stop && stop <= whole))
    throw new RangeError(`slice(x, axis, start, stop): ${start} to ${stop} does not lie within axis ${axis} of ${show(x.shape)}`);
  const size = stop - start;
  const shape = x.shape.with(along, size);
  const inner = sizeOf(x.shape.slice(along + 1));
  const { y } = run(window, { x }, { y: shape }, { n: sizeOf(shape), size, whole, inner, start });
  return [y, [], (dy) => [run(window, { x: dy }, { y: x.shape }, { n: x.size, size: whole, whole: size, inner, start: -start }).y]];
});

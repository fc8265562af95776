/** Ops along an axis, each beside its derivative. */

import { addNorm as addNormKernel } from "../../kernels/addnorm.ts";
import { cosineGrad, cosine as cosineKernel } from "../../kernels/cosine.ts";
import { layerNormGrad, layerNormGradWeights, layerNorm as layerNormKernel } from "../../kernels/layernorm.ts";
import { dropout as dropoutKernel } from "../../kernels/random.ts";
import { rmsNormGrad, rmsNormGradWeight, rmsNorm as rmsNormKernel } from "../../kernels/rmsnorm.ts";
import { cumsum as cumsumKernel } from "../../kernels/scan.ts";
import { logSoftmaxGrad, logSoftmax as logSoftmaxKernel, softmaxGrad, softmax as softmaxKernel } from "../../kernels/softmax.ts";
import { oneHot as oneHotKernel, takeGrad, take as takeKernel } from "../../kernels/take.ts";
import { topK as topKKernel } from "../../kernels/topk.ts";
import { axisOf, bind, sameShape, show } from "../../src/shape.ts";
import { run, runStored, storedAs, type Tensor } from "../../src/tensor.ts";
import { door, op } from "../tape.ts";
import { rowsOf } from "./apply.ts";
import { type Drop, draws } from "./dropout.ts";
import { permute } from "./shape.ts";

/** An op of rows, along the last axis, along any: another axis changes places with the last, and back again. */
const along = (name: string, ofRows: (x: Tensor) => Tensor) =>
  door(name, (x: Tensor, axis: number = -1): Tensor => {
    bind(name, "... n", [x.shape]);
    const at = axisOf(name, axis, x.shape);
    const last = x.shape.length - 1;
    if (at === last) return ofRows(x);
    const swapped = x.shape.map((_, i) => (i === at ? last : i === last ? at : i));
    return permute(ofRows(permute(x, swapped)), swapped);
  });

/**
 * Softmax along an axis (default: the last). Of -Infinity, a masked score, it is 0, as long as one number of the row is finite; a row of nothing
 * but -Infinity, or with NaN or Infinity in it, becomes NaN (torch.softmax).
 */
export const softmax = along(
  "softmax",
  op("softmax", (x: Tensor) => {
    const size = rowsOf(x);
    const { y } = run(softmaxKernel, { x }, { y: x.shape }, size);
    return [y, [y], (dy) => [run(softmaxGrad, { y, dy }, { dx: x.shape }, size).dx]];
  }),
);

/** The logarithm of softmax along an axis (default: the last), which does not overflow where softmax is 0; NaN where that is NaN. */
export const logSoftmax = along(
  "logSoftmax",
  op("logSoftmax", (x: Tensor) => {
    const size = rowsOf(x);
    const { y } = run(logSoftmaxKernel, { x }, { y: x.shape }, size);
    return [y, [y], (dy) => [run(logSoftmaxGrad, { y, dy }, { dx: x.shape }, size).dx]];
  }),
);

/** Running sums along an axis (default: the last), each number counted in: y[j] = x[0] + ... + x[j] (numpy.cumsum). */
export const cumsum = along(
  "cumsum",
  op("cumsum", (x: Tensor) => {
    const scan = (x: Tensor, reverse: number) => run(cumsumKernel, { x }, { y: x.shape }, { ...rowsOf(x), reverse }).y;
    return [scan(x, 0), [], (dy) => [scan(dy, 1)]]; // x[j] is in y[j] and all after it
  }),
);

/** The gradients of what a layer norm was given, its rows x among them, from what it kept. */
function normBack(x: Tensor, weight: Tensor, stats: Tensor, dy: Tensor, needRows: boolean, needWeights: boolean) {
  const size = rowsOf(x);
  const dx = needRows ? runStored(layerNormGrad, { x, weight, stats, dy }, { dx: storedAs(x) }, size).dx : null;
  if (!needWeights) return { dx, dweight: null, dbias: null };
  return { dx, ...runStored(layerNormGradWeights, { x, stats, dy }, { dweight: weight.shape, dbias: weight.shape }, size) };
}

/** Layer norm along the last axis, stored as x is.   x [..., n], weight [n], bias [n] */
export const layerNorm = op("layerNorm", (x: Tensor, weight: Tensor, bias: Tensor, eps: number) => {
  bind("layerNorm", "... n, n, n", [x.shape, weight.shape, bias.shape]);
  const size = rowsOf(x);
  const { y, stats } = runStored(layerNormKernel, { x, weight, bias }, { y: storedAs(x), stats: [size.rows, 2] }, { ...size, eps });
  return [
    y,
    [x, weight, stats],
    (dy, need) => {
      const { dx, dweight, dbias } = normBack(x, weight, stats, dy, need[0], need[1] || need[2]);
      return [dx, dweight, dbias];
    },
  ];
});

/**
 * The layer norm of a sum, `layerNorm(add(x, dropout(r, drop)), weight, bias, eps)` with the same draws, in one kernel: what closes each half of a layer. The sum and its norm are stored as x is.
 *   x [..., n], the residual stream; r [..., n], what is dropped with `drop` and added; weight [n], bias [n] -> [..., n]
 */
export const addNorm = op("addNorm", (x: Tensor, r: Tensor, weight: Tensor, bias: Tensor, eps: number, drop: Drop | null = null) => {
  bind("addNorm", "... n, ... n, n, n", [x.shape, r.shape, weight.shape, bias.shape]);
  if (!sameShape(x.shape, r.shape))
    throw new RangeError(`addNorm(... n, ... n, n, n): the two to be added differ; got ${show(x.shape)} and ${show(r.shape)}`);
  const size = rowsOf(x);
  const sampling = drop && draws("addNorm", drop);
  const key = sampling && sampling.threshold > 0 ? drop.key.words : null;
  const { h, y, stats } = runStored(
    addNormKernel(key !== null),
    { x, r, weight, bias, ...(key && { key }) },
    { h: storedAs(x), y: storedAs(x), stats: [size.rows, 2] },
    { ...size, eps, ...(key && sampling) },
  );
  return [
    y,
    [h, weight, stats, ...(key ? [key] : [])],
    (dy, need) => {
      const { dx, dweight, dbias } = normBack(h, weight, stats, dy, need[0] || need[1], need[2] || need[3]);
      // h = x + dropout(r): dr is dx with the same draws
      const dr =
        need[1] && dx && key && sampling ? runStored(dropoutKernel, { x: dx, key }, { y: storedAs(r) }, { n: r.size, ...sampling }).y : dx;
      return [dx, dr, dweight, dbias];
    },
  ];
});

/** Root mean square norm along the last axis (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight.   x [..., n], weight [n] */
export const rmsNorm = op("rmsNorm", (x: Tensor, weight: Tensor, eps: number) => {
  bind("rmsNorm", "... n, n", [x.shape, weight.shape]);
  const size = rowsOf(x);
  const { y, scales } = run(rmsNormKernel, { x, weight }, { y: x.shape, scales: [size.rows] }, { ...size, eps });
  return [
    y,
    [x, weight, scales],
    (dy, need) => [
      need[0] ? run(rmsNormGrad, { x, weight, scales, dy }, { dx: x.shape }, size).dx : null,
      need[1] ? run(rmsNormGradWeight, { x, scales, dy }, { dweight: weight.shape }, size).dweight : null,
    ],
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

/**
 * Numbers by their places along the last axis (numpy.take_along_axis): y[..., j] = x[..., indices[..., j]]. An index beyond the axis gives 0, and
 * no gradient; a number that is taken twice gets both gradients.   x [..., n], indices u32 [..., k] -> [..., k]
 */
export const take = op("take", (x: Tensor, indices: Tensor) => {
  bind("take", "... n, ... k", [x.shape, indices.shape]);
  if (!sameShape(x.shape.slice(0, -1), indices.shape.slice(0, -1)))
    throw new RangeError(
      `take(... n, ... k): all axes but the last must be the same; got ${show(x.shape)} and ${show(indices.shape)}; gather takes whole rows`,
    );
  const size = { ...rowsOf(x), k: indices.shape[indices.shape.length - 1] };
  const { y } = run(takeKernel, { x, indices }, { y: indices.shape }, size);
  return [y, [indices], (dy) => [run(takeGrad, { indices, dy }, { dx: x.shape }, size).dx, null]];
});

/**
 * The k largest numbers of each row of the last axis, the largest first, those that tie in their order; NaN is the largest of all (torch.topk).
 * Values have gradients, places (u32) have none. A row is read k times on a GPU: for k of some dozens.   x [..., n] -> both [..., k]
 * @throws RangeError when k is no integer from 0 to n.
 */
export const topK = door("topK", (x: Tensor, k: number): { readonly values: Tensor; readonly indices: Tensor } => {
  const { n } = bind("topK", "... n", [x.shape]);
  if (!(Number.isInteger(k) && 0 <= k && k <= n))
    throw new RangeError(`topK(... n, k): k is ${k}; got ${show(x.shape)}; give an integer from 0 to ${n}`);
  const { indices } = run(topKKernel, { x }, { indices: [...x.shape.slice(0, -1), k] }, { ...rowsOf(x), k });
  return { values: take(x, indices), indices };
});

/**
 * Rows that are 1 at their label and 0 elsewhere; all 0 for a label of n or more. No gradient.   labels u32 [...] -> f32 [..., n]
 * @throws RangeError when n is no size.
 */
export const oneHot = door("oneHot", (labels: Tensor, n: number): Tensor => {
  if (!(Number.isInteger(n) && n >= 0)) throw new RangeError(`oneHot(labels, n): n is ${n}; give the number of labels, 0 or more`);
  return run(oneHotKernel, { labels }, { y: [...labels.shape, n] }, { rows: labels.size, cols: n }).y;
});

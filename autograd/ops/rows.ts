/** Ops along the last axis, each beside its derivative. */

import { cosineGrad, cosine as cosineKernel } from "../../kernels/cosine.ts";
import { layerNormGrad, layerNormGradWeights, layerNorm as layerNormKernel } from "../../kernels/layernorm.ts";
import { softmaxGrad, softmax as softmaxKernel } from "../../kernels/softmax.ts";
import { bind, sameShape, show } from "../../src/shape.ts";
import { run, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { rowsOf } from "./apply.ts";

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

/** The hot kernels in WebAssembly SIMD: called with addresses, then parameters, then what a variant fixes (`Compiled` in kernels/kernel.ts). */

export { matmul } from "./matmul";
export { attention, attentionDropped, attentionGrad, attentionGradDropped } from "./attention";
export {
  abs, absGrad, add, clamp, clampGrad, div, equal, exp, gelu, geluGrad, geluTanh, geluTanhGrad, greater, greaterEqual, less, lessEqual,
  maximum, minimum, mul, neg, notEqual, reciprocalGrad, relu, reluGrad, rsqrt, rsqrtGrad, sigmoid, sigmoidGrad, silu, siluGrad,
  softplus, softplusGrad, sqrt, sqrtGrad, square, squareGrad, sub, tanh, tanhGrad,
} from "./elementwise";
export { dropout } from "./random";
export { extreme, extremeGrad, sumColumns, sumRows, sumSquares, variance, varianceGrad } from "./reduce";
export { logSoftmax, logSoftmaxGrad, logSumExp, logSumExpGrad, softmax, softmaxGrad } from "./softmax";
export { rmsNorm, rmsNormGrad, rmsNormGradWeight } from "./rmsnorm";
export { crossEntropy, crossEntropyGrad } from "./loss";
export { layerNorm, layerNormGrad, layerNormGradWeights } from "./layernorm";
export { adamw } from "./adamw";
export { sgd } from "./sgd";
export { gather, gatherSum, invert } from "./gather";
export { segmentSum, segmentSumGrad } from "./segment";

/** The lowest address this module leaves free. It has no heap: all working memory is given to it. */
export function heapBase(): usize {
  return __heap_base;
}

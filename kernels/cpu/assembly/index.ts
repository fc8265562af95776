/** The hot kernels in WebAssembly SIMD: called with addresses, then parameters, then what a variant fixes (`Compiled` in kernels/kernel.ts). */

export { matmul } from "./matmul";
export { attention, attentionDropped, attentionGrad, attentionGradDropped } from "./attention";
export { add, div, mul, neg, reciprocalGrad, relu, reluGrad, sqrt, sqrtGrad, square, squareGrad, sub, tanhGrad } from "./elementwise";
export { dropout } from "./random";
export { sumColumns, sumRows, sumSquares } from "./reduce";
export { softmax, softmaxGrad } from "./softmax";
export { crossEntropy, crossEntropyGrad } from "./loss";
export { layerNorm, layerNormGrad, layerNormGradWeights } from "./layernorm";
export { adamw } from "./adamw";
export { gather, gatherSum } from "./gather";
export { segmentMean, segmentMeanGrad } from "./segment";

/** The lowest address this module leaves free. It has no heap: all working memory is given to it. */
export function heapBase(): usize {
  return __heap_base;
}

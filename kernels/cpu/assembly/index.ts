/** The hot kernels in WebAssembly SIMD: called with addresses, then parameters, then what a variant fixes (`Compiled` in kernels/kernel.ts). */

export { widen } from "./panel";
export { matmul } from "./matmul";
export { attention, attentionDropped, attentionGrad, attentionGradDropped, attentionGradGated } from "./attention";
export { clamp, clampGrad, map, zip, zipBroadcast, zipThree } from "./elementwise";
export { dropout } from "./random";
export { extreme, extremeGrad, extremePlace, sumColumns, sumRows, sumSquares, sumSquaresParts, variance, varianceGrad } from "./reduce";
export { logSoftmax, logSoftmaxGrad, logSumExp, logSumExpGrad, softmax, softmaxGrad } from "./softmax";
export { rmsNorm, rmsNormGrad, rmsNormGradWeight } from "./rmsnorm";
export {
  crossEntropy, crossEntropyGrad, crossEntropyLoss, crossEntropyWeighted, crossEntropyWeightedGrad, crossEntropyWeightedLoss,
} from "./loss";
export { layerNorm, layerNormGrad, layerNormGradWeights } from "./layernorm";
export { addNorm, addNormDropped } from "./addnorm";
export { cosine, cosineGrad } from "./cosine";
export { adamw } from "./adamw";
export { sgd } from "./sgd";
export { gather, gatherSum, invert } from "./gather";
export { segmentMax, segmentMaxGrad, segmentSum, segmentSumGrad } from "./segment";
export { paste, permute, window } from "./permute";
export { cast, fill, nans } from "./cast";
export { cumsum, oneHot, take, takeGrad, topK } from "./places";

/** The lowest address this module leaves free. It has no heap: all working memory is given to it. */
export function heapBase(): usize {
  return __heap_base;
}

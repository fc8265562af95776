/** The hot kernels in WebAssembly SIMD: called with addresses, then parameters, then what a variant fixes (`Compiled` in kernels/kernel.ts). */

export { matmul } from "./matmul";
export { attention, attentionDropped, attentionGrad, attentionGradDropped } from "./attention";

/** The lowest address this module leaves free. It has no heap: all working memory is given to it. */
export function heapBase(): usize {
  return __heap_base;
}

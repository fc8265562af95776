/**
 * What a network is made of.
 * @module geneformer-ts/nn
 */

export * from "./attention.ts";
export * from "./dropout.ts";
export * from "./embedding.ts";
export * from "./hooks.ts";
export * as init from "./init.ts";
export * from "./layernorm.ts";
export * from "./linear.ts";
export * from "./lora.ts";
export * from "./lossscale.ts";
export * from "./module.ts";
export type { Match } from "./names.ts";
export * from "./optimizer.ts";
export type { External, Pickled } from "./pickle.ts";
export * from "./positions.ts";
export * from "./rmsnorm.ts";
export * from "./safetensors.ts";
export * from "./schedule.ts";
export { blobSource, bytesSource, type Source } from "./source.ts";
export * from "./summary.ts";
export { openTorch, openTorchWeights, stateDict, type Torched, TorchTensor } from "./torch.ts";
export * from "./transformer.ts";

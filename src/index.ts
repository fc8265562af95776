/** The front door of the framework: devices, tensors, ops and gradients. */

export { checkGradients } from "../autograd/check.ts";
export * from "../autograd/ops.ts";
export { StepKey } from "../autograd/stepkey.ts";
export { type Back, inference, op, valueAndGrad } from "../autograd/tape.ts";
export { IGNORED } from "../kernels/loss.ts";
export * from "./device.ts";
export { Key } from "./key.ts";
export type { Shape } from "./shape.ts";
export * from "./stream.ts";
export { empty, full, integers, keep, normal, ones, scoped, Tensor, tensor, zeros } from "./tensor.ts";

/**
 * The front door of the framework: devices, tensors, ops and gradients.
 * @module geneformer-ts
 */

export { detectAnomaly } from "../autograd/anomaly.ts";
export { type CheckOptions, checkGradients, type Point } from "../autograd/check.ts";
export { checkpoint } from "../autograd/checkpoint.ts";
export * from "../autograd/ops.ts";
export { StepKey } from "../autograd/stepkey.ts";
export {
  type Application,
  accumulate,
  type Back,
  inference,
  op,
  type Pullback,
  pullback,
  type ValueAndGrad,
  valueAndGrad,
  vjp,
} from "../autograd/tape.ts";
export {
  type Alternative,
  type Alternatives,
  type Arrays,
  type Compiled,
  type Dtype,
  each,
  type Floats,
  GRID_X,
  type Kernel,
  kernel,
  LANES,
  lanes,
  type MatrixUnit,
  type Named,
  type Params,
  type Pass,
  type Scalar,
  type Scratch,
  type Split,
  source,
  type Values,
  type Variant,
  variants,
} from "../kernels/kernel.ts";
export { IGNORED } from "../kernels/loss.ts";
export type { Pair } from "../kernels/random.ts";
export { eachColumn, eachRow } from "../kernels/rows.ts";
export {
  type CalibrateOptions,
  type Calibration,
  calibrate,
  type Finding,
  fileStore,
  type Request,
  type Trial,
  transformerProblems,
} from "./calibrate.ts";
export { ahead, type Captured, capture } from "./capture.ts";
export { type Abilities, Choices, type Table, type Tried } from "./choices.ts";
export * from "./device.ts";
export { DeviceLost, OutOfMemory, type Shortage } from "./errors.ts";
export { Key } from "./key.ts";
export { bind, broadcast, type Shape } from "./shape.ts";
export { type Needs, needs, type Problem, prepare } from "./shapes.ts";
export * from "./stream.ts";
export { empty, emptyLike, full, integers, keep, normal, ones, run, runStored, scoped, storedAs, Tensor, tensor, zeros } from "./tensor.ts";

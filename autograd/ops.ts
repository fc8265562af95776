/** Every differentiable op, by kind: each stands in its file beside its derivative. */

export * from "./ops/attention.ts";
export { type Drop, dropout } from "./ops/dropout.ts";
export * from "./ops/elementwise.ts";
export * from "./ops/loss.ts";
export * from "./ops/matrix.ts";
export * from "./ops/reduce.ts";
export * from "./ops/rows.ts";
export * from "./ops/shape.ts";
export * from "./ops/stream.ts";

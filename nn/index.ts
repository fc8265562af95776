/** What a network is made of. */

export * from "./embedding.ts";
export * from "./layernorm.ts";
export * from "./linear.ts";
export * from "./module.ts";
export * from "./optimizer.ts";
export * from "./safetensors.ts";
export * from "./schedule.ts";

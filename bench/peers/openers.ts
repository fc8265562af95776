/** Every implementation that can take part, by name, and how it is opened: in a process of Node's, or in a page. */

import type { Open } from "./task.ts";

/** What runs in a process of its own. */
export const inNode = {
  ours: async (job) => (await import("./ours.ts")).openOurs("cpu", job),
  "ort-node": async (job) => (await import("./ort.ts")).openOrt("node", false, job),
  "ort-node-fused": async (job) => (await import("./ort.ts")).openOrt("node", true, job),
  "ort-web": async (job) => (await import("./ort.ts")).openOrt("wasm", false, job),
  "ort-web-fused": async (job) => (await import("./ort.ts")).openOrt("wasm", true, job),
  tfjs: async (job) => (await import("./tfjs.ts")).openTfjs("wasm", job),
  jax: async (job) => (await import("./jax.ts")).openJax("wasm", job),
  "gpu.js": async (job) => (await import("./gpu.ts")).openGpu(job),
} satisfies Record<string, Open>;

/** What runs in a page, on the browser's WebGPU adapter. */
export const inPage = {
  ours: async (job) => (await import("./ours.ts")).openOurs("webgpu", job),
  "ort-web": async (job) => (await import("./ort.ts")).openOrt("webgpu", false, job),
  tfjs: async (job) => (await import("./tfjs.ts")).openTfjs("webgpu", job),
  jax: async (job) => (await import("./jax.ts")).openJax("webgpu", job),
} satisfies Record<string, Open>;

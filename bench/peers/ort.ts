/** onnxruntime as a contender: native in Node, as WebAssembly, and on WebGPU in a page. It infers; it does not train. */

import type { Session, SessionOptions } from "onnxruntime-common";
import { attentionModel, encoderModel, matmulModel } from "./onnx.ts";
import { type Contender, type Job, rectangle, refuse, weightsOf } from "./task.ts";

type Runtime = Pick<typeof import("onnxruntime-common"), "InferenceSession" | "Tensor" | "env">;

/** @param fused its own operator for attention instead of those of ONNX, from which exporters build it. */
export async function openOrt(kind: "node" | "wasm" | "webgpu", fused: boolean, job: Job): Promise<Contender> {
  const who = kind === "node" ? "onnxruntime-node" : "onnxruntime-web";
  const { runtime, provider } = await load(kind, job.threads);
  const { model, feeds } = program(who, fused, runtime, job);
  const options: SessionOptions = {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
    intraOpNumThreads: job.threads,
    interOpNumThreads: 1,
  };
  const session: Session = await runtime.InferenceSession.create(model, options);
  const once = async () => Object.values(await session.run(feeds))[0].data;
  return {
    description: `${who} ${runtime.env.versions.common}, ${provider}, ${job.threads} thread(s)${fused ? ", MultiHeadAttention" : ""}`,
    async run() {
      await once();
    },
    result: async () => ({ y: Float32Array.from(await once()) }),
  };
}

async function load(kind: "node" | "wasm" | "webgpu", threads: number): Promise<{ runtime: Runtime; provider: string }> {
  if (kind === "node") return { runtime: await import("onnxruntime-node"), provider: "cpu" };
  const runtime = await (kind === "wasm" ? import("onnxruntime-web") : import("onnxruntime-web/webgpu"));
  runtime.env.wasm.numThreads = threads;
  runtime.env.logLevel = "error";
  if (kind === "webgpu") runtime.env.wasm.wasmPaths = "/ort/"; // where serve() in browser.ts puts them
  return { runtime, provider: kind };
}

function program(who: string, fused: boolean, { Tensor }: Runtime, { task, inputs, weights }: Job) {
  switch (task.kind) {
    case "matmul": {
      const { m, n, k } = task;
      return {
        model: matmulModel(m, n, k),
        feeds: { a: new Tensor("float32", inputs.a as Float32Array, [m, k]), b: new Tensor("float32", inputs.b as Float32Array, [k, n]) },
      };
    }
    case "attention": {
      const { length, heads, width } = task;
      const feed = (name: string) => [name, new Tensor("float32", inputs[name] as Float32Array, [length, heads * width])] as const;
      return { model: attentionModel(length, heads, width), feeds: Object.fromEntries(["q", "k", "v"].map(feed)) };
    }
    case "encode": {
      const [cells, length] = rectangle(who, task);
      return {
        model: encoderModel(task.config, cells, length, weightsOf(weights), fused),
        feeds: { tokens: new Tensor("int32", inputs.tokens as Int32Array, [cells, length]) },
      };
    }
    default:
      return refuse(who, task);
  }
}

/** geneformer-ts as a contender, on a device of its own. */

import { attention, matmul } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { huggingFaceName, modelFromSafetensors } from "../../geneformer/checkpoint.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { capture } from "../../src/capture.ts";
import { type DeviceName, type OpenOptions, open } from "../../src/device.ts";
import { index, segments, spansOf } from "../../src/stream.ts";
import { integers, type Tensor, tensor } from "../../src/tensor.ts";
import { COMPARED_STEPS, type Contender, DECAY, type Encode, type Job, normsOf, type Parts, RATE, type Train } from "./task.ts";

/** @param options of the device.   @throws Error where there is no such device. */
export async function openOurs(device: DeviceName, job: Job, options: OpenOptions = {}): Promise<Contender> {
  const { description } = await open(device, device === "cpu" ? { threads: job.threads } : options);
  return { description: `${device}: ${description}`, ...work(job) };
}

function work({ task, inputs, weights }: Job): Omit<Contender, "description"> {
  switch (task.kind) {
    case "matmul": {
      const [a, b] = [tensor(inputs.a, [task.m, task.k]), tensor(inputs.b, [task.k, task.n])];
      return single("y", () => matmul(a, b));
    }
    case "attention": {
      const [q, k, v] = ["q", "k", "v"].map((name) => tensor(inputs[name], [task.length, task.heads * task.width]));
      const whole = segments([task.length]);
      return single("y", () => attention(q, k, v, whole, task.heads));
    }
    case "encode": {
      const model = modelFromSafetensors(weights, task.config);
      const stream = streamOf(cells(inputs.tokens as Int32Array, task), task.config, { gradients: false });
      return single("y", () => model.encode(stream));
    }
    case "train": {
      const model = modelFromSafetensors(weights, task.config);
      const stream = streamOf(cells(inputs.tokens as Int32Array, task), task.config);
      const places = index(inputs.places, stream.segments.rows);
      const labels = integers(Uint32Array.from(inputs.labels));
      const named = [...parameters(model)];
      const wrt = named.map(([, t]) => t);
      const optimizer = new AdamW(named, { decay: DECAY });
      const gradients = () => valueAndGrad(() => model.loss(stream, places, labels), wrt);
      // recorded at the first step, replayed from then on: what pretraining does
      const step = capture(() => {
        const { value, grads } = gradients();
        optimizer.apply(grads);
        return value;
      });
      const run = () => {
        optimizer.advance(RATE);
        return step().item();
      };
      return {
        run: async () => void (await run()),
        async result() {
          const { grads } = gradients();
          const norms: Record<string, ArrayLike<number>> = {};
          for (const [i, [name]] of named.entries()) {
            norms[huggingFaceName(name)] = await grads[i].data();
            grads[i].free();
          }
          const losses: number[] = [];
          while (losses.length < COMPARED_STEPS) losses.push(await run());
          return { losses: Float32Array.from(losses), norms: normsOf(norms) };
        },
      };
    }
  }
}

/** What computes one tensor from what is there. */
function single(name: string, f: () => Tensor): Omit<Contender, "description"> {
  const once = async () => {
    const y = inference(f);
    const values = await y.data();
    y.free();
    return values;
  };
  return {
    async run() {
      await once();
    },
    result: async (): Promise<Parts> => ({ [name]: (await once()) as Float32Array }),
  };
}

const cells = (tokens: Int32Array, { lengths }: Encode | Train): Int32Array[] =>
  spansOf(lengths).map(([from, to]) => tokens.subarray(from, to));

/** geneformer-ts as a contender, on a device of its own. */

import { attention, matmul } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { huggingFaceName, modelFromSafetensors } from "../../geneformer/checkpoint.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { calibrate } from "../../src/calibrate.ts";
import { capture } from "../../src/capture.ts";
import { type DeviceName, type OpenOptions, open } from "../../src/device.ts";
import { needs } from "../../src/shapes.ts";
import { index, segments, spansOf } from "../../src/stream.ts";
import { integers, type Tensor, tensor } from "../../src/tensor.ts";
import { COMPARED_STEPS, type Contender, DECAY, type Encode, type Job, normsOf, type Parts, RATE, type Train } from "./task.ts";

/** How ours is opened. */
interface Ours extends Pick<OpenOptions, "precision" | "experimental"> {
  /** Find out first which kernels are fastest at what this work asks of them. */
  readonly calibrated?: boolean;
}

/** @throws Error where there is no such device. */
export async function openOurs(device: DeviceName, job: Job, { calibrated = false, ...options }: Ours = {}): Promise<Contender> {
  const on = await open(device, device === "cpu" ? { threads: job.threads } : options);
  const { program, ...rest } = work(job);
  if (calibrated) await calibrate(on, { problems: needs(program, on).problems });
  return { description: `${device}: ${on.description}`, ...rest };
}

/** The work, and what it runs on the device. */
interface Working extends Omit<Contender, "description"> {
  program(): unknown;
}

function work({ task, inputs, weights }: Job): Working {
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
        program: step,
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
function single(name: string, f: () => Tensor): Working {
  const once = async () => {
    const y = inference(f);
    const values = await y.data();
    y.free();
    return values;
  };
  return {
    program: () => inference(f),
    async run() {
      await once();
    },
    result: async (): Promise<Parts> => ({ [name]: (await once()) as Float32Array }),
  };
}

const cells = (tokens: Int32Array, { lengths }: Encode | Train): Int32Array[] =>
  spansOf(lengths).map(([from, to]) => tokens.subarray(from, to));

/** geneformer-ts as a contender, on a device of its own. */

import { attention, matmul } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { huggingFaceName, modelFromSafetensors } from "../../geneformer/checkpoint.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { perturb } from "../../geneformer/perturb/exact.ts";
import { editsOf, unitsOf } from "../../geneformer/perturb/plan.ts";
import { parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { calibrate } from "../../src/calibrate.ts";
import { capture } from "../../src/capture.ts";
import { type DeviceName, type OpenOptions, open } from "../../src/device.ts";
import { needs } from "../../src/shapes.ts";
import { index, segments, spansOf } from "../../src/stream.ts";
import { integers, type Tensor, tensor } from "../../src/tensor.ts";
import {
  COMPARED_STEPS,
  type Contender,
  DECAY,
  type Encode,
  type Inputs,
  type Job,
  normsOf,
  type Parts,
  type Perturb,
  RATE,
  type Train,
} from "./task.ts";

/** Of perturbed cells: what `perturb` takes on the command line. */
const TOKENS_PER_BATCH = 8192;

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
    case "perturb":
      return deletions(task, inputs, weights);
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

/** Delete each gene of each cell. */
function deletions(task: Perturb, inputs: Inputs, weights: Uint8Array): Working {
  const { config, mode } = task;
  const model = modelFromSafetensors(weights, config);
  const given = cells(inputs.tokens as Int32Array, task);
  const states = new Map(["start", "goal"].map((name, i) => [name, inputs.states.subarray(i * config.width, (i + 1) * config.width)]));
  const ends = { cls: mode === "cls", eos: false };
  const run = async (): Promise<Float32Array> => {
    const subjects = given.map((cell, row) => {
      const units = [...unitsOf(cell, ends, { type: "delete", genes: "all" })].slice(0, task.deletions);
      return { row, cell, edits: editsOf(cell, ends, units, config.length) };
    });
    const shifts: number[] = [];
    for await (const { effect } of perturb(model, subjects, { layer: -1, mode, ends, states, tokensPerBatch: TOKENS_PER_BATCH }))
      shifts.push(...effect);
    return Float32Array.from(shifts);
  };
  return {
    program: () => model.encode(streamOf(given, config, { gradients: false })),
    run: async () => void (await run()),
    result: async () => ({ shifts: await run() }),
  };
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

const cells = (tokens: Int32Array, { lengths }: Encode | Train | Perturb): Int32Array[] =>
  spansOf(lengths).map(([from, to]) => tokens.subarray(from, to));

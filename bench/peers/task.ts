/** What contenders are given and what they answer: the same numbers for all, as safetensors, and one interface to run them by. */

import type { Config } from "../../geneformer/config.ts";
import { floats, integers, readSafetensors, writeSafetensors } from "../../nn/safetensors.ts";

/** c = a b.   a [m, k], b [k, n] */
export interface Matmul {
  readonly kind: "matmul";
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Softmax(q k^T / sqrt(D)) v of one sequence.   q, k, v [length, H D] */
export interface Mix {
  readonly kind: "attention";
  readonly length: number;
  readonly heads: number;
  readonly width: number;
}

/** The hidden states of cells after the last layer, without a head. */
export interface Encode {
  readonly kind: "encode";
  readonly config: Config;
  /** Tokens of each cell. */
  readonly lengths: readonly number[];
}

/** A step of masked pretraining without dropout: forward, backward, AdamW (rate RATE, decay DECAY of all but biases and norms, no clipping). */
export interface Train {
  readonly kind: "train";
  readonly config: Config;
  readonly lengths: readonly number[];
}

/** Genes of every cell deleted, one at a time: how far each deletion shifts the cell to two states. A cell is, in the second last layer, the mean of its genes or its first place. */
export interface Perturb {
  readonly kind: "perturb";
  readonly config: Config;
  readonly lengths: readonly number[];
  /** Deletions in each cell: its first genes. */
  readonly deletions: number;
  /** `cls`: cells begin with <cls>, which stands for them and is not deleted. */
  readonly mode: "cell" | "cls";
}

export type Task = Matmul | Mix | Encode | Train | Perturb;

/** Settings of the optimizer, the same for everybody; the rest are PyTorch's defaults. */
export const RATE = 1e-4;
export const DECAY = 0.01;

/** Steps of training that are compared before any is timed. */
export const COMPARED_STEPS = 3;

/**
 * Tensors by name. Cells come as `tokens` and, for training, `places` and `labels`: the places in the stream that are asked for, and what stood there; for
 * perturbation with `states` [2, C].
 */
export type Inputs = Readonly<Record<string, Float32Array | Int32Array>>;
export type Parts = Readonly<Record<string, Float32Array>>;

/** A task with its numbers. */
export interface Job {
  readonly task: Task;
  readonly threads: number;
  readonly inputs: Inputs;
  /** A checkpoint as Hugging Face names it (model.safetensors); empty where the task has no model. */
  readonly weights: Uint8Array;
}

/** An implementation of a task, open and ready. */
export interface Contender {
  /** Version, back end, threads. */
  readonly description: string;
  /** Do the work once. It is done when its result lies in an array of the host's; of a step of training that is its loss. */
  run(): Promise<void>;
  /** What must be equal: the product or the hidden states; of training, the losses of the first steps and the norms of the first gradients. Asked for once, before any run. */
  result(): Promise<Parts>;
}

/** @throws Error when it cannot be loaded, or cannot do the task. */
export type Open = (job: Job) => Promise<Contender>;

/** The norms of gradients in the order of their Hugging Face names. */
export const normsOf = (grads: Readonly<Record<string, ArrayLike<number>>>): Float32Array =>
  Float32Array.from(Object.keys(grads).sort(), (name) => {
    let sum = 0;
    for (let i = 0; i < grads[name].length; i++) sum += grads[name][i] ** 2;
    return Math.sqrt(sum);
  });

/** @throws Error for a task that a contender has no program for. */
export function refuse(who: string, task: Task): never {
  throw new Error(`${who}: has no program for ${task.kind} here`);
}

/** The length of all cells of a task whose cells are equally long. @throws Error where they are not. */
export function rectangle(who: string, { lengths }: Encode | Train | Perturb): readonly [cells: number, length: number] {
  if (lengths.some((length) => length !== lengths[0])) throw new Error(`${who}: has no program for cells of unequal length here`);
  return [lengths.length, lengths[0]];
}

/** The weights of a checkpoint: name to shape and values, in the file's order. */
export const weightsOf = (file: Uint8Array): Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }> =>
  new Map([...readSafetensors(file, "weights").tensors].map(([name, t]) => [name, { shape: t.shape, data: floats(t, name) }]));

export const packInputs = (inputs: Inputs): Uint8Array =>
  writeSafetensors(
    Object.entries(inputs).map(([name, data]) => [name, { shape: [data.length], data, dtype: data instanceof Int32Array ? "I32" : "F32" }]),
  );

export const unpackInputs = (file: Uint8Array): Inputs =>
  Object.fromEntries(
    [...readSafetensors(file, "inputs").tensors].map(([name, t]) => [
      name,
      t.dtype === "I32" ? (integers(t, name) as Int32Array) : floats(t, name),
    ]),
  );

/** Requests to a process or page that holds a contender, and its answers: one line of JSON each. */
export type Request =
  | { readonly do: "open"; readonly folder: string; readonly opener: string; readonly threads: number }
  | { readonly do: "result"; readonly to: string }
  | { readonly do: "time"; readonly runs: number; readonly warm: boolean };
export interface Reply {
  readonly description?: string;
  /** Milliseconds of each run. */
  readonly times?: readonly number[];
  readonly error?: string;
}

/** Time runs one by one, after one that does not count where the caches are cold. */
export async function timed({ run }: Contender, runs: number, warm: boolean): Promise<number[]> {
  if (warm) await run();
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const before = performance.now();
    await run();
    times.push(performance.now() - before);
  }
  return times;
}

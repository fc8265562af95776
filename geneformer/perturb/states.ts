/** States of cells as points: the mean embedding of the cells that a label calls by one name. */

import { floats, isFloat, readSafetensors, writeSafetensors } from "../../nn/safetensors.ts";
import { show } from "../../src/shape.ts";
import type { Dataset } from "../data/dataset.ts";
import { embed } from "../embed.ts";
import { readFile, readJson, type WriteOptions, writeWhole } from "../files.ts";
import type { Geneformer } from "../model.ts";
import type { Measure } from "./exact.ts";
import { openTensors } from "./tensors.ts";

export interface StateOptions extends Pick<Measure, "layer" | "mode" | "ends" | "tokensPerBatch"> {
  /** Cells of a state, at most: the first ones. Default all. */
  readonly maxCells?: number;
  readonly onProgress?: (cells: number) => void;
}

/** The rows whose value in a column is this word. @throws Error where there is none, with the values that there are. */
export function rowsOf(dataset: Dataset, column: string, value: string): number[] {
  const values = dataset.column(column);
  const rows = [...values.keys()].filter((row) => String(values[row]) === value);
  if (rows.length > 0) return rows;
  const known = [...new Set(values.map(String))].slice(0, 20);
  throw new Error(
    `states: no cell of "${dataset.directory}" has ${column} "${value}"; there are ${known.map((word) => `"${word}"`).join(", ")}`,
  );
}

/** The mean embedding of each state's cells (upstream's get_state_embs with exact_mean).   -> [C] by name */
export async function stateEmbeddings(
  model: Geneformer,
  dataset: Dataset,
  column: string,
  states: readonly string[],
  { maxCells = Number.POSITIVE_INFINITY, onProgress, ...options }: StateOptions,
): Promise<Map<string, Float32Array>> {
  const { width } = model.config;
  const made = new Map<string, Float32Array>();
  const chosen = states.map((state) => [state, rowsOf(dataset, column, state).slice(0, maxCells)] as const);
  let done = 0;
  for (const [state, rows] of chosen) {
    const before = done;
    const vectors = await embed(
      model,
      rows.map((row) => dataset.tokens(row)),
      { ...options, onProgress: (cells) => onProgress?.(before + cells) },
    );
    const sums = new Float64Array(width);
    for (let i = 0; i < vectors.length; i++) sums[i % width] += vectors[i];
    made.set(
      state,
      Float32Array.from(sums, (sum) => sum / rows.length),
    );
    done += rows.length;
  }
  return made;
}

/** Keep states in a file: .safetensors, a tensor [C] for each. */
export async function writeStates(path: string, states: ReadonlyMap<string, Float32Array>, options?: WriteOptions): Promise<void> {
  const tensors = new Map([...states].map(([name, data]) => [name, { dtype: "F32" as const, shape: [data.length], data }]));
  await writeWhole(path, writeSafetensors(tensors), options);
}

/** Endings of what Python keeps tensors in. */
const PICKLES = [".pkl", ".pickle", ".pt", ".pth"];

/**
 * Read states: .safetensors with a tensor [C] each; .json with a list of numbers each; .pkl or .pickle, the dict of tensors [C] or [1, C] that the original's
 * get_state_embs leaves; .pt or .pth, such a dict as torch.save writes it. Tensors may be of any float dtype and may have been on a GPU.
 * @param width C of the model that they are for.
 * @throws Error for a state of another width, or with a number that is none.
 */
export async function readStates(path: string, width: number): Promise<Map<string, Float32Array>> {
  const pickled = PICKLES.some((ending) => path.endsWith(ending));
  const states = path.endsWith(".json") ? fromJson(await readJson(path), path) : await (pickled ? fromPickle : fromSafetensors)(path);
  if (states.size === 0) throw new Error(`states: "${path}" holds none`);
  for (const [name, vector] of states) {
    if (vector.length !== width)
      throw new Error(
        `states: "${name}" of "${path}" has ${vector.length} numbers, but the model is ${width} wide; compute states with the same model`,
      );
    if (!vector.every(Number.isFinite)) throw new Error(`states: "${name}" of "${path}" holds what is no finite number`);
  }
  return states;
}

async function fromSafetensors(path: string): Promise<Map<string, Float32Array>> {
  const { tensors } = readSafetensors(await readFile(path), path);
  return new Map([...tensors].map(([name, tensor]) => [name, Float32Array.from(floats(tensor, name))]));
}

async function fromPickle(path: string): Promise<Map<string, Float32Array>> {
  const read = new Map<string, Float32Array>();
  try {
    for (const [name, tensor] of await openTensors(await readFile(path), path)) {
      if (tensor.shape.filter((length) => length !== 1).length > 1)
        throw new Error(`"${name}" is ${show(tensor.shape)}; a state is [C] or [1, C]`);
      const values = await tensor.read();
      if (!isFloat(values.dtype)) throw new Error(`"${name}" is of ${values.dtype}; a state is of floats`);
      read.set(name, Float32Array.from(floats(values, name)));
    }
  } catch (cause) {
    throw new Error(`states: "${path}": ${(cause as Error).message}`, { cause });
  }
  return read;
}

function fromJson(json: unknown, path: string): Map<string, Float32Array> {
  const entries = Object.entries((json ?? {}) as Record<string, unknown>);
  const wrong = entries.find(([, list]) => !(Array.isArray(list) && list.every((value) => typeof value === "number")));
  if (typeof json !== "object" || Array.isArray(json) || wrong)
    throw new Error(`states: "${path}" must be {"state": [numbers, ...], ...}${wrong ? `; "${wrong[0]}" is no list of numbers` : ""}`);
  return new Map(entries.map(([name, list]) => [name, Float32Array.from(list as number[])]));
}

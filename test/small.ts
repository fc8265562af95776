/** A small Geneformer and cells for it: what the tests of models and of memory run. */

import type { StepKey } from "../autograd/stepkey.ts";
import { valueAndGrad } from "../autograd/tape.ts";
import type { Config } from "../geneformer/config.ts";
import { streamOf } from "../geneformer/data/batches.ts";
import type { Geneformer } from "../geneformer/model.ts";
import { IGNORED } from "../kernels/loss.ts";
import { parameters } from "../nn/module.ts";
import { Key } from "../src/key.ts";
import { index } from "../src/stream.ts";
import { integers, scoped, type Tensor, tensor } from "../src/tensor.ts";

export const config: Config = {
  vocabulary: 40,
  width: 32,
  layers: 2,
  heads: 2,
  inner: 48,
  length: 64,
  activation: "relu",
  dropout: 0.1,
  attentionDropout: 0.1,
  eps: 1e-12,
  deviation: 0.3, // large, so that no gradient is lost in rounding
};

/** A cell with labels at some of its places. */
export interface Asked {
  readonly tokens: readonly number[];
  readonly places: readonly number[];
  readonly labels: readonly number[];
}

/** Cells of the given lengths; every third place is asked for. */
export const cellsOf = (lengths: readonly number[], seed = 1): Asked[] =>
  lengths.map((length, cell) => {
    const draws = Key.from(seed)
      .fold(cell)
      .uniforms(2 * length);
    const tokens = Array.from({ length }, (_, i) => 1 + Math.floor(draws[i] * (config.vocabulary - 1)));
    const places = tokens.map((_, i) => i).filter((i) => i % 3 === 1);
    return { tokens, places, labels: places.map((i) => Math.floor(draws[length + i] * config.vocabulary)) };
  });

export interface Capacity {
  readonly tokens: number;
  readonly cells: number;
  readonly places: number;
}

/** What a loss is computed from: the cells packed, the places asked for, and their labels; beyond the counts, dead. */
export function packed(cells: readonly Asked[], capacity?: Capacity) {
  const stream = streamOf(
    cells.map(({ tokens }) => tokens),
    config,
    { capacity },
  );
  let start = 0;
  const places: number[] = [];
  const labels: number[] = [];
  for (const cell of cells) {
    places.push(...cell.places.map((place) => start + place));
    labels.push(...cell.labels);
    start += cell.tokens.length;
  }
  const count = places.length;
  const most = capacity?.places ?? count;
  const fill = (values: number[], value: number) => [...values, ...new Array<number>(most - count).fill(value)];
  return { stream, places: index(fill(places, 0), stream.segments.rows, { count }), labels: integers(fill(labels, IGNORED)), count };
}

export interface Outcome {
  readonly loss: number;
  /** By parameter. */
  readonly grads: ReadonlyMap<string, Float64Array>;
}

/** Loss and gradients of a model for cells; `count` divides by so many places in all. */
export async function outcome(
  model: Geneformer,
  cells: readonly Asked[],
  { capacity, count, key = null }: { capacity?: Capacity; count?: number; key?: StepKey | null } = {},
): Promise<Outcome> {
  const named = [...parameters(model)];
  const made = scoped(() => {
    const { stream, places, labels } = packed(cells, capacity);
    const pass = { key, ...(count && { count: tensor([count]) }) };
    return valueAndGrad(
      () => model.loss(stream, places, labels, pass),
      named.map(([, t]) => t),
    );
  });
  const read = async (t: Tensor) => {
    const values = Float64Array.from(await t.data());
    t.free();
    return values;
  };
  const [loss] = await read(made.value);
  const grads = new Map<string, Float64Array>();
  for (const [i, [name]] of named.entries()) grads.set(name, await read(made.grads[i]));
  return { loss, grads };
}

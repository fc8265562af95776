/**
 * All perturbations of a cell from one forward and one backward pass, to first order: which ones are worth an exact look.
 *
 * What a perturbation does to a cell's input is made of three things that have derivatives. A gene that goes: its gate, which multiplies exp(score) wherever
 * it is looked at and its weight in the mean, falls from 1 to 0. A gene that comes: a probe, a token with gate 0 at its new rank, which sees the cell
 * and is seen by nobody, gets gate 1. Genes that move by d ranks: their position embedding goes from P[j] to P[j + d]. For a function f of the cell
 *
 *     f(edited) - f  =  sum over probes of df/dgate  -  sum over genes that go of df/dgate  +  sum over genes that move of df/dp[j] . (P[j + d] - P[j])
 *
 * Trained models have smooth positions, neighbouring ranks meaning nearly the same; where they do not, gradients are averaged over points of the way that most
 * genes go, all at once, from P[j] to P[j + 1] or P[j - 1].
 */

import { cosine, div, gather, mul, reshape, segmentSum, sum } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { index, segments } from "../../src/stream.ts";
import { type Tensor, tensor } from "../../src/tensor.ts";
import { batchesOf } from "../embed.ts";
import { type Geneformer, hiddenOf, type Stream } from "../model.ts";
import { type Edit, genesOf, NEW } from "./edit.ts";
import { checkMeasure, type Measure, type Outcome, type Subject } from "./exact.ts";

export interface ScreenOptions {
  /** Points on the way between ranks that gradients are averaged over. Default 1, which is half of it. */
  readonly points?: number;
}

/** A probe's gate: as near to 0 as leaves its gradient whole, e^-20. */
const ALMOST_NOTHING = Math.exp(-20);

/** A cell with the probes that its edits need. */
interface Probed {
  readonly row: number;
  readonly cell: readonly number[];
  readonly edits: readonly Edit[];
  /** Token and rank of each probe. */
  readonly probes: readonly (readonly [token: number, place: number])[];
  /** For each edit its probes, by number. */
  readonly arrivals: readonly (readonly number[])[];
}

/** Did this place of the edited cell come from elsewhere than by closing up? */
const arrives = ({ from, perturbed }: Edit, place: number): boolean => from[place] === NEW || perturbed.has(from[place]);

function probed({ row, cell, edits }: Subject): Probed {
  const numbers = new Map<string, number>();
  const probes: [number, number][] = [];
  const all = [...edits];
  const arrivals = all.map((edit) =>
    [...edit.from.keys()]
      .filter((place) => arrives(edit, place))
      .map((place) => {
        const name = `${edit.tokens[place]} ${place}`;
        const number = numbers.get(name) ?? probes.push([edit.tokens[place], place]) - 1;
        numbers.set(name, number);
        return number;
      }),
  );
  return { row, cell: Array.from(cell), edits: all, probes, arrivals };
}

/** The way most genes of a cell go when it is edited: up a rank (-1) or down (1). */
function wayOf(edits: readonly Edit[]): -1 | 1 {
  let sum = 0;
  for (const { from } of edits) {
    const middle = from.length >> 1;
    if (from[middle] !== NEW) sum += Math.sign(middle - from[middle]);
  }
  return sum > 0 ? 1 : -1;
}

/** Gradients of one batch, averaged over the points: by gate [N], by position embedding [N, C]. */
interface Gradients {
  readonly gate: Float64Array;
  readonly places: Float64Array;
}

/**
 * Estimate what `perturb` would say of perturbations, with states: in the same order, as shifts to each state. The cost is some three forward passes of the cells
 * and their probes for each state and point, whatever the number of edits; estimates rank edits, and are calibrated by exact ones.
 * @throws RangeError as `perturb` does; Error without states.
 */
export async function* screen(
  model: Geneformer,
  subjects: Iterable<Subject>,
  measure: Measure,
  { points = 1 }: ScreenOptions = {},
): AsyncGenerator<Outcome, void, undefined> {
  const { config } = model;
  const { states = new Map<string, ArrayLike<number>>(), tokensPerBatch } = measure;
  checkMeasure(model, measure);
  if (states.size === 0) throw new Error("screen: shifts to states are screened; give states, or perturb exactly");
  if (!(Number.isInteger(points) && points > 0)) throw new RangeError(`screen: points must be a positive integer; got ${points}`);
  const table = await model.embeddings.position.weight.data();

  function* cells(): Generator<Probed> {
    for (const subject of subjects) yield probed(subject);
  }
  for (const batch of batchesOf(cells(), tokensPerBatch, ({ cell, probes }) => cell.length + probes.length)) {
    const gradients: Gradients[] = [];
    for (const state of states.values()) gradients.push(await gradientsOf(model, batch, measure, state, table, points));
    let at = 0;
    for (const { row, cell, edits, probes, arrivals } of batch) {
      const estimates = gradients.map((each) => estimator(each, at, cell.length, table, config.width));
      for (const [i, edit] of edits.entries()) yield { row, edit, effect: estimates.map((estimate) => estimate(edit, arrivals[i])) };
      at += cell.length + probes.length;
    }
  }
}

/** Derivatives of the sum of all cells' cosines to a state. */
async function gradientsOf(
  model: Geneformer,
  batch: readonly Probed[],
  { layer, mode, ends }: Measure,
  state: ArrayLike<number>,
  table: ArrayLike<number>,
  points: number,
): Promise<Gradients> {
  const { config } = model;
  const { width } = config;
  const lengths = batch.map(({ cell, probes }) => cell.length + probes.length);
  const rows = lengths.reduce((a, b) => a + b, 0);
  const gates = new Float32Array(rows).fill(ALMOST_NOTHING);
  // What a place counts in the mean: special tokens nothing.
  const counts = new Float32Array(rows).fill(1);
  const [from, to] = [new Float32Array(rows * width), new Float32Array(rows * width)];
  const firsts: number[] = [];
  let at = 0;
  const way = wayOf(batch.flatMap(({ edits }) => edits));
  const places: number[] = [];
  for (const { cell, probes } of batch) {
    firsts.push(at);
    const [first, end] = genesOf(cell.length, ends);
    for (let i = 0; i < cell.length + probes.length; i++, at++) {
      const inCell = i < cell.length;
      const place = inCell ? i : probes[i - cell.length][1];
      places.push(place);
      if (inCell) gates[at] = 1;
      if (inCell && (i < first || i >= end)) counts[at] = 0;
      const next = inCell && i >= first ? Math.min(Math.max(place + way, first), config.length - 1) : place;
      for (let c = 0; c < width; c++) {
        from[at * width + c] = table[place * width + c];
        to[at * width + c] = table[next * width + c];
      }
    }
  }
  const gate = new Float64Array(rows);
  const positions = new Float64Array(rows * width);
  for (let point = 0; point < points; point++) {
    const share = (point + 0.5) / points;
    const between = from.map((value, i) => value + share * (to[i] - value));
    const { value, grads } = inference(() => {
      const given = [tensor(gates, [rows]), tensor(between, [rows, width])] as const;
      const stream = probedStream(batch, places, model);
      return valueAndGrad(() => {
        const x = model.encode(stream, { layers: hiddenOf(config, layer), gate: given[0], places: given[1] });
        const vectors = mode === "cls" ? gather(x, index(firsts, rows)) : weighted(x, mul(given[0], tensor(counts, [rows])), stream);
        const goal = tensor(
          batch.flatMap(() => Array.from(state)),
          [batch.length, width],
        );
        return sum(cosine(vectors, goal));
      }, given);
    });
    const [dGate, dPlaces] = await Promise.all(grads.map((grad) => grad.data()));
    for (const made of [value, ...grads]) made.free();
    for (let i = 0; i < rows; i++) gate[i] += dGate[i] / points;
    for (let i = 0; i < positions.length; i++) positions[i] += dPlaces[i] / points;
  }
  return { gate, places: positions };
}

/** The cells, each with its probes behind it. */
function probedStream(batch: readonly Probed[], places: readonly number[], { config }: Geneformer): Stream {
  const tokens = batch.flatMap(({ cell, probes }) => [...cell, ...probes.map(([token]) => token)]);
  return {
    tokens: index(tokens, config.vocabulary, { gradients: false }),
    positions: index(places, config.length, { gradients: false }),
    segments: segments(batch.map(({ cell, probes }) => cell.length + probes.length)),
  };
}

/** The mean of each cell's rows, each as much as it counts.   x [N, C], counts [N] -> [B, C] */
function weighted(x: Tensor, counts: Tensor, { segments }: Stream): Tensor {
  const column = reshape(counts, [counts.shape[0], 1]);
  return div(segmentSum(mul(x, column), segments), segmentSum(column, segments));
}

/** What an edit of one cell changes, to first order.   @param at where the cell begins in the batch. */
function estimator({ gate, places }: Gradients, at: number, length: number, table: ArrayLike<number>, width: number) {
  const moved = new Map<number, Float64Array>();
  /** For each gene of the cell, what it changes when it moves by d ranks. */
  const by = (d: number): Float64Array => {
    const known = moved.get(d);
    if (known) return known;
    const changes = Float64Array.from({ length }, (_, place) => {
      const [row, old, next] = [(at + place) * width, place * width, (place + d) * width];
      if (next < 0 || next >= table.length) return 0;
      let change = 0;
      for (let c = 0; c < width; c++) change += places[row + c] * (table[next + c] - table[old + c]);
      return change;
    });
    moved.set(d, changes);
    return changes;
  };
  return (edit: Edit, arrivals: readonly number[]): number => {
    let change = 0;
    for (const place of edit.perturbed) if (place !== NEW) change -= gate[at + place];
    for (const probe of arrivals) change += gate[at + length + probe];
    for (const [place, before] of edit.from.entries()) if (before !== place && !arrives(edit, place)) change += by(place - before)[before];
    return change;
  };
}

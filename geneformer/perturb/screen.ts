/**
 * All perturbations of a cell from one forward pass and a few ways back, to first order: which ones are worth an exact look.
 *
 * What a perturbation does to a cell's input is made of three things that have derivatives. A gene that goes: its gate, which multiplies exp(score) wherever
 * it is looked at and its weight in the mean, falls from 1 to 0. A gene that comes: a probe, a token with gate 0 at its new rank, which sees the cell
 * and is seen by nobody, gets gate 1. Genes that move by d ranks: their position embedding goes from P[j] to P[j + d]. For a function f of the cell
 *
 *     f(edited) - f  =  sum over probes of df/dgate  -  sum over genes that go of df/dgate  +  sum over genes that move of df/dp[j] . (P[j + d] - P[j])
 *
 * Trained models have smooth positions, neighbouring ranks meaning nearly the same; where they do not, gradients are averaged over points of the way that most
 * genes go, all at once, from P[j] to P[j + 1] or P[j - 1], and what moving genes do is drawn to what it does exactly at some edits (knots.ts).
 *
 * With states f is a cosine to each. Without, the cosine of a vector e with itself is flat at the cell, and what remains is of second order:
 * 1 - cos = |d|^2 / 2|e|^2, d what e changes by across its own direction. Random signs u, made orthogonal to e, give |d|^2 as the mean of (u . d)^2
 * (Hutchinson 1990): f = u . e / |e|, one way back for each u, all genes' vectors at once where each gene's cosine counts.
 */

import { ahead } from "../../src/capture.ts";
import { Key } from "../../src/key.ts";
import { batchesOf } from "../embed.ts";
import type { Geneformer } from "../model.ts";
import { genesOf, NEW } from "./edit.ts";
import { checkMeasure, cosineOf, type Estimate, type Measure, type Subject } from "./exact.ts";
import { errorsOf, type Moves, passKnots } from "./knots.ts";
import { type Probe, type Probed, probedPass, type Slopes, type Target } from "./probes.ts";

/** How finely screening follows the ranks: what smooth positions need, and what rough ones do, where most of the strongest genes were found with it (bench/LOG.md). */
export const [PLAIN, FINE] = [
  { points: 1, knots: 0 },
  { points: 2, knots: 8 },
] as const satisfies readonly ScreenOptions[];

export interface ScreenOptions {
  /** Points on the way between ranks that gradients are averaged over. Default 1, which is half of it. */
  readonly points?: number;
  /** About how many edits of each cell have what their genes do that move passed exactly: at least one for each rank that genes come to. Default 0: none. */
  readonly knots?: number;
  /** Without states: random directions that a cell's motion is projected on. Default 16. */
  readonly directions?: number;
  /** What the directions are drawn from. Default 0. */
  readonly seed?: number;
}

/** What of an edit has derivatives. */
interface Sketch extends Moves {
  readonly edit: Estimate["edit"];
  /** Places whose genes go. */
  readonly gone: readonly number[];
  /** Probes that stand for what comes, by number. */
  readonly arrivals: readonly number[];
}

/** A cell with its edits, or some of them, and the probes that they need. */
interface Part extends Probed {
  readonly row: number;
  readonly sketches: readonly Sketch[];
  /** Ranks that genes move by in all edits, added up: above 0 where most go down. */
  readonly way: number;
}

/** The edits of a cell, cut where they need more probes than a batch has room for. */
function* partsOf({ row, cell, edits }: Subject, tokensPerBatch: number): Generator<Part> {
  const room = Math.max(tokensPerBatch - cell.length, cell.length);
  const tokens = Array.from(cell);
  let [numbers, probes, sketches, way]: [Map<string, number>, Probe[], Sketch[], number] = [new Map(), [], [], 0];
  for (const { genes, perturbed, runs } of edits) {
    const arrivals: number[] = [];
    const moved: [number, number, number][] = [];
    const gone = new Set(perturbed);
    gone.delete(NEW);
    let place = 0;
    for (const { from, count, token } of runs) {
      if (from === place)
        gone.delete(from); // it stands where it stood: slopes of going and of coming would not quite cancel
      else if (token !== undefined) {
        const name = `${token} ${place}`;
        const number = numbers.get(name) ?? probes.push([token, place]) - 1;
        numbers.set(name, number);
        arrivals.push(number);
      } else {
        moved.push([from, from + count, place - from]);
        way += count * (place - from);
      }
      place += count;
    }
    sketches.push({ edit: { genes, perturbed }, gone: [...gone], arrivals, moved, ranks: arrivals.map((probe) => probes[probe][1]) });
    if (probes.length < room) continue;
    yield { row, cell: tokens, probes, sketches, way };
    [numbers, probes, sketches, way] = [new Map(), [], [], 0];
  }
  if (sketches.length > 0) yield { row, cell: tokens, probes, sketches, way };
}

/** Functions of cells that are derived. */
interface Functions {
  readonly target: Target;
  readonly count: number;
  /** The gradient of function k by the batch's vectors.   value [rows, C] -> [rows, C] */
  seeds(k: number, value: ArrayLike<number>, batch: readonly Part[]): Float32Array;
  /** What function k of a cell changes by where its value becomes each of some others. */
  changes(k: number, value: ArrayLike<number>, others: readonly ArrayLike<number>[], part: Part): number[];
  /** What an edit does, from what it changes each function by. */
  effect(changes: readonly number[], sketch: Sketch, part: Part): number[];
}

/** What edits change a function by, to first order: what comes and goes, and what moves. */
interface Changes {
  readonly gates: Float64Array;
  readonly moves: Float64Array;
}

/**
 * Estimate what `perturb` would say of perturbations: in the same order, as shifts to each state, or as cosines. The cost, whatever the number of edits, is for
 * each point a forward pass of the cells and their probes, and a way back of the cells for each state or direction; then, where there are knots, a forward pass of
 * the cell for each and one more. A cell with more probes than a batch has room for is cut, and each part costs as much. Estimates rank edits; exact passes
 * calibrate them.
 * @throws RangeError as `perturb` does, and for points or directions that are no positive integers, or knots no integer from 0.
 */
export async function* screen(
  model: Geneformer,
  subjects: Iterable<Subject>,
  measure: Measure,
  { points = 1, knots = 0, directions = 16, seed = 0 }: ScreenOptions = {},
): AsyncGenerator<Estimate, void, undefined> {
  const { tokensPerBatch, ends, states } = measure;
  const layers = checkMeasure(model, measure);
  for (const [name, value] of Object.entries({ points, directions }))
    if (!(Number.isInteger(value) && value > 0)) throw new RangeError(`screen: ${name} must be a positive integer; got ${value}`);
  if (!(Number.isInteger(knots) && knots >= 0)) throw new RangeError(`screen: knots must be an integer from 0; got ${knots}`);
  const table = await model.embeddings.position.weight.data();
  const functions = states && states.size > 0 ? toStates(measure) : along(measure, directions, Key.from(seed));

  function* parts(): Generator<Part> {
    for (const subject of subjects) yield* partsOf(subject, tokensPerBatch);
  }
  for (const batch of batchesOf(parts(), tokensPerBatch, ({ cell, probes }) => cell.length + probes.length)) {
    const total = batch.reduce((sum, { sketches }) => sum + sketches.length, 0);
    const changes = Array.from({ length: functions.count }, (): Changes => ({ gates: new Float64Array(total), moves: new Float64Array(total) })); // biome-ignore format: one line
    for (let point = 0; point < points; point++) {
      const places = between(batch, model, table, (point + 0.5) / points, ends);
      const { value, pull, free } = probedPass(model, batch, places, { layers, target: functions.target, ends });
      try {
        const vectors = await value.data();
        function* ways() {
          for (let k = 0; k < functions.count; k++) yield pull(functions.seeds(k, vectors, batch));
        }
        let k = 0;
        for await (const slopes of ahead(ways())) changesOf(batch, slopes, table, model.config.width, 1 / points, changes[k++]);
      } finally {
        free();
      }
    }
    if (knots > 0) await drawToKnots(model, batch, knots, functions, measure, changes);
    let i = 0;
    for (const part of batch)
      for (const sketch of part.sketches) {
        const own = changes.map(({ gates, moves }) => gates[i] + moves[i]);
        yield { row: part.row, edit: sketch.edit, effect: functions.effect(own, sketch, part) };
        i++;
      }
  }
}

/** Bring what moving genes are estimated to change to what they do at knots. */
async function drawToKnots(
  model: Geneformer,
  batch: readonly Part[],
  count: number,
  functions: Functions,
  measure: Measure,
  changes: readonly Changes[],
): Promise<void> {
  let at = 0;
  for await (const { part, knots, value, values } of passKnots(model, batch, count, functions.target, measure)) {
    const { sketches } = part;
    for (const [k, { moves }] of changes.entries()) {
      const estimates = moves.subarray(at, at + sketches.length);
      const exact = functions.changes(k, value, values, part);
      const errors = errorsOf(sketches, estimates, new Map(knots.map((edit, i) => [edit, exact[i]])));
      for (let i = 0; i < sketches.length; i++) estimates[i] += errors[i];
    }
    at += sketches.length;
  }
}

/** Position embeddings a share of the way to where most genes of each cell go: up a rank, or down. */
function between(batch: readonly Part[], { config }: Geneformer, table: ArrayLike<number>, share: number, ends: Measure["ends"]) {
  const { width, length } = config;
  const places = new Float32Array(batch.reduce((sum, { cell }) => sum + cell.length, 0) * width);
  let at = 0;
  for (const { cell, way } of batch) {
    const [first, end] = genesOf(cell.length, ends);
    const step = way > 0 ? 1 : -1;
    for (let place = 0; place < cell.length; place++) {
      const next = place >= first && place < end ? Math.min(Math.max(place + step, first), length - 1) : place;
      for (let c = 0; c < width; c++) {
        const here = table[place * width + c];
        places[at++] = here + share * (table[next * width + c] - here);
      }
    }
  }
  return places;
}

/** Add what each edit of a batch changes a function by, times a share, to what is known of it. */
function changesOf(batch: readonly Part[], slopes: Slopes, table: ArrayLike<number>, width: number, share: number, changes: Changes): void {
  let [rows, first, i] = [0, 0, 0]; // of places, of probes, of edits
  for (const { cell, probes, sketches } of batch) {
    /** Of genes that all move by d ranks: what those before each place change, summed up. */
    const sumsOf = new Map<number, Float64Array>();
    const upTo = (d: number): Float64Array => {
      const known = sumsOf.get(d);
      if (known) return known;
      const running = new Float64Array(cell.length + 1);
      for (let place = 0; place < cell.length; place++) {
        const [row, old, next] = [(rows + place) * width, place * width, (place + d) * width];
        let change = 0;
        if (next >= 0 && next < table.length)
          for (let c = 0; c < width; c++) change += slopes.places[row + c] * (table[next + c] - table[old + c]);
        running[place + 1] = running[place] + change;
      }
      sumsOf.set(d, running);
      return running;
    };
    for (const { gone, arrivals, moved } of sketches) {
      let [open, move] = [0, 0];
      for (const place of gone) open -= slopes.gates[rows + place];
      for (const probe of arrivals) open += slopes.coming[first + probe];
      for (const [from, to, d] of moved) move += upTo(d)[to] - upTo(d)[from];
      changes.gates[i] += share * open;
      changes.moves[i++] += share * move;
    }
    rows += cell.length;
    first += probes.length;
  }
}

const norm = (x: Float64Array): number => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
const rowOf = (all: ArrayLike<number>, i: number, width: number): Float64Array =>
  Float64Array.from({ length: width }, (_, c) => all[i * width + c]);

/** Cosines to each state.   d cos(e, s) / de = (s / |s| - cos e / |e|) / |e| */
function toStates({ states = new Map(), mode }: Measure): Functions {
  const goals = [...states.values()].map((state) => Float64Array.from(state as ArrayLike<number>));
  return {
    target: mode,
    count: goals.length,
    seeds(k, value, batch) {
      const goal = goals[k];
      const [width, length] = [goal.length, norm(goal)];
      const seeds = new Float32Array(batch.length * width);
      for (let b = 0; b < batch.length; b++) {
        const e = rowOf(value, b, width);
        const [cosine, own] = [cosineOf(e, goal), norm(e)];
        for (let c = 0; c < width; c++) seeds[b * width + c] = (goal[c] / length - (cosine * e[c]) / own) / own;
      }
      return seeds;
    },
    changes(k, value, others) {
      const before = cosineOf(value, goals[k]);
      return others.map((other) => cosineOf(other, goals[k]) - before);
    },
    effect: (changes) => [...changes],
  };
}

/** Motions across the vectors' own directions: of <cls>, or of each gene, along random signs. */
function along({ mode, ends }: Measure, directions: number, key: Key): Functions {
  const seedsOf: Functions["seeds"] = (k, value, batch) => {
    const rows = mode === "cls" ? batch.length : batch.reduce((sum, { cell }) => sum + cell.length, 0);
    const width = value.length / rows;
    const seeds = new Float32Array(value.length);
    let row = 0;
    for (const { row: name, cell } of batch) {
      const [first, end] = mode === "cls" ? [0, 1] : genesOf(cell.length, ends);
      // A cell's directions are its own, whatever batch and part of its edits it is in.
      const draws = key
        .fold(name)
        .fold(k)
        .uniforms(end * width);
      for (let i = first; i < end; i++) {
        const e = rowOf(value, row + i, width);
        const signs = Float64Array.from(e, (_, c) => (draws[i * width + c] < 0.5 ? -1 : 1));
        const own = norm(e);
        const share = signs.reduce((sum, sign, c) => sum + sign * e[c], 0) / own ** 2;
        for (let c = 0; c < width; c++) seeds[(row + i) * width + c] = (signs[c] - share * e[c]) / own;
      }
      row += mode === "cls" ? 1 : cell.length;
    }
    return seeds;
  };
  return {
    target: mode === "cls" ? "cls" : "rows",
    count: directions,
    seeds: seedsOf,
    changes(k, value, others, part) {
      const seeds = seedsOf(k, value, [part]);
      return others.map((other) => {
        let change = 0;
        for (let i = 0; i < seeds.length; i++) change += seeds[i] * (other[i] - value[i]);
        return change;
      });
    },
    effect(changes, { gone }, { cell }) {
      const [first, end] = genesOf(cell.length, ends);
      const vectors = mode === "cls" ? 1 : end - first - gone.length;
      const square = changes.reduce((sum, change) => sum + change * change, 0) / changes.length;
      return [Math.max(-1, 1 - square / (2 * vectors))];
    },
  };
}

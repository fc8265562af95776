/**
 * Genes that close up or make room, exactly at a few edits of a cell, and what estimates of the others are off by between those.
 *
 * What m genes do that move by a rank is estimated as m slopes, added up. Where positions are rough each is a little off, and their sum is most of what screening gets
 * wrong (bench/LOG.md). Exactly it is one pass of the cell with nothing but those genes' positions changed. Edits of one gene each that put it at the same rank
 * differ in m alone: so a few of them, the knots, are passed, and from knot to knot, the first of them 0 genes moved, the error is taken for a straight line.
 * Of other edits the ranks by which genes move, added up, stand for m.
 */

import { inference } from "../../autograd/tape.ts";
import { ahead } from "../../src/capture.ts";
import { spansOf } from "../../src/stream.ts";
import { batchesOf } from "../embed.ts";
import type { Geneformer } from "../model.ts";
import { checkMeasure, type Measure, vectorsOf } from "./exact.ts";
import { type Probe, streamAt, type Target } from "./probes.ts";

/** What of an edit moves. */
export interface Moves {
  /** Genes of places from ... to - 1 move by so many ranks. */
  readonly moved: readonly (readonly [from: number, to: number, by: number])[];
  /** Ranks of what comes. */
  readonly ranks: readonly number[];
}

/** How far all genes move, added up. */
const distanceOf = ({ moved }: Moves): number => moved.reduce((sum, [from, to, by]) => sum + (to - from) * Math.abs(by), 0);

/** Numbers of the edits that put what comes at the same ranks, family by family, those that move least first. */
function familiesOf(edits: readonly Moves[]): number[][] {
  const families = new Map<string, number[]>();
  for (const [i, { ranks }] of edits.entries()) {
    const name = ranks.join(" ");
    const family = families.get(name);
    if (family) family.push(i);
    else families.set(name, [i]);
  }
  const distances = edits.map(distanceOf);
  return [...families.values()].map((family) => family.sort((a, b) => distances[a] - distances[b]));
}

/** Which edits are passed: of each family its share of `count`, at least one, evenly spaced and its farthest among them; none that moves nothing. */
export function knotsOf(edits: readonly Moves[], count: number): number[] {
  return familiesOf(edits).flatMap((family) => {
    const apart = family.filter((edit, i) => {
      const distance = distanceOf(edits[edit]);
      return distance > 0 && (i === 0 || distance > distanceOf(edits[family[i - 1]]));
    });
    const own = Math.min(apart.length, Math.max(1, Math.round((count * family.length) / edits.length)));
    return Array.from({ length: own }, (_, k) => apart[Math.ceil(((k + 1) * apart.length) / own) - 1]);
  });
}

/** What each edit's estimate of its moves lacks. @param exact what they do, by the number of a knot: of all that `knotsOf` named. */
export function errorsOf(edits: readonly Moves[], estimates: ArrayLike<number>, exact: ReadonlyMap<number, number>): Float64Array {
  const errors = new Float64Array(edits.length);
  for (const family of familiesOf(edits)) {
    let [behind, error, next] = [0, 0, 0];
    const knots = family.flatMap((edit) => {
      const known = exact.get(edit);
      return known === undefined ? [] : [{ distance: distanceOf(edits[edit]), error: known - estimates[edit] }];
    });
    for (const edit of family) {
      const distance = distanceOf(edits[edit]);
      for (; next < knots.length - 1 && distance > knots[next].distance; next++) ({ distance: behind, error } = knots[next]);
      const knot = knots[next];
      if (knot && distance > 0) errors[edit] = error + ((knot.error - error) * (distance - behind)) / (knot.distance - behind);
    }
  }
  return errors;
}

/** A cell and its edits, and what is made of it: as it is, and where the genes of each knot, and they alone, have moved. */
export interface Knotted<T> {
  readonly part: T;
  /** Numbers of edits. */
  readonly knots: readonly number[];
  readonly value: ArrayLike<number>;
  /** Knot by knot. */
  readonly values: readonly ArrayLike<number>[];
}

/** A cell whose genes have moved: its tokens, and where they stand. */
function after(cell: readonly number[], { moved }: Pick<Moves, "moved">): Probe[] {
  const places = [...cell.keys()];
  for (const [from, to, by] of moved) for (let place = from; place < to; place++) places[place] += by;
  return places.map((place, i) => [cell[i], place]);
}

/** Pass each cell, and a copy of it for each of its `count` knots. */
export async function* passKnots<T extends { readonly cell: readonly number[]; readonly sketches: readonly Moves[] }>(
  model: Geneformer,
  parts: readonly T[],
  count: number,
  target: Target,
  measure: Measure,
): AsyncGenerator<Knotted<T>, void, undefined> {
  const layers = checkMeasure(model, measure);
  const knots = parts.map(({ sketches }) => knotsOf(sketches, count));
  function* copies(): Generator<Probe[]> {
    for (const [p, { cell, sketches }] of parts.entries()) {
      yield after(cell, { moved: [] });
      for (const knot of knots[p]) yield after(cell, sketches[knot]);
    }
  }
  function* reads(): Generator<Promise<ArrayLike<number>[]>> {
    for (const batch of batchesOf(copies(), measure.tokensPerBatch, ({ length }) => length)) {
      const lengths = batch.map(({ length }) => length);
      const made = inference(() => {
        const stream = streamAt(model, batch);
        return target === "rows"
          ? model.encode(stream, { layers })
          : vectorsOf(model, stream, lengths, { ...measure, mode: target }, { layers });
      });
      const read = made.data();
      made.free(); // once it has been read
      const sizes = lengths.map((length) => (target === "rows" ? length : 1) * model.config.width);
      yield read.then((values) => spansOf(sizes).map(([from, to]) => values.slice(from, to)));
    }
  }
  let [part, passed]: [number, ArrayLike<number>[]] = [0, []];
  for await (const read of ahead(reads()))
    for (const value of read) {
      passed.push(value);
      if (passed.length <= knots[part].length) continue;
      const [own, ...values] = passed;
      yield { part: parts[part], knots: knots[part], value: own, values };
      [part, passed] = [part + 1, []];
    }
}

/** Which perturbations of which cells: one after the other, in an order that stays the same. */

import type { Ends } from "../embed.ts";
import { type Edit, edit, genesOf, type Move, NEW, type PerturbationType, type Quartiles, rankAfter } from "./edit.ts";

/** What is to be done to every cell. */
export interface Perturbation {
  readonly type: PerturbationType;
  /** Quartiles that `activate` and `inhibit` move a gene by. Default 1. */
  readonly by?: Quartiles;
  /** Tokens of the genes to perturb, or all that a cell has. */
  readonly genes: "all" | readonly number[];
  /** One gene at a time, or all of a list together. Default "each". */
  readonly as?: "each" | "group";
  /** A gene that is perturbed together with each of the others: only cells that have it. Effects are triples then: it alone, the other alone, both. */
  readonly anchor?: number;
  /** Does overexpression put listed genes into cells that have them not? Default true. */
  readonly insert?: boolean;
  /** What the original does where it errs: the top-ranked gene of a cell is never overexpressed. Default false. */
  readonly quirks?: boolean;
}

/** What one row of a result is about: a gene, or a group, of one cell. */
export interface Unit {
  /** What it is called by: the gene, or null for a group. */
  readonly gene: number | null;
  /** One edit; with an anchor two, the gene alone and with the anchor. */
  readonly moves: readonly (readonly Move[])[];
}

/**
 * The units of one cell, in order. Overexpression puts in listed genes that the cell has not; nothing else is done with those. At least one gene must stay as
 * it is, to be compared: where none would, there is no unit.
 */
export function* unitsOf(cell: ArrayLike<number>, ends: Ends, perturbation: Perturbation): Generator<Unit> {
  const { type, by = 1, genes, as = "each", anchor, insert = true, quirks = false } = perturbation;
  const [first, end] = genesOf(cell.length, ends);
  const move = (token: number, place: number): Move => ({
    token,
    place,
    to: place === NEW ? 0 : rankAfter(type, place - first, end - first, by),
  });
  const places = new Map<number, number>();
  for (let place = end - 1; place >= first; place--) places.set(cell[place], place); // of the same gene twice, the higher rank
  const anchored = anchor === undefined ? undefined : places.get(anchor);
  if (anchor !== undefined && anchored === undefined) return;
  const stay = (moved: number) => end - first > moved;
  const unit = (token: number, place: number): Unit => {
    const alone = [move(token, place)];
    return { gene: token, moves: anchored === undefined ? [alone] : [alone, [move(cell[anchored], anchored), ...alone]] };
  };

  if (genes === "all") {
    if (!stay(anchored === undefined ? 1 : 2)) return;
    for (let place = first + Number(quirks && type === "overexpress"); place < end; place++)
      if (place !== anchored) yield unit(cell[place], place);
    return;
  }
  const listed = genes.map((token) => move(token, places.get(token) ?? NEW));
  const absent = listed.filter(({ place }) => place === NEW).length;
  if (as === "group") {
    const whole = type === "overexpress" || absent === 0;
    if (listed.length > 0 && whole && stay(listed.length - absent)) yield { gene: null, moves: [listed] };
    return;
  }
  for (const { token, place } of listed) {
    const does = place !== NEW || (type === "overexpress" && insert);
    if (does && place !== anchored && stay(Number(place !== NEW) + Number(anchored !== undefined))) yield unit(token, place);
  }
}

/** The anchor alone, which stands before the units of a cell. */
export function anchorOf(cell: ArrayLike<number>, ends: Ends, { type, by = 1, anchor }: Perturbation): Unit | null {
  if (anchor === undefined) return null;
  const [first, end] = genesOf(cell.length, ends);
  const place = Array.prototype.indexOf.call(cell, anchor, first);
  if (place < 0 || place >= end) return null;
  return { gene: anchor, moves: [[{ token: anchor, place, to: rankAfter(type, place - first, end - first, by) }]] };
}

/** The edits of units of a cell, one after the other. @param longest tokens that the model has places for. */
export function* editsOf(cell: ArrayLike<number>, ends: Ends, units: Iterable<Unit>, longest: number): Generator<Edit> {
  for (const { moves } of units) for (const each of moves) yield edit(cell, ends, each, longest);
}

/** What a perturbation does to a cell: some genes leave their places in its ranking, or come in, and the others close up. */

import type { Ends } from "../embed.ts";

/**
 * - `delete`: genes go.
 * - `overexpress`: genes come to the front, in the order given; those that the cell has not are put in.
 * - `activate`, `inhibit`: genes move up or down by quartiles of the cell's ranking: to the middle of the 1st, 2nd or 3rd next one, or to the very first or
 *   last rank where there is none. What a cell has not stays out. (Announced by the original with this meaning, and never shipped there.)
 */
export type PerturbationType = "delete" | "overexpress" | "inhibit" | "activate";

/** The place of a gene that the cell did not have. */
export const NEW = -1;

/** A gene that is moved. */
export interface Move {
  readonly token: number;
  /** Its place in the cell, special tokens counted, or NEW. */
  readonly place: number;
  /** Its rank among the genes afterwards, from 0; null: it goes. */
  readonly to: number | null;
}

/** Tokens that stay together: `count` of them that stood from place `from` on. A gene that was moved or put in is one by itself: `from` is where it was, or NEW. */
export interface Run {
  readonly from: number;
  readonly count: number;
  /** Of a gene that was moved or put in. */
  readonly token?: number;
}

/** A cell after a perturbation, and how its places were numbered before. */
export interface Edit {
  /** What was perturbed. */
  readonly genes: readonly number[];
  /** The ranking afterwards, special tokens in it: a few runs, however long the cell. */
  readonly runs: readonly Run[];
  /** The same written out: its tokens. */
  readonly tokens: readonly number[];
  /** Where each of those was before: a place of the cell, or NEW. */
  readonly from: readonly number[];
  /** Places that were perturbed: they stay out of comparisons gene by gene. */
  readonly perturbed: ReadonlySet<number>;
  /** Genes that fell off the end of the cell, as it had become too long for the model: the cell to compare with has them not either. */
  readonly fallen: number;
}

/** Where the genes of a cell begin and end, special tokens left out. */
export const genesOf = (length: number, { cls, eos }: Ends): readonly [first: number, end: number] => [Number(cls), length - Number(eos)];

/**
 * Move genes of a cell; the others keep their order.
 * @param longest tokens that the model has places for: what goes beyond falls off, <eos> stays.
 * @throws RangeError where nothing but what comes in would be left.
 */
export function edit(cell: ArrayLike<number>, ends: Ends, moves: readonly Move[], longest: number): Edit {
  const [first, end] = genesOf(cell.length, ends);
  const perturbed = new Set(moves.map(({ place }) => place));
  // Genes that arrive, by rank; those for one rank in the order they were given.
  const arriving = moves.filter((move) => move.to !== null).sort((a, b) => (a.to ?? 0) - (b.to ?? 0));
  const leaving = [...perturbed].filter((place) => place !== NEW).sort((a, b) => a - b);
  const runs: Run[] = [];
  let [genes, next] = [0, 0]; // that have their ranks, and arrived
  const stay = (from: number, to: number) => {
    for (let place = from; place < to; ) {
      const rank = arriving[next]?.to ?? Number.POSITIVE_INFINITY;
      const count = Math.min(to - place, Math.max(0, rank - genes));
      if (count > 0) runs.push({ from: place, count });
      [place, genes] = [place + count, genes + count];
      if (place < to) arrive();
    }
  };
  const arrive = () => {
    const { token, place } = arriving[next++];
    runs.push({ from: place, count: 1, token });
    genes++;
  };
  let place = first;
  for (const gap of leaving) {
    stay(place, gap);
    place = gap + 1;
  }
  stay(place, end);
  while (next < arriving.length) arrive();

  const tail = cell.length - end;
  const fallen = Math.max(0, first + genes + tail - longest);
  if (fallen > 0 && genes - fallen <= arriving.length)
    throw new RangeError(
      `perturb: ${arriving.length} genes in front of a cell of ${end - first} leave no other gene within the model's ${longest} places; give fewer genes`,
    );
  const all = [{ from: 0, count: first }, ...shortened(runs, fallen), { from: end, count: tail }].filter(({ count }) => count > 0);
  let written: Pick<Edit, "tokens" | "from"> | null = null;
  const whole = () => (written ??= writtenOut(cell, all));
  return {
    ...{ genes: moves.map(({ token }) => token), runs: all, perturbed, fallen },
    get tokens() {
      return whole().tokens;
    },
    get from() {
      return whole().from;
    },
  };
}

/** Runs without so many of their last places. */
function shortened(runs: readonly Run[], fallen: number): Run[] {
  const left = [...runs];
  for (let over = fallen; over > 0; ) {
    const last = left.pop();
    if (!last) break;
    if (last.count > over) left.push({ ...last, count: last.count - over });
    over -= Math.min(over, last.count);
  }
  return left;
}

/** Runs, place by place. */
function writtenOut(cell: ArrayLike<number>, runs: readonly Run[]): Pick<Edit, "tokens" | "from"> {
  const [tokens, from]: [number[], number[]] = [[], []];
  for (const run of runs)
    for (let i = 0; i < run.count; i++) {
      tokens.push(run.token ?? cell[run.from + i]);
      from.push(run.from === NEW ? NEW : run.from + i);
    }
  return { tokens, from };
}

/** The cell that an edit is compared with: itself, or without the genes that fell off its end. */
export function original(cell: ArrayLike<number>, { cls, eos }: Ends, fallen: number): number[] {
  const tokens = Array.from(cell);
  if (fallen > 0) tokens.splice(genesOf(cell.length, { cls, eos })[1] - fallen, fallen);
  return tokens;
}

/** Quartiles that a gene moves by. */
export type Quartiles = 1 | 2 | 3;

/** The rank that a gene goes to. @param rank of it now.   @param count genes of the cell. */
export function rankAfter(type: PerturbationType, rank: number, count: number, by: Quartiles): number | null {
  if (type === "delete") return null;
  if (type === "overexpress") return 0;
  const quartile = Math.floor((4 * rank) / count) + (type === "inhibit" ? by : -by);
  if (quartile < 0) return 0;
  return quartile > 3 ? count - 1 : Math.floor(((quartile + 0.5) * count) / 4);
}

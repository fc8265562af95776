/** How common genes are in cells, how high they stand in them, and which are alike in both. */

import { deviation } from "./tables.ts";

/** What genes are matched by. */
export interface Presence {
  readonly gene: number;
  /** Share of cells that have it. */
  readonly rate: number;
  /** Its mean rank in those, as a share of their genes: 0 the first, 1 the last. */
  readonly rank: number;
}

/** Where each gene stands in cells (rankings of tokens without special ones). Genes that none has are absent. */
export function presenceOf(cells: readonly ArrayLike<number>[]): Map<number, Presence> {
  const sums = new Map<number, { count: number; rank: number }>();
  for (const cell of cells)
    for (let i = 0; i < cell.length; i++) {
      const sum = sums.get(cell[i]) ?? { count: 0, rank: 0 };
      sum.count++;
      sum.rank += i / cell.length;
      sums.set(cell[i], sum);
    }
  return new Map([...sums].map(([gene, { count, rank }]) => [gene, { gene, rate: count / cells.length, rank: rank / count }]));
}

/**
 * For each gene, the `each` nearest candidates by rate and rank (both in deviations of all), none taken twice: genes take turns, so that the first do not
 * take all that is near. Of candidates as near the first is taken. Where candidates run out there are fewer.
 */
export function matched(genes: readonly Presence[], candidates: readonly Presence[], each: number): Map<number, number[]> {
  const all = [...genes, ...candidates];
  const [ofRate, ofRank] = [all.map(({ rate }) => rate), all.map(({ rank }) => rank)].map((values) => deviation(values) || 1);
  const distance = (a: Presence, b: Presence) => ((a.rate - b.rate) / ofRate) ** 2 + ((a.rank - b.rank) / ofRank) ** 2;
  const left = new Set(candidates);
  const found = new Map(genes.map(({ gene }) => [gene, [] as number[]]));
  for (let turn = 0; turn < each; turn++)
    for (const own of genes) {
      let [nearest, least]: [Presence | null, number] = [null, Number.POSITIVE_INFINITY];
      for (const candidate of left) {
        const apart = distance(own, candidate);
        if (apart < least) [nearest, least] = [candidate, apart];
      }
      if (!nearest) return found;
      left.delete(nearest);
      found.get(own.gene)?.push(nearest.gene);
    }
  return found;
}

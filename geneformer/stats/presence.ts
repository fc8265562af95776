/** How common genes are in cells, and how high they stand in them: what genes that are alike share. */

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

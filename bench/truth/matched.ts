/** Nulls: for each gene of a set, others that are as high in cells and in as many of them. */

import type { Presence } from "../../geneformer/stats/presence.ts";

const deviation = (values: readonly number[]): number => {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) || 1;
};

/**
 * For each gene, the `each` nearest candidates by rate and rank (both in deviations of all), none taken twice: genes take turns, so that the first do not
 * take all that is near. Where candidates run out there are fewer.
 */
export function matched(genes: readonly Presence[], candidates: readonly Presence[], each: number): Map<number, number[]> {
  const all = [...genes, ...candidates];
  const [ofRate, ofRank] = [deviation(all.map(({ rate }) => rate)), deviation(all.map(({ rank }) => rank))];
  const distance = (a: Presence, b: Presence) => Math.hypot((a.rate - b.rate) / ofRate, (a.rank - b.rank) / ofRank);
  const order = new Map(genes.map((gene) => [gene.gene, [...candidates].sort((a, b) => distance(gene, a) - distance(gene, b))]));
  const taken = new Set<number>();
  const found = new Map(genes.map(({ gene }) => [gene, [] as number[]]));
  for (let turn = 0; turn < each; turn++)
    for (const { gene } of genes) {
      const nearest = order.get(gene)?.find((candidate) => !taken.has(candidate.gene));
      if (!nearest) continue;
      taken.add(nearest.gene);
      found.get(gene)?.push(nearest.gene);
    }
  return found;
}

/** What can be said about a hidden gene without a model: how common it is, and how common at its rank. What pretraining has to beat. */

/** Each of the first 16 ranks is a bin, and a quarter of each doubling from there on: fine where cells agree, coarse where they do not. */
const binOf = (rank: number): number => (rank < 16 ? rank : Math.floor(4 * Math.log2(rank)));

/** A count that a gene never seen at a rank still gets, shared out as genes are in general (Jelinek and Mercer 1980). */
const PRIOR = 100;

export interface Baselines {
  /** Entropy of a gene of the training cells, nats. */
  readonly unigramEntropy: number;
  /** Mean of -log p(gene) at the questions, p from the training cells. */
  readonly unigram: number;
  /** The same with p(gene | bin of its rank). */
  readonly rank: number;
}

/**
 * @param cells tokens of the training cells.   @param questions what is asked of the model: a gene and the rank it stood at.
 * @param vocabulary V; each token counts once more than it was seen, so that none is impossible.
 */
export function baselines(
  cells: Iterable<ArrayLike<number>>,
  questions: Iterable<{ readonly gene: number; readonly rank: number }>,
  vocabulary: number,
): Baselines {
  const counts = new Float64Array(vocabulary).fill(1);
  const bins = new Map<number, { total: number; counts: Map<number, number> }>();
  let total = vocabulary;
  for (const cell of cells)
    for (let rank = 0; rank < cell.length; rank++) {
      const gene = cell[rank];
      counts[gene]++;
      total++;
      const bin = binOf(rank);
      const at = bins.get(bin) ?? { total: 0, counts: new Map() };
      bins.set(bin, at);
      at.total++;
      at.counts.set(gene, (at.counts.get(gene) ?? 0) + 1);
    }
  const common = (gene: number) => counts[gene] / total;
  let entropy = 0;
  for (let gene = 0; gene < vocabulary; gene++) entropy -= common(gene) * Math.log(common(gene));

  let [n, unigram, rank] = [0, 0, 0];
  for (const question of questions) {
    const bin = bins.get(binOf(question.rank));
    const seen = bin?.counts.get(question.gene) ?? 0;
    unigram -= Math.log(common(question.gene));
    rank -= Math.log((seen + PRIOR * common(question.gene)) / ((bin?.total ?? 0) + PRIOR));
    n++;
  }
  return { unigramEntropy: entropy, unigram: unigram / n, rank: rank / n };
}

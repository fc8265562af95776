/** Rank sums, the normal distribution's tail, and false discovery rates, as scipy and statsmodels compute them. */

/** The complementary error function, to some 1e-14 relative: its series up to 2, Laplace's continued fraction from there (Abramowitz and Stegun 7.1.6, 7.1.14). */
export function erfc(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x < 0) return 2 - erfc(-x);
  if (x > 27) return 0; // below the smallest f64
  if (x < 2) {
    let [term, sum] = [x, x];
    for (let n = 1; term > sum * Number.EPSILON * 0.1; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

/** How often a standard normal number is at least as far from 0 as z. */
export const twoSided = (z: number): number => erfc(Math.abs(z) / Math.SQRT2);

/** Numbers in ascending order, to compare many samples with. */
export class Sorted {
  readonly values: Float64Array;

  /** @throws RangeError for a NaN, which has no rank. */
  constructor(values: ArrayLike<number>) {
    this.values = Float64Array.from(values).sort();
    if (Number.isNaN(this.values.at(-1))) throw new RangeError("ranksums: a value is NaN; leave such values out");
  }

  /** How many are below x, and how many are at most x. */
  around(x: number): [below: number, atMost: number] {
    const find = (isBefore: (value: number) => boolean): number => {
      let [low, high] = [0, this.values.length];
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (isBefore(this.values[middle])) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    return [find((value) => value < x), find((value) => value <= x)];
  }
}

export interface RankSum {
  /** Positive where the first sample is the larger. */
  readonly z: number;
  /** Two-sided, by the normal approximation. */
  readonly p: number;
}

/**
 * Wilcoxon's rank-sum test of two samples (scipy.stats.ranksums): equal values share their mean rank; neither ties nor continuity are corrected for.
 * Costs (n2 log n2 + n2 log n1): a large first sample is sorted once for many second ones.
 * @returns NaN for an empty sample.
 */
export function rankSum(first: Sorted, second: ArrayLike<number>): RankSum {
  const [n1, n2] = [first.values.length, second.length];
  if (n1 === 0 || n2 === 0) return { z: Number.NaN, p: Number.NaN };
  const own = new Sorted(second);
  // The rank of a value of the second sample: half of its equals, itself included, stand before it.
  let rankOfSecond = 0;
  for (let i = 0; i < n2; i++) {
    const value = own.values[i];
    const [below1, atMost1] = first.around(value);
    const [below2, atMost2] = own.around(value);
    rankOfSecond += (below1 + below2 + atMost1 + atMost2 + 1) / 2;
  }
  const all = n1 + n2;
  const rankOfFirst = (all * (all + 1)) / 2 - rankOfSecond;
  const z = (rankOfFirst - (n1 * (all + 1)) / 2) / Math.sqrt((n1 * n2 * (all + 1)) / 12);
  return { z, p: twoSided(z) };
}

/** False discovery rates of p-values (Benjamini and Hochberg 1995; statsmodels' fdr_bh): the least rate at which each would be called. */
export function falseDiscoveryRates(ps: ArrayLike<number>): Float64Array {
  const order = Uint32Array.from({ length: ps.length }, (_, i) => i).sort((a, b) => ps[a] - ps[b] || a - b);
  const rates = new Float64Array(ps.length);
  let least = 1;
  for (let i = order.length - 1; i >= 0; i--) {
    least = Math.min(least, (ps[order[i]] * order.length) / (i + 1));
    rates[order[i]] = least;
  }
  return rates;
}

/** Ranks of values from 0, equal ones sharing the mean of theirs. */
function ranksOf(values: readonly number[]): number[] {
  const sorted = new Sorted(values);
  return values.map((value) => {
    const [below, atMost] = sorted.around(value);
    return (below + atMost - 1) / 2;
  });
}

/** Spearman's rank correlation; NaN where there is no order. */
export function spearman(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [ranksOf(a), ranksOf(b)];
  const middle = (a.length - 1) / 2; // the mean rank, whatever is equal
  const product = (u: readonly number[], v: readonly number[]) => u.reduce((sum, rank, i) => sum + (rank - middle) * (v[i] - middle), 0);
  return product(x, y) / Math.sqrt(product(x, x) * product(y, y));
}

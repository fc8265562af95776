/** Two normal distributions under one sample, by expectation maximisation: which genes move cells, and which do not. */

import { RandomState } from "./twister.ts";

interface Normal {
  readonly mean: number;
  readonly variance: number;
  /** The share of the sample that is of it. */
  readonly weight: number;
}

/** The lower one first; with `original`, as scikit-learn numbered them. */
export type Mixture = readonly [Normal, Normal];

/** As scikit-learn: added to variances; the gain in mean log-likelihood at which it stops; the most rounds. */
const [REGULAR, TOLERANCE, ROUNDS] = [1e-6, 1e-3, 100];

const logDensity = ({ mean, variance, weight }: Normal, x: number): number =>
  Math.log(weight) - 0.5 * (Math.log(2 * Math.PI * variance) + (x - mean) ** 2 / variance);

/** Which of the two a value is of: 0 or 1. */
export const likelier = ([a, b]: Mixture, x: number): 0 | 1 => (logDensity(a, x) >= logDensity(b, x) ? 0 : 1);

/**
 * Fit two normal distributions as scikit-learn's GaussianMixture(2, random_state=0) does, with two differences where `original` is not asked for:
 * the components are ordered by their means (scikit-learn numbers them by chance: k-means++ draws a first centre, and where that is a high value the
 * original calls high values the impact), and what is added to variances is in proportion to the sample's (1e-6 as such is a deviation of .001,
 * which merges components of cosines near 1).
 * @param original the components in scikit-learn 1.2's order and with its regularisation.
 * @throws RangeError for fewer than two values, or for values all the same.
 */
export function fitMixture(values: ArrayLike<number>, { original = false } = {}): Mixture {
  const x = Float64Array.from(values);
  const n = x.length;
  const mean = x.reduce((a, b) => a + b, 0) / n;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
  if (n < 2 || !(variance > 0))
    throw new RangeError(
      `mixture: two components need two values that differ; got ${n} ${n === 1 ? "value" : "values"}${n > 1 ? ", all the same" : ""}; perturb more genes`,
    );
  const centred = x.map((value) => value - mean);
  const labels = twoMeans(centred, drawnCentres(centred), variance);
  const ofSecond = Float64Array.from(labels);
  const added = REGULAR * (original ? 1 : variance);
  let mixture = maximise(x, ofSecond, added);
  let before = Number.NEGATIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    let likelihood = 0;
    for (let i = 0; i < n; i++) {
      const [a, b] = [logDensity(mixture[0], x[i]), logDensity(mixture[1], x[i])];
      const most = Math.max(a, b);
      const total = most + Math.log(Math.exp(a - most) + Math.exp(b - most));
      ofSecond[i] = Math.exp(b - total);
      likelihood += total / n;
    }
    mixture = maximise(x, ofSecond, added);
    if (Math.abs(likelihood - before) < TOLERANCE) break;
    before = likelihood;
  }
  const [a, b] = mixture;
  return original || a.mean <= b.mean ? mixture : [b, a];
}

/** The two distributions, given how much of each value is of the second. */
function maximise(x: Float64Array, ofSecond: Float64Array, added: number): Mixture {
  const component = (share: (i: number) => number): Normal => {
    let [weight, sum] = [10 * Number.EPSILON, 0];
    for (let i = 0; i < x.length; i++) {
      weight += share(i);
      sum += share(i) * x[i];
    }
    const mean = sum / weight;
    let square = 0;
    for (let i = 0; i < x.length; i++) square += share(i) * (x[i] - mean) ** 2;
    return { mean, variance: square / weight + added, weight: weight / x.length };
  };
  return [component((i) => 1 - ofSecond[i]), component((i) => ofSecond[i])];
}

/** Which of two centres each value is nearest to, once the centres have settled (Lloyd): 0 or 1. */
function twoMeans(x: Float64Array, start: readonly [number, number], variance: number): Uint8Array {
  let centres = start;
  const nearest = () => Uint8Array.from(x, (value) => Number(Math.abs(value - centres[1]) < Math.abs(value - centres[0])));
  let labels = nearest();
  for (let round = 0; round < 300; round++) {
    const [count, sum] = [
      [0, 0],
      [0, 0],
    ];
    for (let i = 0; i < x.length; i++) {
      count[labels[i]]++;
      sum[labels[i]] += x[i];
    }
    if (count[0] === 0 || count[1] === 0) break;
    const moved = [sum[0] / count[0], sum[1] / count[1]] as const;
    const shift = (moved[0] - centres[0]) ** 2 + (moved[1] - centres[1]) ** 2;
    centres = moved;
    const next = nearest();
    const settled = next.every((label, i) => label === labels[i]) || shift <= 1e-4 * variance;
    labels = next;
    if (settled) break;
  }
  return labels;
}

/** The centres that scikit-learn 1.2's k-means++ draws with random_state=0 (Arthur and Vassilvitskii 2007; sklearn/cluster/_kmeans.py). */
function drawnCentres(x: Float64Array): [number, number] {
  const random = new RandomState(0);
  const first = x[random.below(x.length)];
  const distances = x.map((value) => (value - first) ** 2);
  const cumulated = new Float64Array(x.length);
  let total = 0;
  for (let i = 0; i < x.length; i++) cumulated[i] = total += distances[i];
  const trials = 2; // 2 + int(log(number of clusters))
  const draws = Array.from({ length: trials }, () => random.uniform() * total);
  const candidates = draws.map((draw) => {
    const found = cumulated.findIndex((sum) => sum >= draw);
    return x[found < 0 ? x.length - 1 : found];
  });
  const left = candidates.map((candidate) => x.reduce((sum, value, i) => sum + Math.min(distances[i], (value - candidate) ** 2), 0));
  return [first, candidates[left.indexOf(Math.min(...left))]];
}

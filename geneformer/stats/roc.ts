/** How well a number tells two groups apart: the area under the receiver operating characteristic. */

import { Sorted } from "./ranks.ts";

/**
 * The area under the ROC curve: how often a positive has the larger score than a negative, equal ones counted half (Hanley and McNeil 1982, Radiology
 * 143:29), which is Mann and Whitney's U over the number of pairs. 0.5 is chance; below it the score points the wrong way.
 * @returns NaN where one of the groups is empty.   @throws RangeError for a NaN, which has no rank.
 */
export function auroc(positives: ArrayLike<number>, negatives: ArrayLike<number>): number {
  const [own, others] = [new Sorted(positives).values, new Sorted(negatives)];
  const pairs = own.length * others.values.length;
  let wins = 0;
  for (const score of own) {
    const [below, atMost] = others.around(score);
    wins += (below + atMost) / 2;
  }
  return pairs > 0 ? wins / pairs : Number.NaN;
}

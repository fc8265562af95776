/** How sure a figure is: the same figure of samples drawn again, with replacement (Efron 1979). */

import { Key } from "../../src/key.ts";

/** A figure, and the middle 95 % of what redrawn samples give. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Redrawn samples: enough that the ends of an interval are steady in the second digit. */
const DRAWS = 1000;
const TAIL = 0.025;

/**
 * A statistic of some groups, with a percentile interval: each group is drawn again from itself.
 * Draws for which there is no figure (NaN) are left out.
 */
export function bootstrap<T>(
  groups: readonly (readonly T[])[],
  statistic: (...groups: readonly (readonly T[])[]) => number,
  { seed = 0, draws = DRAWS } = {},
): Interval {
  const key = Key.from(seed);
  const figures: number[] = [];
  for (let draw = 0; draw < draws; draw++) {
    const again = groups.map((group, g) =>
      Array.from(key.fold(draw).fold(g).uniforms(group.length), (u) => group[Math.floor(u * group.length)]),
    );
    const figure = statistic(...again);
    if (!Number.isNaN(figure)) figures.push(figure);
  }
  figures.sort((a, b) => a - b);
  const at = (share: number) => figures[Math.round(share * (figures.length - 1))] ?? Number.NaN;
  return { value: statistic(...groups), low: at(TAIL), high: at(1 - TAIL) };
}

/** The mean of the numbers that are; NaN where there are none. */
export function meanOf(values: readonly number[]): number {
  const known = values.filter((value) => !Number.isNaN(value));
  return known.length > 0 ? known.reduce((a, b) => a + b, 0) / known.length : Number.NaN;
}

/** The mean over units (regulators, say), and its interval. */
export const meanInterval = (values: readonly number[]): Interval => bootstrap([values.filter((value) => !Number.isNaN(value))], meanOf);

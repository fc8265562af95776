/** Dropout. */

import { dropout as dropoutKernel, dropThreshold, keepScale } from "../../kernels/random.ts";
import { runStored, storedAs, type Tensor } from "../../src/tensor.ts";
import type { StepKey } from "../stepkey.ts";
import { op } from "../tape.ts";

/** With what probability to drop, and the key to draw from. */
export interface Drop {
  readonly p: number;
  readonly key: StepKey;
}

/** What a kernel needs to draw. @throws RangeError for a p that is no probability below 1. */
export const draws = (op: string, { p, key }: Drop) => {
  if (!(p >= 0 && p < 1)) throw new RangeError(`${op}: p must lie in [0, 1); got ${p}`);
  return { threshold: dropThreshold(p), scale: keepScale(p), site0: key.site[0], site1: key.site[1] };
};

/** Zero each value with probability p, in steps of 2^-16, and scale what is left by 1 / (1 - p) (Srivastava et al. 2014). The way back draws the mask again. */
export const dropout = op("dropout", (x: Tensor, drop: Drop) => {
  const key = drop.key.words;
  const apply = (t: Tensor) => runStored(dropoutKernel, { x: t, key }, { y: storedAs(t) }, { n: t.size, ...draws("dropout", drop) }).y;
  return [apply(x), [key], (dy) => [apply(dy)]];
});

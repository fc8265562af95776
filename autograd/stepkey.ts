/** A key whose words lie in a buffer: what dropout draws from, so that a recorded step draws anew when the buffer is written. */

import { type Pair, threefry } from "../kernels/random.ts";
import type { Key } from "../src/key.ts";
import { integers, type Tensor } from "../src/tensor.ts";

export class StepKey {
  /** u32 [2], on the device. */
  readonly words: Tensor;
  /** The constants folded in so far, as one pair: the kernel folds it into the words. */
  readonly site: Pair;

  constructor(words: Tensor, site: Pair = [0, 0]) {
    this.words = words;
    this.site = site;
  }

  /** A step's key, on the current device. */
  static from(key: Key): StepKey {
    return new StepKey(integers(key.words));
  }

  /** Another key on the same buffer: for layer n, for the nth dropout of a layer. */
  fold(n: number): StepKey {
    return new StepKey(this.words, threefry(this.site, [n >>> 0, 1]));
  }
}

/** Random keys: values that fold. A key never changes; what is drawn depends on the key and the place alone. */

import { type Pair, threefry, threefryBlocks } from "../kernels/random.ts";

/** 2^-24: an f32 holds 24 bits of a fraction exactly, so a uniform number is the same on every device. */
const UNIT = 2 ** -24;

export class Key {
  readonly words: Pair;

  constructor(words: Pair) {
    this.words = words;
  }

  /** The key of a seed, a non-negative integer below 2^53. @throws RangeError for any other number. */
  static from(seed: number): Key {
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new RangeError(`Key.from(seed): a seed is an integer from 0 to 2^53 - 1; got ${seed}`);
    return new Key([seed >>> 0, Math.floor(seed / 2 ** 32)]);
  }

  /** Another key, unrelated to this one and to those of other numbers. */
  fold(n: number): Key {
    return new Key(threefry(this.words, [n >>> 0, Math.floor(n / 2 ** 32)]));
  }

  /** `count` words of 32 random bits. */
  bits(count: number): Uint32Array {
    const words = new Uint32Array(count + (count & 1));
    threefryBlocks(this.words, words);
    return words.subarray(0, count);
  }

  /** `count` numbers in [0, 1), multiples of 2^-24. */
  uniforms(count: number): Float64Array {
    const words = this.bits(count);
    const uniforms = new Float64Array(count);
    for (let i = 0; i < count; i++) uniforms[i] = (words[i] >>> 8) * UNIT; // a loop: Float64Array.from takes five times as long
    return uniforms;
  }

  /** `count` numbers from the normal distribution N(0, deviation^2) (Box and Muller 1958), drawn on the host so that devices agree. */
  normals(count: number, deviation = 1): Float64Array {
    const words = this.bits(2 * count);
    const normals = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - (words[2 * i] >>> 8) * UNIT));
      normals[i] = radius * Math.cos(2 * Math.PI * ((words[2 * i + 1] >>> 8) * UNIT)) * deviation;
    }
    return normals;
  }

  /** A random order of 0 ... count - 1 (Fisher and Yates). */
  permutation(count: number): Uint32Array {
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    const words = this.bits(count);
    for (let i = count - 1; i > 0; i--) {
      const j = Math.floor((words[i] / 2 ** 32) * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

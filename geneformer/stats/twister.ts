/** Python's and numpy's random numbers (Matsumoto and Nishimura 1998, MT19937): for drawing what the original drew; our own draws come from Threefry. */

const [N, M] = [624, 397];

/** The generator under `random.Random` and `numpy.random.RandomState`. */
class Twister {
  readonly #state = new Uint32Array(N);
  #at = N;

  /** numpy: `RandomState(seed)`.   @param seed an integer from 0 to 2^32 - 1. */
  static ofNumpy(seed: number): Twister {
    const twister = new Twister();
    twister.#seed(seed);
    return twister;
  }

  /** Python: `random.seed(seed)`, which mixes the seed in as an array of one word.   @param seed an integer from 0 to 2^32 - 1. */
  static ofPython(seed: number): Twister {
    const twister = new Twister();
    const s = twister.#state;
    twister.#seed(19650218);
    let i = 1;
    for (let k = 0; k < N; k++) {
      s[i] = (s[i] ^ Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), 1664525)) + seed;
      i = twister.#next(i);
    }
    for (let k = 0; k < N - 1; k++) {
      s[i] = (s[i] ^ Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), 1566083941)) - i;
      i = twister.#next(i);
    }
    s[0] = 0x80000000;
    return twister;
  }

  /** 32 random bits. */
  word(): number {
    if (this.#at === N) this.#twist();
    let y = this.#state[this.#at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    const [high, low] = [this.word() >>> 5, this.word() >>> 6];
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  #seed(seed: number): void {
    const s = this.#state;
    s[0] = seed;
    for (let i = 1; i < N; i++) s[i] = Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), 1812433253) + i;
  }

  #next(i: number): number {
    if (i + 1 < N) return i + 1;
    this.#state[0] = this.#state[N - 1];
    return 1;
  }

  #twist(): void {
    const s = this.#state;
    for (let i = 0; i < N; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % N] & 0x7fffffff);
      s[i] = s[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#at = 0;
  }
}

/** numpy's `RandomState(seed)`: the draws that scikit-learn makes of it. */
export class RandomState {
  readonly #twister: Twister;

  constructor(seed: number) {
    this.#twister = Twister.ofNumpy(seed);
  }

  /** `random_sample()`: uniform in [0, 1). */
  uniform(): number {
    return this.#twister.uniform();
  }

  /** `randint(count)`: 0 ... count - 1; as numpy does it, bits are drawn until they make one of them. */
  below(count: number): number {
    const mask = 2 ** Math.ceil(Math.log2(count)) - 1;
    for (;;) {
      const value = (this.#twister.word() & mask) >>> 0;
      if (value < count) return value;
    }
  }
}

/**
 * The places that `random.seed(seed); random.sample(population, count)` takes from a population, in its order (CPython 3.8 to 3.13, Lib/random.py).
 * @param size of the population, below 2^32.   @param count at most `size`.
 */
export function pythonSample(seed: number, size: number, count: number): Uint32Array {
  const twister = Twister.ofPython(seed);
  const below = (n: number): number => {
    const bits = Math.floor(Math.log2(n)) + 1;
    for (;;) {
      const value = twister.word() >>> (32 - bits);
      if (value < n) return value;
    }
  };
  const sample = new Uint32Array(count);
  const setSize = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
  if (size <= setSize) {
    const pool = Uint32Array.from({ length: size }, (_, i) => i);
    for (let i = 0; i < count; i++) {
      const j = below(size - i);
      sample[i] = pool[j];
      pool[j] = pool[size - i - 1]; // the last of those not taken yet fills the gap
    }
    return sample;
  }
  const taken = new Set<number>();
  for (let i = 0; i < count; i++) {
    let j = below(size);
    while (taken.has(j)) j = below(size);
    taken.add(j);
    sample[i] = j;
  }
  return sample;
}

/** Where a token stands, as a vector. */

import { type Tensor, tensor } from "../src/tensor.ts";

/** The longest wave is this many times 2 pi places long (Vaswani et al. 2017, 3.5). */
const LONGEST = 10_000;

/**
 * Waves of falling frequency, two columns to each (Vaswani et al. 2017, 3.5):
 *
 *   y[place, 2 i] = sin(place / 10000^(2 i / width))      y[place, 2 i + 1] = cos(place / 10000^(2 i / width))
 *
 * A shift by k places turns each pair of columns by one angle, wherever it starts. A constant to add to embeddings, not a parameter: keep() it
 * in a private field, where `parameters` does not look.
 * @returns [length, width]
 */
export function sinusoidal(length: number, width: number): Tensor {
  const values = Float64Array.from({ length: length * width }, (_, i) => {
    const column = i % width;
    const angle = Math.floor(i / width) / LONGEST ** ((column - (column % 2)) / width);
    return column % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  });
  return tensor(values, [length, width]);
}

/**
 * How weights begin. Each function takes a key and a shape, [outputs, inputs, ...], and gives a tensor that outlives its scope; without a key one
 * of unknown content, for weights that will be loaded. Values are drawn on the host, so that devices agree.
 */

import type { Key } from "../src/key.ts";
import { type Shape, sizeOf } from "../src/shape.ts";
import { empty, keep, type Tensor, tensor, zeros as zeroes } from "../src/tensor.ts";

/** What a layer takes: `xavierUniform`, or `(key, shape) => truncatedNormal(key, shape, 0.02)`. */
export type Init = (key: Key | null, shape: Shape) => Tensor;

/** A layer's weights: from an Init, or, given a number, from N(0, that^2). */
export const initial = (init: number | Init, key: Key | null, shape: Shape): Tensor =>
  keep(typeof init === "number" ? normal(key, shape, init) : init(key, shape));

const drawn = (key: Key | null, shape: Shape, draw: (key: Key, count: number) => Float64Array): Tensor =>
  keep(key ? tensor(draw(key, sizeOf(shape)), shape) : empty(shape));

/** N(0, deviation^2). */
export const normal = (key: Key | null, shape: Shape, deviation = 1): Tensor =>
  drawn(key, shape, (key, count) => key.normals(count, deviation));

/** Evenly from [low, high). */
export const uniform = (key: Key | null, shape: Shape, low = 0, high = 1): Tensor =>
  drawn(key, shape, (key, count) => key.uniforms(count).map((u) => low + (high - low) * u));

/** Where a truncated normal ends, in deviations: TensorFlow's, and so BERT's. */
const TRUNCATION = 2;

/**
 * N(0, deviation^2) without what lies more than two deviations out, which is drawn again: tf.truncated_normal_initializer, BERT's own at 0.02
 * (Devlin et al. 2019). Its standard deviation is 0.88 of the one given.
 */
export const truncatedNormal = (key: Key | null, shape: Shape, deviation = 1): Tensor =>
  drawn(key, shape, (key, count) => {
    const values = key.normals(count);
    let out = [...values.keys()].filter((i) => Math.abs(values[i]) > TRUNCATION);
    for (let round = 1; out.length > 0; round++) {
      const again = key.fold(round).normals(out.length);
      out.forEach((i, j) => {
        values[i] = again[j];
      });
      out = out.filter((i) => Math.abs(values[i]) > TRUNCATION);
    }
    return values.map((value) => value * deviation);
  });

export const zeros: Init = (_, shape) => keep(zeroes(shape));

/** Values that reach an output, and outputs that a value reaches: torch.nn.init._calculate_fan_in_and_fan_out. @throws RangeError below two axes. */
function fans(shape: Shape): { inward: number; outward: number } {
  if (shape.length < 2)
    throw new RangeError(`init(key, shape): a shape of ${shape.length} axes has no inputs and outputs; give two or more`);
  const field = sizeOf(shape.slice(2));
  return { inward: shape[1] * field, outward: shape[0] * field };
}

const spread = (key: Key | null, shape: Shape, deviation: number): Tensor =>
  uniform(key, shape, -Math.sqrt(3) * deviation, Math.sqrt(3) * deviation); // the variance of [-a, a) is a^2 / 3

/** gain sqrt(2 / (in + out)): keeps variances on the way forward and back (Glorot and Bengio 2010, eq. 12). */
const xavier = (shape: Shape, gain: number): number => {
  const { inward, outward } = fans(shape);
  return gain * Math.sqrt(2 / (inward + outward));
};

/** Evenly from [-a, a), a = gain sqrt(6 / (in + out)): torch.nn.init.xavier_uniform_. */
export const xavierUniform = (key: Key | null, shape: Shape, gain = 1): Tensor => spread(key, shape, xavier(shape, gain));

/** N(0, gain^2 2 / (in + out)): torch.nn.init.xavier_normal_. */
export const xavierNormal = (key: Key | null, shape: Shape, gain = 1): Tensor => normal(key, shape, xavier(shape, gain));

export interface Kaiming {
  /** Of the leaky relu that comes before; 0 is relu. */
  readonly slope?: number;
  /** Keep variances on the way forward, or back. */
  readonly fan?: "in" | "out";
}

/** sqrt(2 / (1 + slope^2) / fan): keeps variances through a relu (He et al. 2015, eq. 15). */
const kaiming = (shape: Shape, { slope = 0, fan = "in" }: Kaiming): number => {
  const { inward, outward } = fans(shape);
  return Math.sqrt(2 / (1 + slope * slope) / (fan === "in" ? inward : outward));
};

/** Evenly from [-a, a), a = sqrt(6 / (1 + slope^2) / fan): torch.nn.init.kaiming_uniform_. */
export const kaimingUniform = (key: Key | null, shape: Shape, options: Kaiming = {}): Tensor => spread(key, shape, kaiming(shape, options));

/** N(0, 2 / (1 + slope^2) / fan): torch.nn.init.kaiming_normal_. */
export const kaimingNormal = (key: Key | null, shape: Shape, options: Kaiming = {}): Tensor => normal(key, shape, kaiming(shape, options));

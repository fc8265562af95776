/** Is a derivative right? The tape against a central difference along one random direction, both in f64 on the reference device. */

import { withDevice } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { openReference } from "../src/reference.ts";
import { type Shape, show } from "../src/shape.ts";
import { scoped, type Tensor, tensor } from "../src/tensor.ts";
import { mul, sum } from "./ops.ts";
import { inference, valueAndGrad } from "./tape.ts";

/** A point at which to differentiate: one argument of f. */
export interface Point {
  readonly shape: Shape;
  readonly values: ArrayLike<number>;
}

export interface CheckOptions {
  /** Draws the direction, and the weights that make one number of f's result. */
  readonly key?: Key;
  /** Half the distance between the two points. 1e-5 is near the cube root of f64's epsilon, where truncation and rounding are both small. */
  readonly step?: number;
  /** What the two may differ by, of the sum of the absolute parts of the slope. */
  readonly tolerance?: number;
}

/**
 * Compare the slope of sum(w f(x)) along a random direction v, as the tape gives it, with (f(x + hv) - f(x - hv)) / 2h.
 *
 * @param f makes a tensor of any shape of its arguments; whatever else it uses, it makes inside, on the current device.
 * @returns the slope from the tape.
 * @throws Error saying both slopes, when they differ.
 */
export async function checkGradients(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Point[],
  { key = Key.from(0), step = 1e-5, tolerance = 1e-5 }: CheckOptions = {},
): Promise<number> {
  const reference = openReference();
  const noise = (n: number, length: number) =>
    key
      .fold(n)
      .uniforms(length)
      .map((u) => 2 * u - 1);
  const directions = inputs.map(({ values }, i) => noise(i + 1, values.length));
  const at = (distance: number): Tensor[] =>
    inputs.map(({ shape, values }, i) =>
      tensor(
        Float64Array.from(values, (x, j) => x + distance * directions[i][j]),
        shape,
      ),
    );
  const weigh = (y: Tensor): Tensor => sum(mul(y, tensor(noise(0, y.size), y.shape)));

  const read = withDevice(reference, () =>
    scoped(() => {
      const xs = at(0);
      const y = inference(() => f(...xs));
      const { grads } = valueAndGrad(() => weigh(f(...xs)), xs);
      const sides = [step, -step].map((distance) => inference(() => weigh(f(...at(distance)))));
      return [y, ...sides, ...grads];
    }),
  );
  const [y, [ahead], [behind], ...grads] = await Promise.all(read.map(async (t) => Float64Array.from(await t.data())));
  for (const t of read) t.free();

  let tape = 0;
  // Rounding alone moves the difference by eps / step of the value's parts, 2e-11 of them at the default step: the least to be told apart.
  let scale = 1e-4 * y.reduce((total, value) => total + Math.abs(value), 0) + Number.MIN_VALUE;
  grads.forEach((grad, i) => {
    grad.forEach((d, j) => {
      tape += d * directions[i][j];
      scale += Math.abs(d * directions[i][j]);
    });
  });
  const difference = (ahead - behind) / (2 * step);
  if (!(Math.abs(tape - difference) <= tolerance * scale))
    throw new Error(
      `checkGradients(f, ${inputs.map(({ shape }) => show(shape)).join(" ")}): the tape's slope is ${tape}, the difference's ${difference}`,
    );
  return tape;
}

/** An op at given numbers: its value and the gradients of its sum. */

import { sum } from "../../autograd/ops/reduce.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import type { Shape } from "../../src/shape.ts";
import { scoped, type Tensor, tensor } from "../../src/tensor.ts";

/** The numbers of a tensor, and its shape. */
export interface Read {
  readonly shape: Shape;
  readonly values: number[];
}

/** Read and free tensors. */
export async function readAll(made: readonly Tensor[]): Promise<Read[]> {
  const read = await Promise.all(made.map(async (t) => ({ shape: t.shape, values: [...(await t.data())] })));
  for (const t of made) t.free();
  return read;
}

/** What an op gives for arguments, and the gradients of the sum of that. */
export const evaluate = (call: (...args: Tensor[]) => Tensor, ...given: (readonly [values: readonly number[], shape: Shape])[]) =>
  readAll(
    scoped(() => {
      const args = given.map(([values, shape]) => tensor(values, shape));
      const { value, grads } = valueAndGrad(() => {
        const y = call(...args);
        return [sum(y), y] as const;
      }, args);
      return [value[1], ...grads];
    }),
  );

/** The same numbers, each to six digits of one; NaN, infinities and whole numbers as they are. */
export const rounded = (values: readonly number[]): number[] => values.map((v) => (Number.isFinite(v) ? Math.round(v * 1e6) / 1e6 + 0 : v));

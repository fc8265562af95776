/** Numbers that keep their distance, for ops that choose among them: where two of them meet is a kink. */

import { add, mul } from "../../autograd/ops/elementwise.ts";
import { type Tensor, tensor } from "../../src/tensor.ts";
import type { Random } from "./row.ts";

/** The numbers from 0 to n - 1 in any order. */
export function shuffled(random: Random, n: number): number[] {
  const numbers = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const other = random.below(i + 1);
    [numbers[i], numbers[other]] = [numbers[other], numbers[i]];
  }
  return numbers;
}

/** Whole numbers, each moved by half of an x from 0 to 1. */
export const apart = (x: Tensor, whole: readonly number[]): Tensor => add(mul(x, tensor([0.5])), tensor(whole, x.shape));

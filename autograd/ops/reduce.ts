/** Reductions over any axes, each beside its derivative. */

import { axisOf, type Shape } from "../../src/shape.ts";
import { full, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { reduce, zip } from "./apply.ts";

/** dy, stretched again along the axes that were summed, and scaled. */
const unreduce = (dy: Tensor, shape: Shape, kept: Shape, scale: number): Tensor => zip("mul", dy.withShape(kept), full(shape, scale));

const reduction = (name: string, scaleOf: (count: number) => number) =>
  op(name, (x: Tensor, axes: readonly number[] | null = null, keepAxes: boolean = false) => {
    const over = (axes ?? x.shape.map((_, axis) => axis)).map((axis) => axisOf(name, axis, x.shape));
    const scale = scaleOf(over.reduce((count, axis) => count * x.shape[axis], 1));
    const kept = x.shape.map((size, axis) => (over.includes(axis) ? 1 : size));
    const shape = keepAxes ? kept : x.shape.filter((_, axis) => !over.includes(axis));
    return [reduce(x, over, scale).withShape(shape), [], (dy) => [unreduce(dy, x.shape, kept, scale)]];
  });

/** The sum over axes (default: all), which vanish unless `keepAxes`. */
export const sum = reduction("sum", () => 1);
/** The mean over axes (default: all), which vanish unless `keepAxes`. */
export const mean = reduction("mean", (count) => 1 / count);

/** Reductions over any axes, each beside its derivative. */

import { type Extreme, extremeGrad, extreme as extremeKernel, extremePlace } from "../../kernels/extreme.ts";
import { logSumExpGrad, logSumExp as logSumExpKernel } from "../../kernels/softmax.ts";
import { varianceGrad, variance as varianceKernel } from "../../kernels/variance.ts";
import { axisOf, type Shape, show, sizeOf } from "../../src/shape.ts";
import { full, run, type Tensor } from "../../src/tensor.ts";
import { door, inference, op } from "../tape.ts";
import { reduce, rowsOf, zip } from "./apply.ts";
import { permute, reshape } from "./shape.ts";

/** Axes to reduce over; null for all. */
export type Axes = readonly number[] | null;

/**
 * What a reduction over axes of x does: the axes counted from the front, how many numbers make one, and the result's shape, `kept` with sizes 1.
 * @throws RangeError for an axis that x has not, or that is named twice.
 */
function reduction(name: string, x: Tensor, axes: Axes, keepAxes: boolean) {
  const over = (axes ?? x.shape.map((_, axis) => axis)).map((axis) => axisOf(name, axis, x.shape));
  if (new Set(over).size < over.length)
    throw new RangeError(`${name}(x, axes): axes [${axes?.join(", ")}] name an axis of ${show(x.shape)} twice; name each once`);
  const kept = x.shape.map((size, axis) => (over.includes(axis) ? 1 : size));
  const shape = keepAxes ? kept : x.shape.filter((_, axis) => !over.includes(axis));
  return { over, kept, shape, count: over.reduce((count, axis) => count * x.shape[axis], 1) };
}

// ---- sums ----------------------------------------------------------------------------------

/** dy, stretched again along the axes that were summed, and scaled. */
const unreduce = (dy: Tensor, shape: Shape, kept: Shape, scale: number): Tensor =>
  zip("mul", dy.withShape(kept), full(shape, scale, "f32", dy.device));

const summing = (name: string, scaleOf: (count: number) => number) =>
  op(name, (x: Tensor, axes: Axes = null, keepAxes: boolean = false) => {
    const { over, kept, shape, count } = reduction(name, x, axes, keepAxes);
    const scale = scaleOf(count);
    return [reduce(x, over, scale).withShape(shape), [], (dy) => [unreduce(dy, x.shape, kept, scale)]];
  });

/** The sum over axes (default: all), which vanish unless `keepAxes`. */
export const sum = summing("sum", () => 1);
/** The mean over axes (default: all), which vanish unless `keepAxes`; of nothing NaN. */
export const mean = summing("mean", (count) => 1 / count);

// ---- rows folded into one number -----------------------------------------------------------

/** Bring the axes to reduce over to the end, fold the rows that they make, [rows, n] -> [rows], and give the result its shape. */
function foldAxes(name: string, x: Tensor, axes: Axes, keepAxes: boolean, fold: (rows: Tensor) => Tensor): Tensor {
  const { over, shape, count } = reduction(name, x, axes, keepAxes);
  const all = x.shape.map((_, axis) => axis);
  const order = [...all.filter((axis) => !over.includes(axis)), ...all.filter((axis) => over.includes(axis))];
  const last = order.every((axis, i) => axis === i) ? x : permute(x, order);
  return reshape(fold(reshape(last, [sizeOf(shape), count])), shape);
}

/** @throws RangeError for rows of nothing, of which none is the largest. */
function some(name: string, rows: Tensor): void {
  if (rows.shape[1] === 0)
    throw new RangeError(
      `${name}(x, axes): the axes hold no numbers, of which none can be the ${name}; reduce over axes of size 1 or more`,
    );
}

const extremeOf = (name: Extreme) => {
  const fold = op(name, (x: Tensor) => {
    some(name, x);
    const size = rowsOf(x);
    const { y } = run(extremeKernel(name), { x }, { y: [size.rows] }, size);
    return [y, [x, y], (dy) => [run(extremeGrad, { x, y, dy }, { dx: x.shape }, size).dx]];
  });
  return door(name, (x: Tensor, axes: Axes = null, keepAxes: boolean = false): Tensor => foldAxes(name, x, axes, keepAxes, fold));
};

/**
 * The largest number over axes (default: all), which vanish unless `keepAxes`; NaN anywhere gives NaN. Numbers that tie share the gradient evenly,
 * as in torch.amax.
 * @throws RangeError when the axes hold no numbers.
 */
export const max = extremeOf("max");
/** The least number over axes, as `max` has the largest (torch.amin). */
export const min = extremeOf("min");

const placeOf = (name: string, which: Extreme) =>
  door(
    name,
    (x: Tensor, axis: number | null = null, keepAxes: boolean = false): Tensor =>
      inference(() =>
        foldAxes(name, x, axis === null ? null : [axis], keepAxes, (rows) => {
          some(name, rows);
          const size = rowsOf(rows);
          return run(extremePlace(which), { x: rows }, { place: [size.rows] }, size).place;
        }),
      ),
  );

/**
 * Where the largest number stands along an axis, u32, the first of those that tie; without an axis, in all of x row-major. The axis vanishes unless
 * `keepAxes`. NaN counts as the largest. No gradient flows through a place.
 * @throws RangeError when the axis holds no numbers.
 */
export const argmax = placeOf("argmax", "max");
/** Where the least number stands, as `argmax` has the largest; NaN counts as the least. */
export const argmin = placeOf("argmin", "min");

export interface VarianceOptions {
  /** What is taken off the number of values in the divisor: 0 as numpy.var has it by default, 1 (Bessel's correction) as torch.var. */
  readonly correction?: number;
}

const foldVariance = op("variance", (x: Tensor, correction: number) => {
  const size = rowsOf(x);
  const params = { ...size, scale: 1 / Math.max(0, size.cols - correction) };
  const { y, means } = run(varianceKernel, { x }, { y: [size.rows], means: [size.rows] }, params);
  return [y, [x, means], (dy) => [run(varianceGrad, { x, means, dy }, { dx: x.shape }, params).dx]];
});

/**
 * The variance over axes (default: all), which vanish unless `keepAxes`: sum (x - mean)^2 / (n - correction), n the number of values; NaN where
 * that divides nothing by nothing. `correction` is 0 unless given, numpy's default; torch's is 1.
 */
export const variance = door(
  "variance",
  (x: Tensor, axes: Axes = null, keepAxes: boolean = false, { correction = 0 }: VarianceOptions = {}): Tensor =>
    foldAxes("variance", x, axes, keepAxes, (rows) => foldVariance(rows, correction)),
);

const foldLogSumExp = op("logSumExp", (x: Tensor) => {
  const size = rowsOf(x);
  const { y } = run(logSumExpKernel, { x }, { y: [size.rows] }, size);
  return [y, [x, y], (dy) => [run(logSumExpGrad, { x, y, dy }, { dx: x.shape }, size).dx]];
});

/**
 * log sum exp x over axes (default: all), which vanish unless `keepAxes`, without overflow; -Infinity of nothing, and of nothing but -Infinity.
 * The gradient is the softmax; there it is zero (NaN in torch.logsumexp).
 */
export const logSumExp = door(
  "logSumExp",
  (x: Tensor, axes: Axes = null, keepAxes: boolean = false): Tensor => foldAxes("logSumExp", x, axes, keepAxes, foldLogSumExp),
);

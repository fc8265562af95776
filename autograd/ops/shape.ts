/** Ops that move numbers and do not change them, each beside its derivative. */

import { permute as permuteKernel, window } from "../../kernels/permute.ts";
import { axisOf, MAX_AXES, type Shape, show, sizeOf, stridesOf } from "../../src/shape.ts";
import { run, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { fiveAxes } from "./apply.ts";

/** The same numbers in another shape, sharing the buffer. One size may be -1: whatever is left. */
export const reshape = op("reshape", (x: Tensor, shape: Shape) => {
  const known = shape.reduce((n, size) => (size === -1 ? n : n * size), 1);
  const whole = shape.map((size) => (size === -1 ? x.size / known : size));
  if (sizeOf(whole) !== x.size || whole.some((size) => !Number.isInteger(size) || size < 0))
    throw new RangeError(`reshape(x, shape): ${show(x.shape)} has ${x.size} elements, which do not fill ${show(shape)}`);
  return [x.withShape(whole), [], (dy) => [dy.withShape(x.shape)]];
});

const permuted = (x: Tensor, axes: readonly number[]): Tensor => {
  const shape = axes.map((axis) => x.shape[axis]);
  const strides = stridesOf(x.shape);
  const [, n1, n2, n3, n4] = fiveAxes("permute", shape);
  const [s0, s1, s2, s3, s4] = [...new Array<number>(MAX_AXES - axes.length).fill(0), ...axes.map((axis) => strides[axis])];
  return run(permuteKernel, { x }, { y: shape }, { n: x.size, n1, n2, n3, n4, s0, s1, s2, s3, s4 }).y;
};

/** Axes in another order: result axis i is axis axes[i] of x. */
export const permute = op("permute", (x: Tensor, axes: readonly number[]) => {
  const order = axes.map((axis) => axisOf("permute", axis, x.shape));
  if (new Set(order).size !== x.shape.length || order.length !== x.shape.length)
    throw new RangeError(`permute(x, axes): axes [${axes.join(", ")}] do not name each axis of ${show(x.shape)} once`);
  return [
    permuted(x, order),
    [],
    (dy) => [
      permuted(
        dy,
        order.map((_, axis) => order.indexOf(axis)),
      ),
    ],
  ];
});

/** Rows start ... stop - 1 along one axis. */
export const slice = op("slice", (x: Tensor, axis: number, start: number, stop: number) => {
  const along = axisOf("slice", axis, x.shape);
  const whole = x.shape[along];
  if (!(Number.isInteger(start) && Number.isInteger(stop) && 0 <= start && start <= stop && stop <= whole))
    throw new RangeError(`slice(x, axis, start, stop): ${start} to ${stop} does not lie within axis ${axis} of ${show(x.shape)}`);
  const size = stop - start;
  const shape = x.shape.with(along, size);
  const inner = sizeOf(x.shape.slice(along + 1));
  const { y } = run(window, { x }, { y: shape }, { n: sizeOf(shape), size, whole, inner, start });
  return [y, [], (dy) => [run(window, { x: dy }, { y: x.shape }, { n: x.size, size: whole, whole: size, inner, start: -start }).y]];
});

/** Ops that move numbers and do not change them, each beside its derivative. They take all dtypes. */

import { paste, permute as permuteKernel, window } from "../../kernels/permute.ts";
import { axisOf, broadcast, MAX_AXES, type Shape, sameShape, show, sizeOf, stridesOf } from "../../src/shape.ts";
import { emptyLike, runStored, storedAs, type Tensor } from "../../src/tensor.ts";
import { door, op } from "../tape.ts";
import { fiveAxes, stretched, sumTo, wordOf } from "./apply.ts";

/** The same numbers in another shape, sharing the buffer. One size may be -1: whatever is left. */
export const reshape = op("reshape", (x: Tensor, shape: Shape) => {
  const known = shape.reduce((n, size) => (size === -1 ? n : n * size), 1);
  const whole = shape.map((size) => (size === -1 ? x.size / known : size));
  if (sizeOf(whole) !== x.size || whole.some((size) => !Number.isInteger(size) || size < 0))
    throw new RangeError(`reshape(x, shape): ${show(x.shape)} has ${x.size} elements, which do not fill ${show(shape)}`);
  return [x.withShape(whole), [], (dy) => [dy.withShape(x.shape)]];
});

/** x read along its axes by other strides, of which 0 repeats. */
function strided(op: string, x: Tensor, shape: Shape, strides: readonly number[]): Tensor {
  const [, n1, n2, n3, n4] = fiveAxes(op, shape);
  const [s0, s1, s2, s3, s4] = [...new Array<number>(MAX_AXES - strides.length).fill(0), ...strides];
  const params = { n: sizeOf(shape), n1, n2, n3, n4, s0, s1, s2, s3, s4 };
  return runStored(permuteKernel(wordOf(x)), { x }, { y: storedAs(x, shape) }, params).y;
}

function permuted(x: Tensor, axes: readonly number[]): Tensor {
  const strides = stridesOf(x.shape);
  const order = (sizes: readonly number[]) => axes.map((axis) => sizes[axis]);
  return strided("permute", x, order(x.shape), order(strides));
}

/** Axes in another order: result axis i is axis axes[i] of x. At most five. */
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

/** x repeated along axes of size 1, or ones it has not, to fill a shape: as numpy.broadcast_to. At most five axes. */
export const broadcastTo = op("broadcastTo", (x: Tensor, shape: Shape) => {
  if (!sameShape(broadcast("broadcastTo", x.shape, shape), shape))
    throw new RangeError(`broadcastTo(x, shape): ${show(x.shape)} does not stretch to ${show(shape)}; its sizes must be equal, or 1 in x`);
  const strides = stretched("broadcastTo", x.shape, shape);
  return [strided("broadcastTo", x, shape, strides), [], (dy) => [sumTo(dy, x.shape)]];
});

/** `size` rows of x along one axis, from row `start` on; before x's first, which a negative start reaches, and after its last stand zeros. */
function view(x: Tensor, axis: number, start: number, size: number): Tensor {
  const shape = x.shape.with(axis, size);
  const inner = sizeOf(x.shape.slice(axis + 1));
  return runStored(window(wordOf(x)), { x }, { y: storedAs(x, shape) }, { n: sizeOf(shape), size, whole: x.shape[axis], inner, start }).y;
}

/** Rows start ... stop - 1 along one axis. */
export const slice = op("slice", (x: Tensor, axis: number, start: number, stop: number) => {
  const along = axisOf("slice", axis, x.shape);
  const whole = x.shape[along];
  if (!(Number.isInteger(start) && Number.isInteger(stop) && 0 <= start && start <= stop && stop <= whole))
    throw new RangeError(`slice(x, axis, start, stop): ${start} to ${stop} does not lie within axis ${axis} of ${show(x.shape)}`);
  return [view(x, along, start, stop - start), [], (dy) => [view(dy, along, -start, whole)]];
});

/** Zeros along one axis, `before` x and `after` it. */
export const pad = op("pad", (x: Tensor, axis: number, before: number, after: number) => {
  const along = axisOf("pad", axis, x.shape);
  const whole = x.shape[along];
  if (![before, after].every((rows) => Number.isInteger(rows) && rows >= 0))
    throw new RangeError(`pad(x, axis, before, after): ${before} and ${after} rows of zeros; give integers from 0`);
  return [view(x, along, -before, before + whole + after), [], (dy) => [view(dy, along, before, whole)]];
});

const joined = op("concat", (first: Tensor, axis: number, ...others: Tensor[]) => {
  const signature = "concat(tensors, axis)";
  const parts = [first, ...others];
  const along = axisOf("concat", axis, first.shape);
  const { dtype } = first;
  parts.forEach((part, i) => {
    if (part.dtype !== dtype)
      throw new TypeError(`${signature}: tensor 1 is ${dtype} but tensor ${i + 1} is ${part.dtype}; give all in one dtype`);
    if (part.shape.length !== first.shape.length || !sameShape(part.shape.with(along, 0), first.shape.with(along, 0)))
      throw new RangeError(
        `${signature}: tensors 1 and ${i + 1} differ beside axis ${axis}; got ${show(first.shape)} and ${show(part.shape)}; make all other axes equal`,
      );
  });
  const sizes = parts.map(({ shape }) => shape[along]);
  const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0));
  const whole = starts[parts.length - 1] + sizes[parts.length - 1];
  const inner = sizeOf(first.shape.slice(along + 1));
  const y = emptyLike(first, first.shape.with(along, whole));
  parts.forEach((x, i) => {
    runStored(paste(wordOf(x)), { x }, { y }, { n: x.size, size: sizes[i], whole, inner, start: starts[i] });
  });
  return [y, [], (dy, need) => parts.map((_, i) => (need[i] ? view(dy, along, starts[i], sizes[i]) : null))];
});

/**
 * Tensors one after the other along an axis, their other axes equal.   [..., a, ...], [..., b, ...] -> [..., a + b, ...]
 * @throws RangeError for an empty list, or other axes that differ. @throws TypeError for dtypes that differ.
 */
export const concat = door("concat", (tensors: readonly Tensor[], axis: number = 0): Tensor => {
  const [first, ...others] = tensors;
  if (!first) throw new RangeError("concat(tensors, axis): the list is empty; give one tensor at least");
  return joined(first, axis, ...others);
});

/**
 * Tensors of one shape side by side along a new axis, where that stands in the result.   n times [...] -> [..., n, ...]
 * @throws RangeError for an empty list, or shapes that differ.
 */
export const stack = door("stack", (tensors: readonly Tensor[], axis: number = 0): Tensor => {
  const [first] = tensors;
  if (!first) throw new RangeError("stack(tensors, axis): the list is empty; give one tensor at least");
  const other = tensors.findIndex(({ shape }) => !sameShape(shape, first.shape));
  if (other > 0)
    throw new RangeError(
      `stack(tensors, axis): tensors 1 and ${other + 1} differ; got ${show(first.shape)} and ${show(tensors[other].shape)}; make all shapes equal`,
    );
  const along = axisOf("stack", axis, [...first.shape, tensors.length]);
  return concat(
    tensors.map((x) => reshape(x, x.shape.toSpliced(along, 0, 1))),
    along,
  );
});

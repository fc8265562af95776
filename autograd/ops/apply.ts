/** Kernels applied to tensors without a derivative: what ops and their ways back are made of. */

import {
  type BinaryName,
  map as mapKernel,
  type TernaryName,
  type UnaryName,
  zipBroadcast,
  zip as zipKernel,
  zipThree as zipThreeKernel,
} from "../../kernels/elementwise.ts";
import type { Word } from "../../kernels/permute.ts";
import { sumColumns, sumRows } from "../../kernels/reduce.ts";
import { broadcast, MAX_AXES, type Shape, sameShape, show, sizeOf, stridesOf } from "../../src/shape.ts";
import { full, runStored, type StoredAs, storedAs, type Tensor } from "../../src/tensor.ts";

export const map = (name: UnaryName, a: Tensor): Tensor => runStored(mapKernel(name), { a }, { z: storedAs(a) }, { n: a.size }).z;

/** What a kernel that moves numbers is to take them for: f16 is moved as f32, of which the kernel may store it. */
export const wordOf = ({ dtype }: Tensor): Word => (dtype === "f16" ? "f32" : dtype);

/** What an elementwise result is stored as: f16 where one of its arguments is. */
const joint = (shape: Shape, ...args: readonly [Tensor, ...Tensor[]]): StoredAs =>
  storedAs(args.find(({ dtype }) => dtype === "f16") ?? args[0], shape);

/** Sizes and strides of a shape, brought to five axes: what a kernel that walks coordinates takes. */
export const fiveAxes = (op: string, shape: Shape): number[] => {
  if (shape.length > MAX_AXES) throw new RangeError(`${op}: ${show(shape)} has ${shape.length} axes; at most ${MAX_AXES} are supported`);
  return [...new Array<number>(MAX_AXES - shape.length).fill(1), ...shape];
};

/** Strides of `from` seen as `to`, five of them: 0 along axes that stretch. */
export const stretched = (op: string, from: Shape, to: Shape): number[] => {
  const sizes = fiveAxes(op, from);
  const goal = fiveAxes(op, to);
  return stridesOf(sizes).map((stride, axis) => (sizes[axis] === 1 && goal[axis] !== 1 ? 0 : stride));
};

export function zip(name: BinaryName, a: Tensor, b: Tensor): Tensor {
  if (sameShape(a.shape, b.shape)) return runStored(zipKernel(name), { a, b }, { z: joint(a.shape, a, b) }, { n: a.size }).z;
  const shape = broadcast(name, a.shape, b.shape);
  const [, n1, n2, n3, n4] = fiveAxes(name, shape);
  const [a0, a1, a2, a3, a4] = stretched(name, a.shape, shape);
  const [b0, b1, b2, b3, b4] = stretched(name, b.shape, shape);
  const params = { n: sizeOf(shape), n1, n2, n3, n4, a0, a1, a2, a3, a4, b0, b1, b2, b3, b4 };
  return runStored(zipBroadcast(name), { a, b }, { z: joint(shape, a, b) }, params).z;
}

/** Of three, all stretching. */
export function zipThree(name: TernaryName, a: Tensor, b: Tensor, d: Tensor): Tensor {
  let shape = a.shape;
  try {
    for (const other of [b, d]) shape = broadcast(name, shape, other.shape);
  } catch (cause) {
    const shapes = [a, b, d].map((t) => show(t.shape)).join(", ");
    throw new RangeError(`${name}: ${shapes} do not broadcast to one shape; sizes must be equal or 1, from the last axis on`, { cause });
  }
  const [, n1, n2, n3, n4] = fiveAxes(name, shape);
  const [a0, a1, a2, a3, a4] = stretched(name, a.shape, shape);
  const [b0, b1, b2, b3, b4] = stretched(name, b.shape, shape);
  const [d0, d1, d2, d3, d4] = stretched(name, d.shape, shape);
  const sizes = { n: sizeOf(shape), n1, n2, n3, n4 };
  const strides = { a0, a1, a2, a3, a4, b0, b1, b2, b3, b4, d0, d1, d2, d3, d4 };
  return runStored(zipThreeKernel(name), { a, b, d }, { z: joint(shape, a, b, d) }, { ...sizes, ...strides }).z;
}

/** Undo a broadcast: add up along the axes that were stretched. */
export function sumTo(dz: Tensor, shape: Shape): Tensor {
  if (sameShape(dz.shape, shape)) return dz;
  const lead = dz.shape.length - shape.length;
  const axes = dz.shape.flatMap((size, axis) => (axis < lead || (shape[axis - lead] === 1 && size !== 1) ? [axis] : []));
  return reduce(dz, axes, 1).withShape(shape);
}

/** scale * the sum over some axes, which stay with size 1, as f32. Neighbouring axes are summed together. */
export function reduce(x: Tensor, axes: readonly number[], scale: number): Tensor {
  const shape = [...x.shape];
  let y = x;
  let factor = scale;
  for (let last = shape.length - 1; last >= 0; last--) {
    if (!axes.includes(last)) continue;
    let first = last;
    while (first > 0 && axes.includes(first - 1)) first--;
    const rows = sizeOf(shape.slice(first, last + 1));
    const inner = sizeOf(shape.slice(last + 1));
    const outer = sizeOf(shape.slice(0, first));
    shape.fill(1, first, last + 1);
    y =
      inner === 1
        ? runStored(sumRows, { x: y }, { y: shape }, { rows: outer, cols: rows, scale: factor }).y
        : runStored(sumColumns, { x: y }, { y: shape }, { cols: outer * inner, rows, inner, scale: factor }).y;
    factor = 1;
    last = first;
  }
  return factor === 1 ? y.withShape(shape) : zip("mul", y, full([], factor, "f32", y.device)).withShape(shape);
}

/** A tensor as rows of its last axis. */
export const rowsOf = (x: Tensor) => ({ rows: sizeOf(x.shape.slice(0, -1)), cols: x.shape[x.shape.length - 1] });

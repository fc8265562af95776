/** Ops over a stream of rows and its segments, each beside its derivative. */

import { baseOf, gather as gatherKernel, gatherSum, type IndexWord, invert } from "../../kernels/gather.ts";
import {
  segmentMaxGrad,
  segmentMax as segmentMaxKernel,
  segmentMeanGrad,
  segmentMean as segmentMeanKernel,
  segmentSumGrad,
  segmentSum as segmentSumKernel,
} from "../../kernels/segment.ts";
import { bind, type Shape, sameShape, show, sizeOf } from "../../src/shape.ts";
import type { Index, Segments } from "../../src/stream.ts";
import { run, runStored, storedAs, Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { wordOf } from "./apply.ts";

/** Where each place's row lies, and the way back from rows to places. */
interface Places {
  readonly values: Tensor;
  readonly dtype: IndexWord;
  /** What `inverse` is made of. */
  readonly source: readonly Tensor[];
  inverse(): { readonly order: Tensor; readonly starts: Tensor };
}

/** An index made on the host has its inverse, unless it was made without; one made on the device is inverted there, when it is needed. */
function placesOf(signature: string, index: Index | Tensor, rows: number): Places {
  if (index instanceof Tensor) {
    const { dtype, size: n } = index;
    if (dtype !== "u32" && dtype !== "i32") throw new TypeError(`${signature}: the index is ${dtype}; give u32 or i32`);
    const inverse = () => run(invert(dtype), { index }, { order: [n], starts: [rows + 1] }, { n, rows, base: baseOf(rows) });
    return { values: index, dtype, source: [index], inverse };
  }
  const { values, inverse } = index;
  return {
    values,
    dtype: "u32",
    source: inverse ? [inverse.order, inverse.starts] : [],
    inverse() {
      if (!inverse) throw new Error(`${signature}: the index was made without its inverse; make it with gradients: true`);
      return inverse;
    },
  };
}

/** At each place the row of x that it names, or zeros. */
function rowsAt(x: Tensor, { values, dtype }: Places, shape: Shape): Tensor {
  const [whole, ...row] = x.shape;
  const kernel = gatherKernel(wordOf(x), dtype);
  return runStored(kernel, { x, index: values }, { y: storedAs(x, shape) }, { rows: values.size, cols: sizeOf(row), whole }).y;
}

/** For each row the sum of x at the places that name it. */
const sumsAt = (x: Tensor, { inverse }: Places, shape: Shape): Tensor =>
  runStored(gatherSum, { x, ...inverse() }, { y: storedAs(x, shape) }, { rows: shape[0], cols: sizeOf(shape.slice(1)) }).y;

/**
 * Rows of a table by index. The index is one that `index(...)` made on the host, or a tensor of u32 or i32 of any shape, such as an op gives: there
 * a value that names no row (negative, or too large) reads zeros and gives no gradient.
 *   x [R, ...], index of M places -> [M, ...];   index [I...] -> [I..., ...]
 */
export const gather = op("gather", (x: Tensor, index: Index | Tensor) => {
  const signature = "gather(x, index)";
  if (x.shape.length === 0 || !(index instanceof Tensor || x.shape[0] === index.rows))
    throw new RangeError(
      `${signature}: the index points into ${index instanceof Tensor ? "" : `${index.rows} `}rows; got x ${show(x.shape)}`,
    );
  const places = placesOf(signature, index, x.shape[0]);
  const shape = [...places.values.shape, ...x.shape.slice(1)];
  return [rowsAt(x, places, shape), places.source, (dy) => [sumsAt(dy, places, x.shape)]];
});

/**
 * Add rows up where an index says: y[index[i]] += x[i]. The other way of `gather`, with the same indices: a place that names no row is left out.
 *   x [M, ...], index of M places -> [R, ...];   x [I..., ...], index [I...] -> [R, ...]
 * `rows` is R, which an index made on the host knows.
 */
export const scatterAdd = op("scatterAdd", (x: Tensor, index: Index | Tensor, rows: number | null = null) => {
  const onDevice = index instanceof Tensor;
  const signature = onDevice ? "scatterAdd(x, index, rows)" : "scatterAdd(x, index)";
  const lead = onDevice ? index.shape : index.values.shape;
  if (!sameShape(x.shape.slice(0, lead.length), lead))
    throw new RangeError(
      `${signature}: the index has ${onDevice ? `shape ${show(lead)}` : `${index.values.size} places`}; got x ${show(x.shape)}`,
    );
  if (!(onDevice || index.whole))
    throw new RangeError(`${signature}: the index leaves places out (count, frozen), whose gradient would not be zero; make it without`);
  const whole = onDevice ? rows : index.rows;
  if (whole === null || !Number.isInteger(whole) || whole < 0 || (rows ?? whole) !== whole)
    throw new RangeError(
      `${signature}: rows is ${rows}; give the result's number of rows${onDevice ? "" : ` as the index has it, ${whole}`}`,
    );
  const places = placesOf(signature, index, whole);
  return [sumsAt(x, places, [whole, ...x.shape.slice(lead.length)]), [places.values], (dy) => [rowsAt(dy, places, x.shape)]];
});

/** The columns of a stream that segments are of. */
const columnsOf = (name: string, x: Tensor, { rows }: Segments): number => {
  const { n, c } = bind(name, "n c", [x.shape]);
  if (n !== rows) throw new RangeError(`${name}(n c): the segments cover ${rows} rows; got x ${show(x.shape)}`);
  return c;
};

const folded = (name: string, kernel: typeof segmentMeanKernel, gradient: typeof segmentMeanGrad) =>
  op(name, (x: Tensor, segments: Segments) => {
    const cols = columnsOf(name, x, segments);
    const { rows, count, spans, owner } = segments;
    const { y } = runStored(kernel, { x, spans }, { y: [count, cols] }, { rows: count, cols });
    return [y, [spans, owner], (dy) => [runStored(gradient, { dy, spans, owner }, { dx: storedAs(x) }, { rows, cols }).dx]];
  });

/** The sum of each segment's rows, here and below as f32; zeros for an empty one.   x [N, C] -> [B, C] */
export const segmentSum = folded("segmentSum", segmentSumKernel, segmentSumGrad);
/** The mean of each segment's rows; zeros for an empty one.   x [N, C] -> [B, C] */
export const segmentMean = folded("segmentMean", segmentMeanKernel, segmentMeanGrad);

/** The largest of each segment's rows, column by column; zeros for an empty one, NaN where there is NaN. Rows that tie share the gradient evenly.   x [N, C] -> [B, C] */
export const segmentMax = op("segmentMax", (x: Tensor, segments: Segments) => {
  const cols = columnsOf("segmentMax", x, segments);
  const { rows, count, spans, owner } = segments;
  const { y, ties } = run(segmentMaxKernel, { x, spans }, { y: [count, cols], ties: [count, cols] }, { rows: count, cols });
  return [y, [x, y, ties, owner], (dy) => [run(segmentMaxGrad, { x, y, ties, owner, dy }, { dx: x.shape }, { rows, cols }).dx]];
});

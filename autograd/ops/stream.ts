/** Ops over a stream of rows and its segments, each beside its derivative. */

import { gather as gatherKernel, gatherSum } from "../../kernels/gather.ts";
import { segmentMeanGrad, segmentMean as segmentMeanKernel } from "../../kernels/segment.ts";
import { bind, type Shape, show, sizeOf } from "../../src/shape.ts";
import type { Index, Segments } from "../../src/stream.ts";
import { run, type Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";

/** Rows of a table by index.   x [R, ...], index of M places -> [M, ...] */
export const gather = op("gather", (x: Tensor, index: Index) => {
  if (x.shape.length === 0 || x.shape[0] !== index.rows)
    throw new RangeError(`gather(x, index): the index points into ${index.rows} rows; got x ${show(x.shape)}`);
  const cols = sizeOf(x.shape.slice(1));
  const shape = [index.values.size, ...x.shape.slice(1)];
  const { y } = run(gatherKernel, { x, index: index.values }, { y: shape }, { rows: index.values.size, cols });
  const kept = index.inverse ? [index.inverse.order, index.inverse.starts] : [];
  return [y, kept, (dy) => [scatter("gather", dy, index, x.shape)]];
});

function scatter(op: string, x: Tensor, { inverse, rows }: Index, shape: Shape): Tensor {
  if (!inverse) throw new Error(`${op}(x, index): the index was made without its inverse; make it with gradients: true`);
  return run(gatherSum, { x, ...inverse }, { y: shape }, { rows, cols: sizeOf(shape.slice(1)) }).y;
}

/** Add rows up where an index says: y[index[i]] += x[i]. The other way of `gather`.   x [M, ...], index of M places -> [R, ...] */
export const scatterAdd = op("scatterAdd", (x: Tensor, index: Index) => {
  if (x.shape[0] !== index.values.size)
    throw new RangeError(`scatterAdd(x, index): the index has ${index.values.size} places; got x ${show(x.shape)}`);
  if (!index.whole)
    throw new RangeError(
      "scatterAdd(x, index): the index leaves places out (count, frozen), whose gradient would not be zero; make it without",
    );
  const cols = sizeOf(x.shape.slice(1));
  return [
    scatter("scatterAdd", x, index, [index.rows, ...x.shape.slice(1)]),
    [index.values],
    (dy) => [run(gatherKernel, { x: dy, index: index.values }, { y: x.shape }, { rows: index.values.size, cols }).y],
  ];
});

/** The mean of each segment's rows.   x [N, C] -> [B, C] */
export const segmentMean = op("segmentMean", (x: Tensor, { rows, count, spans, owner }: Segments) => {
  const { n, c: cols } = bind("segmentMean", "n c", [x.shape]);
  if (n !== rows) throw new RangeError(`segmentMean(n c): the segments cover ${rows} rows; got x ${show(x.shape)}`);
  const { y } = run(segmentMeanKernel, { x, spans }, { y: [count, cols] }, { rows: count, cols });
  return [y, [spans, owner], (dy) => [run(segmentMeanGrad, { dy, spans, owner }, { dx: x.shape }, { rows, cols }).dx]];
});

/** How each op of ops.json is called here (test/golden/README.md says what its cases hold), and the ops that have no golden. */

import * as ops from "../../autograd/ops.ts";
import type { Shape } from "../../src/shape.ts";
import { index, type Segments, segments } from "../../src/stream.ts";
import { integers, type Tensor, tensor } from "../../src/tensor.ts";

/** A tensor of a golden file. */
export interface Golden {
  readonly shape: Shape;
  readonly values: Float32Array | Uint32Array;
}

/** A case's options, each of what type its op says. */
export type Options = Readonly<Record<string, never>>;
/** A case's float inputs on the device, its options, and its integer inputs; to its outputs. */
type Call = (floats: readonly Tensor[], options: Options, whole: readonly Golden[]) => Tensor | readonly Tensor[];
type Op = keyof typeof ops;

/** An op of tensors alone; a number may stand for the first or the last. */
const plain =
  (op: (...args: never[]) => Tensor): Call =>
  (args, { left, right }) =>
    (op as (...args: (Tensor | number)[]) => Tensor)(...[left ?? [], args, right ?? []].flat());
const reduction =
  (op: (x: Tensor, axes: ops.Axes, keepAxes: boolean) => Tensor): Call =>
  ([x], { axes, keep }) =>
    op(x, axes, keep);
const place =
  (op: typeof ops.argmax): Call =>
  ([x], { axis, keep }) =>
    op(x, axis, keep);
const alongAxis =
  (op: typeof ops.softmax): Call =>
  ([x], { axis }) =>
    op(x, axis);
const joining =
  (op: typeof ops.concat): Call =>
  (parts, { axis }) =>
    op(parts, axis);

/** An integer input on the device. */
const upload = ({ values, shape }: Golden): Tensor => integers(values, shape);
/** The segments that begin at `starts` in the rows of x; those after the last start are dead. */
const segmentsOf = ({ shape: [rows] }: Tensor, { values }: Golden): Segments =>
  segments(
    Array.from(values.subarray(1), (end, i) => end - values[i]),
    { rows },
  );
const segmental =
  (op: typeof ops.segmentSum): Call =>
  ([x], _, [starts]) =>
    op(x, segmentsOf(x, starts));

/** The ops without a golden, and why. */
export const withoutGolden = {
  dropout: "draws its mask from our own random numbers, which torch has not",
} satisfies Partial<Record<Op, string>>;

/** Every other op. Forgetting one does not compile. */
export const calls: Record<Exclude<Op, keyof typeof withoutGolden>, Call> = {
  add: plain(ops.add),
  sub: plain(ops.sub),
  mul: plain(ops.mul),
  div: plain(ops.div),
  pow: plain(ops.pow),
  maximum: plain(ops.maximum),
  minimum: plain(ops.minimum),
  equal: plain(ops.equal),
  notEqual: plain(ops.notEqual),
  less: plain(ops.less),
  lessEqual: plain(ops.lessEqual),
  greater: plain(ops.greater),
  greaterEqual: plain(ops.greaterEqual),
  where: plain(ops.where),
  neg: plain(ops.neg),
  abs: plain(ops.abs),
  exp: plain(ops.exp),
  log: plain(ops.log),
  sqrt: plain(ops.sqrt),
  rsqrt: plain(ops.rsqrt),
  square: plain(ops.square),
  tanh: plain(ops.tanh),
  sigmoid: plain(ops.sigmoid),
  softplus: plain(ops.softplus),
  silu: plain(ops.silu),
  relu: plain(ops.relu),
  gelu: plain(ops.gelu),
  geluTanh: plain(ops.geluTanh),
  clamp: ([x], { low, high }) => ops.clamp(x, low, high),
  cast: ([x], { dtype }) => ops.cast(ops.cast(x, dtype), "f32"),

  sum: reduction(ops.sum),
  mean: reduction(ops.mean),
  max: reduction(ops.max),
  min: reduction(ops.min),
  variance: ([x], { axes, keep, correction }) => ops.variance(x, axes, keep, { correction }),
  logSumExp: reduction(ops.logSumExp),
  argmax: place(ops.argmax),
  argmin: place(ops.argmin),

  matmul: ([a, b], options) => ops.matmul(a, b, options),
  linear([x, weight, ...rest], { bias, activation, residual }) {
    const offsets = bias ? rest[0] : null;
    const after = residual ? rest.at(-1)! : null;
    if (activation === "none") return ops.linear(x, weight, offsets, after);
    const y = activation === "relu" ? ops.linear(x, weight, offsets, null, { relu: true }) : ops.gelu(ops.linear(x, weight, offsets));
    return after ? ops.add(y, after) : y;
  },

  softmax: alongAxis(ops.softmax),
  logSoftmax: alongAxis(ops.logSoftmax),
  cumsum: alongAxis(ops.cumsum),
  layerNorm: ([x, weight, bias], { eps }) => ops.layerNorm(x, weight, bias, eps),
  addNorm: ([x, r, weight, bias], { eps }) => ops.addNorm(x, r, weight, bias, eps),
  rmsNorm: ([x, weight], { eps }) => ops.rmsNorm(x, weight, eps),
  cosine: ([a, b], { eps }) => ops.cosine(a, b, eps),
  topK([x], { k }) {
    const { values, indices } = ops.topK(x, k);
    return [values, indices];
  },
  take: ([x], _, [places]) => ops.take(x, upload(places)),
  oneHot: (_, { n }, [labels]) => ops.oneHot(upload(labels), n),

  gather: ([x], { device, padding = -1 }, [places]) =>
    ops.gather(x, device ? upload(places) : index(places.values, x.shape[0], { frozen: padding })),
  scatterAdd: ([x], { device, rows }, [places]) =>
    device ? ops.scatterAdd(x, upload(places), rows) : ops.scatterAdd(x, index(places.values, rows)),
  segmentSum: segmental(ops.segmentSum),
  segmentMean: segmental(ops.segmentMean),
  segmentMax: segmental(ops.segmentMax),
  attention: ([q, k, v], { heads, causal }, [starts, keys]) =>
    ops.attention(q, k, v, segmentsOf(q, starts), heads, { causal, ...(keys && { keys: segmentsOf(k, keys) }) }),

  crossEntropy: ([x, weights], { smoothing, count }, [labels]) =>
    ops.crossEntropy(x, upload(labels), { smoothing, weights, count: count === null ? null : tensor([count]) }),
  mse: ([a, b]) => ops.mse(a, b),

  reshape: ([x], { shape }) => ops.reshape(x, shape),
  permute: ([x], { axes }) => ops.permute(x, axes),
  broadcastTo: ([x], { shape }) => ops.broadcastTo(x, shape),
  slice: ([x], { slices }) => (slices as number[][]).reduce((y, [axis, start, stop]) => ops.slice(y, axis, start, stop), x),
  pad: ([x], { axis, before, after }) => ops.pad(x, axis, before, after),
  concat: joining(ops.concat),
  stack: joining(ops.stack),
};

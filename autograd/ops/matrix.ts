/** Products of matrices, each beside its derivative. */

import { matmul as matmulKernel } from "../../kernels/matmul.ts";
import { checkOptions } from "../../src/options.ts";
import { bind, broadcast, type Shape, sameShape, show, sizeOf } from "../../src/shape.ts";
import { runStored, storedAs, type Tensor } from "../../src/tensor.ts";
import { op, storedLike } from "../tape.ts";
import { reduce, rowsOf, sumTo, zip } from "./apply.ts";
import { broadcastTo } from "./shape.ts";

interface Product {
  /** Whose dtype the result has. */
  readonly like: Tensor;
  readonly ta?: boolean;
  readonly tb?: boolean;
  readonly bias?: Tensor | null;
  readonly relu?: boolean;
  readonly residual?: Tensor | null;
}

/** The kernel, for matrices m x k and k x n after transposing; `batch` of them, of which either side may be one for all. */
function product(
  a: Tensor,
  b: Tensor,
  shape: Shape,
  { like, ta = false, tb = false, bias = null, relu = false, residual = null }: Product,
): Tensor {
  const [m, n] = shape.slice(-2);
  const k = a.shape[a.shape.length - (ta ? 2 : 1)];
  const batch = sizeOf(shape.slice(0, -2));
  const kernel = matmulKernel(ta, tb, bias !== null, relu, residual !== null);
  const inputs = { a, b, ...(bias && { bias }), ...(residual && { residual }) };
  const strideA = a.shape.length > 2 && a.size > m * k ? m * k : 0;
  const strideB = b.shape.length > 2 && b.size > k * n ? k * n : 0;
  return runStored(kernel, inputs, { c: storedAs(like, shape) }, { m, n, k, batch, strideA, strideB }).c;
}

/** Swap the last two of a signature's letters. */
const turn = (letters: string, turned: boolean) => (turned ? letters.split(" ").reverse().join(" ") : letters);

/** Do batches stretch to one another? */
const meet = (a: Shape, b: Shape): boolean =>
  a.every((size, i) => {
    const other = b[i + b.length - a.length] ?? 1;
    return size === other || size === 1 || other === 1;
  });

/** One side of a batched product, for the kernel: as it is where one matrix serves all or each has its own, else copied out to the whole batch. */
const spread = (x: Tensor, lead: Shape): Tensor => {
  const own = sizeOf(x.shape.slice(0, -2));
  return own === 1 || own === sizeOf(lead) ? x : broadcastTo(x, [...lead, ...x.shape.slice(-2)]);
};

export interface Transposes {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/**
 * a b for the last two axes, the axes before them a batch, which stretch as numpy's do: equal, 1, or absent on one side.
 * `transposeA`, `transposeB` read that side transposed. The result is f16 where a side is.   a [..., m, k], b [..., k, n] -> [..., m, n]
 */
export const matmul = op("matmul", (a: Tensor, b: Tensor, options: Transposes = {}) => {
  checkOptions("matmul(a, b, options)", options, ["transposeA", "transposeB"]);
  const { transposeA: ta = false, transposeB: tb = false } = options;
  const signature = `... ${turn("m k", ta)}, ... ${turn("k n", tb)}`;
  const { m, n } = bind("matmul", signature, [a.shape, b.shape]);
  const [leadA, leadB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  if (!meet(leadA, leadB))
    throw new RangeError(
      `matmul(${signature}): batches differ; got ${show(a.shape)} and ${show(b.shape)}; make them equal, or leave one out, or 1 where it repeats`,
    );
  const lead = broadcast("matmul", leadA, leadB);
  // c = a b: da = dc bT, db = aT dc; a side that is stored transposed has its gradient transposed, which swaps the factors.
  const back = (dc: Tensor, x: Tensor, first: boolean): Tensor => {
    const other = spread(first ? b : a, lead);
    const shape = [...lead, ...x.shape.slice(-2)];
    const dx = first
      ? ta
        ? product(other, dc, shape, { like: x, ta: tb, tb: true })
        : product(dc, other, shape, { like: x, tb: !tb })
      : tb
        ? product(dc, other, shape, { like: x, ta: true, tb: ta })
        : product(other, dc, shape, { like: x, ta: !ta });
    return sumTo(dx, x.shape);
  };
  return [
    product(spread(a, lead), spread(b, lead), [...lead, m, n], { like: a.dtype === "f16" ? a : b, ta, tb }),
    [a, b],
    (dc, need) => [need[0] ? back(dc, a, true) : null, need[1] ? back(dc, b, false) : null],
  ];
});

/**
 * x weightT + bias, then relu where asked, then + residual: one kernel. The result is stored as x is. Beside an x of f16 a weight of f32 is read as a copy in
 * f16, made again on the way back rather than kept; its gradient is f32.
 *   x [..., in], weight [out, in], bias [out] or null, residual [..., out] or null -> [..., out]
 */
export const linear = op(
  "linear",
  (x: Tensor, weight: Tensor, bias: Tensor | null = null, residual: Tensor | null = null, options: { readonly relu?: boolean } = {}) => {
    checkOptions("linear(x, weight, bias, residual, options)", options, ["relu"]);
    const { relu = false } = options;
    const { out } = bind("linear", "... in, out in", [x.shape, weight.shape]);
    if (bias) bind("linear", "out in, out", [weight.shape, bias.shape]);
    const shape = [...x.shape.slice(0, -1), out];
    if (residual && !sameShape(residual.shape, shape))
      throw new RangeError(`linear(... in, out in): the residual must have the result's shape ${show(shape)}; got ${show(residual.shape)}`);
    if (relu && residual)
      throw new RangeError("linear(... in, out in): relu with a residual hides where relu was zero; add the residual by itself");
    const { rows } = rowsOf(x);
    const flat = (t: Tensor) => t.withShape([rows, t.shape[t.shape.length - 1]]);
    const copied = () => (x.dtype === "f16" ? storedLike(x, weight) : weight);
    const y = product(flat(x), copied(), [rows, out], { like: x, tb: true, bias, relu, residual: residual && flat(residual) }).withShape(
      shape,
    );
    return [
      y,
      relu ? [x, weight, y] : [x, weight],
      (dy, need) => {
        const dz = flat(relu ? zip("reluGrad", y, dy) : dy);
        const grads: (Tensor | null)[] = [
          need[0] ? product(dz, copied(), [rows, x.shape[x.shape.length - 1]], { like: x }).withShape(x.shape) : null,
          need[1] ? product(dz, flat(x), weight.shape, { like: weight, ta: true }) : null, // dW = dzT x
        ];
        if (bias) grads.push(need[2] ? reduce(dz, [0], 1).withShape(bias.shape) : null);
        if (residual) grads.push(dy);
        return grads;
      },
    ];
  },
);

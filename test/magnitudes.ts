/**
 * What f32 roundings are relative to, where an op is no plain sum of products: an upper bound on the absolute terms of its value, and of each
 * gradient. Where a result depends on another rounded one (a probability on its score), so does its magnitude.
 */

const norm = (x: Float64Array): number => Math.hypot(...x);
const sumOf = (n: number, f: (j: number) => number): number => {
  let total = 0;
  for (let j = 0; j < n; j++) total += f(j);
  return total;
};
const rowsOf = (x: Float64Array, cols: number): Float64Array[] =>
  Array.from({ length: x.length / cols }, (_, i) => x.subarray(i * cols, (i + 1) * cols));
const join = (rows: readonly Float64Array[]): Float64Array => Float64Array.from(rows.flatMap((row) => [...row]));

/** Probabilities of a row, and how far its scores lie apart: the relative error of exp(x - m) is |x - m| u and more. */
function probabilities(x: Float64Array): { p: Float64Array; log: number; spread: number } {
  const most = x.reduce((a, b) => Math.max(a, b));
  const least = x.reduce((a, b) => Math.min(a, b));
  const total = x.reduce((sum, v) => sum + Math.exp(v - most), 0);
  return { p: x.map((v) => Math.exp(v - most) / total), log: most + Math.log(total), spread: 1 + 2 * (most - least) };
}

/** y, and dx = y (dy - sum dy y) */
export function softmax(x: Float64Array, dy: Float64Array, n: number): Float64Array[] {
  const rows = rowsOf(x, n).map((row, i) => {
    const { p, spread } = probabilities(row);
    const d = dy.subarray(i * n, (i + 1) * n).map(Math.abs);
    const dot = sumOf(n, (j) => d[j] * p[j]);
    return { y: p.map((v) => v * spread), dx: p.map((v, j) => v * spread * (d[j] + 2 * dot)) };
  });
  return [join(rows.map(({ y }) => y)), join(rows.map(({ dx }) => dx))];
}

/** xhat is relative to (|x| + mean |x|) r, not to itself: what cancels in x - mean is lost. `terms`: the size of what x was added up from. */
export function layerNorm(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array,
  dy: Float64Array,
  n: number,
  eps: number,
  terms: Float64Array = x.map(Math.abs),
): Float64Array[] {
  const dweight = new Float64Array(n);
  const dbias = new Float64Array(n);
  const rows = rowsOf(x, n).map((row, i) => {
    const mean = sumOf(n, (j) => row[j]) / n;
    const r = 1 / Math.sqrt(sumOf(n, (j) => (row[j] - mean) ** 2) / n + eps);
    const sizes = terms.subarray(i * n, (i + 1) * n);
    const size = sumOf(n, (j) => sizes[j]) / n;
    const most = sizes.reduce((a, v) => Math.max(a, r * (v + size)), 0);
    const xhat = row.map((v, j) => Math.abs(v - mean) * r * (2 + most) + r * (sizes[j] + size));
    const d = dy.subarray(i * n, (i + 1) * n).map(Math.abs);
    const g = d.map((v, j) => v * Math.abs(weight[j]));
    const meanG = sumOf(n, (j) => g[j]) / n;
    const meanGx = sumOf(n, (j) => g[j] * xhat[j]) / n;
    for (let j = 0; j < n; j++) {
      dweight[j] += d[j] * xhat[j];
      dbias[j] += d[j];
    }
    return {
      y: xhat.map((v, j) => v * Math.abs(weight[j]) + Math.abs(bias[j])),
      dx: g.map((v, j) => r * ((v + meanG) * (1 + most) + xhat[j] * meanGx)),
    };
  });
  return [join(rows.map(({ y }) => y)), join(rows.map(({ dx }) => dx)), dweight, dbias];
}

/** y = a . b / |a| |b|, and da = dy (b / |a| |b| - y a / |a|^2) */
export function cosine(a: Float64Array, b: Float64Array, dy: Float64Array, n: number): Float64Array[] {
  const bs = rowsOf(b, n);
  const rows = rowsOf(a, n).map((u, i) => {
    const v = bs[i];
    const [nu, nv, d] = [norm(u), norm(v), Math.abs(dy[i])];
    const y = sumOf(n, (j) => Math.abs(u[j] * v[j])) / (nu * nv);
    const grad = (x: Float64Array, nx: number, z: Float64Array) =>
      x.map((_, j) => d * (Math.abs(z[j]) / (nu * nv) + (2 * y * Math.abs(x[j])) / nx ** 2));
    return { y: Float64Array.of(2 * y), da: grad(u, nu, v), db: grad(v, nv, u) };
  });
  return [join(rows.map(({ y }) => y)), join(rows.map(({ da }) => da)), join(rows.map(({ db }) => db))];
}

/** loss = sum (log-sum-exp - x[label]) / d, and dx = (softmax - [label]) dloss / d.   `ignored` labels a row that does not count. */
export function crossEntropy(
  x: Float64Array,
  dloss: Float64Array,
  labels: readonly number[],
  n: number,
  count: number,
  ignored: number,
): Float64Array[] {
  const d = count || Math.max(1, labels.filter((label) => label !== ignored).length);
  let loss = 0;
  const dx = rowsOf(x, n).map((row, i) => {
    if (labels[i] === ignored) return new Float64Array(n);
    const { p, log, spread } = probabilities(row);
    loss += (2 * Math.abs(log) + spread + Math.abs(row[labels[i]])) / d;
    return p.map((v, j) => (Math.abs(dloss[0]) / d) * (v * (spread + 2 * Math.abs(log)) + Number(j === labels[i])));
  });
  return [Float64Array.of(loss), join(dx)];
}

/** The same with class weights w and smoothing e: loss = sum_i sum_j t[i,j] (lse[i] - x[i,j]) / d, where t = (1 - e) w [label] + e / n w. */
export function crossEntropyWeighted(
  x: Float64Array,
  dloss: Float64Array,
  labels: readonly number[],
  weights: readonly number[],
  smoothing: number,
  count: number,
  ignored: number,
): Float64Array[] {
  const n = weights.length;
  const d = count || labels.reduce((sum, label) => sum + (label === ignored ? 0 : weights[label]), 0) || 1;
  let loss = 0;
  const dx = rowsOf(x, n).map((row, i) => {
    if (labels[i] === ignored) return new Float64Array(n);
    const { p, log, spread } = probabilities(row);
    const target = weights.map((w, j) => (Number(j === labels[i]) * (1 - smoothing) + smoothing / n) * w);
    const all = sumOf(n, (j) => target[j]);
    loss += sumOf(n, (j) => (target[j] * (2 * Math.abs(log) + spread + Math.abs(row[j]))) / d);
    return p.map((v, j) => (Math.abs(dloss[0]) / d) * (all * v * (spread + 2 * Math.abs(log)) + target[j]));
  });
  return [Float64Array.of(loss), join(dx)];
}

/** The mean of (a - b)^2, and da = 2 (a - b) dy / n = -db: what cancels in a - b is lost. */
export function mse(a: Float64Array, b: Float64Array, dy: Float64Array): Float64Array[] {
  const d = a.map((v, i) => Math.abs(v) + Math.abs(b[i]));
  const grad = d.map((v) => (2 * v * Math.abs(dy[0])) / d.length);
  return [Float64Array.of(sumOf(d.length, (i) => d[i] ** 2) / d.length), grad, grad];
}

/** The largest of each segment's rows, of which each has a share of dy. */
export function segmentMax(x: Float64Array, dy: Float64Array, lengths: readonly number[], count: number, cols: number): Float64Array[] {
  const y = new Float64Array(count * cols);
  const dx = new Float64Array(x.length);
  let row = 0;
  lengths.forEach((length, b) => {
    for (const end = row + length; row < end; row++)
      for (let j = 0; j < cols; j++) {
        y[b * cols + j] = Math.max(y[b * cols + j], Math.abs(x[row * cols + j]));
        dx[row * cols + j] = Math.abs(dy[b * cols + j]);
      }
  });
  return [y, dx];
}

/** As kernels/attention.ts has it, with every product positive; `width` is C, `keep` the most that dropout scales by, `keys` the keys' lengths. */
export function attention(
  args: readonly Float64Array[],
  dy: Float64Array,
  lengths: readonly number[],
  width: number,
  heads: number,
  keep: number,
  { keys = lengths, causal = false }: { readonly keys?: readonly number[]; readonly causal?: boolean } = {},
): Float64Array[] {
  const [q, k, v] = args;
  const [y, dq, dk, dv] = [dy, q, k, v].map((x) => new Float64Array(x.length));
  const d = width / heads;
  let [from, fromKey] = [0, 0];
  lengths.forEach((rows, cell) => {
    for (let head = 0; head < heads; head++) {
      const at = (i: number) => (from + i) * width + head * d;
      const key = (j: number) => (fromKey + j) * width + head * d;
      for (let i = 0; i < rows; i++) {
        const length = causal ? Math.min(keys[cell], i + 1) : keys[cell];
        if (length === 0) continue;
        const dot = (x: Float64Array, z: Float64Array, j: number, f: (v: number) => number) =>
          sumOf(d, (c) => f(x[at(i) + c] * z[key(j) + c]));
        const scores = Float64Array.from({ length }, (_, j) => dot(q, k, j, (v) => v) / Math.sqrt(d));
        const { p, log, spread } = probabilities(scores);
        const parts = Float64Array.from({ length }, (_, j) => dot(q, k, j, Math.abs) / Math.sqrt(d));
        const weight = p.map((v, j) => v * (spread + parts[j] + Math.abs(log)));
        const dWeight = Float64Array.from({ length }, (_, j) => keep * dot(dy, v, j, Math.abs));
        const delta = sumOf(length, (j) => weight[j] * dWeight[j]);
        for (let j = 0; j < length; j++) {
          const dScore = (weight[j] * (dWeight[j] + delta)) / Math.sqrt(d);
          for (let c = 0; c < d; c++) {
            y[at(i) + c] += keep * weight[j] * Math.abs(v[key(j) + c]);
            dq[at(i) + c] += dScore * Math.abs(k[key(j) + c]);
            dk[key(j) + c] += dScore * Math.abs(q[at(i) + c]);
            dv[key(j) + c] += keep * weight[j] * Math.abs(dy[at(i) + c]);
          }
        }
      }
    }
    from += rows;
    fromKey += keys[cell];
  });
  return [y, dq, dk, dv];
}

/** A magnitude of an op of rows and their dy. */
type OfRows = (x: Float64Array, dy: Float64Array) => Float64Array[];

/** The same along the middle axis of [outer, n, inner]; what has another size than x has no such axis. */
export const inside =
  (ofRows: OfRows, outer: number, n: number, inner: number): OfRows =>
  (x, dy) => {
    const moved = (values: Float64Array, a: number, b: number) =>
      values.length === x.length
        ? values.map((_, i) => values[(Math.floor(i / (a * b)) * a + (i % a)) * b + (Math.floor(i / a) % b)])
        : values;
    if (x.length !== outer * n * inner) throw new RangeError(`inside: ${x.length} numbers are not ${outer} x ${n} x ${inner}`);
    return ofRows(moved(x, n, inner), moved(dy, n, inner)).map((values) => moved(values, inner, n));
  };

/** y = x - log sum exp x, relative to what is subtracted; dx = dy - exp(y) sum dy */
export function logSoftmax(x: Float64Array, dy: Float64Array, n: number): Float64Array[] {
  const rows = rowsOf(x, n).map((row, i) => {
    const { p, log, spread } = probabilities(row);
    const d = dy.subarray(i * n, (i + 1) * n).map(Math.abs);
    const y = row.map((v) => spread + Math.abs(v - log));
    const total = sumOf(n, (j) => d[j]);
    return { y, dx: d.map((v, j) => v + p[j] * y[j] * total) };
  });
  return [join(rows.map(({ y }) => y)), join(rows.map(({ dx }) => dx))];
}

/** y = log sum exp x, and dx = dy exp(x - y) */
export function logSumExp(x: Float64Array, dy: Float64Array, n: number): Float64Array[] {
  const rows = rowsOf(x, n).map((row, i) => {
    const { p, log, spread } = probabilities(row);
    return { y: 2 * Math.abs(log) + spread, dx: p.map((v) => Math.abs(dy[i]) * v * (2 * Math.abs(log) + spread)) };
  });
  return [Float64Array.from(rows, ({ y }) => y), join(rows.map(({ dx }) => dx))];
}

/** y = scale sum (x - mean)^2 and dx = 2 scale dy (x - mean), with nothing cancelled */
export function variance(x: Float64Array, dy: Float64Array, n: number, scale: number): Float64Array[] {
  const rows = rowsOf(x, n).map((row, i) => {
    const mean = sumOf(n, (j) => Math.abs(row[j])) / n;
    const d = row.map((v) => Math.abs(v) + mean);
    return { y: scale * sumOf(n, (j) => d[j] ** 2), dx: d.map((v) => 2 * scale * Math.abs(dy[i]) * v) };
  });
  return [Float64Array.from(rows, ({ y }) => y), join(rows.map(({ dx }) => dx))];
}

/** The number found is exact; of the gradient a share is rounded once, for as many as tie. */
export const extreme = (x: Float64Array, dy: Float64Array): Float64Array[] => {
  const most = (values: Float64Array) => values.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  return [dy.map(() => 0), x.map(() => most(dy))];
};

/** y = x r weight, and dx = r (g - x r mean(g x r)) with g = dy weight */
export function rmsNorm(x: Float64Array, weight: Float64Array, dy: Float64Array, n: number, eps: number): Float64Array[] {
  const dweight = new Float64Array(n);
  const rows = rowsOf(x, n).map((row, i) => {
    const r = 1 / Math.sqrt(sumOf(n, (j) => row[j] ** 2) / n + eps);
    const xhat = row.map((v) => Math.abs(v) * r);
    const d = dy.subarray(i * n, (i + 1) * n).map(Math.abs);
    const g = d.map((v, j) => v * Math.abs(weight[j]));
    const meanGx = sumOf(n, (j) => g[j] * xhat[j]) / n;
    for (let j = 0; j < n; j++) dweight[j] += d[j] * xhat[j];
    return { y: xhat.map((v, j) => v * Math.abs(weight[j])), dx: g.map((v, j) => r * (v + xhat[j] * meanGx)) };
  });
  return [join(rows.map(({ y }) => y)), join(rows.map(({ dx }) => dx)), dweight];
}

/**
 * The cosine between rows of two matrices, and its gradient with respect to the first.
 *
 *   y[i] = a[i] . b[i] / max(|a[i]| |b[i]|, eps)
 *   da = dy * (b / (|a| |b|) - y * a / |a|^2)          where |a| |b| > eps, else dy * b / eps
 */

import { type Floats, kernel, LANES } from "./kernel.ts";
import { eachRow } from "./rows.ts";

const norms = /* wgsl */ `
  var ab = 0.0; var aa = 0.0; var bb = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) {
    let u = a[start + j]; let v = b[start + j];
    ab += u * v; aa += u * u; bb += v * v;
  }
  ab = total(lane, ab); aa = total(lane, aa); bb = total(lane, bb);
  let norm = sqrt(aa) * sqrt(bb);`;

/** a . b, a . a and |a| |b| of row i. */
function products(a: Floats, b: Floats, i: number, cols: number): { ab: number; aa: number; norm: number } {
  let [ab, aa, bb] = [0, 0, 0];
  for (let j = i * cols; j < (i + 1) * cols; j++) {
    ab += a[j] * b[j];
    aa += a[j] * a[j];
    bb += b[j] * b[j];
  }
  return { ab, aa, norm: Math.sqrt(aa) * Math.sqrt(bb) };
}

export const cosine = kernel({
  name: "cosine",
  inputs: { a: "f32", b: "f32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32", eps: "f32" },
  passes: [{ groups: ({ rows }) => rows, wgsl: eachRow(`${norms} if (lane == 0u) { y[row] = ab / max(norm, p.eps); }`) }],
  compiled: {
    name: "cosine",
    buffers: ["a", "b", "y"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols, 1], work: 6 * cols }),
  },
  loops({ a, b, y }, { rows, cols, eps }) {
    for (let i = 0; i < rows; i++) {
      const { ab, norm } = products(a, b, i, cols);
      y[i] = ab / Math.max(norm, eps);
    }
  },
});

export const cosineGrad = kernel({
  name: "cosineGrad",
  inputs: { a: "f32", b: "f32", dy: "f32" },
  outputs: { da: "f32" },
  params: { rows: "u32", cols: "u32", eps: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `${norms}
  let scale = dy[row] / max(norm, p.eps);
  let back = select(0.0, dy[row] * ab / norm / aa, norm > p.eps);
  for (var j = lane; j < p.cols; j += ${LANES}u) { da[start + j] = scale * b[start + j] - back * a[start + j]; }`),
    },
  ],
  compiled: {
    name: "cosineGrad",
    buffers: ["a", "b", "dy", "da"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, cols, 1, cols], work: 8 * cols }),
  },
  loops({ a, b, dy, da }, { rows, cols, eps }) {
    for (let i = 0; i < rows; i++) {
      const { ab, aa, norm } = products(a, b, i, cols);
      const scale = dy[i] / Math.max(norm, eps);
      const back = norm > eps ? (dy[i] * ab) / norm / aa : 0;
      for (let j = i * cols; j < (i + 1) * cols; j++) da[j] = scale * b[j] - back * a[j];
    }
  },
});

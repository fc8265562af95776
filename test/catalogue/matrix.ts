/** Rows of the catalogue: products of matrices. */

import * as ops from "../../autograd/ops/matrix.ts";
import { type Row, row } from "./row.ts";

const matmul = (shapes: string, options: ops.Transposes = {}) =>
  row({
    shapes,
    range: [-2, 2],
    call: ([a, b]) => ops.matmul(a, b, options),
    rounding: ({ m, k, n, s = 1, t = 1 }) => 4 + Math.max(m, k, n) * s * t,
  });

const linear = (shapes: string, more: Partial<Row<undefined>> & Pick<Row<undefined>, "call">) =>
  row({ shapes, range: [-2, 2], rounding: ({ s = 1, m, i, o }) => 6 + Math.max(s * m, i, o), ...more });

/** A list of rows for each op. */
export const rows = {
  matmul: [
    matmul("m k, k n"),
    matmul("k m, k n", { transposeA: true }),
    matmul("m k, n k", { transposeB: true }),
    matmul("k m, n k", { transposeA: true, transposeB: true }),
    matmul("s t m k, s t k n"),
    matmul("s k m, s n k", { transposeA: true, transposeB: true }),
    matmul("m k, s k n"), // one a for all
    matmul("s k m, k n", { transposeA: true }),
    matmul("s m k, n k", { transposeB: true }),
    matmul("s 1 m k, t k n"), // both repeat
    matmul("t m k, s t n k", { transposeB: true }),
    matmul("s 1 k m, 1 k n", { transposeA: true }),
  ],
  linear: [
    linear("m i, o i", { call: ([x, w]) => ops.linear(x, w) }),
    linear("s m i, o i, o", { call: ([x, w, b]) => ops.linear(x, w, b) }),
    linear("m i, o i, o, m o", { call: ([x, w, b, r]) => ops.linear(x, w, b, r) }),
    linear("m i, o i, m o", { call: ([x, w, r]) => ops.linear(x, w, null, r) }),
    linear("m i, o i, o", {
      call: ([x, w, b]) => ops.linear(x, w, b, null, { relu: true }),
      lattice: [
        { step: 1 / 4, offset: 0 },
        { step: 1 / 4, offset: 0 },
        { step: 1 / 16, offset: 1 / 32 },
      ], // sums of x w are multiples of 1/16
    }),
  ],
};

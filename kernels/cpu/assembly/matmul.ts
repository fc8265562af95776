/** C = op(A) op(B) in blocks that stay in cache, with an epilogue: bias, activation, residual. */

import { min, pack, packTransposed, PANEL, ROW, strip } from "./panel";

/** A panel of B this deep is 16 KiB, half of a first-level cache of 32; a block of A is 128 KiB and one of B 1 MiB (kernels/cpu/scratch.ts). */
const DEPTH: u32 = 256;
const ROWS: u32 = 128;
const COLUMNS: u32 = 1024;

/** What is done to finished rows of C: of a whole panel. */
function finish(c: usize, rows: u32, step: usize, bias: usize, residual: usize, relu: bool): void {
  const zero = f32x4.splat(0);
  for (let i: u32 = 0; i < rows; i++) {
    let x0 = v128.load(c);
    let x1 = v128.load(c, 16);
    let x2 = v128.load(c, 32);
    let x3 = v128.load(c, 48);
    if (bias) {
      x0 = f32x4.add(x0, v128.load(bias));
      x1 = f32x4.add(x1, v128.load(bias, 16));
      x2 = f32x4.add(x2, v128.load(bias, 32));
      x3 = f32x4.add(x3, v128.load(bias, 48));
    }
    if (relu) {
      x0 = f32x4.max(x0, zero);
      x1 = f32x4.max(x1, zero);
      x2 = f32x4.max(x2, zero);
      x3 = f32x4.max(x3, zero);
    }
    if (residual) {
      x0 = f32x4.add(x0, v128.load(residual));
      x1 = f32x4.add(x1, v128.load(residual, 16));
      x2 = f32x4.add(x2, v128.load(residual, 32));
      x3 = f32x4.add(x3, v128.load(residual, 48));
      residual += step;
    }
    v128.store(c, x0);
    v128.store(c, x1, 16);
    v128.store(c, x2, 32);
    v128.store(c, x3, 48);
    c += step;
  }
}

/** The same of fewer columns. */
function finishEdge(c: usize, rows: u32, columns: u32, step: usize, bias: usize, residual: usize, relu: bool): void {
  for (let i: u32 = 0; i < rows; i++) {
    for (let j: u32 = 0; j < columns; j++) {
      const o = usize(j) * 4;
      let x = load<f32>(c + o);
      if (bias) x += load<f32>(bias + o);
      if (relu) x = max<f32>(x, 0);
      if (residual) x += load<f32>(residual + o);
      store<f32>(c + o, x);
    }
    c += step;
    if (residual) residual += step;
  }
}

/** Columns of C, of which there are fewer than 16, from a strip that has 16. */
function settle(from: usize, rows: u32, columns: u32, c: usize, step: usize, add: bool): void {
  for (let i: u32 = 0; i < rows; i++) {
    for (let j: u32 = 0; j < columns; j++) {
      const o = usize(j) * 4;
      const x = load<f32>(from + o);
      store<f32>(c + o, add ? load<f32>(c + o) + x : x);
    }
    from += ROW;
    c += step;
  }
}

/**
 * For each batch t: C[t] = op(A + t strideA) op(B + t strideB), row-major, [m, n]; A is [m, k], or [k, m] with `ta`; B is [k, n], or [n, k] with
 * `tb`. Strides are in elements. Then bias [n] is added, activation 1 (relu) applied, residual (like C) added; address 0: none.
 * Of all that, the pieces from `first` to before `end`: batches, where there are several; else panels of columns where C is wider than tall; else rows.
 */
export function matmul(
  a: usize, b: usize, bias: usize, residual: usize, c: usize, scratch: usize,
  m: u32, n: u32, k: u32, batch: u32, strideA: u32, strideB: u32, ta: bool, tb: bool, activation: u32, first: u32, end: u32,
): void {
  const packedB = scratch;
  const packedA = packedB + usize(COLUMNS * DEPTH) * 4;
  const edge = packedA + usize(ROWS * DEPTH) * 4;
  const step = usize(n) * 4;
  const relu = activation == 1;
  const byBatch = batch > 1;
  const byPanel = !byBatch && n > m;
  const byRow = !byBatch && !byPanel;
  const batch0 = byBatch ? first : 0;
  const batch1 = byBatch ? end : batch;
  const column0 = byPanel ? first * PANEL : 0;
  const column1 = byPanel ? min(n, end * PANEL) : n;
  const row0 = byRow ? first : 0;
  const row1 = byRow ? end : m;
  for (let t = batch0; t < batch1; t++) {
    const at = a + usize(t) * strideA * 4;
    const bt = b + usize(t) * strideB * 4;
    const ct = usize(t) * m * n * 4;
    for (let j0 = column0; j0 < column1; j0 += COLUMNS) {
      const columns = min(COLUMNS, column1 - j0);
      let p0: u32 = 0;
      do { // once even where k is 0: C is then zero before its epilogue
        const depth = min(DEPTH, k - p0);
        const last = p0 + depth == k;
        if (tb) packTransposed(bt + (usize(j0) * k + p0) * 4, usize(k) * 4, depth, columns, packedB);
        else pack(bt + (usize(p0) * n + j0) * 4, step, depth, columns, packedB);
        for (let i0 = row0; i0 < row1; i0 += ROWS) {
          const rows = min(ROWS, row1 - i0);
          if (ta) pack(at + (usize(p0) * m + i0) * 4, usize(m) * 4, depth, rows, packedA);
          for (let j: u32 = 0; j < columns; j += PANEL) {
            const panel = packedB + usize(j) * depth * 4;
            const width = min(PANEL, columns - j);
            const corner = ct + (usize(i0) * n + j0 + j) * 4;
            const whole = width == PANEL;
            const out = whole ? c + corner : edge;
            const outStep = whole ? step : ROW;
            const add = whole && p0 > 0;
            if (ta) {
              for (let i: u32 = 0; i < rows; i += PANEL)
                strip(packedA + usize(i) * depth * 4, 4, ROW, min(PANEL, rows - i), panel, depth, out + outStep * i, outStep, add);
            } else strip(at + (usize(i0) * k + p0) * 4, usize(k) * 4, 4, rows, panel, depth, out, outStep, add);
            if (!whole) settle(edge, rows, width, c + corner, step, p0 > 0);
            if (!last || !(bias || residual || relu)) continue;
            const biasAt = bias ? bias + usize(j0 + j) * 4 : 0;
            const residualAt = residual ? residual + corner : 0;
            if (whole) finish(c + corner, rows, step, biasAt, residualAt, relu);
            else finishEdge(c + corner, rows, width, step, biasAt, residualAt, relu);
          }
        }
        p0 += DEPTH;
      } while (p0 < k);
    }
  }
}

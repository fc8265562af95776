/**
 * Panels and strips: what matrix products are made of here.
 *
 * A panel is 16 columns of a matrix, [row][16] without gaps, columns beyond the edge zero. A strip of C is all rows of one panel; two rows of
 * it, 8 vectors of 4, stay in registers while a product runs down its depth, or four where an engine makes one of two neighbouring vectors. Steps are
 * in bytes.
 */

import { madd } from "./vector";

/** Columns of a panel. */
export const PANEL: u32 = 16;
/** Bytes of a panel's row. */
export const ROW: usize = 64;

@inline
export function min(a: u32, b: u32): u32 {
  return a < b ? a : b;
}

/** Columns, with those that fill up the last panel. */
@inline
export function whole(columns: u32): u32 {
  return (columns + (PANEL - 1)) & ~(PANEL - 1);
}

@inline
function at(base: usize, step: usize, i: u32): usize {
  return base + step * usize(i);
}

/** Does the engine work on two neighbouring vectors at once, 8 numbers? V8 does when asked (src/cpu.ts), by rewriting pairs that it finds. */
let wide: bool = false;

export function widen(): void {
  wide = true;
}

/** c[i][0..16] = or += sum over p of a[i][p] b[p][0..16], for a strip of c and a panel b; a[i][p] lies at a + i aRow + p aStep. */
export function strip(a: usize, aRow: usize, aStep: usize, rows: u32, b: usize, depth: u32, c: usize, cRow: usize, add: bool): void {
  const fours = wide ? rows & ~3 : 0;
  byFours(a, aRow, aStep, fours, b, depth, c, cRow, add);
  byTwos(at(a, aRow, fours), aRow, aStep, rows - fours, b, depth, at(c, cRow, fours), cRow, add);
}

/** Four rows in 16 vectors: more than there are registers, but half as many of twice the width. */
function byFours(a: usize, aRow: usize, aStep: usize, rows: u32, b: usize, depth: u32, c: usize, cRow: usize, add: bool): void {
  for (let i: u32 = 0; i < rows; i += 4) {
    let a0 = at(a, aRow, i);
    let a1 = a0 + aRow;
    let a2 = a1 + aRow;
    let a3 = a2 + aRow;
    let x0 = f32x4.splat(0);
    let x1 = x0;
    let x2 = x0;
    let x3 = x0;
    let y0 = x0;
    let y1 = x0;
    let y2 = x0;
    let y3 = x0;
    let z0 = x0;
    let z1 = x0;
    let z2 = x0;
    let z3 = x0;
    let w0 = x0;
    let w1 = x0;
    let w2 = x0;
    let w3 = x0;
    let row = b;
    const end = b + usize(depth) * ROW;
    while (row < end) {
      const b0 = v128.load(row);
      const b1 = v128.load(row, 16);
      const b2 = v128.load(row, 32);
      const b3 = v128.load(row, 48);
      const u0 = v128.load_splat<f32>(a0);
      x0 = madd(u0, b0, x0);
      x1 = madd(u0, b1, x1);
      x2 = madd(u0, b2, x2);
      x3 = madd(u0, b3, x3);
      const u1 = v128.load_splat<f32>(a1);
      y0 = madd(u1, b0, y0);
      y1 = madd(u1, b1, y1);
      y2 = madd(u1, b2, y2);
      y3 = madd(u1, b3, y3);
      const u2 = v128.load_splat<f32>(a2);
      z0 = madd(u2, b0, z0);
      z1 = madd(u2, b1, z1);
      z2 = madd(u2, b2, z2);
      z3 = madd(u2, b3, z3);
      const u3 = v128.load_splat<f32>(a3);
      w0 = madd(u3, b0, w0);
      w1 = madd(u3, b1, w1);
      w2 = madd(u3, b2, w2);
      w3 = madd(u3, b3, w3);
      a0 += aStep;
      a1 += aStep;
      a2 += aStep;
      a3 += aStep;
      row += ROW;
    }
    const c0 = at(c, cRow, i);
    const c1 = c0 + cRow;
    const c2 = c1 + cRow;
    const c3 = c2 + cRow;
    if (add) {
      x0 = f32x4.add(v128.load(c0), x0);
      x1 = f32x4.add(v128.load(c0, 16), x1);
      x2 = f32x4.add(v128.load(c0, 32), x2);
      x3 = f32x4.add(v128.load(c0, 48), x3);
      y0 = f32x4.add(v128.load(c1), y0);
      y1 = f32x4.add(v128.load(c1, 16), y1);
      y2 = f32x4.add(v128.load(c1, 32), y2);
      y3 = f32x4.add(v128.load(c1, 48), y3);
      z0 = f32x4.add(v128.load(c2), z0);
      z1 = f32x4.add(v128.load(c2, 16), z1);
      z2 = f32x4.add(v128.load(c2, 32), z2);
      z3 = f32x4.add(v128.load(c2, 48), z3);
      w0 = f32x4.add(v128.load(c3), w0);
      w1 = f32x4.add(v128.load(c3, 16), w1);
      w2 = f32x4.add(v128.load(c3, 32), w2);
      w3 = f32x4.add(v128.load(c3, 48), w3);
    }
    v128.store(c0, x0);
    v128.store(c0, x1, 16);
    v128.store(c0, x2, 32);
    v128.store(c0, x3, 48);
    v128.store(c1, y0);
    v128.store(c1, y1, 16);
    v128.store(c1, y2, 32);
    v128.store(c1, y3, 48);
    v128.store(c2, z0);
    v128.store(c2, z1, 16);
    v128.store(c2, z2, 32);
    v128.store(c2, z3, 48);
    v128.store(c3, w0);
    v128.store(c3, w1, 16);
    v128.store(c3, w2, 32);
    v128.store(c3, w3, 48);
  }
}

function byTwos(a: usize, aRow: usize, aStep: usize, rows: u32, b: usize, depth: u32, c: usize, cRow: usize, add: bool): void {
  for (let i: u32 = 0; i < rows; i += 2) {
    // The last of an odd number of rows is done twice at once; both read c before either writes it.
    const two = i + 1 < rows;
    let a0 = at(a, aRow, i);
    let a1 = two ? a0 + aRow : a0;
    let x0 = f32x4.splat(0);
    let x1 = x0;
    let x2 = x0;
    let x3 = x0;
    let y0 = x0;
    let y1 = x0;
    let y2 = x0;
    let y3 = x0;
    let row = b;
    const end = b + usize(depth) * ROW;
    while (row < end) {
      const b0 = v128.load(row);
      const b1 = v128.load(row, 16);
      const b2 = v128.load(row, 32);
      const b3 = v128.load(row, 48);
      const u = v128.load_splat<f32>(a0);
      x0 = madd(u, b0, x0);
      x1 = madd(u, b1, x1);
      x2 = madd(u, b2, x2);
      x3 = madd(u, b3, x3);
      const v = v128.load_splat<f32>(a1);
      y0 = madd(v, b0, y0);
      y1 = madd(v, b1, y1);
      y2 = madd(v, b2, y2);
      y3 = madd(v, b3, y3);
      a0 += aStep;
      a1 += aStep;
      row += ROW;
    }
    const c0 = at(c, cRow, i);
    const c1 = two ? c0 + cRow : c0;
    if (add) {
      x0 = f32x4.add(v128.load(c0), x0);
      x1 = f32x4.add(v128.load(c0, 16), x1);
      x2 = f32x4.add(v128.load(c0, 32), x2);
      x3 = f32x4.add(v128.load(c0, 48), x3);
      y0 = f32x4.add(v128.load(c1), y0);
      y1 = f32x4.add(v128.load(c1, 16), y1);
      y2 = f32x4.add(v128.load(c1, 32), y2);
      y3 = f32x4.add(v128.load(c1, 48), y3);
    }
    v128.store(c0, x0);
    v128.store(c0, x1, 16);
    v128.store(c0, x2, 32);
    v128.store(c0, x3, 48);
    v128.store(c1, y0);
    v128.store(c1, y1, 16);
    v128.store(c1, y2, 32);
    v128.store(c1, y3, 48);
  }
}

/** Panels [column / 16][p][16] of a matrix [depth, columns] stored by rows, `step` bytes apart. */
export function pack(from: usize, step: usize, depth: u32, columns: u32, to: usize): void {
  for (let j: u32 = 0; j < columns; j += PANEL) {
    const width = min(PANEL, columns - j);
    let row = from + usize(j) * 4;
    for (let p: u32 = 0; p < depth; p++) {
      if (width == PANEL) {
        const x0 = v128.load(row);
        const x1 = v128.load(row, 16);
        const x2 = v128.load(row, 32);
        const x3 = v128.load(row, 48);
        v128.store(to, x0);
        v128.store(to, x1, 16);
        v128.store(to, x2, 32);
        v128.store(to, x3, 48);
      } else {
        for (let c: u32 = 0; c < PANEL; c++) store<f32>(at(to, 4, c), c < width ? load<f32>(at(row, 4, c)) : 0);
      }
      row += step;
      to += ROW;
    }
  }
}

/** The same panels of a matrix stored by columns, `step` bytes apart: its transpose lies there. Four by four. */
export function packTransposed(from: usize, step: usize, depth: u32, columns: u32, to: usize): void {
  for (let j: u32 = 0; j < columns; j += PANEL) {
    for (let c: u32 = 0; c < PANEL; c += 4) {
      const left = j + c < columns ? columns - j - c : 0;
      const r0 = at(from, step, j + c);
      const r1 = r0 + step;
      const r2 = r1 + step;
      const r3 = r2 + step;
      let p: u32 = 0;
      if (left >= 4) {
        for (; p + 4 <= depth; p += 4) {
          const o = usize(p) * 4;
          const a = v128.load(r0 + o);
          const b = v128.load(r1 + o);
          const e = v128.load(r2 + o);
          const f = v128.load(r3 + o);
          const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
          const ef = v128.shuffle<f32>(e, f, 0, 4, 1, 5);
          const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
          const EF = v128.shuffle<f32>(e, f, 2, 6, 3, 7);
          const out = at(to, ROW, p) + usize(c) * 4;
          v128.store(out, v128.shuffle<f32>(ab, ef, 0, 1, 4, 5));
          v128.store(out, v128.shuffle<f32>(ab, ef, 2, 3, 6, 7), ROW);
          v128.store(out, v128.shuffle<f32>(AB, EF, 0, 1, 4, 5), 2 * ROW);
          v128.store(out, v128.shuffle<f32>(AB, EF, 2, 3, 6, 7), 3 * ROW);
        }
      }
      for (; p < depth; p++) {
        for (let e: u32 = 0; e < 4; e++) {
          const value: f32 = e < left ? load<f32>(at(r0, step, e) + usize(p) * 4) : 0;
          store<f32>(at(to, ROW, p) + usize(c + e) * 4, value);
        }
      }
    }
    to += usize(depth) * ROW;
  }
}

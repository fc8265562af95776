/** A row, four numbers at a time: what stands at its end, its largest number, and sums along and across rows, which are kept in f64. */

/** The next four numbers of a row that has `left` more; past its end stands `rest`. */
@inline
export function take(from: usize, left: u32, rest: f32 = 0): v128 {
  return left >= 4 ? v128.load(from) : takeLast(from, left, rest);
}

function takeLast(from: usize, left: u32, rest: f32): v128 {
  let x = v128.load_lane<f32>(from, f32x4.splat(rest), 0);
  if (left > 1) x = v128.load_lane<f32>(from, x, 1, 4);
  if (left > 2) x = v128.load_lane<f32>(from, x, 2, 8);
  return x;
}

/** Writes four numbers, or the `left` that the row still has. */
@inline
export function put(to: usize, x: v128, left: u32): void {
  if (left >= 4) v128.store(to, x);
  else putLast(to, x, left);
}

function putLast(to: usize, x: v128, left: u32): void {
  v128.store_lane<f32>(to, x, 0);
  if (left > 1) v128.store_lane<f32>(to, x, 1, 4);
  if (left > 2) v128.store_lane<f32>(to, x, 2, 8);
}

/** The largest of n numbers; NaN is passed over. Four vectors side by side, so that none waits for another. */
export function largest(x: usize, n: u32): f32 {
  let a = f32x4.splat(-Infinity);
  let b = a;
  let c = a;
  let d = a;
  let left = n;
  for (; left >= 16; left -= 16) {
    a = f32x4.pmax(a, v128.load(x));
    b = f32x4.pmax(b, v128.load(x, 16));
    c = f32x4.pmax(c, v128.load(x, 32));
    d = f32x4.pmax(d, v128.load(x, 48));
    x += 64;
  }
  for (; i32(left) > 0; left -= 4) {
    a = f32x4.pmax(a, take(x, left, -Infinity));
    x += 16;
  }
  let m = f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d));
  m = f32x4.pmax(m, v128.shuffle<f32>(m, m, 2, 3, 0, 1));
  m = f32x4.pmax(m, v128.shuffle<f32>(m, m, 1, 0, 3, 2));
  return f32x4.extract_lane(m, 0);
}

@inline
export function low(x: v128): v128 {
  return f64x2.promote_low_f32x4(x);
}

@inline
export function high(x: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<f64>(x, x, 1, 1));
}

/** The products of four numbers with four others, as two sums of two in f64: exact but for those sums. */
@inline
export function products(x: v128, y: v128): v128 {
  return f64x2.add(f64x2.mul(low(x), low(y)), f64x2.mul(high(x), high(y)));
}

/** Four numbers as two sums of two in f64, for a running sum along a row: what it rounds, f32 does not see. */
@inline
export function pairs(x: v128): v128 {
  return f64x2.add(low(x), high(x));
}

/** The same of their squares. */
@inline
export function squares(x: v128): v128 {
  const a = low(x);
  const b = high(x);
  return f64x2.add(f64x2.mul(a, a), f64x2.mul(b, b));
}

/** What such a running sum comes to. */
@inline
export function total(sum: v128): f64 {
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
}

/** Bytes of the f64 sums of `columns`, up to the end of a vector (`columnScratch` in kernels/cpu/scratch.ts). */
@inline
export function sumBytes(columns: u32): usize {
  return usize((columns + 3) & ~3) * 8;
}

/** Rows that are summed together: so often a sum is fetched and put back. They stay in the cache meanwhile. */
export const TOGETHER: u32 = 8;

/** Adds so many rows, `step` bytes apart, to the sums of their columns, one after the other. */
export function tally(sums: usize, x: usize, step: usize, rows: u32, columns: u32): void {
  for (let row: u32 = 0; row < rows; row += TOGETHER) {
    const end = min(rows - row, TOGETHER);
    for (let j: u32 = 0; j < columns; j += 4) {
      const at = sums + usize(j) * 8;
      let a = v128.load(at);
      let b = v128.load(at, 16);
      let from = x + usize(j) * 4;
      for (let i: u32 = 0; i < end; i++) {
        const next = take(from, columns - j);
        a = f64x2.add(a, low(next));
        b = f64x2.add(b, high(next));
        from += step;
      }
      v128.store(at, a);
      v128.store(at, b, 16);
    }
    x += step * end;
  }
}

/** Writes the sums of columns, each times `scale`. */
export function putSums(to: usize, sums: usize, scale: f64, columns: u32): void {
  for (let j: u32 = 0; j < columns; j += 4) {
    const a = f32x4.demote_f64x2_zero(f64x2.mul(v128.load(sums), f64x2.splat(scale)));
    const b = f32x4.demote_f64x2_zero(f64x2.mul(v128.load(sums, 16), f64x2.splat(scale)));
    put(to + usize(j) * 4, v128.shuffle<f64>(a, b, 0, 2), columns - j);
    sums += 32;
  }
}

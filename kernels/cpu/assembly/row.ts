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

/** The largest of n numbers; NaN is passed over. */
export function largest(x: usize, n: u32): f32 {
  let m = f32x4.splat(-Infinity);
  for (let j: u32 = 0; j < n; j += 4) m = f32x4.pmax(m, take(x + usize(j) * 4, n - j, -Infinity));
  m = f32x4.pmax(m, v128.shuffle<f32>(m, m, 2, 3, 0, 1));
  m = f32x4.pmax(m, v128.shuffle<f32>(m, m, 1, 0, 3, 2));
  return f32x4.extract_lane(m, 0);
}

@inline
function low(x: v128): v128 {
  return f64x2.promote_low_f32x4(x);
}

@inline
function high(x: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<f64>(x, x, 1, 1));
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

/** Adds four numbers to the sums of their columns. */
@inline
export function tally(sums: usize, x: v128): void {
  v128.store(sums, f64x2.add(v128.load(sums), low(x)));
  v128.store(sums, f64x2.add(v128.load(sums, 16), high(x)), 16);
}

/** Adds a row to the sums of its columns. */
export function tallyRow(sums: usize, x: usize, columns: u32): void {
  for (let j: u32 = 0; j < columns; j += 4) tally(sums + usize(j) * 8, take(x + usize(j) * 4, columns - j));
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

/** What kernels share that give each row, or each column, a workgroup: the entry point and the fold of its lanes. */

import { type Floats, LANES } from "./kernel.ts";

/** A WGSL function that combines one value per lane into one for all, through memory of its own type. */
const fold = (name: string, type: "f32" | "u32", memory: string, combine: string) => /* wgsl */ `
fn ${name}(lane: u32, value: ${type}) -> ${type} {
  ${memory}[lane] = value;
  for (var half = ${LANES / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) { let a = ${memory}[lane]; let b = ${memory}[lane + half]; ${memory}[lane] = ${combine}; }
  }
  workgroupBarrier();
  let all = ${memory}[0];
  workgroupBarrier(); // nobody may start the next fold before everybody has read this one
  return all;
}`;

const folds = /* wgsl */ `var<workgroup> folded: array<f32, ${LANES}>;
${fold("total", "f32", "folded", "a + b")}${fold("maximum", "f32", "folded", "max(a, b)")}`;

/**
 * Numbers by rank: a larger one has a larger rank, NaN the largest of all, and -0 that of 0. The bits of an f32 are in order but for the sign
 * (IEEE 754, 5.10), and comparing them says what comparing NaN would leave open (WGSL, 15.7.2).
 */
export const rankOf = /* wgsl */ `
fn rank(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  if (bits == 0x80000000u) { return bits; }
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}
fn unrank(r: u32) -> f32 { return bitcast<f32>(select(~r, r & 0x7fffffffu, r >= 0x80000000u)); }`;

/** And folds of them: `firstOf` is the first place whose rank is `best`. */
const ranks = /* wgsl */ `${rankOf}
var<workgroup> ranked: array<u32, ${LANES}>;
${fold("highest", "u32", "ranked", "max(a, b)")}
fn firstOf(lane: u32, own: u32, at: u32, best: u32) -> u32 { return ~highest(lane, select(0u, ~at, own == best)); }`;

/** The rank of -Infinity: no number has less. */
export const LEAST_RANK = "0x007fffffu";

/** One workgroup a row: `row` is its number, `start` its first element. `more` functions may be given. */
export const eachRow = (body: string, more = ""): string => /* wgsl */ `${folds}${more}
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = groupOf(wid);
  if (row >= p.rows) { return; } // the same for all lanes, so the barriers below are safe
  let start = row * p.cols;
  ${body}
}`;

/** One workgroup in all, however many rows there are, or none: for what brings the rows' results together. */
export const oneGroup = (body: string): string => /* wgsl */ `${folds}
@compute @workgroup_size(${LANES})
fn main(@builtin(local_invocation_index) lane: u32) {
  ${body}
}`;

/** One workgroup a row, with ranks: `rank`, `unrank`, and the folds `highest` and `firstOf`. */
export const eachRankedRow = (body: string): string => eachRow(body, ranks);

/** Columns that a workgroup of `eachColumn` sums side by side, so that its reads of a row are neighbours; its other lanes share out the rows. */
export const COLUMNS = 32;
const SHARES = LANES / COLUMNS;

/**
 * Sums down columns of [rows, cols]: lane (share, column) runs `step` for rows share, share + ${SHARES}, ...; then the shares' sums are added and
 * `finish` writes them. `sums` names the running sums.
 */
export const eachColumn = (sums: readonly string[], step: string, finish: string): string => /* wgsl */ `
var<workgroup> shares: array<f32, ${LANES * sums.length}>;
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let col = groupOf(wid) * ${COLUMNS}u + lane % ${COLUMNS}u;
  ${sums.map((name) => `var ${name} = 0.0;`).join(" ")}
  if (col < p.cols) {
    for (var row = lane / ${COLUMNS}u; row < p.rows; row += ${SHARES}u) { ${step} }
  }
  ${sums.map((name, s) => `shares[${s * LANES}u + lane] = ${name};`).join(" ")}
  workgroupBarrier();
  if (lane < ${COLUMNS}u && col < p.cols) {
    for (var other = lane + ${COLUMNS}u; other < ${LANES}u; other += ${COLUMNS}u) { ${sums.map((name, s) => `${name} += shares[${s * LANES}u + other];`).join(" ")} }
    ${finish}
  }
}`;

/** WGSL of `eachRow`: `m`, the largest number of a row that has a finite one. It begins at the least of them, as masked scores may all be that. */
export const largest = /* wgsl */ `
  var m = -0x1.fffffep+127;
  for (var j = lane; j < p.cols; j += ${LANES}u) { m = max(m, x[start + j]); }
  m = maximum(lane, m);`;

/** WGSL of `eachRow`: `s`, the sum of exp(x - m) over a row whose `m` is known. */
export const sumOfExponentials = /* wgsl */ `
  var s = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { s += exp(x[start + j] - m); }
  s = total(lane, s);`;

/** The same two in loops, of the numbers from `start` to before `end`; NaN prevails. */
export function exponentials(x: Floats, start: number, end: number): { readonly m: number; readonly s: number } {
  let m = Number.NEGATIVE_INFINITY;
  for (let j = start; j < end; j++) m = Math.max(m, x[j]);
  let s = 0;
  for (let j = start; j < end; j++) s += Math.exp(x[j] - m);
  return { m, s };
}

/** WGSL of `eachRow`: the `mean` of a row of x, and `squares`, the sum of what is left of it, squared. */
export const meanAndSquares = (x = "x"): string => /* wgsl */ `
  var sum = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { sum += ${x}[start + j]; }
  let mean = total(lane, sum) / f32(p.cols);
  var squares = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { let d = ${x}[start + j] - mean; squares += d * d; }
  squares = total(lane, squares);`;

/** The same two in loops. */
export function meanAndSquaresOf(x: Floats, start: number, end: number): { readonly mean: number; readonly squares: number } {
  let sum = 0;
  for (let j = start; j < end; j++) sum += x[j];
  const mean = sum / (end - start);
  let squares = 0;
  for (let j = start; j < end; j++) squares += (x[j] - mean) ** 2;
  return { mean, squares };
}

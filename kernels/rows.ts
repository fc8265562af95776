/** What kernels share that give each row, or each column, a workgroup: the entry point and the fold of its lanes. */

import { LANES } from "./kernel.ts";

const shared = /* wgsl */ `var<workgroup> folded: array<f32, ${LANES}>;`;

/** A WGSL function that combines one value per lane into one for all. */
const fold = (name: string, combine: string) => /* wgsl */ `
fn ${name}(lane: u32, value: f32) -> f32 {
  folded[lane] = value;
  for (var half = ${LANES / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) { let a = folded[lane]; let b = folded[lane + half]; folded[lane] = ${combine}; }
  }
  workgroupBarrier();
  let all = folded[0];
  workgroupBarrier(); // nobody may start the next fold before everybody has read this one
  return all;
}`;

const folds = shared + fold("total", "a + b") + fold("maximum", "max(a, b)");

/** One workgroup a row: `row` is its number, `start` its first element. */
export const eachRow = (body: string): string => /* wgsl */ `${folds}
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = groupOf(wid);
  if (row >= p.rows) { return; } // the same for all lanes, so the barriers below are safe
  let start = row * p.cols;
  ${body}
}`;

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

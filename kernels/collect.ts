/** Gradients side by side in one buffer, and the sums of their squares on the way: what an optimiser steps together. */

import { kernel, LANES } from "./kernel.ts";
import { eachRow } from "./rows.ts";

/** Where numbers of a part begin in a buffer of many: a multiple of so many, as WebGPU asks of bindings (256 bytes: WebGPU, 3.6.2). */
export const PART = 64;
/** Parts that one kernel takes: with its two outputs, all the buffers that WebGPU promises a kernel (8: WebGPU, 3.6.2). */
export const COLLECTED = 6;
/** Numbers that one workgroup carries over: a multiple of PART, so that no two write the same place. */
const LOAD = 16 * LANES;

/** Numbers of a part with those that fill it up. */
export const padded = (n: number): number => Math.ceil(n / PART) * PART;

/** The same of one that has a place: something can be bound there even if it is empty. */
export const roomOf = (n: number): number => Math.max(PART, padded(n));

/** Workgroups for a part, each of which leaves a sum of squares. */
export const loadsOf = (n: number): number => Math.ceil(n / LOAD);

const PLACES = Array.from({ length: COLLECTED }, (_, i) => i);
const named = <T>(letter: string, value: T) => Object.fromEntries(PLACES.map((i) => [`${letter}${i}`, value]));
const list = (letter: string) => PLACES.map((i) => `p.${letter}${i}`).join(", ");

/**
 * whole[to_i + j] = x_i[j] for the n_i numbers of each of six parts, and zeros up to the next multiple of PART; squares[load + g] = the sum of
 * squares of what workgroup g carried, part after part. A part of n_i = 0 is nothing: its x_i may be any buffer. `rows` is the number of workgroups.
 */
export const collect = kernel({
  name: "collect",
  inputs: named("x", "f32" as const),
  outputs: { whole: "f32", squares: "f32" },
  params: { rows: "u32", cols: "u32", load: "u32", ...named("n", "u32" as const), ...named("to", "u32" as const) },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(
        /* wgsl */ `
  let counts = array<u32, ${COLLECTED}>(${list("n")});
  let places = array<u32, ${COLLECTED}>(${list("to")});
  var which = 0u;
  var part = row; // which of its loads
  for (; which < ${COLLECTED - 1}u && part >= (counts[which] + ${LOAD - 1}u) / ${LOAD}u; which++) { part -= (counts[which] + ${LOAD - 1}u) / ${LOAD}u; }
  let n = counts[which];
  let end = min((n + ${PART - 1}u) / ${PART}u * ${PART}u, (part + 1u) * ${LOAD}u);
  var sum = 0.0;
  for (var j = part * ${LOAD}u + lane; j < end; j += ${LANES}u) {
    var x = 0.0;
    if (j < n) { x = numberOf(which, j); }
    whole[places[which] + j] = x;
    sum += x * x;
  }
  sum = total(lane, sum);
  if (lane == 0u) { squares[p.load + row] = sum; }`,
        /* wgsl */ `
fn numberOf(which: u32, j: u32) -> f32 {
  switch which {
    ${PLACES.slice(1)
      .map((i) => `case ${i}u: { return x${i}[j]; }`)
      .join("\n    ")}
    default: { return x0[j]; }
  }
}`,
      ),
    },
  ],
  loops(buffers, { load, ...numbers }) {
    const { whole, squares } = buffers;
    const sizes: Readonly<Record<string, number>> = numbers;
    let group = load;
    for (const i of PLACES) {
      const [x, n, to] = [buffers[`x${i}`], sizes[`n${i}`], sizes[`to${i}`]];
      for (let from = 0; from < n; from += LOAD) {
        let sum = 0;
        for (let j = from; j < Math.min(padded(n), from + LOAD); j++) {
          const value = j < n ? x[j] : 0;
          whole[to + j] = value;
          sum += value * value;
        }
        squares[group++] = sum;
      }
    }
  },
});

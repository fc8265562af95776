/**
 * The largest or the least number of each row, its place, and the gradient.
 *
 *   y[i] = max_j x[i,j]      dx[i,j] = dy[i] / c[i] where x[i,j] = y[i], else 0      c[i]: how many of the row's numbers are y[i]
 *
 * NaN anywhere in a row makes y NaN, and is where the extreme stands; the gradient of such a row is NaN. Of equal numbers the first has the place.
 */

import { kernel, LANES, variants } from "./kernel.ts";
import { eachRankedRow, eachRow, LEAST_RANK } from "./rows.ts";

export type Extreme = "max" | "min";

/** WGSL: the least number is the largest of the negated. */
const sign = (which: Extreme) => (which === "max" ? "" : "-");

/** y[i]: of a row of nothing -Infinity, or Infinity for "min". */
export const extreme = variants("extreme", (which: Extreme) => {
  const [fold, none] = which === "max" ? [Math.max, Number.NEGATIVE_INFINITY] : [Math.min, Number.POSITIVE_INFINITY];
  return kernel({
    name: `extreme ${which}`,
    inputs: { x: "f32" },
    outputs: { y: "f32" },
    params: { rows: "u32", cols: "u32" },
    passes: [
      {
        groups: ({ rows }) => rows,
        wgsl: eachRankedRow(/* wgsl */ `
  var best = ${LEAST_RANK};
  for (var j = lane; j < p.cols; j += ${LANES}u) { best = max(best, rank(${sign(which)}x[start + j])); }
  best = highest(lane, best);
  if (lane == 0u) { y[row] = ${sign(which)}unrank(best); }`),
      },
    ],
    compiled: {
      name: "extreme",
      buffers: ["x", "y"],
      constants: [which === "max" ? 0 : 1],
      split: ({ cols }) => ({ over: "rows", strides: [cols, 1], work: cols }),
    },
    loops({ x, y }, { rows, cols }) {
      for (let i = 0; i < rows; i++) {
        let m = none;
        for (let j = i * cols; j < (i + 1) * cols; j++) m = fold(m, x[j]);
        y[i] = m;
      }
    },
  });
});

/** dx of either extreme: `y` is the one found. */
export const extremeGrad = kernel({
  name: "extremeGrad",
  inputs: { x: "f32", y: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  let m = y[row];
  var count = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { count += select(0.0, 1.0, x[start + j] == m); }
  count = total(lane, count);
  for (var j = lane; j < p.cols; j += ${LANES}u) { dx[start + j] = select(0.0, dy[row], x[start + j] == m) / count; }`),
    },
  ],
  compiled: {
    name: "extremeGrad",
    buffers: ["x", "y", "dy", "dx"],
    split: ({ cols }) => ({ over: "rows", strides: [cols, 1, 1, cols], work: 3 * cols }),
  },
  loops({ x, y, dy, dx }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      const end = (i + 1) * cols;
      let count = 0;
      for (let j = i * cols; j < end; j++) if (x[j] === y[i]) count++;
      for (let j = i * cols; j < end; j++) dx[j] = (x[j] === y[i] ? dy[i] : 0) / count; // 0 / 0 where y is NaN
    }
  },
});

/** place[i]: where the extreme stands in its row, counted from 0. */
export const extremePlace = variants("extremePlace", (which: Extreme) => {
  const beats = which === "max" ? (a: number, b: number) => a > b : (a: number, b: number) => a < b;
  return kernel({
    name: `extremePlace ${which}`,
    inputs: { x: "f32" },
    outputs: { place: "u32" },
    params: { rows: "u32", cols: "u32" },
    passes: [
      {
        groups: ({ rows }) => rows,
        wgsl: eachRankedRow(/* wgsl */ `
  var best = 0u; var at = 0u;
  for (var j = lane; j < p.cols; j += ${LANES}u) {
    let r = rank(${sign(which)}x[start + j]);
    if (r > best) { best = r; at = j; }
  }
  at = firstOf(lane, best, at, highest(lane, best));
  if (lane == 0u) { place[row] = at; }`),
      },
    ],
    compiled: {
      name: "extremePlace",
      buffers: ["x", "place"],
      constants: [which === "max" ? 0 : 1],
      split: ({ cols }) => ({ over: "rows", strides: [cols, 1], work: cols }),
    },
    loops({ x, place }, { rows, cols }) {
      for (let i = 0; i < rows; i++) {
        const start = i * cols;
        let at = 0;
        for (let j = 1; j < cols && !Number.isNaN(x[start + at]); j++)
          if (beats(x[start + j], x[start + at]) || Number.isNaN(x[start + j])) at = j;
        place[i] = at;
      }
    },
  });
});

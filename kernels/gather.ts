/**
 * Rows by index: `gather` reads them, `gatherSum` adds them up again.
 *
 * Adding needs no atomics: an index is turned into its inverse, `order` (the places of the index, grouped by the row they name) and `starts`
 * (where each row's group begins), so every row sums its own places, in the same order each time. The host inverts an index that it makes;
 * `invert` one that was made on the device.
 */

import { PANEL, panelsOf } from "./cpu/scratch.ts";
import { each, kernel, LANES, lanes, variants } from "./kernel.ts";
import type { Word } from "./permute.ts";

/** What an index may be. A negative one, read as u32, lies beyond every table. */
export type IndexWord = "u32" | "i32";

/** y[i] = x[index[i]], rows of `cols` out of `whole`; zeros where the index names none of them. */
export const gather = variants("gather", (dtype: Word, places: IndexWord) =>
  kernel({
    name: `gather ${dtype} by ${places}`,
    inputs: { x: dtype, index: places },
    outputs: { y: dtype },
    params: { rows: "u32", cols: "u32", whole: "u32" },
    passes: [
      {
        groups: ({ rows, cols }) => lanes(rows * cols),
        wgsl: each(
          /* wgsl */ `
  let row = u32(index[i / p.cols]);
  y[i] = ${dtype}();
  if (row < p.whole) { y[i] = x[row * p.cols + i % p.cols]; }`,
          "p.rows * p.cols",
        ),
      },
    ],
    compiled: {
      name: "gather",
      buffers: ["x", "index", "y"],
      split: ({ cols }) => ({ over: "rows", strides: [0, 1, cols], work: cols }),
    },
    loops({ x, index, y }, { rows, cols, whole }) {
      for (let i = 0; i < rows; i++) {
        const row = index[i];
        for (let j = 0; j < cols; j++) y[i * cols + j] = row >= 0 && row < whole ? x[row * cols + j] : 0;
      }
    },
  }),
);

/** Fewer rows than so many are few (`assembly/gather.ts`). Each is then taken for the sum of so many places: how many there are, no size says. */
const FEW = 64;
const MANY = 1024;

/** y[r] = sum over j from starts[r] to starts[r + 1] of x[order[j]]; a row that no place names is zero. */
export const gatherSum = kernel({
  name: "gatherSum",
  inputs: { x: "f32", order: "u32", starts: "u32" },
  outputs: { y: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows, cols }) => lanes(rows * cols),
      wgsl: each(
        /* wgsl */ `
  let row = i / p.cols; let col = i % p.cols;
  var sum = 0.0;
  for (var j = starts[row]; j < starts[row + 1u]; j++) { sum += x[order[j] * p.cols + col]; }
  y[i] = sum;`,
        "p.rows * p.cols",
      ),
    },
  ],
  compiled: {
    name: "gatherSum",
    buffers: ["x", "order", "starts", "y"],
    // who has few rows sums many places for each, and shares them by columns
    split: ({ rows, cols }) => (rows < FEW ? { pieces: panelsOf(cols), work: PANEL * rows * MANY } : { pieces: rows, work: cols }),
  },
  loops({ x, order, starts, y }, { rows, cols }) {
    y.fill(0, 0, rows * cols);
    for (let row = 0; row < rows; row++)
      for (let j = starts[row]; j < starts[row + 1]; j++) {
        const from = order[j] * cols;
        for (let col = 0; col < cols; col++) y[row * cols + col] += x[from + col];
      }
  },
});

/** Places that a lane of `invert` looks through. */
const CHUNK = 256;

const chunksOf = (n: number): number => Math.ceil(n / CHUNK);

/** The base that `invert` takes rows apart by: each is high * base + low, both below the base. */
export const baseOf = (rows: number): number => Math.ceil(Math.sqrt(rows));

/** WGSL: lane i finds, in order, the places of a chunk whose row has a digit. The high digit is looked for where the low one has put the places. */
const eachOfDigit = (high: boolean, before: string, found: string, after: string): string =>
  each(
    /* wgsl */ `
  let chunks = (p.n + ${CHUNK - 1}u) / ${CHUNK}u;
  let digit = i / chunks;
  let first = i % chunks * ${CHUNK}u;
  let end = min(first + ${CHUNK}u, ${high ? "counts[p.base * chunks]" : "p.n"});
  ${before}
  for (var j = first; j < end; j++) {
    let place = ${high ? "middle[j]" : "j"};
    let row = u32(index[place]);
    if (${high ? "row / p.base == digit" : "row < p.rows && row % p.base == digit"}) { ${found} }
  }
  ${after}`,
    `p.base * ((p.n + ${CHUNK - 1}u) / ${CHUNK}u)`,
  );

/** WGSL: counts become the sums of those before them, and their own sum stands at the end; a lane does a share of them. */
const addUp = /* wgsl */ `
var<workgroup> sums: array<u32, ${LANES}>;
@compute @workgroup_size(${LANES})
fn main(@builtin(local_invocation_index) lane: u32) {
  let all = p.base * ((p.n + ${CHUNK - 1}u) / ${CHUNK}u);
  let share = (all + ${LANES - 1}u) / ${LANES}u;
  let first = min(lane * share, all);
  let end = min(first + share, all);
  var sum = 0u;
  for (var i = first; i < end; i++) { sum += counts[i]; }
  sums[lane] = sum;
  workgroupBarrier();
  var at = 0u;
  for (var other = 0u; other < lane; other++) { at += sums[other]; }
  for (var i = first; i < end; i++) {
    let count = counts[i];
    counts[i] = at;
    at += count;
  }
  if (lane == ${LANES - 1}u) { counts[all] = at; }
}`;

/**
 * The inverse of an index of n places into `rows`: order [n], at whose end room is left for places that name no row, and starts [rows + 1].
 *
 * On a GPU places are sorted by the low digit of their row, then by the high one, to the base given: each (digit, chunk of places) has a lane,
 * which counts what it finds, and when the counts have been added up puts it there. Places of a row stay in order, so that what is added up by
 * them is the same at each run (a radix sort of two digits: Knuth, The Art of Computer Programming 3, 5.2.5).
 */
export const invert = variants("invert", (places: IndexWord) => {
  const groups = ({ n, base }: { readonly n: number; readonly base: number }) => lanes(base * chunksOf(n));
  return kernel({
    name: `invert ${places}`,
    inputs: { index: places },
    outputs: { order: "u32", starts: "u32" },
    scratch: {
      middle: { dtype: "u32", length: ({ n }) => n },
      counts: { dtype: "u32", length: ({ n, base }) => base * chunksOf(n) + 1 },
    },
    params: { n: "u32", rows: "u32", base: "u32" },
    passes: [
      ...[false, true].flatMap((high) => {
        const [from, to] = high ? [["middle"], "order"] : [[], "middle"];
        return [
          { groups, uses: ["index", ...from, "counts"], wgsl: eachOfDigit(high, "var count = 0u;", "count++;", "counts[i] = count;") },
          { groups: () => 1, uses: ["counts"], wgsl: addUp },
          {
            groups,
            uses: ["index", ...from, "counts", to],
            wgsl: eachOfDigit(high, "var at = counts[i];", `${to}[at] = place; at++;`, ""),
          },
        ];
      }),
      {
        groups: ({ rows }) => lanes(rows + 1),
        uses: ["index", "order", "counts", "starts"],
        wgsl: each(
          /* wgsl */ `
  var start = 0u;
  var end = counts[p.base * ((p.n + ${CHUNK - 1}u) / ${CHUNK}u)];
  while (start < end) {
    let half = (start + end) / 2u;
    if (u32(index[order[half]]) < i) { start = half + 1u; } else { end = half; }
  }
  starts[i] = start;`,
          "p.rows + 1u",
        ),
      },
    ],
    compiled: { name: "invert", buffers: ["index", "order", "starts"] },
    loops({ index, order, starts }, { n, rows }) {
      starts.fill(0, 0, rows + 1);
      for (let j = 0; j < n; j++) if (index[j] >= 0 && index[j] < rows) starts[index[j] + 1]++;
      for (let row = 0; row < rows; row++) starts[row + 1] += starts[row];
      for (let j = 0; j < n; j++) if (index[j] >= 0 && index[j] < rows) order[starts[index[j]]++] = j;
      starts.copyWithin(1, 0, rows); // each start has moved on to the next row's
      starts[0] = 0;
    },
  });
});

/**
 * Attention by register tiles, for GPUs: each lane makes 4 rows x some columns of every product, in registers.
 *
 * A workgroup has a tile of 32 rows and a head. Its lanes stand 8 down by `across`; a lane has rows 4 down ... 4 down + 3. Blocks of the other side's rows
 * pass through workgroup memory, row by row, beside the tile's own. Of a block a lane
 *
 *     1. makes the dot products of its rows with rows across, across + ACROSS, ... of the block, four numbers at a time
 *     2. makes weights of them, in registers, and hands them over through workgroup memory, [row of the block][row of the tile]
 *     3. adds to its rows of the result, columns four by four across: weight x row of the block
 *
 * Rows lie an odd number of vectors apart, so that lanes beside each other read from different banks. A maximum is found by all lanes of a row together,
 * who all remember it; of the sum of exponentials each keeps its part until the end.
 *
 * Flash attention (Dao et al. 2022, algorithms 1 and 4), as in attention.ts: the same buffers, the same tables, the same draws.
 */

import type { Pass } from "../kernel.ts";
import { bitsFor, opened, type Rows, TILE } from "./table.ts";

/** How a pass is written. */
export interface Way {
  /** Rows of the other side at a time: a multiple of 4, and of `across`. */
  readonly block: number;
  /** Lanes that share a row. */
  readonly across: number;
  /** Do rows lie in workgroup memory as f16? Products and sums are f32 all the same. */
  readonly half: boolean;
}

/** What is written. */
export interface Form {
  readonly width: number;
  readonly dropped: boolean;
  readonly causal: boolean;
}

/** A pass, and what it takes. */
export interface Written {
  readonly pass: Pass<{ readonly count: "u32"; readonly keyCount: "u32"; readonly heads: "u32" }>;
  readonly lanes: number;
  readonly bytes: number;
}

/** Rows that a lane has. */
const MINE = 4;

/** Lanes, of a workgroup, that are not across. */
const DOWN = TILE / MINE;

/** From row to row of a block in what lanes hand over: vectors of four rows of the tile, and one more for the sake of banks. */
const STEP = DOWN + 1;
/** A number handed over for each row of a block and of the tile. */
const handed = ({ block }: Way) => ["vec4f", block * STEP] as const;

/** Bytes of what lies in workgroup memory; a variable begins at a multiple of the largest. */
const BYTES = { vec4f: 16, "vec4<f16>": 8, vec2f: 8, vec2u: 8 } as const;
type Memory = Readonly<Record<string, readonly [type: keyof typeof BYTES, length: number]>>;

const lines = (n: number, line: (i: number) => string, between = "\n    "): string =>
  Array.from({ length: n }, (_, i) => line(i)).join(between);
const fours = (line: (i: number) => string): string => `vec4f(${lines(MINE, line, ", ")})`;

/** What the passes share. `read` are the buffers of rows they read; `own` those a tile keeps its rows of, `others` those that pass by. */
function shared(
  { width, dropped, causal }: Form,
  { block, across, half }: Way,
  {
    rows,
    own,
    others,
    more,
  }: { readonly rows: Rows; readonly own: readonly string[]; readonly others: readonly string[]; readonly more: Memory },
) {
  const vectors = Math.ceil(width / 4); // of a row
  const pitch = vectors | 1;
  const each = block / across; // rows of a block whose dot products a lane makes
  const columns = Math.ceil(vectors / across); // of the result, in vectors, that a lane makes
  const whole = width % 4 === 0;
  const bits = bitsFor(rows);
  const cell = half ? "vec4<f16>" : "vec4f";
  /** Lanes beyond the last column read what lies behind the last row, and use it for nothing. */
  const line = (count: number) => [cell, count * pitch + columns * across - vectors] as const;
  const memory: Memory = {
    ...Object.fromEntries(own.map((x) => [`${x}Own`, line(TILE)])),
    ...Object.fromEntries(others.map((x) => [`${x}Block`, line(block)])),
    ...more,
    ...(dropped && { bits: ["vec2u", bits.length(block)] as const }),
  };
  const bytes = Object.values(memory).reduce((sum, [type, length]) => sum + Math.ceil((BYTES[type] * length) / 16) * 16, 0);

  const at = (row: string) => `(${row} * p.heads + head) * ${whole ? vectors : width}u + ${whole ? "vector" : "4u * vector"}`;
  const prologue = /* wgsl */ `
const SCALE = ${1 / Math.sqrt(width)};
const ROWS = ${TILE}u; // of a tile, at most
const ACROSS = ${across}u; // lanes to a row
const LANES = ${DOWN * across}u;
const BLOCK = ${block}u; // rows of the other side at a time
const VECTORS = ${vectors}u; // of a row
const PITCH = ${pitch}u; // from row to row
${Object.entries(memory)
  .map(([name, [type, length]]) => `var<workgroup> ${name}: array<${type}, ${length}>;`)
  .join("\n")}
${[...own, ...others]
  .map(
    (x) => /* wgsl */ `
fn ${x}At(row: u32, head: u32, vector: u32) -> vec4f {
  let at = ${at("row")};
  ${
    whole
      ? `return ${x}[at];`
      : `var four = vec4f();
  for (var i = 0u; i < 4u && 4u * vector + i < ${width}u; i++) { four[i] = ${x}[at + i]; }
  return four;`
  }
}`,
  )
  .join("")}
${dropped ? bits.declared : ""}`;

  /** Rows `first` and on of buffers into workgroup memory: zeros from `end` on. */
  const staged = (buffers: readonly string[], into: string, count: string, first: string, end: string) => /* wgsl */ `
    for (var f = lane; f < ${count} * VECTORS; f += LANES) {
      let row = ${first} + f / VECTORS;
      let vector = f % VECTORS;
      ${buffers.map((x) => `var ${x}Four = vec4f();`).join(" ")}
      if (row < ${end}) { ${buffers.map((x) => `${x}Four = ${x}At(row, head, vector);`).join(" ")} }
      ${buffers.map((x) => `${x}${into}[f / VECTORS * PITCH + vector] = ${half ? `vec4<f16>(${x}Four)` : `${x}Four`};`).join(" ")}
    }`;

  const main = /* wgsl */ `${opened(rows, dropped)}
  let down = lane / ACROSS * ${MINE}u; // my first row of the tile
  let across = lane % ACROSS;
  let rows = min(${MINE}u, max(row1, row0 + down) - row0 - down); // that I have
  let vectors = min(VECTORS, p.heads * VECTORS); // all, but no constant: loops that a software driver writes out take it half a minute, and more
  ${causal ? `let places = vec4u(row0 + down - origin) + vec4u(0u, 1u, 2u, 3u); // of my rows in their cell` : ""}
  ${staged(own, "Own", "ROWS", "row0", "row1")}`;

  const [first, last] = !causal
    ? ["start", "end"]
    : rows === "queries"
      ? ["start", "min(end, start + row1 - origin)"]
      : ["start + row0 - origin", "end"];
  /** The blocks, each through workgroup memory. A barrier stands before the body and after it. */
  const blocks = (body: string, also = "") => /* wgsl */ `
  let last = ${last};
  for (var first = ${first}; first < last; first += BLOCK) {${staged(others, "Block", "BLOCK", "first", "end")}${also}${dropped ? bits.drawn : ""}
    workgroupBarrier();
    ${body}
    workgroupBarrier();
  }`;

  const loaded = (from: string) => (half ? `vec4f(${from})` : from);
  /** name0, name1, ...: dot products of my four rows with each of my rows of the block. */
  const dots = (name: string, own: string, other: string) => /* wgsl */ `
    ${lines(each, (j) => `var ${name}${j} = vec4f();`)}
    for (var d = 0u; d < vectors; d++) {
      ${lines(MINE, (i) => `let a${i} = ${loaded(`${own}Own[(down + ${i}u) * PITCH + d]`)};`)}
      ${lines(
        each,
        (j) => `let b${j} = ${loaded(`${other}Block[(across + ${j * across}u) * PITCH + d]`)};
      ${name}${j} += ${fours((i) => `dot(a${i}, b${j})`)};`,
      )}
    }`;

  /** Which of my four rows meet row `other`. */
  const met = rows === "queries" ? "vec4u(other - start) <= places" : "places <= vec4u(other - start)";
  /** For each of my rows o of the block, once it is known which of my four meet it. */
  const mine = (body: (j: number) => string) =>
    lines(
      each,
      (j) => /* wgsl */ `{
      let o = across + ${j * across}u;
      let other = first + o;
      let met = vec4<bool>(other < end)${causal ? ` & (${met})` : ""};
      ${body(j)}
    }`,
    );
  const factor = dropped
    ? `select(vec4f(), vec4f(p.scale), ${`vec4u(${lines(MINE, (i) => bits.quarter(`down + ${i}u`), ", ")})`} >= vec4u(p.threshold))`
    : "vec4f(1.0)";

  const sums = (name: string) => lines(MINE * columns, (at) => `var ${name}${at} = vec4f();`);
  /**
   * sum += weights x rows of the block, for each of [sum, weights, rows]. Causal: at most three rows of a block meet some of my four and not the others, to
   * which they must add nothing, whatever they hold. A weight of 0 will not do: 0 x NaN is NaN.
   */
  const added = (products: readonly (readonly [sum: string, weights: string, rows: string])[]) => {
    const over = (begin: string, end: string, known: string, row: (name: string, i: number) => string) => /* wgsl */ `
    for (var o = ${begin}; o < ${end}; o++) {${known}
      ${products
        .map(
          ([sum, weights, rows]) => /* wgsl */ `let ${sum}Weight = ${weights}[o * ${STEP}u + down / ${MINE}u];
      ${lines(
        columns,
        (c) => `let ${sum}Row${c} = ${loaded(`${rows}Block[o * PITCH + across + ${c * across}u]`)};
      ${lines(MINE, (i) => `${sum}${i * columns + c} += ${sum}Weight[${i}] * ${row(`${sum}Row${c}`, i)};`, " ")}`,
      )}`,
        )
        .join("\n      ")}
    }`;
    if (!causal) return over("0u", "min(BLOCK, last - first)", "", (row) => row);
    // Of the places in the cell of my four rows x is the first and w the last. Queries meet keys up to their own place, and keys meet queries from theirs on.
    const [low, high] = rows === "queries" ? ["places.x + 1u", "places.w + 1u"] : ["places.x", "places.w"];
    const [begin, end] = rows === "queries" ? ["0u", "low"] : ["high", "count"];
    const inBlock = (place: string) => `min(count, max(${place}, before) - before)`;
    const known = `
      let other = first + o;
      let met = ${met};`;
    return /* wgsl */ `
    let count = min(BLOCK, last - first);
    let before = first - start;
    let low = ${inBlock(low)};
    let high = ${inBlock(high)};${over(begin, end, "", (row) => row)}${over("low", "high", known, (row, i) => `select(vec4f(), ${row}, met[${i}])`)}`;
  };
  /** My rows of a result into a buffer, times a factor each; `place` is a row's there. One writing for all, in a loop that no driver writes out. */
  const stored = (sum: string, into: string, place = "row", times = "") => /* wgsl */ `
  for (var i = 0u; i < rows * ${columns}u; i++) {
    var four = ${sum}0;
    switch (i) {
    ${lines(MINE * columns, (at) => `case ${at}u: { four = ${sum}${at}; }`)}
    default: {}
    }
    let row = row0 + down + i / ${columns}u;
    let vector = across + i % ${columns}u * ACROSS;
    if (vector < VECTORS) {
      let at = ${at(place)};
      ${whole ? `${into}[at] = four${times};` : `for (var c = 0u; c < 4u && 4u * vector + c < ${width}u; c++) { ${into}[at + c] = (four${times})[c]; }`}
    }
  }`;
  /** Four numbers of each lane across, folded into one. */
  const folded = (name: string, init: string, fold: string) => /* wgsl */ `
    var ${name} = ${init};
    for (var a = lane - across; a < lane - across + ACROSS; a++) { ${name} = ${fold}; }`;
  return {
    ...{ prologue, main, blocks, dots, mine, factor, sums, added, stored, folded, whole, each, columns, bytes },
    lanes: DOWN * across,
    directives: half ? ["enable f16;"] : [],
  };
}

/** y and lse of q, k and v. */
export function forward(form: Form, way: Way): Written {
  const w = shared(form, way, {
    rows: "queries",
    own: ["q"],
    others: ["k", "v"],
    more: { weights: handed(way), peaks: ["vec4f", DOWN * way.across] },
  });
  const wgsl = /* wgsl */ `${w.prologue}
${w.main}
  ${w.sums("sum")}
  var most = vec4f(-1e30); // of the scores so far
  var total = vec4f(); // of exp(score - most), my part
  ${w.blocks(/* wgsl */ `
    ${w.dots("score", "q", "k")}
    var peak = most;
    ${w.mine((j) => `score${j} = score${j} * SCALE; peak = select(peak, max(peak, score${j}), met);`)}
    peaks[lane] = peak;
    workgroupBarrier();
    ${w.folded("larger", "most", "max(larger, peaks[a])")}
    let shrink = exp(most - larger);
    most = larger;
    total *= shrink;
    ${lines(MINE * w.columns, (at) => `sum${at} *= shrink[${Math.floor(at / w.columns)}];`)}
    ${w.mine(
      (j) => /* wgsl */ `let probability = select(vec4f(), exp(score${j} - most), met);
      total += probability;
      weights[o * ${STEP}u + down / ${MINE}u] = probability * ${w.factor};`,
    )}
    workgroupBarrier();
    ${w.added([["sum", "weights", "v"]])}`)}
  peaks[lane] = total;
  workgroupBarrier();
  ${w.folded("whole", "vec4f()", "whole + peaks[a]")}
  let some = start < end;
  let scale = select(vec4f(), 1.0 / whole, vec4<bool>(some));
  ${w.stored("sum", "y", "row", ` * scale[i / ${w.columns}u]`)}
  if (across < ${MINE}u && row0 + down + across < row1) {
    lse[(row0 + down + across) * p.heads + head] = select(0.0, most[across] + log(whole[across]), some);
  }
}`;
  return {
    pass: {
      directives: w.directives,
      vectors: w.whole ? ["q", "k", "v", "y"] : [],
      groups: ({ count, heads }) => count * heads,
      wgsl,
    },
    lanes: w.lanes,
    bytes: w.bytes,
  };
}

/** The log of the sum of exponentials, and delta, of queries: two numbers side by side in `stats`. */
const statOf = (row: string) => `2u * (${row} * p.heads + head)`;

/** dq of q, k, v, dy and stats. */
export function backwardByQueries(form: Form, way: Way): Written {
  const w = shared(form, way, { rows: "queries", own: ["q", "dy"], others: ["k", "v"], more: { slopes: handed(way) } });
  const stats = (i: number) => `stats[${statOf(`min(row0 + down + ${i}u, last0)`)}`;
  const wgsl = /* wgsl */ `${w.prologue}
${w.main}
  let last0 = max(row1, 1u) - 1u;
  let log = ${fours((i) => `${stats(i)}]`)};
  let delta = ${fours((i) => `${stats(i)} + 1u]`)};
  ${w.sums("sum")}
  ${w.blocks(/* wgsl */ `
    ${w.dots("score", "q", "k")}
    ${w.dots("slope", "dy", "v")}
    ${w.mine(
      (j) => /* wgsl */ `let probability = exp(score${j} * SCALE - log);
      let slope = probability * (slope${j} * ${w.factor} - delta) * SCALE;
      slopes[o * ${STEP}u + down / ${MINE}u] = select(vec4f(), slope, met);`,
    )}
    workgroupBarrier();
    ${w.added([["sum", "slopes", "k"]])}`)}
  ${w.stored("sum", "dq")}
}`;
  return {
    pass: {
      directives: w.directives,
      vectors: w.whole ? ["q", "k", "v", "dy", "dq"] : [],
      groups: ({ count, heads }) => count * heads,
      wgsl,
    },
    lanes: w.lanes,
    bytes: w.bytes,
  };
}

/** dk and dv, one after the other, of the same; and the keys' gates, where they are asked for. */
export function backwardByKeys(form: Form, way: Way, gated = false): Written {
  const parts = gated && { parts: ["vec4f", DOWN * way.across] as const };
  const more: Memory = { weights: handed(way), slopes: handed(way), stat: ["vec2f", way.block], ...parts };
  const w = shared(form, way, { rows: "keys", own: ["k", "v"], others: ["q", "dy"], more });
  const wgsl = /* wgsl */ `${w.prologue}
${w.main}
  ${w.sums("dk")}
  ${w.sums("dv")}
  ${gated ? "var gate = vec4f(); // of my four keys, my part" : ""}
  ${w.blocks(
    /* wgsl */ `
    ${w.dots("score", "k", "q")}
    ${w.dots("slope", "v", "dy")}
    ${w.mine(
      (j) => /* wgsl */ `let probability = exp(score${j} * SCALE - stat[o].x);
      let factor = ${w.factor};
      let slope = probability * (slope${j} * factor - stat[o].y) * SCALE;
      ${gated ? "gate += select(vec4f(), slope, met);" : ""}
      weights[o * ${STEP}u + down / ${MINE}u] = select(vec4f(), probability * factor, met);
      slopes[o * ${STEP}u + down / ${MINE}u] = select(vec4f(), slope, met);`,
    )}
    workgroupBarrier();
    ${w.added([
      ["dk", "slopes", "q"],
      ["dv", "weights", "dy"],
    ])}`,
    /* wgsl */ `
    for (var f = lane; f < BLOCK; f += LANES) {
      let at = ${statOf("min(first + f, end - 1u)")};
      stat[f] = vec2f(stats[at], stats[at + 1u]);
    }`,
  )}
  ${w.stored("dk", "dkv")}
  ${w.stored("dv", "dkv", "(p.keyRows + row)")}
  ${
    gated
      ? /* wgsl */ `parts[lane] = gate / SCALE;
  workgroupBarrier();
  ${w.folded("whole", "vec4f()", "whole + parts[a]")}
  if (across < ${MINE}u && row0 + down + across < row1) { gates[(row0 + down + across) * p.heads + head] = whole[across]; }`
      : ""
  }
}`;
  return {
    pass: {
      directives: w.directives,
      vectors: w.whole ? ["q", "k", "v", "dy", "dkv"] : [],
      groups: ({ keyCount, heads }) => keyCount * heads,
      wgsl,
    },
    lanes: w.lanes,
    bytes: w.bytes,
  };
}

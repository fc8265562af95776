/**
 * Attention inside segments: y = softmax(q k^T / sqrt(D)) v for each head, and its gradient, without ever holding the N x N probabilities.
 *
 * A batch is a stream of cells; every place attends to the places of its own cell: in the same stream (self-attention), or in another one that has
 * the same cells (cross-attention). Causal attention leaves out what comes later: place i of a cell sees places j <= i, both counted from where
 * the cell begins in its stream.
 *
 * A table of tiles [count, 5] says which rows a workgroup owns and what they look at:
 *
 *     row0, row1    the rows: row0 <= i < row1, at most TILE. Each row of the stream is in one tile.
 *     from, to      the cell in the other stream: keys for a tile of queries, queries for a tile of keys. from <= j < to
 *     origin        where the cell begins in the rows' own stream: from, in self-attention
 *
 * Rows of no cell, such as the dead tail of the stream, have from = to: they get zeros and give nothing. So do rows whose cell is empty in the other
 * stream. Tiles to spare own no row.
 *
 * Flash attention (Dao et al. 2022, algorithms 1 and 4): a row's softmax runs over blocks of keys, rescaled whenever a larger score is met; of
 * it only the log of the sum of exponentials is kept, from which the gradient's kernels make the probabilities again.
 *
 * On the GPU a lane owns 16 columns of one row, in registers. Blocks of the other side's rows pass through workgroup memory; each lane finds its
 * part of a dot product, and the parts, exchanged once, are added by all who need them. Lanes that run together read the same number at the
 * same time. 16 KiB of workgroup memory and 256 lanes suffice up to a head width of 128. Blocks that no row of a causal tile sees are never met.
 */

import { backwardByKeys, backwardByQueries, forward } from "./attention/registers.ts";
import { bitsFor, dropout, FIELDS, opened, type Rows, type Stream, TILE, tablesOf } from "./attention/table.ts";
import { waysOf } from "./attention/ways.ts";
import { attentionGradScratch, attentionScratch, SHARES } from "./cpu/scratch.ts";
import {
  type Alternative,
  type Arrays,
  each,
  type Floats,
  type Kernel,
  kernel,
  LANES,
  lanes,
  type Params,
  type Pass,
  variants,
} from "./kernel.ts";
import { type Pair, quarter, threefry } from "./random.ts";

export { FIELDS, TILE };

/** Columns of a row that a lane owns, as vectors of four. */
const OWN = 4;

/** The four vectors of a lane, one after the other. */
const own = (line: (c: number) => string, between = " ") => Array.from({ length: OWN }, (_, c) => line(c)).join(between);

/**
 * Which rows of the other side a tile meets, first <= other < last, the same for all its lanes, and which of a block its rows do, low <= other < high.
 * Causal: a query sees keys up to its own place, and a key is seen from its own place on.
 */
const everything = { declared: "", first: "start", last: "end", low: "first", high: "end" };
const past = {
  declared: /* wgsl */ `
  let last = min(end, start + row1 - origin);
  let high = min(end, start + row + 1u - origin);`,
  first: "start",
  last: "last",
  low: "first",
  high: "high",
};
const future = {
  declared: "let low = start + row - origin;",
  first: "start + row0 - origin",
  last: "end",
  low: "max(first, low)",
  high: "end",
};

/** What a kernel over tiles is made for. */
interface Form {
  readonly width: number;
  readonly dropped: boolean;
  readonly causal: boolean;
  /** What a tile's rows are; the blocks that pass by are the others. */
  readonly rows: Rows;
  /** How many dot products it makes of two rows. */
  readonly products: number;
  readonly buffers: readonly string[];
}

/** What the kernels over tiles share. */
function shared({ width, dropped, causal, rows, products, buffers }: Form) {
  const splits = Math.ceil(width / (4 * OWN));
  const block = Math.floor(TILE / splits / 4) * 4;
  const bits = bitsFor(rows);
  const causally = rows === "queries" ? past : future;
  const seen = causal ? causally : everything;
  const prologue = /* wgsl */ `
const WIDTH = ${width}u;
const SCALE = ${1 / Math.sqrt(width)};
const ROWS = ${TILE}u; // of a tile, at most
const SPLITS = ${splits}u; // lanes to a row
const LANES = ROWS * SPLITS;
const BLOCK = ${block}u; // rows of the other side at a time; four share a block of random bits
const VECTORS = ${splits * OWN}u; // of a row, zeros beyond its width
${dropped ? `${bits.declared}\nvar<workgroup> bits: array<vec2u, ${bits.length(block)}>;` : ""}
var<workgroup> staged: array<array<vec4f, BLOCK * VECTORS>, 2>;
var<workgroup> parts: array<array<f32, BLOCK * SPLITS * ROWS>, ${products}>; // of dot products: [row of the block][split][row of the tile]

fn dotted(which: u32, o: u32, row: u32) -> f32 {
  var sum = 0.0;
  for (var s = 0u; s < SPLITS; s++) { sum += parts[which][(o * SPLITS + s) * ROWS + row]; }
  return sum;
}
${buffers
  .map(
    (x) => /* wgsl */ `
fn ${x}At(row: u32, head: u32, column: u32) -> vec4f {
  let at = (row * p.heads + head) * WIDTH + column;
  return vec4f(${[0, 1, 2, 3].map((i) => (width % 16 === 0 ? `${x}[at + ${i}u]` : `select(0.0, ${x}[at + ${i}u], column + ${i}u < WIDTH)`)).join(", ")});
}`,
  )
  .join("")}`;

  const main = /* wgsl */ `${opened(rows, dropped)}
  let mine = lane % ROWS; // among the tile's rows
  let row = min(row0 + mine, max(row1, 1u) - 1u); // lanes beyond the tile do its last row again, and write nothing
  let live = row0 + mine < row1;
  ${seen.declared}
  let split = lane / ROWS;
  let column = split * ${4 * OWN}u;`;

  /** My columns of my row of a buffer. */
  const load = (name: string, x: string) =>
    `let ${name} = array<vec4f, ${OWN}>(${own((c) => `${x}At(row, head, column + ${4 * c}u)`, ", ")});`;

  /** The same, written. */
  const store = (x: string, value: (c: number) => string, at = "row") =>
    own(
      (c) => /* wgsl */ `
  {
    let value = ${value(c)};
    for (var i = 0u; i < 4u; i++) {
      if (live && column + ${4 * c}u + i < WIDTH) { ${x}[(${at} * p.heads + head) * WIDTH + column + ${4 * c}u + i] = value[i]; }
    }
  }`,
    );

  /** For each row o of the block that my row meets. It starts at a variable so that no driver unrolls it: software ones then compile in one second, not ten. */
  const over = (body: string) => /* wgsl */ `
    for (var other = ${seen.low}; other < min(first + BLOCK, ${seen.high}); other++) {
      let o = other - first;
      ${body}
    }`;

  /** Blocks of rows of x and y through workgroup memory: zeros beyond the cell; the dot products of my row with theirs; then the body. */
  const blocks = (x: string, y: string, mine: readonly string[], body: string) => /* wgsl */ `
  for (var first = ${seen.first}; first < ${seen.last}; first += BLOCK) {
    for (var f = lane; f < BLOCK * VECTORS; f += LANES) {
      var a = vec4f(); var b = vec4f();
      let other = first + f / VECTORS;
      if (other < end) { a = ${x}At(other, head, f % VECTORS * 4u); b = ${y}At(other, head, f % VECTORS * 4u); }
      staged[0][f] = a; staged[1][f] = b;
    }${dropped ? bits.drawn : ""}
    workgroupBarrier();${over(
      mine
        .map(
          (vectors, which) =>
            `parts[${which}][(o * SPLITS + split) * ROWS + mine] = ${own((c) => `dot(${vectors}[${c}], staged[${which}][o * VECTORS + split * ${OWN}u + ${c}u])`, " + ")};`,
        )
        .join("\n      "),
    )}
    workgroupBarrier();
    ${body}
    workgroupBarrier();
  }`;

  /** sum[my columns] += factor * row o of the block. */
  const add = (sum: string, factor: string, which: number) =>
    own((c) => `${sum}[${c}] += ${factor} * staged[${which}][o * VECTORS + split * ${OWN}u + ${c}u];`);

  const factor = dropped ? `select(0.0, p.scale, ${bits.quarter("mine")} >= p.threshold)` : "1.0";
  const taken = {
    lanes: TILE * splits,
    bytes: block * splits * (2 * 16 * OWN + 4 * products * TILE) + (dropped ? 8 * bits.length(block) : 0),
  };
  return { prologue, main, load, store, over, blocks, add, factor, taken };
}

type Masked = { readonly key?: Uint32Array };
type Site = Partial<Params<typeof dropout>>;

/** The factor of the probability of key j of its segment for query i: 0 or the scale of what survives; 1 without dropout. */
function mask({ key }: Masked, { threshold = 0, scale = 1, site0 = 0, site1 = 0 }: Site): (i: number, h: number, j: number) => number {
  if (!key) return () => 1;
  const folded = threefry([key[0], key[1]], [site0, site1]);
  let [last, lastH, lastJ] = [-1, -1, -1];
  let block: Pair = [0, 0];
  return (i, h, j) => {
    if (i !== last || h !== lastH || j >> 2 !== lastJ) block = threefry(folded, [i, (h << 16) | (j >> 2)]);
    [last, lastH, lastJ] = [i, h, j >> 2];
    return quarter(block, j & 3) >= threshold ? scale : 0;
  };
}

/** x[i] . y[j] over the columns of head h. */
const dotRows = (x: Floats, i: number, y: Floats, j: number, h: number, heads: number, width: number): number => {
  let sum = 0;
  for (let c = 0; c < width; c++) sum += x[(i * heads + h) * width + c] * y[(j * heads + h) * width + c];
  return sum;
};

/** out[i] += factor * x[j] over the columns of head h. */
const addRow = (out: Floats, i: number, factor: number, x: Floats, j: number, h: number, heads: number, width: number): void => {
  for (let c = 0; c < width; c++) out[(i * heads + h) * width + c] += factor * x[(j * heads + h) * width + c];
};

/** Calls f with each row of each tile and what it looks at, for each head. */
function eachRow(
  tiles: Uint32Array,
  { count, heads }: { readonly count: number; readonly heads: number },
  causal: boolean,
  f: (i: number, h: number, from: number, to: number) => void,
): void {
  for (let t = 0; t < count; t++) {
    const [row0, row1, from, to, origin] = tiles.subarray(FIELDS * t, FIELDS * (t + 1));
    for (let i = row0; i < row1; i++) {
      const last = causal ? Math.min(to, from + i - origin + 1) : to;
      for (let h = 0; h < heads; h++) f(i, h, from, last);
    }
  }
}

/** Sizes of four tiles of rows and of three cells and a tail, if the table has room for so many. */
const fewer = <P extends Params<Record<"count" | "keyRows" | "heads", "u32">>>(size: P): P => {
  const most: Readonly<Record<string, number>> = { count: 8, keyCount: 8, rows: 4 * TILE, keyRows: 4 * TILE, heads: 2 };
  return Object.fromEntries(Object.entries<number>(size).map(([name, n]) => [name, Math.min(n, most[name] ?? n)])) as P;
};

/** What calibration needs to know of an attention. */
interface Measured extends Pick<Form, "width" | "dropped" | "causal"> {
  readonly queries: Stream;
  readonly keys: Stream;
  readonly heads: number;
}

/**
 * What both kernels are calibrated with: tables, dropout's key, and the log of a sum of exponentials that is that of as many scores of 0. In rows of which
 * nothing may come, those of no cell, drawn numbers give way to NaN.
 */
function measuredWith({ width, dropped, causal, queries, keys, heads }: Measured, drawn: Readonly<Record<string, Float32Array>>) {
  const tables = tablesOf(queries, keys);
  const [asking, seen] = [queries, keys].map(({ rows }) => new Uint8Array(rows));
  const lse = new Float32Array(queries.rows * heads);
  eachRow(tables.tiles, { count: queries.count, heads: 1 }, causal, (i, _, first, last) => {
    if (first === last) return;
    asking[i] = 1;
    seen.fill(1, first, last);
    lse.fill(Math.log(last - first), i * heads, (i + 1) * heads);
  });
  const rows = Object.entries(drawn).flatMap(([name, x]) => {
    const alive = { q: asking, dy: asking, k: seen, v: seen }[name];
    return alive ? [[name, x.map((value, i) => (alive[Math.floor(i / (heads * width))] ? value : Number.NaN))] as const] : [];
  });
  return { ...Object.fromEntries(rows), ...tables, lse, ...(dropped && { key: Uint32Array.of(1, 2) }) };
}

/** Queries of a forward pass, whose parameters do not tell: as many as keys, or as its tiles hold. */
const queriesOf = (count: number, keyRows: number) => Math.min(keyRows, TILE * count);

const named = (name: string, width: number, dropped: boolean, causal: boolean) =>
  `${name} ${width}${dropped ? " dropped" : ""}${causal ? " causal" : ""}`;

/**
 * y [N, C] and lse [N, H], the log of the sum of exponentials, of q [N, C] and k, v [M, C], where C = heads * width and head h has columns h * width
 * and on. tiles [count, 5] of queries. keyRows is M. With `dropped`, probabilities are dropped as in Hugging Face's BERT: kept ones times scale, after
 * the softmax.
 */
export const attention = variants("attention", (width: number, dropped: boolean, causal: boolean) => {
  const w = shared({ width, dropped, causal, rows: "queries", products: 1, buffers: ["q", "k", "v"] });
  let ways: readonly Alternative[] | null = null;
  const plain = kernel({
    name: named("attention", width, dropped, causal),
    inputs: { q: "f32", k: "f32", v: "f32", tiles: "u32", ...(dropped && { key: "u32" as const }) },
    outputs: { y: "f32", lse: "f32" },
    params: { count: "u32", keyRows: "u32", heads: "u32", ...(dropped && dropout) },
    passes: [
      {
        groups: ({ count, heads }) => count * heads,
        wgsl: /* wgsl */ `${w.prologue}
${w.main}
  ${w.load("query", "q")}
  var sum: array<vec4f, ${OWN}>;
  var most = -1e30; // of the scores so far
  var total = 0.0; // of exp(score - most)
  ${w.blocks(
    "k",
    "v",
    ["query"],
    /* wgsl */ `
    var larger = most;${w.over("larger = max(larger, dotted(0u, o, mine) * SCALE);")}
    let shrink = exp(most - larger);
    most = larger;
    total *= shrink;
    ${own((c) => `sum[${c}] *= shrink;`)}${w.over(/* wgsl */ `
      let probability = exp(dotted(0u, o, mine) * SCALE - most);
      total += probability;
      let weight = probability * ${w.factor};
      ${w.add("sum", "weight", 1)}`)}`,
  )}
  let some = start < end;
  ${w.store("y", (c) => `select(vec4f(), sum[${c}] / total, some)`)}
  if (live && split == 0u) { lse[row * p.heads + head] = select(0.0, most + log(total), some); }
}`,
      },
    ],
    alternatives: {
      sizes: ["count", "keyRows", "heads"],
      of() {
        ways ??= waysOf(plain as unknown as Kernel, w.taken, (way) => {
          const written = forward({ width, dropped, causal }, way);
          return { passes: [written.pass], written: [written] };
        });
        return ways;
      },
      lengths: ({ count, keyRows, heads }) => {
        const rows = queriesOf(count, keyRows);
        const [all, keys] = [rows, keyRows].map((n) => n * heads * width);
        return { q: all, k: keys, v: keys, tiles: FIELDS * count, ...(dropped && { key: 2 }), y: all, lse: rows * heads };
      },
      small: fewer,
      given({ count, keyRows, heads }, drawn) {
        const queries = { rows: queriesOf(count, keyRows), count };
        const keys = { rows: keyRows, count: count + Math.ceil(keyRows / TILE) }; // as many tiles as it takes: nobody looks
        return measuredWith({ width, dropped, causal, queries, keys, heads }, drawn);
      },
      rounding: true,
    },
    compiled: {
      name: dropped ? "attentionDropped" : "attention",
      buffers: ["q", "k", "v", "tiles", ...(dropped ? ["key"] : []), "y", "lse"],
      scratch: ({ keyRows }) => attentionScratch(keyRows, width),
      constants: [width, Number(causal)],
      // by tiles, each of which looks at least at as many keys as it has rows, or nearly
      split: ({ heads }) => ({
        over: "count",
        strides: [0, 0, 0, FIELDS, ...(dropped ? [0] : []), 0, 0],
        work: 2 * TILE * TILE * heads * width,
      }),
    },
    loops(buffers, { count, heads, ...site }) {
      const { q, k, v, tiles, y, lse } = buffers;
      const factor = mask(buffers as Masked, site);
      eachRow(tiles, { count, heads }, causal, (i, h, from, to) => {
        const start = (i * heads + h) * width;
        y.fill(0, start, start + width);
        lse[i * heads + h] = 0;
        if (from === to) return;
        const scores = Float64Array.from({ length: to - from }, (_, j) => dotRows(q, i, k, from + j, h, heads, width) / Math.sqrt(width));
        const most = scores.reduce((a, b) => Math.max(a, b));
        const total = scores.reduce((sum, score) => sum + Math.exp(score - most), 0);
        const log = most + Math.log(total);
        lse[i * heads + h] = log;
        scores.forEach((score, j) => {
          addRow(y, i, Math.exp(score - log) * factor(i, h, j), v, from + j, h, heads, width);
        });
      });
    },
  });
  return plain;
});

/**
 * dq [N, C] and dkv [2, M, C], dk then dv, of dy [N, C], from what `attention` was given and gave. rows is N, keyRows M.
 *
 *     delta = sum of y dy over a row        P = exp(q k^T / sqrt(D) - lse)        dP = mask * (dy v^T)
 *     dS = P (dP - delta) / sqrt(D)         dq = dS k        dk = dS^T q          dv = (mask * P)^T dy
 *
 * Tiles of queries for dq, and for dk and dv keyTiles [keyCount, 5], tiles of keys: the same table in self-attention. Both list the same pairs of cells;
 * the loops and the compiled kernel need but the first.
 */
export const attentionGrad = variants("attentionGrad", (width: number, dropped: boolean, causal: boolean) =>
  gradient({ width, dropped, causal }, false),
);

/**
 * The same of attention to all keys, without dropout, and beside it gates [M, H]: derivatives by what exp(score) is multiplied by for each key, which is 1.
 * That is the sum of P (dP - delta) over the queries.
 */
export const attentionGradGated = variants("attentionGradGated", (width: number) =>
  gradient({ width, dropped: false, causal: false }, true),
);

/** What both are made of. */
function gradient({ width, dropped, causal }: Pick<Form, "width" | "dropped" | "causal">, gated: boolean) {
  const form = { width, dropped, causal, products: 2, buffers: ["q", "k", "v", "dy"] };
  const [byQueries, byKeys] = [shared({ ...form, rows: "queries" }), shared({ ...form, rows: "keys" })];
  const inputs = ["q", "k", "v", "dy", "stats", ...(dropped ? ["key"] : [])];
  const uses = [
    [...inputs, "tiles", "dq"],
    [...inputs, "keyTiles", "dkv", ...(gated ? ["gates"] : [])],
  ];
  let ways: readonly Alternative[] | null = null;
  const plain = kernel({
    name: `${named("attentionGrad", width, dropped, causal)}${gated ? " gated" : ""}`,
    inputs: {
      q: "f32",
      k: "f32",
      v: "f32",
      y: "f32",
      dy: "f32",
      lse: "f32",
      tiles: "u32",
      keyTiles: "u32",
      ...(dropped && { key: "u32" as const }),
    },
    outputs: { dq: "f32", dkv: "f32", ...(gated && { gates: "f32" as const }) },
    params: { count: "u32", keyCount: "u32", rows: "u32", keyRows: "u32", heads: "u32", ...(dropped && dropout) },
    scratch: { stats: { dtype: "f32", length: ({ rows, heads }) => 2 * rows * heads } }, // lse and delta of each row and head
    passes: [
      {
        uses: ["y", "dy", "lse", "stats"],
        groups: ({ rows, heads }) => lanes(rows * heads),
        wgsl: each(
          /* wgsl */ `
  var delta = 0.0;
  for (var c = i * ${width}u; c < (i + 1u) * ${width}u; c++) { delta += y[c] * dy[c]; }
  stats[2u * i] = lse[i];
  stats[2u * i + 1u] = delta;`,
          "p.rows * p.heads",
        ),
      },
      {
        uses: uses[0],
        groups: ({ count, heads }) => count * heads,
        wgsl: /* wgsl */ `${byQueries.prologue}
${byQueries.main}
  ${byQueries.load("query", "q")}
  ${byQueries.load("dyMine", "dy")}
  let log = stats[2u * (row * p.heads + head)];
  let delta = stats[2u * (row * p.heads + head) + 1u];
  var sum: array<vec4f, ${OWN}>;
  ${byQueries.blocks(
    "k",
    "v",
    ["query", "dyMine"],
    byQueries.over(/* wgsl */ `
      let probability = exp(dotted(0u, o, mine) * SCALE - log);
      let dScore = probability * (dotted(1u, o, mine) * ${byQueries.factor} - delta) * SCALE;
      ${byQueries.add("sum", "dScore", 0)}`),
  )}
  ${byQueries.store("dq", (c) => `sum[${c}]`)}
}`,
      },
      {
        uses: uses[1],
        groups: ({ keyCount, heads }) => keyCount * heads,
        wgsl: /* wgsl */ `${byKeys.prologue}
${byKeys.main}
  ${byKeys.load("keyMine", "k")}
  ${byKeys.load("value", "v")}
  var dk: array<vec4f, ${OWN}>;
  var dv: array<vec4f, ${OWN}>;
  ${gated ? "var gate = 0.0;" : ""}
  ${byKeys.blocks(
    "q",
    "dy",
    ["keyMine", "value"],
    byKeys.over(/* wgsl */ `
      let stat = 2u * (other * p.heads + head);
      let probability = exp(dotted(0u, o, mine) * SCALE - stats[stat]);
      let factor = ${byKeys.factor};
      let weight = probability * factor;
      let slope = probability * (dotted(1u, o, mine) * factor - stats[stat + 1u]);
      let dScore = slope * SCALE;
      ${gated ? "gate += slope;" : ""}
      ${byKeys.add("dk", "dScore", 0)}
      ${byKeys.add("dv", "weight", 1)}`),
  )}
  ${byKeys.store("dkv", (c) => `dk[${c}]`)}
  ${byKeys.store("dkv", (c) => `dv[${c}]`, "(p.keyRows + row)")}
  ${gated ? "if (live && split == 0u) { gates[row * p.heads + head] = gate; }" : ""}
}`,
      },
    ],
    alternatives: {
      sizes: ["count", "rows", "keyRows", "heads"],
      of() {
        const [first] = plain.passes; // makes stats
        const taken = {
          lanes: Math.max(LANES, byQueries.taken.lanes),
          bytes: Math.max(byQueries.taken.bytes, byKeys.taken.bytes),
        };
        ways ??= waysOf(plain as unknown as Kernel, taken, (way) => {
          const written = [backwardByQueries(form, way), backwardByKeys(form, way, gated)];
          return { passes: [first as Pass, ...written.map(({ pass }, i) => ({ ...pass, uses: uses[i] }))], written };
        });
        return ways;
      },
      lengths: ({ count, keyCount, rows, keyRows, heads }) => {
        const [all, keys] = [rows, keyRows].map((n) => n * heads * width);
        const tiles = { tiles: FIELDS * count, keyTiles: FIELDS * keyCount };
        return {
          ...{ q: all, k: keys, v: keys, y: all, dy: all, lse: rows * heads, ...tiles },
          ...(dropped && { key: 2 }),
          ...{ dq: all, dkv: 2 * keys, ...(gated && { gates: keyRows * heads }) },
        };
      },
      small: fewer,
      given: ({ count, keyCount, rows, keyRows, heads }, drawn) =>
        measuredWith({ width, dropped, causal, queries: { rows, count }, keys: { rows: keyRows, count: keyCount }, heads }, drawn),
      rounding: true,
    },
    compiled: {
      name: dropped ? "attentionGradDropped" : gated ? "attentionGradGated" : "attentionGrad",
      buffers: ["q", "k", "v", "y", "dy", "lse", "tiles", ...(dropped ? ["key"] : []), "dq", "dkv", ...(gated ? ["gates"] : [])],
      scratch: ({ keyRows }) => attentionGradScratch(keyRows, width),
      constants: [width, Number(causal)],
      // by heads and segments: a segment's keys are met by all of its queries
      split: ({ count, heads }) => ({ pieces: heads * SHARES, work: (5 * TILE * TILE * width * count) / SHARES }),
    },
    loops(buffers, { count, keyRows, heads, ...site }) {
      const { q, k, v, y, dy, lse, tiles, dq, dkv, gates } = buffers as Arrays<
        Record<"q" | "k" | "v" | "y" | "dy" | "lse" | "dq" | "dkv", "f32">
      > & {
        tiles: Uint32Array;
        gates?: Floats;
      };
      const factor = mask(buffers as Masked, site);
      const [dk, dv] = [dkv.subarray(0, keyRows * heads * width), dkv.subarray(keyRows * heads * width)];
      dq.fill(0);
      dkv.fill(0);
      gates?.fill(0);
      eachRow(tiles, { count, heads }, causal, (i, h, from, to) => {
        const delta = dotRows(y, i, dy, i, h, heads, width);
        for (let j = from; j < to; j++) {
          const probability = Math.exp(dotRows(q, i, k, j, h, heads, width) / Math.sqrt(width) - lse[i * heads + h]);
          const kept = factor(i, h, j - from);
          const slope = probability * (dotRows(dy, i, v, j, h, heads, width) * kept - delta);
          const dScore = slope / Math.sqrt(width);
          if (gates) gates[j * heads + h] += slope;
          addRow(dq, i, dScore, k, j, h, heads, width);
          addRow(dk, j, dScore, q, i, h, heads, width);
          addRow(dv, j, probability * kept, dy, i, h, heads, width);
        }
      });
    },
  });
  return plain;
}

/**
 * The tiles of one stream turned to another: each with its cell's span there.   tiles, turned [count, 5]; owner [rows] of the tiles' own stream,
 * spans [cells, 2] of the other
 */
export const crossTiles = kernel({
  name: "crossTiles",
  inputs: { tiles: "u32", owner: "u32", spans: "u32" },
  outputs: { turned: "u32" },
  params: { count: "u32" },
  passes: [
    {
      groups: ({ count }) => lanes(count),
      wgsl: each(
        /* wgsl */ `
  let tile = ${FIELDS}u * i;
  let row0 = tiles[tile];
  turned[tile] = row0;
  turned[tile + 1u] = tiles[tile + 1u];
  let dead = tiles[tile + 2u] == tiles[tile + 3u]; // has no owner
  let cell = select(owner[row0], 0u, dead);
  turned[tile + 2u] = select(spans[2u * cell], 0u, dead);
  turned[tile + 3u] = select(spans[2u * cell + 1u], 0u, dead);
  turned[tile + 4u] = tiles[tile + 4u];`,
        "p.count",
      ),
    },
  ],
  loops({ tiles, owner, spans, turned }, { count }) {
    for (let t = 0; t < FIELDS * count; t += FIELDS) {
      const [row0, row1, from, to, origin] = tiles.subarray(t, t + FIELDS);
      const cell = owner[row0];
      turned.set([row0, row1, ...(from < to ? spans.subarray(2 * cell, 2 * cell + 2) : [0, 0]), origin], t);
    }
  },
});

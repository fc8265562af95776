/**
 * c = a b by register tiles: a workgroup makes a tile of c, each of its lanes some rows by some columns of that, in registers.
 *
 * Slices of both operands, `depth` deep, pass through workgroup memory, so that each number fetched is used as often as the tile is wide. In `part`s of k,
 * each for a workgroup of its own, sums go to scratch, and a second pass adds them up, in order.
 */

import { each, lanes, type Params, type Pass, type Scratch } from "../kernel.ts";

/** Rows and columns of c that a workgroup makes, and a lane; how deep a slice is. */
export interface Tile {
  readonly m: number;
  readonly n: number;
  readonly depth: number;
  readonly rows: number;
  readonly columns: number;
}

/** Tiles by name. Large ones use each number more often, small ones give a small product to more workgroups. */
export const TILES = {
  "32x32": { m: 32, n: 32, depth: 16, rows: 4, columns: 4 },
  "64x64": { m: 64, n: 64, depth: 16, rows: 4, columns: 4 },
  "64x128": { m: 64, n: 128, depth: 16, rows: 8, columns: 4 },
  "128x128": { m: 128, n: 128, depth: 8, rows: 8, columns: 8 },
} as const satisfies Record<string, Tile>;

/** What is multiplied, and what is done with a sum before it is stored. */
export interface Product {
  readonly ta: boolean;
  readonly tb: boolean;
  readonly bias: boolean;
  readonly relu: boolean;
  readonly residual: boolean;
}

/** Which buffers have lines of whole vectors of four, so that they can be read and written as such. */
export interface Vectors {
  readonly a: boolean;
  readonly b: boolean;
  readonly c: boolean;
}

export interface Writing {
  readonly tile: Tile;
  readonly vectors: Vectors;
  /**
   * Do slices lie in workgroup memory in vectors, and a lane's columns side by side? Else in single numbers, and a lane's columns lie as far apart
   * as there are lanes, so that neighbouring lanes read from neighbouring banks.
   */
  readonly packed: boolean;
  /** Are slices rounded to f16? */
  readonly half: boolean;
  /** How much of k a workgroup takes, a multiple of `depth`; 0: all. */
  readonly part: number;
}

/** The sizes of a product, and what lies between the matrices of a batch. */
export const PARAMS = { m: "u32", n: "u32", k: "u32", batch: "u32", strideA: "u32", strideB: "u32" } as const;
export type Sizes = Params<typeof PARAMS>;

/** A product's passes, and their working memory. */
export interface Written {
  readonly passes: readonly Pass<typeof PARAMS>[];
  readonly scratch?: Readonly<Record<string, Scratch<typeof PARAMS>>>;
}

export const lines = (n: number, line: (i: number) => string): string => Array.from({ length: n }, (_, i) => line(i)).join("\n    ");

/** Parts of k, for as many workgroups of each tile. */
export const partsOf = (part: number, k: number): number => (part > 0 ? Math.ceil(k / part) : 1);

/**
 * fetchA(begin, line, at): four numbers of a line of a, which begins at `begin`, with 0 beyond the matrix. A line is what lies in a row in memory: a
 * row of a, or with `ta` a column. fetchB: the same of b.
 */
export const fetches = ({ ta, tb }: Product, vectors: Vectors): string =>
  [
    ["A", "a", ta ? "p.k" : "p.m", ta ? "p.m" : "p.k", vectors.a] as const,
    ["B", "b", tb ? "p.n" : "p.k", tb ? "p.k" : "p.n", vectors.b] as const,
  ]
    .map(([name, buffer, count, length, whole]) => {
      const read = whole
        ? `if (at < ${length}) { four = ${buffer}[(begin + line * ${length} + at) / 4u]; }`
        : ["x", "y", "z", "w"]
            .map((part, i) => `if (at + ${i}u < ${length}) { four.${part} = ${buffer}[begin + line * ${length} + at + ${i}u]; }`)
            .join("\n    ");
      return /* wgsl */ `
fn fetch${name}(begin: u32, line: u32, at: u32) -> vec4f {
  var four = vec4f();
  if (line < ${count}) {
    ${read}
  }
  return four;
}`;
    })
    .join("\n");

/** `value`, a number or four, with the epilogue: + bias, relu, + residual; `at` and `col` are its places in c and in a row, in numbers or fours. */
const finished = ({ bias, relu, residual }: Product, zero: string): string =>
  [
    bias && "value += bias[col];",
    relu && `value = select(value, ${zero}, value < ${zero});`, // which leaves NaN as it is
    residual && "value += residual[at];",
  ]
    .filter(Boolean)
    .join(" ");

/** store(begin, row, col0, sum): four sums of a row of c, which begins at `begin`, into `target`: from column `col0`, `step` columns apart; with the epilogue, or as they are. */
export const store = (product: Product | null, target: string, whole: boolean, step: number): string => {
  const put = (zero: string) => `${product ? finished(product, zero) : ""} ${target}[at] = value;`;
  const body = whole
    ? /* wgsl */ `
  if (col0 >= p.n) { return; }
  let col = col0 / 4u;
  let at = (begin + row * p.n + col0) / 4u;
  var value = sum;
  ${put("vec4f()")}`
    : /* wgsl */ `
  for (var j = 0u; j < 4u; j++) {
    let col = col0 + j * ${step}u;
    if (col < p.n) {
      let at = begin + row * p.n + col;
      var value = sum[j];
      ${put("0.0")}
    }
  }`;
  return /* wgsl */ `
fn store(begin: u32, row: u32, col0: u32, sum: vec4f) {
  if (row >= p.m) { return; }${body}
}`;
};

/** Buffers of c's shape that are seen as vectors, where its rows are whole ones. */
export const wholeRows = ({ bias, residual }: Product, target: string): string[] => [
  target,
  ...(bias ? ["bias"] : []),
  ...(residual ? ["residual"] : []),
];

/** The workgroup's place: its tile of c, its product of the batch, its part of k. Ends the workgroups beyond the last. */
export const place = ({ m, n }: Pick<Tile, "m" | "n">, part = 0): string => /* wgsl */ `
  let across = (p.n + ${n - 1}u) / ${n}u;
  let down = (p.m + ${m - 1}u) / ${m}u;
  let group = groupOf(wid);
  let slice = group / (across * down); // of c, as they lie one after the other: products, for each part
  if (slice >= p.batch${part > 0 ? ` * ((p.k + ${part - 1}u) / ${part}u)` : ""}) { return; }
  let row0 = group / across % down * ${m}u;
  let col0 = group % across * ${n}u;
  let fromA = slice % p.batch * p.strideA; let fromB = slice % p.batch * p.strideB; let fromC = slice * p.m * p.n;`;

/** Working memory of a kernel whose parts of k are summed up afterwards. */
const partials = (part: number): Written["scratch"] => ({
  partial: { dtype: "f32", length: ({ m, n, k, batch }) => partsOf(part, k) * batch * m * n },
});

/** The second pass: c = the sum of its parts, with the epilogue. A lane makes one number, or four. */
const adding = (product: Product, part: number, whole: boolean, others: readonly string[]): Written["passes"][number] => {
  const [width, zero] = whole ? [4, "vec4f()"] : [1, "0.0"];
  return {
    uses: ["partial", ...others, "c"],
    vectors: whole ? ["partial", ...wholeRows(product, "c")] : [],
    groups: ({ m, n, batch }) => lanes((batch * m * n) / width),
    wgsl: each(
      /* wgsl */ `let at = i;
  let col = at % (p.n / ${width}u);
  var value = ${zero};
  for (var part = 0u; part < (p.k + ${part - 1}u) / ${part}u; part++) { value += partial[part * (p.batch * p.m * p.n / ${width}u) + at]; }
  ${finished(product, zero)}
  c[at] = value;`,
      `p.batch * p.m * p.n / ${width}u`,
    ),
  };
};

/** Lanes of a workgroup, and bytes of its memory. */
export function workgroupOf({ tile, packed, half }: Writing): { readonly lanes: number; readonly bytes: number } {
  const { m, n, depth, rows, columns } = tile;
  const pitch = (side: number) => (packed ? side + 4 : side + 1);
  return { lanes: (m / rows) * (n / columns), bytes: depth * (pitch(m) + pitch(n)) * (half ? 2 : 4) };
}

/** The passes of a product, and their scratch. */
export function tiled(product: Product, writing: Writing): Written {
  const { tile, vectors, packed, half, part } = writing;
  const { m, n, depth, rows, columns } = tile;
  const [across, down] = [n / columns, m / rows]; // lanes
  const all = across * down;
  const [quads, fours] = [columns / 4, rows / 4]; // a lane's vectors along a row, along a column
  /** From one step of k to the next: one more column keeps a column's numbers in different banks, of which most adapters have 32. */
  const pitch = (side: number) => (packed ? side / 4 + 1 : side + 1);
  const cell = packed ? (half ? "vec4<f16>" : "vec4f") : half ? "f16" : "f32";
  const into = (value: string, vector = packed) => (half ? `${vector ? "vec4<f16>" : "f16"}(${value})` : value);
  const outOf = (value: string, vector = packed) => (half ? `${vector ? "vec4f" : "f32"}(${value})` : value);

  /** Each lane in turn its share of `count` pieces of work, as many times as that takes. */
  const shared = (count: number, work: string) =>
    Array.from({ length: Math.ceil(count / all) }, (_, turn) => {
      const piece = turn === 0 ? "lane" : `lane + ${turn * all}u`;
      const rest = count - turn * all;
      return rest < all ? `if (lane < ${rest}u) { let piece = ${piece}; ${work} }` : `{ let piece = ${piece}; ${work} }`;
    }).join("\n    ");

  /** A slice of an operand into workgroup memory, step of k by step of k; `along`: do its lines run along k? `side` numbers at each step, of `first` and on. */
  const stage = (name: "A" | "B", along: boolean, side: number, first: string): string => {
    const at = `tile${name}`;
    const p = pitch(side);
    const from = `from${name}`;
    if (!along)
      return shared(
        (depth * side) / 4,
        `let i = piece % ${side / 4}u; let k = piece / ${side / 4}u;
      let four = fetch${name}(${from}, k0 + k, ${first} + i * 4u);
      ${packed ? `${at}[k * ${p}u + i] = ${into("four")};` : lines(4, (j) => `${at}[k * ${p}u + i * 4u + ${j}u] = ${into(`four[${j}]`)};`)}`,
      );
    if (!packed)
      return shared(
        (depth * side) / 4,
        `let i = piece / ${depth / 4}u; let k = piece % ${depth / 4}u * 4u;
      let four = fetch${name}(${from}, ${first} + i, k0 + k);
      ${lines(4, (j) => `${at}[(k + ${j}u) * ${p}u + i] = ${into(`four[${j}]`)};`)}`,
      );
    return shared(
      (depth * side) / 16, // four lines by four steps of k, turned round in registers
      `let i = piece / ${depth / 4}u; let k = piece % ${depth / 4}u * 4u;
      ${lines(4, (j) => `let line${j} = fetch${name}(${from}, ${first} + i * 4u + ${j}u, k0 + k);`)}
      ${lines(4, (j) => `${at}[(k + ${j}u) * ${p}u + i] = ${into(`vec4f(line0[${j}], line1[${j}], line2[${j}], line3[${j}])`)};`)}`,
    );
  };

  /** A lane's numbers of a slice at step k: those of a by row, those of b four by four. */
  const loadA = packed
    ? lines(fours, (i) => `let a${i} = ${outOf(`tileA[k * ${pitch(m)}u + id.y * ${fours}u + ${i}u]`)};`)
    : lines(rows, (i) => `let a${i} = ${outOf(`tileA[k * ${pitch(m)}u + id.y * ${rows}u + ${i}u]`)};`);
  const loadB = lines(quads, (q) =>
    packed
      ? `let b${q} = ${outOf(`tileB[k * ${pitch(n)}u + id.x + ${q * across}u]`)};`
      : `let b${q} = vec4f(${[0, 1, 2, 3].map((j) => outOf(`tileB[k * ${pitch(n)}u + id.x + ${(4 * q + j) * across}u]`)).join(", ")});`,
  );
  const ofRow = (i: number) => (packed ? `a${i >> 2}[${i & 3}]` : `a${i}`);
  const cells = (line: (i: number, q: number) => string) => lines(rows * quads, (at) => line(Math.floor(at / quads), at % quads));

  const direct = part === 0;
  const target = direct ? "c" : "partial";
  const whole = packed && vectors.c;
  const others = [...(product.bias ? ["bias"] : []), ...(product.residual ? ["residual"] : [])];
  const first: Written["passes"][number] = {
    uses: direct ? ["a", "b", ...others, "c"] : ["a", "b", "partial"],
    vectors: [...(vectors.a ? ["a"] : []), ...(vectors.b ? ["b"] : []), ...(whole ? (direct ? wholeRows(product, target) : [target]) : [])],
    directives: half ? ["enable f16;"] : [],
    groups: ({ m: rows, n: columns, k, batch }) => partsOf(part, k) * batch * Math.ceil(rows / m) * Math.ceil(columns / n),
    wgsl: /* wgsl */ `
var<workgroup> tileA: array<${cell}, ${depth * pitch(m)}>;
var<workgroup> tileB: array<${cell}, ${depth * pitch(n)}>;
${fetches(product, vectors)}
${store(direct ? product : null, target, whole, packed ? 1 : across)}

@compute @workgroup_size(${across}, ${down})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {${place(tile, part)}
  ${direct ? "let end = p.k;" : `let start = slice / p.batch * ${part}u; let end = min(p.k, start + ${part}u);`}
  ${cells((i, q) => `var sum${i}_${q} = vec4f();`)}
  for (var k0 = ${direct ? "0u" : "start"}; k0 < end; k0 += ${depth}u) {
    ${stage("A", !product.ta, m, "row0")}
    ${stage("B", product.tb, n, "col0")}
    workgroupBarrier();
    for (var k = 0u; k < ${depth}u; k++) {
    ${loadA}
    ${loadB}
    ${cells((i, q) => `sum${i}_${q} += ${ofRow(i)} * b${q};`)}
    }
    workgroupBarrier();
  }
  // one store for all, in a loop that no compiler writes out: sixteen in a row take a software adapter's as many seconds
  let row = row0 + id.y * ${rows}u;
  let rows = select(0u, min(${rows}u, p.m - row), row < p.m);
  for (var i = 0u; i < rows * ${quads}u; i++) {
    var sum = sum0_0;
    switch (i) {
    ${cells((i, q) => `case ${i * quads + q}u: { sum = sum${i}_${q}; }`)}
    default: {}
    }
    store(fromC, row + i / ${quads}u, col0 + i % ${quads}u * ${4 * across}u + id.x${packed ? " * 4u" : ""}, sum);
  }
}`,
  };
  return direct ? { passes: [first] } : { passes: [first, adding(product, part, vectors.c, others)], scratch: partials(part) };
}

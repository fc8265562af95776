/**
 * c = a b by matrix units (tensor cores): a subgroup of 32 lanes multiplies small matrices, held in its registers together, in one instruction.
 *
 * A workgroup makes a tile of c, each of its subgroups a region of that. Slices of both operands pass through workgroup memory, rounded to what the unit
 * multiplies, as they lie in memory: a unit reads rows or columns alike. While one slice is multiplied, the next is on its way into registers. Sums are f32.
 *
 * What is known to matter (NVIDIA, through Vulkan): fragments in variables of their own, not in arrays; lines of a slice 16 bytes longer than they are,
 * sums' 4 numbers; no other subgroup operation in the module. The language is Dawn's: `chromium_experimental_subgroup_matrix`, which is a draft yet.
 */

import type { MatrixUnit } from "../kernel.ts";
import { fetches, lines, type Product, place, store, type Tile, type Vectors, type Written, wholeRows } from "./tile.ts";

/** Lanes of a subgroup. */
const SUBGROUP = 32;

/** A tile of c, the depth of a slice, and how many subgroups share the tile: down and across. */
export interface Regions extends Pick<Tile, "m" | "n" | "depth"> {
  readonly down: number;
  readonly across: number;
}

/** Tiles of the matrix units by name. */
export const REGIONS = {
  "64x64": { m: 64, n: 64, depth: 16, down: 2, across: 2 },
  "64x128": { m: 64, n: 128, depth: 32, down: 2, across: 4 },
  "128x128": { m: 128, n: 128, depth: 32, down: 4, across: 2 },
} as const satisfies Record<string, Regions>;

/** A slice in workgroup memory: so many lines, so long, so far apart, and numbers in all: a unit may not read beyond its array's end. */
const slice = (along: boolean, side: number, depth: number, type: "f16" | "f32") => {
  const [count, length] = along ? [side, depth] : [depth, side];
  const pitch = length + (type === "f16" ? 8 : 4);
  return { count, length, pitch, size: count * pitch + length };
};

/** Where sums pass through on their way out: a fragment for each subgroup. */
const outlet = ({ m, n }: MatrixUnit, subgroups: number) => ({ pitch: n + 4, size: subgroups * m * (n + 4) });

/** What an adapter must have. */
export function needsOf({ ta, tb }: Product, unit: MatrixUnit, { m, n, depth, down, across }: Regions) {
  const bytes = unit.type === "f16" ? 2 : 4;
  return {
    features: [
      "chromium-experimental-subgroup-matrix",
      "subgroups",
      ...(unit.type === "f16" ? (["shader-f16", "subgroup-size-control"] as const) : []),
    ],
    lanes: down * across * SUBGROUP,
    bytes: bytes * (slice(!ta, m, depth, unit.type).size + slice(tb, n, depth, unit.type).size) + 4 * outlet(unit, down * across).size,
  };
}

/** The pass of a product. */
export function united(product: Product, unit: MatrixUnit, regions: Regions, vectors: Vectors): Written {
  const { m, n, depth, down, across } = regions;
  const { type } = unit;
  const lanes = down * across * SUBGROUP;
  const [rows, columns, steps] = [m / down / unit.m, n / across / unit.n, depth / unit.k]; // fragments of a region, and of a slice
  const a = slice(!product.ta, m, depth, type);
  const b = slice(product.tb, n, depth, type);
  const out = outlet(unit, down * across);
  const half = type === "f16";

  /** The share of a lane, in fours: what it fetches of a slice, and where it puts that. `k` is the step where the slice begins. */
  const turns = ({ count, length }: typeof a) => (count * length) / 4 / lanes;
  const where = ({ length }: typeof a, turn: number) => ({
    line: `(lane + ${turn * lanes}u) / ${length / 4}u`,
    at: `(lane + ${turn * lanes}u) % ${length / 4}u * 4u`,
  });
  const fetch = (name: "A" | "B", of: typeof a, along: boolean, side: string, k: string) =>
    lines(turns(of), (turn) => {
      const { line, at } = where(of, turn);
      const [first, then] = along ? [side, k] : [k, side];
      return `next${name}${turn} = fetch${name}(from${name}, ${first} + ${line}, ${then} + ${at});`;
    });
  const keep = (name: "A" | "B", of: typeof a) =>
    lines(turns(of), (turn) => {
      const { line, at } = where(of, turn);
      const numbers = lines(4, (j) => `tile${name}[to + ${j}u] = ${half ? `f16(next${name}${turn}[${j}])` : `next${name}${turn}[${j}]`};`);
      return `{ let to = ${line} * ${of.pitch}u + ${at}; ${numbers} }`;
    });

  /** A fragment of a slice: `first` is its row of a or column of b, `k` its step; its lines run along k, or across. */
  const load = (side: "left" | "right", of: typeof a, along: boolean, first: string, k: number) => {
    const [width, height] = side === "left" ? [unit.k, unit.m] : [unit.n, unit.k]; // a matrix of the language names its columns first
    const [name, at] = [side === "left" ? "tileA" : "tileB", along ? `(${first}) * ${of.pitch}u + ${k}u` : `${k * of.pitch}u + ${first}`];
    // a row of a fragment lies in one line where a's lines run along k, and where b's do not
    const major = (side === "left") === along ? "row_major" : "col_major";
    return `subgroupMatrixLoad<subgroup_matrix_${side}<${type}, ${width}, ${height}>, ${major}>(&${name}, ${at}, ${of.pitch}u)`;
  };
  const sum = `subgroup_matrix_result<f32, ${unit.n}, ${unit.m}>`;
  const cells = (line: (i: number, j: number) => string) => lines(rows * columns, (at) => line(Math.floor(at / columns), at % columns));
  const quads = unit.n / 4; // fours in a fragment's row

  return {
    passes: [
      {
        uses: ["a", "b", ...(product.bias ? ["bias"] : []), ...(product.residual ? ["residual"] : []), "c"],
        vectors: [...(vectors.a ? ["a"] : []), ...(vectors.b ? ["b"] : []), ...(vectors.c ? wholeRows(product, "c") : [])],
        directives: [
          ...(half ? ["enable f16;"] : []),
          "enable subgroups;",
          ...(half ? ["enable subgroup_size_control;"] : []),
          "enable chromium_experimental_subgroup_matrix;",
          "diagnostic(off, chromium.subgroup_matrix_uniformity);", // lane / 32 is the same in all a subgroup's lanes, but the compiler cannot know
        ],
        groups: ({ m: height, n: width, batch }) => batch * Math.ceil(height / m) * Math.ceil(width / n),
        wgsl: /* wgsl */ `
var<workgroup> tileA: array<${type}, ${a.size}>;
var<workgroup> tileB: array<${type}, ${b.size}>;
var<workgroup> sums: array<f32, ${out.size}>;
${fetches(product, vectors)}
${store(product, "c", vectors.c, 1)}

@compute @workgroup_size(${lanes})${half ? ` @subgroup_size(${SUBGROUP})` : ""}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {${place(regions)}
  let subgroup = lane / ${SUBGROUP}u;
  let own = lane % ${SUBGROUP}u;
  let row = subgroup / ${across}u * ${m / down}u; // the region's, in the tile
  let col = subgroup % ${across}u * ${n / across}u;
  ${cells((i, j) => `var sum${i}_${j} = ${sum}();`)}
  ${lines(turns(a), (turn) => `var nextA${turn} = vec4f();`)}
  ${lines(turns(b), (turn) => `var nextB${turn} = vec4f();`)}
  ${fetch("A", a, !product.ta, "row0", "0u")}
  ${fetch("B", b, product.tb, "col0", "0u")}
  for (var k0 = 0u; k0 < p.k; k0 += ${depth}u) {
    ${keep("A", a)}
    ${keep("B", b)}
    workgroupBarrier();
    ${fetch("A", a, !product.ta, "row0", `k0 + ${depth}u`)}
    ${fetch("B", b, product.tb, "col0", `k0 + ${depth}u`)}
    ${lines(
      steps,
      (step) => `{
    ${lines(rows, (i) => `let left${i} = ${load("left", a, !product.ta, `row + ${i * unit.m}u`, step * unit.k)};`)}
    ${lines(columns, (j) => `let right${j} = ${load("right", b, product.tb, `col + ${j * unit.n}u`, step * unit.k)};`)}
    ${cells((i, j) => `sum${i}_${j} = subgroupMatrixMultiplyAccumulate(left${i}, right${j}, sum${i}_${j});`)}
    }`,
    )}
    workgroupBarrier();
  }
  let drain = subgroup * ${unit.m * out.pitch}u;
  ${cells(
    (i, j) => `subgroupMatrixStore<row_major>(&sums, drain, sum${i}_${j}, ${out.pitch}u);
  workgroupBarrier();
  for (var four = own; four < ${unit.m * quads}u; four += ${SUBGROUP}u) {
    let down = four / ${quads}u; let right = four % ${quads}u * 4u;
    let at = drain + down * ${out.pitch}u + right;
    store(fromC, row0 + row + ${i * unit.m}u + down, col0 + col + ${j * unit.n}u + right, vec4f(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]));
  }
  workgroupBarrier();`,
  )}
}`,
      },
    ],
  };
}

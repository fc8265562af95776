/** c = a b, batched, either side read transposed, with an epilogue: + bias, relu, + residual. Several ways to write it for a GPU lie in `matmul/`. */

import { matmulScratch, PANEL } from "./cpu/scratch.ts";
import { type Alternative, type Kernel, kernel, type MatrixUnit, variants } from "./kernel.ts";
import { needsOf, REGIONS, type Regions, united } from "./matmul/matrix.ts";
import {
  PARAMS,
  type Product,
  partsOf,
  type Sizes,
  TILES,
  type Tile,
  tiled,
  type Vectors,
  type Written,
  workgroupOf,
} from "./matmul/tile.ts";

/** Can fours be read and written whole? */
const vectorsOf = ({ ta, tb }: Product, { m, n, k, strideA, strideB }: Sizes): Vectors => ({
  a: (ta ? m : k) % 4 === 0 && strideA % 4 === 0,
  b: (tb ? k : n) % 4 === 0 && strideB % 4 === 0,
  c: n % 4 === 0,
});

// ---- which way for which sizes ---------------------------------------------------------------

/** Workgroups that keep a large GPU busy: two for each of the 132 processors of an NVIDIA H100 or H200, nearly. */
const BUSY = 256;
/** How much more than small tiles a large one may compute, for nothing, beyond c's edges. */
const MOST_BEYOND = 1.5;
/** From where k is worth being cut into parts. */
const LONG = 1024;
/** Lengths of the parts that k may be cut into, and how many parts there may be at most: each costs a copy of c. */
const PARTS = [256, 1024, 4096] as const;
const MOST_PARTS = 64;
/** The most that those copies may take, numbers: 256 MB. */
const MOST_PARTIAL = 2 ** 26;

/** What matrix units are known to be offered: NVIDIA's tensor cores, Apple's simdgroup matrices. */
const UNITS: readonly (readonly [MatrixUnit, readonly (keyof typeof REGIONS)[]])[] = [
  [{ type: "f16", m: 16, n: 16, k: 16 }, ["64x128", "128x128"]],
  [{ type: "f32", m: 8, n: 8, k: 8 }, ["64x64"]],
];

const groupsOf = ({ m, n }: Pick<Tile, "m" | "n">, size: Sizes): number => size.batch * Math.ceil(size.m / m) * Math.ceil(size.n / n);

/** Names of register tiles, as `64x128`, `64x128 packed`, `64x64 parts of 256`: first the one that seems best for these sizes. */
function tileNames(size: Sizes): string[] {
  const names = Object.keys(TILES) as (keyof typeof TILES)[];
  const parted = PARTS.filter((part) => {
    const parts = partsOf(part, size.k);
    return parts > 1 && parts <= MOST_PARTS && parts * size.batch * size.m * size.n <= MOST_PARTIAL;
  });
  const all = [
    ...names.flatMap((name) => [name, `${name} packed`]),
    ...parted.flatMap((part) => [`64x64 parts of ${part}`, `128x128 packed parts of ${part}`]),
  ];
  // The largest tile that keeps all busy and does not reach far beyond c; where none does and k is long, the longest parts that keep all busy; else the
  // smallest tile.
  const area = (name: keyof typeof TILES) => groupsOf(TILES[name], size) * TILES[name].m * TILES[name].n;
  const large = (["64x128", "64x64"] as const).find(
    (name) => groupsOf(TILES[name], size) >= BUSY && area(name) <= MOST_BEYOND * area("32x32"),
  );
  const busy = parted.filter((part) => groupsOf(TILES["64x64"], size) * partsOf(part, size.k) >= BUSY).at(-1) ?? parted[0];
  const best = large ?? (size.k >= LONG && busy ? `64x64 parts of ${busy}` : "32x32");
  return [best, ...all.filter((name) => name !== best)];
}

/** What a name of `tileNames` stands for. */
function tileOf(name: string): { readonly tile: Tile; readonly packed: boolean; readonly part: number } {
  const [tile, ...words] = name.split(" ");
  return {
    tile: TILES[tile as keyof typeof TILES],
    packed: words.includes("packed"),
    part: words.includes("parts") ? Number(words.at(-1)) : 0,
  };
}

/** The ways to write a product of these sizes; `writing` makes each once. */
function alternativesFor(product: Product, size: Sizes, writing: (name: string, make: () => Written) => Kernel): Alternative[] {
  const vectors = vectorsOf(product, size);
  const seen = `${vectors.a ? "a" : ""}${vectors.b ? "b" : ""}${vectors.c ? "c" : ""}`;
  const registers = (name: string, half: boolean): Alternative => {
    const way = { ...tileOf(name), vectors, half };
    return {
      name: half ? `${name} f16` : name,
      kernel: writing(`${name}${half ? " f16" : ""} ${seen}`, () => tiled(product, way)),
      features: half ? ["shader-f16"] : [],
      ...workgroupOf(way),
      mixed: half,
      unproven: false,
    };
  };
  const matrices = (unit: MatrixUnit, name: keyof typeof REGIONS): Alternative => {
    const regions: Regions = REGIONS[name];
    const own = `${name} units of ${unit.m}x${unit.n}x${unit.k} ${unit.type}`;
    return {
      name: own,
      kernel: writing(`${own} ${seen}`, () => united(product, unit, regions, vectors)),
      ...needsOf(product, unit, regions),
      unit,
      mixed: unit.type === "f16",
      unproven: true,
    };
  };
  return [
    ...tileNames(size).map((name) => registers(name, false)),
    ...["64x128 packed", "128x128 packed"].map((name) => registers(name, true)),
    ...UNITS.flatMap(([unit, names]) => names.map((name) => matrices(unit, name))),
  ];
}

/** At most so much, and no other rest of 4: what was whole vectors stays such. */
const atMost = (size: number, most: number) => (size <= most ? size : most + (size % 4));

// ---- the kernel ------------------------------------------------------------------------------

/**
 * `ta`, `tb`: a is stored [k, m], b is stored [n, k]. `bias` [n], `residual` like c. Strides are what lies between batches: 0 repeats one.
 * Parameters: m, n, k, batch, strideA, strideB.
 */
export const matmul = variants("matmul", (ta: boolean, tb: boolean, bias: boolean, relu: boolean, residual: boolean) => {
  const product: Product = { ta, tb, bias, relu, residual };
  const made = new Map<string, Kernel>();
  const plain = kernel({
    name: `matmul ${ta ? "T" : "N"}${tb ? "T" : "N"}${bias ? " bias" : ""}${relu ? " relu" : ""}${residual ? " residual" : ""}`,
    inputs: { a: "f32", b: "f32", ...(bias && { bias: "f32" as const }), ...(residual && { residual: "f32" as const }) },
    outputs: { c: "f32" },
    params: PARAMS,
    // of any sizes, and plain: what the others are held against
    ...tiled(product, { tile: TILES["64x64"], vectors: { a: false, b: false, c: false }, packed: false, half: false, part: 0 }),
    alternatives: {
      sizes: ["m", "n", "k", "batch"],
      of: (size) =>
        alternativesFor(product, size, (name, make) => {
          const { alternatives: _, compiled: __, ...own } = plain as unknown as Kernel;
          const found = made.get(name) ?? { ...own, name: `${own.name} (${name.trim()})`, variant: undefined, ...make() };
          made.set(name, found);
          return found;
        }),
      lengths: ({ m, n, k, batch, strideA, strideB }) => ({
        ...{ a: strideA * (batch - 1) + m * k, b: strideB * (batch - 1) + k * n, c: batch * m * n },
        ...(bias && { bias: n }),
        ...(residual && { residual: batch * m * n }),
      }),
      small(size) {
        // k exceeds the longest parts but one, so that there are several to add up
        const [m, n, k] = [atMost(size.m, 132), atMost(size.n, 132), atMost(size.k, 2 * PARTS[1] + 8)];
        return { m, n, k, batch: Math.min(size.batch, 2), strideA: size.strideA && m * k, strideB: size.strideB && k * n };
      },
    },
    compiled: {
      name: "matmul",
      buffers: ["a", "b", bias ? "bias" : null, residual ? "residual" : null, "c"],
      scratch: matmulScratch,
      // a part packs all of the other side for itself, so parts are 64 rows or columns at least
      split: ({ m, n, k, batch }) =>
        batch > 1
          ? { pieces: batch, work: m * n * k }
          : n > m
            ? { pieces: Math.ceil(n / PANEL), work: PANEL * m * k, together: 64 / PANEL }
            : { pieces: m, work: n * k, together: 64 },
      constants: [Number(ta), Number(tb), Number(relu)],
    },
    loops(buffers, { m, n, k, batch, strideA, strideB }) {
      const {
        a,
        b,
        c,
        bias: offsets,
        residual: rest,
      } = buffers as typeof buffers & { bias?: typeof buffers.c; residual?: typeof buffers.c };
      for (let t = 0; t < batch; t++)
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let s = 0; s < k; s++)
              sum += a[t * strideA + (ta ? s * m + i : i * k + s)] * b[t * strideB + (tb ? j * k + s : s * n + j)];
            if (offsets) sum += offsets[j];
            if (relu && sum < 0) sum = 0;
            c[(t * m + i) * n + j] = rest ? sum + rest[(t * m + i) * n + j] : sum;
          }
    },
  });
  return plain;
});

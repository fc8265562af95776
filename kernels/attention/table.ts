/** What all ways of writing attention for a GPU share: the table of tiles, as WGSL reads it, and dropout's random bits in workgroup memory. */

import { threefryWgsl } from "../random.ts";

/** The most rows a tile may have. */
export const TILE = 32;
/** Numbers that a tile has in the table. */
export const FIELDS = 5;

/**
 * Dropout of probabilities. The draw for query i (a row of its stream) and key j of its cell, in head h, is quarter j % 4 of
 * threefry(folded, (i, h 2^16 + j / 4)): the same in forward and backward, and told apart for cells shorter than 2^18 places.
 */
export const dropout = { threshold: "u32", scale: "f32", site0: "u32", site1: "u32" } as const;

/** A stream's rows, and how many tiles a table of it has. */
export interface Stream {
  readonly rows: number;
  readonly count: number;
}

/** Rows of no cell at the end of a stream to measure with. */
const TAIL = 7;

/**
 * Tables to measure with, of two streams whose cells look at each other: as many cells as there are tiles for, of nearly equal length, and a tail of rows of
 * no cell, if that takes a tile that is to spare.
 */
export function tablesOf(queries: Stream, keys: Stream): { readonly tiles: Uint32Array; readonly keyTiles: Uint32Array } {
  const spare = Math.min(...[queries, keys].map(({ rows, count }) => count - Math.ceil(rows / TILE) - 1)); // each cell may waste a part of one
  const cells = Math.max(1, spare);
  const spansOf = ({ rows }: Stream) => {
    const live = spare < 1 ? rows : rows - Math.min(TAIL, rows >> 1);
    const edge = (cell: number) => Math.floor((live * cell) / cells);
    return Array.from({ length: cells }, (_, cell) => [edge(cell), edge(cell + 1)] as const);
  };
  const [mine, theirs] = [queries, keys].map(spansOf);
  const table = ({ rows, count }: Stream, spans: typeof mine, others: typeof mine) => {
    const tail = [spans[cells - 1][1], rows] as const;
    const tiles = [...spans, tail].flatMap(([from, to], cell) =>
      Array.from({ length: Math.ceil((to - from) / TILE) }, (_, i) => {
        const row = from + i * TILE;
        return [row, Math.min(row + TILE, to), ...(others[cell] ?? [0, 0]), from];
      }).flat(),
    );
    const padded = new Uint32Array(FIELDS * count);
    padded.set(tiles);
    return padded;
  };
  return { tiles: table(queries, mine, theirs), keyTiles: table(keys, theirs, mine) };
}

/** What a tile's rows are; the blocks that pass by are the others. */
export type Rows = "queries" | "keys";

/**
 * The entry point's beginning: the workgroup's tile and head. Rows row0 <= i < row1 look at start <= j < end. It ends the workgroups beyond the last, for
 * all lanes alike: barriers are safe.
 */
export const opened = (rows: Rows, dropped: boolean): string => {
  const [tiles, count] = rows === "queries" ? ["tiles", "count"] : ["keyTiles", "keyCount"];
  return /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = groupOf(wid);
  if (group >= p.${count} * p.heads) { return; }
  let tile = group / p.heads * ${FIELDS}u;
  let row0 = ${tiles}[tile]; let row1 = ${tiles}[tile + 1u]; let start = ${tiles}[tile + 2u]; let end = ${tiles}[tile + 3u];
  let origin = ${tiles}[tile + 4u];
  let head = group % p.heads;
  ${dropped ? "let folded = threefry(vec2u(key[0], key[1]), vec2u(p.site0, p.site1));" : ""}`;
};

/** Random bits in workgroup memory: how many pairs of words, how they are drawn, and the draw for row o of the block and a row of the tile. */
export interface Bits {
  length(block: number): number;
  readonly declared: string;
  readonly drawn: string;
  quarter(mine: string): string;
}

/** Those of a tile's rows. The WGSL around has BLOCK, LANES and ROWS; a block begins at `first`. */
export const bitsFor = (rows: Rows): Bits =>
  rows === "queries"
    ? {
        // [four keys][query]
        length: (block) => (block / 4) * TILE,
        declared: threefryWgsl,
        drawn: /* wgsl */ `
    for (var b = lane; b < BLOCK / 4u * ROWS; b += LANES) {
      bits[b] = threefry(folded, vec2u(row0 + b % ROWS, (head << 16u) | ((first - start) / 4u + b / ROWS)));
    }`,
        quarter: (mine) => `quarter(bits[o / 4u * ROWS + ${mine}], o % 4u)`,
      }
    : {
        // [query][four keys], one more where a tile starts amid four
        length: (block) => block * (TILE / 4 + 1),
        declared: `${threefryWgsl}\nconst FOURS = ROWS / 4u + 1u;`,
        drawn: /* wgsl */ `
    for (var b = lane; b < BLOCK * FOURS; b += LANES) {
      bits[b] = threefry(folded, vec2u(first + b / FOURS, (head << 16u) | ((row0 - origin) / 4u + b % FOURS)));
    }`,
        quarter: (mine) =>
          `quarter(bits[o * FOURS + (row0 + ${mine} - origin) / 4u - (row0 - origin) / 4u], (row0 + ${mine} - origin) % 4u)`,
      };

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

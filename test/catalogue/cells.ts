/** Streams of cells for rows that need them. */

import { mostTiles, segments } from "../../src/stream.ts";
import type { Random } from "./row.ts";

/** Cells of random lengths, some empty, and now and then a tail of rows that belong to none: at most six cells, or just `count`. */
export function cells(random: Random, rows: number, count: number | null = null) {
  const lengths: number[] = [];
  let left = rows - (random.below(2) ? random.below(rows + 1) : 0);
  const longest = 1 + random.below(rows);
  while (count === null ? left > 0 && lengths.length < 6 : lengths.length < count) {
    const length = Math.min(left, random.below(longest + 1));
    lengths.push(length);
    left -= length;
  }
  return { lengths, capacity: lengths.length + 1 + random.below(2), rows };
}
export type Cells = ReturnType<typeof cells>;
export const segmentsOf = ({ lengths, capacity, rows }: Cells) =>
  segments(lengths, { rows, cells: capacity, tiles: mostTiles(rows, capacity) });

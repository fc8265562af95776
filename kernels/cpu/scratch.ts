/** Working memory of the compiled kernels, in bytes: the numbers that `assembly/` lays its scratch out by. */

/** Blocks of the compiled matrix product, as in `assembly/matmul.ts`: so deep, so many rows of A, so many columns of B. */
const DEPTH = 256;
const ROWS = 128;
const COLUMNS = 1024;
/** Columns of a panel: a row of C in registers, four vectors of four. */
const PANEL = 16;

/** A block of B and a block of A, packed, and a strip of C for the panel at the edge: 1.2 MB, whatever the product. */
export const matmulScratch = (): number => 4 * (COLUMNS * DEPTH + ROWS * DEPTH + ROWS * PANEL);

/** Rows of a query tile, and keys of a block, of the compiled attention, as in `assembly/attention.ts`. */
const TILE = 32;
const KEYS = 128;

const panels = (width: number) => Math.ceil(width / PANEL) * PANEL;

/** The values of a segment in panels; of a tile: queries, scores, results, and two numbers a row; random bits of a vector of rows. */
export const attentionScratch = (tokens: number, width: number): number =>
  4 * (tokens * panels(width) + TILE * (width + KEYS + panels(width) + 2) + 12);

/** Keys of a segment and the gradients of keys and values in panels; of a tile: q and dy both ways round, scores, their gradient, dq. */
export const attentionGradScratch = (tokens: number, width: number): number =>
  4 * (3 * tokens * panels(width) + TILE * (2 * width + 3 * panels(width) + 2 * KEYS + 2) + 12);

/** The f64 sums of columns, up to the end of a vector, as in `assembly/row.ts`. */
export const columnScratch = (columns: number): number => 8 * 4 * Math.ceil(columns / 4);

/** The draws of dropout for 16 numbers, of 16 bits each. */
export const DRAWS = 32;

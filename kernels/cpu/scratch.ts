/** Working memory of the compiled kernels, in bytes: the numbers that `assembly/` lays its scratch out by. */

/** Blocks of the compiled matrix product, as in `assembly/matmul.ts`: so deep, so many rows of A, so many columns of B. */
const DEPTH = 256;
const ROWS = 128;
const COLUMNS = 1024;
/** Columns of a panel: a row of C in registers, four vectors of four. */
export const PANEL = 16;

/** Panels that columns fill, the last of them perhaps in part. */
export const panelsOf = (columns: number): number => Math.ceil(columns / PANEL);

/** A block of B and a block of A, packed, and a strip of C for the panel at the edge: 1.2 MB, whatever the product. */
export const matmulScratch = (): number => 4 * (COLUMNS * DEPTH + ROWS * DEPTH + ROWS * PANEL);

/** Rows of a query tile, and keys of a block, of the compiled attention, as in `assembly/attention.ts`. */
const TILE = 32;
const KEYS = 128;

const panels = (width: number) => panelsOf(width) * PANEL;

/** Bytes of the folded key and the draws of eight queries for a block. */
const BITS = 16 + 16 * KEYS;

/** The values of a segment in panels; of a tile: queries, scores, results, and two numbers a row; draws. */
export const attentionScratch = (tokens: number, width: number): number =>
  BITS + 4 * (tokens * panels(width) + TILE * (width + KEYS + panels(width) + 2));

/** Keys of a segment and the gradients of keys and values in panels; of a tile: q and dy both ways round, scores, their gradient, dq; draws; two factors. */
export const attentionGradScratch = (tokens: number, width: number): number =>
  BITS + 16 + 4 * (3 * tokens * panels(width) + TILE * (2 * width + 3 * panels(width) + 2 * KEYS + 2));

/** Parts that the segments of a stream are dealt out to, for each head, as in `assembly/attention.ts`. */
export const SHARES = 16;

/** The f64 sums of columns, up to the end of a vector, as in `assembly/row.ts`. */
export const columnScratch = (columns: number): number => 8 * 4 * Math.ceil(columns / 4);

/** Numbers of which the draws of dropout are made at once, as in `assembly/random.ts`, and the bytes of those, of 16 bits each. */
export const DRAWN = 32;
export const DRAWS = 2 * DRAWN;

/** The words of eight blocks, and the draws of a row, from the block it begins in to the end of eight, as in `assembly/addnorm.ts`. */
export const addNormScratch = (columns: number): number => DRAWS * (2 + Math.ceil((columns + 3) / DRAWN));

/** Parts that a sum of squares is made of, each an f64, as in `assembly/reduce.ts`. */
export const SQUARE_PARTS = 256;

/** Size and stride of five axes, as in `assembly/axes.ts`. */
export const AXES = 8 * 5;

/** Of operands that stretch: the axes of each and a block of its numbers, as in `assembly/elementwise.ts`. */
export const operandScratch = (operands: number): number => operands * (AXES + 4 * 1024);

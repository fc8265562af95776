/** Log-normalised counts: their means in groups of cells, and how genes go together. */

/** Counts, a row per cell: row i has data[indptr[i] ... indptr[i + 1]] in the columns that `indices` holds there. */
export interface Counts {
  readonly data: ArrayLike<number>;
  readonly indices: ArrayLike<number>;
  readonly indptr: ArrayLike<number>;
}

/** The usual scale: counts per so many in a cell. */
const SCALE = 10_000;

/** Each cell's entries as (gene, ln(1 + counts per 10,000)). */
function* logged({ data, indices, indptr }: Counts, cell: number): Generator<readonly [gene: number, value: number]> {
  let total = 0;
  for (let k = indptr[cell]; k < indptr[cell + 1]; k++) total += data[k];
  for (let k = indptr[cell]; k < indptr[cell + 1]; k++) yield [indices[k], Math.log1p((SCALE * data[k]) / total)];
}

/** Mean ln(1 + counts per 10,000) of every gene over some cells.   -> [genes] */
export function meanExpression(counts: Counts, genes: number, cells: readonly number[]): Float64Array {
  const sums = new Float64Array(genes);
  for (const cell of cells) for (const [gene, value] of logged(counts, cell)) sums[gene] += value;
  return sums.map((sum) => sum / cells.length);
}

/** Pearson's correlation of some genes with every gene over all cells; NaN for a gene that does not vary.   -> [genes] for each of `which` */
export function correlations(counts: Counts, genes: number, which: readonly number[]): Map<number, Float64Array> {
  const cells = counts.indptr.length - 1;
  const rows = Array.from({ length: genes }, () => new Float64Array(cells));
  for (let cell = 0; cell < cells; cell++) for (const [gene, value] of logged(counts, cell)) rows[gene][cell] = value;
  for (const row of rows) {
    const mean = row.reduce((a, b) => a + b, 0) / cells;
    for (let i = 0; i < cells; i++) row[i] -= mean;
    const norm = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
    for (let i = 0; i < cells; i++) row[i] /= norm;
  }
  const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  return new Map(which.map((gene) => [gene, Float64Array.from(rows, (row) => dot(rows[gene], row))]));
}

/** The directions in which rows differ most: principal components. */

import { Key } from "../../src/key.ts";
import { finite } from "./figure.ts";

/** What `principalComponents` found. */
export interface Components {
  /** For each row, its place along each component. */
  readonly coordinates: number[][];
  /** The share of the variance that each component holds. */
  readonly explained: number[];
}

/**
 * The directions in which rows differ most, by orthogonal iteration (Golub and Van Loan, "Matrix Computations", 8.2.4) on the covariance.
 * Deterministic; each direction points where its largest weight is positive.
 *
 * @param rows [n, C], n >= 2.
 * @throws RangeError for rows of unequal length, numbers that are not finite, or more components than C or n - 1.
 */
export function principalComponents(rows: readonly (Float32Array | readonly number[])[], count = 2): Components {
  const [n, width] = [rows.length, rows[0]?.length ?? 0];
  if (!(Number.isInteger(count) && count >= 1 && count <= Math.min(n - 1, width))) {
    throw new RangeError(
      `principalComponents: ${count} components of ${n} rows of ${width}; ask for 1 to ${Math.max(0, Math.min(n - 1, width))}`,
    );
  }
  for (const [i, row] of rows.entries()) {
    if (row.length !== width)
      throw new RangeError(`principalComponents: row ${i} has ${row.length} numbers, row 0 has ${width}; rows must agree`);
    finite("principalComponents", `row ${i}`, ...row);
  }
  const mean = new Float64Array(width);
  for (const row of rows) for (let j = 0; j < width; j++) mean[j] += row[j] / n;
  const centred = rows.map((row) => Float64Array.from(row, (value, j) => value - mean[j]));
  const covariance = Array.from({ length: width }, () => new Float64Array(width));
  for (const row of centred) for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) covariance[i][j] += row[i] * row[j];
  const total = covariance.reduce((trace, row, i) => trace + row[i], 0);

  // A few more directions than asked for make the first ones settle sooner.
  const size = Math.min(count + 4, n - 1, width);
  let basis = orthonormal(Array.from({ length: size }, (_, k) => Key.from(k).normals(width)));
  for (let round = 0, moved = 1; round < 1000 && moved > 1e-12; round++) {
    const before = basis;
    basis = orthonormal(before.map((direction) => Float64Array.from(covariance, (row) => dot(row, direction))));
    moved = Math.max(...basis.slice(0, count).map((direction, k) => 1 - Math.abs(dot(direction, before[k]))));
  }
  const directions = basis.slice(0, count).map((direction) => {
    const largest = direction.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    return largest < 0 ? direction.map((value) => -value) : direction;
  });
  const coordinates = centred.map((row) => directions.map((direction) => dot(row, direction)));
  const explained = directions.map((_, k) => (total === 0 ? 0 : coordinates.reduce((sum, row) => sum + row[k] ** 2, 0) / total));
  return { coordinates, explained };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Gram and Schmidt, twice over for accuracy (Giraud et al. 2005); a direction that the others hold already becomes 0. */
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const basis: Float64Array[] = [];
  for (const vector of vectors) {
    const rest = vector.slice();
    const length = Math.sqrt(dot(rest, rest));
    for (const other of [...basis, ...basis]) {
      const along = dot(rest, other);
      for (let j = 0; j < rest.length; j++) rest[j] -= along * other[j];
    }
    const left = Math.sqrt(dot(rest, rest));
    basis.push(left > 1e-12 * length ? rest.map((value) => value / left) : rest.fill(0));
  }
  return basis;
}

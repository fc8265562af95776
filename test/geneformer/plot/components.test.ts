/** Principal components are the axes along which rows differ. */

import { describe, expect, test } from "vitest";
import { principalComponents } from "../../../geneformer/plot.ts";
import { Key } from "../../../src/key.ts";

describe("principalComponents", () => {
  test("finds the axes of a stretched cloud, and what share of the variance they hold", () => {
    const z = [0, 1, 2].map((k) => Key.from(k).normals(400));
    // Standard deviations 9, 4 and 1 along three orthogonal directions, off the origin.
    const axes = [
      [2 / 3, 2 / 3, 1 / 3],
      [-2 / 3, 1 / 3, 2 / 3],
      [1 / 3, -2 / 3, 2 / 3],
    ];
    const rows = Array.from({ length: 400 }, (_, i) =>
      [0, 1, 2].map((j) => 50 + 9 * z[0][i] * axes[0][j] + 4 * z[1][i] * axes[1][j] + z[2][i] * axes[2][j]),
    );
    const { coordinates, explained } = principalComponents(rows);
    expect(explained[0]).toBeCloseTo(81 / 98, 1);
    expect(explained[1]).toBeCloseTo(16 / 98, 1);
    const mean = (k: number) => coordinates.reduce((sum, row) => sum + row[k], 0) / 400;
    expect(mean(0)).toBeCloseTo(0, 9);
    expect(coordinates.reduce((sum, [a, b]) => sum + a * b, 0) / 400).toBeCloseTo(0, 4); // uncorrelated
    const along = coordinates.map(([a], i) => a * z[0][i]).reduce((a, b) => a + b, 0) / 400;
    expect(along).toBeGreaterThan(8); // the first is the long axis, its largest weight positive
  });

  test("holds all the variance with all components, and distances with them", () => {
    const rows = Array.from({ length: 12 }, (_, i) => Float32Array.from(Key.from(i).normals(5)));
    const { coordinates, explained } = principalComponents(rows, 5);
    expect(explained.reduce((a, b) => a + b)).toBeCloseTo(1, 10);
    const distance = (a: ArrayLike<number>, b: ArrayLike<number>) => Math.hypot(...Array.from(a, (value, j) => value - b[j]));
    expect(distance(coordinates[0], coordinates[7])).toBeCloseTo(distance(rows[0], rows[7]), 6);
    expect([...explained]).toEqual([...explained].sort((a, b) => b - a));
  });

  test("of rows that are all the same is 0", () => {
    const { coordinates, explained } = principalComponents([[1, 2], [1, 2], [1, 2]]); // biome-ignore format: one line
    expect(coordinates.flat().every((value) => value === 0)).toBe(true);
    expect(explained).toEqual([0, 0]);
  });

  test("refuses what has no components", () => {
    expect(() => principalComponents([])).toThrow(/0 rows/);
    expect(() => principalComponents([[1, 2]])).toThrow(/2 components of 1 rows of 2/);
    expect(() => principalComponents([[1, 2], [1, 2, 3], [1, 2]])).toThrow(/row 1 has 3 numbers, row 0 has 2/); // biome-ignore format: one line
    expect(() => principalComponents([[1, 2], [1, Number.NaN], [1, 2]])).toThrow(/row 1 is not finite/); // biome-ignore format: one line
  });
});

/** Plots are whole SVG files that show what they are given. */

import { parseHTML } from "linkedom";
import { describe, expect, test } from "vitest";
import { lossPlot, type Point, principalComponents, scatterPlot } from "../../geneformer/plot.ts";
import { Key } from "../../src/key.ts";

const parse = (svg: string) => parseHTML(`<html><body>${svg}</body></html>`).document;
const texts = (svg: string) => [...parse(svg).querySelectorAll("text")].map((element) => element.textContent);

/** What a file that stands alone may not have: scripts, style sheets, references. */
function expectWhole(svg: string): void {
  expect(svg.startsWith("<svg ")).toBe(true);
  expect(svg).toContain('xmlns="http://www.w3.org/2000/svg"');
  expect(svg).not.toMatch(/<script|<style|href|url\(|NaN|undefined/);
  expect(parse(svg).querySelector("rect")?.getAttribute("fill")).toBe("white");
}

describe("lossPlot", () => {
  const points = Array.from({ length: 100 }, (_, i) => ({
    step: i + 1,
    loss: 7 - i / 50,
    kind: i % 20 === 19 ? ("held-out" as const) : ("train" as const),
  }));

  test("has a dot for every loss, axes with units, a legend, and marks with their values", async () => {
    const svg = await lossPlot(points, [{ label: "unigram entropy", value: 6.034 }]);
    expectWhole(svg);
    const seen = texts(svg);
    for (const text of ["step", "masked cross-entropy (nats)", "training", "held-out cells", "unigram entropy: 6.03"])
      expect(seen).toContain(text);
    expect(parse(svg).querySelectorAll('[aria-label="dot"] circle')).toHaveLength(100);
    expect(parse(svg).querySelectorAll('[aria-label="line"] path')).toHaveLength(2);
  });

  test("is higher on the page for a higher loss", async () => {
    const svg = await lossPlot(points.slice(0, 2));
    const [first, second] = [...parse(svg).querySelectorAll('[aria-label="dot"] circle')].map((dot) => Number(dot.getAttribute("cy")));
    expect(first).toBeLessThan(second);
  });

  test("does with one point, and names only the kinds that are there", async () => {
    const svg = await lossPlot([{ step: 0, loss: 1, kind: "train" }]);
    expectWhole(svg);
    expect(texts(svg)).not.toContain("held-out cells");
  });

  test("refuses what cannot be drawn", async () => {
    await expect(lossPlot([])).rejects.toThrow(/lossPlot: there are no points/);
    await expect(lossPlot([{ step: 3, loss: Number.NaN, kind: "train" }])).rejects.toThrow(/the loss at step 3 is not finite/);
    await expect(lossPlot(points, [{ label: "x", value: Number.POSITIVE_INFINITY }])).rejects.toThrow(/the mark "x"/);
  });
});

describe("scatterPlot", () => {
  const points: Point[] = Array.from({ length: 60 }, (_, i) => ({ x: i, y: i % 7, label: ["B cell", "T cell", ""][i % 3] }));

  test("colours by label, counts in the legend, and says what cannot be told apart from markup", async () => {
    const svg = await scatterPlot(points, { title: "Cells <of> 2 & more", subtitle: "60 cells", axes: ["one", "two"] });
    expectWhole(svg);
    const seen = texts(svg);
    for (const text of ["Cells <of> 2 & more", "60 cells", "one", "two", "B cell (20)", "T cell (20)", "without label (20)"])
      expect(seen).toContain(text);
    const dots = [...parse(svg).querySelectorAll('[aria-label="dot"] circle')];
    expect(dots).toHaveLength(60);
    const fills = new Map<string | null, number>();
    for (const dot of dots) fills.set(dot.getAttribute("fill"), (fills.get(dot.getAttribute("fill")) ?? 0) + 1);
    expect([...fills.values()]).toEqual([20, 20, 20]);
    expect(dots[0].getAttribute("fill")).toBe("#c8c8c8"); // grey lies below
  });

  test("gives each of 18 types its own colour", async () => {
    const many = Array.from({ length: 18 }, (_, i) => ({ x: i, y: i, label: `type ${i}` }));
    const svg = await scatterPlot(many, { title: "many" });
    const fills = [...parse(svg).querySelectorAll('[aria-label="dot"] circle')].map((dot) => dot.getAttribute("fill"));
    expect(new Set(fills).size).toBe(18);
    expect(texts(svg).filter((text) => text?.startsWith("type "))).toEqual(many.map(({ label }) => `${label} (1)`));
  });

  test("draws in the page's own document where there is one", async () => {
    const { document } = parseHTML("<html></html>");
    const made: string[] = [];
    const create = document.createElementNS.bind(document);
    document.createElementNS = ((space: string, name: string) => {
      made.push(name);
      return create(space, name);
    }) as typeof document.createElementNS;
    (globalThis as { document?: unknown }).document = document;
    try {
      await scatterPlot(points, { title: "page" });
    } finally {
      delete (globalThis as { document?: unknown }).document;
    }
    expect(made.filter((name) => name === "circle").length).toBeGreaterThanOrEqual(60);
  });

  test("refuses what cannot be drawn", async () => {
    await expect(scatterPlot([], { title: "" })).rejects.toThrow(/scatterPlot: there are no points/);
    await expect(scatterPlot([{ x: 0, y: Number.NaN, label: "a" }], { title: "" })).rejects.toThrow(/point 0 is not finite/);
  });
});

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

/** The scatter plot is a whole SVG file that shows what it is given. */

import { parseHTML } from "linkedom";
import { describe, expect, test } from "vitest";
import { type Point, scatterPlot } from "../../../geneformer/plot.ts";
import { expectWhole, parse, texts } from "./svg.ts";

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

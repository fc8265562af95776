/** Ranked shifts: the highest and the lowest genes in order, with their intervals and cells. */

import { describe, expect, test } from "vitest";
import { type ShiftGene, shiftPlot } from "../../../geneformer/plot.ts";
import { expectWhole, marks, texts } from "./svg.ts";

const gene = (name: string, shift: number, low: number | null = shift - 0.1, high: number | null = shift + 0.1, cells = 12): ShiftGene => ({
  ...{ name, shift, low, high, cells },
});
const fills = (svg: string) => marks(svg, "dot", "circle").map((dot) => dot.getAttribute("fill"));
const number = (element: Element, name: string) => Number(element.getAttribute(name));

describe("shiftPlot", () => {
  test("ranks, and colours by where the interval lies", async () => {
    const svg = await shiftPlot([gene("MID", 0.05), gene("LOW", -1), gene("HIGH", 2, 1, 3, 1234), gene("SINGLE", 1, null, null, 1)], {
      title: "Ranked",
    });
    expectWhole(svg);
    const seen = texts(svg);
    expect(seen.filter((text) => ["MID", "LOW", "HIGH", "SINGLE"].includes(text ?? ""))).toEqual(["HIGH", "SINGLE", "MID", "LOW"]);
    expect(seen.filter((text) => text?.startsWith("n = "))).toEqual(["n = 1,234", "n = 1", "n = 12", "n = 12"]);
    expect(fills(svg)).toEqual(["#0072b2", "#c8c8c8", "#8a8a8a", "#d55e00"]);
    for (const text of ["interval above 0", "interval below 0", "interval across 0", "no interval"]) expect(seen).toContain(text);
    const ys = marks(svg, "dot", "circle").map((dot) => number(dot, "cy"));
    expect(ys).toEqual([...ys].sort((a, b) => a - b));
  });

  test("draws intervals from low to high, around the dot, and none where an end is missing", async () => {
    const svg = await shiftPlot([gene("A", 1, 0.5, 3), gene("B", 0, -1, 1), gene("C", 0.2, null, 1), gene("D", 0.1, -1, null)], {
      title: "",
    });
    const lines = marks(svg, "rule", "line").filter((line) => line.getAttribute("y1") === line.getAttribute("y2"));
    const [a, b] = lines.map((line) => [number(line, "x1"), number(line, "x2")]);
    expect(lines).toHaveLength(2);
    const x = marks(svg, "dot", "circle").map((dot) => number(dot, "cx"));
    expect((x[0] - a[0]) / (a[1] - a[0])).toBeCloseTo(0.2, 6);
    expect((a[1] - a[0]) / (b[1] - b[0])).toBeCloseTo(1.25, 6);
  });

  test("shows top at either end, and says how many are between", async () => {
    const many = Array.from({ length: 50 }, (_, i) => gene(`G${i}`, i));
    const seen = texts(await shiftPlot(many, { title: "", top: 3 }));
    expect(seen.filter((text) => /^G\d/.test(text ?? ""))).toEqual(["G49", "G48", "G47", "G2", "G1", "G0"]);
    expect(seen).toContain("44 more between");
    const whole = texts(await shiftPlot(many.slice(0, 6), { title: "", top: 3 }));
    expect(whole.filter((text) => /^G\d/.test(text ?? ""))).toHaveLength(6);
    expect(whole.join()).not.toContain("more between");
  });

  test("has room for long names, and escapes them", async () => {
    const svg = await shiftPlot([gene("<&>", 1), gene("W".repeat(300), 2), gene("", 3)], { title: "" });
    expectWhole(svg);
    for (const text of ["<&>", `${"W".repeat(23)}…`, "(no name)"]) expect(texts(svg)).toContain(text);
    // The frame begins right of the longest label: 23 W of 0.944 em.
    const zero = marks(svg, "rule", "line").find((line) => line.getAttribute("x1") === line.getAttribute("x2")) as Element;
    expect(number(zero, "x1")).toBeGreaterThan(23 * 0.944 * 12);
    expectWhole(await shiftPlot([gene("A", 0, null, null)], { title: "" }));
  });

  test("refuses what cannot be drawn", async () => {
    await expect(shiftPlot([], { title: "" })).rejects.toThrow("shiftPlot: there are no genes");
    await expect(shiftPlot([gene("A", Number.NaN)], { title: "" })).rejects.toThrow('the shift of gene 0 ("A") is not finite');
    await expect(shiftPlot([gene("A", 1, Number.NEGATIVE_INFINITY)], { title: "" })).rejects.toThrow("the interval of gene 0");
    await expect(shiftPlot([gene("A", 1, 2, 1)], { title: "" })).rejects.toThrow(/from 2 to 1; give the lower end first/);
    await expect(shiftPlot([gene("A", 1)], { title: "", top: 0 })).rejects.toThrow(/top is 0/);
  });
});

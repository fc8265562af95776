/** The plane of two states: genes where their shifts say, the most extreme named. */

import { describe, expect, test } from "vitest";
import { type StateGene, statePlot } from "../../../geneformer/plot.ts";
import { Key } from "../../../src/key.ts";
import { expectWhole, marks, parse, texts } from "./svg.ts";

const axes = ["shift to monocyte", "shift to B cell"] as const;
const dots = (svg: string) =>
  marks(svg, "dot", "circle")
    .filter((dot) => dot.getAttribute("fill") !== null)
    .map((dot) => ({ x: Number(dot.getAttribute("cx")), y: Number(dot.getAttribute("cy")), fill: dot.getAttribute("fill") }));

describe("statePlot", () => {
  test("has both axes named, rules at 0, dots to the right and above for shifts to the states", async () => {
    const genes: StateGene[] = [{ name: "A", x: 1, y: 1 }, { name: "B", x: -1, y: 1 }, { name: "C", x: 1, y: -1 }]; // biome-ignore format: one line
    const svg = await statePlot(genes, { title: "States", axes });
    expectWhole(svg);
    for (const text of ["States", ...axes, "A", "B", "C"]) expect(texts(svg)).toContain(text);
    const [a, b, c] = dots(svg);
    expect([a.x > b.x, a.x === c.x, a.y === b.y, a.y < c.y]).toEqual([true, true, true, true]);
    const rules = marks(svg, "rule", "line");
    expect(rules.some((rule) => Math.abs(Number(rule.getAttribute("x1")) - (a.x + b.x) / 2) < 0.51)).toBe(true);
    expect(rules.some((rule) => Math.abs(Number(rule.getAttribute("y1")) - (a.y + c.y) / 2) < 0.51)).toBe(true);
    expect(texts(svg).join()).not.toContain("significant");
  });

  test("colours by significance when it is given", async () => {
    const genes = Array.from({ length: 9 }, (_, i) => ({ name: `G${i}`, x: i, y: -i, significant: i > 6 }));
    const svg = await statePlot(genes, { title: "" });
    for (const text of ["significant (2)", "not significant (7)"]) expect(texts(svg)).toContain(text);
    expect(dots(svg).map(({ fill }) => fill)).toEqual([...Array(7).fill("#c8c8c8"), "#0072b2", "#0072b2"]);
  });

  test("names the extreme in the cloud's own measure: off a common line as well as at its ends", async () => {
    const [z, w] = [Key.from(1).normals(200), Key.from(2).normals(200)];
    const cloud = Array.from({ length: 200 }, (_, i) => ({ name: `G${i}`, x: z[i], y: z[i] + 0.05 * w[i] }));
    const off = { name: "OFF", x: 0.4, y: -0.4 }; // nearer to 0 than many, but far off the line
    const seen = texts(await statePlot([...cloud, off], { title: "", top: 1 }));
    expect(seen).toContain("OFF");
    const lines = parse(await statePlot([...cloud, off], { title: "", top: 4 })).querySelectorAll('[aria-label="link"]');
    expect(lines.length).toBeGreaterThan(0);
  });

  test("draws what is odd and right: one gene, all at 0, all on a line, a name like markup", async () => {
    for (const genes of [
      [{ name: "<&>", x: 1e-9, y: 0 }],
      [{ name: "A", x: 0, y: 0 }, { name: "B", x: 0, y: 0 }], // biome-ignore format: one line
      [{ name: "A", x: 1, y: 2 }, { name: "B", x: 2, y: 4 }], // biome-ignore format: one line
    ]) {
      const svg = await statePlot(genes, { title: "" });
      expectWhole(svg);
      expect(texts(svg)).toContain(genes[0].name);
    }
  });

  test("refuses what cannot be drawn", async () => {
    await expect(statePlot([], { title: "" })).rejects.toThrow("statePlot: there are no genes");
    await expect(statePlot([{ name: "A", x: 0, y: Number.POSITIVE_INFINITY }], { title: "" })).rejects.toThrow(
      'statePlot: a shift of gene 0 ("A") is not finite',
    );
  });
});

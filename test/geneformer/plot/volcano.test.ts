/** A volcano shows each gene at its effect and -log10 p, calls those below the threshold, and says what has no logarithm. */

import { describe, expect, test } from "vitest";
import { type VolcanoGene, volcanoPlot } from "../../../geneformer/plot.ts";
import { expectWhole, marks, texts } from "./svg.ts";

const [BLUE, VERMILION, GREY] = ["#0072b2", "#d55e00", "#c8c8c8"];
const genes: VolcanoGene[] = [
  { name: "UP1", effect: 0.5, p: 1e-4 },
  { name: "UP2", effect: 0.25, p: 0.01 },
  { name: "DOWN1", effect: -0.5, p: 1e-3 },
  { name: "NONE", effect: 0.1, p: 0.5 },
  { name: "EDGE", effect: 0.2, p: 0.05 },
];
const dots = (svg: string) =>
  marks(svg, "dot", "circle")
    .filter((dot) => dot.getAttribute("fill") !== "none" && dot.getAttribute("fill") !== null)
    .map((dot) => ({ x: Number(dot.getAttribute("cx")), y: Number(dot.getAttribute("cy")), fill: dot.getAttribute("fill") }));

describe("volcanoPlot", () => {
  test("has a dot for every gene, coloured by side below the threshold, counted in the legend", async () => {
    const svg = await volcanoPlot(genes, { title: "Shifts", subtitle: "5 genes" });
    expectWhole(svg);
    const seen = texts(svg);
    for (const text of ["Shifts", "5 genes", "0.05", "toward the goal (2)", "away from it (1)", "not significant (2)"])
      expect(seen).toContain(text);
    for (const { name } of genes) expect(seen).toContain(name);
    expect(dots(svg).map(({ fill }) => fill).sort()).toEqual([BLUE, BLUE, GREY, GREY, VERMILION]); // biome-ignore format: one line
  });

  test("is where its numbers say: linear in the effect and in -log10 p", async () => {
    const svg = await volcanoPlot(genes, { title: "" });
    const [up1, up2] = dots(svg).filter(({ fill }) => fill === BLUE).sort((a, b) => b.x - a.x); // biome-ignore format: one line
    const [down1] = dots(svg).filter(({ fill }) => fill === VERMILION);
    expect((up1.x - up2.x) / (up1.x - down1.x)).toBeCloseTo(0.25, 6);
    expect((up2.y - up1.y) / (up2.y - down1.y)).toBeCloseTo(2, 6); // 4 - 2 beside 3 - 2
    expect(up1.y).toBeLessThan(up2.y);
  });

  test("labels the strongest only: those called first, then by effect times -log10 p", async () => {
    const seen = texts(await volcanoPlot(genes, { title: "", top: 2 }));
    expect(seen).toContain("UP1");
    expect(seen).toContain("DOWN1");
    for (const name of ["UP2", "NONE", "EDGE"]) expect(seen).not.toContain(name);
    const weak = [...genes, { name: "FAR", effect: 90, p: 0.06 }];
    expect(texts(await volcanoPlot(weak, { title: "", top: 3 }))).not.toContain("FAR");
  });

  test("caps p = 0 above all others, as triangles, and says so", async () => {
    const svg = await volcanoPlot([...genes, { name: "SURE", effect: 0.3, p: 0 }], { title: "", subtitle: "six" });
    expectWhole(svg);
    expect(texts(svg)).toContain("six; 1 with p = 0 as triangles at the top");
    expect(texts(svg)).toContain("toward the goal (3)");
    const [triangle, ...more] = marks(svg, "dot", "path");
    expect(more).toHaveLength(0);
    const [, y] = /translate\(([^)]*)\)/.exec(triangle.getAttribute("transform") ?? "")![1].split(",").map(Number); // biome-ignore format: one line
    for (const dot of dots(svg)) expect(y).toBeLessThan(dot.y);
    expect(texts(await volcanoPlot(genes, { title: "" })).join()).not.toContain("p = 0");
  });

  test("draws what is odd and right: one gene, the smallest p, names that look like markup or are none, ten thousand", async () => {
    expectWhole(await volcanoPlot([{ name: "A", effect: 0, p: 1 }], { title: "" }));
    expectWhole(await volcanoPlot([{ name: "A", effect: 0, p: 0 }], { title: "", threshold: 1 }));
    expectWhole(await volcanoPlot([{ name: "A", effect: 1e-300, p: Number.MIN_VALUE }], { title: "" }));
    const odd = ["<b>&", "", "   ", "x".repeat(500), 'quo"te', "nul\0l"].map((name, i) => ({ name, effect: i - 2, p: 10 ** -i }));
    const svg = await volcanoPlot(odd, { title: "<&>" });
    expectWhole(svg);
    const seen = texts(svg);
    for (const text of ["<&>", "<b>&", "(no name)", `${"x".repeat(23)}…`, 'quo"te', "nul\ufffdl"]) expect(seen).toContain(text);
    const many = Array.from({ length: 10_000 }, (_, i) => ({ name: `G${i}`, effect: Math.sin(i), p: (i + 1) / 10_001 }));
    const crowd = await volcanoPlot(many, { title: "", top: 3 });
    expect(dots(crowd)).toHaveLength(10_000);
    expect(crowd.length).toBeLessThan(1_000_000);
  });

  test("refuses what cannot be drawn", async () => {
    const one = (gene: Partial<VolcanoGene>) => volcanoPlot([genes[0], { ...genes[1], ...gene }], { title: "" });
    await expect(volcanoPlot([], { title: "" })).rejects.toThrow("volcanoPlot: there are no genes; give at least one");
    await expect(one({ effect: Number.NaN })).rejects.toThrow('volcanoPlot: the effect of gene 1 ("UP2") is not finite');
    await expect(one({ effect: Number.NEGATIVE_INFINITY })).rejects.toThrow(/is not finite; plot real numbers/);
    for (const p of [-1e-9, 1.01, Number.NaN])
      await expect(one({ p })).rejects.toThrow(`volcanoPlot: p of gene 1 ("UP2") is ${p}; give one from 0 to 1`);
    await expect(volcanoPlot(genes, { title: "", threshold: 0 })).rejects.toThrow(/the threshold is 0/);
    await expect(volcanoPlot([{ name: "A", effect: 1e308, p: 1 }, { name: "B", effect: -1e308, p: 1 }], { title: "" })).rejects.toThrow(/the way from -1e\+308 to 1e\+308 is not finite/); // biome-ignore format: one line
  });
});

/** The network shows the strongest effects, each as a curve with a head, and is the same whatever the order of the edges. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NetworkEdge, networkPlot } from "../../../geneformer/plot.ts";
import { expectWhole, marks, texts } from "./svg.ts";

const edges: NetworkEdge[] = [
  { from: "P1", to: "A", strength: 1 },
  { from: "P1", to: "B", strength: 0.5 },
  { from: "P2", to: "B", strength: 0.25 },
  { from: "P2", to: "P1", strength: 0.75 },
  { from: "P3", to: "C", strength: 0.01 },
];
const curves = (svg: string) => marks(svg, "link", "path");

describe("networkPlot", () => {
  test("has a node for each gene on each side, a curve and a head for each effect", async () => {
    const svg = await networkPlot(edges, { title: "Network" });
    expectWhole(svg);
    const names = texts(svg).filter((text) => /^([A-C]|P\d)$/.test(text ?? ""));
    expect([...names].sort()).toEqual(["A", "B", "C", "P1", "P1", "P2", "P3"]);
    for (const text of ["perturbed", "affected", "all effects, from 1 (wide) to 0.01"]) expect(texts(svg)).toContain(text);
    expect(curves(svg)).toHaveLength(5);
    expect(marks(svg, "dot", "path")).toHaveLength(5);
  });

  test("is wider and darker for stronger effects", async () => {
    const svg = await networkPlot(edges, { title: "" });
    const widths = curves(svg).map((curve) => Number(curve.getAttribute("stroke-width")));
    const opacities = curves(svg).map((curve) => Number(curve.getAttribute("stroke-opacity")));
    expect(widths).toEqual([...widths].sort((a, b) => a - b)); // the strongest comes last, over the others
    expect(widths.at(-1)! / widths[0]).toBeGreaterThan(5);
    expect(opacities).toEqual([...opacities].sort((a, b) => a - b));
  });

  test("affected genes are grey, unless they were perturbed too", async () => {
    const fills = marks(await networkPlot(edges, { title: "" }), "dot", "circle").map((dot) => dot.getAttribute("fill"));
    expect(fills.filter((fill) => fill === "#8a8a8a")).toHaveLength(3);
    const [first] = fills;
    expect(fills.filter((fill) => fill === first)).toHaveLength(2); // P1 at the left and at the right
  });

  test("shows the strongest only, and says how many there are", async () => {
    const svg = await networkPlot(edges, { title: "", subtitle: "of a run", top: 2 });
    expect(texts(svg)).toContain("of a run; the 2 strongest of 5 effects, from 1 (wide) to 0.75");
    expect(curves(svg)).toHaveLength(2);
    expect(texts(svg)).not.toContain("C");
  });

  test("is the same picture whatever the order of the edges", () =>
    fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(edges, { minLength: edges.length }), async (shuffled) => {
        expect(await networkPlot(shuffled, { title: "" })).toBe(await networkPlot(edges, { title: "" }));
      }),
      { numRuns: 10 },
    ));

  test("draws what is odd and right: one edge of strength 0, a gene on itself, names like markup, long ones that begin alike", async () => {
    expectWhole(await networkPlot([{ from: "A", to: "A", strength: 0 }], { title: "" }));
    const long = "x".repeat(40);
    const svg = await networkPlot([{ from: "<&>", to: `${long}1`, strength: 1 }, { from: "<&>", to: `${long}2`, strength: 1 }], { title: "" }); // biome-ignore format: one line
    expectWhole(svg);
    expect(texts(svg)).toContain("<&>");
    expect(texts(svg).filter((text) => text?.startsWith("xxx"))).toHaveLength(2);
  });

  test("refuses what cannot be drawn", async () => {
    const one = (edge: Partial<NetworkEdge>) => networkPlot([{ from: "A", to: "B", strength: 1, ...edge }], { title: "" });
    await expect(networkPlot([], { title: "" })).rejects.toThrow("networkPlot: there are no edges");
    await expect(one({ strength: Number.NaN })).rejects.toThrow('the strength of the edge from "A" to "B" is not finite');
    await expect(one({ strength: -1 })).rejects.toThrow("is -1; give one of at least 0");
    await expect(networkPlot([edges[0], edges[1], edges[0]], { title: "" })).rejects.toThrow('the edge from "P1" to "A" is given twice');
    await expect(networkPlot(edges, { title: "", top: 1.5 })).rejects.toThrow(/top is 1.5/);
  });
});

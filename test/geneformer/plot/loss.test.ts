/** The plot of losses shows what it is given. */

import { describe, expect, test } from "vitest";
import { lossPlot } from "../../../geneformer/plot.ts";
import { expectWhole, parse, texts } from "./svg.ts";

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

/** A volcano plot: how far genes move cells, and how surely. */

import type { PlotOptions } from "@observablehq/plot";
import { axis, BLUE, compose, count, counted, finite, GREY, INK, short, type Titles, VERMILION, widthOf } from "./figure.ts";
import { LABEL_SIZE, labelMarks, placeLabels } from "./labels.ts";

/** A gene, what it does and how likely that is by chance. */
export interface VolcanoGene {
  name: string;
  /** A mean shift, or another effect that is above or below 0. */
  effect: number;
  /** A false discovery rate or a p value, 0 to 1. */
  p: number;
}

export interface VolcanoTitles extends Titles {
  /** A gene is called where its p is below this. Default 0.05. */
  threshold?: number;
  /** How many genes bear labels. Default 15. */
  top?: number;
  /** What effects above and below 0 are. Default "toward the goal" and "away from it". */
  sides?: readonly [above: string, below: string];
}

/**
 * Effects along x and -log10 p along y, genes below the threshold coloured by the sign of their effect, the strongest labelled: first those called, then by
 * |effect| times -log10 p (Xiao et al. 2014, "A novel significance score for gene selection and ranking"). A p of 0 has no logarithm: it stands at the top, and
 * the subtitle says so. Labels without room near their dots are left out.
 *
 * @throws RangeError without genes, or for an effect that is not finite or a p outside 0 to 1.
 */
export async function volcanoPlot(genes: readonly VolcanoGene[], titles: VolcanoTitles): Promise<string> {
  const { threshold = 0.05, top = 15, sides = ["toward the goal", "away from it"] } = titles;
  if (genes.length === 0) throw new RangeError("volcanoPlot: there are no genes; give at least one");
  if (!(threshold > 0 && threshold <= 1)) throw new RangeError(`volcanoPlot: the threshold is ${threshold}; give one above 0 and up to 1`);
  for (const [i, { name, effect, p }] of genes.entries()) {
    finite("volcanoPlot", `the effect of gene ${i} ("${short(name)}")`, effect);
    if (!(p >= 0 && p <= 1)) throw new RangeError(`volcanoPlot: p of gene ${i} ("${short(name)}") is ${p}; give one from 0 to 1`);
  }
  const Plot = await import("@observablehq/plot");
  const height = (p: number) => 0 - Math.log10(p); // not -0 at 1
  let highest = height(threshold);
  for (const { p } of genes) if (p > 0) highest = Math.max(highest, height(p));
  const ceiling = 1.08 * highest || 1; // above all that has a logarithm
  const [width, tall, marginLeft, marginRight, marginTop, marginBottom] = [640, 460, 56, 24, 24, 44];
  const frame = { left: marginLeft, right: width - marginRight, top: marginTop, bottom: tall - marginBottom };
  const effects = genes.map(({ effect }) => effect);
  const x = axis("volcanoPlot", [...effects, 0], frame.left, frame.right);
  const y = axis("volcanoPlot", [0, ceiling], frame.bottom, frame.top, [0.02, 0.02]);
  const dots = genes.map(({ name, effect, p }) => {
    const called = p < threshold;
    const value = p > 0 ? height(p) : ceiling;
    const score = Math.abs(effect) * value;
    return { name, effect, value, p, called, score, colour: called && effect !== 0 ? (effect > 0 ? BLUE : VERMILION) : GREY };
  });
  const rule = `${threshold}`;
  const ruled = y.at(height(threshold));
  const places = dots.map(({ effect, value }) => ({ x: x.at(effect), y: y.at(value) }));
  const labels = placeLabels(
    [...dots.keys()]
      .sort((a, b) => Number(dots[b].called) - Number(dots[a].called) || dots[b].score - dots[a].score)
      .slice(0, top)
      .map((i) => ({ text: short(dots[i].name), dot: places[i] })),
    places,
    frame,
    [
      { left: frame.left, right: frame.right, top: ruled - 1, bottom: ruled + 1 },
      { left: frame.right - widthOf(rule, 12) - 4, right: frame.right, top: ruled - LABEL_SIZE - 5, bottom: ruled },
    ],
  );
  const place = { x: "effect", y: "value" } as const;
  const r = Math.min(3.5, Math.max(1.5, 90 / Math.sqrt(genes.length)));
  const [across, up] = titles.axes ?? ["shift to the goal", "−log10 of the false discovery rate"];
  const plot: PlotOptions = {
    ...{ width, height: tall, marginLeft, marginRight, marginTop, marginBottom },
    x: { ...x.scale, label: across, labelAnchor: "center", labelArrow: "none", grid: true },
    y: { ...y.scale, label: up, labelArrow: "none", grid: true },
    marks: [
      Plot.ruleX([0], { stroke: "#999999" }),
      Plot.ruleY([height(threshold)], { stroke: INK, strokeDasharray: "5 3" }),
      Plot.text([rule], { y: () => height(threshold), ...{ frameAnchor: "right", dy: -7, textAnchor: "end", stroke: "white", fill: INK } }),
      Plot.dot(
        dots.filter(({ p }) => p > 0).sort((a, b) => Number(a.called) - Number(b.called)), // grey lies below
        { ...place, r, fill: "colour", fillOpacity: 0.8 },
      ),
      Plot.dot(
        dots.filter(({ p }) => p === 0),
        { ...place, r: r + 2, symbol: "triangle", fill: "colour", fillOpacity: 0.8 },
      ),
      ...labelMarks(Plot, labels, r),
    ],
  };
  const legend = counted([[sides[0], BLUE], [sides[1], VERMILION], ["not significant", GREY]], dots); // biome-ignore format: one line
  const capped = dots.filter(({ p }) => p === 0).length;
  const said = capped === 0 ? [] : [`${count(capped)} with p = 0 as triangles at the top`];
  return compose(Plot.plot, plot, { ...titles, subtitle: [...(titles.subtitle ? [titles.subtitle] : []), ...said].join("; ") }, legend);
}

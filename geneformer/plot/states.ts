/** Perturbed genes in the plane of two state directions. */

import type { PlotOptions } from "@observablehq/plot";
import { axis, BLUE, compose, counted, finite, GREY, PALE, short, type Titles } from "./figure.ts";
import { labelMarks, placeLabels } from "./labels.ts";

/** A gene, and how far perturbing it shifts cells to each of two states. */
export interface StateGene {
  name: string;
  /** Mean shift to the first state. */
  x: number;
  /** Mean shift to the second. */
  y: number;
  /** Whether either shift is called. Without, nothing is said of it. */
  significant?: boolean;
}

export interface StateTitles extends Titles {
  /** How many genes bear labels, and lines from the origin. Default 15. */
  top?: number;
}

/**
 * Genes as dots at their mean shifts to one state and to another, rules through 0, a dashed line where both are the same, lines from the origin to the most
 * extreme, with their names. Labels without room near their dots are left out.
 *
 * @throws RangeError without genes, or for a shift that is not finite.
 */
export async function statePlot(genes: readonly StateGene[], titles: StateTitles): Promise<string> {
  const { top = 15 } = titles;
  if (genes.length === 0) throw new RangeError("statePlot: there are no genes; give at least one");
  for (const [i, { name, x, y }] of genes.entries()) finite("statePlot", `a shift of gene ${i} ("${short(name)}")`, x, y);
  const Plot = await import("@observablehq/plot");
  const [width, height, marginLeft, marginRight, marginTop, marginBottom] = [612, 560, 76, 24, 24, 44];
  const frame = { left: marginLeft, right: width - marginRight, top: marginTop, bottom: height - marginBottom };
  const x = axis("statePlot", [...genes.map((gene) => gene.x), 0], frame.left, frame.right);
  const y = axis("statePlot", [...genes.map((gene) => gene.y), 0], frame.bottom, frame.top);
  const known = genes.some(({ significant }) => significant !== undefined);
  const dots = genes.map((gene) => ({ ...gene, colour: !known || gene.significant ? BLUE : GREY }));
  const far = extremity(genes);
  const extreme = [...genes.keys()].sort((a, b) => far[b] - far[a]).slice(0, top);
  const places = genes.map((gene) => ({ x: x.at(gene.x), y: y.at(gene.y) }));
  const labels = placeLabels(
    extreme.map((i) => ({ text: short(genes[i].name), dot: places[i] })),
    places,
    frame,
  );
  // Where both shifts are the same, as far as the frame goes; 0 is in both domains, so there is such a piece.
  const [from, to] = [Math.max(x.scale.domain[0], y.scale.domain[0]), Math.min(x.scale.domain[1], y.scale.domain[1])];
  const [across, up] = titles.axes ?? ["shift to the first state", "shift to the second state"];
  const plain = { labelAnchor: "center", labelArrow: "none", grid: true } as const;
  const r = Math.min(4, Math.max(1.5, 90 / Math.sqrt(genes.length)));
  const plot: PlotOptions = {
    ...{ width, height, marginLeft, marginRight, marginTop, marginBottom },
    x: { ...x.scale, label: across, ...plain },
    y: { ...y.scale, label: up, ...plain },
    marks: [
      Plot.frame({ stroke: "#999999" }),
      Plot.ruleX([0], { stroke: "#666666" }),
      Plot.ruleY([0], { stroke: "#666666" }),
      Plot.link([null], { x1: () => from, y1: () => from, x2: () => to, y2: () => to, stroke: PALE, strokeDasharray: "5 3" }),
      Plot.link(
        extreme.map((i) => genes[i]),
        { x1: () => 0, y1: () => 0, x2: "x", y2: "y", stroke: PALE, strokeOpacity: 0.4 },
      ),
      Plot.dot(
        [...dots].sort((a, b) => Number(a.colour === BLUE) - Number(b.colour === BLUE)), // grey lies below
        { x: "x", y: "y", fill: "colour", fillOpacity: 0.8, r },
      ),
      ...labelMarks(Plot, labels, r),
    ],
  };
  const legend = known ? counted([["significant", BLUE], ["not significant", GREY]], dots) : []; // biome-ignore format: one line
  return compose(Plot.plot, plot, titles, legend);
}

/**
 * How far genes are from the origin, squared, in units of the spread of all of them in that direction (Mahalanobis 1936): shifts to two states often go
 * together, and then a gene off their common line is as extreme as one at its end.
 */
function extremity(genes: readonly StateGene[]): number[] {
  let [xx, xy, yy] = [0, 0, 0];
  for (const { x, y } of genes) [xx, xy, yy] = [xx + x * x, xy + x * y, yy + y * y];
  const least = 1e-6 * (xx + yy) || 1; // where all lie on a line, or at 0
  [xx, yy] = [xx + least, yy + least];
  return genes.map(({ x, y }) => (yy * x * x - 2 * xy * x * y + xx * y * y) / (xx * yy - xy * xy));
}

/** Dots with ticked axes, as the numbers here have units: one figure against another. */

import type { PlotOptions } from "@observablehq/plot";
import { COLOURS, compose, GREY, INK, type Titles } from "../../geneformer/plot/figure.ts";

export interface Dot {
  readonly x: number;
  readonly y: number;
  /** Its class; those of the class named "" are drawn grey, and below. */
  readonly label: string;
}

/** @param rest what dots without a label are called.   @param scales of the axes: logarithmic ones take what is above 0 alone. */
export async function dots(
  points: readonly Dot[],
  titles: Titles,
  rest: string,
  scales: { readonly x?: "log"; readonly y?: "log" } = {},
): Promise<string> {
  const Plot = await import("@observablehq/plot");
  const seen = points.filter(({ x, y }) => (!scales.x || x > 0) && (!scales.y || y > 0));
  const labels = [...new Set(seen.map(({ label }) => label))].sort((a, b) => Number(a === "") - Number(b === "") || (a < b ? -1 : 1));
  const colour = (label: string) => (label === "" ? GREY : COLOURS[labels.indexOf(label)]);
  const axis = (label: string | undefined, type: "log" | undefined): PlotOptions["x"] => ({
    ...{ label, labelAnchor: "center", labelArrow: "none", grid: true, nice: true },
    ...(type && { type, tickFormat: "~e", ticks: 5 }),
  });
  const plot: PlotOptions = {
    ...{ width: 640, height: 500, marginLeft: 88, marginBottom: 44 },
    x: axis(titles.axes?.[0], scales.x),
    y: { ...axis(titles.axes?.[1], scales.y), labelAnchor: "center" },
    marks: [
      Plot.frame({ stroke: "#999999" }),
      ...(scales.y ? [] : [Plot.ruleY([0], { stroke: INK, strokeOpacity: 0.4 })]),
      Plot.dot(
        [...seen].sort((a, b) => Number(a.label !== "") - Number(b.label !== "")),
        { x: "x", y: "y", fill: ({ label }: Dot) => colour(label), fillOpacity: 0.75, r: seen.length > 1000 ? 1.5 : 3 },
      ),
    ],
  };
  const count = (label: string) => seen.filter((point) => point.label === label).length.toLocaleString("en-US");
  return compose(
    Plot.plot,
    plot,
    titles,
    labels.map((label) => [`${label || rest} (${count(label)})`, colour(label)] as const),
  );
}

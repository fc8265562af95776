/** Cells in a plane, coloured by label. */

import type { PlotOptions } from "@observablehq/plot";
import { COLOURS, compose, finite, GREY, type Titles } from "./figure.ts";

/** A cell in the plane; an empty label is drawn grey. */
export interface Point {
  x: number;
  y: number;
  label: string;
}

/**
 * Cells in a plane, coloured by label, with a legend that counts them.
 *
 * @throws RangeError without points, or for a coordinate that is not finite.
 */
export async function scatterPlot(points: readonly Point[], titles: Titles): Promise<string> {
  if (points.length === 0) throw new RangeError("scatterPlot: there are no points; give at least one cell");
  for (const [i, { x, y }] of points.entries()) finite("scatterPlot", `point ${i}`, x, y);
  const Plot = await import("@observablehq/plot");
  const counts = new Map<string, number>();
  for (const { label } of points) counts.set(label, (counts.get(label) ?? 0) + 1);
  const labels = [...counts.keys()].filter((label) => label !== "").sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const colours = new Map(labels.map((label, i) => [label, COLOURS[i % COLOURS.length]]));
  const colour = ({ label }: { label: string }) => colours.get(label) ?? GREY;
  const [x, y] = titles.axes ?? ["component 1", "component 2"];
  const bare = { ticks: [], labelAnchor: "center", labelArrow: "none" } as const; // the units of an embedding mean nothing
  const plot: PlotOptions = {
    width: 560,
    height: 520,
    marginLeft: 36,
    marginBottom: 30,
    x: { label: x, ...bare, inset: 12 },
    y: { label: y, ...bare, inset: 12 },
    marks: [
      Plot.frame({ stroke: "#999999" }),
      Plot.dot(
        [...points].sort((a, b) => Number(a.label !== "") - Number(b.label !== "")),
        {
          ...{ x: "x", y: "y", fill: colour, fillOpacity: 0.8 },
          // Dots cover about a tenth of the frame however many there are, within what the eye can bear.
          r: Math.min(3.5, Math.max(1, 90 / Math.sqrt(points.length))),
        },
      ),
    ],
  };
  const legend = [...labels, ...(counts.has("") ? [""] : [])].map((label) => {
    return [`${label || "without label"} (${counts.get(label)!.toLocaleString("en-US")})`, colour({ label })] as const;
  });
  return compose(Plot.plot, plot, titles, legend);
}

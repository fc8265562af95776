/** A picture of times against lengths, drawn by Observable Plot as SVG. */

import type { PlotOptions } from "@observablehq/plot";

/** Colours that colour-blind readers can tell apart (Okabe and Ito 2008); ours is the first. */
const COLOURS = ["#d55e00", "#0072b2", "#56b4e9", "#009e73", "#b3a100", "#cc79a7"];

/**
 * Milliseconds over tokens, both axes logarithmic, a line for each contender named at its end.
 * @param times by contender: [tokens, ms].
 */
export async function curve(
  times: ReadonlyMap<string, readonly (readonly [length: number, ms: number])[]>,
  subtitle: string,
): Promise<string> {
  const Plot = await import("@observablehq/plot");
  const { parseHTML } = await import("linkedom");
  const document = parseHTML("<html></html>").document as unknown as Document;
  const names = [...times.keys()];
  const points = [...times].flatMap(([name, list]) => list.map(([length, ms]) => ({ name, length, ms })));
  const place = { x: "length", y: "ms" } as const;
  const options: PlotOptions = {
    ...{ document, width: 860, height: 480, marginTop: 70, marginLeft: 56, marginBottom: 44, marginRight: 230 },
    x: {
      type: "log",
      base: 2,
      label: "tokens of one cell",
      labelAnchor: "center",
      labelArrow: "none",
      ticks: [...new Set(points.map((p) => p.length))],
      tickFormat: "d",
    },
    y: { type: "log", label: null, grid: true, tickFormat: "~s" },
    color: { domain: names, range: names.map((_, i) => COLOURS[i % COLOURS.length]) },
    marks: [
      Plot.line(points, { ...place, stroke: "name", strokeWidth: 2 }),
      Plot.dot(points, { ...place, fill: "name", r: 3 }),
      Plot.text(spread(points, names), { ...place, text: "name", fill: "name", dx: 8, textAnchor: "start", fontSize: 12 }),
      Plot.text(["Encoder forward of V1-10M, ms, against tokens; 2 threads"], {
        frameAnchor: "top-left",
        dy: -58,
        dx: -40,
        fontSize: 17,
        fontWeight: "bold",
      }),
      Plot.text([subtitle], { frameAnchor: "top-left", dy: -34, dx: -40, fontSize: 12, fill: "#555555" }),
    ],
  };
  const picture = Plot.plot(options);
  picture.querySelector("style")?.remove(); // made for pages, and some SVG readers stumble over it
  picture.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  picture.setAttribute("style", "background: white; font-family: Helvetica, Arial, sans-serif");
  return `${picture.outerHTML}\n`;
}

interface Point {
  readonly name: string;
  readonly length: number;
  readonly ms: number;
}

/** Where names stand: at the ends of the lines, the lower ones pushed down where two would overlap. */
function spread(points: readonly Point[], names: readonly string[]): Point[] {
  const STEP = 1.22; // a line of text on the logarithmic axis
  const ends = names.map((name) => points.filter((point) => point.name === name).at(-1) as Point).sort((a, b) => b.ms - a.ms);
  let above = Number.POSITIVE_INFINITY;
  return ends.map((end) => {
    above = Math.min(end.ms, above / STEP);
    return { ...end, ms: above };
  });
}

/** Genes ranked by how far they shift cells, with intervals. */

import type { PlotOptions } from "@observablehq/plot";
import { axis, BLUE, compose, count, finite, GREY, INK, PALE, short, type Titles, VERMILION, widthOf } from "./figure.ts";

/** A gene, and how far it shifts cells. */
export interface ShiftGene {
  name: string;
  /** Mean over the cells. */
  shift: number;
  /** The ends of its interval, such as 2.5 % and 97.5 %; null where there is none, as of a single cell: with either missing no interval is drawn. */
  low: number | null;
  high: number | null;
  /** Cells behind it. */
  cells: number;
}

export interface ShiftTitles extends Titles {
  /** How many genes are shown of those that shift most, and of those that shift least. Default 15. */
  top?: number;
}

/** From one gene to the next, px. */
const ROW = 20;
/** Of intervals that hold 0. */
const UNSURE = "#8a8a8a";

/**
 * The genes with the highest and with the lowest shifts, highest first: a dot at the mean, a line from low to high, the number of cells at the right. Genes
 * whose interval lies above 0 are blue, below 0 vermilion; grey where it holds 0, light grey without one.
 *
 * @throws RangeError without genes; for a number that is not finite; for an interval with its ends the wrong way round.
 */
export async function shiftPlot(genes: readonly ShiftGene[], titles: ShiftTitles): Promise<string> {
  const { top = 15 } = titles;
  if (genes.length === 0) throw new RangeError("shiftPlot: there are no genes; give at least one");
  if (!(Number.isInteger(top) && top >= 1)) throw new RangeError(`shiftPlot: top is ${top}; give a whole number of at least 1`);
  for (const [i, { name, shift, low, high, cells }] of genes.entries()) {
    const called = `gene ${i} ("${short(name)}")`;
    finite("shiftPlot", `the shift of ${called}`, shift);
    finite("shiftPlot", `the interval of ${called}`, low ?? 0, high ?? 0);
    finite("shiftPlot", `the number of cells of ${called}`, cells);
    if (low !== null && high !== null && low > high)
      throw new RangeError(`shiftPlot: the interval of ${called} is from ${low} to ${high}; give the lower end first`);
  }
  const Plot = await import("@observablehq/plot");
  const ranked = [...genes].sort((a, b) => b.shift - a.shift);
  const between = Math.max(0, ranked.length - 2 * top);
  const shown = between > 0 ? [...ranked.slice(0, top), ...ranked.slice(-top)] : ranked;
  const [marginTop, marginBottom] = [12, 44];
  const gap = between > 0 ? 1 : 0; // a row that says how many are not shown
  const rows = shown.map((gene, i) => ({
    ...gene,
    label: short(gene.name),
    number: `n = ${count(gene.cells)}`,
    y: marginTop + ROW * (i + (i < top ? 0 : gap) + 0.5),
    colour: gene.low === null || gene.high === null ? GREY : gene.low > 0 ? BLUE : gene.high < 0 ? VERMILION : UNSURE,
  }));
  const widest = (texts: readonly string[]) => texts.reduce((most, text) => Math.max(most, widthOf(text, 12)), 0);
  const marginLeft = Math.ceil(24 + widest(rows.map(({ label }) => label)));
  const marginRight = Math.ceil(24 + widest(rows.map(({ number }) => number)));
  const width = marginLeft + 440 + marginRight;
  const ends = rows.flatMap(({ shift, low, high }) => [shift, low ?? shift, high ?? shift]);
  const x = axis("shiftPlot", [...ends, 0], marginLeft, width - marginRight);
  const y = { value: "y", scale: null };
  const more = [`${count(between)} more between`];
  const plot: PlotOptions = {
    ...{ width, height: marginTop + ROW * (rows.length + gap) + marginBottom, marginLeft, marginRight, marginTop, marginBottom },
    x: { ...x.scale, label: titles.axes?.[0] ?? "shift to the goal", labelAnchor: "center", labelArrow: "none", grid: true },
    marks: [
      Plot.ruleX([0], { stroke: INK, strokeDasharray: "5 3" }),
      Plot.ruleY(
        rows.filter(({ low, high }) => low !== null && high !== null),
        { x1: "low", x2: "high", y, stroke: "colour", strokeWidth: 2 },
      ),
      Plot.dot(rows, { x: "shift", y, fill: "colour", r: 4 }),
      Plot.text(rows, { y, text: "label", frameAnchor: "left", textAnchor: "end", dx: -10 }),
      Plot.text(rows, { y, text: "number", frameAnchor: "right", textAnchor: "start", dx: 10, fill: PALE }),
      ...(between > 0
        ? [
            Plot.text(more, {
              text: (text: string) => text,
              y: { value: () => marginTop + ROW * (top + 0.5), scale: null },
              ...{ frameAnchor: "middle", fill: PALE, stroke: "white", strokeWidth: 5 },
            }),
          ]
        : []),
    ],
  };
  const kinds = [
    ["interval above 0", BLUE] as const,
    ["interval below 0", VERMILION] as const,
    ["interval across 0", UNSURE] as const,
    ["no interval", GREY] as const,
  ];
  const legend = kinds.filter(([, colour]) => rows.some((row) => row.colour === colour));
  return compose(Plot.plot, plot, titles, legend);
}

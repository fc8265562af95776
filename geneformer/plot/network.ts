/** Which genes each perturbation affects: perturbed ones at the left, affected ones at the right, the strongest effects between. */

import type { PlotOptions } from "@observablehq/plot";
import { COLOURS, compose, count, finite, short, type Titles, widthOf } from "./figure.ts";

/** What perturbing one gene does to another. Genes are told apart by their names. */
export interface NetworkEdge {
  from: string;
  to: string;
  /** 0 for nothing at all, such as 1 - cosine. */
  strength: number;
}

export interface NetworkTitles extends Titles {
  /** How many effects are shown. Default 40. */
  top?: number;
}

/** From one gene to the next, and from the perturbed to the affected, px. */
const [ROW, ACROSS] = [20, 320];
const AFFECTED = "#8a8a8a";

/** A gene in a column. */
interface Node {
  readonly name: string;
  readonly colour: string;
  y: number;
}

/**
 * The strongest effects as curves with heads, wider and darker the stronger they are, each in the colour of the gene perturbed; affected genes are grey unless
 * they were perturbed, too. Perturbed genes come by the sum of their effects shown, affected ones by where their effects come from, so that few curves cross.
 * The same edges make the same picture.
 *
 * @throws RangeError without edges, for a strength that is not finite or below 0, or for an edge given twice.
 */
export async function networkPlot(edges: readonly NetworkEdge[], titles: NetworkTitles): Promise<string> {
  const { top = 40 } = titles;
  if (edges.length === 0) throw new RangeError("networkPlot: there are no edges; give at least one");
  if (!(Number.isInteger(top) && top >= 1)) throw new RangeError(`networkPlot: top is ${top}; give a whole number of at least 1`);
  const seen = new Map<string, Set<string>>();
  for (const { from, to, strength } of edges) {
    const called = `the edge from "${short(from)}" to "${short(to)}"`;
    finite("networkPlot", `the strength of ${called}`, strength);
    if (strength < 0) throw new RangeError(`networkPlot: the strength of ${called} is ${strength}; give one of at least 0`);
    const others = seen.get(from) ?? new Set();
    if (others.has(to)) throw new RangeError(`networkPlot: ${called} is given twice; give each one once`);
    seen.set(from, others.add(to));
  }
  const Plot = await import("@observablehq/plot");
  const order = (a: string, b: string) => (a < b ? -1 : Number(a > b)); // by code units: the same on every machine
  const strongest = [...edges].sort((a, b) => b.strength - a.strength || order(a.from, b.from) || order(a.to, b.to)).slice(0, top);
  const sums = new Map<string, number>();
  for (const { from, strength } of strongest) sums.set(from, (sums.get(from) ?? 0) + strength);
  const perturbed = [...sums].sort(([a, x], [b, y]) => y - x || order(a, b)).map(([name]) => name);
  const affected = [...new Set(strongest.map(({ to }) => to))];
  const colours = new Map(perturbed.map((name, i) => [name, COLOURS[i % COLOURS.length]]));
  const [marginTop, marginBottom] = [40, 16];
  const rows = Math.max(perturbed.length, affected.length);
  const column = (names: readonly string[]) =>
    names.map((name, i): Node => {
      // The shorter column is spread over the height of the longer.
      return { name, colour: colours.get(name) ?? AFFECTED, y: marginTop + ROW * rows * ((i + 0.5) / names.length) };
    });
  const left = new Map(column(perturbed).map((node) => [node.name, node]));
  // Where the effects on a gene come from, on average, by their strength (Sugiyama et al. 1981, "barycenter").
  const source = new Map(
    affected.map((name) => {
      const into = strongest.filter(({ to }) => to === name);
      const total = into.reduce((sum, { strength }) => sum + strength, 0);
      const y = into.reduce((sum, { from, strength }) => sum + left.get(from)!.y * (total > 0 ? strength / total : 1 / into.length), 0);
      return [name, y] as const;
    }),
  );
  const right = new Map(
    column([...affected].sort((a, b) => source.get(a)! - source.get(b)! || order(a, b))).map((node) => [node.name, node]),
  );
  const widest = (names: readonly string[]) => names.reduce((most, name) => Math.max(most, widthOf(short(name), 12)), 60); // 60: the column's heading
  const [marginLeft, marginRight] = [Math.ceil(36 + widest(perturbed)), Math.ceil(36 + widest(affected))];
  const width = marginLeft + ACROSS + marginRight;
  const [start, end] = [marginLeft, marginLeft + ACROSS];
  const most = strongest[0].strength || 1;
  const curves = strongest.map(({ from, to, strength }) => {
    const [a, b] = [left.get(from)!, right.get(to)!];
    const share = strength / most;
    return { x1: start, y1: a.y, x2: end - 12, y2: b.y, colour: a.colour, width: 0.5 + 3 * share, opacity: 0.15 + 0.7 * share };
  });
  const px = (value: string | (() => number)) => ({ value, scale: null });
  const nodes = (side: ReadonlyMap<string, Node>, x: number, way: 1 | -1) =>
    [
      Plot.dot([...side.values()], { x: px(() => x), y: px("y"), fill: "colour", r: 5 }),
      Plot.text([...side.values()], {
        ...{ x: px(() => x), y: px("y"), dx: 10 * way, text: ({ name }: Node) => short(name) },
        ...{ textAnchor: way < 0 ? "end" : "start" },
      }),
      Plot.text([way < 0 ? "perturbed" : "affected"], {
        ...{ x: px(() => x), y: px(() => 16), dx: 10 * way, text: (text: string) => text },
        ...{ textAnchor: way < 0 ? "end" : "start", fontWeight: "bold" },
      }),
    ] as const;
  const plot: PlotOptions = {
    ...{ width, height: marginTop + ROW * rows + marginBottom, marginLeft, marginRight, marginTop, marginBottom },
    marks: [
      Plot.link(
        [...curves].reverse(), // the strongest over the others
        {
          ...{ x1: px("x1"), y1: px("y1"), x2: px("x2"), y2: px("y2"), curve: "bump-x" },
          ...{ stroke: "colour", strokeWidth: px("width"), strokeOpacity: px("opacity") },
        },
      ),
      Plot.dot([...curves].reverse(), {
        ...{ x: px("x2"), y: px("y2"), symbol: "triangle", rotate: 90, r: 4, fill: "colour", fillOpacity: px("opacity") },
      }),
      ...nodes(left, start, -1),
      ...nodes(right, end, 1),
    ],
  };
  const of = strongest.length < edges.length ? `the ${count(strongest.length)} strongest of ${count(edges.length)} effects` : "all effects";
  const range = `${of}, from ${figure(strongest[0].strength)} (wide) to ${figure(strongest.at(-1)!.strength)}`;
  return compose(Plot.plot, plot, { ...titles, subtitle: titles.subtitle ? `${titles.subtitle}; ${range}` : range }, []);
}

const figure = (value: number): string => String(Number(value.toPrecision(3)));

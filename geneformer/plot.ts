/** Pictures as SVG text: the course of a training, and cells in a plane. Drawn by Observable Plot; the same in Node and in a page. */

import type { PlotOptions } from "@observablehq/plot";
import { Key } from "../src/key.ts";

/** A loss at a step of training. */
export interface LossPoint {
  step: number;
  /** Cross-entropy, nats. */
  loss: number;
  kind: "train" | "held-out";
}

/** A horizontal rule to compare with, as the entropy of the genes' frequencies. */
export interface Mark {
  label: string;
  value: number;
}

/** A cell in the plane; an empty label is drawn grey. */
export interface Point {
  x: number;
  y: number;
  label: string;
}

/** What stands around a scatter plot. */
export interface Titles {
  title: string;
  subtitle?: string;
  /** Names of the axes. Default "component 1" and "component 2". */
  axes?: readonly [x: string, y: string];
}

/**
 * Colours of classes: first those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind readers can tell apart, without black and with
 * the yellow darkened for a white page; for those who need more, others from scanpy's `vega_20` (`scanpy/plotting/palettes.py`). Then they repeat.
 */
const COLOURS = [
  ...["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b3a100"],
  ...["#8c564b", "#6a3d9a", "#7f7f7f", "#98df8a", "#f7b6d2", "#aec7e8", "#17becf", "#c49c94", "#393b79", "#dbdb8d", "#c5b0d5"],
];
const [BLUE, VERMILION] = [COLOURS[0], COLOURS[3]];
const GREY = "#c8c8c8";
const INK = "#222222";
const FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/**
 * Training losses as dots with their running mean, held-out losses as a line, marks as dashed rules.
 *
 * @throws RangeError without points, or for a step, loss or mark that is not finite.
 */
export async function lossPlot(points: readonly LossPoint[], marks: readonly Mark[] = []): Promise<string> {
  if (points.length === 0) throw new RangeError("lossPlot: there are no points; give at least one loss");
  for (const { step, loss } of points) finite("lossPlot", `the loss at step ${step}`, step, loss);
  for (const { label, value } of marks) finite("lossPlot", `the mark "${label}"`, value);
  const Plot = await import("@observablehq/plot");
  const train = points.filter(({ kind }) => kind === "train");
  const held = points.filter(({ kind }) => kind === "held-out");
  const place = { x: "step", y: "loss" } as const;
  // A twentieth of the run tells the trend from the noise of single batches.
  const smooth = { k: Math.max(1, Math.ceil(train.length / 20)), strict: false };
  const plot: PlotOptions = {
    width: 720,
    height: 380,
    x: { label: "step", labelAnchor: "center", labelArrow: "none", grid: true, nice: true },
    y: { label: "masked cross-entropy (nats)", labelArrow: "none", grid: true, nice: true },
    marks: [
      Plot.dot(train, { ...place, r: 1.5, fill: BLUE, fillOpacity: 0.35 }),
      Plot.line(train, Plot.windowY(smooth, { ...place, stroke: BLUE, strokeWidth: 1.5 })),
      Plot.line(held, { ...place, stroke: VERMILION, strokeWidth: 2 }),
      Plot.dot(held, { ...place, fill: VERMILION, r: 3 }),
      Plot.ruleY(marks, { y: "value", stroke: INK, strokeDasharray: "5 3" }),
      Plot.text(marks, {
        y: "value",
        text: ({ label, value }: Mark) => `${label}: ${value.toFixed(2)}`,
        ...{ frameAnchor: "right", dy: -7, textAnchor: "end", stroke: "white", fill: INK },
      }),
    ],
  };
  const legend = [
    ...(train.length > 0 ? [["training", BLUE] as const] : []),
    ...(held.length > 0 ? [["held-out cells", VERMILION] as const] : []),
  ];
  return compose(Plot.plot, plot, { title: "Loss of masked genes" }, legend);
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

/** What `principalComponents` found. */
export interface Components {
  /** For each row, its place along each component. */
  readonly coordinates: number[][];
  /** The share of the variance that each component holds. */
  readonly explained: number[];
}

/**
 * The directions in which rows differ most, by orthogonal iteration (Golub and Van Loan, "Matrix Computations", 8.2.4) on the covariance.
 * Deterministic; each direction points where its largest weight is positive.
 *
 * @param rows [n, C], n >= 2.
 * @throws RangeError for rows of unequal length, numbers that are not finite, or more components than C or n - 1.
 */
export function principalComponents(rows: readonly (Float32Array | readonly number[])[], count = 2): Components {
  const [n, width] = [rows.length, rows[0]?.length ?? 0];
  if (!(Number.isInteger(count) && count >= 1 && count <= Math.min(n - 1, width))) {
    throw new RangeError(
      `principalComponents: ${count} components of ${n} rows of ${width}; ask for 1 to ${Math.max(0, Math.min(n - 1, width))}`,
    );
  }
  for (const [i, row] of rows.entries()) {
    if (row.length !== width)
      throw new RangeError(`principalComponents: row ${i} has ${row.length} numbers, row 0 has ${width}; rows must agree`);
    finite("principalComponents", `row ${i}`, ...row);
  }
  const mean = new Float64Array(width);
  for (const row of rows) for (let j = 0; j < width; j++) mean[j] += row[j] / n;
  const centred = rows.map((row) => Float64Array.from(row, (value, j) => value - mean[j]));
  const covariance = Array.from({ length: width }, () => new Float64Array(width));
  for (const row of centred) for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) covariance[i][j] += row[i] * row[j];
  const total = covariance.reduce((trace, row, i) => trace + row[i], 0);

  // A few more directions than asked for make the first ones settle sooner.
  const size = Math.min(count + 4, n - 1, width);
  let basis = orthonormal(Array.from({ length: size }, (_, k) => Key.from(k).normals(width)));
  for (let round = 0, moved = 1; round < 1000 && moved > 1e-12; round++) {
    const before = basis;
    basis = orthonormal(before.map((direction) => Float64Array.from(covariance, (row) => dot(row, direction))));
    moved = Math.max(...basis.slice(0, count).map((direction, k) => 1 - Math.abs(dot(direction, before[k]))));
  }
  const directions = basis.slice(0, count).map((direction) => {
    const largest = direction.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    return largest < 0 ? direction.map((value) => -value) : direction;
  });
  const coordinates = centred.map((row) => directions.map((direction) => dot(row, direction)));
  const explained = directions.map((_, k) => (total === 0 ? 0 : coordinates.reduce((sum, row) => sum + row[k] ** 2, 0) / total));
  return { coordinates, explained };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Gram and Schmidt, twice over for accuracy (Giraud et al. 2005); a direction that the others hold already becomes 0. */
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const basis: Float64Array[] = [];
  for (const vector of vectors) {
    const rest = vector.slice();
    const length = Math.sqrt(dot(rest, rest));
    for (const other of [...basis, ...basis]) {
      const along = dot(rest, other);
      for (let j = 0; j < rest.length; j++) rest[j] -= along * other[j];
    }
    const left = Math.sqrt(dot(rest, rest));
    basis.push(left > 1e-12 * length ? rest.map((value) => value / left) : rest.fill(0));
  }
  return basis;
}

/** The plot with its title above and its legend at the right, as one SVG that needs nothing else. */
async function compose(
  plot: (options: PlotOptions) => Element,
  options: PlotOptions,
  { title, subtitle }: Titles,
  legend: readonly (readonly [name: string, colour: string])[],
): Promise<string> {
  const document = globalThis.document ?? ((await import("linkedom")).parseHTML("<html></html>").document as unknown as Document);
  const make = (name: string, attributes: Record<string, string | number>, ...content: (Element | string)[]) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    element.append(...content);
    return element;
  };
  const top = subtitle ? 62 : 44;
  const side = 40 + 7 * Math.max(...legend.map(([name]) => name.length)); // a letter is some 7 px wide at 12 px
  const [width, height] = [
    Math.max(options.width! + side, 48 + 9 * title.length),
    top + Math.max(options.height!, 20 * legend.length + 20),
  ];
  const inner = plot({
    marginBottom: 44,
    marginTop: 24,
    marginRight: 24,
    ...options,
    document,
    style: { fontSize: "12px", fontFamily: "inherit" },
  });
  inner.querySelector("style")?.remove(); // made for pages, and some SVG readers stumble over it
  inner.setAttribute("y", String(top));
  inner.removeAttribute("class");
  const keys = legend.flatMap(([name, colour], i) => [
    make("circle", { cx: options.width! + 8, cy: top + 34 + 20 * i, r: 5, fill: colour }),
    make("text", { x: options.width! + 20, y: top + 38 + 20 * i }, name),
  ]);
  const picture = make(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      "font-family": FONT,
      "font-size": 12,
      fill: INK,
    },
    make("title", {}, title),
    make("rect", { width, height, fill: "white" }),
    make("text", { x: 20, y: 30, "font-size": 17, "font-weight": "bold" }, title),
    ...(subtitle ? [make("text", { x: 20, y: 50, fill: "#555555" }, subtitle)] : []),
    inner,
    ...keys,
  );
  return `${picture.outerHTML}\n`;
}

function finite(where: string, what: string, ...values: number[]): void {
  if (!values.every(Number.isFinite)) throw new RangeError(`${where}: ${what} is not finite; plot real numbers`);
}

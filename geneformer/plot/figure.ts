/** What pictures share: colours, title and legend around a plot, and numbers that can be drawn. */

import type { PlotOptions } from "@observablehq/plot";

/** What stands around a plot. */
export interface Titles {
  title: string;
  subtitle?: string;
  /** Names of the axes, in place of the picture's own. */
  axes?: readonly [x: string, y: string];
}

/**
 * Colours of classes: first those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind readers can tell apart, without black and with
 * the yellow darkened for a white page; for those who need more, others from scanpy's `vega_20` (`scanpy/plotting/palettes.py`). Then they repeat.
 */
export const COLOURS = [
  ...["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b3a100"],
  ...["#8c564b", "#6a3d9a", "#7f7f7f", "#98df8a", "#f7b6d2", "#aec7e8", "#17becf", "#c49c94", "#393b79", "#dbdb8d", "#c5b0d5"],
];
export const [BLUE, VERMILION] = [COLOURS[0], COLOURS[3]];
export const GREY = "#c8c8c8";
export const INK = "#222222";
/** What is beside the point of a picture, such as how many genes it leaves out. */
export const PALE = "#777777";
const FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/** The plot with its title above and its legend at the right, as one SVG that needs nothing else. */
export async function compose(
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
  const side = legend.length === 0 ? 0 : 40 + 7 * Math.max(...legend.map(([name]) => name.length)); // a letter is some 7 px wide at 12 px
  const [width, height] = [
    Math.ceil(Math.max(options.width! + side, 48 + 9 * title.length, 40 + widthOf(subtitle ?? "", 12))),
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
  return `${picture.outerHTML.replace(FOREIGN, "\ufffd")}\n`;
}

/** What XML 1.0 has no place for (section 2.2): control characters, halves of pairs, two that are no characters. */
const FOREIGN = /(?![\t\n\r])[\p{Cc}\p{Surrogate}\ufffe\uffff]/gu;

/** @throws RangeError naming what is not finite. */
export function finite(where: string, what: string, ...values: number[]): void {
  if (!values.every(Number.isFinite)) throw new RangeError(`${where}: ${what} is not finite; plot real numbers`);
}

/** Advance widths of Helvetica in thousandths of its size (Adobe's font metrics, 1997), by letter; Arial, Liberation Sans and Arimo share them. */
const WIDTHS = new Map(
  Object.entries({
    191: "'",
    222: "ijl`",
    260: "|",
    278: " !,./:;I[\\]ft",
    333: "()-r",
    334: "{}",
    355: '"',
    389: "*",
    469: "^",
    500: "Jcksvxyz",
    556: "#$0123456789?L_abdeghnopqu",
    584: "+<=>~",
    611: "FTZ",
    667: "&ABEKPSVXY",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "%",
    944: "W",
    1015: "@",
  }).flatMap(([width, letters]) => [...letters].map((letter) => [letter, Number(width)] as const)),
);

/** How wide a line of text is, px; letters beyond ASCII count as square. */
export function widthOf(text: string, size: number): number {
  let thousandths = 0;
  for (const letter of text) thousandths += WIDTHS.get(letter) ?? 1000;
  return (thousandths * size) / 1000;
}

/** The most letters of a name that a picture has room for: an Ensembl id has 15, the longest symbols of human genes about as many. */
const LONGEST = 24;

/** A gene's name as a label. */
export function short(name: string): string {
  const letters = [...name.trim()];
  if (letters.length === 0) return "(no name)";
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : letters.join("");
}

/** A number of things, as people write it. */
export const count = (value: number): string => value.toLocaleString("en-US");

/** A linear axis. */
export interface Axis {
  /** What a plot's scale takes. */
  readonly scale: { readonly domain: [number, number]; readonly range: [number, number] };
  /** Where a value lies, px. */
  at(value: number): number;
}

/** Air at either end of an axis, by its length: dots at the ends are not cut, and labels have room. */
const AIR = 0.06;

/** An axis over all of these values, with air at its ends, from one place on the page to another. @throws RangeError where they are too far apart. */
export function axis(where: string, values: Iterable<number>, from: number, to: number, air: readonly [number, number] = [AIR, AIR]): Axis {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) [least, most] = [Math.min(least, value), Math.max(most, value)];
  const length = most - least || Math.abs(most) || 1;
  const domain: [number, number] = [least - air[0] * length, most + air[1] * length];
  finite(where, `the way from ${least} to ${most}`, ...domain, domain[1] - domain[0]);
  return {
    scale: { domain, range: [from, to] },
    at: (value) => from + ((value - domain[0]) / (domain[1] - domain[0])) * (to - from),
  };
}

/** A legend that says how many dots are of each kind. */
export function counted(
  kinds: readonly (readonly [name: string, colour: string])[],
  dots: readonly { readonly colour: string }[],
): [name: string, colour: string][] {
  return kinds.map(([name, colour]) => [`${name} (${count(dots.filter((dot) => dot.colour === colour).length)})`, colour]);
}

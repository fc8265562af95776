/** Pictures as PNG: in Node by resvg, with fonts that come along, so that a machine without any draws the same; in a page by the page. */

import { finite } from "./figure.ts";

export interface PngOptions {
  /** Pixels of the image to a pixel of the picture. Default 2. */
  readonly scale?: number;
  /** Files of fonts (TrueType, OpenType, WOFF2) for letters that Arimo has not: it has Latin, Greek, Cyrillic and Hebrew ones. In a page the page's are used. */
  readonly fonts?: readonly Uint8Array[];
}

/** The most pixels of an image: four bytes each, a quarter of what WebAssembly's 32 bits reach. */
const PIXELS = 2 ** 28;

/**
 * The bytes of a PNG of an SVG picture, as those that the plots here make.
 *
 * @throws RangeError for a scale that is not above 0, an image too large, or letters that no font has; Error for what is no SVG.
 */
export async function png(svg: string, { scale = 2, fonts = [] }: PngOptions = {}): Promise<Uint8Array> {
  if (!(scale > 0)) throw new RangeError(`png: the scale is ${scale}; give a number above 0, such as 2`);
  const [tag] = /^<svg [^>]*>/.exec(svg) ?? [""];
  const [width, height] = ["width", "height"].map((side) => Math.round(Number(new RegExp(` ${side}="([\\d.]+)"`).exec(tag)?.[1]) * scale));
  if (Number.isNaN(width + height)) throw new Error("png: this is not an SVG of a width and a height; give what a plot returned");
  finite("png", "the size of the image", width, height);
  if (width * height > PIXELS)
    throw new RangeError(`png: ${width} x ${height} pixels are too many; take a smaller scale, or draw fewer things`);
  return globalThis.document ? drawn(svg, width, height) : rendered(svg, scale, fonts);
}

/** Arimo, whose letters are as wide as Helvetica's, for which pictures are laid out: in parts by script, of which the first does for most pictures. */
const LATIN = ["latin"];
const SCRIPTS = [...LATIN, "latin-ext", "greek", "greek-ext", "cyrillic", "cyrillic-ext", "vietnamese", "hebrew"];
const BEYOND_LATIN = /[^\0-\xff\u2000-\u206f\u2122\u2212]/u;
const WEIGHTS = [400, 700];

let engine: Promise<typeof import("@resvg/resvg-wasm")> | null = null;

/** resvg in WebAssembly, which may be started only once. */
async function start(): Promise<typeof import("@resvg/resvg-wasm")> {
  const [resvg, { readPackaged }] = await Promise.all([import("@resvg/resvg-wasm"), import("../files.ts")]);
  await resvg.initWasm(await readPackaged("@resvg/resvg-wasm/index_bg.wasm"));
  return resvg;
}

async function rendered(svg: string, scale: number, fonts: readonly Uint8Array[]): Promise<Uint8Array> {
  engine ??= start();
  const { Resvg } = await engine;
  const { readPackaged } = await import("../files.ts");
  const parts = (BEYOND_LATIN.test(svg) ? SCRIPTS : LATIN).flatMap((script) =>
    WEIGHTS.map((weight) => readPackaged(`@fontsource/arimo/files/arimo-${script}-${weight}-normal.woff2`)),
  );
  const font = { fontBuffers: [...(await Promise.all(parts)), ...fonts], defaultFontFamily: "Arimo", sansSerifFamily: "Arimo" };
  const using = <T>(picture: string, f: (drawing: InstanceType<typeof Resvg>) => T): T => {
    let drawing: InstanceType<typeof Resvg>;
    try {
      drawing = new Resvg(picture, { font, fitTo: { mode: "zoom", value: scale } });
    } catch (cause) {
      throw new Error(`png: this SVG cannot be read (${String(cause).replace(/^Error: /, "")}); give what a plot returned`, { cause });
    }
    try {
      return f(drawing);
    } finally {
      drawing.free();
    }
  };
  // A letter that no font has is drawn as a box, the same for all of them.
  const outline = (letter: string) =>
    using(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9">${letter}</text></svg>`, (drawing) =>
      drawing.toString(),
    );
  const rare = [...new Set(svg.match(/[^\0-\x7f\p{Z}\p{C}]/gu))];
  const box = rare.length > 0 ? outline("\ufdd0") : ""; // no letter: no font has it
  const missing = rare.filter((letter) => outline(letter) === box);
  if (missing.length > 0)
    throw new RangeError(`png: no font has ${missing.join(" ")}; give one that does, or write .svg, which the reader's fonts draw`);
  return using(svg, (drawing) => {
    const image = drawing.render();
    try {
      return image.asPng();
    } finally {
      image.free();
    }
  });
}

/** In a page: its own engine draws the picture on a canvas. */
async function drawn(svg: string, width: number, height: number): Promise<Uint8Array> {
  const address = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image(width, height);
    image.src = address;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d")?.drawImage(image, 0, 0, width, height);
    const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new RangeError(`png: this page has no canvas of ${width} x ${height} pixels; take a smaller scale`);
    return new Uint8Array(await blob.arrayBuffer());
  } finally {
    URL.revokeObjectURL(address);
  }
}

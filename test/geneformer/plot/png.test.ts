/** PNG: what is drawn is seen, letters too, on a machine without fonts; what cannot be drawn is refused. */

import { inflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { png, shiftPlot, volcanoPlot } from "../../../geneformer/plot.ts";

/** Width, height, and whether each pixel is other than white (RFC 2083: 8 bits, four channels, no interlace). */
function read(bytes: Uint8Array): { width: number; height: number; inked: (x: number, y: number) => boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  expect([...bytes.slice(0, 8)]).toEqual([137, 80, 78, 71, 13, 10, 26, 10]);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  expect([...bytes.slice(24, 29)]).toEqual([8, 6, 0, 0, 0]);
  const parts: Uint8Array[] = [];
  for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at))
    if (String.fromCharCode(...bytes.slice(at + 4, at + 8)) === "IDAT") parts.push(bytes.slice(at + 8, at + 8 + view.getUint32(at)));
  const lines = inflateSync(Buffer.concat(parts));
  const stride = 4 * width;
  const pixels = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (stride + 1)];
    for (let i = 0; i < stride; i++) {
      const [a, b, c] = [
        i < 4 ? 0 : pixels[y * stride + i - 4],
        y === 0 ? 0 : pixels[(y - 1) * stride + i],
        i < 4 || y === 0 ? 0 : pixels[(y - 1) * stride + i - 4],
      ];
      const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
      const paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      pixels[y * stride + i] = lines[y * (stride + 1) + 1 + i] + [0, a, b, (a + b) >> 1, paeth][filter];
    }
  }
  return { width, height, inked: (x, y) => [0, 1, 2].some((k) => pixels[y * stride + 4 * x + k] < 200) };
}

const page = (content: string, width = 200, height = 40) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="Helvetica, Arial, sans-serif" font-size="20"><rect width="${width}" height="${height}" fill="white"/>${content}</svg>`;

/** The columns from the first to the last that are inked. */
function extent({ width, height, inked }: ReturnType<typeof read>): [number, number] {
  const columns = Array.from({ length: width }, (_, x) => x).filter((x) =>
    Array.from({ length: height }, (_, y) => y).some((y) => inked(x, y)),
  );
  return [columns[0], columns.at(-1) as number];
}

describe("png", () => {
  test("has the picture's size times the scale", async () => {
    for (const scale of [1, 2, 0.5]) {
      const { width, height } = read(await png(page(""), { scale }));
      expect([width, height]).toEqual([200 * scale, 40 * scale]);
    }
  });

  test("has letters, as wide as Helvetica's, without any font of the machine", async () => {
    // resvg in WebAssembly sees no file system: what is seen comes of the fonts that it is given.
    const [from, to] = extent(read(await png(page('<text x="10" y="30">HHHHH</text>'), { scale: 1 })));
    expect(from).toBeGreaterThanOrEqual(10);
    expect(to - from).toBeGreaterThan(5 * 14.44 - 5); // H is 0.722 em
    expect(to - from).toBeLessThan(5 * 14.44);
    const [, bold] = extent(read(await png(page('<text x="10" y="30" font-weight="bold">aaaaa</text>'), { scale: 1 })));
    const [, plain] = extent(read(await png(page('<text x="10" y="30">aaaaa</text>'), { scale: 1 })));
    expect([bold, plain].every((end) => end > 60)).toBe(true);
  });

  test("has Greek, Cyrillic, accents, the signs that plots write; and no letter twice the same for want of a font", async () => {
    const seen = new Set<string>();
    for (const letter of ["β", "Ж", "ő", "−", "…", "é", "א", "\ufffd"])
      seen.add(Buffer.from(await png(page(`<text x="10" y="30">${letter}</text>`))).toString("base64"));
    expect(seen.size).toBe(8);
  });

  test("refuses letters that no font has, rather than draw boxes", async () => {
    await expect(png(page('<text x="10" y="30">T 細胞</text>'))).rejects.toThrow(
      "png: no font has 細 胞; give one that does, or write .svg, which the reader's fonts draw",
    );
  });

  test("takes the pictures of this library, whatever they say", async () => {
    const genes = ['<&>"', "nul\0\u001f\u007f", "half \ud800", "α", ""].map((name, i) => ({ name, effect: i - 1, p: 0.01 * i }));
    const volcano = read(await png(await volcanoPlot(genes, { title: "Wer α sagt" }), { scale: 1 }));
    expect(volcano.width).toBeGreaterThan(640);
    // The title's letters, and the names of genes at the left of the frame, are there.
    const shifts = read(
      await png(await shiftPlot([{ name: "GATA1", shift: 1, low: 0.5, high: 2, cells: 9 }], { title: "Title" }), { scale: 1 }),
    );
    const inked = (x0: number, x1: number, y0: number, y1: number) => {
      let count = 0;
      for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) count += Number(shifts.inked(x, y));
      return count;
    };
    expect(inked(20, 70, 16, 32)).toBeGreaterThan(60);
    expect(inked(10, 56, 56, 80)).toBeGreaterThan(40);
    expect(inked(0, 8, 0, shifts.height)).toBe(0); // nothing is cut off at the left
  });

  test("refuses what is no picture, no scale, and what is too large", async () => {
    await expect(png("hello")).rejects.toThrow("png: this is not an SVG of a width and a height");
    await expect(png('<svg xmlns="http://www.w3.org/2000/svg">')).rejects.toThrow("png: this is not an SVG");
    for (const scale of [0, -1, Number.NaN]) await expect(png(page(""), { scale })).rejects.toThrow(`png: the scale is ${scale}`);
    await expect(png(page(""), { scale: Number.POSITIVE_INFINITY })).rejects.toThrow("not finite");
    await expect(png(page("", 20_000, 20_000), { scale: 1 })).rejects.toThrow("png: 20000 x 20000 pixels are too many");
    await expect(png(page("<text>"))).rejects.toThrow(/^png: this SVG cannot be read \(.*\); give what a plot returned$/);
  });
});

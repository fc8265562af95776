/** Pictures in a page: the same SVG as anywhere, and PNG by the page's own canvas. */

import { expect, test } from "vitest";
import { png, volcanoPlot } from "../../geneformer/plot.ts";

test("a page draws a picture and makes a PNG of it, letters and all", async () => {
  const genes = ["GATA1", "<SPI1>", "細胞"].map((name, i) => ({ name, effect: i - 1, p: 10 ** -i }));
  const svg = await volcanoPlot(genes, { title: "In a page & out" });
  const bytes = await png(svg, { scale: 1 });
  const bitmap = await createImageBitmap(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: "image/png" }));
  const root = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  expect(root.nodeName).toBe("svg"); // XML that a browser takes
  expect([bitmap.width, bitmap.height]).toEqual(["width", "height"].map((side) => Number(root.getAttribute(side))));
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context?.drawImage(bitmap, 0, 0);
  const { data } = context?.getImageData(20, 14, 150, 20) ?? { data: [] };
  const inked = Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]).filter((red) => red < 128);
  expect(inked.length).toBeGreaterThan(100); // the title
});

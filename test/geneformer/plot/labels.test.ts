/** Labels stand beside their dots, in the frame, none over another. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { widthOf } from "../../../geneformer/plot/figure.ts";
import { LABEL_SIZE, type Label, placeLabels } from "../../../geneformer/plot/labels.ts";

const frame = { left: 50, right: 450, top: 20, bottom: 320 };
const boxOf = ({ x, y, text }: Label) => {
  const [across, down] = [widthOf(text, LABEL_SIZE) / 2, LABEL_SIZE / 2];
  return { left: x - across, right: x + across, top: y - down, bottom: y + down };
};
const place = fc.record({ x: fc.double({ min: 50, max: 450, noNaN: true }), y: fc.double({ min: 20, max: 320, noNaN: true }) });
const label = fc.record({ text: fc.constantFrom("A", "GATA1", "SLC25A52", "ENSG00000123456"), dot: place });

test("no label is over another, over a dot with a label, in a box that is taken, or outside the frame, whatever the dots", () =>
  fc.assert(
    fc.property(fc.array(label, { minLength: 1, maxLength: 25 }), (labels) => {
      const taken = { left: 50, right: 450, top: 160, bottom: 170 };
      const placed = placeLabels(labels, labels.map(({ dot }) => dot), frame, [taken]); // biome-ignore format: one line
      const boxes = placed.map(boxOf);
      for (const [i, a] of boxes.entries()) {
        expect(a.left >= frame.left && a.right <= frame.right && a.top >= frame.top && a.bottom <= frame.bottom).toBe(true);
        for (const b of [...boxes.slice(i + 1), taken])
          expect(a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom).toBe(false);
        for (const { dot } of labels) expect(dot.x > a.left && dot.x < a.right && dot.y > a.top && dot.y < a.bottom).toBe(false);
      }
      for (const [i, { line, dot }] of placed.entries()) {
        const { left, right, top, bottom } = boxes[i];
        const gap = Math.hypot(Math.max(left - dot.x, 0, dot.x - right), Math.max(top - dot.y, 0, dot.y - bottom));
        if (!line) expect(gap).toBeLessThan(15);
      }
    }),
  ));

test("the first has the choice: a label alone stands at the right of its dot, on its height", () => {
  const [only] = placeLabels([{ text: "GATA1", dot: { x: 200, y: 100 } }], [{ x: 200, y: 100 }], frame);
  expect(only).toMatchObject({ y: 100, line: null });
  expect(boxOf(only).left).toBeCloseTo(206, 6);
});

test("at the right edge it stands elsewhere", () => {
  const [only] = placeLabels([{ text: "GATA1", dot: { x: 440, y: 100 } }], [], frame);
  expect(boxOf(only).right).toBeLessThan(440);
});

test("it makes way for dots, and a line leads to it where it stands far off", () => {
  const dot = { x: 200, y: 100 };
  const crowd = Array.from({ length: 4000 }, (_, i) => ({ x: 160 + (i % 80), y: 80 + Math.floor(i / 80) * 0.8 }));
  const [far] = placeLabels([{ text: "GATA1", dot }], crowd, frame);
  const { left, right, top, bottom } = boxOf(far);
  expect(crowd.filter(({ x, y }) => x > left && x < right && y > top && y < bottom)).toHaveLength(0);
  expect(far.line).not.toBeNull();
});

test("a label without room is left out", () => {
  const dots = Array.from({ length: 40 }, () => ({ text: "SLC25A52", dot: { x: 60, y: 30 } }));
  const placed = placeLabels(dots, [], { left: 50, right: 160, top: 20, bottom: 60 });
  expect(placed.length).toBeGreaterThan(0);
  expect(placed.length).toBeLessThan(9); // as many as the frame has room for
});

test("letters are as wide as Helvetica's", () => {
  expect(widthOf("Il", 1000)).toBe(278 + 222);
  expect(widthOf("GATA1", 1000)).toBe(778 + 667 + 611 + 667 + 556);
  expect(widthOf("", 12)).toBe(0);
  const missing = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).filter((letter) => widthOf(letter, 1) === 1);
  expect(missing).toEqual([]); // no letter of ASCII is as wide as it is high
});

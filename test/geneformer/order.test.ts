/** The order in which cells are seen: every epoch all of them, and after a break what would have come without it. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { type Cursor, Order } from "../../geneformer/data/order.ts";
import { Key } from "../../src/key.ts";

/** The next cells, with the epoch each belongs to. */
const walk = (order: Order, steps: number) =>
  Array.from({ length: steps }, () => {
    const next = order.peek();
    order.take();
    return next;
  });

const counts = fc.integer({ min: 1, max: 30 });

test("each epoch is a permutation of the cells, and says which it is", () =>
  fc.assert(
    fc.property(counts, fc.nat(), (count, seed) => {
      const seen = walk(new Order(count, Key.from(seed)), 3 * count);
      for (const epoch of [0, 1, 2]) {
        const cells = seen.slice(epoch * count, (epoch + 1) * count);
        expect(cells.map(({ cell }) => cell).sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
        expect(cells.every((each) => each.epoch === epoch)).toBe(true);
      }
    }),
  ));

test("epochs, and runs of other keys, have orders of their own", () => {
  const cells = (seed: number) => walk(new Order(50, Key.from(seed)), 100).map(({ cell }) => cell);
  const both = cells(1);
  expect(both.slice(0, 50)).not.toEqual(both.slice(50));
  expect(cells(2)).not.toEqual(both);
  expect(cells(1)).toEqual(both);
});

test("a walk broken off anywhere goes on as if it had not been, even through JSON", () =>
  fc.assert(
    fc.property(counts, fc.nat(), fc.nat({ max: 90 }), fc.boolean(), (count, seed, at, peeked) => {
      const order = new Order(count, Key.from(seed));
      walk(order, at);
      if (peeked) order.peek(); // a batch looks at the cell that no longer fits
      const saved = JSON.parse(JSON.stringify(order.cursor)) as Cursor;
      expect(walk(new Order(count, Key.from(seed), saved), 40)).toEqual(walk(order, 40));
    }),
  ));

test("looking takes nothing", () => {
  const order = new Order(5, Key.from(3));
  expect(order.peek()).toEqual(order.peek());
  expect(order.cursor).toEqual({ epoch: 0, place: 0 });
  order.take();
  expect(order.cursor).toEqual({ epoch: 0, place: 1 });
});

test("without cells there is no order", () => {
  expect(() => new Order(0, Key.from(0))).toThrow("Order(count, key): there are no cells to order");
});

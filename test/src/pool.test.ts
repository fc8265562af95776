/** The pool: blocks come back, sizes waste little, and the books balance. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { Pool, sizeClass } from "../../src/pool.ts";

test("a size class holds the request, wastes a quarter at most, and is its own class", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (bytes) => {
      const size = sizeClass(bytes);
      expect(size).toBeGreaterThanOrEqual(bytes);
      expect(size % 16).toBe(0);
      if (bytes > 64) expect(size).toBeLessThanOrEqual(1.25 * bytes + 16);
      expect(sizeClass(size)).toBe(size);
    }),
    { seed: 1, numRuns: 500 },
  );
});

test("what was given back is taken again, and nobody holds a block twice", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 300 })), { maxLength: 200 }), (steps) => {
      let made = 0;
      const pool = new Pool<number>(() => made++);
      const held: [number, number][] = [];
      let most = 0;
      for (const [take, bytes] of steps) {
        if (take || held.length === 0) {
          const block = pool.take(bytes);
          expect(held.every(([other]) => other !== block)).toBe(true);
          held.push([block, bytes]);
        } else pool.give(...held.splice(bytes % held.length, 1)[0]);
        const live = held.reduce((sum, [, size]) => sum + sizeClass(size), 0);
        most = Math.max(most, live);
        expect([pool.live, pool.peak]).toEqual([live, most]);
        expect(pool.reserved).toBeGreaterThanOrEqual(live);
      }
      for (const [block, bytes] of held) pool.give(block, bytes);
      expect(pool.live).toBe(0);
      const before = made;
      if (steps.length > 0 && steps[0][1] > 0) pool.take(steps[0][1]);
      expect(made).toBe(before); // the first block taken was of this class
    }),
    { seed: 1 },
  );
});

test("a drained pool keeps nothing but what is held", () => {
  let made = 0;
  const pool = new Pool<number>(() => made++);
  const [a, b] = [pool.take(100), pool.take(100)];
  pool.give(a, 100);
  expect(pool.drain()).toEqual([a]);
  expect(pool.reserved).toBe(sizeClass(100));
  expect(pool.take(100)).not.toBe(b);
});

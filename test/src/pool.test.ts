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

test("what was given back is taken again, nobody holds a block twice, and the books balance", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 300 })), { maxLength: 200 }), (steps) => {
      const sizes: number[] = [];
      const pool = new Pool<number>({ make: (bytes) => sizes.push(bytes) - 1 });
      const held: number[] = [];
      let most = 0;
      for (const [take, bytes] of steps) {
        if (take || held.length === 0) {
          const block = pool.take(bytes);
          expect(held).not.toContain(block);
          expect(sizes[block]).toBeGreaterThanOrEqual(bytes);
          expect(sizes[block]).toBeLessThanOrEqual(2 * sizeClass(bytes));
          held.push(block);
        } else pool.give(held.splice(bytes % held.length, 1)[0]);
        const live = held.reduce((sum, block) => sum + sizes[block], 0);
        most = Math.max(most, live);
        expect([pool.live, pool.peak]).toEqual([live, most]);
        expect(pool.reserved).toBe(sizes.reduce((sum, size) => sum + size, 0));
      }
      for (const block of held) pool.give(block);
      expect(pool.live).toBe(0);
      const before = sizes.length;
      if (steps.length > 0) pool.take(steps[0][1]);
      expect(sizes.length).toBe(before); // the first block taken was of this class
    }),
    { seed: 1 },
  );
});

test("shorter batches use the blocks of longer ones", () => {
  const pool = new Pool<object>({ make: () => ({}) });
  for (const bytes of [2000, 1900, 1500, 1200, 1700, 1100]) pool.give(pool.take(bytes));
  expect(pool.reserved).toBe(sizeClass(2000));
});

test("at its limit a free block serves however large it is, then those that nobody holds are destroyed, and only then it fails", () => {
  const destroyed: number[] = [];
  let made = 0;
  const fail = (asked: number) => new RangeError(`no room for ${asked}`);
  const pool = new Pool<number>({ make: () => made++, destroy: (block) => destroyed.push(block), limit: 1 << 20, fail });
  const large = pool.take(1 << 20);
  expect(() => pool.take(100)).toThrow("no room for 112");
  pool.give(large);
  expect(pool.take(100)).toBe(large);
  expect(pool.live).toBe(1 << 20);
  pool.give(large);

  const small = new Pool<number>({ make: () => made++, destroy: (block) => destroyed.push(block), limit: 1024, fail });
  const blocks = [256, 256, 256].map((bytes) => small.take(bytes));
  small.give(blocks[1]);
  small.give(blocks[2]);
  const wide = small.take(768);
  expect(destroyed).toEqual([blocks[1], blocks[2]]);
  expect([small.live, small.reserved]).toEqual([1024, 1024]);
  small.drop(wide);
  small.give(wide); // of no effect
  expect([small.live, small.reserved]).toEqual([256, 256]);
});

/** The heap of addresses: nothing overlaps, what comes back merges, and a full one fails without harm. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { Heap } from "../../src/heap.ts";

const heapOf = (limit: number, most = limit) =>
  new Heap(
    40,
    limit,
    (bytes) => bytes <= most,
    (asked) => new RangeError(`no room for ${asked}`),
  );

test("stretches never overlap, lie in the memory, begin at multiples of 16, and the books balance", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 500 })), { maxLength: 300 }), (steps) => {
      const heap = heapOf(20_000);
      const held: { at: number; size: number }[] = [];
      let most = 0;
      for (const [take, bytes] of steps) {
        if (take || held.length === 0) {
          const size = Math.max(1, Math.ceil(bytes / 16)) * 16;
          try {
            const at = heap.take(bytes);
            expect(at % 16).toBe(0);
            expect(at).toBeGreaterThanOrEqual(48);
            expect(at + size).toBeLessThanOrEqual(20_000);
            for (const other of held) expect(at + size <= other.at || other.at + other.size <= at).toBe(true);
            held.push({ at, size });
          } catch (error) {
            expect((error as Error).message).toBe(`no room for ${bytes}`);
          }
        } else heap.give(held.splice(bytes % held.length, 1)[0].at);
        const live = held.reduce((sum, { size }) => sum + size, 0);
        most = Math.max(most, live);
        expect([heap.live, heap.peak]).toEqual([live, most]);
      }
      for (const { at } of held) heap.give(at);
      expect(heap.live).toBe(0);
      expect(heap.take(heap.limit - 48)).toBe(48); // all in one piece again
    }),
    { seed: 1 },
  );
});

test("batches of growing lengths take the room of those before them", () => {
  const heap = heapOf(2 ** 30);
  for (let bytes = 1000; bytes < 100_000; bytes += 1000) {
    const held = [heap.take(bytes), heap.take(bytes), heap.take(bytes)];
    for (const at of held) heap.give(at);
  }
  expect(heap.reserved).toBeLessThanOrEqual(3 * 100_000);
});

test("the smallest stretch that fits is taken", () => {
  const heap = heapOf(10_000);
  const [a, , c] = [heap.take(320), heap.take(16), heap.take(160), heap.take(16)];
  heap.give(a);
  heap.give(c);
  expect(heap.take(150)).toBe(c);
  expect(heap.take(150)).toBe(a);
});

test("a memory that cannot grow fails, and serves on", () => {
  const heap = heapOf(10_000, 1000);
  const first = heap.take(900);
  expect(() => heap.take(100)).toThrow("no room for 100");
  heap.give(first);
  expect(heap.take(800)).toBe(first);
  expect(() => heap.take(2000)).toThrow("no room for 2000");
});

test("beneath a limit that was lowered, nothing above it is taken", () => {
  const heap = heapOf(10_000);
  const [low, high] = [heap.take(1000), heap.take(8000)];
  heap.limit = 2000;
  heap.give(high);
  expect(() => heap.take(2000)).toThrow("no room");
  expect(heap.take(500)).toBe(high);
  heap.give(low);
  expect(heap.take(1000)).toBe(low);
});

test("giving back twice is harmless", () => {
  const heap = heapOf(10_000);
  const [a, b] = [heap.take(100), heap.take(100)];
  heap.give(a);
  heap.give(a);
  expect(heap.live).toBe(112);
  expect(heap.take(100)).toBe(a);
  expect(heap.take(100)).not.toBe(b);
});

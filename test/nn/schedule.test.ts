/** Learning rates: up in a line, then constant, in a line or a half cosine down to nothing, and never anything else. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { schedule, scheduleNames } from "../../nn/schedule.ts";

const plan = fc.record({ warmup: fc.nat({ max: 50 }), rest: fc.integer({ min: 1, max: 200 }) });

test.each(scheduleNames)("%s: warms up to 1, never rises again, stays within [0, 1]", (name) => {
  fc.assert(
    fc.property(plan, ({ warmup, rest }) => {
      const total = warmup + rest;
      const rates = Array.from({ length: total + 5 }, (_, step) => schedule(name, step, warmup, total));
      expect(rates.every((rate) => rate >= 0 && rate <= 1)).toBe(true);
      expect(rates[warmup]).toBe(1);
      if (warmup > 0) expect(rates[0]).toBe(0);
      for (let step = 1; step < rates.length; step++) {
        if (step <= warmup) expect(rates[step]).toBeGreaterThan(rates[step - 1]);
        else expect(rates[step]).toBeLessThanOrEqual(rates[step - 1]);
      }
      expect(rates.at(-1)).toBeCloseTo(name === "constant" ? 1 : 0, 12);
    }),
    { seed: 1 },
  );
});

test("half way down", () => {
  expect(schedule("linear", 60, 20, 100)).toBeCloseTo(0.5, 12);
  expect(schedule("cosine", 60, 20, 100)).toBeCloseTo(0.5, 12);
  expect(schedule("cosine", 40, 20, 100)).toBeCloseTo(0.5 + Math.SQRT1_2 / 2, 12);
});

/** Learning rates: up in a line, then as the name says, and never anything else; Hugging Face's numbers. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type ScheduleName, type ScheduleOptions, schedule, scheduleNames } from "../../nn/schedule.ts";

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
      if (name === "inverse_sqrt") expect(rates.at(-1)).toBeGreaterThan(0);
      else expect(rates.at(-1)).toBeCloseTo(name === "constant" ? 1 : 0, 12);
    }),
    { seed: 1 },
  );
});

test("half way down", () => {
  expect(schedule("linear", 60, 20, 100)).toBeCloseTo(0.5, 12);
  expect(schedule("cosine", 60, 20, 100)).toBeCloseTo(0.5, 12);
  expect(schedule("cosine", 40, 20, 100)).toBeCloseTo(0.5 + Math.SQRT1_2 / 2, 12);
});

test("inverse_sqrt halves when the steps are four times the warm-up", () => {
  expect(schedule("inverse_sqrt", 80, 20, 100)).toBeCloseTo(0.5, 12);
  expect(schedule("inverse_sqrt", 500, 20, 100)).toBeCloseTo(0.2, 12);
});

test("restarts begin at 1, the last ends at 0", () => {
  const rates = Array.from({ length: 21 }, (_, step) => schedule("cosine_with_restarts", step, 0, 20, { cycles: 4 }));
  expect(rates.map((rate, step) => (rate === 1 ? step : -1)).filter((step) => step >= 0)).toEqual([0, 5, 10, 15]);
  expect(rates[20]).toBe(0);
});

/** What test/golden/optimizers.py wrote. */
const { schedules }: { schedules: { name: ScheduleName; options: ScheduleOptions; warmup: number; total: number; factors: number[] }[] } =
  JSON.parse(readFileSync(new URL("../golden/optimizers.json", import.meta.url), "utf8"));

test.each(schedules)("$name $options, warmup $warmup of $total, as Hugging Face's", ({ name, options, warmup, total, factors }) => {
  for (const [step, factor] of factors.entries())
    expect(schedule(name, step, warmup, total, options), `step ${step}`).toBeCloseTo(factor, 12);
});

test.each([0, 1])("a name that is none is refused, in the warm-up too: step %i", (step) => {
  expect(() => schedule("cosin" as ScheduleName, step, 1, 2)).toThrow(
    new RangeError(
      'schedule(name, step, warmup, total): there is no schedule "cosin"; did you mean "cosine"? There are constant, linear, cosine, cosine_with_restarts, polynomial, inverse_sqrt',
    ),
  );
});

/** The roofline: which of two limits holds, and what share of it was reached. */

import { expect, test } from "vitest";
import { bound, boundOf } from "../../bench/bound.ts";

const peaks = { gflops: 50, gigabytes: 10 };

test("the longer of computing and moving is the bound", () => {
  expect(bound({ flop: 100e6, bytes: 10e6 }, peaks)).toEqual({ by: "arithmetic", ms: 2 });
  expect(bound({ flop: 100e6, bytes: 40e6 }, peaks)).toEqual({ by: "memory", ms: 4 });
  expect(bound({ flop: 0, bytes: 10e6 }, peaks)).toEqual({ by: "memory", ms: 1 });
});

test("the share is said in words, and not said where the peaks are unknown", () => {
  expect(boundOf({ flop: 100e6, bytes: 0 }, 4, peaks).trim()).toBe("50 % of arithmetic");
  expect(boundOf({ flop: 100e6, bytes: 0 }, 4, null)).toBe("");
});

/** The derivative of every op is right: tape against central difference along a random direction, both in f64. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkGradients } from "../autograd/check.ts";
import { Key } from "../src/key.ts";
import { anyCase, type Case, edgeCases, options, rows, say } from "./cases.ts";
import type { Row } from "./catalogue.ts";

const derivative = (row: Row<unknown>, { shapes, values, drawn, seed }: Case) =>
  checkGradients(
    (...args) => row.call(args, drawn),
    shapes.map((shape, i) => ({ shape, values: values[i] })),
    { key: Key.from(seed) },
  );

describe("the derivative of", () => {
  for (const [name, row] of rows.filter(([, { derivative }]) => derivative !== false))
    test(name, async () => {
      for (const it of edgeCases(row, [16, 33, 65]))
        await derivative(row, it).catch((error) => expect.fail(`${say(it)}: ${error.message}`));
      await fc.assert(
        fc.asyncProperty(anyCase(row), async (it) => void (await derivative(row, it))),
        options(25),
      );
    });
});

/** Tables as pandas writes and reads them: quoting, numbering, and digits that are enough for an f32. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { csvLines, type Field, single } from "../../geneformer/table.ts";

const csv = (columns: readonly string[], rows: Iterable<readonly Field[]>) => [...csvLines(columns, rows)].join("");

test("a header whose first column has no name, then numbered rows", () => {
  expect(csv(["a", "b"], [[1, "x"], [0.5, null]])).toBe(",a,b\n0,1,x\n1,0.5,\n"); // biome-ignore format: one line
  expect(csv(["a"], [])).toBe(",a\n");
});

test("fields that would break a line are quoted", () => {
  expect(csv(['B, "T"', "plain"], [["two\nlines", "a,b"], ['"', "\r"]])).toBe(',"B, ""T""",plain\n0,"two\nlines","a,b"\n1,"""","\r"\n'); // biome-ignore format: one line
});

/** RFC 4180, as a reader would. */
function read(text: string): string[][] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\n)/g)) {
    rows.at(-1)!.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") rows.push([]);
  }
  return rows.slice(0, -1);
}

test("what is written is read, whatever the text", () =>
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.oneof(fc.string(), fc.constantFrom('"', ",", "\n", "\r\n", '","')), { minLength: 3, maxLength: 3 })),
      (rows) => {
        expect(read(csv(["x", "y", "z"], rows))).toEqual([["", "x", "y", "z"], ...rows.map((row, i) => [String(i), ...row])]);
      },
    ),
  ));

test("lines come one by one, without the rows held", () => {
  function* endless(): Generator<Field[]> {
    for (let i = 0; ; i++) yield [i * i];
  }
  const lines = csvLines(["square"], endless());
  expect(Array.from({ length: 4 }, () => lines.next().value)).toEqual([",square\n", "0,0\n", "1,1\n", "2,4\n"]);
});

test("nine digits name every f32, and are no more than nine", () =>
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
      expect(Math.fround(single(value))).toBe(value + 0); // -0 is written as 0
      expect(
        String(Math.abs(single(value)))
          .replace(/e.*/, "")
          .replace(".", "")
          .replace(/^0+/, "").length,
      ).toBeLessThanOrEqual(Math.abs(value) >= 1e9 ? 40 : 9);
    }),
  ));

test("a third of an f32 is not written with the digits of an f64", () => {
  expect(String(single(Math.fround(1 / 3)))).toBe("0.333333343");
});

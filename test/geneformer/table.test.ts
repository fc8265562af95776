/** Tables as pandas writes and reads them: quoting, numbering, and digits that are enough for an f32. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { csvLines, type Field, readCsv, single } from "../../geneformer/table.ts";

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

test("a table is read as it was written: columns, index, numbers to the bit, words, what is missing", () =>
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.oneof(fc.string({ minLength: 1 }), fc.constantFrom('"', ",", "\n", "\r\n", "a,b", "é")).map((word) => `w${word}`),
          fc.option(fc.oneof(fc.double({ noNaN: true }), fc.integer())),
        ),
        { minLength: 1, maxLength: 20 },
      ),
      fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
      (rows, index) => {
        const columns = ["name", 'a "number", or none'];
        const table = readCsv([...csvLines(columns, rows, index)].join(""));
        expect(table.columns).toEqual(columns);
        expect(table.index).toEqual(index.slice(0, rows.length));
        expect(table.rows).toEqual(rows.map(([word, value]) => [word, value === null ? null : value + 0])); // -0 is written as 0
      },
    ),
  ));

test("what pandas, spreadsheets and other hands write is read, too", () => {
  expect(readCsv("\ufeffa,b\r\n1.5,x\r\n-2e-3,\r\n")).toEqual({ columns: ["a", "b"], index: [0, 1], rows: [[1.5, "x"], [-0.002, null]] }); // biome-ignore format: one line
  expect(readCsv(",a\n7,inf\n3,-inf\n1,nan").rows).toEqual([[Number.POSITIVE_INFINITY], [Number.NEGATIVE_INFINITY], [null]]);
  expect(readCsv(",a\n7,1\n3,cell_emb\n").rows).toEqual([["1"], ["cell_emb"]]); // one word makes a column of words
  expect(readCsv("a\n0x10\n")).toMatchObject({ rows: [["0x10"]] });
  expect(readCsv('"a\nb","c""d"\n"1","2"\n')).toEqual({ columns: ["a\nb", 'c"d'], index: [0], rows: [[1, 2]] });
  expect(readCsv(",a\n")).toEqual({ columns: ["a"], index: [], rows: [] });
});

test("a damaged table is refused with its place", () => {
  expect(() => readCsv("", "x.csv")).toThrow('csv: "x.csv" is empty; give a table with a header');
  expect(() => readCsv("a,a\n1,2\n")).toThrow('has two columns "a"');
  expect(() => readCsv("a,b\n1,2\n3", "x.csv")).toThrow('csv: row 1 of "x.csv" has 1 fields, the header 2');
  expect(() => readCsv(",a\nx,2\n")).toThrow('has the index "x"');
  expect(() => readCsv('a\n"open\n', "x.csv")).toThrow('csv: row 0 of "x.csv" has a quote out of place');
  expect(() => readCsv('a\nb"c\n')).toThrow("quote out of place");
});

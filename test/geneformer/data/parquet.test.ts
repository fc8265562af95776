/** Columns there and back; files that are cut off or of something else. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parquetBytes, readParquet, tableColumns } from "../../../geneformer/data/parquet.ts";
import { bytesSource } from "../../../nn/source.ts";

const source = (bytes: Uint8Array) => bytesSource(bytes, "a.parquet");

test("numbers and words come back, nulls too", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ i: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), f: fc.float({ noNaN: true }), d: fc.double({ noNaN: true }), s: fc.option(fc.string()) }), { minLength: 1, maxLength: 200 }), // biome-ignore format: one line
      async (rows) => {
        const bytes = await parquetBytes([
          { name: "i", type: "i32", data: Int32Array.from(rows, ({ i }) => i) },
          { name: "f", type: "f32", data: Float32Array.from(rows, ({ f }) => f) },
          { name: "d", type: "f64", data: rows.map(({ d }) => d) },
          { name: "s", type: "string", data: rows.map(({ s }) => s) },
        ]);
        const read = await readParquet(source(bytes));
        expect(read).toEqual(new Map(Object.entries({ i: rows.map(({ i }) => i), f: rows.map(({ f }) => f), d: rows.map(({ d }) => d), s: rows.map(({ s }) => s) }))); // biome-ignore format: one line
      },
    ),
    { numRuns: 40 },
  ));

test("more rows than a group holds, of chosen columns alone, from a view of more bytes", async () => {
  const n = 250_000;
  const data = Int32Array.from({ length: n }, (_, i) => (i * 7919) % 20_000);
  const bytes = await parquetBytes([
    { name: "a", type: "i32", data },
    { name: "b", type: "f32", data: new Float32Array(n) },
  ]);
  const more = new Uint8Array(bytes.length + 10);
  more.set(bytes, 3);
  const read = await readParquet(source(more.subarray(3, 3 + bytes.length)), ["a"]);
  expect([...read.keys()]).toEqual(["a"]);
  expect(Int32Array.from(read.get("a") as number[])).toEqual(data);
});

describe("is refused by its name:", () => {
  test.each([
    ["nothing", new Uint8Array(0)],
    ["something else", new TextEncoder().encode("cell,gene\n1,2\n3,4\n5,6\n")],
  ])("%s", (_, bytes) => expect(readParquet(source(bytes))).rejects.toThrow(/^parquet: "a\.parquet" /));

  test("a file that is cut off anywhere; a column that is not there", async () => {
    const bytes = await parquetBytes([{ name: "a", type: "i32", data: Int32Array.from({ length: 50 }, (_, i) => i) }]);
    for (const part of [0.1, 0.5, 0.9, 0.99]) await expect(readParquet(source(bytes.subarray(0, Math.floor(bytes.length * part))))).rejects.toThrow(/^parquet: "a\.parquet" /); // biome-ignore format: one line
    await expect(readParquet(source(bytes), ["b"])).rejects.toThrow('parquet: "a.parquet" has no column "b"; it has a');
  });
});

test("a table's columns: of words where one is a word", () => {
  const table = { columns: ["n", "s"], index: [0, 1], rows: [[1, "a"], [2.5, null]] as (string | number | null)[][] }; // biome-ignore format: one line
  expect(tableColumns(table)).toEqual([
    { name: "n", type: "f64", data: [1, 2.5] },
    { name: "s", type: "string", data: ["a", null] },
  ]);
});

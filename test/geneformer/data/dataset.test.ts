/** `.dataset` folders: what is written is read, shard by shard, and a damaged folder is named. */

import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Batch, type Cell, type Field, readDataset, writeDataset } from "../../../geneformer/data/dataset.ts";
import { makeVocabulary } from "../../../geneformer/data/vocabulary.ts";
import { scratch } from "./scratch.ts";

const path = scratch();
const FIELDS: Field[] = [
  { name: "input_ids", dtype: "int16", list: true },
  { name: "counts", dtype: "float64", list: true },
  { name: "type", dtype: "string" },
  { name: "share", dtype: "float64" },
  { name: "flag", dtype: "bool" },
  { name: "length", dtype: "int64" },
];

interface Row {
  tokens: number[];
  type: string | null;
  share: number | null;
  flag: boolean | null;
}
const row = fc.record<Row>({
  tokens: fc.array(fc.integer({ min: 0, max: 32767 }), { maxLength: 12 }),
  type: fc.option(fc.string({ unit: "grapheme", maxLength: 6 })),
  share: fc.option(fc.double({ noNaN: true })),
  flag: fc.option(fc.boolean()),
});

function batch(rows: readonly Row[]): Batch {
  return {
    input_ids: rows.map(({ tokens }) => Int32Array.from(tokens)),
    counts: rows.map(({ tokens }) => tokens.map((token) => token / 3)),
    type: rows.map(({ type }) => type),
    share: rows.map(({ share }) => share),
    flag: rows.map(({ flag }) => flag),
    length: rows.map(({ tokens }) => tokens.length),
  };
}

/** A small folder of three cells in two shards, to be damaged. */
async function small(
  name: string,
  fields = FIELDS.slice(0, 1),
  batches: Record<string, Cell[]>[] = [{ input_ids: [[1, 2, 3], [4]] }, { input_ids: [[5]] }],
) {
  await writeDataset(path(name), fields, batches, { force: true, shardBytes: 1 });
  return path(name);
}

describe("written and read", () => {
  test("columns of every kind, in batches and shards of any size", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(row, { maxLength: 5 }), { minLength: 1, maxLength: 4 }), fc.boolean(), async (batches, split) => {
        const rows = batches.flat();
        fc.pre(rows.length > 0);
        const options = { force: true, ...(split ? { shardBytes: 1 } : {}) };
        const written = await writeDataset(path("any.dataset"), FIELDS, batches.map(batch), options);
        const dataset = await readDataset(path("any.dataset"));
        expect([written.rows, dataset.length, dataset.columns]).toEqual([rows.length, rows.length, FIELDS.map(({ name }) => name)]);
        expect(dataset.fingerprint).toBe(written.fingerprint);
        rows.forEach(({ tokens }, i) => {
          expect([...dataset.tokens(i)]).toEqual(tokens);
          expect([...dataset.numbers("counts", i)]).toEqual(tokens.map((token) => token / 3));
        });
        expect([...dataset.lengths]).toEqual(rows.map(({ tokens }) => tokens.length));
        expect(dataset.largest).toBe(Math.max(-1, ...rows.flatMap(({ tokens }) => tokens)));
        expect(dataset.column("type")).toEqual(rows.map(({ type }) => type));
        expect(dataset.column("share")).toEqual(rows.map(({ share }) => share));
        expect(dataset.column("flag")).toEqual(rows.map(({ flag }) => (flag === null ? null : Number(flag))));
        expect(dataset.column("length")).toEqual(rows.map(({ tokens }) => tokens.length));
      }),
      { numRuns: 40 },
    );
  });

  test("tokens of 32 bits are views, of 64 bits copies; both the same", async () => {
    for (const dtype of ["int32", "int64"] as const) {
      const folder = await small(`${dtype}.dataset`, [{ name: "input_ids", dtype, list: true }], [{ input_ids: [[70000, 1], [2]] }]);
      const dataset = await readDataset(folder);
      expect(dataset.tokens(0)).toEqual(Int32Array.of(70000, 1));
      expect(dataset.tokens(1)).toEqual(Int32Array.of(2));
      expect(dataset.tokens(0).buffer === dataset.tokens(1).buffer).toBe(dtype === "int32");
      expect(() => dataset.tokens(2)).toThrow(/cell 2 of 2/);
    }
  });

  test("the folder is what `datasets` writes: shards named and counted, streams ended, json in its shape", async () => {
    const folder = await small("shape.dataset");
    expect(readdirSync(folder)).toEqual(["data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "dataset_info.json", "state.json"]);
    for (const shard of readdirSync(folder).filter((name) => name.endsWith("arrow"))) {
      const bytes = readFileSync(`${folder}/${shard}`);
      expect([...bytes.subarray(0, 4), ...bytes.subarray(-8)]).toEqual([255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
      expect(bytes.length % 8).toBe(0);
    }
    expect(JSON.parse(readFileSync(`${folder}/state.json`, "utf8"))).toEqual({
      _data_files: [{ filename: "data-00000-of-00002.arrow" }, { filename: "data-00001-of-00002.arrow" }],
      _fingerprint: expect.stringMatching(/^[0-9a-f]{16}$/),
      _format_columns: null,
      _format_kwargs: {},
      _format_type: null,
      _output_all_columns: false,
      _split: null,
    });
    expect(JSON.parse(readFileSync(`${folder}/dataset_info.json`, "utf8"))).toEqual({
      citation: "",
      description: "",
      features: { input_ids: { feature: { dtype: "int16", _type: "Value" }, _type: "Sequence" } },
      homepage: "",
      license: "",
    });
  });

  test("the fingerprint follows the content and not the place", async () => {
    const one = await readDataset(await small("one.dataset"));
    cpSync(path("one.dataset"), path("copy.dataset"), { recursive: true });
    expect((await readDataset(path("copy.dataset"))).fingerprint).toBe(one.fingerprint);
    const other = await readDataset(
      await small("other.dataset", FIELDS.slice(0, 1), [{ input_ids: [[1, 2, 3], [4]] }, { input_ids: [[6]] }]),
    );
    expect(other.fingerprint).not.toBe(one.fingerprint);
  });

  test("the dictionary lies beside the shards", async () => {
    const words = ["<pad>", "<mask>", "ENSG1", "ENSG2"];
    const medians = new Map([
      ["ENSG1", 1],
      ["ENSG2", 2],
    ]);
    const vocabulary = makeVocabulary({
      tokens: new Map(words.map((word, i) => [word, i])),
      medians,
      mapping: new Map(),
      names: new Map(),
    });
    const write = (token: number) =>
      writeDataset(path("with.dataset"), FIELDS.slice(0, 1), [{ input_ids: [[2, token]] }], { force: true, vocabulary });
    await write(3);
    expect(await (await readDataset(path("with.dataset"))).vocabulary()).toEqual(vocabulary);
    await write(4);
    await expect(readDataset(path("with.dataset"))).rejects.toThrow(/holds token 4 but its dictionary ends at 3/);
  });
});

describe("not written", () => {
  test("nothing is left of a stream of rows that fails, of none, or of columns that disagree", async () => {
    const fails = function* (): Generator<Batch> {
      yield { input_ids: [[1]] };
      throw new Error("the input ended early");
    };
    const write = (batches: Iterable<Batch>, fields = FIELDS.slice(0, 1)) => writeDataset(path("never.dataset"), fields, batches);
    await expect(write(fails())).rejects.toThrow("the input ended early");
    await expect(write([])).rejects.toThrow(/would hold no cells; nothing was written/);
    await expect(write([{ input_ids: [[1]], length: [1, 2] }], [FIELDS[0]!, FIELDS[5]!])).rejects.toThrow(
      /column "length" has 2 values for 1 rows/,
    );
    expect(readdirSync(path(".")).filter((name) => name.includes("never"))).toEqual([]);
  });

  test("what exists stays, unless forced", async () => {
    const folder = await small("kept.dataset");
    await expect(writeDataset(folder, FIELDS.slice(0, 1), [{ input_ids: [[9]] }])).rejects.toThrow(/exists; .*--force/);
    expect((await readDataset(folder)).length).toBe(3);
  });

  test("a folder that is no dataset is not replaced, forced or not", async () => {
    mkdirSync(path("thesis"));
    writeFileSync(path("thesis/chapter"), "");
    const write = writeDataset(path("thesis"), FIELDS.slice(0, 1), [{ input_ids: [[9]] }], { force: true });
    await expect(write).rejects.toThrow(/thesis" is a folder this command did not write; remove it by hand/);
    expect(readdirSync(path("thesis"))).toEqual(["chapter"]);
  });
});

describe("damaged folders", () => {
  const shard = "data-00000-of-00002.arrow";
  const state = (folder: string, change: object) =>
    writeFileSync(`${folder}/state.json`, JSON.stringify({ ...JSON.parse(readFileSync(`${folder}/state.json`, "utf8")), ...change }));
  test.each([
    ["no folder", (folder: string) => rmSync(folder, { recursive: true }), /does not exist; check the path/],
    ["no state.json", (folder: string) => rmSync(`${folder}/state.json`), /has no state.json/],
    ["a shard gone", (folder: string) => rmSync(`${folder}/${shard}`), /lacks its shard "data-00000-of-00002.arrow" \(2 in state.json\)/],
    [
      "a shard elsewhere",
      (folder: string) => state(folder, { _data_files: [{ filename: "../secret.arrow" }] }),
      /"\.\.\/secret.arrow" outside the folder/,
    ],
    ["no shards", (folder: string) => state(folder, { _data_files: [] }), /names no data files/],
    [
      "a selection",
      (folder: string) => state(folder, { _indices_data_files: [{ filename: "i" }] }),
      /selection by indices; save it with flatten_indices/,
    ],
    [
      "a DatasetDict",
      (folder: string) => writeFileSync(`${folder}/dataset_dict.json`, "{}"),
      /is a DatasetDict; name the folder of one split/,
    ],
    ["an empty shard", (folder: string) => writeFileSync(`${folder}/${shard}`, ""), /without its end mark; it is truncated/],
    ["no arrow", (folder: string) => writeFileSync(`${folder}/${shard}`, "version https://git-lfs.github.com"), /no message at byte 0/],
    ["half a state", (folder: string) => truncateSync(`${folder}/state.json`, 20), /state.json" is not JSON/],
  ])("%s", async (name, damage, message) => {
    const folder = await small(`${name}.dataset`);
    damage(folder);
    await expect(readDataset(folder)).rejects.toThrow(message);
  });

  test("a shard cut anywhere is an error of ours", async () => {
    const folder = await small("cut.dataset");
    const whole = readFileSync(`${folder}/${shard}`);
    for (let length = 0; length < whole.length; length += 4) {
      writeFileSync(`${folder}/${shard}`, whole.subarray(0, length));
      await expect(readDataset(folder)).rejects.toThrow(/^dataset: .*truncated/);
    }
  });

  test("a shard with any one byte changed is read or refused by us, and never read as the same", async () => {
    const folder = await small("noise.dataset");
    const whole = readFileSync(`${folder}/${shard}`);
    const { fingerprint } = await readDataset(folder);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 1 }), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bytes = Uint8Array.from(whole);
        bytes[at]! ^= flip;
        writeFileSync(`${folder}/${shard}`, bytes);
        const result = await readDataset(folder).catch((error: Error) => error.message);
        expect(typeof result === "string" ? result : `dataset: ${result.fingerprint}`).toMatch(/^dataset: /);
        if (typeof result !== "string" && at < whole.length - 8) expect(result.fingerprint).not.toBe(fingerprint);
      }),
      { numRuns: 200 },
    );
  });

  test.each([
    ["no input_ids", [{ name: "tokens", dtype: "int32", list: true }], { tokens: [[1]] }, /has no column "input_ids"; it has tokens/],
    ["a negative token", [{ name: "input_ids", dtype: "int32", list: true }], { input_ids: [[1, -2]] }, /holds -2 in input_ids/],
    ["half a token", [{ name: "input_ids", dtype: "float64", list: true }], { input_ids: [[1.5]] }, /holds 1.5 in input_ids/],
    ["a token of 2^31", [{ name: "input_ids", dtype: "int64", list: true }], { input_ids: [[2 ** 31]] }, /holds 2147483648 in input_ids/],
    ["a missing cell", [{ name: "input_ids", dtype: "int32", list: true }], { input_ids: [[1], null] }, /missing values in rows 0\.\.\.1/],
    ["text", [{ name: "input_ids", dtype: "string" }], { input_ids: ["1 2"] }, /holds no lists of numbers/],
    ["plain numbers", [{ name: "input_ids", dtype: "int32" }], { input_ids: [1] }, /holds no lists of numbers/],
  ] as [string, Field[], Record<string, Cell[]>, RegExp][])("%s", async (name, fields, rows, message) => {
    await expect(readDataset(await small(`${name}.dataset`, fields, [rows]))).rejects.toThrow(message);
  });

  test("shards of two datasets", async () => {
    const folder = await small("mixed.dataset");
    const other = await small("mixed-other.dataset", [{ name: "input_ids", dtype: "int32" }], [{ input_ids: [1] }]);
    renameSync(`${other}/data-00000-of-00001.arrow`, `${folder}/data-00001-of-00002.arrow`);
    await expect(readDataset(folder)).rejects.toThrow(/shard 1 has other columns than shard 0/);
  });

  test("a list read as a plain column, and a column that is not there", async () => {
    const dataset = await readDataset(await small("ask.dataset"));
    expect(() => dataset.column("input_ids")).toThrow(/holds lists; read it with numbers/);
    expect(() => dataset.column("louvain")).toThrow(/has no column "louvain"; it has input_ids/);
  });
});

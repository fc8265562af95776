/** Dictionaries: read from pickles and from JSON, written, and refused where they do not fit together. */

import { mkdirSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hasVocabulary, makeVocabulary, nameOf, type Parts, readVocabulary, writeVocabulary } from "../../../geneformer/data/vocabulary.ts";
import { scratch } from "./scratch.ts";

const path = scratch();

const V1: Parts = {
  tokens: new Map([
    ["<pad>", 0],
    ["<mask>", 1],
    ["ENSG01", 2],
    ["ENSG02", 3],
  ]),
  medians: new Map([
    ["ENSG01", 0.5],
    ["ENSG02", 2],
  ]),
  mapping: new Map([
    ["ENSG01", "ENSG01"],
    ["ENSG02", "ENSG02"],
    ["TTN", "ENSG02"],
  ]),
  names: new Map([["ENSG02", "TTN"]]),
};
const withTokens = (...more: [string, number][]): Parts => ({ ...V1, tokens: new Map([...V1.tokens, ...more]) });

/** A protocol-0 pickle of a dict of strings to strings or numbers. */
function pickled(entries: Iterable<[string, string | number]>): string {
  const items = [...entries].map(([key, value]) => `V${key}\n${typeof value === "string" ? `V${value}\n` : `F${value}\n`}s`);
  return `(d${items.join("")}.`;
}

function folder(name: string, files: Record<string, string>): string {
  mkdirSync(path(name));
  for (const [file, content] of Object.entries(files)) writeFileSync(path(`${name}/${file}`), content);
  return path(name);
}

describe("made", () => {
  test("version and size follow the special tokens and the largest token", () => {
    expect(makeVocabulary(V1)).toMatchObject({ modelVersion: "V1", size: 4 });
    const v2 = makeVocabulary(withTokens(["<cls>", 7], ["<eos>", 9]));
    expect(v2).toMatchObject({ modelVersion: "V2", size: 10 });
    expect([nameOf(v2, "ENSG02"), nameOf(v2, "ENSG01")]).toEqual(["TTN", "ENSG01"]);
  });

  test("without a mapping every gene is its own", () => {
    expect([...makeVocabulary({ ...V1, mapping: new Map() }).mapping]).toEqual([
      ["ENSG01", "ENSG01"],
      ["ENSG02", "ENSG02"],
    ]);
  });

  test.each([
    ["a token twice", withTokens(["<cls>", 3], ["<eos>", 5]), /"<cls>" and "ENSG02" share token 3/],
    ["a negative token", withTokens(["<cls>", -1], ["<eos>", 5]), /token of "<cls>" is -1/],
    ["half a token", withTokens(["<cls>", 4.5], ["<eos>", 5]), /is 4.5; a token is a whole number/],
    ["no <eos>", withTokens(["<cls>", 4]), /one of "<cls>" and "<eos>" is missing/],
    ["a gene without median", withTokens(["ENSG03", 4]), /gene ENSG03 has median none/],
    ["a median of 0", { ...V1, medians: new Map([...V1.medians, ["ENSG01", 0]]) }, /gene ENSG01 has median 0/],
    ["a median of NaN", { ...V1, medians: new Map([...V1.medians, ["ENSG01", NaN]]) }, /has median NaN/],
    ["no <pad>", { ...V1, tokens: new Map([["<mask>", 1]]) }, /"<pad>" is missing; it must be token 0/],
    ["<pad> elsewhere", { ...V1, tokens: new Map([["<pad>", 5]]) }, /"<pad>" is 5; it must be token 0/],
    ["a name of a special token", { ...V1, mapping: new Map([["TTN", "<mask>"]]) }, /"TTN" is mapped to "<mask>"; that is no gene/],
    ["no <mask>", { ...V1, tokens: new Map([["<pad>", 0]]) }, /"<mask>" is missing/],
  ] as [string, Parts, RegExp][])("%s is refused", (_, parts, message) => {
    expect(() => makeVocabulary(parts)).toThrow(message);
  });
});

describe("in folders", () => {
  const upstream = (suffix: string, format: (entries: Iterable<[string, string | number]>) => string) => ({
    [`token_dictionary_gc30M.${suffix}`]: format(V1.tokens),
    [`gene_median_dictionary_gc30M.${suffix}`]: format(V1.medians),
    [`ensembl_mapping_dict_gc30M.${suffix}`]: format(V1.mapping),
    [`gene_name_id_dict_gc30M.${suffix}`]: format([["TTN", "ENSG02"]]), // the other way round in the original
  });
  const json = (entries: Iterable<[string, string | number]>) => JSON.stringify(Object.fromEntries(entries));

  test("the original's pickles, the same as .json, and ours are one vocabulary", async () => {
    const expected = makeVocabulary(V1);
    expect(await readVocabulary(folder("pkl", upstream("pkl", pickled)))).toEqual(expected);
    expect(await readVocabulary(folder("json", upstream("json", json)))).toEqual(expected);
    await writeVocabulary(expected, path("ours"));
    expect(await readVocabulary(path("ours"))).toEqual(expected);
    expect([await hasVocabulary(path("ours")), await hasVocabulary(path("pkl")), await hasVocabulary(path("none"))]).toEqual([
      true,
      true,
      false,
    ]);
  });

  test("any vocabulary survives being written", async () => {
    const id = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 });
    const genes = fc.uniqueArray(id, { maxLength: 20 }).map((words) => words.filter((word) => !word.startsWith("<")));
    await fc.assert(
      fc.asyncProperty(genes, fc.boolean(), fc.double({ min: 1e-9, max: 1e9, noNaN: true }), async (genes, v2, median) => {
        const words = ["<pad>", "<mask>", ...(v2 ? ["<cls>", "<eos>"] : []), ...genes];
        const vocabulary = makeVocabulary({
          tokens: new Map(words.map((word, i) => [word, i])),
          medians: new Map(genes.map((gene) => [gene, median])),
          mapping: new Map(genes.map((gene) => [gene.toUpperCase(), gene])),
          names: new Map(genes.map((gene) => [gene, `${gene}'s name`])),
        });
        await writeVocabulary(vocabulary, path("any"));
        expect(await readVocabulary(path("any"))).toEqual(vocabulary);
      }),
      { numRuns: 30 },
    );
  });

  test.each([
    ["empty", {}, /has neither vocabulary.json nor token_dictionary\*/],
    [
      "two",
      { ...upstream("pkl", pickled), "token_dictionary_gc104M.pkl": "" },
      /holds token_dictionary_gc104M.pkl and token_dictionary_gc30M.pkl; leave one/,
    ],
    [
      "evil",
      { ...upstream("pkl", pickled), "token_dictionary_gc30M.pkl": "cposix\nsystem\n(S'echo'\ntR." },
      /token_dictionary_gc30M.pkl": pickle: refuses posix.system/,
    ],
    [
      "text",
      { ...upstream("json", json), "gene_median_dictionary_gc30M.json": '{"ENSG01":"0.5"}' },
      /median of "ENSG01" is "0.5", not a number/,
    ],
    [
      "big",
      { ...upstream("pkl", pickled), "gene_median_dictionary_gc30M.pkl": "(dVENSG01\nL99999999999999999999L\ns." },
      /median of "ENSG01" is of type bigint, not a number/,
    ],
    [
      "circular",
      { ...upstream("pkl", pickled), "gene_median_dictionary_gc30M.pkl": "(dVENSG01\n(lp0\ng0\nas." },
      /median of "ENSG01" is of type object, not a number/,
    ],
    ["null", { ...upstream("json", json), "gene_median_dictionary_gc30M.json": '{"ENSG01":null}' }, /"ENSG01" is null, not a number/],
    ["list", { "vocabulary.json": "[]" }, /is no JSON object/],
    ["part", { "vocabulary.json": '{"tokens":{}}' }, /has no "medians"/],
    [
      "lfs",
      { ...upstream("pkl", pickled), "token_dictionary_gc30M.pkl": "version https://git-lfs.github.com/spec/v1\n" },
      /pickle: refuses opcode 0x76/,
    ],
  ] as [string, Record<string, string>, RegExp][])("%s is refused", async (name, files, message) => {
    await expect(readVocabulary(folder(`refused-${name}`, files))).rejects.toThrow(message);
  });
});

/** Genes by any of their names, and the nearest name of one that is not there. */

import { describe, expect, test } from "vitest";
import { namesOf, tokensOf } from "../../../geneformer/data/names.ts";
import { makeVocabulary } from "../../../geneformer/data/vocabulary.ts";

const ids = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"];
const vocabulary = makeVocabulary({
  tokens: new Map(["<pad>", "<mask>", ...ids].map((word, token) => [word, token])),
  medians: new Map(ids.map((id) => [id, 1])),
  mapping: new Map([
    ...ids.map((id): [string, string] => [id, id]),
    ["OLDNAME", ids[1]],
    ["ENSG00000000099", ids[2]],
    ["GONE", "ENSG00000000098"],
  ]),
  names: new Map([
    [ids[0], "GATA4"],
    [ids[1], "Tbx5"],
    ["ENSG00000000098", "GATA5"],
  ]),
});

test("by id, symbol of any case, synonym and old id", () => {
  expect(tokensOf(vocabulary, [ids[0], "gata4", "TBX5", "oldname", "ENSG00000000099"])).toEqual([2, 2, 3, 3, 4]);
});

describe("unknown genes are named", () => {
  test.each([
    [["GATA6"], '"GATA6" (nearest: GATA4)'],
    [["TBX50", "GATA4"], '"TBX50" (nearest: Tbx5)'],
    [["gone"], '"gone"'], // it maps to a gene without a token, and so does GATA5
    [["WHATEVERTHATIS", "GTA4"], '"WHATEVERTHATIS", "GTA4" (nearest: GATA4)'],
    [["ENSG00000000009"], '"ENSG00000000009"'],
    [["<pad>"], '"<pad>"'],
  ])("%j", (genes, named) => {
    expect(() => tokensOf(vocabulary, genes)).toThrow(
      new RangeError(`genes: the dictionary has not ${named}; give Ensembl ids or symbols that it has`),
    );
  });
});

test("a token's names, where it has any", () => {
  const names = namesOf(vocabulary);
  expect([2, 3, 4, 9].map((token) => [names.id(token), names.symbol(token)])).toEqual([
    [ids[0], "GATA4"],
    [ids[1], "Tbx5"],
    [ids[2], null],
    [null, null],
  ]);
  expect(namesOf(null).id(2)).toBeNull();
});

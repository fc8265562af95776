/** Rank value encoding: its laws on random cells, its choices on chosen ones, and the sentences it refuses with. */

import { readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readDataset } from "../../../geneformer/data/dataset.ts";
import { buildDictionary } from "../../../geneformer/data/dictionary.ts";
import { writeCells } from "../../../geneformer/data/h5ad.ts";
import type { Columns, Values } from "../../../geneformer/data/h5write.ts";
import { enclose, matchGenes, type Ranked, ranker, type TokenizeOptions, tokenize } from "../../../geneformer/data/tokenizer.ts";
import { makeVocabulary, type Vocabulary } from "../../../geneformer/data/vocabulary.ts";
import { scratch } from "./scratch.ts";

const path = scratch();
const ENSG = (i: number) => `ENSG${String(i).padStart(11, "0")}`;

/** Genes 0...7 with the medians given, twice the same among them; gene 0 is also known by a symbol and an old id. */
const MEDIANS = [1, 2, 0.5, 2, 4, 1, 8, 0.25];
function vocabularyOf(modelVersion: "V1" | "V2"): Vocabulary {
  const genes = MEDIANS.map((_, i) => ENSG(i));
  const special = modelVersion === "V1" ? ["<pad>", "<mask>"] : ["<pad>", "<mask>", "<cls>", "<eos>"];
  return makeVocabulary({
    tokens: new Map([...special, ...genes].map((word, token) => [word, token])),
    medians: new Map(genes.map((gene, i) => [gene, MEDIANS[i]!])),
    mapping: new Map([...genes.map((gene): [string, string] => [gene, gene]), ["TTN", ENSG(0)], [ENSG(900), ENSG(0)], ["LOST", ENSG(99)]]),
    names: new Map([[ENSG(0), "TTN"]]),
  });
}
const [V1, V2] = [vocabularyOf("V1"), vocabularyOf("V2")];

/** Ranks one dense cell; its total is the sum of the counts unless given. */
function rank(ids: readonly string[], counts: readonly number[], total = counts.reduce((a, b) => a + b, 0), single = false): Ranked {
  return ranker(matchGenes(ids, V1), single)({ indices: counts.map((_, i) => i), data: counts, start: 0, end: counts.length, total });
}

const cell = fc
  .array(fc.nat({ max: 60 }), { minLength: MEDIANS.length, maxLength: MEDIANS.length })
  .filter((counts) => counts.some((x) => x > 0));
const ids = MEDIANS.map((_, i) => ENSG(i));

describe("the ranking", () => {
  test("is by x / total * 10,000 / median, descending, ties in order of token, zeros left out", () => {
    fc.assert(
      fc.property(cell, fc.integer({ min: 1, max: 1e6 }), (counts, total) => {
        const { tokens, scores, counts: normalised } = rank(ids, counts, total);
        const expected = counts
          .map((x, i) => ({ token: i + 2, score: ((x / total) * 10_000) / MEDIANS[i]!, count: (x / total) * 10_000 }))
          .filter(({ score }) => score > 0)
          .sort((a, b) => b.score - a.score || a.token - b.token);
        expect([...tokens]).toEqual(expected.map(({ token }) => token));
        expect([...scores]).toEqual(expected.map(({ score }) => score));
        expect([...normalised]).toEqual(expected.map(({ count }) => count));
      }),
    );
  });

  test("does not depend on the order of the genes in the file", () => {
    const order = fc.shuffledSubarray(
      ids.map((_, i) => i),
      { minLength: ids.length },
    );
    fc.assert(
      fc.property(cell, order, (counts, order) => {
        const moved = rank(
          order.map((i) => ids[i]!),
          order.map((i) => counts[i]!),
        );
        expect(moved).toEqual(rank(ids, counts));
      }),
    );
  });

  test("does not change when a cell is sequenced twice, four or eight times as deep", () => {
    fc.assert(
      fc.property(cell, fc.constantFrom(2, 4, 8), (counts, depth) => {
        expect(
          rank(
            ids,
            counts.map((x) => depth * x),
          ),
        ).toEqual(rank(ids, counts));
      }),
    );
  });

  test("does not mind unknown genes, but for the total", () => {
    const counts = [3, 0, 1, 0, 7, 0, 0, 2];
    expect(rank(["LOST", "nothing", ...ids], [50, 9, ...counts], 13)).toEqual(rank(ids, counts));
    expect([...rank(ids, counts, 26).scores]).toEqual([...rank(ids, counts).scores].map((score) => score / 2));
  });

  test("leaves nothing behind from cell to cell", () => {
    const genes = matchGenes(ids, V1);
    const one = ranker(genes);
    const run = (counts: number[]) => one({ indices: counts.map((_, i) => i), data: counts, start: 0, end: counts.length, total: 10 });
    const first = run([1, 2, 3, 4, 0, 0, 0, 0]);
    run([0, 5, 0, 0, 6, 7, 8, 9]);
    expect(run([1, 2, 3, 4, 0, 0, 0, 0])).toEqual(first);
  });

  test("an entry stored twice in a row counts as its sum", () => {
    const given = { indices: [1, 0, 1], data: [2, 5, 3], start: 0, end: 3, total: 10 };
    expect(ranker(matchGenes(ids, V1))(given)).toEqual(
      ranker(matchGenes(ids, V1))({ indices: [0, 1], data: [5, 5], start: 0, end: 2, total: 10 }),
    );
  });

  test("32-bit counts and totals round their quotient to 32 bits, as the original does", () => {
    const [score] = rank([ENSG(1)], [1], 3, true).scores;
    expect(score).toBe((Math.fround(1 / 3) * 10_000) / 2);
    expect(score).not.toBe(rank([ENSG(1)], [1], 3).scores[0]);
  });
});

describe("gene ids", () => {
  test("go through the mapping, upper-cased; what leads to no token is unknown", () => {
    const genes = matchGenes([ENSG(3), "ttn", "LOST", "", ENSG(4).toLowerCase(), "MALAT1", `${ENSG(5)}.12`], V1);
    expect([...genes.slots]).toEqual([0, 1, -1, -1, 2, -1, -1]);
    expect([...genes.tokens]).toEqual([5, 2, 6]);
    expect(genes).toMatchObject({ known: 3, summed: 0, unknown: ["LOST", "", "MALAT1", `${ENSG(5)}.12`], versioned: 1 });
  });

  test("two ids of one gene are summed, and then a repeated id too", () => {
    const both = [ENSG(0), ENSG(900), ENSG(1), ENSG(1)];
    expect(matchGenes(both, V1)).toMatchObject({ known: 4, summed: 2 });
    expect([...rank(both, [1, 2, 3, 4]).tokens]).toEqual([3, 2]); // 7 / 2 above 3 / 1
  });

  test("a repeated id alone gives its token twice, as the original does", () => {
    const twice = [ENSG(0), ENSG(1), ENSG(0)];
    expect([...rank(twice, [5, 4, 1]).tokens]).toEqual([2, 3, 2]);
  });
});

test("special tokens: V1 has none, V2 keeps two places for them", () => {
  const tokens = Int32Array.of(9, 8, 7, 6, 5);
  expect(enclose(tokens, V1, 3)).toEqual(Int32Array.of(9, 8, 7));
  expect(enclose(tokens, V2, 5)).toEqual(Int32Array.of(2, 9, 8, 7, 3));
  expect(enclose(tokens, V2)).toEqual(Int32Array.of(2, 9, 8, 7, 6, 5, 3));
  expect(enclose(new Int32Array(5000), V1)).toHaveLength(2048);
  expect(enclose(new Int32Array(5000), V2)).toHaveLength(4096);
});

interface Made {
  X?: number[][];
  obs?: [string, Values][];
  ids?: readonly string[];
  columns?: Columns;
}

/** A file of dense rows; var's index is g0, g1, ... and its ensembl_id the ids, unless columns are given. */
async function file(
  name: string,
  { X = [[1, 2, 3]], obs = [], ids: genes = ids.slice(0, X[0]!.length), columns }: Made = {},
): Promise<string> {
  const width = X[0]!.length;
  await writeCells(path(name), {
    X: {
      indptr: X.map((_, i) => i * width).concat(X.length * width),
      indices: Int32Array.from(X.flatMap((row) => row.map((_, gene) => gene))),
      data: Float32Array.from(X.flat()),
    },
    obs: { index: X.map((_, i) => `cell-${i}`), columns: new Map(obs) },
    var: columns ? { index: genes, columns } : { index: genes.map((_, i) => `g${i}`), columns: new Map([["ensembl_id", genes]]) },
  });
  return path(name);
}
let outputs = 0;
const run = async (input: string | string[], options: Partial<TokenizeOptions> = {}) => {
  const out = path(`out-${outputs++}.dataset`);
  const report = await tokenize({ inputs: [input].flat(), vocabulary: V2, out, ...options });
  return { report, dataset: await readDataset(out) };
};

describe("files", () => {
  test("several are one dataset, with attributes, counts and the dictionary", async () => {
    const first = await file("first.h5ad", {
      X: [
        [1, 2, 0],
        [0, 0, 0],
      ],
      obs: [
        ["type", ["B", "T"]],
        ["age", Int32Array.of(40, 50)],
      ],
    });
    const second = await file("second.h5ad", {
      X: [[0, 0, 4]],
      obs: [
        ["type", ["NK"]],
        ["age", Float64Array.of(0.5)],
      ],
    });
    const attributes = new Map([
      ["type", "cell_type"],
      ["age", "age"],
    ]);
    const seen: [number, number][] = [];
    const onProgress = (done: number, total: number) => void seen.push([done, total]);
    const { report, dataset } = await run([first, second], { attributes, keepCounts: true, onProgress });
    expect(dataset.columns).toEqual(["input_ids", "counts", "cell_type", "age", "length"]);
    expect([0, 1].map((i) => [...dataset.tokens(i)])).toEqual([
      [2, 4, 5, 3],
      [2, 6, 3],
    ]);
    expect([...dataset.numbers("counts", 0)]).toEqual([0, (1 / 3) * 10_000, (2 / 3) * 10_000, 0]);
    expect([dataset.column("cell_type"), dataset.column("age"), dataset.column("length")]).toEqual([
      ["B", "NK"],
      [40, 0.5],
      [4, 3],
    ]);
    expect(report).toMatchObject({
      cells: 3,
      written: 2,
      empty: 1,
      filtered: 0,
      tokens: 7,
      truncated: 0,
      fingerprint: dataset.fingerprint,
    });
    expect(report.files.map(({ totalsFrom, idsFrom, known }) => [totalsFrom, idsFrom, known])).toEqual([
      ["row totals", "var.ensembl_id", 3],
      ["row totals", "var.ensembl_id", 3],
    ]);
    expect(report.warnings).toEqual(["1 of 3 cells have no known gene and were dropped"]);
    expect(seen).toEqual([
      [2, 3],
      [3, 3],
    ]);
    expect((await dataset.vocabulary())?.tokens).toEqual(V2.tokens);
  });

  test("a total in obs is used and may exceed the row; one below it is told", async () => {
    const obs = (total: number): [string, Values][] => [["n_counts", Float64Array.of(total)]];
    const counts = async (total: number) => {
      const { report, dataset } = await run(await file("totals.h5ad", { obs: obs(total) }), { keepCounts: true });
      expect(report.files[0]!.totalsFrom).toBe("obs.n_counts");
      return { first: dataset.numbers("counts", 0)[1], warnings: report.warnings };
    };
    expect(await counts(60)).toEqual({ first: 500, warnings: [] });
    expect((await counts(2)).warnings).toEqual([expect.stringMatching(/n_counts"\] is below the sum of the counts in 1 of 1 cells/)]);
  });

  test("cells are filtered by filter_pass and by columns", async () => {
    const obs: [string, Values][] = [
      ["filter_pass", Int32Array.of(1, 0, 1, 1)],
      ["type", ["B", "B", "T", "NK"]],
    ];
    const input = await file("filtered.h5ad", { X: [[1], [2], [3], [4]], obs });
    const { report, dataset } = await run(input, { filters: new Map([["type", ["B", "NK"]]]), attributes: new Map([["type", "type"]]) });
    expect(dataset.column("type")).toEqual(["B", "NK"]);
    expect(report).toMatchObject({ cells: 4, written: 2, filtered: 2 });
    await expect(run(input, { filters: new Map([["type", ["Mono"]]]) })).rejects.toThrow(/no cell is left: 4 of 4 were filtered out/);
  });

  test("ids may be the index, when asked or when it looks like them", async () => {
    const columns: Columns = new Map([["gene_symbol", ["A", "B", "C"]]]);
    const { report } = await run(await file("by-index.h5ad", { columns }));
    expect(report.files[0]!.idsFrom).toBe("var index");
    const symbols = await file("symbols.h5ad", { ids: ["TTN", "B", "C"], columns });
    expect((await run(symbols, { useIndex: true })).report.files[0]!.known).toBe(1);
  });

  test("V1 is int16 without special tokens; a long cell is cut and counted", async () => {
    const { report, dataset } = await run(await file("long.h5ad", { X: [[1, 2, 3, 4, 5, 6, 7, 8]] }), {
      vocabulary: V1,
      modelInputSize: 3,
    });
    expect([...dataset.tokens(0)]).toEqual([9, 4, 7]);
    expect(report.truncated).toBe(1);
  });

  test("counts that are no whole numbers are told and taken", async () => {
    const { report } = await run(await file("soupx.h5ad", { X: [[0.5, 250.25, 3]] }));
    expect(report.warnings).toEqual([expect.stringMatching(/2 of 3 counts are no whole numbers/)]);
  });

  test("ids known but for their version are told", async () => {
    const { report } = await run(await file("versions.h5ad", { ids: [ENSG(0), `${ENSG(1)}.15`, `${ENSG(2)}.3`] }));
    expect(report.warnings).toEqual([expect.stringMatching(/2 ids are unknown only for their version \(.15\); remove it/)]);
    await expect(run(await file("all-versions.h5ad", { ids: [0, 1, 2].map((i) => `${ENSG(i)}.1`) }))).rejects.toThrow(
      /no gene is known.*remove the versions/,
    );
  });
});

describe("refused, in one sentence, with nothing left behind", () => {
  const log = (x: number) => Math.log1p(x);
  const attributes = new Map([["louvain", "cell_type"]]);
  test.each([
    [
      "no ensembl_id",
      { ids: ["TTN", "B", "C"], columns: new Map() },
      {},
      /no ensembl_id in var, and its index is not made of Ensembl ids \("TTN", \.\.\.\); add/,
    ],
    [
      "ids under another name",
      { ids: ["TTN", "B", "C"], columns: new Map([["gene_ids", ids.slice(0, 3)]]) },
      {},
      /rename var\["gene_ids"\]/,
    ],
    [
      "no known gene",
      { ids: ["ENSMUSG00000000001", "ENSMUSG00000000028", "x"] },
      {},
      /no gene is known: none of the 3 ids in var.ensembl_id \("ENSMUSG00000000001"/,
    ],
    [
      "a negative count",
      {
        X: [
          [1, 2],
          [3, -0.25],
        ],
      },
      {},
      /counts\[1\] \(gene "ENSG00000000001"\) is -0.25 in cell "cell-1"; counts must be raw UMI counts \(this file looks scaled/,
    ],
    ["NaN", { X: [[1, NaN]] }, {}, /counts\[1\] \(gene "ENSG00000000001"\) is NaN in cell "cell-0"/],
    ["infinity", { X: [[Infinity, 1]] }, {}, /counts\[0\] \(gene "ENSG00000000000"\) is Infinity in cell "cell-0"/],
    [
      "log-normalised counts",
      { X: [[log(3.5), log(7), 0, log(1e4)]] },
      {},
      /100 % of the values.*the largest is 9.210: this file looks log-normalised/,
    ],
    ["a total of 0", { obs: [["n_counts", Float64Array.of(0)]] }, {}, /obs\["n_counts"\] is 0 in cell "cell-0"/],
    ["a missing total", { obs: [["n_counts", Float64Array.of(NaN)]] }, {}, /obs\["n_counts"\] is NaN in cell "cell-0"/],
    ["totals that are text", { obs: [["n_counts", ["6"]]] }, {}, /obs\["n_counts"\] holds string values/],
    ["an attribute that is not there", { obs: [["type", ["B"]]] }, { attributes }, /obs has no column "louvain"; it has type/],
    ["a filter that is not there", {}, { filters: new Map([["type", ["B"]]]) }, /obs has no column "type"; it has none/],
    ["an attribute named length", { obs: [["a", ["B"]]] }, { attributes: new Map([["a", "length"]]) }, /may not be named "length"/],
    [
      "two attributes of one name",
      {},
      {
        attributes: new Map([
          ["a", "x"],
          ["b", "x"],
        ]),
      },
      /two attributes have one name/,
    ],
    ["the other version", {}, { modelVersion: "V1" }, /model version V1 but the dictionary is of V2/],
    ["too few places", {}, { modelInputSize: 2 }, /model input size is 2/],
    ["no input", {}, { inputs: [] }, /no input; name at least one/],
    ["only empty cells", { X: [[0, 0]] }, {}, /no cell is left: 0 of 1 were filtered out, 1 have no known gene/],
  ] as [string, Made, Partial<TokenizeOptions>, RegExp][])("%s", async (name, made, options, message) => {
    await expect(run(await file(`refused ${name}.h5ad`, made), options)).rejects.toThrow(message);
    expect(readdirSync(path(".")).filter((entry) => entry.includes(`out-${outputs - 1}.`))).toEqual([]);
  });

  test("a column that is text in one file and a number in another", async () => {
    const text = await file("text.h5ad", { obs: [["a", ["B"]]] });
    const number = await file("number.h5ad", { obs: [["a", Int32Array.of(1)]] });
    await expect(run([text, number], { attributes: new Map([["a", "a"]]) })).rejects.toThrow(/obs\["a"\] is int64 in .* but string before/);
  });

  test("a second file that turns out bad after the first was tokenized", async () => {
    const inputs = [await file("good.h5ad"), await file("bad.h5ad", { X: [[1, -1]] })];
    await expect(run(inputs)).rejects.toThrow(/is -1 in cell "cell-0"/);
    expect(readdirSync(path(".")).filter((entry) => entry.includes(`out-${outputs - 1}.`))).toEqual([]);
  });
});

describe("a dictionary of a corpus", () => {
  const X = [
    [3, 4, 13, 0],
    [1, 0, 9, 0],
    [0, 10, 10, 0],
  ];
  test("medians are of the non-zero counts per 10,000, tokens in order of id, undetected genes left out", async () => {
    const genes = [ENSG(5), ENSG(2), ENSG(9), ENSG(1)];
    const columns: Columns = new Map([
      ["ensembl_id", genes],
      ["gene_symbol", ["e", "b", "", "a"]],
    ]);
    const input = await file("corpus.h5ad", { X, ids: ["g0", "g1", "g2", "g3"], columns });
    const vocabulary = await buildDictionary({ inputs: [input], modelVersion: "V2" });
    expect([...vocabulary.tokens.keys()]).toEqual(["<pad>", "<mask>", "<cls>", "<eos>", ENSG(2), ENSG(5), ENSG(9)]);
    expect([...vocabulary.medians]).toEqual([
      [ENSG(2), 3500], // of 2,000 and 5,000
      [ENSG(5), 1250], // of 1,000 and 1,500
      [ENSG(9), 6500], // of 9,000, 6,500 and 5,000
    ]);
    expect(vocabulary.mapping.get("B")).toBe(ENSG(2));
    expect([...vocabulary.names]).toEqual([
      [ENSG(5), "e"],
      [ENSG(2), "b"],
    ]);
    expect((await buildDictionary({ inputs: [input], modelVersion: "V1" })).size).toBe(5);
  });

  test("is the same with a budget so small that the corpus is read once per gene, and from two files", async () => {
    const genes = ids.slice(0, 4);
    const [whole, top, rest] = [
      await file("w.h5ad", { X, ids: genes }),
      await file("t.h5ad", { X: X.slice(0, 1), ids: genes }),
      await file("r.h5ad", { X: X.slice(1), ids: genes }),
    ];
    const expected = await buildDictionary({ inputs: [whole], modelVersion: "V2" });
    const progress: number[] = [];
    const onProgress = (done: number, total: number) => void progress.push(done / total);
    expect(await buildDictionary({ inputs: [top, rest], modelVersion: "V2", budget: 1, onProgress })).toEqual(expected);
    expect(progress.at(-1)).toBe(1);
  });

  test("fits its own corpus where ids hold lower case, unless two differ in nothing else", async () => {
    const genes = ["FBgn0000008", "Gata1", "Abc", "aBC", "ttn"];
    const columns: Columns = new Map([
      ["ensembl_id", genes],
      ["gene_symbol", ["a", "ttn", "", "", ""]],
    ]);
    const input = await file("fly.h5ad", { X: [[5, 4, 3, 2, 1]], ids: genes, columns });
    const vocabulary = await buildDictionary({ inputs: [input], modelVersion: "V1" });
    expect(["GATA1", "TTN", "ABC"].map((name) => vocabulary.mapping.get(name))).toEqual(["Gata1", "ttn", undefined]); // an id before a symbol
    const { report, dataset } = await run(input, { vocabulary });
    expect(report.files[0]!.known).toBe(3);
    expect([...dataset.tokens(0)].sort()).toEqual(["FBgn0000008", "Gata1", "ttn"].map((id) => vocabulary.tokens.get(id)).sort());
  });

  test("can be stopped between its chunks", async () => {
    const input = await file("many.h5ad", { X: new Array<number[]>(3500).fill([1]) });
    const stop = new AbortController();
    const seen: number[] = [];
    const onProgress = (done: number) => {
      if (seen.length === 0) setTimeout(() => stop.abort(new Error("stopped"))); // as a signal comes: by the event loop
      stop.signal.throwIfAborted();
      seen.push(done);
    };
    await expect(buildDictionary({ inputs: [input], modelVersion: "V1", onProgress })).rejects.toThrow("stopped");
    expect(seen).toEqual([1000]);
  });

  test("of nothing is refused", async () => {
    await expect(buildDictionary({ inputs: [], modelVersion: "V1" })).rejects.toThrow(/no input/);
    await expect(buildDictionary({ inputs: [await file("zeros.h5ad", { X: [[0, 0]] })], modelVersion: "V1" })).rejects.toThrow(
      /no gene with an id is detected/,
    );
    const negative = await file("negative.h5ad", { X: [[1, -2]] });
    await expect(buildDictionary({ inputs: [negative], modelVersion: "V1" })).rejects.toThrow(/is -2 in cell "cell-0"/);
  });

  test("makes cells that it then tokenizes", async () => {
    const input = await file("self.h5ad", { X });
    const { dataset } = await run(input, { vocabulary: await buildDictionary({ inputs: [input], modelVersion: "V1" }) });
    expect(dataset.length).toBe(3);
  });
});

/** `geneformer embed`: the table it writes, and cells and models that do not belong together. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { readModel, writeModel } from "../../../geneformer/checkpoint.ts";
import { writeVocabulary } from "../../../geneformer/data/vocabulary.ts";
import { embed } from "../../../geneformer/embed.ts";
import { Geneformer } from "../../../geneformer/model.ts";
import { freeParameters } from "../../../nn/module.ts";
import { writeSafetensors } from "../../../nn/safetensors.ts";
import { Key } from "../../../src/key.ts";
import { scratch } from "../data/scratch.ts";
import { onCpu, toyCells, toyConfig, V1, V2, vocabularyOf, writeRandomModel, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const [dataset, model] = [path("cells.dataset"), path("model")];
const cells = toyCells(12);
const width = toyConfig.width;
beforeAll(async () => {
  await writeToy(dataset, cells);
  await writeRandomModel(model);
});
const args = (out: string, ...more: string[]) => ["embed", dataset, "--model", model, "--device", "cpu", "--out", path(out), ...more];
const rowsOf = (out: string) =>
  readFileSync(path(out), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.split(","));

test("a row for each cell, the longest first, its vector and its labels", async () => {
  const report = await results(args("all.csv", "--label", "number", "--vote", "type"));
  expect(report).toMatchObject({ out: path("all.csv"), cells: 12, width, mode: "cls", layer: -1, vote: { cells: 12, majority: 0.5 } });
  const [header, ...rows] = rowsOf("all.csv");
  expect(header).toEqual(["", ...Array.from({ length: width }, (_, i) => String(i)), "number"]);
  expect(rows.map(([index]) => index)).toEqual(rows.map((_, i) => String(i)));
  const order = cells.map((_, i) => i).sort((a, b) => cells[b].length - cells[a].length || a - b);
  expect(rows.map((row) => Number(row.at(-1)))).toEqual(order);

  const ends = { cls: true, eos: true };
  const ordered = order.map((i) => cells[i]);
  const want = await onCpu(async () => embed(await readModel(model), ordered, { layer: -1, mode: "cls", ends, tokensPerBatch: 8192 }));
  expect(Float32Array.from(rows.flatMap((row) => row.slice(1, -1).map(Number)))).toEqual(want);
});

test("the order of the dataset, its first cells, another layer and mode", async () => {
  await results(
    args(
      "some.csv",
      "--order",
      "dataset",
      "--max-cells",
      "5",
      "--label",
      "number",
      "--layer",
      "0",
      "--mode",
      "cell",
      "--tokens-per-batch",
      "1",
    ),
  );
  const rows = rowsOf("some.csv").slice(1);
  expect(rows.map((row) => row.at(-1))).toEqual(["0", "1", "2", "3", "4"]);
  const ends = { cls: true, eos: true };
  const want = await onCpu(async () =>
    embed(await readModel(model), cells.slice(0, 5), { layer: 0, mode: "cell", ends, tokensPerBatch: 1 }),
  );
  expect(Float32Array.from(rows.flatMap((row) => row.slice(1, -1).map(Number)))).toEqual(want);
});

test("the first cells are the dataset's, whatever their order in the table", async () => {
  await results(args("first.csv", "--max-cells", "4", "--label", "number"));
  const rows = rowsOf("first.csv").slice(1);
  expect(rows.map((row) => row.at(-1))).toEqual(["3", "2", "1", "0"]); // each one gene longer than the one before
});

test("labels with commas and quotes are quoted; 'all' is every column but the cells'", async () => {
  await results(args("labels.csv", "--label", "all", "--order", "dataset"));
  const [header, first, second] = readFileSync(path("labels.csv"), "utf8").split("\n");
  expect(header.endsWith(",type,number")).toBe(true);
  expect(first.endsWith(",up,0")).toBe(true);
  expect(second.endsWith(',"down, or ""reverse""",1')).toBe(true);
});

test("cells without <cls> are means by default, and cannot be cls", async () => {
  const one = await writeToy(path("v1.dataset"), toyCells(6, { ends: false }), V1);
  const model = await writeRandomModel(path("v1"), V1, { ...toyConfig, vocabulary: V1.size });
  const given = ["embed", one, "--model", model, "--device", "cpu", "--out", path("v1.csv")];
  expect(await results(given)).toMatchObject({ mode: "cell" });
  expect(await sentence([...given, "--mode", "cls", "--force"])).toBe(
    "geneformer embed: these cells have no <cls> (V1 has none); use --mode cell",
  );
});

test("a model without its head is enough", async () => {
  const folder = await writeRandomModel(path("headless"));
  await onCpu(async () => {
    const whole = new Geneformer(toyConfig, Key.from(5));
    await writeModel(path("whole"), whole, null);
    freeParameters(whole);
  });
  const { readSafetensors, floats } = await import("../../../nn/safetensors.ts");
  const { tensors } = readSafetensors(readFileSync(`${folder}/model.safetensors`));
  const encoder = [...tensors]
    .filter(([name]) => name.startsWith("bert."))
    .map(([name, t]) => [name, { shape: t.shape, data: floats(t) }] as const);
  writeFileSync(`${folder}/model.safetensors`, writeSafetensors(encoder));
  await results(args("whole.csv"));
  await results(["embed", dataset, "--model", folder, "--device", "cpu", "--out", path("headless.csv")]);
  expect(readFileSync(path("headless.csv"))).toEqual(readFileSync(path("whole.csv")));
});

test("Ctrl-C leaves nothing", async () => {
  const stop = new AbortController();
  const { status, stderr } = await geneformer(args("stopped.csv"), stop.signal, (text) => {
    if (/^device/.test(text)) stop.abort();
  });
  expect(status).toBe(130);
  expect(stderr).toMatch(/geneformer embed: stopped; nothing was written under its final name, run the same command again\n$/);
  expect(readdirSync(path(""))).not.toContain("stopped.csv");
});

describe("is refused in one sentence, and writes nothing:", () => {
  const refused = async (given: string[], message: string | RegExp) => {
    const before = readdirSync(path("")).sort();
    const said = await sentence(given);
    if (typeof message === "string") expect(said).toBe(`geneformer embed: ${message}`);
    else expect(said).toMatch(message);
    expect(readdirSync(path("")).sort()).toEqual(before);
  };
  const of = (cells: string, folder = model) => ["embed", cells, "--model", folder, "--device", "cpu", "--out", path("refused.csv")];

  test("counts, not tokens", () =>
    refused(
      of("cells.h5ad"),
      '"cells.h5ad" holds counts; tokenize it first: geneformer tokenize cells.h5ad --dictionary DIR --out cells.dataset',
    ));

  test("another format, an output that exists", async () => {
    const { status, stderr } = await geneformer(["embed", dataset, "--model", model, "--out", path("x.tsv")]);
    expect([status, stderr]).toEqual([2, expect.stringMatching(/x\.tsv' is invalid\. It must end in \.csv\.\n$/)]);
    await results(args("exists.csv"));
    await refused(args("exists.csv"), /exists\.csv" exists; remove it, choose another name, or use --force$/);
    await results(args("exists.csv", "--force"));
  });

  test("a layer, a column that is not there", async () => {
    await refused(
      args("refused.csv", "--layer", "-3"),
      "layer: must be an integer from -2 to 0 (0 is the last layer, -1 the one before); got -3",
    );
    await refused(args("refused.csv", "--label", "tissue"), /has no column "tissue"; it has input_ids, type, number$/);
    await refused(args("refused.csv", "--vote", "tissue"), /has no column "tissue"/);
    await refused(args("refused.csv", "--label", "input_ids"), /column "input_ids" holds lists/);
  });

  test("a vote among too few, before anything is computed", async () => {
    const given = args("refused.csv", "--vote", "type", "--max-cells", "1");
    await refused(given, "--vote type: 1 of 1 cells bear a value; at least two are needed");
    expect((await geneformer(given)).stderr).not.toContain("Embedding");
  });

  test("a token beyond the vocabulary", async () => {
    const cells = await writeToy(path("beyond.dataset"), [[2, 16, 3]], null);
    await refused(
      of(cells),
      `token 16 of "${cells}" is beyond the vocabulary of 16 of "${model}"; tokenize the cells with the model's dictionary`,
    );
  });

  test("a cell longer than the model", async () => {
    const cells = await writeToy(path("long.dataset"), [[2, ...new Array(19).fill(4), 3]]);
    await refused(
      of(cells),
      `the longest cell of "${cells}" has 21 tokens, the model of "${model}" places for 20; tokenize with --model-input-size 20`,
    );
  });

  test("another dictionary", async () => {
    const tokens = new Map([...V2.tokens].map(([word, token]) => [word, token < 4 ? token : 19 - token]));
    const cells = await writeToy(path("other.dataset"), toyCells(3), { ...V2, tokens });
    await refused(
      of(cells),
      `"${cells}" was tokenized with another dictionary than "${model}" was trained with; tokenize it with ${model}/dictionary`,
    );
  });

  test("cells tokenized in two ways", async () => {
    const cells = await writeToy(path("mixed.dataset"), [[2, 5, 3], [5, 6, 3]]); // biome-ignore format: one line
    await refused(of(cells), "1 of 2 cells have <cls>; tokenize them alike");
  });

  test("no model", () =>
    refused(
      of(dataset, path("nowhere")),
      `checkpoint: "${path("nowhere")}" has no config.json; give a folder with config.json and model.safetensors`,
    ));

  test("a dictionary that is none", async () => {
    await writeVocabulary(vocabularyOf("V2"), path("names"));
    await results(args("named.csv", "--dictionary", path("names")));
    await refused(
      args("refused.csv", "--dictionary", path("")),
      /has neither vocabulary\.json nor token_dictionary\*\.pkl or \.json; name the folder of the dictionaries$/,
    );
  });
});

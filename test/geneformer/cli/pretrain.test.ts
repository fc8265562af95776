/** `geneformer pretrain`: what its options become, what it reports, and how it stops. */

import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { configToHuggingFace } from "../../../geneformer/config.ts";
import { writeVocabulary } from "../../../geneformer/data/vocabulary.ts";
import { scratch } from "../data/scratch.ts";
import { toyCells, toyConfig, V1, V2, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const size = ["--layers", "1", "--width", "16", "--heads", "2", "--inner", "16"];
const quick = ["--tokens-per-batch", "64", "--warmup", "2", "--device", "cpu"];
const dataset = path("cells.dataset");
beforeAll(async () => {
  await writeToy(dataset, toyCells(40));
});
const configOf = (out: string) => JSON.parse(readFileSync(path(`${out}/config.json`), "utf8"));
const headerOf = (out: string) => JSON.parse(readFileSync(path(`${out}/log.jsonl`), "utf8").split("\n")[0]);

test("trains, and reports what came out against what counting knows", async () => {
  const args = [
    "pretrain",
    dataset,
    ...size,
    ...quick,
    "--steps",
    "200",
    "--lr",
    "0.01",
    "--mask-probability",
    "0.3",
    "--held-out",
    "0.3",
    "--out",
    path("run"),
  ];
  const { status, stdout, stderr } = await geneformer([...args, "--json"]);
  expect(status, stderr).toBe(0);
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({ out: path("run"), steps: 200 });
  for (const figure of ["loss", "heldOutLoss", "unigram", "rank", "seconds", "tokensPerSecond", "peakBytes"])
    expect(report[figure], figure).toBeGreaterThan(0);
  expect(report.heldOutLoss).toBeLessThan(report.unigram);
  expect(stderr).toMatch(/^device: cpu, /m);
  expect(stderr).toMatch(/^1 layers of width 16, 67,872 parameters; 28 cells to train on, 12 held out$/m);
  expect(stderr).toMatch(/^Pretraining: 200 steps in /m);
  expect(stderr).toMatch(/^200 steps, loss \d\.\d{4} at first, \d\.\d{4} at last, [\d,]+ tokens\/s$/m);
  expect(stderr).toMatch(/^held-out loss \d\.\d{4} nats; by how common genes are \d\.\d{4}, by rank and gene \d\.\d{4}$/m);
  expect(readdirSync(path("run")).sort()).toEqual(["config.json", "dictionary", "log.jsonl", "model.safetensors"]);
  expect(configOf("run")).toMatchObject({ num_hidden_layers: 1, hidden_size: 16, vocab_size: V2.size, max_position_embeddings: 4096 });
});

describe("the model's sizes", () => {
  test("are a config.json's, with what is said otherwise, and the dictionary's vocabulary", async () => {
    writeFileSync(path("config.json"), JSON.stringify({ ...configToHuggingFace(toyConfig), vocab_size: 99 }));
    await results([
      "pretrain",
      dataset,
      "--config",
      path("config.json"),
      "--inner",
      "8",
      ...quick,
      "--steps",
      "1",
      "--out",
      path("config"),
    ]);
    expect(configOf("config")).toEqual({ ...configToHuggingFace(toyConfig), intermediate_size: 8 });
  });

  test("are a preset's: V1-10M for a V1 dictionary, V2-104M for V2, unless named", async () => {
    const one = await writeToy(path("v1.dataset"), toyCells(10, { ends: false }), V1);
    await results(["pretrain", one, ...size, ...quick, "--steps", "1", "--out", path("v1")]);
    expect(configOf("v1")).toMatchObject({ max_position_embeddings: 2048, hidden_dropout_prob: 0.02, vocab_size: V1.size });
    await results(["pretrain", dataset, ...size, ...quick, "--steps", "1", "--out", path("v2")]);
    expect(configOf("v2")).toMatchObject({ max_position_embeddings: 4096, hidden_dropout_prob: 0.1 });
    await results(["pretrain", dataset, "--preset", "V1-10M", ...size, ...quick, "--steps", "1", "--out", path("preset")]);
    expect(configOf("preset")).toMatchObject({ max_position_embeddings: 2048, hidden_dropout_prob: 0.02, vocab_size: V2.size });
  });

  test("are not given twice, nor by a preset there is not", async () => {
    writeFileSync(path("config.json"), JSON.stringify(configToHuggingFace(toyConfig)));
    const both = ["pretrain", dataset, "--config", path("config.json"), "--preset", "V1-10M", "--out", path("both")];
    const two = await geneformer(both);
    expect([two.status, two.stderr]).toEqual([
      2,
      expect.stringMatching(/'--config <file>' cannot be used with option '--preset <name>'\n$/),
    ]);
    const { status, stderr } = await geneformer(["pretrain", dataset, "--preset", "V3", "--out", path("v3")]);
    expect([status, stderr]).toEqual([2, expect.stringMatching(/'V3' is invalid\. Allowed choices are V1-10M, .*V2-316M\.\n$/)]);
  });
});

describe("settings", () => {
  test("reach the run", async () => {
    const given = ["--seed", "7", "--accumulate", "2", "--lr", "0.004", "--schedule", "cosine", "--decay", "0.1", "--clip", "0.5"];
    const more = ["--mask-probability", "0.4", "--keep-special", "--held-out", "0.25"];
    await results(["pretrain", dataset, ...size, ...quick, ...given, ...more, "--steps", "2", "--out", path("settings")]);
    expect(headerOf("settings")).toMatchObject({
      ...{ seed: 7, steps: 2, accumulate: 2, rate: 0.004, schedule: "cosine", decay: 0.1, clip: 0.5 },
      ...{ tokensPerBatch: 64, warmup: 2, maskProbability: 0.4, keepSpecial: true, heldOut: 0.25 },
    });
  });

  test("epochs are steps that read the training cells so often", async () => {
    const tokens = toyCells(40).flat().length;
    const report = await results(["pretrain", dataset, ...size, ...quick, "--held-out", "0.5", "--epochs", "3", "--out", path("epochs")]);
    expect(report.steps).toBe(Math.ceil((3 * 0.5 * tokens) / 64));
    const { status, stderr } = await geneformer(["pretrain", dataset, "--epochs", "1", "--steps", "1", "--out", path("x")]);
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(/^geneformer pretrain: option '--epochs <number>' cannot be used with option '--steps <number>'/),
    ]);
  });

  test("without held-out cells there is nothing to compare, and the report says null", async () => {
    const report = await results(["pretrain", dataset, ...size, ...quick, "--held-out", "0", "--steps", "2", "--out", path("none")]);
    expect(report).toMatchObject({ heldOutLoss: null, unigram: null, rank: null });
  });
});

test("a dataset without a dictionary wants one named", async () => {
  const bare = await writeToy(path("bare.dataset"), toyCells(20), null);
  await writeVocabulary(V2, path("dictionary"));
  const args = ["pretrain", bare, ...size, ...quick, "--steps", "2", "--out", path("bare")];
  expect(await sentence(args)).toBe(
    `geneformer pretrain: "${bare}" has no dictionary beside its shards; name its folder with --dictionary`,
  );
  await results([...args, "--dictionary", path("dictionary")]);
  expect(readdirSync(path("bare/dictionary"))).toEqual(["vocabulary.json"]);
});

test("Ctrl-C saves a checkpoint and says how to go on; --resume ends as if nothing had been", async () => {
  const args = (out: string) => ["pretrain", dataset, ...size, ...quick, "--steps", "8", "--save-every", "3", "--out", path(out)];
  await results(args("undisturbed"));

  const stop = new AbortController();
  const { status, stdout, stderr } = await geneformer([...args("stopped"), "--json"], stop.signal, (text) => {
    if (/held out$/m.test(text)) stop.abort();
  });
  expect([status, stdout]).toEqual([130, ""]);
  const out = path("stopped");
  expect(stderr.trimEnd().split("\n").at(-1)).toBe(
    `geneformer pretrain: stopped; step 1 of 8 is in ${out}/checkpoint-1; go on with the same command and --resume`,
  );
  expect(readdirSync(out).sort()).toEqual(["checkpoint-1", "log.jsonl"]);

  const resumed = await geneformer([...args("stopped"), "--resume"]);
  expect(resumed.status, resumed.stderr).toBe(0);
  expect(resumed.stderr).toMatch(/^going on from step 1$/m);
  expect(readFileSync(`${out}/model.safetensors`)).toEqual(readFileSync(path("undisturbed/model.safetensors")));
});

describe("is refused in one sentence, and writes nothing:", () => {
  const refused = async (args: string[], message: string | RegExp) => {
    const before = readdirSync(path(""), { recursive: true }).sort();
    const said = await sentence(["pretrain", dataset, ...size, ...quick, "--steps", "2", "--out", path("refused"), ...args]);
    if (typeof message === "string") expect(said).toBe(`geneformer pretrain: ${message}`);
    else expect(said).toMatch(message);
    expect(readdirSync(path(""), { recursive: true }).sort()).toEqual(before);
  };

  test("an output that exists", async () => {
    await results(["pretrain", dataset, ...size, ...quick, "--steps", "1", "--out", path("exists")]);
    const before = readFileSync(path("exists/model.safetensors"));
    await refused(
      ["--out", path("exists")],
      `"${path("exists")}" exists; go on with --resume, begin anew with --force, or choose another name`,
    );
    await refused(["--out", path("exists"), "--resume"], `the run in "${path("exists")}" is finished; there is nothing to resume`);
    await refused(["--out", path("exists"), "--force", "--heads", "3"], /config: width 16 does not divide into 3 heads$/);
    expect(readFileSync(path("exists/model.safetensors"))).toEqual(before);
  });

  test("cells that do not fit", async () => {
    await refused(
      ["--tokens-per-batch", "12"],
      "the longest cell has 13 tokens but a batch holds 12; raise --tokens-per-batch to 13 or more",
    );
    writeFileSync(path("short.json"), JSON.stringify({ ...configToHuggingFace(toyConfig), max_position_embeddings: 12 }));
    await refused(
      ["--config", path("short.json")],
      "the longest cell has 13 tokens but the model places for 12; tokenize with --model-input-size 12, or make the model longer",
    );
    rmSync(path("short.json"));
  });

  test("a dataset, or a config, that is none", async () => {
    expect(await sentence(["pretrain", path("nosuch.dataset"), "--out", path("refused")])).toBe(
      `geneformer pretrain: dataset: "${path("nosuch.dataset")}" does not exist; check the path`,
    );
    await refused(["--config", path("nosuch.json")], /nosuch\.json" does not exist; check the path$/);
  });
});

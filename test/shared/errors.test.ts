/** What real damaged files get: one sentence, exit status 1, nothing left behind. */

import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { sentence } from "../geneformer/cli/call.ts";
import { scratch } from "../geneformer/data/scratch.ts";
import { toyCells, toyConfig, writeRandomModel, writeToy } from "../geneformer/toy.ts";

const data = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
const path = scratch();

async function refused(args: readonly string[], message: RegExp): Promise<void> {
  const before = readdirSync(path(""), { recursive: true }).sort();
  expect(await sentence(args)).toMatch(message);
  expect(readdirSync(path(""), { recursive: true }).sort()).toEqual(before);
}

test("an .h5ad that is cut off", async () => {
  const input = `${data}compat/truncated/covid_monocytes_2k.h5ad`;
  const message = /covid_monocytes_2k\.h5ad"/;
  for (const version of ["v1", "v2"])
    await refused(["tokenize", input, "--dictionary", `${data}dictionaries/${version}`, "--out", path("out.dataset")], message);
  await refused(["dictionary", input, "--out", path("out")], message);
});

test("real cells with a dictionary whose pickle calls os.system", async () => {
  const [original, evil] = [`${data}dictionaries/v1`, path("evil")];
  mkdirSync(evil);
  for (const name of readdirSync(original)) copyFileSync(`${original}/${name}`, `${evil}/${name}`);
  rmSync(`${evil}/token_dictionary_gc30M.pkl`);
  writeFileSync(`${evil}/token_dictionary_gc30M.pkl`, `cos\nsystem\n(S'touch ${path("owned")}'\ntR.`);
  await refused(
    ["tokenize", `${data}cells/pbmc3k.h5ad`, "--dictionary", evil, "--out", path("out.dataset")],
    /token_dictionary_gc30M\.pkl".*os\.system/,
  );
  expect(existsSync(path("owned"))).toBe(false);
});

test("the dictionary of another version", () =>
  refused(
    [
      "tokenize",
      `${data}cells/pbmc3k.h5ad`,
      "--dictionary",
      `${data}dictionaries/v2`,
      "--model-version",
      "V1",
      "--out",
      path("out.dataset"),
    ],
    /model version V1 but the dictionary is of V2/,
  ));

test("a header without its data", async () => {
  const model = path("model");
  mkdirSync(model);
  const weights = `${data}weights/geneformer_V2_104M_CellClassifier_`;
  copyFileSync(`${weights}config.json`, `${model}/config.json`);
  copyFileSync(`${weights}header_only.safetensors`, `${model}/model.safetensors`);
  const cells = await writeToy(path("toy.dataset"), toyCells(3));
  await refused(
    ["embed", cells, "--model", model, "--device", "cpu", "--out", path("out.csv")],
    /model\.safetensors: not a valid safetensors file: ".*" lies at \d+ to \d+, but there are 0 bytes of data$/,
  );
});

test("real tokens beyond a model's vocabulary", async () => {
  const [cells, model] = [`${data}tokenized/covid_monocytes.dataset`, await writeRandomModel(path("small"))];
  const message = new RegExp(`token \\d+ of "${cells}" is beyond the vocabulary of ${toyConfig.vocabulary} of "${model}"`);
  for (const command of ["embed", "perturb"])
    await refused([command, cells, "--model", model, "--device", "cpu", "--out", path("out.csv")], message);
});

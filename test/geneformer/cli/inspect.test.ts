/** `geneformer inspect`: from lines of tokens to a file of tensors. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { readModel } from "../../../geneformer/checkpoint.ts";
import { type Inside, insides, inspect, parseLines } from "../../../geneformer/inspect.ts";
import { floats, readSafetensors, writeSafetensors } from "../../../nn/safetensors.ts";
import { scratch } from "../data/scratch.ts";
import { onCpu, writeRandomModel } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const model = path("model");
const text = '{"input_ids": [2, 9, 1, 3], "labels": [-100, -100, 7, -100]}\n{"input_ids": [5, 6]}\n';
beforeAll(async () => {
  await writeRandomModel(model);
  writeFileSync(path("cells.jsonl"), text);
});
const args = (out: string, ...more: string[]) => [
  "inspect",
  "--model",
  model,
  "--tokens",
  path("cells.jsonl"),
  "--device",
  "cpu",
  "--out",
  path(out),
  ...more,
];

test("all that can be asked is written as safetensors, and the loss reported", async () => {
  const report = await results(args("all.safetensors", "--what", insides.join(",")));
  const { tensors } = readSafetensors(readFileSync(path("all.safetensors")));
  const want = await onCpu(async () => inspect(await readModel(model), parseLines(text), new Set<Inside>(insides)));
  expect([...tensors.keys()]).toEqual(want.map(([name]) => name));
  for (const [name, { shape, data }] of want) {
    expect(tensors.get(name)?.shape, name).toEqual(shape);
    expect(floats(tensors.get(name)!), name).toEqual(data);
  }
  const loss = new Map(want).get("loss")!.data[0];
  expect(report).toMatchObject({ out: path("all.safetensors"), lines: 2, tensors: tensors.size, loss });
});

test("by default hidden states, for which a model needs no head", async () => {
  const headless = await writeRandomModel(path("headless"));
  const { tensors } = readSafetensors(readFileSync(`${headless}/model.safetensors`));
  const encoder = [...tensors]
    .filter(([name]) => name.startsWith("bert."))
    .map(([name, t]) => [name, { shape: t.shape, data: floats(t) }] as const);
  writeFileSync(`${headless}/model.safetensors`, writeSafetensors(encoder));
  const given = (out: string, ...more: string[]) => [
    "inspect",
    "--model",
    headless,
    "--tokens",
    path("cells.jsonl"),
    "--device",
    "cpu",
    "--out",
    path(out),
    ...more,
  ];
  await results(given("hidden.safetensors"));
  expect([...readSafetensors(readFileSync(path("hidden.safetensors"))).tensors.keys()]).toEqual(
    [0, 1].flatMap((line) => [0, 1, 2].map((layer) => `hidden.${layer}.${line}`)),
  );
  await results(args("hidden.safetensors", "--force", "--what", "attention"));
  for (const part of ["logits", "loss", "gradients"])
    expect(await sentence(given("never.safetensors", "--what", `hidden,${part}`))).toMatch(
      /"cls\.predictions\.transform\.dense\.weight" \[16, 16\] is missing/,
    );
});

describe("is refused in one sentence, and writes nothing:", () => {
  const refused = async (given: string[], message: string | RegExp) => {
    const before = readdirSync(path("")).sort();
    const said = await sentence(given);
    if (typeof message === "string") expect(said).toBe(`geneformer inspect: ${message}`);
    else expect(said).toMatch(message);
    expect(readdirSync(path("")).sort()).toEqual(before);
  };
  const lines = (content: string, ...more: string[]) => {
    writeFileSync(path("odd.jsonl"), content);
    return ["inspect", "--model", model, "--tokens", path("odd.jsonl"), "--device", "cpu", "--out", path("never.safetensors"), ...more];
  };
  beforeAll(() => lines(""));

  test("a token beyond the vocabulary, with line and place", () =>
    refused(
      lines('{"input_ids": [5]}\n{"input_ids": [2, 16, 3]}'),
      "token 16 at place 1 of line 1 is beyond the model's vocabulary of 16; was it tokenized with another dictionary?",
    ));

  test("a label beyond the vocabulary", () =>
    refused(
      lines('{"input_ids": [2, 5], "labels": [-100, 20]}'),
      "label 20 at place 1 of line 0 is beyond the model's vocabulary of 16; ignored places are -100",
    ));

  test("a line that is none", () =>
    refused(lines("2 5 3"), `${path("odd.jsonl")}: line 1 is not JSON; each is {"input_ids": [...], "labels": [...]}`));

  test("a loss without labels", () => refused(lines('{"input_ids": [2, 5]}', "--what", "loss"), /^geneformer inspect: no line has labels/));

  test("no file of tokens, an output that exists", async () => {
    await refused(
      ["inspect", "--model", model, "--tokens", path("nosuch.jsonl"), "--out", path("never.safetensors")],
      /nosuch\.jsonl" does not exist; check the path$/,
    );
    await results(args("exists.safetensors"));
    await refused(args("exists.safetensors"), /exists\.safetensors" exists; remove it, choose another name, or use --force$/);
    await refused([...args("model"), "--force"], `write: "${model}" is a folder; name a file`);
    expect(readdirSync(model)).toContain("model.safetensors");
  });
});

test("a part that there is not is wrong usage", async () => {
  const { status, stderr } = await geneformer(args("never.safetensors", "--what", "hidden,atention"));
  expect([status, stderr]).toEqual([
    2,
    expect.stringMatching(/There is no "atention"; give some of hidden,attention,logits,loss,gradients\.\n$/),
  ]);
});

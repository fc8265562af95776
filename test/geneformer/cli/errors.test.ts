/** What real files get wrong, command by command: one sentence, exit status 1, and nothing left behind, not even half a file under another name. */

import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { writeCells } from "../../../geneformer/data/h5ad.ts";
import type { Columns } from "../../../geneformer/data/h5write.ts";
import { writeVocabulary } from "../../../geneformer/data/vocabulary.ts";
import { scratch } from "../data/scratch.ts";
import { ensembl, V2, writeRandomModel, writeToy } from "../toy.ts";
import { sentence } from "./call.ts";

const path = scratch();
const dictionary = path("dictionary");

/** Three genes in two cells, four counts. */
async function counts(name: string, data: readonly number[], ids: readonly string[] | null = [0, 1, 2].map(ensembl)): Promise<string> {
  const columns: Columns = ids ? new Map([["ensembl_id", ids]]) : new Map();
  await writeCells(path(name), {
    X: { indptr: [0, 2, 4], indices: Int32Array.of(0, 1, 1, 2), data: Float32Array.from(data) },
    obs: { index: ["AAACATAC-1", "AAACATTG-1"] },
    var: { index: ["TTN", "ALB", "HBB"], columns },
  });
  return path(name);
}

/** A pickle that runs a command when Python loads it: protocol 0, as anyone can write it, and protocol 2 with a reduce. */
const malign = (command: string): [string, Buffer][] => [
  ["protocol 0", Buffer.from(`cos\nsystem\n(S'${command}'\ntR.`)],
  [
    "protocol 2",
    Buffer.concat([Buffer.from("\x80\x02cposix\nsystem\nX", "latin1"), length(command), Buffer.from(`${command}\x85R.`, "latin1")]),
  ],
];
function length(text: string): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(text.length);
  return bytes;
}

beforeAll(async () => {
  await writeVocabulary(V2, dictionary);
  await writeRandomModel(path("model"));
  await writeToy(path("cells.dataset"), [[2, 5, 6, 3]]);
});

/** Everything in the scratch folder, hidden siblings included. */
const everything = () => readdirSync(path(""), { recursive: true }).sort();
async function refused(args: readonly string[], message: RegExp): Promise<void> {
  const before = everything();
  expect(await sentence(args)).toMatch(message);
  expect(everything()).toEqual(before);
}

describe("counts that are none", () => {
  const LOG = [0, 1, 2, 3].map((x) => Math.log1p(1000 / (x + 1)));
  test.each([
    ["log-normalised", LOG, /the largest is 6\.909: this file looks log-normalised; put the raw UMI counts into X$/],
    ["negative", [1, 2, -1, 4], / is -1 in cell "AAACATTG-1"/],
    ["not a number", [1, Number.NaN, 3, 4], / is NaN in cell "AAACATAC-1"/],
    ["infinite", [1, 2, 3, Number.POSITIVE_INFINITY], / is Infinity in cell "AAACATTG-1"/],
  ])("%s", async (name, data, message) => {
    const input = await counts(`${name}.h5ad`, data);
    await refused(["tokenize", input, "--dictionary", dictionary, "--out", path("out.dataset")], message);
    await refused(["dictionary", input, "--out", path("out")], message);
  });
});

describe("genes that cannot be found", () => {
  test("no ensembl_id", async () => {
    const input = await counts("symbols.h5ad", [1, 2, 3, 4], null);
    await refused(
      ["tokenize", input, "--dictionary", dictionary, "--out", path("out.dataset")],
      /no ensembl_id in var, and its index is not made of Ensembl ids \("TTN"/,
    );
    await refused(["dictionary", input, "--out", path("out")], /no ensembl_id in var/);
  });

  test("no known gene", async () => {
    const input = await counts("mouse.h5ad", [1, 2, 3, 4], ["ENSMUSG00000051951", "ENSMUSG00000025900", "ENSMUSG00000033845"]);
    await refused(["tokenize", input, "--dictionary", dictionary, "--out", path("out.dataset")], /no gene is known/);
  });
});

test("an .h5ad that is cut off, or is none", async () => {
  const whole = await counts("cut.h5ad", [1, 2, 3, 4]);
  truncateSync(whole, Math.floor(readFileSync(whole).length / 2));
  writeFileSync(path("text.h5ad"), "no HDF5 at all");
  for (const name of ["cut.h5ad", "text.h5ad", "nosuch.h5ad"]) {
    const message = new RegExp(`${name.replace(".", "\\.")}`);
    await refused(["tokenize", path(name), "--dictionary", dictionary, "--out", path("out.dataset")], message);
    await refused(["dictionary", path(name), "--out", path("out")], message);
  }
});

test("a pickle that would run a command does not, and is named", async () => {
  for (const [protocol, bytes] of malign(`touch ${path("owned")}`)) {
    const folder = path(`evil ${protocol}`);
    mkdirSync(folder);
    for (const name of ["token_dictionary.pkl", "gene_median_dictionary.pkl"]) writeFileSync(`${folder}/${name}`, bytes);
    const input = await counts("good.h5ad", [1, 2, 3, 4]);
    await refused(
      ["tokenize", input, "--dictionary", folder, "--out", path("out.dataset")],
      /evil protocol \d\/token_dictionary\.pkl".*(os|posix)\.system/,
    );
    await refused(["pretrain", path("cells.dataset"), "--dictionary", folder, "--out", path("run")], /(os|posix)\.system/);
    await refused(
      ["embed", path("cells.dataset"), "--model", path("model"), "--dictionary", folder, "--device", "cpu", "--out", path("out.csv")],
      /(os|posix)\.system/,
    );
  }
  expect(existsSync(path("owned"))).toBe(false);
});

describe("a safetensors header that lies", () => {
  /** The header changed, the data left alone. */
  const lie = async (
    name: string,
    change: (header: Record<string, { shape: number[]; data_offsets: [number, number] }>) => void,
    claim?: bigint,
  ) => {
    const folder = await writeRandomModel(path(name));
    const file = readFileSync(`${folder}/model.safetensors`);
    const size = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.subarray(8, 8 + size).toString());
    change(header);
    const json = Buffer.from(JSON.stringify(header));
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(claim ?? BigInt(json.length));
    writeFileSync(`${folder}/model.safetensors`, Buffer.concat([head, json, file.subarray(8 + size)]));
    return folder;
  };
  const bias = "cls.predictions.bias";

  test.each<[string, Parameters<typeof lie>[1], bigint | undefined, RegExp]>([
    ["of its own length", () => {}, 2n ** 62n, /the header claims \d+ bytes/],
    ["beyond the file", () => {}, 90_000_000n, /the header claims 90000000 bytes, the file has \d+/],
    [
      "of a shape",
      (header) => void header[bias].shape.push(1000),
      undefined,
      /"cls\.predictions\.bias" is F32 \[16, 1000\], 64000 bytes, but its offsets span 64/,
    ],
    [
      "of a huge shape",
      (header) => void header[bias].shape.push(2 ** 40, 2 ** 12),
      undefined,
      /"cls\.predictions\.bias" is F32 .* but its offsets span 64/,
    ],
    [
      "of an offset",
      (header) => void header[bias].data_offsets.splice(0, 2, 1e9, 1e9 + 64),
      undefined,
      /"cls\.predictions\.bias" lies at 1000000000 to 1000000064, but there are \d+ bytes of data/,
    ],
  ])("%s", async (name, change, claim, message) => {
    const folder = await lie(name, change, claim);
    const whole = new RegExp(`model\\.safetensors: not a valid safetensors file: ${message.source}`);
    const on = ["--model", folder, "--device", "cpu"];
    await refused(["embed", path("cells.dataset"), ...on, "--out", path("out.csv")], whole);
    await refused(["perturb", path("cells.dataset"), ...on, "--out", path("out.csv")], whole);
    writeFileSync(path("line.jsonl"), '{"input_ids": [2, 5, 3]}');
    await refused(["inspect", ...on, "--tokens", path("line.jsonl"), "--out", path("out.safetensors")], whole);
  });
});

describe("a token beyond the vocabulary", () => {
  test("of the model", async () => {
    const cells = await writeToy(path("beyond.dataset"), [[2, 5, 99, 3]], null);
    writeFileSync(path("line.jsonl"), '{"input_ids": [2, 5, 99, 3]}');
    const on = ["--model", path("model"), "--device", "cpu"];
    for (const command of ["embed", "perturb"])
      await refused(
        [command, cells, ...on, "--out", path("out.csv")],
        /token 99 of ".*beyond\.dataset" is beyond the vocabulary of 16 of ".*model"/,
      );
    await refused(
      ["inspect", ...on, "--tokens", path("line.jsonl"), "--out", path("out.safetensors")],
      /token 99 at place 2 of line 0 is beyond the model's vocabulary of 16/,
    );
    await refused(
      ["pretrain", cells, "--dictionary", dictionary, "--device", "cpu", "--out", path("run")],
      /token 99 is in the data but the dictionary ends at 15/,
    );
  });

  test("of the dictionary beside the cells", async () => {
    const cells = await writeToy(path("damaged.dataset"), [[2, 5, 99, 3]]);
    const message = /damaged\.dataset" holds token 99 but its dictionary ends at 15; the dictionary is another one/;
    await refused(["embed", cells, "--model", path("model"), "--device", "cpu", "--out", path("out.csv")], message);
    await refused(["pretrain", cells, "--device", "cpu", "--out", path("run")], message);
  });
});

/** Weights by other authors: the names and shapes of a fine-tuned V2-104M against ours, and files that Rust, PyTorch and NVIDIA wrote. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { huggingFaceName, ourName } from "../../geneformer/checkpoint.ts";
import { configFromHuggingFace, preset } from "../../geneformer/config.ts";
import { fileSource } from "../../geneformer/files.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { parameters } from "../../nn/module.ts";
import { floats, integers, openSafetensors, type Weights } from "../../nn/safetensors.ts";
import { openTorchWeights } from "../../nn/torch.ts";
import { type Device, withDevice } from "../../src/device.ts";

const folder = fileURLToPath(new URL("../../../shared/data/weights/", import.meta.url));
const weights = `${folder}geneformer_V2_104M_CellClassifier_`;

/** A device that knows sizes and holds nothing: a model of 400 MB fits. */
const nothing: Device = {
  name: "reference",
  description: "sizes alone",
  memory: { live: 0, peak: 0, reserved: 0, limit: 0 },
  allocate: (dtype, length) => ({ dtype, length }),
  free: () => {},
  upload: () => {},
  run: () => {},
  read: () => Promise.reject(new Error("there is nothing to read")),
  close: () => {},
};

test("all 201 are known, and of the shape that its config.json makes", () => {
  const config = configFromHuggingFace(JSON.parse(readFileSync(`${weights}config.json`, "utf8")));
  expect(config).toEqual(preset("V2-104M"));
  const ours = withDevice(nothing, () => new Map([...parameters(new Geneformer(config, null))].map(([name, t]) => [name, t.shape])));

  const file = readFileSync(`${weights}header_only.safetensors`);
  const { __metadata__, ...tensors } = JSON.parse(file.subarray(8).toString()) as Record<string, { shape: number[] }>;
  expect(Object.keys(tensors)).toHaveLength(201);
  const head = Object.keys(tensors).filter((name) => !ourName(name));
  expect(head.sort()).toEqual(["bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight"]);
  for (const [name, { shape }] of Object.entries(tensors))
    if (!head.includes(name)) expect(ours.get(ourName(name) ?? ""), name).toEqual(shape);
  // And of ours none is missing but the masked language model's head.
  for (const name of ours.keys()) if (!name.startsWith("head.")) expect(Object.keys(tensors)).toContain(huggingFaceName(name));
});

/** All float tensors of a file: how many, of how many numbers, with which sum and which largest size. */
async function survey(file: Weights): Promise<{ tensors: number; numbers: number; sum: number; largest: number }> {
  const found = { tensors: 0, numbers: 0, sum: 0, largest: 0 };
  for (const [name, { dtype }] of file.index) {
    if (!/^B?F/.test(dtype)) continue;
    const values = floats(await file.tensor(name), name);
    found.tensors++;
    found.numbers += values.length;
    for (const value of values) {
      found.sum += value;
      found.largest = Math.max(found.largest, Math.abs(value));
    }
  }
  return found;
}

// The sums and largest sizes are what torch 1.13 and numpy 1.24 make of the same files.
test("Burn's safetensors, from Rust: F32 and an I64", async () => {
  const file = await openSafetensors(await fileSource(`${folder}burn_multi_layer.safetensors`));
  expect(await survey(file)).toEqual({ tensors: 8, numbers: 4240, sum: expect.closeTo(4.585230762080755, 10), largest: 1 });
  expect(integers(await file.tensor("norm1.num_batches_tracked"))).toEqual(BigInt64Array.of(1n));
});

test("NVIDIA's encoder in BF16", async () => {
  const file = await openSafetensors(await fileSource(`${folder}codonfm_golden_state_dict.safetensors`));
  expect(await survey(file)).toEqual({ tensors: 33, numbers: 431301, sum: expect.closeTo(758.1414509489841, 8), largest: 1 });
  const words = floats(await file.tensor("embeddings.word_embeddings.weight"));
  expect([...words.subarray(0, 4)]).toEqual([0.0086669921875, 0.0036163330078125, 0.00830078125, 0.005462646484375]);
});

test("torchtune's checkpoint, as torch.save wrote it: every number is 0.2", async () => {
  const file = await openTorchWeights(await fileSource(`${folder}torchtune_tiny_fair_checkpoint.pt`));
  expect(file.index.get("layers.1.feed_forward.w2.weight")).toMatchObject({ dtype: "F32", shape: [32, 256] });
  const fifth = Math.fround(0.2);
  expect(await survey(file)).toEqual({ tensors: 21, numbers: 89504, sum: expect.closeTo(89504 * fifth, 6), largest: fifth });
});

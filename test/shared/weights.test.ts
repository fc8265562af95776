/** The names and shapes of a published checkpoint, a fine-tuned V2-104M, against ours. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { huggingFaceName, ourName } from "../../geneformer/checkpoint.ts";
import { configFromHuggingFace, preset } from "../../geneformer/config.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { parameters } from "../../nn/module.ts";
import { type Device, withDevice } from "../../src/device.ts";

const weights = fileURLToPath(new URL("../../../shared/data/weights/geneformer_V2_104M_CellClassifier_", import.meta.url));

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

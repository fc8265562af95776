/** Every kernel has a sample, and every device computes it as the loops do. */

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { StepKey } from "../../autograd/stepkey.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import type { Kernel, Values } from "../../kernels/kernel.ts";
import { samples } from "../../kernels/samples.ts";
import { parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { choose, type Memory, withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { verify } from "../../src/verify.ts";
import { onDevices, watched } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

const folder = new URL("../../kernels/", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".ts") && name !== "samples.ts");
/** Everything the kernels' files export, by file and name. */
const exported: (readonly [string, unknown])[] = [];
for (const file of files) {
  const all: Record<string, unknown> = await import(new URL(file, folder).href);
  for (const [name, value] of Object.entries(all)) exported.push([`${file} ${name}`, value]);
}
const isKernel = (value: unknown): value is Kernel => typeof value === "object" && value !== null && "loops" in value;
const isFamily = (value: unknown): value is { made: ReadonlyMap<string, Kernel> } => typeof value === "function" && "made" in value;

describe("every kernel has a sample:", () => {
  const all = samples();
  const sampled = new Set(all.map(({ kernel }) => kernel));
  const kernels = exported.filter(([, value]) => isKernel(value) || isFamily(value));

  test("the files export kernels", () => expect(kernels.length).toBeGreaterThan(20));

  test.each(kernels)("%s", (_, value) => {
    const variants = isFamily(value) ? [...value.made.values()] : [value as Kernel];
    expect(variants.some((kernel) => sampled.has(kernel))).toBe(true);
  });

  test("and so has every kernel that training runs", () => {
    const on = watched(openReference());
    withDevice(on, () => {
      const model = new Geneformer({ ...config, width: 32, heads: 2, activation: "gelu" }, Key.from(1));
      const named = [...parameters(model)];
      const { stream, places, labels } = packed(cellsOf([9, 5]));
      for (const key of [null, StepKey.from(Key.from(2))]) {
        const { grads } = valueAndGrad(
          () => model.loss(stream, places, labels, { key }),
          named.map(([, t]) => t),
        );
        new AdamW(named, { clip: 1 }).step(grads, 1e-3);
      }
      new Geneformer(config, Key.from(1)).loss(stream, places, labels);
    });
    const names = new Set(all.map(({ kernel }) => kernel.name));
    expect([...new Set(on.ran)].filter((name) => !names.has(name))).toEqual([]);
    expect(new Set(on.ran).size).toBeGreaterThan(20);
  });

  test("names are unique: pipelines are cached by them", () => {
    expect(new Set([...sampled].map(({ name }) => name)).size).toBe(sampled.size);
  });

  test("inputs are what f32 holds", () => {
    for (const { inputs } of all)
      for (const values of Object.values(inputs))
        if (!(values instanceof Uint32Array)) expect(Float64Array.from(Float32Array.from(values))).toEqual(values);
  });
});

onDevices((device) => {
  test.each(samples().map((sample, i) => [`${sample.kernel.name} (${i})`, sample] as const))("%s", async (_, sample) => {
    const { worst, bound, ok } = await verify(device(), sample);
    expect(worst).toBeLessThanOrEqual(bound);
    expect(ok).toBe(true);
    expect(device().memory.live).toBe(0);
  });
});

describe("verify", () => {
  const sample = samples().find(({ kernel }) => kernel.name === "neg")!;

  test.each([
    ["a wrong number", (z: Values) => (z[0] += 1)],
    ["one that is none", (z: Values) => (z[7] = Number.NaN)],
    ["nothing written", (z: Values) => z.fill(Number.NaN)],
  ])("sees %s", async (_, spoil) => {
    const loops: Kernel["loops"] = (arrays, params) => {
      sample.kernel.loops(arrays, params);
      spoil(arrays.z);
    };
    const on = openReference();
    const spoiled = {
      ...on,
      run: (kernel: Kernel, ...rest: [buffers: Readonly<Record<string, Memory>>, params: Readonly<Record<string, number>>]) =>
        on.run({ ...kernel, loops }, ...rest),
    };
    expect((await verify(spoiled, sample)).ok).toBe(false);
    expect((await verify(on, sample)).ok).toBe(true);
  });

  test("says where loops are held against themselves", async () => {
    expect((await verify(openReference(), sample)).loops).toBe(true);
    const { device: cpu } = await choose("cpu");
    const compiled = await Promise.all(samples().map(async (each) => [each.kernel.name, !(await verify(cpu, each)).loops] as const));
    expect(compiled.filter(([, is]) => is).map(([name]) => name)).toEqual(
      expect.arrayContaining(["matmul NN", "attention 16", "attentionGrad 16 dropped"]),
    );
    cpu.close();
  });
});

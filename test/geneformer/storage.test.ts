/** Activations stored as f16: the model's loss and gradients are those of f32 to its rounding, it learns as well, in less memory, and on any way it runs. */

import { describe, expect, test, vi } from "vitest";
import { mul } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { type Config, type Preset, preset } from "../../geneformer/config.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { embed } from "../../geneformer/embed.ts";
import { Geneformer, type Pass } from "../../geneformer/model.ts";
import { perturb } from "../../geneformer/perturb/exact.ts";
import { editsOf, unitsOf } from "../../geneformer/perturb/plan.ts";
import { Pretraining } from "../../geneformer/pretrain.ts";
import { withHooks } from "../../nn/hooks.ts";
import { LossScale } from "../../nn/lossscale.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { Choices } from "../../src/choices.ts";
import { use, withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { needs, openShapes } from "../../src/shapes.ts";
import { index } from "../../src/stream.ts";
import { integers, keep, scoped, type Tensor } from "../../src/tensor.ts";
import { onDevice, onDevices } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";
import { datasetOf, settings, toyCells, toyConfig, V2 } from "./toy.ts";

/** What the loss is multiplied by, and gradients divided by: so that small ones are no subnormal numbers of f16. */
const SCALE = 1024;

/** Loss and gradients. */
async function outcome(of: Config, pass: Pass) {
  const model = new Geneformer(of, Key.from(7));
  const named = [...parameters(model)];
  const made = scoped(() => {
    const { stream, places, labels } = packed(cellsOf([23, 9, 1, 40]));
    const { value, grads } = valueAndGrad(
      () => {
        const loss = model.loss(stream, places, labels, pass);
        return [mul(loss, SCALE), loss] as const;
      },
      named.map(([, t]) => t),
    );
    return [value[1], ...grads];
  });
  expect(new Set(made.map(({ dtype }) => dtype))).toEqual(new Set(["f32"]));
  const [[loss], ...grads] = await Promise.all(made.map(async (t) => Float64Array.from(await t.data())));
  for (const t of made) t.free();
  freeParameters(model);
  return { loss, grads: new Map(named.map(([name], i) => [name, grads[i].map((g) => g / SCALE)])) };
}

const size = (x: Float64Array): number => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);

onDevices((device) => {
  // Units of relu that stand near its kink are turned on or off by any rounding, of weights in f32 to 2^-11 too, and each counts in so small a model.
  describe.each([
    ["relu", 0.2],
    ["gelu", 0.01],
  ] as const)("with %s", (activation, tolerance) => {
    test.each([
      ["without dropout", null],
      ["with dropout", 3],
    ])("the loss and all gradients are those of f32 to a few roundings, %s", async (_, seed) => {
      const before = device().memory.live;
      const key = seed === null ? null : StepKey.from(Key.from(seed));
      const want = await outcome({ ...config, activation }, { key });
      const got = await outcome({ ...config, activation }, { key, storage: "f16" });
      expect(Math.abs(got.loss / want.loss - 1)).toBeLessThan(2e-3);
      const whole = size(Float64Array.from([...want.grads.values()].flatMap((grad) => [...grad])));
      for (const [name, grad] of want.grads) {
        const error = size(grad.map((g, i) => g - got.grads.get(name)![i]));
        expect(error, name).toBeLessThan(tolerance * Math.max(size(grad), whole / 10)); // the key biases' are rounding alone
      }
      key?.words.free();
      expect(device().memory.live).toBe(before);
    });
  });

  test("a checkpointed pass has the same gradients, bit for bit", async () => {
    const key = StepKey.from(Key.from(3));
    const pass = { key, storage: "f16" } as const;
    expect(await outcome(config, { ...pass, checkpointing: true })).toEqual(await outcome(config, pass));
    key.words.free();
  });

  test("training comes to the loss that f32 comes to, by way of steps that overflow", async () => {
    const train = async (storage: "f32" | "f16") => {
      const model = new Geneformer({ ...config, deviation: 0.1 }, Key.from(7));
      const named = [...parameters(model)];
      const scale = new LossScale({ initial: 2 ** 26 });
      const optimizer = new AdamW(named, { clip: 1, scale });
      const batch = keep(scoped(() => packed(cellsOf([23, 9, 40]))));
      let loss = Number.NaN;
      let skipped = 0;
      for (let step = 0; step < 30 + skipped; step++) {
        const made = scoped(() => {
          const { value, grads } = valueAndGrad(
            () => {
              const loss = model.loss(batch.stream, batch.places, batch.labels, { storage });
              return [scale.apply(loss), loss] as const;
            },
            named.map(([, t]) => t),
          );
          return { loss: value[1], clip: optimizer.step(grads, 3e-3) };
        });
        [loss] = await made.loss.data();
        const [, overflowed] = await made.clip.data();
        if (overflowed < 0) skipped++;
        made.loss.free();
        made.clip.free();
      }
      for (const each of [optimizer, scale]) each.free();
      freeParameters(model);
      freeParameters(batch);
      return { loss, skipped };
    };
    const [plain, halved] = [await train("f32"), await train("f16")];
    expect(plain.loss).toBeLessThan(1);
    expect(Math.abs(halved.loss / plain.loss - 1)).toBeLessThan(0.03);
    expect([plain.skipped, halved.skipped > 0]).toEqual([0, true]);
  });
});

onDevice("reference", (device) => {
  /** Bytes that a forward and backward pass of 2,048 tokens needs beside the weights, 15 % of them masked; on a device that knows only shapes. */
  const bytes = (name: Preset, storage: "f32" | "f16"): number => {
    const sizes = preset(name);
    const model = withDevice(openShapes(), () => new Geneformer(sizes, null));
    const weights = [...parameters(model)].map(([, t]) => t);
    return needs(() => {
      const cells = Array.from({ length: 4 }, () => Array.from({ length: 512 }, (_, i) => 2 + i));
      const places = Array.from({ length: 307 }, (_, i) => 6 * i);
      const key = StepKey.from(Key.from(1));
      const loss = () => model.loss(streamOf(cells, sizes), index(places, 2048), integers(places), { key, storage });
      return valueAndGrad(loss, weights);
    }).bytes;
  };

  test("a step holds over a third less; where logits of f32 are a third of it, over a quarter", () => {
    expect(bytes("V2-104M", "f16") / bytes("V2-104M", "f32")).toBeLessThan(0.65);
    expect(bytes("V1-10M", "f16") / bytes("V1-10M", "f32")).toBeLessThan(0.72);
  });

  const abilities = { name: "", software: false, features: new Set(["shader-f16"]), lanes: 256, bytes: 16384, units: [], mixed: true };

  test.each(["f32", "mixed"] as const)("pretraining in %s asks for it accordingly", async (precision) => {
    use({ ...openReference(), choices: new Choices({ ...abilities, mixed: precision === "mixed" }) });
    try {
      const run = new Pretraining(datasetOf(toyCells(20)), V2, toyConfig, { ...settings, precision });
      const asked = vi.spyOn(run.model, "loss");
      await run.step();
      const stored = asked.mock.calls.map(([, , , pass]) => pass?.storage); // when it is prepared, and in earnest
      expect(new Set(stored)).toEqual(new Set([precision === "mixed" ? "f16" : "f32"]));
      run.free();
    } finally {
      use(device());
    }
  });

  test("embeddings are made so on a device that was opened for it", async () => {
    const embedded = async (on: ReturnType<typeof openReference>) => {
      const model = withDevice(on, () => new Geneformer(config, Key.from(7)));
      const cells = cellsOf([23, 9, 40]).map(({ tokens }) => tokens);
      const options = { layer: -1, mode: "cell", ends: { cls: false, eos: false }, tokensPerBatch: 50 } as const;
      return withDevice(on, () => embed(model, cells, options));
    };
    const plain = await embedded(openReference());
    const mixed = await embedded({ ...openReference(), choices: new Choices(abilities) });
    expect(mixed).not.toEqual(plain);
    mixed.forEach((value, i) => {
      expect(Math.abs(value - plain[i])).toBeLessThan(0.01);
    });
  });

  test.each(["cell", "cls"] as const)(
    "so are perturbed cells, %s, compared in f32: with the cell, with states, gene by gene",
    async (mode) => {
      const perturbed = async (on: ReturnType<typeof openReference>) => {
        const model = withDevice(on, () => new Geneformer(toyConfig, Key.from(7)));
        const ends = { cls: true, eos: true };
        const cell = [2, 9, 4, 14, 7, 11, 12, 5, 3];
        const edits = () => editsOf(cell, ends, unitsOf(cell, ends, { type: "delete", genes: "all" }), toyConfig.length);
        const states = new Map([["goal", Key.from(1).normals(toyConfig.width)]]);
        const effects: number[] = [];
        for (const how of [{}, { states }, { affected: true }])
          await withDevice(on, async () => {
            const measure = { layer: 0, mode, ends, tokensPerBatch: 30, ...how };
            for await (const { effect, genes } of perturb(model, [{ row: 0, cell, edits: edits() }], measure))
              effects.push(...effect, ...(genes?.cosines ?? []));
          });
        return effects;
      };
      const plain = await perturbed(openReference());
      const mixed = await perturbed({ ...openReference(), choices: new Choices(abilities) });
      expect(mixed).not.toEqual(plain);
      expect(mixed).toHaveLength(plain.length);
      for (const [i, value] of mixed.entries()) expect(Math.abs(value - plain[i])).toBeLessThan(0.01);
    },
  );

  test("attention is the same written out, its weights in f32", async () => {
    const model = new Geneformer(config, Key.from(7));
    const { stream } = packed(cellsOf([9, 5]));
    const encode = () => inference(() => model.encode(stream, { storage: "f16" }));
    const dtypes: string[] = [];
    const hook = (w: Tensor) => void dtypes.push(w.dtype);
    const [fused, written] = [encode(), withHooks(model, { "layers.*.attention.weights": hook }, encode)];
    expect([dtypes, written.dtype]).toEqual([new Array(4).fill("f32"), "f16"]);
    const [want, got] = [await fused.data(), await written.data()];
    got.forEach((value, i) => {
      expect(Math.abs(value - want[i])).toBeLessThan(0.01);
    });
    for (const t of [fused, written]) t.free();
    freeParameters(model);
    freeParameters(stream);
  });

  test("what layers pass on is f16, and what the head makes f32", () => {
    const model = new Geneformer(config, Key.from(7));
    scoped(() => {
      const { stream, places } = packed(cellsOf([9, 5]));
      const states = [...model.hidden(stream, { storage: "f16" })];
      expect(states.map(({ dtype }) => dtype)).toEqual(["f16", "f16", "f16"]);
      expect(inference(() => model.predict(stream, places, { storage: "f16" })).dtype).toBe("f32");
    });
    freeParameters(model);
  });
});

/** The table of a model: rows, shapes and totals by hand, for a model of two layers, for Geneformer, and with what it needs. */

import { expect, test } from "vitest";
import { mul, sum } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { withHooks } from "../../nn/hooks.ts";
import { Linear } from "../../nn/linear.ts";
import { addLora } from "../../nn/lora.ts";
import { countParameters, freeParameters, parameters } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rmsnorm.ts";
import { summary } from "../../nn/summary.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { needs } from "../../src/shapes.ts";
import { ones, type Tensor } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

class Small {
  readonly up = new Linear(3, 1000, null);
  readonly norm = new RMSNorm(1000);
  readonly tied = { weight: this.up.weight, scale: ones([]) };
  readonly unused = new Linear(1, 1, null);

  forward(x: Tensor): Tensor {
    return mul(this.norm.forward(this.up.forward(x)), this.tied.scale);
  }
}

onDevices((device) => {
  const using = <M extends object>(make: () => M, f: (model: M) => void) => {
    const before = device().memory.live;
    const model = make();
    f(model);
    freeParameters(model);
    expect(device().memory.live).toBe(before);
  };

  test("a row for what has parameters or gives something, each tensor counted once", () =>
    using(
      () => new Small(),
      (model) => {
        const run = () => {
          model.forward(ones([2, 3]));
          model.forward(ones([2, 3]));
          model.forward(ones([7, 5, 3]));
        };
        const made = summary(model, run);
        const both = (last: number) => [
          [2, last],
          [7, 5, last],
        ];
        expect(made.rows).toEqual([
          { path: "", type: "Small", shapes: both(1000), parameters: 0, bytes: 0 },
          { path: "up", type: "Linear", shapes: both(1000), parameters: 4000, bytes: 16_000 },
          { path: "norm", type: "RMSNorm", shapes: both(1000), parameters: 1000, bytes: 4000 },
          { path: "tied", type: "Object", shapes: [], parameters: 1, bytes: 4 },
          { path: "unused", type: "Linear", shapes: [], parameters: 2, bytes: 8 },
        ]);
        expect(made.parameters).toBe(countParameters(model));
        expect(made.bytes).toBe(20_012);
        expect(made.needs).toEqual(needs(run));
        expect(String(made)).toBe(
          [
            "path    type     output                  parameters   bytes",
            "        Small    [2, 1000] [7, 5, 1000]           0       0",
            "up      Linear   [2, 1000] [7, 5, 1000]       4,000  16,000",
            "norm    RMSNorm  [2, 1000] [7, 5, 1000]       1,000   4,000",
            "tied    Object                                    1       4",
            "unused  Linear                                    2       8",
            "                                              5,003  20,012",
            `needs ${made.needs?.bytes.toLocaleString("en-US")} bytes beside them, and ${made.needs?.kernels.length} kernels`,
          ].join("\n"),
        );
      },
    ));

  test("without f nothing is run, and modules without parameters are left out", () =>
    using(
      () => new Small(),
      (model) => {
        const made = summary(model);
        expect(made.rows.map(({ path, shapes }) => [path, shapes.length])).toEqual(
          ["up", "norm", "tied", "unused"].map((path) => [path, 0]),
        );
        expect(made.needs).toBeNull();
        expect(String(made).split("\n")).toHaveLength(1 + 4 + 1);
      },
    ));

  test("Geneformer's, of a training step: nothing is computed, attention stays fused, the model is as it was", () =>
    using(
      () => new Geneformer(config, Key.from(1)),
      (model) => {
        const weights = [...parameters(model)].map(([, t]) => t);
        const step = () => {
          const { stream, places, labels } = packed(cellsOf([5, 9]));
          return valueAndGrad(() => model.loss(stream, places, labels), weights);
        };
        const watching = watched(device());
        const made = withDevice(watching, () => summary(model, step));
        expect(watching.ran).toEqual([]);
        expect(made.needs).toEqual(needs(step));
        expect(made.parameters).toBe(countParameters(model));
        const shapeOf = Object.fromEntries(made.rows.map(({ path, shapes }) => [path, shapes]));
        const [N, C] = [14, config.width];
        expect(shapeOf).toMatchObject({ embeddings: [[N, C]], "layers.0": [[N, C]], "layers.1.attention": [[N, C]] });
        expect(shapeOf["layers.1.up"]).toEqual([[N, config.inner]]);
        expect(shapeOf.head).toEqual([[5, config.vocabulary]]); // every third of 5 and 9 places is asked for, from the second on
        expect(made.rows.find(({ path }) => path === "head")?.parameters).toBe(config.vocabulary); // its bias
        const taps = made.rows.filter(({ path }) => path.endsWith(".weights"));
        expect(taps.map(({ path, shapes, bytes }) => [path, shapes, bytes])).toEqual(
          [0, 1].map((layer) => [`layers.${layer}.attention.weights`, [], 0]),
        );
        expect(withHooks(model, { [taps[0].path]: () => {} }, () => model.layers[0].attention.weights.hooked)).toBe(true);
        for (const { path } of made.rows) expect(path).not.toMatch(/config/);
        expect(Object.hasOwn(model.layers[0], "forward")).toBe(false);
      },
    ));

  test("adapters have rows, and the frozen weights stay where they were", () =>
    using(
      () => ({ layer: new Linear(4, 6, Key.from(1)) }),
      (model) => {
        addLora(model, "layer", { rank: 2 }, Key.from(2));
        const x = ones([3, 4]);
        const rows = summary(model, () => inference(() => sum(model.layer.forward(x)))).rows;
        x.free();
        expect(rows.map(({ path, type, shapes, parameters }) => [path, type, shapes, parameters])).toEqual([
          ["layer", "LoraLinear", [[3, 6]], 30],
          ["layer.lora_A", "Object", [], 8],
          ["layer.lora_B", "Object", [], 12],
        ]);
      },
    ));

  test("what f throws comes out, hooks gone", () =>
    using(
      () => new Small(),
      (model) => {
        expect(() => summary(model, () => model.forward(ones([2, 4])))).toThrow(/^linear\(\.\.\. in, out in\): in is 4/);
        expect(Object.hasOwn(model, "forward")).toBe(false);
        expect(() => withHooks(model, {}, () => summary(model, async () => {}))).toThrow("f returned a promise");
      },
    ));
});

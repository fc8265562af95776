/** What must not change a Geneformer's results: padding, company, order, how a batch is split; and what must: the key. */

import { describe, expect, test } from "vitest";
import { slice, sum } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { preset } from "../../geneformer/config.ts";
import { Geneformer, hiddenOf } from "../../geneformer/model.ts";
import { countParameters, freeParameters, parameters } from "../../nn/module.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { index, mostTiles, segments } from "../../src/stream.ts";
import { scoped, type Tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";
import { type Asked, cellsOf, config, type Outcome, outcome, packed } from "../small.ts";

onDevices((device, name) => {
  /** Sums in another order differ by their rounding: of a gradient's largest value. */
  const tolerance = name === "reference" ? 1e-12 : 2e-5;
  const cells = cellsOf([23, 9, 1, 40]);

  const alike = (got: Outcome, want: Outcome) => {
    expect(Math.abs(got.loss - want.loss)).toBeLessThanOrEqual(tolerance * want.loss);
    const all = [...want.grads.values()].flatMap((grad) => [...grad]);
    const rms = Math.sqrt(all.reduce((total, g) => total + g * g, 0) / all.length);
    for (const [name, grad] of want.grads) {
      const most = grad.reduce((a, b) => Math.max(a, Math.abs(b)), rms / 10); // the key biases' are rounding alone
      grad.forEach((value, i) => {
        if (!(Math.abs(got.grads.get(name)![i] - value) <= tolerance * most))
          expect.fail(`${name}[${i}]: ${got.grads.get(name)![i]} but ${value}`);
      });
    }
  };
  const using = async (f: (model: Geneformer) => Promise<void>) => {
    const model = new Geneformer(config, Key.from(7));
    const before = device().memory.live;
    await f(model);
    expect(device().memory.live).toBe(before);
    freeParameters(model);
  };
  /** What each cell's places have become, cell by cell. */
  const states = async (model: Geneformer, of: readonly Asked[], capacity?: { tokens: number; cells: number; places: number }) => {
    const x = inference(() => model.encode(packed(of, capacity).stream));
    const values = await x.data();
    x.free();
    let from = 0;
    return of.map(({ tokens }) => {
      const start = from;
      from += tokens.length * config.width;
      return [...values.subarray(start, from)];
    });
  };
  const close = (got: readonly number[][], want: readonly number[][]) =>
    got.forEach((cell, c) => {
      expect(cell.length).toBe(want[c].length);
      cell.forEach((value, i) => {
        if (!(Math.abs(value - want[c][i]) <= 10 * tolerance)) expect.fail(`cell ${c}, value ${i}: ${value} but ${want[c][i]}`);
      });
    });

  test("rows asked for are those of all: of the last layer, of one before, and of the embeddings", () =>
    using(async (model) => {
      const [counts, chosen] = [
        [2, 1, 1, 3],
        [0, 22, 25, 32, 33, 40, 72],
      ];
      for (const layers of [2, 1, 0]) {
        const [all, some] = inference(() => {
          const { stream } = packed(cells);
          const at = { rows: index(chosen, 73, { gradients: false }), segments: segments(counts) };
          return [model.encode(stream, { layers }), model.encode(stream, { layers, at })];
        });
        const [whole, rows] = [await all.data(), await some.data()];
        for (const t of [all, some]) t.free();
        const want = chosen.map((row) => [...whole.subarray(row * config.width, (row + 1) * config.width)]);
        close(chosen.map((_, i) => [...rows.subarray(i * config.width, (i + 1) * config.width)]), want); // biome-ignore format: one line
      }
    }));

  describe("nothing changes with", () => {
    test("the dead tail of a batch", () =>
      using(async (model) => {
        const want = await outcome(model, cells);
        alike(await outcome(model, cells, { capacity: { tokens: 100, cells: 9, places: 41 } }), want);
        close(await states(model, cells, { tokens: 131, cells: 5, places: 30 }), await states(model, cells));
      }));

    test("a cell's company", () =>
      using(async (model) => {
        const together = await states(model, cells);
        for (const [i, cell] of cells.entries()) close(await states(model, [cell]), [together[i]]);
      }));

    test("the order of cells", () =>
      using(async (model) => {
        alike(await outcome(model, cells.toReversed()), await outcome(model, cells));
        close((await states(model, cells.toReversed())).reverse(), await states(model, cells));
      }));

    test("how a batch is split, when each part divides by the count of the whole", () =>
      using(async (model) => {
        const count = cells.reduce((total, { places }) => total + places.length, 0);
        const whole = await outcome(model, cells);
        const parts = [await outcome(model, cells.slice(0, 1), { count }), await outcome(model, cells.slice(1), { count })];
        const sumOf = (name: string) => parts[0].grads.get(name)!.map((g, i) => g + parts[1].grads.get(name)![i]);
        alike({ loss: parts[0].loss + parts[1].loss, grads: new Map([...whole.grads.keys()].map((name) => [name, sumOf(name)])) }, whole);
      }));

    test("genes in the dead tail", () =>
      using(async (model) => {
        const run = (gene: number) =>
          scoped(() => {
            const { stream, places, labels } = packed(cells, { tokens: 100, cells: 6, places: 40 });
            const used = cells.reduce((total, { tokens }) => total + tokens.length, 0);
            stream.tokens.values.write(
              Uint32Array.from({ length: 100 }, (_, i) => (i < used ? cells.flatMap(({ tokens }) => tokens)[i] : gene)),
            );
            const { value, grads } = valueAndGrad(
              () => model.loss(stream, places, labels),
              [...parameters(model)].map(([, t]) => t),
            );
            return [value, ...grads];
          });
        const [one, other] = [run(0), run(39)];
        for (const [i, t] of one.entries()) {
          expect(await t.data()).toEqual(await other[i].data()); // to the bit
          t.free();
          other[i].free();
        }
      }));
  });

  describe("dropout", () => {
    const key = (seed: number) => StepKey.from(Key.from(seed));
    const withKey = async (model: Geneformer, seed: number, capacity?: { tokens: number; cells: number; places: number }) => {
      const made = key(seed);
      const result = await outcome(model, cells, { key: made, capacity });
      made.words.free();
      return result;
    };

    test("the same key gives the same bits, another key others", () =>
      using(async (model) => {
        const [a, b, c] = [await withKey(model, 1), await withKey(model, 1), await withKey(model, 2)];
        expect(a).toEqual(b);
        expect(c.loss).not.toBe(a.loss);
        expect((await outcome(model, cells)).loss).not.toBe(a.loss);
      }));

    test("a dead tail changes no draw", () =>
      using(async (model) => {
        alike(await withKey(model, 1, { tokens: 90, cells: 8, places: 40 }), await withKey(model, 1));
      }));

    test("every layer, and every place in it, draws from another site", () => {
      const made = key(3);
      const folds = [made, ...[0, 1, 2].map((layer) => made.fold(layer)), made.fold(1).fold(2), made.fold(2).fold(1)];
      expect(new Set(folds.map(({ site }) => site.join())).size).toBe(folds.length);
      made.words.free();
    });
  });

  test("<pad> inside a cell is seen like a gene, but learns nothing from there", () =>
    using(async (model) => {
      const asked: Asked[] = [{ tokens: [0, 5, 0, 7], places: [1], labels: [3] }];
      const [before] = await states(model, asked);
      const [other] = await states(model, [{ ...asked[0], tokens: [1, 5, 1, 7] }]);
      expect(before).not.toEqual(other);
      const { value, grads } = scoped(() => {
        const { stream } = packed(asked);
        return valueAndGrad(() => sum(slice(model.encode(stream), 1, 0, 5)), [model.embeddings.word.weight]);
      });
      const gradient = await grads[0].data();
      expect(gradient.subarray(0, config.width).every((g) => g === 0)).toBe(true);
      expect(gradient.subarray(5 * config.width, 6 * config.width).some((g) => g !== 0)).toBe(true);
      for (const t of [value, ...grads]) t.free();
    }));

  test("attention weights are rows that sum to 1", () =>
    using(async (model) => {
      const [first] = cells;
      const made = inference(() => {
        const [x] = [...model.hidden(packed([first]).stream, { layers: 0 })];
        return model.layers[0].weights(x);
      });
      expect(made.shape).toEqual([2, 23, 23]);
      const weights = Float64Array.from(await made.data());
      for (let row = 0; row < 2 * 23; row++) {
        const total = weights.subarray(row * 23, (row + 1) * 23).reduce((a, b) => a + b, 0);
        expect(Math.abs(total - 1)).toBeLessThan(1e-5);
      }
      made.free();
    }));

  test("a batch whose places are none has loss 0 and no gradient", () =>
    using(async (model) => {
      const { loss, grads } = await outcome(model, [{ tokens: [4, 5, 6], places: [], labels: [] }]);
      expect(loss).toBe(0);
      for (const grad of grads.values()) expect(grad.every((g) => g === 0)).toBe(true);
    }));
});

describe("shapes", () => {
  const on = openReference();

  test("hidden states: one more than layers, and as many as asked for", () =>
    withDevice(on, () => {
      const model = new Geneformer(config, null);
      const all = inference(() => [...model.hidden(packed(cellsOf([5])).stream)]);
      expect(all.map(({ shape }: Tensor) => shape)).toEqual([
        [5, 32],
        [5, 32],
        [5, 32],
      ]);
      expect(inference(() => [...model.hidden(packed(cellsOf([5])).stream, { layers: 1 })])).toHaveLength(2);
    }));

  test("layers counted from the end", () => {
    expect([0, -1, -2].map((layer) => hiddenOf(config, layer))).toEqual([2, 1, 0]);
    for (const layer of [1, -3, 0.5]) expect(() => hiddenOf(config, layer)).toThrow(/^layer: must be an integer from -2 to 0/);
  });

  test("parameters are those of the published checkpoints", () => {
    // spec: Hugging Face's count without a pooler, the decoder tied
    const count = ({ vocabulary: V, width: C, layers: L, inner: F, length: P }: ReturnType<typeof preset>) =>
      (V + P + 2) * C + 2 * C + L * (4 * (C * C + C) + 2 * C * F + F + C + 4 * C) + (C * C + C) + 2 * C + V;
    expect(count(preset("V1-10M"))).toBe(10_288_722);
    expect(count(preset("V2-104M"))).toBe(104_386_867);
    expect(count(preset("V2-316M"))).toBe(316_354_867);
    expect(withDevice(on, () => countParameters(new Geneformer(config, null)))).toBe(count(config));
  });

  test("a stream with more cells than fit says so", () => {
    expect(() => withDevice(on, () => segments([5, 6], { rows: 10, cells: 2, tiles: mostTiles(10, 2) }))).toThrow(
      "segments(lengths): 2 cells of 11 rows do not fit 2 cells of 10 rows; use a smaller batch",
    );
    expect(() => withDevice(on, () => index([3], 3))).toThrow(
      "index(values, rows): values[0] is 3, but there are 3 rows; give one from 0 to 2",
    );
  });
});

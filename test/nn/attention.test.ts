/** Attention written out equals the fused op; hooks at its weights read and replace them; and Geneformer's layers have them. */

import { describe, expect, test } from "vitest";
import { add, mul, segmentMean, sum } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { Attention, attentionWeights, type Look, MultiHeadAttention } from "../../nn/attention.ts";
import { type Hook, withHooks } from "../../nn/hooks.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { inner, type Segments, segments } from "../../src/stream.ts";
import { full, ones, scoped, type Tensor, tensor, zeros } from "../../src/tensor.ts";
import { onDevices, watched } from "../devices.ts";
import { cellsOf, config, packed } from "../small.ts";

const HEADS = 2;
const WIDTH = 32;
const noise = (seed: number, rows: number) => tensor(Key.from(seed).normals(rows * WIDTH), [rows, WIDTH]);
const nothing: Hook = () => {};

onDevices((device, name) => {
  const tolerance = name === "reference" ? 1e-12 : 1e-5;

  const read = async (t: Tensor) => {
    const values = [...(await t.data())];
    t.free();
    return values;
  };
  /** To the tolerance, of the largest value. */
  const near = (got: readonly number[], want: readonly number[], least = 0) => {
    const bound = Math.max(tolerance, least) * Math.max(1, ...want.map(Math.abs));
    expect(got.length).toBe(want.length);
    for (const [i, value] of want.entries()) if (!(Math.abs(got[i] - value) <= bound)) expect.fail(`${i}: ${got[i]} but ${value}`);
  };
  /** Run f, after which as much memory is held as before. */
  const balanced = async (f: () => unknown) => {
    const before = device().memory.live;
    await f();
    expect(device().memory.live).toBe(before);
  };

  /** Value and gradients by q, k and v, with or without a hook that has the weights made. */
  const outcome = async (make: () => { queries: Segments; keys?: Segments }, look: Omit<Look, "keys">, hook: Hook | null) => {
    const made = scoped(() => {
      const attention = new Attention(HEADS);
      const { queries, keys } = make();
      const rows = [queries, keys ?? queries, keys ?? queries].map((of) => of.rows);
      const inputs = rows.map((n, i) => noise(i, n));
      const dy = noise(3, queries.rows);
      const run = () => {
        const [q, k, v] = inputs;
        const y = attention.forward(q, k, v, queries, { ...look, keys });
        return [sum(mul(y, dy)), y] as const;
      };
      const { value, grads } = withHooks({ attention }, hook ? { "attention.weights": hook } : {}, () => valueAndGrad(run, inputs));
      return [value[1], ...grads];
    });
    return Promise.all(made.map(read));
  };

  const streams: Readonly<Record<string, () => { queries: Segments; keys?: Segments }>> = {
    "one stream": () => ({ queries: segments([5, 33, 1, 0, 12]) }),
    "a stream with a dead tail": () => ({ queries: segments([7, 20], { rows: 40, cells: 5, tiles: 12 }) }),
    "parts of segments": () => ({ queries: inner([9, 1, 6], 1, 2) }),
    "two streams": () => ({ queries: segments([4, 35, 0, 6, 2]), keys: segments([9, 3, 5, 0, 34], { rows: 60, cells: 6 }) }),
  };
  for (const [of, make] of Object.entries(streams))
    for (const causal of [false, true])
      test(`written out it is the fused op, gradients too: ${of}${causal ? ", causal" : ""}`, () =>
        balanced(async () => {
          const fused = await outcome(make, { causal }, null);
          const written = await outcome(make, { causal }, nothing);
          for (const [i, want] of fused.entries()) {
            expect(want.some((value) => value !== 0)).toBe(true);
            near(written[i], want);
          }
        }));

  describe("a hook at the weights", () => {
    test("sees each segment's, rows that sum to 1, and nothing of what comes later where it is causal", () =>
      balanced(async () => {
        const seen: { w: Tensor; segment: unknown; path: string }[] = [];
        await outcome(streams["two streams"], { causal: true }, (w, { args, path }) => {
          seen.push({ w: w.hold(), segment: args[1], path });
        });
        expect(seen.map(({ segment, path, w }) => [segment, path, w.shape])).toEqual([
          [0, "attention.weights", [HEADS, 4, 9]],
          [1, "attention.weights", [HEADS, 35, 3]],
          [4, "attention.weights", [HEADS, 2, 34]],
        ]);
        for (const { w } of seen) {
          const [, queries, keys] = w.shape;
          const values = await read(w);
          for (let row = 0; row < HEADS * queries; row++) {
            const [first, last] = [row * keys, Math.min(keys, (row % queries) + 1)];
            expect(values.slice(first, first + last).every((value) => value > 0)).toBe(true);
            expect(values.slice(first + last, first + keys).every((value) => value === 0)).toBe(true);
            expect(values.slice(first, first + keys).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
          }
        }
      }));

    test("replaces them: weights that are all the same make a mean, and pass no gradient to queries and keys", () =>
      balanced(async () => {
        const evenly: Hook = (w) => full(w.shape, 1 / w.shape[2]);
        const [y, dq, dk, dv] = await outcome(streams["one stream"], {}, evenly);
        const means = scoped(() => {
          const { queries } = streams["one stream"]();
          return [2, 3].map((seed) => segmentMean(noise(seed, queries.rows), queries)); // of v, and of dy
        });
        const owner = [5, 33, 1, 0, 12].flatMap((length, segment) => new Array<number>(length).fill(segment));
        const [ofV, ofDy] = (await Promise.all(means.map(read))).map((mean) =>
          owner.flatMap((segment) => mean.slice(segment * WIDTH, (segment + 1) * WIDTH)),
        );
        near(y, ofV);
        near(dv, ofDy);
        for (const gradient of [dq, dk]) expect(gradient.every((value) => value === 0)).toBe(true);
      }));

    test("replaces them, and gradients flow through what it returns", () =>
      balanced(async () => {
        const attention = new Attention(1);
        const [q, k, v, factor] = [tensor([1, 0], [2, 1]), tensor([0, 1], [2, 1]), tensor([2, 3], [2, 1]), ones([1])];
        const alone = segments([2]);
        const { value, grads } = withHooks({ attention }, { "attention.weights": (w) => mul(w, factor) }, () =>
          valueAndGrad(() => sum(attention.forward(q, k, v, alone)), [factor]),
        );
        near(await read(grads[0]), await read(value)); // y is linear in the factor, which is 1
        freeParameters({ q, k, v, factor, alone });
      }));

    test("a hook elsewhere leaves the op fused", () => {
      const watching = watched(device());
      withDevice(watching, () =>
        scoped(() => {
          const attention = new Attention(HEADS);
          const x = noise(1, 3);
          const run = (path: string) => {
            watching.ran.length = 0;
            withHooks({ attention }, { [path]: nothing }, () => attention.forward(x, x, x, segments([3])));
            return watching.ran.some((kernel) => kernel.startsWith("attention"));
          };
          expect([run("attention"), run("attention.weights")]).toEqual([true, false]);
        }),
      );
    });

    test("refuses rows that the segments do not cover, as the op does", () =>
      scoped(() => {
        const attention = new Attention(HEADS);
        const x = noise(1, 5);
        const look = (keys: Segments) => () =>
          withHooks({ attention }, { "attention.weights": nothing }, () => attention.forward(x, x, x, segments([5]), { keys }));
        expect(look(segments([6]))).toThrow(/^Attention.forward\(q, k, v, segments\): 1 segments of 5 rows look at 1 of 6; got \[5, 32\]/);
        expect(look(segments([2, 3]))).toThrow(/1 segments of 5 rows look at 2 of 5/);
      }));
  });

  test("attentionWeights by hand: softmax(q . k / sqrt(D)), one head", async () => {
    const [q, k] = [tensor([1, 0, 2, 1], [2, 2]), tensor([1, 1, 0, 3], [2, 2])];
    const [open, causal] = inference(() => [attentionWeights(q, k, 1), attentionWeights(q, k, 1, true)]);
    const soft = (a: number, b: number) => [Math.exp(a), Math.exp(b)].map((e) => e / (Math.exp(a) + Math.exp(b)));
    near(await read(open), [...soft(1 / Math.SQRT2, 0), ...soft(3 / Math.SQRT2, 3 / Math.SQRT2)]);
    near(await read(causal), [1, 0, ...soft(3 / Math.SQRT2, 3 / Math.SQRT2)]);
    for (const t of [q, k]) t.free();
  });

  test("dropout of the weights written out: by the key, each weight zeroed or scaled up", () =>
    balanced(async () => {
      const [p, length] = [0.25, 24];
      const attention = new Attention(HEADS, p);
      const run = (seed: number) =>
        scoped(() => {
          // queries of zeros look everywhere alike, and v of ones counts what is left
          const [q, v] = [zeros([2 * length, WIDTH]), ones([2 * length, WIDTH])];
          const key = StepKey.from(Key.from(seed));
          return withHooks({ attention }, { "attention.weights": nothing }, () =>
            attention.forward(q, q, v, segments([length, length]), { key }),
          );
        });
      const [one, again, other] = await Promise.all([run(1), run(1), run(2)].map(read));
      expect(one).toEqual(again);
      expect(one).not.toEqual(other);
      expect(one.slice(0, length * WIDTH)).not.toEqual(one.slice(length * WIDTH)); // each segment draws its own
      for (const y of one) expect(y * (1 - p) * length).toBeCloseTo(Math.round(y * (1 - p) * length), 4);
      const mean = one.reduce((a, b) => a + b, 0) / one.length;
      const deviation = Math.sqrt(p / (1 - p) / (HEADS * 2 * length * length)); // of the mean of so many independent weights
      expect(Math.abs(mean - 1)).toBeLessThan(5 * deviation);
    }));

  test("no key, no dropout; and a p that is none is refused", () =>
    balanced(async () => {
      const attention = new Attention(HEADS, 0.5);
      const made = scoped(() => {
        const [x, of] = [noise(1, 6), segments([6])];
        return [attention.forward(x, x, x, of), new Attention(HEADS).forward(x, x, x, of, { key: StepKey.from(Key.from(1)) })];
      });
      const [without, none] = await Promise.all(made.map(read));
      expect(without).toEqual(none);
      expect(() => new Attention(HEADS, 1)).toThrow("Dropout(p): p must lie in [0, 1); got 1");
    }));

  describe("multi-head attention", () => {
    test("is attention between linear layers, over a memory of its own segments, plus a residual", () =>
      balanced(async () => {
        const layer = new MultiHeadAttention(WIDTH, HEADS, Key.from(4));
        expect([...parameters(layer)].map(([path]) => path)).toEqual(
          ["query", "key", "value", "output"].flatMap((part) => [`${part}.weight`, `${part}.bias`]),
        );
        const made = scoped(() => {
          const [x, memory, of, keys] = [noise(1, 6), noise(2, 9), segments([2, 4]), segments([8, 1])];
          const by = layer.attention.forward(layer.query.forward(x), layer.key.forward(memory), layer.value.forward(memory), of, { keys });
          return [
            layer.forward(x, of, { memory, keys, residual: x }),
            add(x, layer.output.forward(by)),
            layer.forward(x, of, { causal: true }),
            layer.forward(x, of, { causal: true, memory: x, keys: of }),
          ];
        });
        const [got, want, own, same] = await Promise.all(made.map(read));
        near(got, want);
        near(own, same);
        freeParameters(layer);
      }));

    test("refuses a width that heads do not divide", () => {
      expect(() => new MultiHeadAttention(30, 4, null)).toThrow(
        new RangeError("MultiHeadAttention(width, heads, key): heads must divide the width; got 4 and 30; change one of them"),
      );
    });
  });

  describe("in Geneformer", () => {
    const using = (f: (model: Geneformer, batch: ReturnType<typeof packed>) => Promise<void>) =>
      balanced(async () => {
        const model = new Geneformer(config, Key.from(1));
        const batch = packed(cellsOf([5, 9]));
        await f(model, batch);
        freeParameters(model);
        freeParameters(batch);
      });

    test("hooks at layers.*.attention.weights read what Layer.weights() writes out, and change nothing", () =>
      using(async (model, { stream }) => {
        const plain = await read(inference(() => model.encode(stream)));
        const seen: { w: Tensor; cell: unknown; path: string }[] = [];
        const hook: Hook = (w, { args, path }) => void seen.push({ w: w.hold(), cell: args[1], path });
        near(await read(withHooks(model, { "layers.*.attention.weights": hook }, () => inference(() => model.encode(stream)))), plain);
        expect(seen.map(({ cell, path }) => `${path} ${cell}`)).toEqual(
          [0, 1].flatMap((layer) => [0, 1].map((cell) => `layers.${layer}.attention.weights ${cell}`)),
        );
        const first = inference(() => {
          const [embedded] = [...model.hidden(packed(cellsOf([5])).stream, { layers: 0 })];
          return model.layers[0].weights(embedded);
        });
        near(await read(seen[0].w), await read(first));
        for (const { w } of seen.slice(1)) w.free();
      }));

    test("a head that is silenced by a hook is one whose columns of the output's weight are 0", () =>
      using(async (model, { stream }) => {
        const encode = () => inference(() => model.encode(stream));
        const silent: Hook = (w) => mul(w, tensor([1, 0], [2, 1, 1]));
        const hooked = await read(withHooks(model, { "layers.1.attention.weights": silent }, encode));
        const { weight } = model.layers[1].output;
        weight.write([...(await weight.data())].map((value, i) => (i % config.width < config.width / 2 ? value : 0)));
        near(hooked, await read(encode()));
      }));

    test("attention has no names of its own in a checkpoint", () =>
      using(async (model) => {
        expect([...parameters(model)].filter(([path]) => path.includes("attention"))).toEqual([]);
      }));
  });
});

/** The transformer: layers against PyTorch's, what a stream must not change, what it learns, what it costs, and the size of the paper's model. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { gather, mul, sum } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { withHooks } from "../../nn/hooks.ts";
import { addLora, mergeLora } from "../../nn/lora.ts";
import { countParameters, freeParameters, load, parameters, type Stored, select } from "../../nn/module.ts";
import { Adam } from "../../nn/optimizer.ts";
import { floats, readSafetensors } from "../../nn/safetensors.ts";
import { schedule } from "../../nn/schedule.ts";
import {
  DecoderLayer,
  EncoderLayer,
  type SequencesOptions,
  sequences,
  Transformer,
  type TransformerOptions,
} from "../../nn/transformer.ts";
import { withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { needs } from "../../src/shapes.ts";
import { segments } from "../../src/stream.ts";
import { scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevice, onDevices, watched } from "../devices.ts";

/** What test/golden/transformer.py wrote. */
const bytes = (name: string): Uint8Array => readFileSync(new URL(`../golden/${name}`, import.meta.url));
const golden: {
  width: number;
  heads: number;
  inner: number;
  source: number[];
  target: number[];
  cases: { name: string; normFirst: boolean; activation: "relu" | "gelu" }[];
} = JSON.parse(new TextDecoder().decode(bytes("transformer.json")));
const stored: ReadonlyMap<string, Stored> = new Map(
  [...readSafetensors(bytes("transformer.safetensors")).tensors].map(([name, each]) => [name, { shape: each.shape, data: floats(each) }]),
);
const under = (folder: string): Map<string, Stored> =>
  new Map([...stored].flatMap(([name, value]) => (name.startsWith(`${folder}/`) ? [[name.slice(folder.length + 1), value]] : [])));

const small: TransformerOptions = { vocabulary: 9, longest: 12, layers: { encoder: 1, decoder: 2 }, heads: 2, width: 32, inner: 20 };
const read3 = [
  [3, 4, 5, 6],
  [7, 3],
  [8, 8, 2],
];
const write3 = [
  [0, 5, 6],
  [0, 2, 3, 4, 1],
  [0, 7],
];

onDevices((device, name) => {
  const exact = name === "reference";

  const read = async (t: Tensor) => {
    const values = [...(await t.data())];
    t.free();
    return values;
  };
  /** To a share of the largest value, or of `least` where that is more. */
  const near = (got: readonly number[], want: ArrayLike<number>, share = exact ? 1e-12 : 1e-5, least = 0) => {
    const bound = share * Array.from(want).reduce((most, value) => Math.max(most, Math.abs(value)), least);
    expect(got.length).toBe(want.length);
    for (let i = 0; i < want.length; i++)
      if (!(Math.abs(got[i] - want[i]) <= bound)) expect.fail(`${i}: ${got[i]} but ${want[i]}, further than ${bound}`);
  };
  /** Losses and gradients; those of the keys' biases are zero but for rounding. */
  const nearAll = (got: readonly number[][], want: readonly number[][]) => {
    const all = want.flat();
    const rms = Math.sqrt(all.reduce((total, value) => total + value * value, 0) / all.length);
    for (const [i, values] of want.entries()) near(got[i], values, undefined, rms / 10);
  };
  /** A small model, after whose use as much memory is held as before. */
  const using = async (f: (model: Transformer) => unknown, options: Partial<TransformerOptions> = {}) => {
    const before = device().memory.live;
    const model = new Transformer({ ...small, ...options }, Key.from(5));
    await f(model);
    model.free();
    expect(device().memory.live).toBe(before);
  };
  const batch = (model: Transformer, options?: SequencesOptions) =>
    [sequences(read3, model, options), sequences(write3, model, options)] as const;
  const logitsOf = (model: Transformer) => read(inference(() => model.forward(...batch(model))));
  /** The loss and every gradient. */
  const outcome = async (model: Transformer, pass: { seed?: number; checkpointing?: boolean; options?: SequencesOptions } = {}) => {
    const weights = [...parameters(model)].map(([, t]) => t);
    const { value, grads } = scoped(() => {
      const key = pass.seed === undefined ? null : StepKey.from(Key.from(pass.seed));
      const [source, target] = batch(model, pass.options);
      return valueAndGrad(() => model.loss(source, target, { key, checkpointing: pass.checkpointing }), weights);
    });
    return Promise.all([value, ...grads].map(read));
  };

  describe("layers are PyTorch's:", () => {
    test.each(golden.cases)("$name", async ({ name: of, normFirst, activation }) => {
      const { width, heads, inner } = golden;
      const options = { width, heads, inner, dropout: 0.1, normFirst, activation };
      const layers = { encoder: new EncoderLayer(options, null), decoder: new DecoderLayer(options, null) };
      for (const [kind, layer] of Object.entries(layers)) load(layer, under(kind));
      const stream = (key: string) => tensor(stored.get(key)!.data, stored.get(key)!.shape);
      const made = scoped(() => {
        const [x, y] = [stream("source"), stream("target")];
        const [source, target] = [segments(golden.source), segments(golden.target)];
        const { encoder, decoder } = layers;
        const encoded = () => encoder.forward(x, source);
        const decoded = () => decoder.forward(y, target, x, source);
        const byEncoder = valueAndGrad(() => sum(mul(encoded(), stream("dy.source"))), [x, encoder.feed.up.weight]);
        const byDecoder = valueAndGrad(() => sum(mul(decoded(), stream("dy.target"))), [x, y, decoder.feed.up.weight]);
        return {
          encoder: inference(encoded),
          "encoder/gradient.source": byEncoder.grads[0],
          "encoder/gradient.up": byEncoder.grads[1],
          decoder: inference(decoded),
          "decoder/gradient.source": byDecoder.grads[0],
          "decoder/gradient.target": byDecoder.grads[1],
          "decoder/gradient.up": byDecoder.grads[2],
        };
      });
      for (const [key, t] of Object.entries(made)) near(await read(t), stored.get(`${of}/${key}`)!.data, exact ? 1e-6 : 1e-5); // f32 in the file
      freeParameters(layers);
    });
  });

  describe("nothing changes with", () => {
    test("the dead tail of a batch", () =>
      using(async (model) => {
        const want = await outcome(model);
        const got = await outcome(model, { options: { capacity: { tokens: 40, sequences: 5 } } });
        nearAll(got, want);
      }));

    test("a sequence's company", () =>
      using(async (model) => {
        const together = await logitsOf(model);
        let from = 0;
        for (const [s, list] of write3.entries()) {
          const alone = await read(inference(() => model.forward(sequences([read3[s]], model), sequences([list], model))));
          near(alone, together.slice(from, from + alone.length));
          from += alone.length;
        }
      }));

    test("what follows a place in the target", () =>
      using(async (model) => {
        const run = (list: number[]) => read(inference(() => model.forward(sequences([read3[0]], model), sequences([list], model))));
        const [one, other] = [await run([0, 5, 6, 7]), await run([0, 5, 2])];
        near(one.slice(0, 2 * 9), other.slice(0, 2 * 9));
        expect(one.slice(2 * 9, 3 * 9)).not.toEqual(other.slice(2 * 9));
      }));

    test("checkpointing, dropout included", () =>
      using(async (model) => {
        const want = await outcome(model, { seed: 3 });
        const got = await outcome(model, { seed: 3, checkpointing: true });
        nearAll(got, want);
        expect(want[0]).not.toEqual((await outcome(model))[0]);
        expect(want[0]).not.toEqual((await outcome(model, { seed: 4 }))[0]);
      }));

    test("the weights being read by a hook, at every attention of the model", () =>
      using(async (model) => {
        const plain = await logitsOf(model);
        const seen: string[] = [];
        const hooks = { "**.weights": (w: Tensor, { path }: { path: string }) => void seen.push(`${path} ${w.shape.join(" ")}`) };
        near(await read(withHooks(model, hooks, () => inference(() => model.forward(...batch(model))))), plain);
        expect(seen.slice(0, 6)).toEqual([
          ...[4, 2, 3].map((n) => `encoder.layers.0.self.attention.weights 2 ${n} ${n}`),
          ...[3, 5, 2].map((n) => `decoder.layers.0.self.attention.weights 2 ${n} ${n}`),
        ]);
        expect(seen.slice(6, 9)).toEqual(["3 4", "5 2", "2 3"].map((sizes) => `decoder.layers.0.cross.attention.weights 2 ${sizes}`));
        expect(seen).toHaveLength(15);
      }));
  });

  describe("the model", () => {
    test("what it says of a word depends on the order of the source", () =>
      using(async (model) => {
        const run = (list: number[]) => read(inference(() => model.forward(sequences([list], model), sequences([[0]], model))));
        expect(await run([3, 4, 5])).not.toEqual(await run([5, 4, 3]));
      }));

    test("norms come last, or first, with one more after the last layer", async () => {
      const found: { paths: string[]; logits: number[] }[] = [];
      for (const normFirst of [false, true])
        await using(
          async (model) => {
            found.push({ paths: [...parameters(model)].map(([path]) => path), logits: await logitsOf(model) });
          },
          { normFirst },
        );
      const [last, first] = found;
      expect(first.paths.filter((path) => !last.paths.includes(path))).toEqual([
        "encoder.norm.weight",
        "encoder.norm.bias",
        "decoder.norm.weight",
        "decoder.norm.bias",
      ]);
      expect(first.logits).not.toEqual(last.logits);
    });

    test("a tied output has the embedding for its weight, and adds to its gradient", () =>
      using(
        async (model) => {
          expect(model.output.weight).toBe(model.embedding.weight);
          expect([...parameters(model)].map(([path]) => path).filter((path) => path.startsWith("output"))).toEqual(["output.bias"]);
          const wrt = model.embedding.weight;
          const { value, grads } = scoped(() => {
            const [source, target] = batch(model);
            return valueAndGrad(() => model.loss(source, target), [wrt]);
          });
          value.free();
          const gradient = await read(grads[0]);
          expect(gradient.slice(32, 64).some((g) => g !== 0)).toBe(true); // 1 is never read, only written
        },
        { tied: true },
      ));

    test("the loss is the mean over tokens that follow another", () =>
      using(async (model) => {
        const next = scoped(() => batch(model)[1].next);
        expect([...(await next.data())]).toEqual([5, 6, IGNORED, 2, 3, 4, 1, IGNORED, 7, IGNORED]);
        next.free();
        const logits = await logitsOf(model);
        const asked = write3.flatMap((list) => list.map((_, i) => list[i + 1]));
        const losses = asked.flatMap((label, row) => {
          if (label === undefined) return [];
          const of = logits.slice(9 * row, 9 * row + 9);
          return [Math.log(of.reduce((total, value) => total + Math.exp(value), 0)) - of[label]];
        });
        const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
        const [loss, count] = scoped(() => {
          const [source, target] = batch(model);
          return [model.loss(source, target), model.loss(source, target, { count: tensor([14]) })];
        });
        near(await read(loss), [mean]);
        near(await read(count), [mean / 2]); // of 7 places
        const smooth = await read(scoped(() => model.loss(...batch(model), { smoothing: 0.1 })));
        expect(Math.abs(smooth[0] - mean)).toBeGreaterThan(1e-4);
      }));

    test("what is frozen costs nothing: no way back leads through it", () => {
      const watching = watched(device());
      withDevice(watching, () => {
        const model = new Transformer(small, Key.from(5));
        /** Attention's ways back, with some parameters to train. */
        const ran = (pattern: string): number => {
          const weights = select(model, pattern).map(([, t]) => t);
          scoped(() => {
            const [source, target] = batch(model);
            watching.ran.length = 0;
            valueAndGrad(() => model.loss(source, target), weights);
          });
          return watching.ran.filter((kernel) => kernel.startsWith("attentionGrad")).length;
        };
        expect(ran("output.*")).toBe(0);
        expect(ran("decoder.layers.1.feed.**")).toBe(0);
        expect(ran("decoder.layers.1.cross.query.*")).toBe(1);
        expect(ran("encoder.**")).toBe(4); // of five: before the decoder first looks at the source, nothing depends on it
        expect(ran("**")).toBe(5);
        model.free();
      });
    });

    test("adapters change nothing at first, take the places of Linears, and merge", () =>
      using(async (model) => {
        const plain = await logitsOf(model);
        const adapters = addLora(model, "**.query", { rank: 2 }, Key.from(1));
        expect(adapters.map(([path]) => path)).toContain("decoder.layers.1.cross.query.lora_B.weight");
        near(await logitsOf(model), plain);
        for (const [path, t] of adapters) if (path.includes("lora_B")) t.write(Key.from(2).normals(t.size));
        const adapted = await logitsOf(model);
        expect(adapted).not.toEqual(plain);
        mergeLora(model);
        near(await logitsOf(model), adapted, exact ? 1e-12 : 3e-5);
      }));

    test("writes the likeliest token each time, until the end or for so long", () =>
      using(async (model) => {
        const source = sequences(read3, model);
        const written = await model.generate(source, { start: 0, end: 1, longest: 5 });
        for (const [s, tokens] of written.entries()) {
          const got: number[] = [];
          while (got.length < 5) {
            const logits = await read(inference(() => model.forward(sequences([read3[s]], model), sequences([[0, ...got]], model))));
            const last = logits.slice(-9);
            const next = last.indexOf(Math.max(...last));
            if (next === 1) break;
            got.push(next);
          }
          expect(tokens).toEqual(got);
        }
        const [end] = written.flat(); // what it writes somewhere is taken for the end
        const ended = await model.generate(source, { start: 0, end });
        for (const [s, tokens] of ended.entries()) {
          expect(tokens).not.toContain(end);
          if (written[s].includes(end)) expect(tokens).toEqual(written[s].slice(0, written[s].indexOf(end)));
          else expect(tokens.slice(0, 5)).toEqual(written[s]);
          expect(tokens.length).toBeLessThanOrEqual(model.longest);
        }
        await expect(model.generate(source, { start: 0, end: 1, longest: 13 })).rejects.toThrow(
          "generate(source, { longest }): longest is 13, but the model has positions for 12; ask for fewer tokens",
        );
        await expect(model.generate(source, { start: 9, end: 1 })).rejects.toThrow(
          "generate(source, { start, end }): start is 9, which is not in the vocabulary; give an integer from 0 to 8",
        );
        await expect(model.generate(source, { start: 0, end: -1 })).rejects.toThrow("end is -1, which is not in the vocabulary");
        freeParameters(source);
      }));

    test("embeddings are scaled by sqrt(C), and positions are added", () =>
      using(async (model) => {
        const seen: Tensor[] = [];
        const embedded = (y: Tensor) => void seen.push(y.hold());
        scoped(() => void withHooks(model, { dropout: embedded }, () => model.encode(sequences([[4, 4]], model))));
        const rows = scoped(() => gather(model.embedding.weight, sequences([[4]], model).tokens));
        const [y, row] = [await read(seen[0]), await read(rows)];
        const place = (p: number) => row.map((_, c) => (c % 2 ? Math.cos : Math.sin)(p / 10_000 ** ((c - (c % 2)) / 32)));
        near(
          y,
          [0, 1].flatMap((p) => place(p).map((wave, c) => wave + Math.sqrt(32) * row[c])),
        );
      }));
  });

  test("what cannot be is refused", () =>
    using((model) => {
      const make = (options: object) => () => new Transformer({ ...small, ...options } as TransformerOptions, null);
      expect(make({ witdh: 32 })).toThrow(new RangeError('Transformer(options, key): there is no option "witdh"; did you mean "width"?'));
      expect(make({ layers: { encoder: 2, decoder: 0 } })).toThrow("layers of the decoder must be a positive integer; got 0");
      expect(make({ activation: "tanh" })).toThrow('activation must be "relu" or "gelu"; got "tanh"');
      const pack = (lists: number[][], options?: SequencesOptions) => () => scoped(() => sequences(lists, model, options));
      expect(pack([[1], [2, 9]])).toThrow(
        "sequences(lists, sizes): token 9 at place 1 of sequence 1 is not in the vocabulary; give integers from 0 to 8",
      );
      expect(pack([1, 2, 3] as unknown as number[][])).toThrow(
        new TypeError("sequences(lists, sizes): sequence 0 is 1, not a list of tokens; give a list of lists, [[1, 2, 3]]"),
      );
      expect(() => new Transformer(small, 42 as unknown as Key)).toThrow("Transformer(options, key): the key is 42; give Key.from(42)");
      expect(pack([[1], [0.5]])).toThrow("token 0.5 at place 0 of sequence 1");
      expect(pack([new Array<number>(13).fill(1)])).toThrow("sequence 0 has 13 tokens, but the model has positions for 12; shorten it");
      expect(pack([[1, 2]], { capacity: { tokens: 1, sequences: 1 } })).toThrow("1 cells of 2 rows do not fit 1 cells of 1 rows");
    }));
});

onDevice("cpu", (device) => {
  test("it learns to copy every one of a hundred words that it never saw", async () => {
    const [start, end, first, letters] = [0, 1, 2, 8];
    const draw = (key: Key, count: number) =>
      Array.from({ length: count }, (_, i) => {
        const [size, ...word] = key.fold(i).uniforms(7);
        return word.slice(0, 3 + Math.floor(4 * size)).map((u) => first + Math.floor(u * letters));
      });
    const held = draw(Key.from(1), 100);
    const known = new Set(held.map(String));
    const options = { vocabulary: first + letters, longest: 8, layers: 1, heads: 2, width: 32, inner: 64, dropout: 0, normFirst: true };
    const before = device().memory.live;
    const model = new Transformer(options, Key.from(2));
    const weights = [...parameters(model)];
    const optimizer = new Adam(weights, { clip: 1 });
    const steps = 300;
    for (let step = 1; step <= steps; step++)
      scoped(() => {
        const words = draw(Key.from(3).fold(step), 32).filter((word) => !known.has(String(word)));
        const [source, target] = [words, words.map((word) => [start, ...word, end])].map((lists) => sequences(lists, model));
        const { grads } = valueAndGrad(
          () => model.loss(source, target),
          weights.map(([, t]) => t),
        );
        optimizer.step(grads, 0.01 * schedule("cosine", step, 50, steps));
      });
    const source = sequences(held, model);
    expect(await model.generate(source, { start, end })).toEqual(held);
    freeParameters(source);
    optimizer.free();
    model.free();
    expect(device().memory.live).toBe(before);
  });
});

describe("the paper's base model, on a device that knows only shapes,", () => {
  const options = { vocabulary: 37_000, longest: 512 }; // byte pairs of the paper (5.1); all else by default
  const layer = { attention: 4 * (512 * 512 + 512), feed: 2 * 512 * 2048 + 2048 + 512, norm: 2 * 512 };
  const encoder = 6 * (layer.attention + layer.feed + 2 * layer.norm);
  const decoder = 6 * (2 * layer.attention + layer.feed + 3 * layer.norm);

  test("has its parameters", () => {
    const counted = (more: Partial<TransformerOptions>): number => {
      let count = 0;
      needs(() => {
        count = countParameters(new Transformer({ ...options, ...more }, null));
      });
      return count;
    };
    expect(encoder + decoder).toBe(44_138_496); // sum(p.numel() for p in torch.nn.Transformer().parameters()), less its two norms at the ends
    expect(counted({})).toBe(encoder + decoder + 2 * 37_000 * 512 + 37_000);
    expect(counted({ tied: true })).toBe(encoder + decoder + 37_000 * 512 + 37_000);
    expect(counted({ normFirst: true })).toBe(counted({}) + 2 * layer.norm);
  });

  test("takes a step of Adam in 4 GiB: thirty pairs of sentences, 25 tokens each", () => {
    const lists = Array.from({ length: 30 }, () => new Array<number>(25).fill(2));
    let numbers = 0;
    const step = (checkpointing: boolean) =>
      needs(() => {
        const model = new Transformer(options, null);
        const weights = [...parameters(model)];
        numbers = countParameters(model);
        const optimizer = new Adam(weights, { decay: 0.01 });
        const key = StepKey.from(Key.from(1));
        const { grads } = valueAndGrad(
          () => model.loss(sequences(lists, model), sequences(lists, model), { key, checkpointing }),
          weights.map(([, t]) => t),
        );
        optimizer.step(grads, 1e-4);
      });
    const { bytes, kernels } = step(false);
    expect(bytes).toBeGreaterThan(4 * 4 * numbers); // weights, gradients, and Adam's two means
    expect(bytes).toBeLessThan(4 * 2 ** 30);
    expect(kernels.map(({ name }) => name).filter((kernel) => kernel.startsWith("attention"))).not.toEqual([]);
    expect(step(true).bytes).toBeLessThan(bytes);
  });
});

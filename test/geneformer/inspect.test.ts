/** The inside of a forward pass: names and shapes, values as the model's own, a loss by hand, and gradients as differences say. */

import { beforeAll, describe, expect, test } from "vitest";
import { inference } from "../../autograd/tape.ts";
import { ourName } from "../../geneformer/checkpoint.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { type Inside, insides, inspect, type Line, parseLines } from "../../geneformer/inspect.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { Key } from "../../src/key.ts";
import { index } from "../../src/stream.ts";
import { integers } from "../../src/tensor.ts";
import { onDevice, onDevices } from "../devices.ts";
import { toyConfig } from "./toy.ts";

const lines: Line[] = [
  { input_ids: [2, 9, 1, 6, 1, 3], labels: [-100, -100, 7, -100, 12, -100] },
  { input_ids: [5] },
  { input_ids: [2, 1, 3], labels: [2, 4, -100] },
];
const asked = [
  [2, 7],
  [4, 12],
  [7, 2],
  [8, 4],
]; // places in the stream of all lines, and their labels
const { width: C, heads: H, layers: L, vocabulary: V } = toyConfig;
const all = new Set<Inside>(insides);

describe("lines", () => {
  test("are one JSON object each; empty ones are left out, labels are optional", () => {
    expect(parseLines('{"input_ids": [2, 1], "labels": [-100, 5]}\r\n\n  {"input_ids": [7]}\n')).toEqual([
      { input_ids: [2, 1], labels: [-100, 5] },
      { input_ids: [7] },
    ]);
  });

  test.each([
    ["", "cells.jsonl: has no lines"],
    ["\n \n", "cells.jsonl: has no lines"],
    ['{"input_ids": [1]}\n\n{"input_ids": [1', "cells.jsonl: line 3 is not JSON"],
    ["null", "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ["[1, 2]", "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ['{"tokens": [1]}', "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ['{"input_ids": []}', "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ['{"input_ids": [1.5]}', "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ['{"input_ids": [-1]}', "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ['{"input_ids": ["1"]}', "cells.jsonl: line 1 has no list of tokens in input_ids"],
    ['{"input_ids": [1, 2], "labels": [3]}', "cells.jsonl: line 1 has labels that do not match its input_ids"],
    ['{"input_ids": [1], "labels": [null]}', "cells.jsonl: line 1 has labels that do not match its input_ids"],
    ['{"input_ids": [1], "labels": 5}', "cells.jsonl: line 1 has labels that do not match its input_ids"],
  ])("%j is refused", (text, message) => {
    expect(() => parseLines(text, "cells.jsonl")).toThrow(`${message}; each is {"input_ids": [...], "labels": [...]}`);
  });
});

onDevices((device, name) => {
  const tolerance = name === "reference" ? 1e-7 : 2e-5; // what is written is f32
  let model: Geneformer;
  let got: Map<string, { shape: readonly number[]; data: Float32Array }>;
  let live = 0;
  beforeAll(async () => {
    model = new Geneformer(toyConfig, Key.from(6));
    live = device().memory.live;
    got = new Map(await inspect(model, lines, all));
  });
  const data = (name: string) => got.get(name)!.data;
  const close = (values: ArrayLike<number>, want: ArrayLike<number>) => {
    expect(values).toHaveLength(want.length);
    for (let i = 0; i < want.length; i++)
      expect(Math.abs(values[i] - want[i])).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(want[i])));
  };
  const row = (values: Float32Array, i: number, length: number) => [...values.subarray(i * length, (i + 1) * length)];

  test("has a tensor for everything asked, of the shape that is due, and leaves no memory behind", () => {
    const shapes = Object.fromEntries([...got].map(([name, { shape }]) => [name, shape]));
    lines.forEach(({ input_ids: { length: T } }, i) => {
      for (let layer = 0; layer <= L; layer++) expect(shapes[`hidden.${layer}.${i}`]).toEqual([T, C]);
      for (let layer = 1; layer <= L; layer++) expect(shapes[`attention.${layer}.${i}`]).toEqual([H, T, T]);
      expect(shapes[`logits.${i}`]).toEqual([T, V]);
    });
    expect(shapes.loss).toEqual([1]);
    const gradients = Object.keys(shapes).filter((name) => name.startsWith("gradient."));
    const named = new Map([...parameters(model)].map(([name, t]) => [name, t.shape]));
    expect(gradients).toHaveLength(named.size);
    for (const name of gradients) expect(shapes[name], name).toEqual(named.get(ourName(name.slice("gradient.".length)) ?? ""));
    expect(got.size).toBe(lines.length * (L + 1 + L + 1) + 1 + named.size);
    expect(device().memory.live).toBe(live);
  });

  test("hidden states are the model's, whatever else is in a batch", async () => {
    const stream = () => streamOf(lines.map(({ input_ids }) => input_ids), toyConfig); // biome-ignore format: one line
    const states = inference(() => [...model.hidden(stream())]);
    for (const [layer, x] of states.entries()) {
      close(lines.flatMap((_, i) => [...data(`hidden.${layer}.${i}`)]), await x.data()); // biome-ignore format: one line
      x.free();
    }
  });

  test("a row of attention sums to 1, and a gene alone looks at itself", () => {
    lines.forEach(({ input_ids: { length: T } }, i) => {
      for (let layer = 1; layer <= L; layer++) {
        const weights = data(`attention.${layer}.${i}`);
        for (let at = 0; at < H * T; at++) {
          expect(Math.abs(row(weights, at, T).reduce((a, b) => a + b, 0) - 1)).toBeLessThan(1e-5);
          for (const weight of row(weights, at, T)) expect(weight).toBeGreaterThanOrEqual(0);
        }
      }
    });
    expect([...data("attention.1.1")]).toEqual([1, 1]); // a gene alone looks at itself
    expect(row(data("attention.1.0"), 0, 6)).not.toEqual(row(data("attention.1.0"), 6, 6)); // heads differ
  });

  test("attention is softmax(q k / sqrt(D)) of the states below, head by head", async () => {
    const named = new Map(parameters(model));
    const values = async (parameter: string) => Float64Array.from(await named.get(parameter)!.data());
    const D = C / H;
    for (let layer = 1; layer <= L; layer++) {
      const linear = async (part: string) => {
        const [weight, bias] = [await values(`layers.${layer - 1}.${part}.weight`), await values(`layers.${layer - 1}.${part}.bias`)];
        return (x: number[]) => Array.from(bias, (b, o) => x.reduce((sum, value, c) => sum + value * weight[o * C + c], b));
      };
      const [query, key] = [await linear("query"), await linear("key")];
      for (const [i, { input_ids: cell }] of lines.entries()) {
        const states = cell.map((_, place) => row(data(`hidden.${layer - 1}.${i}`), place, C));
        const want = Array.from({ length: H }, (_, head) => {
          const part = (x: number[]) => x.slice(head * D, (head + 1) * D);
          return states.map((x) => {
            const scores = states.map((y) => part(query(x)).reduce((sum, q, d) => sum + q * part(key(y))[d], 0) / Math.sqrt(D));
            const total = scores.reduce((sum, score) => sum + Math.exp(score), 0);
            return scores.map((score) => Math.exp(score) / total);
          });
        });
        close(data(`attention.${layer}.${i}`), want.flat(2));
      }
    }
  });

  test("the loss is the mean over all labelled places of all lines", () => {
    const logits = lines.flatMap(({ input_ids }, i) => input_ids.map((_, place) => row(data(`logits.${i}`), place, V)));
    const parts = asked.map(([place, label]) => Math.log(logits[place].reduce((sum, x) => sum + Math.exp(x), 0)) - logits[place][label]);
    close(data("loss"), [parts.reduce((a, b) => a + b, 0) / parts.length]);
  });

  test("only what is asked for is computed and written", async () => {
    const names = async (...what: Inside[]) => (await inspect(model, lines.slice(0, 2), new Set(what))).map(([name]) => name);
    expect(await names("hidden")).toEqual(["hidden.0.0", "hidden.1.0", "hidden.2.0", "hidden.0.1", "hidden.1.1", "hidden.2.1"]);
    expect(await names("attention")).toEqual(["attention.1.0", "attention.2.0", "attention.1.1", "attention.2.1"]);
    expect(await names("logits")).toEqual(["logits.0", "logits.1"]);
    expect(await names("loss")).toEqual(["loss"]);
    expect((await names("gradients")).every((name) => name.startsWith("gradient."))).toBe(true);
  });
});

onDevice("reference", () => {
  test("gradients are the slopes of the loss: differences in f64 along every parameter", async () => {
    const model = new Geneformer(toyConfig, Key.from(6));
    const got = new Map(await inspect(model, lines, new Set<Inside>(["gradients"])));
    const tokens = lines.map(({ input_ids }) => input_ids);
    const loss = async () => {
      const value = inference(() =>
        model.loss(
          streamOf(tokens, toyConfig),
          index(asked.map(([place]) => place), tokens.flat().length),
          integers(asked.map(([, label]) => label)),
        ),
      ); // biome-ignore format: one line
      const number = await value.item();
      value.free();
      return number;
    };
    const step = 1e-5;
    let [checked, largest] = [0, 0];
    for (const [name, { data }] of got) {
      const parameter = new Map(parameters(model)).get(ourName(name.slice("gradient.".length)) ?? "")!;
      const before = Float64Array.from(await parameter.data());
      const direction = Key.from(1).fold(checked++).uniforms(before.length).map((u) => 2 * u - 1); // biome-ignore format: one line
      // <pad>'s embedding is frozen: it has a slope, but no gradient
      if (name.includes("word_embeddings")) direction.fill(0, 0, C);
      const side = async (sign: number) => {
        parameter.write(before.map((w, i) => w + sign * step * direction[i]));
        return loss();
      };
      const slope = ((await side(1)) - (await side(-1))) / (2 * step);
      parameter.write(before);
      const tape = data.reduce((sum, g, i) => sum + g * direction[i], 0);
      largest = Math.max(largest, Math.abs(slope));
      expect(Math.abs(tape - slope), `${name}: ${tape} but ${slope}`).toBeLessThan(1e-6 * Math.max(1, Math.abs(slope)));
    }
    expect(checked).toBe([...parameters(model)].length);
    expect(largest).toBeGreaterThan(0.1);
    freeParameters(model);
  });

  describe("is refused, with the line:", () => {
    const bad = (line: Line): Line[] => [lines[0], line];
    test.each<[string, Line[], Inside, string]>([
      [
        "a token beyond the vocabulary",
        bad({ input_ids: [2, 16] }),
        "hidden",
        "inspect: token 16 at place 1 of line 1 is beyond the model's vocabulary of 16; was it tokenized with another dictionary?",
      ],
      [
        "a label beyond the vocabulary",
        bad({ input_ids: [2, 1], labels: [-100, 16] }),
        "loss",
        "inspect: label 16 at place 1 of line 1 is beyond the model's vocabulary of 16; ignored places are -100",
      ],
      [
        "a label below it",
        bad({ input_ids: [1], labels: [-1] }),
        "hidden",
        "inspect: label -1 at place 0 of line 1 is beyond the model's vocabulary of 16; ignored places are -100",
      ],
      [
        "a line longer than the model",
        bad({ input_ids: new Array(21).fill(4) }),
        "hidden",
        "inspect: line 1 has 21 tokens, but the model has positions for 20; shorten it",
      ],
      [
        "a loss without labels",
        [lines[1]],
        "loss",
        "inspect: no line has labels, so there is no loss; give labels, or leave loss and gradients out of --what",
      ],
      ["gradients of labels that are all ignored", [{ input_ids: [4], labels: [-100] }], "gradients", "inspect: no line has labels"],
    ])("%s", async (_, given, what, message) => {
      const model = new Geneformer(toyConfig, null);
      await expect(inspect(model, given, new Set([what]))).rejects.toThrow(RangeError);
      await expect(inspect(model, given, new Set([what]))).rejects.toThrow(message);
      freeParameters(model);
    });
  });
});

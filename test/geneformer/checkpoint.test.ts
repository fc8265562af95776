/** Hugging Face's files: every name both ways, what is written is read, and what does not belong is named. */

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeAll, describe, expect, test } from "vitest";
import {
  huggingFaceName,
  modelFiles,
  modelFromSafetensors,
  modelFromWeights,
  modelVocabulary,
  ourName,
  readModel,
  writeModel,
} from "../../geneformer/checkpoint.ts";
import type { Config } from "../../geneformer/config.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { freeParameters, parameters } from "../../nn/module.ts";
import { floats, openSafetensors, readSafetensors, type SafeDtype, type SafeTensor, writeSafetensors } from "../../nn/safetensors.ts";
import type { Source } from "../../nn/source.ts";
import { type Device, use, withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { onDevice } from "../devices.ts";
import { scratch } from "./data/scratch.ts";
import { randomWeights, toyConfig, V2 } from "./toy.ts";

const path = scratch();
const config: Config = { ...toyConfig, layers: 12 }; // two digits in a layer's name
const shapes = withDevice(openReference(), () =>
  [...parameters(new Geneformer(config, null))].map(([name, t]) => [name, t.shape] as const),
);

describe("names", () => {
  test("every parameter has one of Hugging Face's, which leads back to it", () => {
    const theirs = shapes.map(([name]) => huggingFaceName(name));
    expect(new Set(theirs).size).toBe(5 + 12 * 16 + 5); // embeddings, layers, head
    expect(theirs.map(ourName)).toEqual(shapes.map(([name]) => name));
  });

  test.each([
    ["embeddings.word.weight", "bert.embeddings.word_embeddings.weight"],
    ["embeddings.position.weight", "bert.embeddings.position_embeddings.weight"],
    ["embeddings.type.weight", "bert.embeddings.token_type_embeddings.weight"],
    ["embeddings.norm.bias", "bert.embeddings.LayerNorm.bias"],
    ["layers.0.query.weight", "bert.encoder.layer.0.attention.self.query.weight"],
    ["layers.11.output.bias", "bert.encoder.layer.11.attention.output.dense.bias"],
    ["layers.3.norm1.weight", "bert.encoder.layer.3.attention.output.LayerNorm.weight"],
    ["layers.3.up.weight", "bert.encoder.layer.3.intermediate.dense.weight"],
    ["layers.3.down.weight", "bert.encoder.layer.3.output.dense.weight"],
    ["layers.3.norm2.weight", "bert.encoder.layer.3.output.LayerNorm.weight"],
    ["head.dense.weight", "cls.predictions.transform.dense.weight"],
    ["head.norm.bias", "cls.predictions.transform.LayerNorm.bias"],
    ["head.bias", "cls.predictions.bias"],
  ])("%s is %s", (ours, theirs) => {
    expect(huggingFaceName(ours)).toBe(theirs);
    expect(ourName(theirs)).toBe(ours);
  });

  test("what is not in a BERT for masked language models has none", () => {
    for (const name of [
      "classifier.weight",
      "bert.pooler.dense.bias",
      "bert.encoder.layer.0.attention.self.rotary.weight",
      "",
      "x",
      "weight",
    ])
      expect(ourName(name), name).toBeNull();
    expect(() => huggingFaceName("layers.0.gate.weight")).toThrow('checkpoint: "layers.0.gate.weight" has no Hugging Face name');
    expect(() => huggingFaceName("layers.0.query.lora_A.weight")).toThrow(
      'checkpoint: "layers.0.query.lora_A.weight" has no Hugging Face name; mergeLora(model) first',
    );
  });
});

type Raw = [name: string, tensor: SafeTensor];

onDevice("cpu", (device) => {
  let file: Uint8Array;
  let all: Raw[];
  beforeAll(async () => {
    file = await randomWeights();
    all = [...readSafetensors(file).tensors];
  });
  const WORD = "bert.embeddings.word_embeddings.weight";
  const get = (name: string) => all.find(([each]) => each === name)![1];
  const without = (...names: string[]) => all.filter(([name]) => !names.includes(name));
  const f32 = (...values: number[]) => new Uint8Array(Float32Array.of(...values).buffer);
  const load = (tensors: readonly Raw[], options = {}) => modelFromSafetensors(writeSafetensors(tensors), toyConfig, options);
  const valuesOf = async (model: Geneformer) => {
    const values = new Map<string, number[]>();
    for (const [name, t] of parameters(model)) values.set(name, [...(await t.data())]);
    freeParameters(model);
    return values;
  };

  test("what is written is read: weights to the bit, config, dictionary", async () => {
    const model = new Geneformer(toyConfig, Key.from(9));
    await writeModel(path("model"), model, V2);
    expect(readdirSync(path("model")).sort()).toEqual(["config.json", "dictionary", "model.safetensors"]);
    const again = await readModel(path("model"));
    expect(again.config).toEqual(toyConfig);
    expect(await valuesOf(again)).toEqual(await valuesOf(model));
    expect((await modelVocabulary(path("model")))?.tokens).toEqual(V2.tokens);

    const names = [...readSafetensors(readFileSync(path("model/model.safetensors"))).tensors.keys()];
    expect(names).toEqual([...names].sort());
    expect(names).not.toContain("cls.predictions.decoder.weight"); // tied: Hugging Face makes it of the embeddings
    expect(JSON.parse(readFileSync(path("model/config.json"), "utf8"))).toMatchObject({
      model_type: "bert",
      hidden_size: 16,
      vocab_size: 16,
    });
  });

  test("a folder without a dictionary has none, and one that exists is not written over without force", async () => {
    const model = new Geneformer(toyConfig, null);
    await writeModel(path("bare"), model, null);
    expect(await modelVocabulary(path("bare"))).toBeNull();
    await expect(writeModel(path("bare"), model, null)).rejects.toThrow(/exists; remove it, choose another name, or use --force/);
    await writeModel(path("bare"), model, V2, { force: true });
    expect(await modelVocabulary(path("bare"))).not.toBeNull();
    freeParameters(model);
  });

  describe("what Hugging Face's files also hold", () => {
    const decoder = (): Raw => ["cls.predictions.decoder.weight", get(WORD)];
    const bias = (): Raw => ["cls.predictions.decoder.bias", get("cls.predictions.bias")];

    test("a decoder that is the embeddings is skipped", async () => {
      expect(await valuesOf(load([...all, decoder(), bias()]))).toEqual(await valuesOf(load(all)));
    });

    test("one that is not is refused: the model would be another", () => {
      const bytes = Uint8Array.from(get(WORD).bytes);
      bytes[17] ^= 1;
      expect(() => load([...all, ["cls.predictions.decoder.weight", { ...get(WORD), bytes }]])).toThrow(
        new TypeError(
          `checkpoint: "cls.predictions.decoder.weight" differs from "${WORD}" in model.safetensors; Geneformer's decoder is tied to its embeddings`,
        ),
      );
      expect(() =>
        load([...all, ["cls.predictions.decoder.bias", { dtype: "F32", shape: [16], bytes: f32(...new Array(16).fill(1)) }]]),
      ).toThrow(/"cls.predictions.decoder.bias" differs from "cls.predictions.bias"/);
    });

    test("position ids are no weights", async () => {
      const ids = new Uint8Array(BigInt64Array.from({ length: 20 }, (_, i) => BigInt(i)).buffer);
      expect(await valuesOf(load([...all, ["bert.embeddings.position_ids", { dtype: "I64", shape: [1, 20], bytes: ids }]]))).toEqual(
        await valuesOf(load(all)),
      );
    });
  });

  describe("tensors that do not fit are named:", () => {
    const query = "bert.encoder.layer.1.attention.self.query.weight";
    test.each<[string, () => Raw[], string]>([
      [
        "unknown",
        () => [...all, ["bert.embeddings.rotary.weight", get(WORD)]],
        '"bert.embeddings.rotary.weight" is in model.safetensors but not in the model (2 layers, width 16); does config.json belong to it?',
      ],
      [
        "of a layer too many",
        () => [...all, ["bert.encoder.layer.2.output.dense.bias", get("bert.encoder.layer.1.output.dense.bias")]],
        '"bert.encoder.layer.2.output.dense.bias" is in model.safetensors but not in the model (2 layers, width 16); does config.json belong to it?',
      ],
      [
        "of another task",
        () => [...all, ["classifier.bias", get("cls.predictions.bias")]],
        '"classifier.bias" is in model.safetensors but not in the model',
      ],
      ["missing", () => without(query), `"${query}" [16, 16] is missing from model.safetensors (41 tensors)`],
      ["missing, from the head", () => without("cls.predictions.bias"), '"cls.predictions.bias" [16] is missing from model.safetensors'],
      [
        "misshapen",
        () => [...without(query), [query, { ...get(query), shape: [8, 32] }]],
        `"${query}" is [8, 32] in model.safetensors, but config.json makes it [16, 16]`,
      ],
      [
        "flat",
        () => [...without(query), [query, { ...get(query), shape: [256] }]],
        `"${query}" is [256] in model.safetensors, but config.json makes it [16, 16]`,
      ],
      [
        "integers",
        () => [...without(query), [query, { ...get(query), dtype: "I32" }]],
        `${query}: is I32; weights must be F32, F64, F16, BF16 or F8`,
      ],
    ])("%s", (_, tensors, message) => {
      const { live } = device().memory;
      expect(() => load(tensors())).toThrow(TypeError);
      expect(() => load(tensors())).toThrow(message);
      expect(device().memory.live).toBe(live);
    });
  });

  describe("an encoder alone is enough where it is said to be", () => {
    const encoder = () => all.filter(([name]) => !name.startsWith("cls."));
    const classifier = (): Raw[] => [
      ["bert.pooler.dense.weight", { dtype: "F32", shape: [1], bytes: f32(1) }],
      ["classifier.bias", { dtype: "F32", shape: [2], bytes: f32(1, 2) }],
      ["cls.seq_relationship.bias", { dtype: "F32", shape: [1], bytes: f32(3) }],
    ];

    test("a BertModel, whose names have no bert. before them", async () => {
      const bare = [...encoder(), ...classifier()].filter(([name]) => name.startsWith("bert.")).map(([name, tensor]): Raw => [name.slice(5), tensor]); // biome-ignore format: one line
      expect(bare.map(([name]) => name)).toContain("pooler.dense.weight");
      expect(await valuesOf(load(bare, { encoderOnly: true }))).toEqual(await valuesOf(load(encoder(), { encoderOnly: true })));
      expect(() => load(bare)).toThrow(/"(embeddings|encoder|pooler)\..*" is in model.safetensors but not in the model/);
      expect(() => load(bare.slice(1), { encoderOnly: true })).toThrow(/"bert\..*" .* is missing from model.safetensors/);
    });

    test("a classifier's head is left out, and the missing one is zeros", async () => {
      const values = await valuesOf(load([...encoder(), ...classifier()], { encoderOnly: true }));
      for (const [name, want] of await valuesOf(load(all)))
        expect(values.get(name), name).toEqual(name.startsWith("head.") ? want.map(() => 0) : want);
    });

    test("otherwise neither is", () => {
      expect(() => load(encoder())).toThrow('"cls.predictions.transform.dense.weight" [16, 16] is missing');
      expect(() => load([...all, ...classifier()])).toThrow('"bert.pooler.dense.weight" is in model.safetensors but not in the model');
    });

    test("of the encoder nothing may be missing or too much", () => {
      expect(() =>
        load(
          encoder().filter(([name]) => name !== WORD),
          { encoderOnly: true },
        ),
      ).toThrow(`"${WORD}" [16, 16] is missing`);
      expect(() => load([...encoder(), ["bert.embeddings.rotary.weight", get(WORD)]], { encoderOnly: true })).toThrow("rotary");
    });
  });

  test.each<[SafeDtype, number]>([
    ["F16", 2 ** -10],
    ["BF16", 2 ** -7],
  ])("%s weights are widened", async (dtype, precision) => {
    const narrow = (x: number): number => {
      // both keep the top of an f32: BF16 its first 16 bits, F16 five bits of exponent and ten of fraction
      const bits = new Uint32Array(Float32Array.of(x).buffer)[0];
      if (dtype === "BF16") return bits >>> 16;
      const exponent = ((bits >>> 23) & 255) - 127 + 15;
      return exponent <= 0 ? (bits >>> 16) & 0x8000 : ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 1023);
    };
    const narrowed = all.map(([name, t]): Raw => {
      const values = floats({ ...t, dtype: "F32" }, name);
      return [name, { dtype, shape: t.shape, bytes: new Uint8Array(Uint16Array.from(values, narrow).buffer) }];
    });
    const want = await valuesOf(load(all));
    const got = await valuesOf(load(narrowed));
    for (const [name, values] of want)
      values.forEach((value, i) => {
        expect(Math.abs(got.get(name)![i] - value), name).toBeLessThanOrEqual(precision * Math.abs(value) + 2 ** -14);
      });
    expect(got).not.toEqual(want);
  });

  describe("the weights of a folder", () => {
    const relu = (name: string) => new URL(`../golden/${name}`, import.meta.url);
    /** A folder with the config.json of a golden model and these files. */
    const folder = (name: string, files: Record<string, Uint8Array | string>) => {
      mkdirSync(path(name), { recursive: true });
      cpSync(relu("model-relu/config.json"), path(`${name}/config.json`));
      for (const [file, content] of Object.entries(files)) writeFileSync(path(`${name}/${file}`), content);
      return path(name);
    };
    const read = async (directory: string) => valuesOf(await readModel(directory));
    const whole = readFileSync(relu("model-relu/model.safetensors"));
    const tensors = [...readSafetensors(whole).tensors];
    const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    const shards = {
      [names[0]]: writeSafetensors(tensors.slice(0, 20)),
      [names[1]]: writeSafetensors(tensors.slice(20)),
      "model.safetensors.index.json": JSON.stringify({
        weight_map: Object.fromEntries(tensors.map(([name], i) => [name, names[i < 20 ? 0 : 1]])),
      }),
    };

    test("in shards are the whole", async () => {
      expect(await read(folder("shards", shards))).toEqual(await read(folder("whole", { "model.safetensors": whole })));
    });

    test("as torch.save wrote them, with a tied decoder and position ids, are the same", async () => {
      const bin = readFileSync(relu("torch/pytorch_model.bin"));
      expect(await read(folder("bin", { "pytorch_model.bin": bin }))).toEqual(await read(folder("whole", { "model.safetensors": whole })));
    });

    test("the first of them counts: model.safetensors, shards, pytorch_model.bin", async () => {
      const wrong = "not weights";
      expect(
        await read(folder("first", { "model.safetensors": whole, "model.safetensors.index.json": wrong, "pytorch_model.bin": wrong })),
      ).toBeDefined();
      expect(await read(folder("second", { ...shards, "pytorch_model.bin": wrong }))).toBeDefined();
      await expect(read(folder("third", { "pytorch_model.bin": wrong }))).rejects.toThrow(
        /pytorch_model\.bin: not a checkpoint of PyTorch: it is no zip archive$/,
      );
    });

    test("a shard that is missing, and names that do not belong, are named as ever", async () => {
      await expect(read(folder("gap", { ...shards, [names[1]]: shards[names[0]] }))).rejects.toThrow(
        /index\.json: not a valid index of a checkpoint: ".*" is not in .*model-00002-of-00002\.safetensors, where it should be$/,
      );
      rmSync(path(`gap/${names[1]}`));
      await expect(readModel(path("gap"))).rejects.toThrow(/model-00002-of-00002\.safetensors" does not exist; check the path$/);
      const evil = readFileSync(relu("torch/evil.pt"));
      await expect(read(folder("evil", { "pytorch_model.bin": evil }))).rejects.toThrow(
        /evil\/pytorch_model\.bin: pickle: refuses (posix|nt)\.system/,
      );
      const other = readFileSync(relu("torch/views.pt"));
      const { live } = device().memory;
      await expect(read(folder("other", { "pytorch_model.bin": other }))).rejects.toThrow(
        /pytorch_model\.bin but 13 tensors|is in .*pytorch_model\.bin but not in the model/,
      );
      expect(device().memory.live).toBe(live);
    });

    test("what is streamed to disk is what is made in memory", async () => {
      const model = await readModel(folder("whole", { "model.safetensors": whole }));
      await writeModel(path("streamed"), model, null);
      for (const [name, content] of await modelFiles(model))
        expect(readFileSync(path(`streamed/${name}`))).toEqual(Buffer.from(content as Uint8Array));
      freeParameters(model);
    });
  });

  describe("a folder that is none is refused in words:", () => {
    beforeAll(async () => {
      const model = new Geneformer(toyConfig, Key.from(5));
      await writeModel(path("good"), model, V2);
      freeParameters(model);
    });
    /** The good folder with other fields in config.json, or another config.json, and other weights. */
    const write = (name: string, change: Record<string, unknown> | number = {}, weights: Uint8Array | null = file) => {
      rmSync(path(name), { recursive: true, force: true });
      cpSync(path("good"), path(name), { recursive: true });
      const json = JSON.parse(readFileSync(path("good/config.json"), "utf8"));
      writeFileSync(path(`${name}/config.json`), JSON.stringify(typeof change === "number" ? change : { ...json, ...change }));
      if (weights) writeFileSync(path(`${name}/model.safetensors`), weights);
      else rmSync(path(`${name}/model.safetensors`));
      return path(name);
    };
    test.each<[string, Record<string, unknown> | number, RegExp]>([
      ["no vocab_size", { vocab_size: undefined }, /config\.json: "vocab_size" \(vocabulary\) is missing$/],
      ["no hidden_size", { hidden_size: undefined }, /config\.json: "hidden_size" \(width\) is missing$/],
      ["layers in words", { num_hidden_layers: "two" }, /config\.json: layers must be a number; got "two"$/],
      ["a GPT", { model_type: "gpt2" }, /config\.json: model_type is "gpt2"; Geneformer is a "bert"$/],
      ["heads that do not divide", { num_attention_heads: 3 }, /config\.json: width 16 does not divide into 3 heads$/],
      [
        "relative positions",
        { position_embedding_type: "relative_key" },
        /config\.json: position_embedding_type is "relative_key"; only "absolute"/,
      ],
      ["another nonlinearity", { hidden_act: "swish" }, /config\.json: activation must be relu or gelu; got "swish"$/],
      ["no object", 7, /config\.json: is not a JSON object$/],
      [
        "a billion layers",
        { num_hidden_layers: 1e9 },
        /config\.json has 1000000000 layers, .*model\.safetensors but \d+ tensors; do they belong together\?$/,
      ],
      ["a deviation in words", { initializer_range: "abc" }, /config\.json: deviation must be a number; got "abc"$/],
      ["another width", { hidden_size: 32 }, /is \[16, 16\] in .*model\.safetensors, but config\.json makes it \[16, 32\]$/],
    ])("%s", async (_, change, message) => {
      await expect(readModel(write("odd", change))).rejects.toThrow(message);
    });

    test("no files", async () => {
      await expect(readModel(path("nowhere"))).rejects.toThrow(
        /nowhere" has no config\.json; give a folder with config\.json and model\.safetensors$/,
      );
      await expect(readModel(write("weightless", {}, null))).rejects.toThrow(
        /weightless" has none of model\.safetensors, model\.safetensors\.index\.json, pytorch_model\.bin; give a folder with config\.json and one/,
      );
    });

    test("weights that are cut off, or that lie", async () => {
      await expect(readModel(write("cut", {}, file.subarray(0, -9)))).rejects.toThrow(
        /cut\/model\.safetensors: not a valid safetensors file: .* but there are \d+ bytes of data$/,
      );
      const lying = Uint8Array.from(file);
      new DataView(lying.buffer).setBigUint64(0, 2n ** 60n, true);
      await expect(readModel(write("lying", {}, lying))).rejects.toThrow(
        /lying\/model\.safetensors: not a valid safetensors file: the header claims \d+ bytes/,
      );
    });
  });
});

describe("a model is loaded", () => {
  const large: Config = { ...toyConfig, vocabulary: 1000, width: 256, layers: 6, heads: 4, inner: 1024, length: 512 };
  const tensors = 5 + 16 * 6 + 5; // embeddings, layers, head
  const LARGEST = 256 * 1024 * 4; // bytes of layers.{i}.up.weight

  /** Knows sizes and keeps nothing: what is in memory beside it is what loading holds. */
  const nothing = (upload: Device["upload"]): Device => ({
    name: "reference",
    description: "sizes alone",
    memory: { live: 0, peak: 0, reserved: 0, limit: 0 },
    allocate: (dtype, length) => ({ dtype, length }),
    free: () => {},
    upload,
    run: () => {},
    read: () => Promise.reject(new Error("there is nothing to read")),
    close: () => {},
  });

  /** All that stands before the data in the file of such a model, and the file's size. */
  function headOf(config: Config): { head: Uint8Array; size: number } {
    const shapes = withDevice(
      nothing(() => {}),
      () => [...parameters(new Geneformer(config, null))].map(([name, t]) => [huggingFaceName(name), t.shape] as const),
    );
    const file = writeSafetensors(
      shapes.map(([name, shape]) => [name, { shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) }]),
    );
    const data = [...readSafetensors(file).tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
    return { head: file.slice(0, file.length - data), size: file.length };
  }

  test("with one tensor at a time in memory beside it, each written before the next is read", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const held = () => {
      collect();
      collect(); // the first may leave buffers to a thread that frees them meanwhile
      return process.memoryUsage().arrayBuffers;
    };
    const { head, size } = headOf(large);
    expect(size).toBeGreaterThan(18 * LARGEST);
    const events: string[] = [];
    let [base, most] = [0, 0];
    const measure = (bytes: number) => {
      if (base > 0 && bytes === LARGEST) most = Math.max(most, held() - base);
    };
    use(
      nothing((_, values) => {
        measure(4 * values.length);
        events.push(`write ${values.length}`); // after measuring, so that the values live until then
      }),
    );
    try {
      const source: Source = {
        name: "large.safetensors",
        size,
        async read(start, end) {
          if (end <= head.length) return head.subarray(start, end);
          measure(end - start);
          events.push(`read ${(end - start) / 4}`);
          return new Uint8Array(end - start);
        },
      };
      const weights = await openSafetensors(source);
      base = held();
      await modelFromWeights(weights, large);
    } finally {
      use(null);
    }
    const loading = events.slice(events.findIndex((event) => event.startsWith("read")));
    expect(loading).toHaveLength(2 * tensors);
    for (let i = 0; i < loading.length; i += 2) expect(loading[i + 1]).toBe(loading[i].replace("read", "write"));
    expect(most).toBeGreaterThan(LARGEST / 2); // what else the process lets go meanwhile counts against it
    expect(most, `of ${size} bytes`).toBeLessThan(2.5 * LARGEST); // the one, and one before it that the collector has not let go
  });
});

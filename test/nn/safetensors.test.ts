/** safetensors: what is written is read again, and a file that lies is told so. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  floats,
  integers,
  openSafetensors,
  openSharded,
  readSafetensors,
  type SafeDtype,
  streamSafetensors,
  type Written,
  writeSafetensors,
} from "../../nn/safetensors.ts";
import { blobSource, bytesSource, type Source } from "../../nn/source.ts";
import { openTorch, openTorchWeights } from "../../nn/torch.ts";

/** A file of a header and some bytes of data. */
const fileOf = (header: unknown, data = 0, length?: bigint): Uint8Array => {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + data);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  file.set(json, 8);
  return file;
};

test.each<[string, unknown]>([
  ["a path", "model.safetensors"],
  ["bytes", new Uint8Array(8)],
  ["a Blob", new Blob([])],
  ["undefined", undefined],
])("%s is no source, and the error says what makes one", async (what, given) => {
  for (const [name, open] of Object.entries({ openSafetensors, openTorch, openTorchWeights }))
    await expect(open(given as Source)).rejects.toThrow(
      new TypeError(
        `${name}(source): ${what} is no source; give bytesSource(bytes) or blobSource(blob), of a file on disk blobSource(await fs.openAsBlob(path))`,
      ),
    );
});

test("tensors come back with their names, shapes, values and metadata", () => {
  const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 });
  const name = fc.string({ minLength: 1 }).filter((key) => key !== "__metadata__");
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, shape), { selector: ([key]) => key, maxLength: 6 }), (all) => {
      const given = all.map(
        ([key, shape], i) =>
          [key, { shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, j) => i + j / 8) }] as const,
      );
      const file = writeSafetensors(given, { format: "pt", made: "here" });
      const { tensors, metadata } = readSafetensors(file);
      expect(metadata).toEqual({ format: "pt", made: "here" });
      expect([...tensors.keys()].sort()).toEqual(all.map(([key]) => key).sort());
      for (const [key, { shape, data }] of given) {
        expect(tensors.get(key)!.shape).toEqual(shape);
        expect(floats(tensors.get(key)!)).toEqual(data);
      }
    }),
    { seed: 1, numRuns: 50 },
  );
});

test("data begins at a multiple of 8, and a view into a larger buffer, or a Node Buffer, reads the same", () => {
  const file = writeSafetensors([["x", { shape: [3], data: [1, 2, 3] }]]);
  expect(Number(new DataView(file.buffer).getBigUint64(0, true)) % 8).toBe(0);
  const larger = new Uint8Array(file.length + 13);
  larger.set(file, 5);
  for (const view of [larger.subarray(5, 5 + file.length), Buffer.from(larger).subarray(5, 5 + file.length)])
    expect([...floats(readSafetensors(view).tensors.get("x")!)]).toEqual([1, 2, 3]);
});

test("every float dtype is read", () => {
  const header = (dtype: string, size: number) => ({ x: { dtype, shape: [4], data_offsets: [0, 4 * size] } });
  const read = (dtype: string, bytes: ArrayBufferView) => {
    const file = fileOf(header(dtype, bytes.byteLength / 4), bytes.byteLength);
    file.set(new Uint8Array(bytes.buffer), file.length - bytes.byteLength);
    return [...floats(readSafetensors(file).tensors.get("x")!)];
  };
  expect(read("F64", Float64Array.of(1, -2.5, 0, 1e300))).toEqual([1, -2.5, 0, Number.POSITIVE_INFINITY]);
  expect(read("F32", Float32Array.of(1, -2.5, 0, 3))).toEqual([1, -2.5, 0, 3]);
  // IEEE 754 binary16: 1, -2, the least subnormal, the largest number
  expect(read("F16", Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff))).toEqual([1, -2, 2 ** -24, 65504]);
  expect(read("F16", Uint16Array.of(0x7c00, 0xfc00, 0x7e00, 0x8000))).toEqual([
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
    -0,
  ]);
  expect(read("BF16", Uint16Array.of(0x3f80, 0xc000, 0x0000, 0x4049))).toEqual([1, -2, 0, 3.140625]);
  expect(read("F8_E4M3", Uint8Array.of(0x38, 0xb9, 0x7e, 0x7f))).toEqual([1, -1.125, 448, Number.NaN]);
  expect(read("F8_E5M2", Uint8Array.of(0x3c, 0xbd, 0x7b, 0x7c))).toEqual([1, -1.25, 57344, Number.POSITIVE_INFINITY]);
  expect(read("F8_E8M0", Uint8Array.of(126, 127, 128, 129))).toEqual([0.5, 1, 2, 4]);
  expect(() => read("I32", Int32Array.of(1, 2, 3, 4))).toThrow(new TypeError("tensor: is I32; weights must be F32, F64, F16, BF16 or F8"));
});

describe("every dtype is written and read", () => {
  const round = (name: string, value: Written) => readSafetensors(writeSafetensors([[name, value]])).tensors.get(name)!;

  test("integers, at their bounds, in arrays of their own kind", () => {
    const bounds: [SafeDtype, ArrayLike<number | bigint | boolean>, ArrayBufferView][] = [
      ["I64", [-(2n ** 63n), 2n ** 63n - 1n, 5], BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, 5n)],
      ["U64", [0, 2n ** 64n - 1n], BigUint64Array.of(0n, 2n ** 64n - 1n)],
      ["I32", [-(2 ** 31), 2 ** 31 - 1], Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
      ["U32", [0, 2 ** 32 - 1], Uint32Array.of(0, 2 ** 32 - 1)],
      ["I16", [-32768, 32767], Int16Array.of(-32768, 32767)],
      ["U16", [0, 65535], Uint16Array.of(0, 65535)],
      ["I8", [-128, 127], Int8Array.of(-128, 127)],
      ["U8", [0, 255], Uint8Array.of(0, 255)],
      ["BOOL", [true, false, 1], Uint8Array.of(1, 0, 1)],
    ];
    for (const [dtype, data, want] of bounds) {
      const tensor = round("x", { dtype, shape: [data.length], data });
      expect(tensor.dtype).toBe(dtype);
      expect(integers(tensor)).toStrictEqual(want);
      expect(integers(round("x", { dtype, shape: [data.length], data: want as unknown as ArrayLike<number> }))).toStrictEqual(want);
    }
  });

  test.each<[SafeDtype, number | bigint]>([
    ["I64", 2n ** 63n],
    ["I64", 0.5],
    ["U64", -1],
    ["I32", 2 ** 31],
    ["U8", 256],
    ["U8", Number.NaN],
    ["I8", -129],
    ["BOOL", 2],
  ])("%s cannot hold %s", (dtype, value) => {
    expect(() => round("x", { dtype, shape: [2], data: [1, value] })).toThrow(
      new RangeError(`writeSafetensors: "x" has ${value} at 1, which ${dtype} cannot hold`),
    );
  });

  test("floats, rounded to their dtype", () => {
    const data = [1 / 3, -2.5, 1e6, 0];
    const read = (dtype: SafeDtype) => [...floats(round("x", { dtype, shape: [4], data }))];
    expect(read("F32")).toEqual(data.map(Math.fround));
    expect(read("F64")).toEqual(data.map(Math.fround));
    expect(read("F16")).toEqual([0.333251953125, -2.5, Number.POSITIVE_INFINITY, 0]);
    expect(read("BF16")).toEqual([0.333984375, -2.5, 999424, 0]);
    expect([...floats(round("x", { shape: [1], data: [2n ** 40n] }))]).toEqual([2 ** 40]);
  });

  test("raw bytes as they are, of any dtype; without them the odd ones are not written", () => {
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    for (const dtype of ["C64", "F8_E4M3", "BF16", "I16"] as const) {
      const shape = [dtype === "C64" ? 1 : dtype === "F8_E4M3" ? 8 : 4];
      expect(round("x", { dtype, shape, bytes })).toEqual({ dtype, shape, bytes });
    }
    expect(() => round("x", { dtype: "C64", shape: [1], data: [1] })).toThrow('"x" is C64, which is written from raw bytes alone');
    expect(() => round("x", { dtype: "F32", shape: [1], bytes })).toThrow('"x" has 8 bytes for F32 [1]');
    expect(() => floats(round("x", { dtype: "C64", shape: [1], bytes }))).toThrow("is C64; weights must be");
    expect(() => integers(round("x", { shape: [1], data: [1] }), "x")).toThrow("x: is F32; floats() reads that");
  });

  test("wide elements come first, so that none lies askew", () => {
    const file = writeSafetensors([
      ["a", { dtype: "U8", shape: [3], data: [1, 2, 3] }],
      ["b", { dtype: "F16", shape: [1], data: [1] }],
      ["c", { dtype: "I64", shape: [1], data: [4n] }],
      ["d", { shape: [1], data: [5] }],
    ]);
    const { tensors } = readSafetensors(file);
    const places = ["c", "d", "b", "a"].map((name) => tensors.get(name)!.bytes.byteOffset);
    expect(places).toEqual([places[0], places[0] + 8, places[0] + 12, places[0] + 14]);
    expect(places[0] % 8).toBe(0);
  });

  test("what lies askew, as other writers leave it, is read all the same", () => {
    const file = fileOf({ a: { dtype: "U8", shape: [1], data_offsets: [0, 1] }, b: { dtype: "F32", shape: [1], data_offsets: [1, 5] } }, 5);
    file.set(new Uint8Array(Float32Array.of(2.5).buffer), file.length - 4);
    expect([...floats(readSafetensors(file).tensors.get("b")!)]).toEqual([2.5]);
  });

  test("a name twice, or the format's own, or a size that is none, is refused", () => {
    const one = { shape: [1], data: [1] };
    expect(() =>
      writeSafetensors([
        ["x", one],
        ["x", one],
      ]),
    ).toThrow('the name "x" is given twice');
    expect(() => writeSafetensors([["__metadata__", one]])).toThrow('the name "__metadata__" is given twice, or the format\'s own');
    expect(() => writeSafetensors([["x", { shape: [-1], data: [] }]])).toThrow('"x" has the shape [-1]');
  });
});

const x = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
describe("a header that lies:", () => {
  test.each<[string, Uint8Array, string]>([
    ["too short", new Uint8Array(7), "7 bytes are too few for a header"],
    ["longer than the file", fileOf({ x }, 8, 10_000n), "the header claims 10000 bytes, the file has"],
    ["longer than the format allows", fileOf({ x }, 8, 200_000_000n), "the header claims 200000000 bytes; at most 100000000 are allowed"],
    ["not JSON", fileOf("{not json", 8), "the header is not JSON"],
    ["not an object", fileOf([1], 8), "the header is not a JSON object"],
    ["no dtype", fileOf({ x: { shape: [2], data_offsets: [0, 8] } }, 8), '"x" has the unknown dtype undefined'],
    ["an unknown dtype", fileOf({ x: { ...x, dtype: "toString" } }, 8), '"x" has the unknown dtype "toString"'],
    ["a negative size", fileOf({ x: { ...x, shape: [-2] } }, 8), '"x" has the shape [-2]'],
    ["a size that is no number", fileOf({ x: { ...x, shape: ["2"] } }, 8), '"x" has the shape ["2"]'],
    ["offsets beyond the data", fileOf({ x: { ...x, data_offsets: [0, 8] } }, 4), '"x" lies at 0 to 8, but there are 4 bytes of data'],
    ["offsets backwards", fileOf({ x: { ...x, data_offsets: [8, 0] } }, 8), '"x" lies at 8 to 0'],
    ["offsets of another size", fileOf({ x: { ...x, shape: [1] } }, 8), '"x" is F32 [1], 4 bytes, but its offsets span 8'],
    [
      "a hole",
      fileOf({ x: { ...x, data_offsets: [4, 12] } }, 12),
      '"x" begins at 4, where 0 was due: tensors must neither overlap nor leave holes',
    ],
    ["an overlap", fileOf({ x, y: { ...x, data_offsets: [4, 12] } }, 12), '"y" begins at 4, where 8 was due'],
    ["bytes at the end", fileOf({ x }, 11), "3 bytes after the last tensor belong to nothing"],
    ["a name twice", fileOf('{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0078":{}}'), 'the header gives "x" twice'],
    ["a field twice", fileOf('{"x":{"dtype":"F32","dtype":"I32","shape":[0],"data_offsets":[0,0]}}'), 'the header gives "dtype" twice'],
    [
      "a shape past all numbers",
      fileOf({ x: { ...x, shape: [2 ** 30, 2 ** 30, 2 ** 30] } }, 8),
      '"x" is F32 [1073741824, 1073741824, 1073741824], more than 2^53 bytes, but its offsets span 8',
    ],
    [
      "the same, hidden by a zero",
      fileOf({ x: { ...x, shape: [2 ** 50, 2 ** 50, 0], data_offsets: [0, 0] } }),
      '"x" is F32 [1125899906842624, 1125899906842624, 0], more than 2^53 bytes, but its offsets span 0',
    ],
    ["a fraction of a size", fileOf({ x: { ...x, shape: [1.5] } }, 8), '"x" has the shape [1.5]'],
    [
      "a shape of shapes",
      fileOf(`{"x":{"dtype":"F32","shape":${"[".repeat(5e4)}${"]".repeat(5e4)},"data_offsets":[0,8]}}`, 8),
      '"x" has the shape [{...}]',
    ],
    ["offsets past 2^53", fileOf({ x: { ...x, data_offsets: [0, 2 ** 60] } }, 8), '"x" has the offsets [0, 1152921504606847000]'],
    ["metadata that is no text", fileOf({ __metadata__: { a: { toString: 1 } } }), "its __metadata__ is not an object of strings"],
    ["metadata that is no object", fileOf({ __metadata__: "pt" }), "its __metadata__ is not an object of strings"],
    ["bytes that are no UTF-8", fileOf("{}").fill(0xff, 8), "the header is not JSON"],
    ["a byte order mark", fileOf("\ufeff{}"), "the header is not JSON"],
    [
      "a Git LFS pointer",
      new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
      "it is a Git LFS pointer and not the file itself; run: git lfs pull",
    ],
    ["nothing where a tensor should be", fileOf({ x: null }, 0), '"x" has the unknown dtype undefined'],
  ])("%s", (_, file, why) => {
    expect(() => readSafetensors(file, "model.safetensors")).toThrow(`model.safetensors: not a valid safetensors file: ${why}`);
  });

  /** Reading, whole and a tensor at a time, ends in tensors or in one sentence that begins with the file's name. */
  const readsOrSays = async (file: Uint8Array): Promise<"read" | "refused"> => {
    try {
      const { tensors } = readSafetensors(file, "m.safetensors");
      for (const tensor of tensors.values()) if (tensor.dtype.startsWith("F")) floats(tensor);
    } catch (error) {
      const sentence = (error as Error).message;
      expect(sentence).toMatch(/^m\.safetensors: not a valid safetensors file: /);
      await expect(openSafetensors(bytesSource(file, "m.safetensors"))).rejects.toThrow(sentence);
      return "refused";
    }
    const opened = await openSafetensors(bytesSource(file, "m.safetensors"));
    for (const name of opened.index.keys()) await opened.tensor(name);
    return "read";
  };

  test("whatever bytes it is", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 120 }), async (bytes, length) => {
        const file = bytes.slice();
        if (file.length >= 8) new DataView(file.buffer).setBigUint64(0, BigInt(length), true);
        await readsOrSays(file);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test("a good file with bytes flipped, cut out, or cut off", async () => {
    const good = writeSafetensors([
      ["a.weight", { shape: [2, 3], data: [1, 2, 3, 4, 5, 6] }],
      ["b", { dtype: "BF16", shape: [3], data: [1, 2, 3] }],
      ["c", { dtype: "I64", shape: [], data: [7n] }],
    ]);
    const outcomes = { read: 0, refused: 0 };
    const place = fc.nat({ max: good.length - 1 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(place, fc.integer({ min: 1, max: 255 })), { maxLength: 4 }),
        place,
        fc.nat({ max: 3 }),
        async (flips, at, cut) => {
          const file = Uint8Array.from(good);
          for (const [where, bits] of flips) file[where] ^= bits;
          outcomes[
            await readsOrSays(cut === 0 ? file.subarray(0, at) : Uint8Array.from([...file.subarray(0, at), ...file.subarray(at + cut - 1)]))
          ]++;
        },
      ),
      { seed: 2, numRuns: 1000 },
    );
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(50); // both are tried
  });

  test("a header with one token exchanged", async () => {
    const json = JSON.stringify({
      x: { dtype: "F16", shape: [2, 2], data_offsets: [0, 8] },
      y: { dtype: "U8", shape: [], data_offsets: [8, 9] },
    });
    const tokens = json.match(/"[^"]*"|\d+|[{}[\]:,]/g)!;
    const odd = fc.constantFrom(
      "-1",
      "1e400",
      "1e15",
      "9007199254740993",
      "0.5",
      "null",
      "true",
      "[]",
      "{}",
      '"x"',
      '"__proto__"',
      '"__metadata__"',
      '"C64"',
      "",
    );
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: tokens.length - 1 }), odd, async (at, token) => {
        await readsOrSays(fileOf(tokens.with(at, token).join(""), 9));
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  test("a header of megabytes is no matter of stack", async () => {
    expect(() => readSafetensors(fileOf({ ["k".repeat(4e6)]: 1 }))).toThrow(/^safetensors: .* has the unknown dtype undefined$/);
    expect(() => readSafetensors(fileOf(`${"[".repeat(2e6)}${"]".repeat(2e6)}`))).toThrow("the header is not a JSON object");
  });
});

describe("a tensor at a time", () => {
  const given = (["F32", "BF16", "I64", "U8"] as const).map(
    (dtype, i) => [`t${i}`, { dtype, shape: [i + 2], data: () => [1, 2, 3, 4, 5].slice(0, i + 2) }] as const,
  );
  const whole = () =>
    writeSafetensors(
      given.map(([name, { data, ...rest }]) => [name, { ...rest, data: data() }] as const),
      { made: "here" },
    );

  /** A source that writes down what is asked of it. */
  const watched = (bytes: Uint8Array): Source & { readonly asked: [number, number][] } => {
    const asked: [number, number][] = [];
    const source = bytesSource(bytes, "watched");
    return {
      ...source,
      asked,
      read(start, end) {
        asked.push([start, end]);
        return source.read(start, end);
      },
    };
  };

  test("a stream is the whole file, and asks for each tensor when its turn comes", async () => {
    const order: string[] = [];
    const asked = <T>(name: string, data: T): T => {
      order.push(name);
      return data;
    };
    const lazy = given.map(([name, value]) => [name, { ...value, data: async () => asked(name, value.data()) }] as const);
    const pieces: Uint8Array[] = [];
    for await (const piece of streamSafetensors(lazy, { made: "here" })) {
      expect(order.length).toBe(pieces.length); // nothing was asked for ahead
      pieces.push(piece);
    }
    expect(order).toEqual(["t2", "t0", "t1", "t3"]);
    expect(Buffer.concat(pieces)).toEqual(Buffer.from(whole()));
  });

  test("values that do not fill their shape end the stream", async () => {
    const stream = streamSafetensors([["x", { shape: [2], data: () => [1] }]]);
    await stream.next();
    await expect(stream.next()).rejects.toThrow('writeSafetensors: "x" has 1 values for [2]');
  });

  test("only the header is read, then only what is asked for", async () => {
    const file = whole();
    const source = watched(file);
    const opened = await openSafetensors(source);
    const { tensors } = readSafetensors(file);
    const begin = file.length - [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
    expect(source.asked).toEqual([
      [0, 32],
      [8, begin],
    ]);
    expect(opened.metadata).toEqual({ made: "here" });
    for (const [name, want] of tensors) {
      expect(opened.index.get(name)).toMatchObject({ dtype: want.dtype, shape: want.shape });
      expect(await opened.tensor(name)).toEqual(want);
      expect(source.asked.at(-1)).toEqual([want.bytes.byteOffset, want.bytes.byteOffset + want.bytes.length]);
    }
    await expect(opened.tensor("t9")).rejects.toThrow(new Error('watched: there is no tensor "t9" in it; it has 4 others'));
  });

  test("a Blob and a File of a page", async () => {
    const file = whole();
    const blob = await openSafetensors(blobSource(new Blob([file as Uint8Array<ArrayBuffer>])));
    expect(integers(await blob.tensor("t2"))).toEqual(BigInt64Array.of(1n, 2n, 3n, 4n));
    const chosen = blobSource(new File([file.slice(0, 20)], "chosen.safetensors"));
    await expect(openSafetensors(chosen)).rejects.toThrow(
      /^chosen\.safetensors: not a valid safetensors file: the header claims \d+ bytes, the file has 20$/,
    );
  });

  test("a source that gives less than it promised is named", async () => {
    const source = bytesSource(whole(), "short");
    let served = 0;
    const opened = await openSafetensors({ ...source, read: async (start, end) => source.read(start, served++ < 2 ? end : end - 1) });
    await expect(opened.tensor("t0")).rejects.toThrow('short: "t0" has 8 bytes, of which 7 came');
  });
});

describe("a checkpoint in shards", () => {
  const one = (value: number): Written => ({ shape: [1], data: [value] });
  const files: Record<string, Uint8Array> = {
    "model-00001-of-00002.safetensors": writeSafetensors([
      ["a", one(1)],
      ["b", one(2)],
    ]),
    "model-00002-of-00002.safetensors": writeSafetensors([["c", one(3)]]),
  };
  const [first, second] = Object.keys(files);
  const opened: string[] = [];
  const open = (file: string) => {
    opened.push(file);
    return openSafetensors(bytesSource(files[file], file));
  };

  test("is one", async () => {
    const weights = await openSharded({ metadata: { total_size: 12 }, weight_map: { a: first, c: second, b: first } }, open, "index.json");
    expect(opened).toEqual([first, second]); // each once
    expect([...weights.index.keys()]).toEqual(["a", "c", "b"]);
    expect([...floats(await weights.tensor("b")), ...floats(await weights.tensor("c"))]).toEqual([2, 3]);
    await expect(weights.tensor("d")).rejects.toThrow('index.json: there is no tensor "d" in it; it has 3 others');
  });

  test.each<[string, unknown, string]>([
    ["no object", null, 'it has no object "weight_map"'],
    ["no map", { weight_map: [] }, 'it has no object "weight_map"'],
    ["a tensor that is not there", { weight_map: { a: first, b: first, c: first } }, `"c" is not in ${first}, where it should be`],
    ["a tensor it does not know", { weight_map: { a: first, c: second } }, `"b" is in ${first}, and the index does not say so`],
    ["a path", { weight_map: { a: "../secret.safetensors" } }, '"a" is in "../secret.safetensors", which is no file\'s name'],
    ["a Windows path", { weight_map: { a: "..\\secret" } }, '"a" is in "..\\\\secret", which is no file\'s name'],
    ["the folder above", { weight_map: { a: ".." } }, '"a" is in "..", which is no file\'s name'],
    ["a number", { weight_map: { a: 3 } }, '"a" is in 3, which is no file\'s name'],
  ])("%s is refused", async (_, index, why) => {
    await expect(openSharded(index, open, "index.json")).rejects.toThrow(`index.json: not a valid index of a checkpoint: ${why}`);
  });
});

test("values that do not fill their shape are not written", () => {
  expect(() => writeSafetensors([["x", { shape: [2, 2], data: [1, 2, 3] }]])).toThrow(
    new RangeError('writeSafetensors: "x" has 3 values for [2, 2]'),
  );
});

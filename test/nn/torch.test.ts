/** Checkpoints of torch.save: what torch wrote is read to the bit, and what is damaged, hostile or of another kind is told so. */

import { readFileSync } from "node:fs";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { floats } from "../../nn/safetensors.ts";
import { bytesSource } from "../../nn/source.ts";
import { openTorch, openTorchWeights, stateDict, TorchTensor } from "../../nn/torch.ts";
import { crc32, openZip } from "../../nn/zip.ts";

const goldens = new URL("../golden/torch/", import.meta.url);
const golden = (name: string): Uint8Array<ArrayBuffer> => new Uint8Array(readFileSync(new URL(name, goldens)));
const expected = JSON.parse(readFileSync(new URL("expected.json", goldens), "utf8")) as Record<
  string,
  Record<string, { dtype: string; shape: number[]; bytes: string }>
>;
const open = (file: Uint8Array, name = "model.pt") => openTorch(bytesSource(file, name));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Every tensor of a state dict, as expected.json writes it. */
async function contents(tensors: ReadonlyMap<string, TorchTensor>) {
  const all: Record<string, unknown> = {};
  for (const [name, tensor] of tensors) {
    const { dtype, shape, bytes } = await tensor.read();
    expect({ dtype, shape }).toEqual({ dtype: tensor.dtype, shape: tensor.shape });
    all[name] = { dtype, shape, bytes: hex(bytes) };
  }
  return all;
}

interface Part {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly deflate?: boolean;
  /** Claims in place of the truth. */
  readonly crc?: number;
  readonly size?: number;
  readonly packed?: number;
  readonly method?: number;
  readonly flags?: number;
}

interface Shape {
  /** Sizes and offsets in the 64-bit fields alone. */
  readonly wide?: boolean;
  readonly comment?: string;
  /** The directory says that all entries lie where the first does. */
  readonly stacked?: boolean;
  readonly count?: number;
}

/** A zip archive by hand, honest or not. */
function zip(
  parts: readonly Part[],
  { wide = false, comment = "", stacked = false, count = parts.length }: Shape = {},
): Uint8Array<ArrayBuffer> {
  const [u16, u32, u64] = [
    (...n: number[]) => Buffer.from(Uint16Array.from(n).buffer),
    (...n: number[]) => Buffer.from(Uint32Array.from(n).buffer),
    (...n: number[]) => Buffer.from(BigUint64Array.from(n, BigInt).buffer),
  ];
  const ones = 0xffffffff;
  const body: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, bytes, deflate = false, ...claims } of parts) {
    const data = deflate ? deflateRawSync(bytes) : bytes;
    const { crc = crc32(bytes), size = bytes.length, packed = data.length, method = deflate ? 8 : 0, flags = 0 } = claims;
    const label = Buffer.from(name);
    const extra = wide ? Buffer.concat([u16(0x4246, 2), u16(0), u16(1, 24), u64(size, packed, stacked ? 0 : at)]) : Buffer.alloc(0);
    const sizes = wide ? u32(crc, ones, ones) : u32(crc, packed, size);
    const local = Buffer.concat([u32(0x04034b50), u16(20, flags, method, 0, 0), sizes, u16(label.length, 0), label]);
    directory.push(
      Buffer.concat([
        u32(0x02014b50),
        u16(20, 20, flags, method, 0, 0),
        sizes,
        u16(label.length, extra.length, 0, 0, 0),
        u32(0, wide ? ones : stacked ? 0 : at),
        label,
        extra,
      ]),
    );
    body.push(local, Buffer.from(data));
    at += local.length + data.length;
  }
  const listing = Buffer.concat(directory);
  const wideEnd = Buffer.concat([u32(0x06064b50), u64(44), u16(45, 45), u32(0, 0), u64(count, count, listing.length, at)]);
  const locator = Buffer.concat([u32(0x07064b50, 0), u64(at + listing.length), u32(1)]);
  const end = Buffer.concat([
    u32(0x06054b50),
    u16(0, 0, wide ? 0xffff : count, wide ? 0xffff : count),
    wide ? u32(ones, ones) : u32(listing.length, at),
    u16(comment.length),
    Buffer.from(comment),
  ]);
  return new Uint8Array(Buffer.concat([...body, listing, ...(wide ? [wideEnd, locator] : []), end]));
}

/** The parts of a golden archive, to be put together in another way. */
async function partsOf(name: string): Promise<Part[]> {
  const archive = await openZip(bytesSource(golden(name), name));
  return Promise.all([...archive.entries.keys()].map(async (entry) => ({ name: entry, bytes: await archive.read(entry) })));
}

describe("what torch wrote", () => {
  test.each(["dtypes", "views"])("%s", async (name) => {
    const tensors = stateDict(await open(golden(`${name}.pt`)));
    expect(await contents(tensors)).toEqual(expected[name]);
  });

  test("a checkpoint within a checkpoint, and what stands beside it", async () => {
    const value = (await open(golden("nested.pt"))) as ReadonlyMap<string, unknown>;
    expect([...value.keys()]).toEqual(["epoch", "note", "best", "loss", "model"]);
    expect([value.get("epoch"), value.get("note"), value.get("best"), value.get("loss")]).toEqual([3, "é", null, [0.5, 0.25]]);
    expect(await contents(stateDict(value as never))).toEqual(expected.nested);
  });

  test("as weights, a tensor at a time: the pickle at once, a storage when it is asked for", async () => {
    const source = bytesSource(golden("pytorch_model.bin"), "pytorch_model.bin");
    let bytes = 0;
    const counted = {
      ...source,
      read(start: number, end: number) {
        bytes += end - start;
        return source.read(start, end);
      },
    };
    const weights = await openTorchWeights(counted);
    expect(bytes).toBeLessThan(source.size / 8);
    const opened = bytes;
    const bias = await weights.tensor("cls.predictions.bias");
    expect(bytes - opened).toBe(30 + bias.bytes.length); // its local header and its storage
    expect(floats(bias)).toHaveLength(bias.shape[0]);
    await expect(weights.tensor("nothing")).rejects.toThrow('pytorch_model.bin: there is no tensor "nothing" in it');
  });

  test("deflated, with zip64, with a comment: the same", async () => {
    const parts = await partsOf("views.pt");
    for (const file of [
      zip(parts.map((part) => ({ ...part, deflate: true }))),
      zip(parts, { wide: true }),
      zip(parts, { comment: "PK\x05\x06 made by hand" }),
    ])
      expect(await contents(stateDict(await open(file)))).toEqual(expected.views);
  });

  test("of a big-endian machine", async () => {
    const widths: Record<string, number> = { F64: 8, I64: 8, F32: 4, I32: 4, C64: 4, F16: 2, BF16: 2, I16: 2, I8: 1, U8: 1, BOOL: 1 };
    const names = Object.keys(expected.dtypes); // storages are numbered in this order
    const parts = (await partsOf("dtypes.pt")).map((part) => {
      const storage = part.name.match(/\/data\/(\d+)$/)?.[1];
      if (storage === undefined) return part;
      const width = widths[names[Number(storage)]];
      const bytes = new Uint8Array(part.bytes.length);
      for (let i = 0; i < bytes.length; i += width) bytes.set(part.bytes.slice(i, i + width).reverse(), i);
      return { ...part, bytes };
    });
    const root = parts[0].name.split("/")[0];
    const others = parts.filter(({ name }) => !name.endsWith("/byteorder"));
    const big = { name: `${root}/byteorder`, bytes: new TextEncoder().encode("big") };
    expect(await contents(stateDict(await open(zip([...others, big]))))).toEqual(expected.dtypes);
  });

  test("where no tensors are is said with the keys there are", () => {
    expect(() => stateDict(new Map([["optimizer", new Map()]]), "x.pt")).toThrow(
      /^x\.pt: no named tensors in it \(keys optimizer\), nor under state_dict, model_state_dict, model, module; give stateDict\(\) the part/,
    );
    expect(() => stateDict(null)).toThrow("no named tensors in it (no dict)");
    const itself = new Map<string, never>();
    itself.set("model", itself as never);
    expect(() => stateDict(itself)).toThrow("no named tensors");
  });
});

/** An archive of one pickle, by opcodes, and one storage "0" of four f32. */
const archive = (pickle: string, storage: Part = { name: "m/data/0", bytes: new Uint8Array(16) }) =>
  zip([{ name: "m/data.pkl", bytes: Uint8Array.from(pickle, (c) => c.charCodeAt(0)) }, storage]);
const ints = (...n: number[]) => `(${n.map((x) => `I${x}\n`).join("")}t`;
/** The pickle of {"x": a tensor}; numbers of the storage, its class and name, then offset, sizes and strides. */
const tensor = ({ count = 4, of = "FloatStorage", key = "0", offset = 0, sizes = [4], strides = [1], kind = "storage" } = {}) =>
  `\x80\x02}(S'x'\nctorch._utils\n_rebuild_tensor_v2\n((S'${kind}'\nctorch\n${of}\nS'${key}'\nS'cpu'\nI${count}\ntQI${offset}\n${ints(...sizes)}${ints(...strides)}I00\n}tRu.`;

describe("refused in one sentence that names the file:", () => {
  test("the pickles below would be read if they were honest", async () => {
    expect(await contents(stateDict(await open(archive(tensor()))))).toEqual({ x: { dtype: "F32", shape: [4], bytes: "00".repeat(16) } });
  });

  test.each<[string, string, RegExp]>([
    ["os.system", "cos\nsystem\n(S'echo owned'\ntR.", /^model\.pt: pickle: refuses os\.system; only data is read$/],
    ["a builtin", "cbuiltins\neval\n(S'1'\ntR.", /refuses builtins\.eval/],
    ["another function of torch", "ctorch.hub\nload\n(S'x'\ntR.", /refuses torch\.hub\.load/],
    ["a class of storages not known", tensor({ of: "QInt8Storage" }), /refuses torch\.QInt8Storage/],
    ["a storage class called", "ctorch\nFloatStorage\n)R.", /calls what is no name/],
    ["another persistent id", tensor({ kind: "module" }), /a persistent id that is no storage/],
    ["a storage that is not there", tensor({ key: "7" }), /the archive has no "m\/data\/7"/],
    ["a storage outside its folder", tensor({ key: "../data.pkl" }), /the archive has no "m\/data\/\.\.\/data\.pkl"/],
    ["a storage of another size", tensor({ count: 5 }), /"m\/data\/0" has 16 bytes, not the 5 numbers of F32/],
    ["a storage past all numbers", tensor({ count: 2 ** 53 - 1 }), /not the 9007199254740991 numbers/],
    ["a tensor beyond its storage", tensor({ sizes: [5] }), /a tensor \[5\] reaches beyond its storage of 4 numbers/],
    ["an offset beyond", tensor({ offset: 1 }), /reaches beyond its storage/],
    ["strides beyond", tensor({ sizes: [2, 2], strides: [4, 1] }), /a tensor \[2, 2\] reaches beyond/],
    ["sizes past all numbers", tensor({ sizes: [2 ** 30, 2 ** 30], strides: [0, 0] }), /reaches beyond its storage/],
    [
      "a number repeated to fill memory",
      tensor({ sizes: [2 ** 29], strides: [0] }),
      /of 2147483648 bytes repeats 4 numbers; at most 1073741824/,
    ],
    [
      "a thousand axes",
      tensor({ sizes: new Array(1000).fill(1), strides: new Array(1000).fill(1) }),
      /a tensor of 1000 axes; at most 64 are read/,
    ],
    ["negative strides", tensor({ strides: [-1] }), /a tensor without storage, offset, sizes and strides/],
    ["strides of another rank", tensor({ strides: [1, 1] }), /a tensor without storage/],
    ["a parameter without tensor", "ctorch._utils\n_rebuild_parameter\n(NI00\n}tR.", /a parameter without its tensor/],
    ["a state that is more than _metadata", "}}(S'_metadata'\nNS'run'\nNub.", /sets the state of an object/],
    ["a pickle that ends", "\x80\x02}(", /^model\.pt: pickle: .*truncated$/],
    ["a list", "].", /no named tensors/],
  ])("%s", async (_, pickle, message) => {
    await expect(openTorchWeights(bytesSource(archive(pickle), "model.pt"))).rejects.toThrow(message);
  });

  test("what torch.save wrote of an object that runs a command", async () => {
    await expect(open(golden("evil.pt"))).rejects.toThrow(/^model\.pt: pickle: refuses (posix|nt)\.system; only data is read$/);
  });

  test("what torch wrote before 1.6, and how to convert it", async () => {
    const sentence = /^model\.pt: is of PyTorch before 1\.6; convert it, .*torch\.save\(torch\.load\(old, map_location='cpu'\), new\)$/;
    await expect(open(golden("legacy.pt"))).rejects.toThrow(sentence);
    const tar = new Uint8Array(1024);
    tar.set(new TextEncoder().encode("ustar"), 257);
    await expect(open(tar)).rejects.toThrow(sentence);
    await expect(open(new TextEncoder().encode(`sys_info${"\0".repeat(504)}`))).rejects.toThrow(sentence);
  });

  const part = (name: string, text = "N."): Part => ({ name, bytes: new TextEncoder().encode(text) });
  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", new Uint8Array(), /^model\.pt: not a checkpoint of PyTorch: it is no zip archive$/],
    ["text", new TextEncoder().encode("hello"), /it is no zip archive/],
    [
      "a Git LFS pointer",
      new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\n"),
      /is a Git LFS pointer .* git lfs pull$/,
    ],
    ["an archive of something else", zip([part("a.txt")]), /holds 0 entries <name>\/data\.pkl, not one/],
    ["two pickles", zip([part("a/data.pkl"), part("b/data.pkl")]), /holds 2 entries/],
    ["TorchScript", zip([part("a/data.pkl"), part("a/constants.pkl")]), /is a TorchScript program/],
    ["an entry twice", zip([part("a/data.pkl"), part("a/data.pkl")]), /not a valid zip archive: it holds "a\/data\.pkl" twice/],
    ["encrypted", zip([{ ...part("a/data.pkl"), flags: 1 }]), /"a\/data\.pkl" is encrypted/],
    ["packed in another way", zip([{ ...part("a/data.pkl"), method: 14 }]), /is packed by method 14/],
    ["a wrong CRC", zip([{ ...part("a/data.pkl"), crc: 1 }]), /"a\/data\.pkl" has another CRC-32 than the archive says/],
    ["stored with two sizes", zip([{ ...part("a/data.pkl"), size: 3 }]), /is stored in 2 bytes but said to have 3/],
    [
      "a bomb that hides its size",
      zip([{ ...part("a/data.pkl", "0".repeat(1e6)), deflate: true, size: 99 }]),
      /unpacks to more than the 99 bytes/,
    ],
    ["deflated, shorter than claimed", zip([{ ...part("a/data.pkl"), deflate: true, size: 3 }]), /has 2 bytes, not 3/],
    ["a bomb that tells", zip([{ ...part("a/data.pkl"), deflate: true, size: 2 ** 27 }]), /claims that its 4 bytes unpack to 134217728/],
    ["a pickle of gigabytes", zip([{ ...part("a/data.pkl"), deflate: true, size: 2 ** 31 }]), /data\.pkl claims more than 268435456 bytes/],
    ["not deflated at all", zip([{ ...part("a/data.pkl", "\xff\xff\xff"), method: 8 }]), /does not inflate/],
    [
      "entries one above the other",
      zip([part("a/data.pkl"), part("a/data/0")], { stacked: true }),
      /"a\/data\/0" overlaps the entry before it/,
    ],
    ["an entry past the end", zip([{ ...part("a/data.pkl"), packed: 9999, size: 9999 }]), /beyond the \d+ bytes before the directory/],
    [
      "zip64 sizes past all numbers",
      zip([{ ...part("a/data.pkl"), packed: 2 ** 60, size: 2 ** 60 }], { wide: true }),
      /beyond the \d+ bytes/,
    ],
    ["more entries than there are", zip([part("a/data.pkl")], { count: 2 }), /its directory ends after 1 of 2 entries/],
    ["fewer", zip([part("a/data.pkl"), part("b")], { count: 1 }), /holds more than the 1 entries it claims/],
    ["billions, by zip64", zip([part("a/data.pkl")], { count: 2 ** 50, wide: true }), /ends after 1 of 1125899906842624 entries/],
  ])("%s", async (_, file, message) => {
    await expect(open(file)).rejects.toThrow(message);
  });

  test("a bit flipped in a storage is noticed when it is read", async () => {
    const file = golden("views.pt");
    const storage = new Uint8Array(Float32Array.from({ length: 24 }, (_, i) => i).buffer);
    file[Buffer.from(file).indexOf(storage) + 9] ^= 4;
    const tensors = stateDict(await open(file));
    await expect(tensors.get("base")!.read()).rejects.toThrow(/^model\.pt: not a valid zip archive: "views\/data\/0" has another CRC-32/);
  });

  test("every cut and every flipped byte ends in tensors or in such a sentence", async () => {
    const whole = golden("nested.pt");
    const outcomes = { read: 0, refused: 0 };
    const place = fc.nat({ max: whole.length - 1 });
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 0, max: 255 }), place, async (at, flip, cut) => {
        const file = flip === 0 ? whole.slice(0, cut) : whole.slice();
        if (flip > 0) file[at] ^= flip;
        try {
          await contents(stateDict(await open(file), "model.pt"));
          outcomes.read++;
        } catch (error) {
          expect((error as Error).message).toMatch(/^model\.pt: /);
          outcomes.refused++;
        }
      }),
      { seed: 4, numRuns: 1000 },
    );
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(50);
  });

  test("every byte of the pickle changed: the same, with the archive's CRC made right again", async () => {
    const parts = await partsOf("views.pt");
    const at = parts.findIndex(({ name }) => name.endsWith("/data.pkl"));
    const outcomes = { read: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: parts[at].bytes.length - 1 }), fc.nat({ max: 255 }), async (place, byte) => {
        const file = zip(parts.with(at, { ...parts[at], bytes: parts[at].bytes.with(place, byte) }));
        try {
          const tensors = stateDict(await open(file), "model.pt");
          for (const each of tensors.values()) if (each instanceof TorchTensor) await each.read();
          outcomes.read++;
        } catch (error) {
          expect((error as Error).message).toMatch(/^model\.pt: /);
          outcomes.refused++;
        }
      }),
      { seed: 5, numRuns: 1500 },
    );
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(50);
  });
});

test("CRC-32 has the check value that every description of it gives", () => {
  expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
});

/** Pickles assembled by hand: data comes back, and everything else is refused by name. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Pickled, readPickle } from "../../nn/pickle.ts";

/** Bytes from opcodes (latin1 text) and raw parts. */
function bytes(...parts: (string | Uint8Array | number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : [...part])));
}
const u32 = (n: number) => new Uint8Array(Uint32Array.of(n).buffer);
const utf8 = (text: string) => new TextEncoder().encode(text);
const float = (x: number) => new Uint8Array(Float64Array.of(x).buffer).reverse(); // BINFLOAT is big-endian

/** A pickler of protocol 2 in the manner of CPython's, for values that `readPickle` can make. */
function dump(value: Pickled): Uint8Array {
  if (value === null) return bytes("N");
  if (typeof value === "boolean") return bytes(value ? "\x88" : "\x89");
  if (typeof value === "bigint") return bytes("\x8a", [9], new Uint8Array(BigInt64Array.of(value).buffer), [value < 0n ? 255 : 0]);
  if (typeof value === "number") return Object.is(value, value | 0) ? bytes("J", u32(value)) : bytes("G", float(value));
  if (typeof value === "string") return bytes("X", u32(utf8(value).length), utf8(value));
  if (value instanceof Uint8Array) return bytes("B", u32(value.length), value);
  if (value instanceof Map) return bytes("}(", ...[...value].flat().map((item) => dump(item)), "u");
  if (value instanceof Set) return bytes("\x8f(", ...[...value].map((item) => dump(item)), "\x90");
  return bytes("](", ...(value as Pickled[]).map((item) => dump(item)), "e");
}

const word = fc.string({ unit: "binary", maxLength: 8 });
const leaf = fc.oneof(
  fc.constant(null),
  fc.boolean(),
  fc.integer(),
  fc.double({ noDefaultInfinity: false }),
  word,
  fc.uint8Array({ maxLength: 8 }),
  fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }),
);
const value = fc.letrec<{ any: Pickled }>((tie) => ({
  any: fc.oneof(
    { depthSize: "small" },
    leaf,
    fc.array(tie("any"), { maxLength: 4 }),
    fc.array(fc.tuple(word, tie("any")), { maxLength: 4 }).map((entries) => new Map(entries)),
    fc.array(word, { maxLength: 4 }).map((items) => new Set(items)),
  ),
})).any;

describe("data", () => {
  test("what was written comes back", () => {
    fc.assert(
      fc.property(value, (given) => {
        expect(readPickle(bytes("\x80\x02", dump(given), "."))).toEqual(given);
      }),
    );
  });

  test("every truncation is an error of ours", () => {
    fc.assert(
      fc.property(value, fc.double({ min: 0, max: 0.999, noNaN: true }), (given, share) => {
        const whole = bytes("\x80\x04", dump(given), ".");
        expect(() => readPickle(whole.subarray(0, Math.floor(share * whole.length)))).toThrow(/^pickle: /);
      }),
    );
  });

  test("random bytes never raise anything but our errors", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (noise) => {
        try {
          readPickle(noise);
        } catch (error) {
          expect((error as Error).message).toMatch(/^pickle: /);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("protocol 0, as Python 2 wrote it", () => {
    expect(readPickle(bytes("(dp0\nS'a'\np1\nI1\nsVb\\u00e9\np2\nF2.5\nsS'c'\n(lp3\nI01\naL5L\naNas."))).toEqual(
      new Map<string, unknown>([
        ["a", 1],
        ["bé", 2.5],
        ["c", [true, 5, null]],
      ]),
    );
  });

  test("protocol 4 with frame and memo: one string stands in two places", () => {
    const body = bytes("}\x94(\x8c\x01k\x94h\x01\x8c\x01l\x94h\x02\x85\x94u.");
    const framed = bytes("\x80\x04\x95", new Uint8Array(BigUint64Array.of(BigInt(body.length)).buffer), body);
    expect(readPickle(framed)).toEqual(
      new Map<string, unknown>([
        ["k", "k"],
        ["l", ["l"]],
      ]),
    );
  });

  test("defaultdict and OrderedDict are Maps", () => {
    expect(readPickle(bytes("ccollections\ndefaultdict\n(c__builtin__\nlist\ntR(K\x05](K\x07eu."))).toEqual(new Map([[5, [7]]]));
    expect(readPickle(bytes("\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R."))).toEqual(new Map());
  });
});

describe("numpy scalars", () => {
  /** As numpy 1 with protocol 4: dtype(code, False, True), its state, then scalar(dtype, bytes). */
  const scalar = (code: string, data: Uint8Array, order = "<", module = "numpy.core.multiarray") =>
    bytes(
      `c${module}\nscalar\n`,
      `cnumpy\ndtype\n(X`,
      u32(code.length),
      code,
      "\x89\x88tR",
      `(K\x03X`,
      u32(1),
      order,
      `NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb`,
      `C`,
      [data.length],
      data,
      "\x86R.",
    );
  test.each([
    ["f8", new Uint8Array(Float64Array.of(1.7629378614450941).buffer), 1.7629378614450941],
    ["f4", new Uint8Array(Float32Array.of(0.5).buffer), 0.5],
    ["i2", new Uint8Array(Int16Array.of(-25425).buffer), -25425],
    ["i8", new Uint8Array(BigInt64Array.of(-3n).buffer), -3],
    ["u8", new Uint8Array(BigUint64Array.of(2n ** 64n - 1n).buffer), 2n ** 64n - 1n],
    ["b1", Uint8Array.of(1), true],
  ])("%s", (code, data, expected) => {
    expect(readPickle(scalar(code, data))).toBe(expected);
    expect(readPickle(scalar(code, data, "<", "numpy._core.multiarray"))).toBe(expected); // numpy 2
    expect(readPickle(scalar(code, data.slice().reverse(), ">"))).toBe(expected);
  });

  test("bytes as latin1 text, as protocol 2 writes them", () => {
    const encode = bytes("c_codecs\nencode\n(X", u32(2), utf8("\x05"), utf8("\x07"), "X", u32(6), "latin1tR.");
    expect(readPickle(encode)).toEqual(Uint8Array.of(5, 7));
  });

  test("other dtypes and wrong lengths are refused", () => {
    expect(() => readPickle(scalar("U4", new Uint8Array(16)))).toThrow(/refuses a numpy scalar of dtype "U4"/);
    expect(() => readPickle(scalar("O8", new Uint8Array(8)))).toThrow(/refuses a numpy scalar/);
    expect(() => readPickle(scalar("f8", new Uint8Array(4)))).toThrow(/"f8" of 4 bytes/);
  });
});

describe("refused", () => {
  test.each([
    ["os.system by name", bytes("cposix\nsystem\n(S'echo'\ntR."), /pickle: refuses posix\.system/],
    ["os.system, protocol 4", bytes("\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R."), /refuses os\.system/],
    ["builtins.eval", bytes("cbuiltins\neval\n(S'1'\ntR."), /refuses builtins\.eval/],
    ["a name of Object.prototype", bytes("c__proto__\ntoString\n."), /refuses __proto__\.toString/],
    ["getattr through numpy", bytes("cnumpy\ndtype.__class__\n."), /refuses numpy\.dtype\.__class__/],
    ["an object made with NEWOBJ", bytes("\x80\x02)\x81."), /refuses opcode 0x81/],
    ["an extension code", bytes("\x80\x02\x82\x01."), /refuses opcode 0x82/],
    ["a persistent id", bytes("Pabc\n."), /refuses opcode 0x50/],
    ["calling a string", bytes("S'a'\n)R."), /calls what is no name/],
    ["state of a dict", bytes("}}b."), /sets the state of an object/],
    ["a name alone", bytes("ccollections\ndefaultdict\n."), /holds a name and no data/],
    ["protocol 6", bytes("\x80\x06N."), /protocol above 5/],
    ["a string of 4 GB", bytes("X", u32(0xfffffff0), "ab."), /asks for 4294967280 more but the file ends at/],
    ["a string of 2^63 bytes", bytes("\x8d", new Uint8Array(8).fill(127), "."), /more but the file ends at/],
    ["a huge memo index", bytes("Nr", u32(0xfffffff0), "."), /memo index 4294967280/],
    ["an integer of a megabyte", bytes("\x8b", u32(1e6), new Uint8Array(1e6), "."), /refuses an integer of 1000000 bytes/],
    ["a memo never stored", bytes("h\x07."), /recalls 7, never stored/],
    ["a dict as a key", bytes("}}Ns."), /key that Python could not hash/],
    ["three items for a dict", bytes("}(NNNu."), /sets items of what is no dict/],
    ["an empty stack", bytes("."), /empty stack/],
    ["nothing", bytes(), /truncated/],
  ])("%s", (_, given, message) => {
    expect(() => readPickle(given)).toThrow(message);
  });
});

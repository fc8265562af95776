/** States in files: what torch and the original leave is read to the bit, and what is damaged, hostile or of another kind is told so. */

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readStates, writeStates } from "../../../geneformer/perturb/states.ts";
import { scratch } from "../data/scratch.ts";

const path = scratch();
const golden = (name: string) => fileURLToPath(new URL(`../../golden/states/${name}`, import.meta.url));
const expected = JSON.parse(readFileSync(golden("expected.json"), "utf8")) as Record<string, Record<string, number[]>>;
const plain = async (file: string, width = 4) =>
  Object.fromEntries([...(await readStates(file, width))].map(([name, vector]) => [name, [...vector]]));

describe("what the original pickled", () => {
  test.each(Object.keys(expected))("%s", async (name) => {
    expect(await plain(golden(`${name}.pkl`))).toEqual(expected[name]);
  });

  test("torch.save's own file, also under the pickle's ending", async () => {
    expect(await plain(golden("states.pt"))).toEqual(expected.states);
    writeFileSync(path("zip.pickle"), readFileSync(golden("states.pt")));
    expect(await plain(path("zip.pickle"))).toEqual(expected.states);
  });

  test("written as safetensors and read again, it is the same", async () => {
    await writeStates(path("states.safetensors"), await readStates(golden("states.pkl"), 4));
    expect(await plain(path("states.safetensors"))).toEqual(expected.states);
  });
});

describe("refused in one sentence that names the file:", () => {
  test.each([
    ["integers", "integers", '"monocyte" is of I64; a state is of floats'],
    ["another shape", "matrix", '"monocyte" is [3, 8]; a state is [C] or [1, C]'],
    ["what is no number", "nan", '"monocyte" of ".*nan.pkl" holds what is no finite number'],
  ])("%s", async (_, name, message) => {
    await expect(readStates(golden(`${name}.pkl`), 4)).rejects.toThrow(new RegExp(`^states: .*${message.replace(/[[\]]/g, "\\$&")}$`));
  });

  test("another width", async () => {
    await expect(readStates(golden("states.pkl"), 5)).rejects.toThrow(
      /^states: "monocyte" of ".*states\.pkl" has 4 numbers, but the model is 5 wide; compute states with the same model$/,
    );
  });

  /** A pickle by opcodes; protocol 0's are text. */
  const pickled = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));
  const bytes = (text: string) => `B${String.fromCharCode(text.length & 255, text.length >> 8, 0, 0)}${text}`;
  const head = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
  const machine = "}S'little_endian'\nI01\ns.";
  const claim = (count: number, of = "FloatStorage") => `(S'storage'\nctorch\n${of}\nS'7'\nS'cpu'\nI${count}\nNtQ.`;
  const numbers = (count: number, held = count) => `${String.fromCharCode(count)}${"\0".repeat(7 + 4 * held)}`;
  const saved = `${head}${machine}${claim(4)}(S'7'\nl.${numbers(4)}`;
  const tensor = ({ storage = saved, offset = 0, sizes = "I4\n", strides = "I1\n" } = {}) =>
    `}S'x'\nctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n(${bytes(storage)}tRI${offset}\n(${sizes}t(${strides}tI00\n}tRs.`;

  test("the pickles below would be read if they were honest", async () => {
    writeFileSync(path("honest.pkl"), pickled(tensor()));
    expect(await plain(path("honest.pkl"))).toEqual({ x: [0, 0, 0, 0] });
  });

  test.each<[string, string, RegExp]>([
    ["a command", "cos\nsystem\n(S'echo owned'\ntR.", /pickle: refuses os\.system; only data is read$/],
    ["a command in the storage", tensor({ storage: `${head}cos\nsystem\n(S'echo owned'\ntR.` }), /refuses os\.system; only data is read$/],
    ["a command as the storage", tensor({ storage: `${head}${machine}cos\nsystem\n(S'x'\ntR.` }), /refuses os\.system/],
    ["numpy's arrays", "cnumpy.core.multiarray\n_reconstruct\n)R.", /refuses numpy\.core\.multiarray\._reconstruct/],
    ["a list", "].", /holds no dict of tensors$/],
    ["nothing", "}.", /^states: ".*" holds none$/],
    ["numbers", "}S'x'\nI1\ns.", /holds under "x" what is no tensor; it must be \{"state": tensor, \.\.\.\}$/],
    ["a state called 3", tensor().replace("S'x'\n", "I3\n"), /holds a key that is no name/],
    ["a tensor without storage", "}S'x'\nctorch._utils\n_rebuild_tensor_v2\n(NI0\n(I4\nt(I1\ntI00\n}tRs.", /a tensor without storage/],
    ["a storage of nothing", tensor({ storage: "" }), /truncated$/],
    ["a storage of something else", tensor({ storage: "I1\n." }), /a storage that torch did not save/],
    ["a big-endian storage", tensor({ storage: saved.replace("I01", "I00") }), /of a big-endian machine/],
    ["a class not known", tensor({ storage: saved.replace("FloatStorage", "QInt8Storage") }), /refuses torch\.QInt8Storage/],
    ["more numbers claimed", tensor({ storage: saved.replace("I4\nN", "I5\nN") }), /of 24 bytes, not the 5 numbers of F32/],
    ["more counted", tensor({ storage: `${head}${machine}${claim(4)}(S'7'\nl.${numbers(5, 4)}` }), /not the 4 numbers of F32/],
    ["other keys", tensor({ storage: saved.replace("(S'7'\nl", "(S'8'\nl") }), /without its class and key/],
    ["cut within the numbers", tensor({ storage: saved.slice(0, -3) }), /of 21 bytes, not the 4 numbers/],
    ["beyond its storage", tensor({ sizes: "I5\n" }), /a tensor \[5\] reaches beyond its storage of 4 numbers/],
    ["an offset beyond", tensor({ offset: 1 }), /reaches beyond/],
    ["strides beyond", tensor({ sizes: "I2\n", strides: "I4\n" }), /reaches beyond/],
    ["a number repeated to fill memory", tensor({ sizes: "I1099511627776\n", strides: "I0\n" }), /reaches beyond/],
    ["a negative stride", tensor({ strides: "I-1\n" }), /a tensor without storage/],
  ])("%s", async (_, text, message) => {
    writeFileSync(path("hostile.pkl"), pickled(text));
    const read = readStates(path("hostile.pkl"), 4);
    await expect(read).rejects.toThrow(message);
    await expect(read).rejects.toThrow(/^states: ".*hostile\.pkl"/);
  });

  test("a file of another kind under a tensor's ending", async () => {
    writeFileSync(path("text.pt"), "hello");
    await expect(readStates(path("text.pt"), 4)).rejects.toThrow(/^states: ".*text\.pt": .*it is no zip archive$/);
  });

  test("every cut and every changed byte ends in states or in such a sentence", async () => {
    const whole = readFileSync(golden("states.pkl"));
    const outcomes = { read: 0, refused: 0 };
    const place = fc.nat({ max: whole.length - 1 });
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 0, max: 255 }), place, async (at, flip, cut) => {
        const file = Buffer.from(flip === 0 ? whole.subarray(0, cut) : whole);
        if (flip > 0) file[at] ^= flip;
        writeFileSync(path("damaged.pkl"), file);
        try {
          await readStates(path("damaged.pkl"), 4);
          outcomes.read++;
        } catch (error) {
          expect((error as Error).message).toMatch(/^states: /);
          outcomes.refused++;
        }
      }),
      { seed: 6, numRuns: 500 },
    );
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(25);
  });
});

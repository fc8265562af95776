/** Vectors of 8: used where they are known to work and nowhere else, and bit for bit what vectors of 4 give. */

import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { samples } from "../../kernels/samples.ts";
import { bottomOf, functionsOf, memoryOf } from "../../src/cpu/engine.ts";
import { mayFuse, mayWiden, widens } from "../../src/cpu/module.ts";
import { choose, type Device } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { outcome } from "./outcome.ts";

const node24 = { v8: "13.6.233.17-node.53", arch: "x64", flags: "", cpu: "flags : sse4_2 avx avx2 bmi2" };

test("used by V8 that was tried, on x86-64 with AVX2, with nobody else's flags", () => {
  expect(widens(node24)).toBe(true);
  expect(widens({ ...node24, v8: "14.6.202.34-node.34", flags: "--expose-gc --max-old-space-size=8192" })).toBe(true);
  expect(widens({ ...node24, cpu: undefined })).toBe(true); // not Linux
  for (const other of [
    { v8: undefined },
    { v8: "11.3.244.8-node.33" },
    { v8: "12.4.254.21-node.57" }, // has the flag, but leaves multiply-adds alone
    { v8: "13.60.1.1" },
    { arch: "arm64" },
    { flags: "--import tsx --no-liftoff" },
    { flags: "--experimental-wasm-jspi" },
    { cpu: "flags : sse4_2 avx avx512f" },
  ])
    expect([other, widens({ ...node24, ...other })]).toEqual([other, false]);
});

test("four rows at a time give the bits of two, in any engine", async () => {
  const bytes = await readFile(new URL(`../../kernels/cpu/${mayFuse() ? "kernels.fused" : "kernels"}.wasm`, import.meta.url));
  const module = await WebAssembly.compile(new Uint8Array(bytes));
  const engines = await Promise.all(
    [false, true].map(async (wide) => {
      const memory = memoryOf(false);
      memory.grow(64);
      return { memory, functions: await functionsOf(module, wide, memory) };
    }),
  );
  /** By the kernel as it is exported (kernels/cpu/assembly/matmul.ts): addresses, sizes, transposes, and all pieces. */
  const product = (which: number, m: number, n: number, k: number, ta: boolean, tb: boolean): Float32Array => {
    const { memory, functions } = engines[which];
    let address = Math.ceil(bottomOf(functions) / 64) * 64;
    const [a, b, c] = [m * k, k * n, m * n].map((length) => {
      const view = new Float32Array(memory.buffer, address, length);
      address += Math.ceil((4 * length) / 64) * 64;
      return view;
    });
    a.set(Key.from(m).normals(a.length));
    b.set(Key.from(n).normals(b.length));
    c.fill(Number.NaN);
    const pieces = n > m ? Math.ceil(n / 16) : m;
    const addresses = [a, b, c].map((view) => view.byteOffset);
    functions.matmul(addresses[0], addresses[1], 0, 0, addresses[2], address, m, n, k, 1, 0, 0, Number(ta), Number(tb), 0, 0, pieces);
    return c.slice();
  };
  fc.assert(
    fc.property(
      ...([40, 40, 300].map((max) => fc.nat({ max })) as [fc.Arbitrary<number>, fc.Arbitrary<number>, fc.Arbitrary<number>]),
      fc.boolean(),
      fc.boolean(),
      (m, n, k, ta, tb) => void expect(product(1, m + 1, n + 1, k, ta, tb)).toEqual(product(0, m + 1, n + 1, k, ta, tb)),
    ),
    { numRuns: 60 },
  );
});

/** Every kernel that is compiled, where there is something to compare. */
const compiled = mayWiden() ? samples().filter(({ kernel }) => kernel.compiled) : [];

describe.runIf(mayWiden())("in this engine", () => {
  const devices: Device[] = [];
  beforeAll(async () => {
    for (const wide of [true, false]) devices.push((await choose("cpu", { threads: 1, wide })).device);
  });
  afterAll(() => {
    for (const device of devices) device.close();
  });

  test("the device says so", () =>
    expect(devices.map(({ description }) => description.includes("in pairs (AVX2)"))).toEqual([true, false]));

  test("there are kernels to compare", () => expect(compiled.length).toBeGreaterThan(100));

  test.each(compiled.map((sample, i) => [`${sample.kernel.name} (${i})`, sample] as const))("%s", async (_, sample) => {
    const [wide, narrow] = await Promise.all(devices.map((device) => outcome(device, sample)));
    expect(wide).toEqual(narrow);
  });
});

test.runIf(!mayWiden())("where it is not known to work, the device does without", async () => {
  const { device } = await choose("cpu", { threads: 1, wide: true });
  expect(device.description).not.toContain("pairs");
  device.close();
});

/** Threads: what a kernel's split says is true, so results are those of one thread, bit for bit; and another thread finds every kernel by its name. */

import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { kernelOf } from "../../kernels/all.ts";
import { type Compiled, type Kernel, type Values, variantOf } from "../../kernels/kernel.ts";
import { type Sample, samples } from "../../kernels/samples.ts";
import { callOf, mostParts, paramsOf, type Region, shares } from "../../src/cpu/calls.ts";
import { bottomOf, Engine, functionsOf, grow, memoryOf } from "../../src/cpu/engine.ts";
import { kernelsAt } from "../../src/cpu/module.ts";
import { choose, type Device } from "../../src/device.ts";
import { allDeviceNames } from "../devices.ts";
import { outcome } from "./outcome.ts";

const split = samples().filter(({ kernel, params }) => kernel.compiled && shares(kernel.compiled, params, 2, 0).pieces.length > 1);

describe.runIf(allDeviceNames.includes("threads"))("on two and three threads", () => {
  const devices: Device[] = [];
  beforeAll(async () => {
    for (const threads of [1, 2, 3]) devices.push((await choose("cpu", { threads, least: 0 })).device);
  });
  afterAll(() => {
    for (const device of devices) device.close();
  });

  test("many kernels are split", () => expect(split.length).toBeGreaterThan(10));

  test.each(split.map((sample, i) => [`${sample.kernel.name} (${i})`, sample] as const))("%s", async (_, sample) => {
    const [one, two, three] = await Promise.all(devices.map((device) => outcome(device, sample)));
    expect(two).toEqual(one);
    expect(three).toEqual(one);
  });
});

describe("whoever takes a part, in whatever order: parts from the last to the first, each in working memory full of NaN", async () => {
  const memory = memoryOf(false);
  const module = await kernelsAt(new URL("../../kernels/cpu/kernels.wasm", import.meta.url), { shared: false, fused: false, wide: false });
  const functions = await functionsOf(module, false, memory);
  const engine = new Engine(memory, functions, 1, null);

  /** Every output, by parts for so many threads. */
  function outputsOf({ kernel, inputs, outputs, params }: Sample, compiled: Compiled, threads: number): Values[] {
    let end = bottomOf(functions);
    const take = (bytes: number): number => {
      const address = Math.ceil(end / 64) * 64;
      end = address + bytes;
      if (!grow(memory, end)) throw new Error("no memory");
      new Uint8Array(memory.buffer, address, bytes).fill(0xff);
      return address;
    };
    const dtypes = { ...kernel.inputs, ...kernel.outputs };
    const regions = Object.fromEntries(
      Object.entries({ ...inputs, ...outputs }).map(([name, given]): [string, Region] => {
        const length = typeof given === "number" ? given : given.length;
        const region = { dtype: dtypes[name], length, address: take(4 * length) };
        if (typeof given !== "number") engine.view(region).set(given as never);
        return [name, region];
      }),
    );
    const parts = shares(compiled, params, threads, 0);
    const bytes = compiled.scratch?.(paramsOf(params, parts.split, parts.pieces[0])) ?? 0;
    const scratch = compiled.scratch ? [take(bytes)] : [];
    const addresses = compiled.buffers.map((name) => (name === null ? 0 : regions[name].address));
    const call = callOf(kernel, compiled, addresses, params, parts, scratch);
    for (const part of call.parts.toReversed()) {
      if (!compiled.finish) for (const address of scratch) new Uint8Array(memory.buffer, address, bytes).fill(0xff);
      engine.call({ ...call, parts: [part] });
    }
    if (compiled.finish)
      engine.call(callOf(kernel, { ...compiled, name: compiled.finish }, addresses, params, shares(compiled, params, 1, 0), scratch));
    return Object.keys(outputs).map((name) => engine.copy(regions[name]));
  }

  test.each(split.map((sample, i) => [`${sample.kernel.name} (${i})`, sample] as const))("%s", (_, sample) => {
    const compiled = sample.kernel.compiled as Compiled;
    expect(outputsOf(sample, compiled, 2)).toEqual(outputsOf(sample, compiled, 1));
  });
});

describe("shares", () => {
  const compiled = {
    name: "f",
    buffers: ["x", "y"],
    split: ({ n }: Readonly<Record<string, number>>) => ({ over: "n", strides: [1, 2], work: n > 0 ? 3 : 1, together: 4 }),
  };
  const made = {
    name: "f",
    inputs: { x: "f32" },
    outputs: { y: "f32" },
    params: { scale: "f32", n: "u32" },
    passes: [],
    loops() {},
  } satisfies Kernel;

  const ranged = { ...compiled, split: ({ n }: Readonly<Record<string, number>>) => ({ pieces: n, work: 3, together: 4 }) };

  test("hold every piece once, keep together what belongs together, and are worth a thread each", () => {
    for (const form of [compiled, ranged])
      for (const n of [0, 1, 3, 4, 5, 8, 17, 100, 1001])
        for (const threads of [1, 2, 3, 7])
          for (const least of [0, 30, 1000]) {
            const { pieces, split } = shares(form, { n }, threads, least);
            expect(pieces.reduce((a, b) => a + b, 0)).toBe(n);
            expect(split !== null).toBe(form === ranged || pieces.length > 1);
            expect(pieces.length).toBeLessThanOrEqual(threads === 1 ? 1 : mostParts(threads));
            for (const count of pieces.slice(0, -1)) expect(count % 4).toBe(0);
            if (pieces.length === 1) continue;
            expect(pieces.every((count) => count > 0)).toBe(true);
            expect((n * 3) / pieces.length).toBeGreaterThanOrEqual(least);
          }
  });

  test("are several to a thread where there is work for it", () => {
    expect(shares(ranged, { n: 4000 }, 3, 0).pieces).toHaveLength(mostParts(3));
    expect(shares(ranged, { n: 4000 }, 3, 4000).pieces).toHaveLength(3);
  });

  test("become arguments: addresses moved by the pieces before, counts in their parameter's place", () => {
    const params = { scale: 0.5, n: 10 };
    const parts = shares(compiled, params, 2, 0);
    expect(parts.pieces).toEqual([4, 4, 2]);
    expect(callOf(made, { ...compiled, constants: [9] }, [1000, 2000], params, parts, [70, 80])).toEqual({
      do: "call",
      name: "f",
      parts: [
        [1000, 2000, 70, 0.5, 4, 9],
        [1000 + 4 * 4, 2000 + 4 * 2 * 4, 70, 0.5, 4, 9],
        [1000 + 8 * 4, 2000 + 8 * 2 * 4, 70, 0.5, 2, 9],
      ],
      scratch: { at: 2, addresses: [70, 80] },
    });
    expect(callOf(made, compiled, [1000, 0], params, { split: null, pieces: [0] }, []).parts).toEqual([[1000, 0, 0.5, 10]]);
  });

  test("or ranges of pieces, after all other arguments", () => {
    const params = { scale: 0.5, n: 10 };
    const call = (threads: number) =>
      callOf(made, { ...ranged, constants: [9] }, [1000, 2000], params, shares(ranged, params, threads, 0), []);
    expect(call(2)).toEqual({
      do: "call",
      name: "f",
      parts: [
        [1000, 2000, 0.5, 10, 9, 0, 4],
        [1000, 2000, 0.5, 10, 9, 4, 8],
        [1000, 2000, 0.5, 10, 9, 8, 10],
      ],
      scratch: null,
    });
    expect(call(1).parts).toEqual([[1000, 2000, 0.5, 10, 9, 0, 10]]);
  });
});

test("another thread finds every kernel by its name", async () => {
  const folder = new URL("../../kernels/", import.meta.url);
  const isKernel = (value: unknown): value is Kernel => typeof value === "object" && value !== null && "loops" in value;
  samples(); // makes the variants that ops use
  let found = 0;
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".ts") && !["samples.ts", "all.ts"].includes(name))) {
    const exported: Record<string, unknown> = await import(new URL(file, folder).href);
    for (const [name, value] of Object.entries(exported)) {
      const made = typeof value === "function" && "made" in value ? [...(value.made as ReadonlyMap<string, Kernel>).values()] : [value];
      for (const kernel of made.filter(isKernel)) {
        expect(kernelOf(variantOf(kernel)), `${file} ${name}: ${kernel.name}`).toBe(kernel);
        found++;
      }
    }
  }
  expect(found).toBeGreaterThan(50);
  expect(kernelOf(["nobody"])).toBeUndefined();
});

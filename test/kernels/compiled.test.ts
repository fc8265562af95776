/**
 * The compiled kernels but for products and attention (cpu.test.ts): against their loops, around the ends of vectors of four and blocks of 16,
 * with NaN beyond the end of every buffer, which nothing may read and nothing may overwrite.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { binaryNames, zip, zipBroadcast } from "../../kernels/elementwise.ts";
import type { Kernel, Values } from "../../kernels/kernel.ts";
import { crossEntropy, crossEntropyGrad, IGNORED } from "../../kernels/loss.ts";
import { dropout, dropThreshold, keepScale } from "../../kernels/random.ts";
import { samples } from "../../kernels/samples.ts";
import { logSumExp, logSumExpGrad, softmax } from "../../kernels/softmax.ts";
import type { Device } from "../../src/device.ts";
import { onDevice } from "../devices.ts";
import { type Buffers, draw, LEAST, type Run, runs, stretched } from "./runs.ts";

/** Numbers beyond the end of each buffer. */
const MARGIN = 5;

const mapValues = <A, B>(of: Record<string, A>, f: (value: A, name: string) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(of).map(([name, value]) => [name, f(value, name)]));

/** The dtype that numbers are for, and what holds them. A kernel that moves words does not ask which they are. */
function kindOf(values: Values) {
  if (values instanceof Float64Array) return ["f32", Float64Array] as const;
  if (values instanceof Int32Array) return ["i32", Int32Array] as const;
  return values instanceof Uint16Array ? (["f16", Uint16Array] as const) : (["u32", Uint32Array] as const);
}

const beyond = (values: Values): number[] => Array(MARGIN).fill(values instanceof Float64Array ? Number.NaN : 0);

/** What a kernel gives on the device. */
async function compute(device: Device, kernel: Kernel, { inputs, outputs, params }: Run): Promise<Buffers> {
  const before: Buffers = {
    ...inputs,
    ...mapValues(outputs, (given) => (typeof given === "number" ? new Float64Array(given).fill(Number.NaN) : given)),
  };
  const buffers = mapValues(before, (values) => {
    const [dtype, Numbers] = kindOf(values);
    const buffer = device.allocate(dtype, values.length + MARGIN);
    device.upload(buffer, Numbers.from([...values, ...beyond(values)]));
    return buffer;
  });
  device.run(kernel, buffers, params);
  const found: Buffers = {};
  for (const name of Object.keys(outputs)) {
    const all = await device.read(buffers[name]);
    const end = before[name].length;
    expect(Array.from(all.subarray(end)), `${name} beyond its end`).toEqual(beyond(before[name]));
    found[name] = all.slice(0, end);
  }
  for (const buffer of Object.values(buffers)) device.free(buffer);
  return found;
}

/** What its loops give, in f32 or f64. */
function loops(kernel: Kernel, { inputs, outputs, params }: Run, Floats: typeof Float32Array | typeof Float64Array): Buffers {
  const made = mapValues(outputs, (given) => {
    if (typeof given === "number") return new Floats(given).fill(Number.NaN);
    return given instanceof Float64Array ? Floats.from(given) : given.slice();
  });
  const given = mapValues(inputs, (values) => (values instanceof Float64Array ? Floats.from(values) : values));
  kernel.loops({ ...given, ...made }, params);
  return made;
}

async function check(device: Device, kernel: Kernel, run: Run) {
  const found = await compute(device, kernel, run);
  if (!run.bounds) {
    expect(found).toEqual(loops(kernel, run, Float32Array));
    return;
  }
  const wanted = loops(kernel, run, Float64Array);
  for (const [name, bound] of Object.entries(run.bounds(wanted))) {
    const wrong = Array.from(found[name]).findIndex(
      (x, i) => !(Object.is(x, wanted[name][i]) || Math.abs(x - wanted[name][i]) <= bound(i) + LEAST),
    );
    const said = `${name}[${wrong}] is ${found[name][wrong]}, not ${wanted[name][wrong]} to ${wrong < 0 ? 0 : bound(wrong)}`;
    expect(wrong < 0 ? "within the bounds" : said).toBe("within the bounds");
  }
}

const sizes = fc.record({
  rows: fc.constantFrom(0, 1, 2, 3, 5),
  cols: fc.constantFrom(0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 255, 257),
  seed: fc.nat(1e6),
});

const row = (...x: number[]) => Float64Array.from(x);
const softmaxOf = async (device: Device, x: Float64Array, rows = 1) =>
  Array.from(
    (
      await compute(device, softmax as unknown as Kernel, {
        inputs: { x },
        outputs: { y: x.length },
        params: { rows, cols: x.length / rows },
      })
    ).y,
  );

const suite = (device: () => Device) => {
  const tested = new Map(Object.values(runs).map(([kernel, run]) => [kernel as Kernel, run]));
  const compiled = new Set(samples().map(({ kernel }) => kernel).filter(({ compiled }) => compiled && !/^(matmul|attention|zipBroadcast)/.test(compiled.name))); // biome-ignore format: one line

  test("every compiled kernel stands here, and nothing else", () => {
    expect(new Set(tested.keys())).toEqual(compiled);
  });

  test.each(Object.entries(runs))("%s", (_, [kernel, run]) =>
    fc.assert(
      fc.asyncProperty(sizes, (size) => check(device(), kernel as Kernel, run(size))),
      { numRuns: 80, examples: [[{ rows: 5, cols: 257, seed: 1 }]] },
    ),
  );

  test.each(binaryNames)("%s of what stretches has the bits of that of what is laid out", (name) =>
    fc.assert(
      fc.asyncProperty(sizes, async (size) => {
        const [broadcast, laidOut] = stretched(size);
        const z = await compute(device(), zipBroadcast(name) as unknown as Kernel, broadcast);
        expect(z).toEqual(await compute(device(), zip(name) as unknown as Kernel, laidOut));
      }),
      { numRuns: 20 },
    ),
  );

  test("dropout has the bits of its loops over many blocks, whatever share it drops", async () => {
    const x = draw({ rows: 1, cols: 1, seed: 5 }, 0, 10_001);
    for (const p of [0, 2 ** -16, 0.02, 0.1, 0.5, 1 - 2 ** -16]) {
      const params = { n: x.length, threshold: dropThreshold(p), scale: keepScale(p), site0: 1, site1: 2 };
      await check(device(), dropout as unknown as Kernel, { inputs: { x, key: Uint32Array.of(3, 4) }, outputs: { y: x.length }, params });
    }
  });

  describe("what is strange in a row stays there:", () => {
    test("softmax is 0 at -Infinity, and where e^(x - m) is no normal number", async () => {
      expect(await softmaxOf(device(), row(0, -Infinity, 0, -88, -1e30))).toEqual([0.5, 0, 0.5, 0, 0]);
    });

    test("softmax finds the largest number wherever it stands", async () => {
      for (let i = 0; i < 9; i++) {
        const one = new Float64Array(9);
        one[i] = 1;
        expect(
          await softmaxOf(
            device(),
            one.map((x) => 1000 * x),
          ),
        ).toEqual(Array.from(one));
      }
    });

    test("the log-sum-exp of a row with NaN or Infinity is that, and of nothing but -Infinity it is -Infinity, with no gradient", async () => {
      const x = row(0, Number.NaN, Infinity, 0, Infinity, -Infinity, -Infinity, -Infinity, -Infinity, 0, 0, -Infinity);
      const params = { rows: 4, cols: 3 };
      const { y } = await compute(device(), logSumExp as unknown as Kernel, { inputs: { x }, outputs: { y: 4 }, params });
      expect(Array.from(y)).toEqual([Number.NaN, Infinity, -Infinity, Math.fround(Math.LN2)]);
      const inputs = { x, y: Float64Array.from(y), dy: row(1, 1, 1, 1) };
      const { dx } = await compute(device(), logSumExpGrad as unknown as Kernel, { inputs, outputs: { dx: 12 }, params });
      expect(Array.from(dx.subarray(6, 9))).toEqual([0, 0, 0]);
      for (const [i, d] of [0.5, 0.5, 0].entries()) expect(dx[9 + i]).toBeCloseTo(d, 6);
    });

    test.each([[row(-Infinity, -Infinity, -Infinity)], [row(0, Number.NaN, 1)], [row(0, Infinity, 1)]])(
      "softmax of %s is NaN",
      async (x) => {
        const found = await softmaxOf(device(), Float64Array.of(...x, 1, 1, 1), 2);
        expect(found.slice(0, 3)).toEqual([Number.NaN, Number.NaN, Number.NaN]);
        for (const y of found.slice(3)) expect(y).toBeCloseTo(1 / 3, 6);
      },
    );

    test("cross-entropy takes -Infinity beside the label, and any size of logits", async () => {
      const run = (...x: number[]): Run => ({
        inputs: { x: row(...x), labels: Uint32Array.of(0), given: row(0) },
        outputs: { loss: 1, stats: 2 },
        params: { rows: 1, cols: x.length },
      });
      const loss = async (...x: number[]) => (await compute(device(), crossEntropy as unknown as Kernel, run(...x))).loss[0];
      expect(await loss(3, -Infinity, -Infinity, -Infinity, -Infinity)).toBe(0);
      expect(await loss(1e30, 2e30)).toBe(Math.fround(2e30) - Math.fround(1e30));
      expect(await loss(-Infinity, 0)).toBe(Infinity);
      for (const x of [Number.NaN, Infinity]) expect(await loss(0, x, 0)).toBeNaN();
      expect(await loss(-Infinity, -Infinity)).toBeNaN();
    });

    test("a row without a label may hold anything: it has no share in the loss, and no gradient", async () => {
      const x = row(1, 2, Number.NaN, Infinity, 3, 4);
      const labels = Uint32Array.of(0, IGNORED, 1);
      const forward = { inputs: { x, labels, given: row(0) }, outputs: { loss: 1, stats: 4 }, params: { rows: 3, cols: 2 } };
      const { loss, stats } = await compute(device(), crossEntropy as unknown as Kernel, forward);
      expect(loss[0]).toBeCloseTo((2 * Math.log(1 + Math.E) - 1) / 2, 6);
      expect([stats[0], stats[2]]).toEqual([0.5, 0]);
      const backward = {
        inputs: { x, labels, stats: Float64Array.from(stats), dloss: row(1) },
        outputs: { dx: 6 },
        params: { rows: 3, cols: 2 },
      };
      const { dx } = await compute(device(), crossEntropyGrad as unknown as Kernel, backward);
      const p = 1 / (1 + Math.E) / 2;
      for (const [i, d] of [p - 0.5, 0.5 - p, 0, 0, p, -p].entries()) expect(dx[i]).toBeCloseTo(d, 6);
    });
  });
};

onDevice("cpu", suite);

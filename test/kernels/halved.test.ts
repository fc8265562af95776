/** Kernels whose numbers are stored as f16: the rewriting of their text, what they compute, and what no f16 holds. */

import { describe, expect, test } from "vitest";
import { kernelOf } from "../../kernels/all.ts";
import { PLAIN } from "../../kernels/attention/ways.ts";
import { map, zip } from "../../kernels/elementwise.ts";
import { fromHalf, toHalf } from "../../kernels/half.ts";
import { halved, wrapped } from "../../kernels/halved.ts";
import { type Dtype, type Kernel, kernel, source, type Values, variantOf } from "../../kernels/kernel.ts";
import { matmul } from "../../kernels/matmul.ts";
import { type Sample, samples } from "../../kernels/samples.ts";
import { Choices, classOf, lacking, textOf } from "../../src/choices.ts";
import type { Device } from "../../src/device.ts";
import { verify } from "../../src/verify.ts";
import { allDeviceNames, deviceNames, onDevices } from "../devices.ts";

const ACCESSES = new Map([
  ["x", { read: "f32", write: "storedHalf" }],
  ["y", { read: "f32", write: "storedHalf" }],
  ["v", { read: "vec4f", write: "storedHalves" }],
]);

describe("the text:", () => {
  test.each([
    ["a read", "sum += x[i];", "sum += f32(x[i]);"],
    ["one with a space", "sum += x [i];", "sum += f32(x[i]);"],
    ["one inside another's brackets", "let a = x[u32(y[i + (j)])];", "let a = f32(x[u32(f32(y[i + (j)]))]);"],
    ["nested brackets", "let a = x[table[i] + other[3][j]];", "let a = f32(x[table[i] + other[3][j]]);"],
    ["a write", "y[i] = a;", "y[i] = storedHalf(a);"],
    ["a write of a read", "y[i] = x[i] + 1.0;", "y[i] = storedHalf(f32(x[i]) + 1.0);"],
    ["a write over lines", "y[i]\n  = f(a,\n  b);", "y[i] = storedHalf(f(a,\n  b));"],
    ["comparisons", "if (x[i] == y[j] && x[i] <= 1.0 || x[i] != 2.0) {", "if (f32(x[i]) == f32(y[j]) && f32(x[i]) <= 1.0 || f32(x[i]) != 2.0) {"],
    ["+=", "y[i] += x[j] * 2.0;", "y[i] = storedHalf(f32(y[i]) + (f32(x[j]) * 2.0));"],
    ["*= and /=", "y[i] *= a; y[i] /= a - b;", "y[i] = storedHalf(f32(y[i]) * (a)); y[i] = storedHalf(f32(y[i]) / (a - b));"],
    ["the head of a loop", "for (y[0] = 0.0; i < n; y[i] += 1.0) { }", "for (y[0] = storedHalf(0.0); i < n; y[i] = storedHalf(f32(y[i]) + (1.0))) { }"],
    ["vectors", "v[i] = v[j] * 2.0;", "v[i] = storedHalves(vec4f(v[j]) * 2.0);"],
    ["a vector's components", "a = v[i].x + v[i][k] + v[i].w;", "a = vec4f(v[i]).x + vec4f(v[i])[k] + vec4f(v[i]).w;"],
    ["both branches of a select", "z = select(x[i], y[i], x[i] < y[i]);", "z = select(f32(x[i]), f32(y[i]), f32(x[i]) < f32(y[i]));"],
    ["and, of one side and another", "if (a && x[i] > 0.0) {", "if (a && f32(x[i]) > 0.0) {"],
  ])("%s", (_, text, wanted) => expect(wrapped(text, ACCESSES)).toBe(wanted)); // biome-ignore format: text beside text

  test.each([
    ["names that contain the name", "let xx = x1[i] + ax[i] + x_[i] + fx(i) + _x[i];"],
    ["members", "let a = id.x + block.y[i] + p . x[i];"],
    ["a local variable of that name", "let x = 1.0; a = x * y + x;"],
    ["a parameter of that name", "fn f(x: f32, y: f32) -> f32 { return x + y; }"],
    ["comments", "a = b; // then x[i] = y[i]\n/* x[i] = 1 */ c = d;"],
    ["a binary and of local variables", "let a = (bits & x) + (y & 1u);"],
    ["numbers", "let a = 0x1fu + 1e-5 + 4u;"],
  ])("%s stay", (_, text) => expect(wrapped(text, ACCESSES)).toBe(text));

  test.each([
    ["let q = &x[i];", "a pointer to a buffer of f16 cannot be rewritten: x[i];"],
    ["f(a, &x);", "a pointer to a buffer of f16 cannot be rewritten: x);"],
    ["return &x;", "a pointer to a buffer of f16 cannot be rewritten: x;"],
    ["x[i]++;", "++ of a number of f16 cannot be rewritten: x[i]++;"],
    ["v[i].x = 1.0;", "writing a part of a vector of f16 cannot be rewritten: v[i].x = 1.0;"],
    ["v[i][2] += 1.0;", "writing a part of a vector of f16 cannot be rewritten: v[i][2] += 1.0;"],
  ])("%s is refused", (text, why) => expect(() => wrapped(text, ACCESSES)).toThrow(new Error(`halved(kernel, names): ${why}`)));
});

describe("a kernel", () => {
  const add = zip("add") as unknown as Kernel;

  test("is made once for the same names, in any order", () => {
    expect(halved(add, ["z", "a"])).toBe(halved(add, ["a", "z"]));
    expect(halved(add, ["a"])).not.toBe(halved(add, ["a", "z"]));
    expect(halved(add, [])).toBe(add);
  });

  test("has those buffers as f16, and no compiled form", () => {
    const made = halved(add, ["a", "z"]);
    expect([made.inputs, made.outputs]).toEqual([{ a: "f16", b: "f32" }, { z: "f16" }]);
    expect([made.name, made.compiled, made.whole]).toEqual(["add (f16 a z)", undefined, add]);
    const text = source(made, made.passes[0]);
    expect(text).toMatch(/^enable f16;\n/);
    expect(text).toContain("var<storage, read> a: array<f16>;");
    expect(text).toContain("var<storage, read> b: array<f32>;");
    expect(text).toContain("let x = f32(a[i]); let y = b[i]; z[i] = storedHalf(x + y);");
  });

  test("leaves a pass as it is that binds none of them", () => {
    const product = matmul(false, true, false, false, false);
    const size = { m: 64, n: 64, k: 2048, batch: 1, strideA: 0, strideB: 0 };
    const parted = product.alternatives?.of(size).find(({ name }) => name === "64x64 parts of 256")?.kernel as Kernel;
    const made = halved(parted, ["c"]);
    expect(made.passes[0]).toBe(parted.passes[0]);
    expect(made.passes[1]).not.toBe(parted.passes[1]);
  });

  test("is found by another thread", () => {
    const made = halved(add, ["a", "z"]);
    expect(kernelOf(variantOf(made))).toBe(made);
    expect(kernelOf(["halved", "a", "nothing such"])).toBeUndefined();
  });

  test("has no other buffers", () => {
    expect(() => halved(add, ["a", "q"])).toThrow(new RangeError('halved(kernel, names): add has no f32 buffer "q"'));
    expect(() => halved(halved(add, ["a"]), ["a"])).toThrow('add (f16 a) has no f32 buffer "a"');
  });
});

// ---- what they compute ---------------------------------------------------------------------

/** Kernels of the forward and backward pass of a Geneformer, and what is f32 in them whatever activations are. */
const TRAINED = /^(matmul|attention|layerNorm|addNorm|relu|gelu|add|mul|neg|dropout|gather f32|gatherSum|window f32|paste f32|permute f32|segment(Sum|Mean)|sum(Rows|Columns)|nans)/; // biome-ignore format: one line
const KEPT = ["weight", "bias", "stats", "lse", "b"];

/** A sample whose f32 buffers are stored as f16, but for some. What it reads is what f16 holds. */
function stored({ kernel, inputs, outputs, params, tolerance }: Sample, kept: readonly string[]): Sample {
  const dtypes: Readonly<Record<string, Dtype>> = { ...kernel.inputs, ...kernel.outputs };
  const names = Object.keys(dtypes).filter((name) => dtypes[name] === "f32" && !kept.includes(name));
  const bits = (given: Readonly<Record<string, number | Values>>) =>
    Object.fromEntries(
      Object.entries(given).map(([name, values]) => [
        name,
        typeof values === "number" || !names.includes(name) ? values : Uint16Array.from(values, toHalf),
      ]),
    );
  // an output is rounded to a neighbour, 2^-10 of it at most; what is read back was rounded too
  return {
    ...{ kernel: halved(kernel, names), inputs: bits(inputs) as Sample["inputs"], outputs: bits(outputs), params },
    tolerance: tolerance + 2 ** (kernel.name.startsWith("addNorm") ? -9 : -10),
  };
}

const trained = samples().filter(({ kernel: { name } }) => TRAINED.test(name));
/** As training has them, and where that compiles in no time all as f16. */
const cases = trained.flatMap((sample) => {
  const [own, all] = [KEPT, []].map((kept) => stored(sample, kept));
  return own.kernel === all.kernel || /^(matmul|attention)/.test(sample.kernel.name) ? [own] : [own, all];
});

/** A kernel's output for these bits. */
async function outputOf(device: Device, of: Kernel, inputs: Readonly<Record<string, Values>>, n: number): Promise<Values> {
  const buffers = Object.fromEntries(
    Object.entries({ ...of.inputs, ...of.outputs }).map(([name, dtype]) => [name, device.allocate(dtype, n)]),
  );
  for (const [name, values] of Object.entries(inputs)) device.upload(buffers[name], values);
  device.run(of, buffers, { n });
  const read = await device.read(buffers.z);
  for (const buffer of Object.values(buffers)) device.free(buffer);
  return of.outputs.z === "f16" ? Float64Array.from(read, fromHalf) : read;
}

onDevices((device, name) => {
  test("there are many", () => expect(cases.length).toBeGreaterThan(70));

  test.each(cases.map((sample, i) => [`${sample.kernel.name} (${i})`, sample] as const))("%s", async (_, sample) => {
    const { worst, bound } = await verify(device(), sample);
    expect(worst).toBeLessThanOrEqual(bound);
  });

  test("every f16 there is goes in and out as it is", async () => {
    const codes = Uint16Array.from({ length: 65536 }, (_, code) => code);
    const through = await outputOf(device(), halved(map("neg") as unknown as Kernel, ["a", "z"]), { a: codes }, codes.length);
    for (const [code, got] of through.entries()) {
      const want = -fromHalf(code);
      const vanished = name === "webgpu" && Math.abs(want) < 2 ** -14 && got === 0; // subnormal in f16
      if (!Object.is(got, want) && !vanished) expect({ code, got }).toEqual({ code, got: want });
    }
  });

  test("what f16 does not hold becomes infinite, and NaN stays", async () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    const x = Float32Array.of(65504, 65519, 65520, -65519, -65520, 1e6, -3e38, inf, -inf, nan, -0);
    const wanted = [65504, 65504, inf, -65504, -inf, inf, -inf, inf, -inf, nan, -0];
    const zeros = new Float32Array(x.length).fill(-0);
    const add = halved(zip("add") as unknown as Kernel, ["z"]);
    expect([...(await outputOf(device(), add, { a: x, b: zeros }, x.length))]).toEqual(wanted);
  });

  test("an odd number of them, and one", async () => {
    const double = halved(kernel({ ...(map("square") as unknown as Kernel) }), ["a", "z"]);
    for (const n of [1, 3, 257]) {
      const a = Uint16Array.from({ length: n }, (_, i) => toHalf(i / 16));
      const got = await outputOf(device(), double, { a }, n);
      expect([...got]).toEqual(Array.from({ length: n }, (_, i) => fromHalf(toHalf((i / 16) ** 2))));
    }
  });
});

/** Every way to write a product and attention that the adapter can run, those in f16 among them. */
onDevices(
  (device) => {
    const product = matmul(false, true, true, false, true) as unknown as Kernel;
    const params = { m: 68, n: 36, k: 2056, batch: 1, strideA: 0, strideB: 0 };
    const lengths = product.alternatives?.lengths(params) ?? {};
    const drawn = (length: number, site: number) => Float32Array.from({ length }, (_, i) => Math.sin(1 + i * (site + 1.7)));
    const inputs = Object.fromEntries(Object.keys(product.inputs).map((name, site) => [name, drawn(lengths[name], site)]));
    const large: Sample = { kernel: product, inputs, outputs: { c: lengths.c }, params, tolerance: 1e-5 };
    const attentions = samples().filter(({ kernel }) => /^attention(Grad)? 16 dropped causal/.test(kernel.name));
    const ways = [large, ...new Map(attentions.map((sample) => [sample.kernel, sample])).values()].flatMap((sample) => {
      const own = stored(sample, KEPT);
      return (
        (own.kernel.alternatives?.of(sample.params) ?? [])
          // of attention's way back two: a software adapter compiles each for half a minute
          .filter(({ unit, name }) => !unit && (!sample.kernel.name.startsWith("attentionGrad") || ["blocks of 32", PLAIN].includes(name)))
          .map((way) => [`${sample.kernel.name} as ${way.name}`, own, way] as const)
      );
    });

    test("there are many", () => expect(ways.length).toBeGreaterThan(20));

    test.each(ways)("%s", async (_, sample, way) => {
      expect(lacking(way, { ...device().choices!.abilities, mixed: true })).toBeNull();
      const { worst, bound } = await verify(device(), { ...sample, kernel: way.kernel });
      expect(worst).toBeLessThanOrEqual(way.mixed ? 4e-3 : bound); // what is multiplied is rounded too
    });

    test("what was found for the kernel is taken for its numbers in f16 as well", () => {
      const { abilities } = device().choices!;
      const choices = new Choices(abilities);
      const way = product.alternatives!.of(params).find(({ name }) => name === "64x128 packed")!;
      const own = halved(product, ["a", "c"]);
      expect(choices.plan(own, params).whole).not.toBe(way.kernel);
      choices.use({
        adapter: abilities.name,
        tried: { [classOf(product, params)]: [{ alternative: way.name, text: textOf(way.kernel), ms: 1 }] },
      });
      expect(choices.plan(own, params)).toBe(halved(way.kernel, ["a", "c"]));
      expect(choices.plan(product, params)).toBe(way.kernel);
    });
  },
  deviceNames.filter((name) => name === "webgpu"),
);

/** Loops in another thread, found there by name. */
onDevices(
  (device) => {
    test("a worker computes them too", async () => {
      const add = halved(zip("add") as unknown as Kernel, ["a", "z"]);
      const [a, b] = [Uint16Array.of(toHalf(1.5), toHalf(-2)), Float32Array.of(0.25, 70000)];
      expect([...(await outputOf(device(), add, { a, b }, 2))]).toEqual([1.75, Number.POSITIVE_INFINITY]);
    });
  },
  allDeviceNames.filter((name) => name === "worker"),
);

/** Every way of writing a matrix product gives the same sums: register tiles on the device, matrix units as far as they can be tried without any. */

import { describe, expect, test } from "vitest";
import { halved } from "../../kernels/halved.ts";
import { type Alternative, boundBy, type Kernel, type MatrixUnit, source } from "../../kernels/kernel.ts";
import { type Regions, united } from "../../kernels/matmul/matrix.ts";
import { TILES } from "../../kernels/matmul/tile.ts";
import { matmul } from "../../kernels/matmul.ts";
import type { Device } from "../../src/device.ts";
import { deviceNames, onDevice } from "../devices.ts";

type Epilogue = readonly [bias: boolean, relu: boolean, residual: boolean];
type Size = Readonly<Record<"m" | "n" | "k" | "batch" | "strideA" | "strideB", number>>;

const kernelOf = (ta: boolean, tb: boolean, epilogue: Epilogue) => matmul(ta, tb, ...epilogue);
const size = (m: number, n: number, k: number, batch = 1, sharedB = false): Size => ({
  ...{ m, n, k, batch },
  ...{ strideA: batch > 1 ? m * k : 0, strideB: batch > 1 && !sharedB ? k * n : 0 },
});
const alternative = (kernel: ReturnType<typeof kernelOf>, name: string, params: Size) => {
  const found = kernel.alternatives?.of(params).find((each) => each.name === name);
  if (!found) throw new Error(`${kernel.name} has no "${name}" at ${Object.values(params).join(" ")}`);
  return found;
};

/** Whole numbers from -4 to 4, as f16 holds them too: sums have no rounding. No two rows or columns alike. */
const whole = (length: number, site: number) =>
  Float32Array.from({ length }, (_, i) => ((Math.imul(i + 1 + 7919 * site, 0x9e3779b1) >>> 20) % 9) - 4);

/** The loops' c, and a kernel's: of the same buffers, of which c holds NaN before. */
async function both(device: Device, kernel: ReturnType<typeof kernelOf>, own: Kernel, params: Size) {
  const lengths = Object.entries(kernel.alternatives?.lengths(params) ?? {});
  const values = Object.fromEntries(
    lengths.map(([name, length], i) => [name, name === "c" ? new Float32Array(length).fill(Number.NaN) : whole(length, i)]),
  );
  const buffers = Object.fromEntries(lengths.map(([name, length]) => [name, device.allocate("f32", length)]));
  for (const [name, data] of Object.entries(values)) device.upload(buffers[name], data);
  device.run(own, buffers, params);
  const got = await device.read(buffers.c);
  for (const buffer of Object.values(buffers)) device.free(buffer);
  kernel.loops(values as never, params);
  return { got, want: values.c };
}

async function agree(device: Device, kernel: ReturnType<typeof kernelOf>, own: Kernel, params: Size) {
  const { got, want } = await both(device, kernel, own, params);
  const wrong = want.findIndex((value, i) => value !== got[i]);
  if (wrong >= 0) throw new Error(`${own.name}, ${JSON.stringify(params)}: c[${wrong}] is ${got[wrong]} but must be ${want[wrong]}`);
  expect(got).toHaveLength(want.length);
}

const none: Epilogue = [false, false, false];
const everything: Epilogue = [true, true, true];

/** Ways of setting a problem: between them every transposition, each epilogue, and lines that are whole vectors of four and that are not. */
const ways: readonly (readonly [name: string, ta: boolean, tb: boolean, epilogue: Epilogue, fitted: (size: number, letter: "m" | "n" | "k") => number])[] = [
  ["NN, lines of whole vectors", false, false, none, (n) => 4 * Math.ceil(n / 4)],
  ["NT bias relu, lines of any length", false, true, [true, true, false], (n) => n | 1],
  ["TN residual, lines of whole vectors", true, false, [false, false, true], (n, letter) => (letter === "k" ? n : 4 * Math.ceil(n / 4))],
  ["TT with all, of which only c's are whole", true, true, everything, (n, letter) => (letter === "n" ? 4 * Math.ceil(n / 4) : n | 1)],
]; // biome-ignore format: a table

/** The tiles that all ways are tried on; on the others, which the same lines are written by, two of them: software adapters compile for seconds. */
const thorough = ["64x64", "64x64 packed"];
const [, lines, columns] = ways;
const tiled = (Object.keys(TILES) as (keyof typeof TILES)[])
  .flatMap((name) => [name, `${name} packed`])
  .flatMap((name) => (thorough.includes(name) ? ways : [lines, columns]).map((way) => [name, ...way] as const));
const halves = [["64x128 packed f16", ...lines] as const, ["128x128 packed f16", ...columns] as const];
const parted = [
  ...["64x64 parts of 256"].flatMap((name) => ways.slice(0, 3).map((way) => [name, ...way] as const)),
  ["128x128 packed parts of 256", ...ways[3]] as const,
];

/** Regions of few fragments, several each way, which a software adapter compiles in seconds. */
const small: readonly { readonly unit: MatrixUnit; readonly regions: Regions }[] = [
  { unit: { type: "f16", m: 16, n: 16, k: 16 }, regions: { m: 64, n: 32, depth: 32, down: 2, across: 2 } },
  { unit: { type: "f32", m: 8, n: 8, k: 8 }, regions: { m: 16, n: 32, depth: 16, down: 1, across: 2 } },
];

const byUnits = ["64x128 units of 16x16x16 f16", "128x128 units of 16x16x16 f16", "64x64 units of 8x8x8 f32"];

if (deviceNames.includes("webgpu"))
  onDevice("webgpu", (device) => {
    test.each([...tiled, ...halves])("%s, %s", async (name, _, ta, tb, epilogue, fitted) => {
      const { m, n, depth } = TILES[name.split(" ")[0] as keyof typeof TILES];
      const kernel = kernelOf(ta, tb, epilogue);
      const sizes = [
        ...[1, m - 1, m, m + 1].map((rows) => size(fitted(rows, "m"), fitted(3, "n"), fitted(5, "k"))),
        ...[1, n - 1, n, n + 1].map((columns) => size(fitted(3, "m"), fitted(columns, "n"), fitted(5, "k"))),
        ...[0, 1, depth - 1, depth, depth + 1, 2 * depth + 5].map((k) => size(fitted(6, "m"), fitted(7, "n"), fitted(k, "k"))),
        size(fitted(m + 5, "m"), fitted(n + 9, "n"), fitted(depth + 3, "k")),
        size(fitted(m + 2, "m"), fitted(5, "n"), fitted(9, "k"), 3),
        size(fitted(6, "m"), fitted(n + 2, "n"), fitted(9, "k"), 3, true),
      ];
      for (const each of sizes) await agree(device(), kernel, alternative(kernel, name, each).kernel, each);
    });

    test.each(parted)("%s, %s", async (name, _, ta, tb, epilogue, fitted) => {
      const kernel = kernelOf(ta, tb, epilogue);
      const sizes = [
        ...[257, 511, 512, 513, 1030].map((k) => size(fitted(5, "m"), fitted(7, "n"), fitted(k, "k"))),
        size(fitted(70, "m"), fitted(131, "n"), fitted(300, "k")),
        size(fitted(5, "m"), fitted(6, "n"), fitted(300, "k"), 3, true),
      ];
      for (const each of sizes) await agree(device(), kernel, alternative(kernel, name, each).kernel, each);
    });

    test.each([1024, 4096])("parts of %d, three of them", async (part) => {
      const kernel = kernelOf(true, false, none);
      const each = size(4, 4, 2 * part + 1);
      const { got, want } = await both(device(), kernel, alternative(kernel, `64x64 parts of ${part}`, each).kernel, each);
      expect([...got]).toEqual([...want]);
    });

    test.each(thorough)("%s leaves NaN and infinity what they are", async (name) => {
      const kernel = kernelOf(false, true, [true, true, false]);
      const each = size(4, 4, 4);
      const numbers = [1, 1, 1, 1, 1, Number.NaN, 1, 1, 1, 1, Number.POSITIVE_INFINITY, 1, -1, -1, -1, -1];
      const given = { a: numbers, b: new Float32Array(16).fill(1), bias: [0, 0, 0, 0], c: new Float32Array(16) };
      const buffers = Object.fromEntries(Object.entries(given).map(([key, { length }]) => [key, device().allocate("f32", length)]));
      for (const [key, values] of Object.entries(given)) device().upload(buffers[key], values);
      device().run(alternative(kernel, name, each).kernel, buffers, each);
      const rows = [4, Number.NaN, Number.POSITIVE_INFINITY, 0];
      expect([...(await device().read(buffers.c))]).toEqual(rows.flatMap((value) => new Array(4).fill(value)));
      for (const memory of Object.values(buffers)) device().free(memory);
    });

    // ---- matrix units --------------------------------------------------------------------------

    describe.each(small)("units of $unit.m x $unit.n x $unit.k $unit.type, their fragments emulated", ({ unit, regions }) => {
      test.each(ways)("%s", async (_, ta, tb, epilogue, fitted) => {
        const [bias, relu, residual] = epilogue;
        const kernel = kernelOf(ta, tb, epilogue);
        const { m, n, depth } = regions;
        const sizes = [
          size(fitted(5, "m"), fitted(7, "n"), fitted(3, "k")),
          size(fitted(m, "m"), fitted(n, "n"), fitted(depth, "k")),
          size(fitted(m + 1, "m"), fitted(n - 1, "n"), fitted(2 * depth + 1, "k")),
          size(fitted(m - 1, "m"), fitted(n + 1, "n"), fitted(depth - 1, "k"), 2),
        ];
        const vectors = { a: fitted(1, ta ? "m" : "k") % 4 === 0, b: fitted(1, tb ? "k" : "n") % 4 === 0, c: fitted(1, "n") % 4 === 0 };
        const written = united({ ta, tb, bias, relu, residual }, unit, regions, vectors) as Pick<Kernel, "passes">;
        const { kernel: plain } = alternative(kernel, "64x64", sizes[0]);
        const own = emulated({ ...plain, ...written });
        for (const each of sizes) await agree(device(), kernel, own, each);
      });
    });

    describe("the language of matrix units", () => {
      test.each(byUnits)("Dawn's compiler takes %s", async (name) => {
        const gpu = await unitsOfNobody();
        for (const [, ta, tb, epilogue, fitted] of ways) {
          const each = size(fitted(65, "m"), fitted(129, "n"), fitted(33, "k"));
          const found = alternative(kernelOf(ta, tb, epilogue), name, each);
          expect(await complaint(gpu, found)).toBeNull();
          expect(await complaint(gpu, { ...found, kernel: halved(found.kernel, ["a", "c"]) })).toBeNull();
        }
        gpu.destroy();
      });

      test("and not what is wrong", async () => {
        const gpu = await unitsOfNobody();
        const { kernel, bytes } = alternative(kernelOf(false, false, none), "64x128 units of 16x16x16 f16", size(64, 128, 32));
        const [pass] = kernel.passes;
        const wrong = { ...kernel, passes: [{ ...pass, wgsl: pass.wgsl.replace("subgroup_matrix_right", "subgroup_matrix_left") }] };
        expect(wrong.passes[0].wgsl).not.toBe(pass.wgsl);
        expect(await complaint(gpu, { kernel: wrong, bytes })).toMatch(/subgroupMatrixMultiplyAccumulate/);
        gpu.destroy();
      });
    });
  });

/**
 * The same WGSL on an adapter without matrix units: a fragment that is loaded is the place it is loaded from; a sum is a number, and lies in memory, of which
 * each of the 32 lanes keeps its share.
 */
function emulated(kernel: Kernel): Kernel {
  const [pass] = kernel.passes;
  const found = (pattern: RegExp) => pattern.exec(pass.wgsl)?.slice(1) ?? [];
  const [type] = found(/subgroup_matrix_left<(f\d\d)/);
  const [n, m] = found(/subgroup_matrix_result<f32, (\d+), (\d+)>/).map(Number);
  const [k] = found(/subgroup_matrix_left<f\d\d, (\d+)/).map(Number);
  const [lanes] = found(/@workgroup_size\((\d+)\)/).map(Number);
  const each = (n * m) / 32;
  let sums = 0;
  const at = (side: string, first: string, then: string) =>
    `${side}.y + select(${first} * ${side}.z + ${then}, ${then} * ${side}.z + ${first}, ${side}.x == 1u)`;
  const wgsl = pass.wgsl
    .replace(/ @subgroup_size\(32\)/, "")
    .replace(/var (sum\d+_\d+) = subgroup_matrix_result<[^>]*>\(\);/g, (_, name) => `let ${name} = ${sums++}u; begin(mine + ${name});`)
    .replace(
      /subgroupMatrixLoad<subgroup_matrix_\w+<[^>]*>, (row|col)_major>\(&tile[AB], /g,
      (_, major) => `vec3u(${major === "row" ? 0 : 1}u, `,
    )
    .replace(/(sum\d+_\d+) = subgroupMatrixMultiplyAccumulate\((\w+), (\w+), \1\)/g, "multiply(own, $2, $3, mine + $1)")
    .replace(/subgroupMatrixStore<row_major>\(&sums, drain, (\w+)/g, "put(own, drain, mine + $1");
  expect(wgsl).not.toMatch(/subgroup_?matrix/i);
  // bounds that a compiler cannot see through, so that it writes no loop out
  const functions = /* wgsl */ `
fn begin(sum: u32) { for (var e = 0u; e < p.n / p.n * ${each}u; e++) { fragments[sum * ${each}u + e] = 0.0; } }
fn multiply(own: u32, left: vec3u, right: vec3u, sum: u32) {
  for (var e = 0u; e < p.n / p.n * ${each}u; e++) {
    let i = (own * ${each}u + e) / ${n}u; let j = (own * ${each}u + e) % ${n}u;
    var total = fragments[sum * ${each}u + e];
    for (var k = 0u; k < p.n / p.n * ${k}u; k++) { total += f32(tileA[${at("left", "i", "k")}]) * f32(tileB[${at("right", "k", "j")}]); }
    fragments[sum * ${each}u + e] = total;
  }
}
fn put(own: u32, to: u32, sum: u32, pitch: u32) {
  for (var e = 0u; e < p.n / p.n * ${each}u; e++) { let i = own * ${each}u + e; sums[to + i / ${n}u * pitch + i % ${n}u] = fragments[sum * ${each}u + e]; }
}
`;
  return {
    ...kernel,
    name: `${kernel.name} emulated`,
    scratch: { fragments: { dtype: "f32", length: (params) => pass.groups(params) * lanes * sums * each } },
    passes: [
      {
        ...pass,
        uses: [...(pass.uses ?? []), "fragments"],
        directives: type === "f16" ? ["enable f16;"] : [],
        wgsl: wgsl
          .replace("\n@compute", `${functions}\n@compute`)
          .replace("  let own =", `  let mine = (group * ${lanes}u + lane) * ${sums}u;\n  let own =`),
      },
    ],
  };
}

/** A device of Dawn's that computes nothing, and has every feature: it compiles. */
async function unitsOfNobody(): Promise<GPUDevice> {
  const { create } = await import("webgpu");
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  kept.push(gpu);
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error("Dawn has no null adapter");
  const requiredFeatures = [
    "shader-f16",
    "subgroups",
    "subgroup-size-control",
    "chromium-experimental-subgroup-matrix",
  ] as GPUFeatureName[];
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = adapter.limits;
  return adapter.requestDevice({ requiredFeatures, requiredLimits: { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } });
}
/** Dawn aborts when these are collected. */
const kept: GPU[] = [];

/** What the compiler says against a kernel; null where nothing. The null adapter has 16 KiB of workgroup memory: where that is too little, modules alone. */
async function complaint(gpu: GPUDevice, { kernel, bytes }: Pick<Alternative, "kernel" | "bytes">): Promise<string | null> {
  gpu.pushErrorScope("validation");
  for (const pass of kernel.passes) {
    const entries = ["", ...boundBy(kernel, pass)].map((name, binding) => {
      const type = binding === 0 ? ("uniform" as const) : name in kernel.inputs ? ("read-only-storage" as const) : ("storage" as const);
      return { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } };
    });
    const layout = gpu.createPipelineLayout({ bindGroupLayouts: [gpu.createBindGroupLayout({ entries })] });
    const module = gpu.createShaderModule({ code: source(kernel, pass) });
    if (bytes <= gpu.limits.maxComputeWorkgroupStorageSize) gpu.createComputePipeline({ layout, compute: { module } });
  }
  return (await gpu.popErrorScope())?.message ?? null;
}

// ---- without a device --------------------------------------------------------------------------

describe("the text of matrix units keeps to what drivers were seen to take:", () => {
  const texts = byUnits.flatMap((name) =>
    ways.map(([, ta, tb, epilogue, fitted]) => {
      const each = alternative(kernelOf(ta, tb, epilogue), name, size(fitted(65, "m"), fitted(129, "n"), fitted(33, "k")));
      return [each.kernel.name, source(each.kernel, each.kernel.passes[0]), each] as const;
    }),
  );

  test.each(texts)("%s", (_, wgsl, { lanes, bytes, unit }) => {
    expect(wgsl.match(/\bsubgroup[A-Z]\w+/g)?.filter((name) => !/^subgroupMatrix(Load|Store|MultiplyAccumulate)$/.test(name))).toEqual([]);
    expect(wgsl).not.toMatch(/array<subgroup_matrix/); // fragments have names
    const [, size] = /@workgroup_size\((\d+)\)/.exec(wgsl) ?? [];
    expect(Number(size)).toBe(lanes);
    expect(lanes % 32).toBe(0);
    expect(lanes).toBeLessThanOrEqual(256);
    const width = unit?.type === "f16" ? 2 : 4;
    for (const [, , pitch] of wgsl.matchAll(/&tile([AB]), [^;]*, (\d+)u\);/g)) expect((Number(pitch) * width) % 16).toBe(0);
    const memory = [...wgsl.matchAll(/var<workgroup> \w+: array<(f16|f32), (\d+)>/g)].map(
      ([, type, n]) => (type === "f16" ? 2 : 4) * Number(n),
    );
    expect(memory.reduce((a, b) => a + b)).toBe(bytes);
    expect(wgsl.startsWith(unit?.type === "f16" ? "enable f16;" : "enable subgroups;")).toBe(true);
  });

  test.each(texts)("no fragment of %s reaches beyond its slice, as the compiler sees it: offset + pitch x lines", (_, wgsl, { unit }) => {
    const sizes = Object.fromEntries(
      [...wgsl.matchAll(/var<workgroup> (tile[AB]): array<\w+, (\d+)>/g)].map(([, name, n]) => [name, Number(n)]),
    );
    const [, down, across] = /let row = subgroup \/ (\d+)u \* (\d+)u/.exec(wgsl) ?? [];
    const [, , wide] = /let col = subgroup % (\d+)u \* (\d+)u/.exec(wgsl) ?? [];
    const lanes = Number(/@workgroup_size\((\d+)\)/.exec(wgsl)?.[1]);
    const most = { row: (lanes / 32 / Number(down) - 1) * Number(across), col: (Number(down) - 1) * Number(wide) };
    const loads = [...wgsl.matchAll(/subgroup_matrix_(left|right)<\w+, (\d+), (\d+)>, (row|col)_major>\(&(tile[AB]), (.*), (\d+)u\);/g)];
    expect(loads.length).toBeGreaterThan(0);
    for (const [, , width, height, major, name, at, pitch] of loads) {
      const offset = new Function("row", "col", `return ${at.replace(/(\d)u/g, "$1")}`)(most.row, most.col) as number;
      expect(offset + Number(pitch) * Number(major === "row" ? height : width)).toBeLessThanOrEqual(sizes[name]);
    }
    expect(unit).toBeDefined();
  });
});

describe("where nothing was measured", () => {
  const first = (m: number, n: number, k: number, batch = 1) => kernelOf(true, false, none).alternatives?.of(size(m, n, k, batch))[0].name;

  test.each([
    ["a large product takes a large tile", first(4096, 4096, 4096), "64x128"],
    ["one of fewer tiles takes a smaller one", first(2048, 512, 512), "64x64"],
    ["a batch counts, and no tile reaches far beyond c", first(64, 64, 64, 256), "64x64"],
    ["a gradient of weights is cut along k", first(256, 256, 8192), "64x64 parts of 256"],
    ["in as long parts as keep all busy", first(512, 512, 8192), "64x64 parts of 1024"],
    ["a small product takes the smallest tile", first(100, 100, 100), "32x32"],
    ["and so does a narrow one of many rows", first(25426, 16, 300), "32x32"],
  ])("%s", (_, got, want) => expect(got).toBe(want));

  test("no alternative is named twice, and all compute the same from the same buffers", () => {
    const kernel = kernelOf(false, true, everything);
    for (const each of [size(1, 1, 1), size(512, 512, 70_000), size(0, 3, 0)]) {
      const all = kernel.alternatives?.of(each) ?? [];
      expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
      for (const { kernel: own } of all) {
        expect([own.inputs, own.outputs, own.params]).toEqual([kernel.inputs, kernel.outputs, kernel.params]);
        expect([own.alternatives, own.compiled]).toEqual([undefined, undefined]);
      }
    }
  });

  test("copies of c for parts of k stay within bounds", () => {
    const kernel = kernelOf(false, false, none) as unknown as Kernel;
    const most = (params: Size) =>
      Math.max(0, ...(kernel.alternatives?.of(params) ?? []).map((each) => each.kernel.scratch?.partial.length(params) ?? 0));
    expect(most(size(256, 256, 8192))).toBe(32 * 256 * 256);
    expect(most(size(8192, 8192, 8192))).toBe(0);
    expect(most(size(64, 64, 1 << 20))).toBe(0); // 256 parts even of the longest
  });

  test("a smaller problem of the kind has the same vectors, and parts to add up", () => {
    const kernel = kernelOf(false, true, none);
    const small = kernel.alternatives?.small(size(1001, 999, 4098, 5));
    expect(small).toEqual({ m: 133, n: 135, k: 2058, batch: 2, strideA: 133 * 2058, strideB: 2058 * 135 });
    expect(kernel.alternatives?.small(size(3, 5, 7))).toEqual(size(3, 5, 7));
  });
});

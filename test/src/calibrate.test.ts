/** Calibration: what is wrong is refused, what is slow is not chosen, what was kept is used where it is this adapter's, and no driver's crash is ours. */

import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { PLAIN, WAYS } from "../../kernels/attention/ways.ts";
import { attention, attentionGrad } from "../../kernels/attention.ts";
import { type Alternative, type Kernel, kernel, LANES, lanes } from "../../kernels/kernel.ts";
import { matmul } from "../../kernels/matmul.ts";
import { type CalibrateOptions, calibrate, type Finding, fileStore, transformerProblems, trialHere } from "../../src/calibrate.ts";
import { type Abilities, Choices, classOf, lacking, textOf } from "../../src/choices.ts";
import { choose } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { needs } from "../../src/shapes.ts";
import { mostTiles } from "../../src/stream.ts";
import { tensor } from "../../src/tensor.ts";
import { deviceNames, onDevice } from "../devices.ts";

// ---- a kernel with alternatives of every kind ------------------------------------------------

/** y = x + 1, worked out `times` over. */
const adding = (name: string, one: string, times = 1): Kernel => {
  const wgsl = /* wgsl */ `
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = groupOf(wid) * ${LANES}u + lane;
  if (i >= p.n) { return; }
  var value = 0.0;
  for (var turn = 0u; turn < ${times}u * (p.n / p.n); turn++) { value = select(value, x[i] + ${one}, fract(value) >= 0.0); }
  y[i] = value;
}`;
  return kernel({
    name,
    inputs: { x: "f32" },
    outputs: { y: "f32" },
    params: { n: "u32" },
    passes: [{ wgsl, groups: ({ n }) => lanes(n) }],
    loops: ({ x, y }, { n }) => {
      for (let i = 0; i < n; i++) y[i] = x[i] + 1;
    },
  }) as unknown as Kernel;
};

const way = (name: string, made: Kernel, more: Partial<Alternative> = {}): Alternative => ({
  ...{ name, kernel: made, features: [], lanes: LANES, bytes: 0, mixed: false, unproven: false },
  ...more,
});

const SLOW = 20_000;
const plain = adding("plus", "1.0", 200);
const withWays = (...ways: Alternative[]): Kernel => ({
  ...plain,
  alternatives: { sizes: ["n"], of: () => ways, lengths: ({ n }) => ({ x: n, y: n }), small: ({ n }) => ({ n: Math.min(n, 100) }) },
});
const slow = way("slow", adding("slow", "1.0", SLOW));
const quick = way("quick", adding("quick", "1.0"));
const wrong = way("wrong", adding("wrong", "select(1.0, 2.0, i == 99u)"));
const wrongFurther = way("wrong further", adding("wrong further", "select(1.0, 2.0, i == 999u)"));
const rough = way("rough", adding("rough", "1.001"));
const broken = way("broken", adding("broken", "no_such_number"));
const vain = way("vain", adding("vain", "1.0"), { features: ["no-such-feature"] });
const params = { n: 1000 };
const name = "plus, n 1024";

const folder = await mkdtemp(join(tmpdir(), "calibrate-"));
afterAll(() => rm(folder, { recursive: true }));
const verdicts = (findings: readonly Finding[]) => Object.fromEntries(findings.map(({ alternative, verdict }) => [alternative, verdict]));

if (deviceNames.includes("webgpu"))
  onDevice("webgpu", (device) => {
    const open = async (options = {}) => (await choose("webgpu", options)).device;

    test("chooses the fastest of those that are right, and says why not of the others", async () => {
      const on = await open();
      const odd = withWays(slow, wrong, wrongFurther, rough, broken, vain, quick);
      expect(on.choices?.plan(odd, params)).toBe(slow.kernel); // the first, where nothing was measured
      const { findings, table } = await calibrate(on, { problems: [{ kernel: odd, params }] });
      expect(verdicts(findings)).toEqual({
        ...{ slow: "slower", quick: "chosen" },
        ...{ wrong: "refused", "wrong further": "refused", rough: "refused", broken: "refused", vain: "absent" },
      });
      const reason = (which: string) => findings.find(({ alternative }) => alternative === which)?.reason;
      expect(reason("wrong")).toMatch(/^it is off by \d/);
      expect(reason("wrong further")).toBe("it is wrong: whole numbers differ from the plain kernel's"); // where the small problem does not reach
      expect(reason("rough")).toMatch(/^it is off by \d/);
      expect(reason("broken")).toMatch(/^webgpu: broken: .*no_such_number/);
      expect(reason("vain")).toBe("the adapter has no no-such-feature");
      const ms = (which: string) => findings.find(({ alternative }) => alternative === which)?.ms ?? Number.NaN;
      expect(ms("slow")).toBeGreaterThan(ms("quick"));
      expect(ms("wrong")).toBeNaN();
      const tried = (way: Alternative, ms: unknown) => ({ alternative: way.name, text: textOf(way.kernel), ms });
      expect(table.adapter).toBe(on.description);
      expect(table.tried).toEqual({
        [name]: [
          ...[quick, slow].map((each) => tried(each, expect.any(Number))),
          ...[wrong, wrongFurther, rough, broken].map((each) => tried(each, null)),
        ],
      });
      expect(on.choices?.plan(odd, params)).toBe(quick.kernel);
      expect(on.choices?.plan(odd, { n: 1100 })).toBe(quick.kernel); // the same class
      expect(on.choices?.plan(odd, { n: 5000 })).toBe(slow.kernel); // another
      expect(on.memory.live).toBe(0);
      on.close();
    });

    test("nothing is chosen where the plain kernel is wrong", async () => {
      const bad = { ...withWays(quick), passes: wrong.kernel.passes };
      await expect(calibrate(device(), { problems: [{ kernel: bad, params }] })).rejects.toThrow(
        /^calibrate: plus is off by .* its plainest writing is wrong/,
      );
      expect(device().memory.live).toBe(0);
    });

    test("what a store holds is used, and not measured again", async () => {
      const store = fileStore(join(folder, "kept.json"));
      const problems = [{ kernel: withWays(slow, quick), params }];
      const first = await open();
      expect((await calibrate(first, { problems, store })).findings).toHaveLength(2);
      first.close();
      expect(await readdir(folder)).toEqual(["kept.json"]);
      const second = await open();
      const { findings, table } = await calibrate(second, { problems, store, warn: (message) => expect.fail(message) });
      expect(findings).toEqual([]);
      expect(table.tried[name][0].alternative).toBe("quick");
      expect(second.choices?.plan(problems[0].kernel, params)).toBe(quick.kernel);
      second.close();
    });

    test.each([
      ["not JSON", "{", '"FILE" is not JSON'],
      ["no table", '{"adapter": 3}', "it is no table of a calibration"],
      ["a list", "[]", "it is no table of a calibration"],
      ["choices that are none", `{"adapter": "x", "tried": {"a": [{"alternative": "b"}]}}`, "some of what was tried is not told"],
      ["another adapter's", `{"adapter": "x", "tried": {}}`, 'it was made on "x", and this adapter is "ADAPTER"'],
    ])("a store with %s is said to be of no use, and written anew", async (_, text, said) => {
      const path = join(folder, "broken.json");
      await writeFile(path, text);
      const on = await open();
      const heard: string[] = [];
      const { findings } = await calibrate(on, {
        problems: [{ kernel: withWays(quick), params }],
        store: fileStore(path),
        warn: (message) => heard.push(message),
      });
      const reason = said.replace("FILE", path).replace("ADAPTER", on.description);
      expect(heard).toEqual([`calibrate: what was kept is not used, ${reason}; calibrating anew`]);
      expect(findings).toHaveLength(1);
      expect(JSON.parse(await readFile(path, "utf8"))).toMatchObject({ adapter: on.description });
      on.close();
    });

    test("open() takes a table, and refuses another adapter's", async () => {
      const { description } = device();
      const [ms, text] = [1, ""];
      const list = [{ alternative: "wrong", text, ms: null }, { alternative: "no longer there", text, ms }, { alternative: "quick", text, ms }]; // biome-ignore format: a list
      const table = { adapter: description, tried: { [name]: list } };
      const on = await open({ calibrate: table });
      expect(on.choices?.plan(withWays(slow, wrong, quick), params)).toBe(quick.kernel);
      on.close();
      await expect(open({ calibrate: { ...table, adapter: "x" } })).rejects.toThrow('calibration: it was made on "x", and this adapter is');
    });

    test("stops when asked to, between problems", async () => {
      const stop = new AbortController();
      const problems = [params, { n: 5000 }].map((each) => ({ kernel: withWays(quick), params: each }));
      let told = 0;
      const onProgress = (done: number, total: number) => {
        expect([done, total]).toEqual([++told, 2]);
        stop.abort();
      };
      await expect(calibrate(device(), { problems, onProgress, signal: stop.signal })).rejects.toThrow(/abort/);
      expect(told).toBe(1);
      expect(device().memory.live).toBe(0);
    });

    describe("what hangs on drivers", () => {
      const risky = { ...quick, unproven: true };
      const kernelWithRisk = withWays(slow, risky);
      const found = async (options: CalibrateOptions) => {
        const on = await open();
        expect(on.choices?.plan(kernelWithRisk, params)).toBe(slow.kernel);
        expect(on.choices?.plan(withWays(risky), params).passes).toBe(plain.passes); // the kernel itself, when nothing else is left
        const { findings } = await calibrate(on, { problems: [{ kernel: kernelWithRisk, params }], ...options });
        const taken = on.choices?.plan(kernelWithRisk, params) === risky.kernel;
        const { table } = on.choices ?? {};
        on.close();
        return { ...findings.find(({ alternative }) => alternative === "quick"), taken, table };
      };

      test("is tried in a process of its own, and taken when it is right", async () => {
        const { verdict, reason, taken, table } = await found({});
        expect([verdict, reason, taken]).toEqual(["chosen", null, true]);
        // the same name with another text is not what was tried
        const changed = withWays(slow, { ...risky, kernel: adding("quick", "(0.5 + 0.5)") });
        const on = await open({ calibrate: table });
        expect(on.choices?.plan(changed, params)).toBe(slow.kernel);
        expect(on.choices?.plan(kernelWithRisk, params)).toBe(risky.kernel);
        on.close();
      });

      test.each([
        ["crashes", "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => {});", /^in a process of its own it ended with SIGSEGV/],
        ["ends with an error", "throw new Error('no such matrix');", /^in a process of its own it ended with status 1/],
        ["computes something else", "process.stdout.write(JSON.stringify({ y: 'AAAA' }))", /^it is wrong, in a process of its own$/],
      ])("is refused where that process %s", async (_, program, said) => {
        const { verdict, reason, taken } = await found({ trial: trialHere(program) });
        expect([verdict, taken]).toEqual(["refused", false]);
        expect(reason).toMatch(said);
      });
    });

    describe("attention, which has tables for inputs and differs in the last bits", () => {
      const [rows, heads] = [200, 2];
      const count = mostTiles(rows, 3);
      const size = { count, keyCount: count, rows, keyRows: rows, heads, threshold: 6554, scale: 1.1, site0: 3, site1: 4 };
      const among = (kernel: Kernel, choose: (each: Alternative) => Alternative[]): Kernel => ({
        ...kernel,
        alternatives: { ...kernel.alternatives!, of: (params) => kernel.alternatives!.of(params).flatMap(choose) },
      });
      test.each([
        ["forward", attention(16, false, false) as unknown as Kernel, [...Object.keys(WAYS), PLAIN]],
        ["backward", attentionGrad(64, true, true) as unknown as Kernel, ["blocks of 16", PLAIN]],
      ] as const)("%s: each way is measured, and the fastest is taken by the next run", async (direction, whole, names) => {
        const store = fileStore(join(folder, `${direction}.json`));
        const kernel = among(whole, (each) => (names.some((name) => name === each.name) ? [each] : []));
        const problems = [{ kernel, params: size }];
        const first = await open();
        const { findings } = await calibrate(first, { problems, store });
        first.close();
        expect(findings.map(({ problem, alternative }) => [problem, alternative])).toEqual(
          names.map((name) => [classOf(kernel, size), name]),
        );
        const measured = findings.filter(({ alternative }) => !alternative.endsWith("f16"));
        for (const { alternative, ms, reason } of measured)
          expect([alternative, reason, Number(ms) > 0]).toEqual([alternative, null, true]);
        const [chosen, ...more] = measured.filter(({ verdict }) => verdict !== "slower");
        expect([chosen.verdict, more]).toEqual(["chosen", []]);
        for (const { verdict, ms } of findings.filter((each) => !measured.includes(each))) expect([verdict, ms]).toEqual(["absent", null]);

        const second = await open();
        expect((await calibrate(second, { problems, store, warn: (message) => expect.fail(message) })).findings).toEqual([]);
        const way = kernel.alternatives!.of(size).find(({ name }) => name === chosen.alternative)!;
        expect(second.choices?.plan(kernel, size)).toBe(way.kernel);
        second.close();
      });

      test("a wrong one is refused, be it wrong at once or where the small problem does not reach", async () => {
        const spoilt = (each: Alternative, name: string, change: (wgsl: string) => string, unproven = false): Alternative => {
          const passes = each.kernel.passes.map((pass) => ({ ...pass, wgsl: change(pass.wgsl) }));
          expect(passes[0].wgsl).not.toBe(each.kernel.passes[0].wgsl);
          return { ...each, name, kernel: { ...each.kernel, name, passes }, unproven };
        };
        const late = (wgsl: string) => wgsl.replace("* scale[i / 1u]", "* scale[i / 1u] * select(1.0, 1.001, row0 > 128u)");
        const odd = among(attention(16, false, true) as unknown as Kernel, (each) => {
          if (each.name === PLAIN) return [each];
          if (each.name !== "blocks of 8") return [];
          return [
            spoilt(each, "apart", (wgsl) => wgsl.replace("* SCALE; peak", "* SCALE * 1.01; peak"), true),
            spoilt(each, "here", (wgsl) => wgsl.replace("let end = ", "let end = 0u * ")),
            spoilt(each, "late", late),
          ];
        });
        const on = await open();
        const { findings } = await calibrate(on, { problems: [{ kernel: odd, params: size }] });
        expect(findings.map(({ alternative, verdict }) => [alternative, verdict])).toEqual([
          ...["apart", "here", "late"].map((name) => [name, "refused"]),
          [PLAIN, "chosen"],
        ]);
        expect(findings.map(({ reason }) => reason)).toEqual([
          "it is wrong, in a process of its own",
          expect.stringMatching(/^it is off by \d.* of the largest; 0.00001 is allowed$/),
          expect.stringMatching(/^beside the plain kernel it is off by \d.*e-[34] of the largest; 0.00001 is allowed$/),
          null,
        ]);
        expect(on.memory.live).toBe(0);
        on.close();
      });
    });

    test("mixed precision: f16 is absent without, held to f16's rounding with, and never taken unasked", async () => {
      const half = way("half", adding("half", "1.0004"), { mixed: true }); // 1 rounded to 11 bits would be nearer
      const exact = way("exact", adding("exact", "1.0"), { mixed: true });
      const odd = withWays(half, exact, slow);
      const on = await open();
      expect(verdicts((await calibrate(on, { problems: [{ kernel: odd, params }] })).findings)).toEqual({
        half: "absent",
        exact: "absent",
        slow: "chosen",
      });
      on.close();
      const mixed = await open({ precision: "mixed" });
      expect(mixed.choices?.plan(odd, params)).toBe(slow.kernel);
      const { findings } = await calibrate(mixed, { problems: [{ kernel: odd, params }] });
      expect(verdicts(findings)).toEqual({ half: "refused", exact: "chosen", slow: "slower" });
      expect(findings[0].reason).toMatch(/^it is wrong: whole numbers/); // within f16's rounding, but whole numbers have none
      const { table } = mixed.choices ?? {};
      mixed.close();
      const strict = await open({ calibrate: table }); // the fastest of those that it may take
      expect(strict.choices?.plan(odd, params)).toBe(slow.kernel);
      expect(strict.choices?.knows(odd, params)).toBe(true);
      expect(strict.choices?.knows(withWays(slow, quick), params)).toBe(false);
      strict.close();
    });

    test("a device runs what it planned, and prepare() compiles that", async () => {
      const { kernels, problems } = needs(() => {
        const x = tensor(Key.from(1).uniforms(64 * 64), [64, 64]);
        ops.matmul(x, x);
      }, device());
      const small = { m: 64, n: 64, k: 64, batch: 1, strideA: 0, strideB: 0 };
      const product = matmul(false, false, false, false, false) as unknown as Kernel;
      expect(problems).toEqual([{ kernel: product, params: small }]);
      expect(kernels).toEqual([device().choices?.plan(product, small)]);
      expect(kernels[0].name).toBe("matmul NN (32x32 abc)");
    });
  });

// ---- without a device ------------------------------------------------------------------------

const abilities: Abilities = {
  ...{ name: "x", software: false, features: new Set(["shader-f16"]), lanes: 256, bytes: 16384, mixed: true },
  units: [{ type: "f16", m: 16, n: 16, k: 16 }],
};

describe("what an adapter lacks", () => {
  const unit = { type: "f16", m: 16, n: 16, k: 16 } as const;

  test.each([
    ["nothing", { features: ["shader-f16"], mixed: true, unit, bytes: 16384 }, null],
    ["lanes", { lanes: 257 }, "it takes 257 lanes; the adapter allows 256"],
    ["memory", { bytes: 16385 }, "it takes 16385 bytes of workgroup memory; the adapter allows 16384"],
    ["a feature", { features: ["shader-f16", "subgroups", "b"] }, "the adapter has no subgroups, b"],
    ["a unit", { unit: { ...unit, n: 8 } }, "the adapter has no matrix unit of 16x8x16 f16 with sums of f32"],
    ["a unit's type", { unit: { ...unit, type: "f32" as const } }, "the adapter has no matrix unit of 16x16x16 f32 with sums of f32"],
  ])("%s", (_, more, said) => expect(lacking(way("a", plain, more), abilities)).toBe(said));

  test("leave to round", () => {
    expect(lacking(way("a", plain, { mixed: true }), { ...abilities, mixed: false })).toBe(
      'it rounds to f16; open with precision "mixed" to allow that',
    );
  });
});

test("a class is a kernel and its sizes to the nearest power of two; strides count for nothing", () => {
  const product = matmul(false, true, true, false, false) as unknown as Kernel;
  const size = { m: 2000, n: 25426, k: 1, batch: 1, strideA: 7, strideB: 9 };
  expect(classOf(product, size)).toBe("matmul NT bias, m 2048, n 32768, k 1, batch 1");
  expect(classOf(product, { ...size, k: 0, strideA: 0 })).toBe("matmul NT bias, m 2048, n 32768, k 0, batch 1");
});

test("kernels without alternatives are what they are, on any device", () => {
  expect(new Choices(abilities).plan(plain, params)).toBe(plain);
});

test("a device without choices says so; options are checked", async () => {
  await expect(calibrate(openReference())).rejects.toThrow(
    'calibrate(device): the reference device has nothing to choose from; open "webgpu"',
  );
  await expect(calibrate(openReference(), { problem: [] } as never)).rejects.toThrow(
    'there is no option "problem"; did you mean "problems"?',
  );
  await expect(choose("cpu", { precision: "f16" as never })).rejects.toThrow('a precision is "f32" or "mixed"; got f16');
});

test("the problems of a transformer: each layer forward and back, and squares; fewer for a software adapter", () => {
  const [few, many] = [true, false].map(transformerProblems);
  const names = (problems: typeof few) => [...new Set(problems.map(({ kernel: each }) => each.name))].sort();
  const products = (ends: readonly string[]) => ["matmul NN", "matmul NT", ...ends.map((end) => `matmul NT ${end}`), "matmul TN"];
  expect(names(few)).toEqual(["attention 64", "attentionGrad 64", ...products(["bias"])]);
  const ways = ["attention 64", "attention 64 dropped", "attentionGrad 64", "attentionGrad 64 dropped"];
  expect(names(many)).toEqual([...ways, ...products(["bias", "bias relu", "bias residual"])]);
  expect(many.map(({ params: { m, n, k } }) => [m, n, k])).toContainEqual([3072, 768, 8192]); // dw of the wider layer
  const attended = many.filter(({ kernel: each }) => each.name === "attentionGrad 64 dropped").map(({ params: size }) => size);
  expect(attended.map(({ rows, keyRows, heads }) => [rows, keyRows, heads])).toEqual([[2048, 2048, 4], [8192, 8192, 4], [8192, 8192, 12]]); // biome-ignore format: a table
  expect(Math.max(...few.filter(({ params: { m } }) => m).map(({ params: { m, n, k } }) => m * n * k))).toBeLessThanOrEqual(2 ** 24);
  // every parameter that a kernel has is there, and the classes are told apart
  for (const { kernel: each, params: size } of [...few, ...many])
    for (const name of Object.keys(each.params)) expect(size[name], `${each.name}: ${name}`).toBeTypeOf("number");
  expect(new Set(many.map(({ kernel: each, params: size }) => classOf(each, size))).size).toBe(many.length);
});

/** Pretraining in mixed precision: the loss scale changes no step where nothing is rounded, is saved and resumed, and training by products of f16 comes to what f32 comes to. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { Pretraining, type PretrainOptions, type Step } from "../../geneformer/pretrain.ts";
import { type Event, pretrain, type RunOptions } from "../../geneformer/run.ts";
import { parameters } from "../../nn/module.ts";
import { readSafetensors } from "../../nn/safetensors.ts";
import { calibrate } from "../../src/calibrate.ts";
import { choose, type Device, device, use } from "../../src/device.ts";
import { deviceNames, onDevice } from "../devices.ts";
import { halve } from "../halves.ts";
import { geneformer, results } from "./cli/call.ts";
import { scratch } from "./data/scratch.ts";
import { datasetOf, settings, toyCells, toyConfig, V2, writeToy } from "./toy.ts";

/** Calibration in earnest, unless a test has it do something else: on a software adapter it takes minutes. */
vi.mock("../../src/calibrate.ts", async (original) => {
  const real = await original<typeof import("../../src/calibrate.ts")>();
  return { ...real, calibrate: vi.fn(real.calibrate) };
});
afterEach(() => {
  vi.mocked(calibrate).mockReset(); // in earnest again
});

const path = scratch();
const cells = datasetOf(toyCells(50));
const begin = (options: Partial<PretrainOptions> = {}) => new Pretraining(cells, V2, toyConfig, { ...settings, ...options });

/** Steps, and the weights before the first and after each. */
async function train(run: Pretraining, count: number) {
  const weightsNow = () => Promise.all([...parameters(run.model)].map(async ([, t]) => [...(await t.data())]));
  const steps: Step[] = [];
  const weights = [await weightsNow()];
  while (steps.length < count) {
    steps.push(await run.step());
    weights.push(await weightsNow());
  }
  run.free();
  return { steps, weights };
}

/** Begin with another factor on the loss. */
const withFactor = (run: Pretraining, factor: number): Pretraining => {
  for (const [name, state] of run.optimizer.state()) if (name === "lossScale") state.write([factor, 0]);
  return run;
};

const losses = (steps: readonly Step[]) => steps.map(({ loss }) => loss);

onDevice("cpu", () => {
  describe("where nothing is rounded", () => {
    test("it takes the same steps, to the bit, and tells of the factor", async () => {
      const [plain, mixed] = [await train(begin({ clip: 0 }), 8), await train(begin({ clip: 0, precision: "mixed" }), 8)];
      expect(mixed.weights).toEqual(plain.weights);
      expect(mixed.steps.map(({ norm, lossScale, ...rest }) => rest)).toEqual(plain.steps.map(({ norm, ...rest }) => rest));
      mixed.steps.forEach(({ norm, lossScale }, i) => {
        expect(norm / plain.steps[i].norm).toBeCloseTo(1, 6);
        expect(lossScale).toBe(2 ** 16);
      });
      for (const step of plain.steps) expect(Object.keys(step)).not.toContain("lossScale");
    });

    test("several batches to a step, too", async () => {
      const two = { clip: 0, accumulate: 2 };
      const [plain, mixed] = [await train(begin(two), 3), await train(begin({ ...two, precision: "mixed" }), 3)];
      expect([mixed.weights, losses(mixed.steps)]).toEqual([plain.weights, losses(plain.steps)]);
    });
  });

  test("a step whose gradients overflow is told of, changes no weight and halves the factor; the loss told is the one without", async () => {
    const { steps, weights } = await train(withFactor(begin({ precision: "mixed", warmup: 0 }), 2 ** 80), 40);
    const taken = steps.findIndex(({ skipped }) => !skipped);
    expect(taken).toBeGreaterThan(3);
    expect(taken).toBeLessThan(30); // squares of gradients of 2^50 are no more than f32 holds
    steps.slice(0, taken).forEach((step, i) => {
      expect(step).toMatchObject({ skipped: true, lossScale: 2 ** (79 - i) });
      expect(Number.isFinite(step.norm)).toBe(false);
      expect(Math.abs(step.loss - Math.log(V2.size))).toBeLessThan(0.5); // of an untrained model
      expect(weights[i + 1]).toEqual(weights[0]);
    });
    expect(steps[taken]).toMatchObject({ lossScale: 2 ** (80 - taken) });
    expect(weights[taken + 1]).not.toEqual(weights[0]);
    expect(steps.slice(taken).some(({ skipped }) => skipped)).toBe(false);
  });

  test("gradients that overflow whatever the factor end the run in words; so does a loss that is no number", async () => {
    const run = withFactor(begin({ precision: "mixed" }), Number.NaN);
    const words = /at step 1; lower the learning rate, lengthen the warm-up, or train with precision "f32"$/;
    await expect(run.step()).rejects.toThrow(words);
    run.free();
    const lost = begin({ precision: "mixed" });
    for (const [, t] of parameters(lost.model)) t.write(new Float32Array(t.size).fill(Number.NaN));
    await expect(lost.step()).rejects.toThrow(words);
    lost.free();
  });

  test("the device's memory stays flat, and the end gives all of it back", async () => {
    const before = device().memory.live;
    const run = begin({ precision: "mixed", accumulate: 2 });
    await run.step();
    const { live } = device().memory;
    for (let i = 0; i < 20; i++) await run.step();
    expect(device().memory.live).toBe(live);
    run.free();
    expect(device().memory.live).toBe(before);
  });

  test("a precision there is not is refused", () => {
    const { live } = device().memory;
    expect(() => begin({ precision: "f16" as "mixed" })).toThrow(new RangeError('pretrain: precision must be "f32" or "mixed"; got f16'));
    expect(device().memory.live).toBe(live);
  });

  test("there is nothing to calibrate, nor after a step", async () => {
    const run = begin();
    await expect(run.calibrate()).rejects.toThrow(/^calibrate\(device\): the cpu device has nothing to choose from/);
    await run.step();
    expect(() => run.calibrate()).toThrow("Pretraining.calibrate(options): a step was taken already; calibrate before the first one");
    run.free();
  });

  // ---- on disk -------------------------------------------------------------------------------

  describe("a run on disk", () => {
    const options: RunOptions = {
      ...{ ...settings, steps: 12, precision: "mixed" as const },
      ...{ saveEvery: 5, evaluateEvery: 4, evaluateCells: 3, resume: false, force: false },
    };
    const start = (out: string, other: Partial<RunOptions> = {}) => pretrain(cells, V2, toyConfig, path(out), { ...options, ...other });
    const follow = async (run: AsyncGenerator<Event>, last = Number.POSITIVE_INFINITY) => {
      for await (const event of run) if (event.kind === "step" && event.step === last) break;
    };
    const weights = (out: string) => readFileSync(path(`${out}/model.safetensors`));
    const log = (out: string) =>
      readFileSync(path(`${out}/log.jsonl`), "utf8").trimEnd().split("\n").map((line) => ({ ...JSON.parse(line), ms: 0 })); // biome-ignore format: one line
    const saved = (out: string) => path(`${out}/checkpoint-5/run.json`);

    beforeAll(async () => {
      await follow(start("whole"));
      await follow(start("broken"), 7);
    });

    test("says the precision in its log and its checkpoints, and the factor at each step", () => {
      const [header, ...lines] = log("whole");
      expect(header).toMatchObject({ precision: "mixed" });
      expect(lines.flatMap(({ lossScale }) => lossScale ?? [])).toEqual(new Array(12).fill(2 ** 16));
      expect(JSON.parse(readFileSync(saved("broken"), "utf8"))).toMatchObject({ options: { precision: "mixed" } });
    });

    test("keeps the factor, and how long it has been so, with the optimiser's state", () => {
      const { tensors } = readSafetensors(readFileSync(path("broken/checkpoint-5/optimizer.safetensors")));
      const scale = tensors.get("lossScale");
      expect(scale?.shape).toEqual([2]);
      expect([...new Float32Array(Uint8Array.from(scale?.bytes ?? []).buffer)]).toEqual([2 ** 16, 5]);
    });

    test("is not resumed in another precision; one of before there was a choice is of f32", async () => {
      await expect(follow(start("broken", { resume: true, precision: "f32" }))).rejects.toThrow(
        `"${path("broken")}/checkpoint-5" was made with precision "mixed", now it is "f32"; resume with the same settings`,
      );
      await follow(start("older", { precision: "f32" }), 7);
      const { options, ...rest } = JSON.parse(readFileSync(saved("older"), "utf8"));
      const { precision, ...before } = options;
      expect(precision).toBe("f32");
      writeFileSync(saved("older"), JSON.stringify({ ...rest, options: before }));
      await expect(follow(start("older", { resume: true }))).rejects.toThrow('was made with precision "f32", now it is "mixed"');
      await follow(start("older", { resume: true, precision: "f32" }));
      expect(existsSync(path("older/model.safetensors"))).toBe(true);
    });

    test("is resumed to the bit", async () => {
      await follow(start("broken", { resume: true }));
      expect(weights("broken")).toEqual(weights("whole"));
      expect(log("broken")).toEqual(log("whole"));
    });
  });
});

// ---- at the command line -----------------------------------------------------------------------

const size = ["--layers", "1", "--width", "16", "--heads", "2", "--inner", "16", "--tokens-per-batch", "64", "--warmup", "2"];

describe("at the command line", () => {
  const dataset = path("cells.dataset");
  const args = (out: string, ...more: string[]) => ["pretrain", dataset, ...size, "--steps", "3", "--out", path(out), ...more];
  beforeAll(() => writeToy(dataset, toyCells(40)));

  test("the cpu says that it makes no use of it; the log and the report say the precision", async () => {
    const { status, stdout, stderr } = await geneformer([...args("cpu", "--precision", "mixed", "--device", "cpu"), "--json"]);
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/^device: cpu, .*; mixed precision, of which cpu makes no use: it rounds nothing to f16$/m);
    expect(JSON.parse(stdout)).toMatchObject({ precision: "mixed", skipped: 0 });
    expect(JSON.parse(readFileSync(path("cpu/log.jsonl"), "utf8").split("\n")[0])).toMatchObject({ precision: "mixed" });
    expect(existsSync(path("cpu/calibration.json"))).toBe(false);
    const plain = await geneformer([...args("plain", "--device", "cpu"), "--json"]);
    expect(plain.stderr).not.toContain("precision");
    expect(JSON.parse(plain.stdout)).toMatchObject({ precision: "f32" });
  });

  test.each([
    [["--precision", "half"], /'half' is invalid\. Allowed choices are f32, mixed\.\n$/],
    [["--calibration", "x.csv"], /It must end in \.json\.\n$/],
  ])("%j is wrong usage", async (more, message) => {
    expect(await geneformer(args("wrong", ...more))).toMatchObject({ status: 2, stderr: expect.stringMatching(message) });
  });

  if (deviceNames.includes("webgpu"))
    describe("on webgpu", () => {
      /** What stands for calibration: it chooses f16, and says what it was given. */
      const calibrated = vi.fn();
      beforeEach(() => {
        calibrated.mockClear();
        vi.mocked(calibrate).mockImplementation(async (on, { problems = [], store, onProgress } = {}) => {
          calibrated(problems.length);
          if (problems.length > 0) halve(on as Device, problems);
          onProgress?.(1, 1, []);
          const table = on?.choices?.table ?? { adapter: "", tried: {} };
          if (problems.length > 0) await store?.save(table);
          return { table, findings: [] };
        });
      });

      test("what was found of a step's kernels is kept in the run's folder, or in the file named", async () => {
        const mixed = ["--precision", "mixed", "--device", "webgpu"];
        const { status, stderr } = await geneformer(args("gpu", ...mixed));
        expect(status, stderr).toBe(0);
        expect(stderr).toMatch(/^device: webgpu, .*; mixed precision$/m);
        expect(stderr).toMatch(/^Calibrating: /m);
        const { tried } = JSON.parse(readFileSync(path("gpu/calibration.json"), "utf8"));
        expect(Object.keys(tried)).toEqual(expect.arrayContaining([expect.stringMatching(/^matmul NT bias, m 64, n 16, k 16/)]));
        expect(calibrated.mock.calls).toEqual([[expect.any(Number)]]);

        const file = path("adapter.json");
        await results(args("named", ...mixed, "--calibration", file));
        expect([existsSync(file), existsSync(path("named/calibration.json"))]).toEqual([true, false]);
        expect(calibrated.mock.calls.slice(1)).toEqual([[0], calibrated.mock.calls[0]]); // what the file holds, and what it lacks

        const table = path("cells.csv");
        await results(["embed", dataset, "--model", path("named"), "--max-cells", "4", ...mixed, "--calibration", file, "--out", table]);
        expect(calibrated.mock.calls.slice(3)).toEqual([[0]]);
        expect(existsSync(table)).toBe(true);
      });

      test("Ctrl-C while it calibrates says how to go on", async () => {
        const stop = new AbortController();
        vi.mocked(calibrate).mockImplementation(async () => {
          stop.abort();
          throw stop.signal.reason;
        });
        const { status, stderr } = await geneformer(args("stopped", "--precision", "mixed", "--device", "webgpu"), stop.signal);
        expect([status, stderr.trimEnd().split("\n").at(-1)]).toEqual([
          130,
          "geneformer pretrain: stopped; it was calibrating and had not trained yet; go on with the same command and --resume",
        ]);
      });
    });
});

// ---- by products of f16 ------------------------------------------------------------------------

if (deviceNames.includes("webgpu"))
  describe("by products of f16", () => {
    const on = async <T>(precision: "f32" | "mixed", f: (device: Device) => Promise<T>): Promise<T> => {
      const { device } = await choose("webgpu", { precision });
      use(device);
      try {
        return await f(device);
      } finally {
        use(null);
        device.close();
      }
    };

    test("thirty steps come to the loss of f32, to one part in a hundred", async () => {
      vi.mocked(calibrate).mockImplementation(async (on, { problems = [] } = {}) => {
        halve(on as Device, problems);
        return { table: { adapter: "", tried: {} }, findings: [] };
      });
      const want = await on("f32", () => train(begin(), 30));
      const got = await on("mixed", async () => {
        const run = begin({ precision: "mixed" });
        await run.calibrate();
        return train(run, 30);
      });
      expect(got.steps.some(({ skipped }) => skipped)).toBe(false);
      got.steps.forEach(({ loss }, i) => {
        expect(Math.abs(loss / want.steps[i].loss - 1), `step ${i + 1}`).toBeLessThan(0.01);
      });
      expect(got.weights[30]).not.toEqual(want.weights[30]);
    });

    test.each(["f32", "mixed"] as const)("a device that was opened for %s is for no other", (precision) =>
      on(precision, async () => {
        const other = precision === "f32" ? "mixed" : "f32";
        expect(() => begin({ precision: other })).toThrow(
          `pretrain: precision is "${other}" but the device was opened for "${precision}"; open it with { precision: "${other}" }`,
        );
      }),
    );
  });

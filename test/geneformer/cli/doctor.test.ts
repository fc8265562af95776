/** `geneformer doctor`: it finds this machine's devices healthy, says what is missing, and fails where a kernel is wrong. */

import { afterEach, describe, expect, test, vi } from "vitest";
import { samples } from "../../../kernels/samples.ts";
import type { Finding } from "../../../src/calibrate.ts";
import type { OpenOptions } from "../../../src/device.ts";
import type { Verdict } from "../../../src/verify.ts";
import { deviceNames } from "../../devices.ts";
import { geneformer } from "./call.ts";

interface Report {
  auto: string;
  reason: string;
  devices: { name: string; description: string; verdicts: Verdict[] }[];
  missing: Record<string, string>;
  features: string[];
  limits: { maxBufferSize: number } | null;
  plans: Record<string, string>;
  findings: Finding[];
}

const noAdapter = async () => ({
  ...(await vi.importActual("../../../src/webgpu.ts")),
  findAdapter: async () => null,
  isSoftware: () => false,
  openWebGpu: () => Promise.reject(new Error("webgpu: no adapter; install one")),
});

afterEach(() => {
  vi.doUnmock("../../../src/calibrate.ts");
  vi.doUnmock("../../../src/webgpu.ts");
  vi.doUnmock("../../../src/verify.ts");
  vi.resetModules();
});

describe("the devices under test", () => {
  test("compute every kernel as its loops do", async () => {
    if (!deviceNames.includes("webgpu")) vi.doMock("../../../src/webgpu.ts", noAdapter);
    const { status, stdout, stderr } = await geneformer(["doctor", "--json"]);
    expect(status, stderr).toBe(0);
    const { auto, devices, missing, plans, findings } = JSON.parse(stdout) as Report;
    expect(findings).toEqual([]); // nothing was asked to be measured
    if (deviceNames.includes("webgpu")) {
      expect(stderr).toMatch(/^adapter: .*; workgroups of \d+ lanes and \d+ bytes; matrix units /m);
      expect(plans["matmul NN, m 256, n 256, k 256, batch 1"]).toMatch(/^matmul NN \(.*\)$/);
      for (const [problem, plan] of Object.entries(plans)) expect(stderr).toContain(`  ${problem}: by its sizes alone, ${plan}\n`);
    } else expect(plans).toEqual({});
    expect(devices.map(({ name }) => name)).toEqual(["cpu", "webgpu"].filter((name) => name === "cpu" || deviceNames.includes("webgpu")));
    expect(Object.keys(missing)).toEqual(deviceNames.includes("webgpu") ? [] : ["webgpu"]);
    for (const { name, description, verdicts } of devices) {
      expect(verdicts).toHaveLength(samples().length);
      expect(verdicts.filter(({ ok }) => !ok)).toEqual([]);
      expect(stderr).toContain(
        `${name}: ${description}\n  ${verdicts.length} of ${verdicts.length} kernels agree with their loops in f64\n`,
      );
    }
    expect(["cpu", "webgpu"]).toContain(auto);
    expect(stderr).toMatch(new RegExp(`^auto takes ${auto}: `, "m"));
    for (const { verdicts } of devices) {
      const loops = verdicts.flatMap((verdict) => (verdict.loops ? [verdict.kernel] : []));
      if (loops.length > 0)
        expect(stderr).toContain(`  ${loops.length} run their loops, for want of a compiled kernel: ${loops.join(", ")}\n`);
    }
    expect(devices.find(({ name }) => name === "webgpu")?.verdicts.some(({ loops }) => loops) ?? false).toBe(false); // WGSL is never loops
  });
});

test("without an adapter it says so, takes cpu, and is well", async () => {
  vi.doMock("../../../src/webgpu.ts", noAdapter);
  const { status, stdout, stderr } = await geneformer(["doctor", "--json"]);
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    auto: "cpu",
    reason: "there is no WebGPU adapter",
    missing: { webgpu: "webgpu: no adapter; install one" },
    features: [],
    limits: null,
  });
  expect(stderr).toMatch(/^webgpu: no adapter; install one$/m);
  expect(stderr).toMatch(/^auto takes cpu: there is no WebGPU adapter$/m);
});

test("a wrong kernel is named, and the command fails", async () => {
  vi.doMock("../../../src/webgpu.ts", noAdapter);
  vi.doMock("../../../src/verify.ts", () => ({
    verify: async (_: unknown, { kernel: { name }, tolerance }: ReturnType<typeof samples>[number]): Promise<Verdict> => {
      const ok = name !== "softmax";
      return { kernel: name, worst: ok ? 0 : 0.25, bound: tolerance, ok, loops: false };
    },
  }));
  const { status, stderr } = await geneformer(["doctor"]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^ {2}WRONG: softmax is off by 2\.5e-1 of its largest value; \S+ is allowed$/m);
  expect(stderr.trimEnd().split("\n").at(-1)).toMatch(/^geneformer doctor: \d+ kernels are wrong on this machine: softmax/);
});

describe("--calibrate", () => {
  const told: Finding[] = [
    { problem: "matmul NN, m 64", alternative: "64x64", verdict: "chosen", ms: 0.51234, reason: null },
    { problem: "matmul NN, m 64", alternative: "32x32", verdict: "slower", ms: 1.5, reason: null },
    { problem: "matmul NT, m 64", alternative: "64x64", verdict: "refused", ms: null, reason: "it is wrong" },
    { problem: "matmul NT, m 64", alternative: "units", verdict: "absent", ms: null, reason: "the adapter has none" },
  ];

  test("tells what was chosen, slower, refused and absent, with everything allowed, and keeps it in the file", async () => {
    const opened: unknown[] = [];
    const stored: unknown[] = [];
    vi.doMock("../../../src/device.ts", async () => {
      const real = await vi.importActual<typeof import("../../../src/device.ts")>("../../../src/device.ts");
      return {
        ...real,
        choose: (name: string, options?: OpenOptions) => {
          if (options) opened.push(options);
          return real.choose(name === "auto" ? "cpu" : "reference"); // where nothing is compiled
        },
      };
    });
    vi.doMock("../../../src/calibrate.ts", async () => ({
      ...(await vi.importActual("../../../src/calibrate.ts")),
      fileStore: (path: string) => path,
      calibrate: async (_: unknown, { store, onProgress }: { store: unknown; onProgress(done: number, total: number): void }) => {
        stored.push(store);
        onProgress(1, 2);
        return { findings: told };
      },
    }));
    vi.doMock("../../../src/webgpu.ts", noAdapter);
    try {
      for (const args of [["--calibrate", "x.json"], ["--calibrate"], []]) {
        const { status, stdout, stderr } = await geneformer(["doctor", "--json", ...args]);
        expect(status, stderr).toBe(0);
        const { findings } = JSON.parse(stdout) as Report;
        expect(findings).toEqual(args.length > 0 ? told : []);
        if (args.length > 0)
          expect(stderr).toContain(
            "matmul NN, m 64:\n  chosen   64x64, 0.512 ms\n  slower   32x32, 1.50 ms\nmatmul NT, m 64:\n  refused  64x64: it is wrong\n  absent   units: the adapter has none\n",
          );
      }
      expect(stored).toEqual(["x.json", undefined]);
      expect(opened).toEqual(new Array(2).fill({ precision: "mixed", experimental: true }));
    } finally {
      vi.doUnmock("../../../src/device.ts");
    }
  });
});

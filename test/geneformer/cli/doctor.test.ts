/** `geneformer doctor`: it finds this machine's devices healthy, says what is missing, and fails where a kernel is wrong. */

import { afterEach, describe, expect, test, vi } from "vitest";
import { samples } from "../../../kernels/samples.ts";
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
}

const noAdapter = () => ({
  findAdapter: async () => null,
  isSoftware: () => false,
  openWebGpu: () => Promise.reject(new Error("webgpu: no adapter; install one")),
});

afterEach(() => {
  vi.doUnmock("../../../src/webgpu.ts");
  vi.doUnmock("../../../src/verify.ts");
  vi.resetModules();
});

describe("the devices under test", () => {
  test("compute every kernel as its loops do", async () => {
    if (!deviceNames.includes("webgpu")) vi.doMock("../../../src/webgpu.ts", noAdapter);
    const { status, stdout, stderr } = await geneformer(["doctor", "--json"]);
    expect(status, stderr).toBe(0);
    const { auto, devices, missing } = JSON.parse(stdout) as Report;
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

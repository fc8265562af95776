/** What only a page can show: the cpu device leaves its main thread alone, threads follow isolation, and WebGPU is the page's own. */

import { expect, test } from "vitest";
import { matmul } from "../../autograd/ops.ts";
import { inference } from "../../autograd/tape.ts";
import { choose, withDevice } from "../../src/device.ts";
import { ones } from "../../src/tensor.ts";

test("threads follow cross-origin isolation", async () => {
  const isolated = (import.meta as { env?: Readonly<Record<string, string>> }).env?.ISOLATED === "yes";
  expect(globalThis.crossOriginIsolated).toBe(isolated);
  const { device } = await choose("cpu", { threads: 2 });
  expect(device.description).toBe(`WebAssembly relaxed SIMD, ${isolated ? "2 threads" : "one thread"}, in a worker`);
  device.close();
});

test("work on the cpu device does not block the page", async () => {
  const { device } = await choose("cpu", { threads: 1 });
  const n = 1024;
  const x = withDevice(device, () => ones([n, n]));
  await x.data();
  let turns = 0;
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    turns++;
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  const begun = performance.now();
  const y = withDevice(device, () =>
    inference(() => {
      let z = x;
      for (let i = 0; i < 20; i++) z = matmul(z, x);
      return z;
    }),
  );
  await y.data();
  const took = performance.now() - begun;
  clearInterval(timer);
  device.close();
  // 20 products of 2 n^3 = 2 GFLOP take half a second at the least; meanwhile the page's timers fire all along
  expect(took).toBeGreaterThan(200);
  expect(turns).toBeGreaterThan(took / 50);
  expect(longest).toBeLessThan(took / 2);
});

test("auto finds the page's adapter, and takes no software one", async () => {
  const { device, reason } = await choose("auto");
  expect([device.name, reason]).toEqual(["cpu", "the WebGPU adapter is software, slower than the compiled kernels of cpu"]);
  device.close();
});

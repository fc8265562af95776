/** 10,000 training steps leave nothing behind: neither on the device nor in JavaScript's heap. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { onDevices } from "./devices.ts";
import { held } from "./steps.ts";

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");
const heap = () => {
  collect();
  return process.memoryUsage().heapUsed;
};

const STEPS = 10_000;

onDevices(
  (device) => {
    test(`${STEPS} steps`, { timeout: 600_000 }, async () => {
      const { looks, losses } = await held(device(), STEPS, heap);
      const [first, last] = [looks[1], looks[looks.length - 1]]; // by the first look not all code has run
      console.log(
        `${device().name}: ${last.live} bytes live; heap ${(first.heap / 2 ** 20).toFixed(2)} MiB at step ${first.step}, ${(last.heap / 2 ** 20).toFixed(2)} at ${last.step}`,
      );
      for (const { live, reserved } of looks) expect([live, reserved]).toEqual([first.live, first.reserved]);
      // compiled code comes and goes; a tensor or a closure left at every step would be hundreds of bytes each
      const least = (from: number, to: number) => Math.min(...looks.slice(from, to).map((look) => look.heap));
      expect(least(5, 10) - least(1, 5)).toBeLessThan(STEPS * 30);
      expect(losses[losses.length - 1]).toBeLessThan(losses[0]);
      expect(device().memory.live).toBe(0);
    });
  },
  (["cpu", "webgpu"] as const).filter((name) => (process.env.TEST_DEVICES ?? name).includes(name)),
);

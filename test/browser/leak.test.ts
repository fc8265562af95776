/** 1,000 training steps in a page leave nothing behind. */

import { expect, test } from "vitest";
import { onDevices } from "../devices.ts";
import { held } from "../steps.ts";

const STEPS = 1000;

/** Chromium's own, with --expose-gc and --enable-precise-memory-info. */
const { gc } = globalThis as unknown as { gc(): void };
const heap = () => {
  gc();
  return (performance as unknown as { readonly memory: { readonly usedJSHeapSize: number } }).memory.usedJSHeapSize;
};

onDevices((device) => {
  test(`${STEPS} steps`, async () => {
    const { looks, losses } = await held(device(), STEPS, heap);
    const [first, last] = [looks[1], looks[looks.length - 1]];
    console.log(
      `${device().name}: ${last.live} bytes live; heap ${(first.heap / 2 ** 20).toFixed(2)} MiB at step ${first.step}, ${(last.heap / 2 ** 20).toFixed(2)} at ${last.step}`,
    );
    for (const { live, reserved } of looks) expect([live, reserved]).toEqual([first.live, first.reserved]);
    const least = (from: number, to: number) => Math.min(...looks.slice(from, to).map((look) => look.heap));
    expect(least(5, 10) - least(1, 5)).toBeLessThan(STEPS * 200); // a tensor or a closure left at every step would be hundreds of bytes each
    expect(losses[losses.length - 1]).toBeLessThan(losses[0]);
    expect(device().memory.live).toBe(0);
  });
});

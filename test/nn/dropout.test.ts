/** Dropout as a layer: with a key it drops its share, without one it is nothing. */

import { expect, test } from "vitest";
import { sum } from "../../autograd/ops.ts";
import { StepKey } from "../../autograd/stepkey.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { Dropout } from "../../nn/dropout.ts";
import { Key } from "../../src/key.ts";
import { ones } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices((device) => {
  test("drops its share and scales the rest, on the way back too", async () => {
    const layer = new Dropout(0.25);
    const key = StepKey.from(Key.from(3));
    const x = ones([4000]);
    const y = layer.forward(x, key);
    const { value, grads } = valueAndGrad(() => sum(layer.forward(x, key)), [x]);
    const values = [...(await y.data())];
    const dropped = values.filter((value) => value === 0).length;
    expect(Math.abs(dropped - 1000)).toBeLessThan(4 * Math.sqrt(4000 * 0.25 * 0.75));
    for (const value of values) if (value !== 0) expect(value).toBeCloseTo(4 / 3, 6);
    expect([...(await grads[0].data())]).toEqual(values);
    for (const t of [x, y, value, ...grads, key.words]) t.free();
    expect(device().memory.live).toBe(0);
  });

  test("without a key, or with nothing to drop, gives x itself", () => {
    const key = StepKey.from(Key.from(3));
    const x = ones([4]);
    expect(new Dropout(0.5).forward(x, null)).toBe(x);
    expect(new Dropout(0).forward(x, key)).toBe(x);
    for (const t of [x, key.words]) t.free();
  });
});

test.each([-0.1, 1, Number.NaN])("a p of %f is refused", (p) => {
  expect(() => new Dropout(p)).toThrow(new RangeError(`Dropout(p): p must lie in [0, 1); got ${p}`));
});

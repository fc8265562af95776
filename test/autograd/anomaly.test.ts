/** detectAnomaly names the op that made the first NaN, going forward or back, and is silent otherwise. */

import { expect, test } from "vitest";
import { detectAnomaly } from "../../autograd/anomaly.ts";
import { add, div, log, mul, sqrt, sub, sum } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { ones, tensor, zeros } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices((device) => {
  const during = async (f: () => unknown): Promise<string> =>
    detectAnomaly(f).then(
      () => "nothing",
      (error: Error) => error.message,
    );

  test("going forward", async () => {
    const x = tensor([1, -1]);
    expect(await during(() => inference(() => add(log(add(x, ones([2]))), log(x))))).toBe(
      "detectAnomaly(f): log made the first NaN, in its value [2]",
    );
    expect(await during(() => inference(() => sub(div(ones([2]), zeros([2])), div(ones([2]), zeros([2])))))).toBe(
      "detectAnomaly(f): sub made the first NaN, in its value [2]", // of two infinities, which are no anomaly
    );
    x.free();
    expect(device().memory.live).toBe(0);
  });

  test("going back", async () => {
    const x = zeros([3]);
    // the slope of a root is infinite at 0, and 0 times that is NaN
    const message = await during(() => valueAndGrad(() => sum(sqrt(mul(x, x))), [x]));
    expect(message).toBe("detectAnomaly(f): mul made the first NaN, in the gradient of its argument 1, [3]");
    x.free();
    expect(device().memory.live).toBe(0);
  });

  test("an argument that is NaN already", async () => {
    const x = tensor([1, Number.NaN]);
    expect(await during(() => inference(() => mul(ones([2]), x)))).toBe("detectAnomaly(f): argument 2 of mul, [2], is NaN already");
    x.free();
  });

  test("is silent and gives what f returned, after thousands of ops", async () => {
    const x = ones([4]);
    const { value, grads } = await detectAnomaly(() =>
      valueAndGrad(() => {
        let y = x;
        for (let i = 0; i < 600; i++) y = mul(y, x);
        return sum(y);
      }, [x]),
    );
    expect(await value.item()).toBe(4);
    expect([...(await grads[0].data())]).toEqual([601, 601, 601, 601]);
    for (const t of [x, value, ...grads]) t.free();
    expect(device().memory.live).toBe(0);
  });
});

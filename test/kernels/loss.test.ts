/** Labels that name no column: no harm to the rows beside them. */

import { expect, test } from "vitest";
import { crossEntropy } from "../../autograd/ops.ts";
import { valueAndGrad } from "../../autograd/tape.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { integers, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

onDevices(() => {
  test("a label beyond the columns shows in the loss and touches no other row's gradient", async () => {
    const x = tensor([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 3]);
    const gradientOf = async (labels: number[]) => {
      const { value, grads } = valueAndGrad(() => crossEntropy(x, integers(labels), { count: tensor([1], [1]) }), [x]);
      const [loss, gradient] = [await value.item(), Array.from(await grads[0].data())];
      for (const t of [value, ...grads]) t.free();
      return { loss, gradient };
    };
    const good = await gradientOf([0, IGNORED, 2]);
    for (const label of [3, 4, 1_000_000]) {
      const bad = await gradientOf([0, label, 2]);
      expect(bad.loss).toBeGreaterThan(1e38);
      expect(bad.gradient.slice(0, 3)).toEqual(good.gradient.slice(0, 3));
      expect(bad.gradient.slice(6)).toEqual(good.gradient.slice(6));
    }
  });
});

/** Where does the first NaN come from? Every value and gradient is looked at as it is made, on the device. */

import { nans } from "../kernels/nans.ts";
import { eagerly } from "../src/capture.ts";
import { show } from "../src/shape.ts";
import { full, keep, refuseRecorded, runStored, type Tensor, tensorsIn } from "../src/tensor.ts";
import { type Watch, watching } from "./tape.ts";

/** Looks a buffer has room for. */
const SLOTS = 1024;

/**
 * Run f, and see that none of its ops made a NaN, going forward or back. For looking for a fault: each op costs a kernel more, and the end a read.
 *
 *   const { value, grads } = await detectAnomaly(() => valueAndGrad(() => model.loss(batch), weights));
 *
 * @returns what f returned.
 * @throws Error naming the op that made the first NaN, in its value or in a gradient, or the argument that was one already. What f returned is freed.
 * @throws Error inside a captured function, and when f runs a captured step.
 */
export function detectAnomaly<T>(f: () => T): Promise<T> {
  refuseRecorded("detectAnomaly(f)", "reads numbers", "give it the function that is captured");
  return looked(f);
}

async function looked<T>(f: () => T): Promise<T> {
  const said: string[] = [];
  const counts: Tensor[] = [];
  const seen = new WeakSet<Tensor>();
  const look = (x: Tensor, what: string) => {
    if (x.dtype !== "f32" && x.dtype !== "f16") return;
    const slot = said.length % SLOTS;
    if (slot === 0) counts.push(keep(full([SLOTS], 0, "u32", x.device))); // outlives the scopes of f
    runStored(nans, { x }, { counts: counts[counts.length - 1] }, { n: x.size, slot });
    said.push(what);
  };
  const watch: Watch = {
    made(op, inputs, y) {
      inputs.forEach((x, i) => {
        if (!seen.has(x)) look(x, `argument ${i + 1} of ${op}, ${show(x.shape)}, is NaN already`);
        seen.add(x);
      });
      look(y, `${op} made the first NaN, in its value ${show(y.shape)}`);
      seen.add(y);
    },
    back(op, gradients) {
      gradients.forEach((dx, i) => {
        if (dx) look(dx, `${op} made the first NaN, in the gradient of its argument ${i + 1}, ${show(dx.shape)}`);
      });
    },
  };
  try {
    const result = watching(watch, () => eagerly("detectAnomaly(f)", f));
    const read = await Promise.all(counts.map((count) => count.data()));
    const first = said.findIndex((_, i) => read[Math.floor(i / SLOTS)][i % SLOTS] > 0);
    if (first < 0) return result;
    for (const t of tensorsIn(result)) t.free();
    throw new Error(`detectAnomaly(f): ${said[first]}`);
  } finally {
    for (const count of counts) count.free();
  }
}

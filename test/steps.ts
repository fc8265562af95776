/** Many training steps of a tiny model, watched for what stays behind. */

import { add, crossEntropy, dropout, gather, layerNorm, linear, tanh } from "../autograd/ops.ts";
import { StepKey } from "../autograd/stepkey.ts";
import { valueAndGrad } from "../autograd/tape.ts";
import { AdamW } from "../nn/optimizer.ts";
import type { Device } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { index } from "../src/stream.ts";
import { integers, keep, normal, ones, scoped, zeros } from "../src/tensor.ts";

/** What was held at one time: bytes of tensors, bytes that the device has made or reached, and of JavaScript's heap once it is swept. */
export interface Held {
  readonly step: number;
  readonly live: number;
  readonly reserved: number;
  readonly heap: number;
}

/**
 * Train for so many steps on random tokens, lengths differing from step to step, and look ten times at what is held.
 * @param heap bytes of JavaScript's heap, garbage collected.
 */
export async function held(
  device: Device,
  steps: number,
  heap: () => number,
): Promise<{ readonly looks: Held[]; readonly losses: number[] }> {
  const [words, width] = [12, 8];
  const key = Key.from(1);
  const model = keep(
    scoped(() => ({
      table: normal(key.fold(0), 0.5, [words, width]),
      weight: normal(key.fold(1), 0.5, [words, width]),
      bias: zeros([words]),
      scale: ones([width]),
      offset: zeros([width]),
    })),
  );
  const named = Object.entries(model);
  const optimizer = new AdamW(named, { clip: 1 });
  const looks: Held[] = [];
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const tokens = Uint32Array.from(
      key
        .fold(2)
        .fold(step)
        .uniforms(5 + (step % 7)),
      (u) => Math.floor(u * words),
    );
    const loss = scoped(() => {
      const places = index(tokens, words);
      const labels = integers(tokens);
      const drop = { p: 0.1, key: StepKey.from(key.fold(3).fold(step)) };
      const { value, grads } = valueAndGrad(
        () => {
          const x = gather(model.table, places);
          const y = layerNorm(add(x, dropout(tanh(x), drop)), model.scale, model.offset, 1e-5);
          return crossEntropy(linear(y, model.weight, model.bias), labels);
        },
        named.map(([, t]) => t),
      );
      optimizer.step(grads, 1e-3);
      return value;
    });
    if (step % (steps / 10) === 0) {
      losses.push(await loss.item());
      loss.free();
      looks.push({ step, live: device.memory.live, reserved: device.memory.reserved, heap: heap() });
    } else loss.free();
    if (step % 50 === 0) await device.read(model.bias.memory); // a queue has an end
  }
  optimizer.free();
  for (const [, t] of named) t.free();
  return { looks, losses };
}

/** Parameters side by side: steps are those of parameters apart, in few kernels, and whoever knows a parameter goes on knowing it. */

import { describe, expect, test } from "vitest";
import { mul, sum } from "../../autograd/ops.ts";
import { inference } from "../../autograd/tape.ts";
import { loadsOf, padded } from "../../kernels/collect.ts";
import { arenasOf } from "../../nn/arena.ts";
import { LossScale } from "../../nn/lossscale.ts";
import { AdamW, type AdamWOptions, SGD } from "../../nn/optimizer.ts";
import { capture } from "../../src/capture.ts";
import { current, type Device, use } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { type Shape, sizeOf } from "../../src/shape.ts";
import { scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { deviceNames, onDevice, watched } from "../devices.ts";

/** More than one kernel gathers; one of a single number, one empty, one of several loads, one that fills its room. */
const SHAPES: readonly Shape[] = [[3, 5], [1], [0, 4], [70, 64], [64], [9001], [2, 2, 2], [130]];

const noise = (seed: number, shape: Shape) => tensor(Key.from(seed).normals(sizeOf(shape)), shape);
const make = (): [string, Tensor][] => SHAPES.map((shape, i) => [`${i % 2 ? "bias" : "weight"}${i}`, noise(i, shape)]);
const gradients = (step: number) => SHAPES.map((shape, i) => noise(100 * step + i, shape));
const read = (tensors: Iterable<Tensor>) => Promise.all([...tensors].map((t) => t.data()));

/** The device as it is, and the same without parts, where parameters stay apart; both say what they ran. */
function bothWays(device: Device) {
  const apart = watched(device);
  const together = watched(device);
  return { apart, together: Object.assign(together, { part: device.part?.bind(device) }) };
}

/** What comes of an async function while a device is the current one. */
async function on<T>(device: Device, f: () => Promise<T>): Promise<T> {
  const before = current();
  use(device);
  try {
    return await f();
  } finally {
    use(before);
  }
}

/** Weights, state and norms after three steps on a device. */
const stepped = (device: Device, options: AdamWOptions) =>
  on(device, async () => {
    const named = make();
    const optimizer = new AdamW(named, options);
    const clips: number[] = [];
    for (const [i, rate] of [0.1, 0.05, 0.2].entries()) {
      const clip = scoped(() => optimizer.step(gradients(i + 1), rate));
      clips.push(...(await clip.data()));
    }
    const weights = await read(named.map(([, w]) => w));
    const state = await read([...optimizer.state()].map(([, t]) => t));
    optimizer.free();
    return { weights, state, clips };
  });

describe.runIf(deviceNames.includes("webgpu"))("where kernels are dear", () => {
  onDevice("webgpu", (device) => {
    const close = (a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]) =>
      a.forEach((values, i) => {
        for (let j = 0; j < values.length; j++)
          expect(Math.abs(values[j] - b[i][j])).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(b[i][j])));
      });

    test("steps have the bits of parameters apart, in a handful of kernels", async () => {
      const { apart, together } = bothWays(device());
      const options = { decay: 0.1, groups: [{ match: "weight*", rate: 0.5, beta1: 0.8 }] };
      const [a, b] = [await stepped(together, options), await stepped(apart, options)];
      expect(a.weights).toEqual(b.weights);
      expect(a.state).toEqual(b.state);
      expect(apart.ran.filter((name) => name === "adamw")).toHaveLength(3 * SHAPES.length);
      const steps = together.ran.filter((name) => !/^(fill|paste)/.test(name));
      expect(steps.slice(-5)).toEqual(["collect", "collect", "sumRows", "clipScale", "adamwTogether"]);
      expect(steps).toHaveLength(3 * 5);
    });

    test("norms and clipping are theirs", async () => {
      const { apart, together } = bothWays(device());
      const [a, b] = [await stepped(together, { clip: 0.5 }), await stepped(apart, { clip: 0.5 })];
      close([a.clips], [b.clips]);
      close(a.weights, b.weights);
      expect(a.clips[1]).toBeLessThan(0.1);
    });

    test("a step that overflows changes nothing, and the factor falls", async () => {
      const named = make();
      const scale = new LossScale({ initial: 4 });
      const optimizer = new AdamW(named, { scale });
      const before = await read(named.map(([, w]) => w));
      const grads = gradients(1);
      grads[7].write(new Float32Array(130).fill(3e38));
      scoped(() => optimizer.step(grads, 0.1));
      expect(await read(named.map(([, w]) => w))).toEqual(before);
      expect(await scale.state.data()).toEqual(Float32Array.of(2, 0));
    });

    test("a captured function that knew the parameters before sees every step", async () => {
      const named = make();
      const [, w] = named[3];
      const f = capture(() => inference(() => sum(mul(w, w))));
      const squares = async () => Array.from(await w.data()).reduce((sum, x) => sum + x * x, 0);
      const check = async () => expect((await f().item()) / (await squares())).toBeCloseTo(1, 4);
      await check();
      const optimizer = new AdamW(named);
      const before = await squares();
      scoped(() => optimizer.step(gradients(1), 0.1));
      expect(await squares()).not.toBeCloseTo(before, 1);
      await check();
      f.free();
    });

    test("of two optimisers of the same parameters both step them", async () => {
      const outcome = (device: Device) =>
        on(device, async () => {
          const named = make();
          const [first, second, third] = [new AdamW(named), new AdamW(named, { decay: 0.3 }), new SGD(named, { momentum: 0.9 })];
          for (const [i, each] of [first, second, third, first].entries()) scoped(() => each.step(gradients(i), 0.1));
          return read(named.map(([, w]) => w));
        });
      const { apart, together } = bothWays(device());
      expect(await outcome(together)).toEqual(await outcome(apart));
    });

    test("tensors that share a buffer are stepped as they would be apart", async () => {
      const outcome = (device: Device) =>
        on(device, async () => {
          const w = noise(1, [8]);
          const optimizer = new AdamW([["a", w], ["b", w.withShape([2, 4])]]); // biome-ignore format: a list
          scoped(() => optimizer.step([noise(2, [8]), noise(3, [2, 4])], 0.1));
          return w.data();
        });
      const { apart, together } = bothWays(device());
      expect(await outcome(together)).toEqual(await outcome(apart));
    });

    test("buffers come back: those that parameters left, and with the optimiser all but theirs", async () => {
      const live = () => device().memory.live;
      const start = live();
      const named = make();
      const optimizer = new AdamW(named);
      const numbers = SHAPES.reduce((n, shape) => n + Math.max(64, padded(sizeOf(shape))), 0);
      expect(live() - start).toBeGreaterThanOrEqual(3 * 4 * numbers);
      expect(live() - start).toBeLessThan(1.3 * 3 * 4 * numbers);
      optimizer.free();
      expect(live() - start).toBeGreaterThanOrEqual(4 * numbers);
      expect(live() - start).toBeLessThan(1.3 * 4 * numbers);
      for (const [, w] of named) w.free();
      expect(live()).toBe(start);
    });

    test("arenas have a largest size, and one parameter may have more", async () => {
      const named = make();
      const before = await read(named.map(([, w]) => w));
      const arenas = arenasOf(named.map(([, w]) => w), 2, 4600); // biome-ignore format: one line
      expect(arenas.map(({ whole }) => whole.size)).toEqual([3 * 64, 70 * 64 + 64, padded(9001), 64 + 192]);
      expect(arenas.reduce((n, { loads }) => n + loads, 0)).toBe(SHAPES.reduce((n, shape) => n + loadsOf(sizeOf(shape)), 0));
      expect(await read(named.map(([, w]) => w))).toEqual(before);
      for (const arena of arenas) arena.free();
    });
  });
});

describe.runIf(deviceNames.includes("cpu"))("where they are not", () => {
  onDevice("cpu", (device) => {
    test("parameters stay apart", () => {
      const named = make();
      const places = named.map(([, w]) => w.memory);
      const optimizer = new AdamW(named);
      expect(named.map(([, w]) => w.memory)).toEqual(places);
      expect(device().part).toBeUndefined();
      optimizer.free();
    });
  });
});

/** The life of a device: memory that runs out, a device that is lost and opened again, two at once, and a program that is prepared. */

import { describe, expect, test } from "vitest";
import { add, matmul, mul, softmax, sum } from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { each, kernel, lanes } from "../../kernels/kernel.ts";
import { segmentMean } from "../../kernels/segment.ts";
import { choose, type Device, device, open, reopen, use, withDevice } from "../../src/device.ts";
import { DeviceLost, OutOfMemory } from "../../src/errors.ts";
import { needs, prepare } from "../../src/shapes.ts";
import { empty, ones, run, scoped, tensor } from "../../src/tensor.ts";
import { allDeviceNames, deviceNames, onDevices, watched } from "../devices.ts";
import { withWorkers } from "../workers.ts";

const MIB = 2 ** 20;

describe("out of memory", () => {
  test.each(deviceNames)("%s: an exception says what was asked and what is free, and the device works on", async (name) => {
    const { device: on } = await choose(name as "cpu", { limit: 64 * MIB });
    const word = name === "reference" ? 8 : 4; // bytes a float takes there
    await withDevice(on, async () => {
      const held = empty([(24 * MIB) / word]);
      let error: unknown;
      try {
        empty([(48 * MIB) / word]);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(OutOfMemory);
      expect(error).toBeInstanceOf(RangeError);
      expect((error as Error).message).toMatch(
        new RegExp(`^${name}: out of memory; asked for 48 MiB with 24 MiB held and 40 MiB free of 64 MiB; `),
      );
      expect(error).toMatchObject({ asked: 48 * MIB, live: 24 * MIB, limit: 64 * MIB });
      const live = on.memory.live;
      // in the middle of an op too, whose arguments stay as they were
      const x = withDevice(on, () => ones([1000]));
      expect(() => withDevice(on, () => inference(() => add(empty([(20 * MIB) / word]), empty([(20 * MIB) / word]))))).toThrow(OutOfMemory);
      held.free();
      const large = withDevice(on, () => empty([(36 * MIB) / word]));
      const y = withDevice(on, () => add(x, x));
      expect([...(await y.data())].every((value) => value === 2)).toBe(true);
      for (const t of [x, y, large]) t.free();
      expect(live).toBeGreaterThan(0);
      expect(on.memory.live).toBe(0);
    });
    on.close();
  });

  test.runIf(deviceNames.includes("webgpu"))("webgpu: memory that nobody holds makes room, and enqueued work still has it", async () => {
    const { device: on } = await choose("webgpu", { limit: 10 * MIB });
    const n = MIB; // 4 MiB
    const x = withDevice(on, () => ones([n]));
    const y = withDevice(on, () => add(x, x));
    x.free(); // but the sum is not computed yet
    const large = withDevice(on, () => empty([1.5 * MIB])); // 6 MiB, in the place of x
    expect(on.memory.reserved).toBe(10 * MIB);
    expect((await y.data())[n - 1]).toBe(2);
    for (const t of [y, large]) t.free();
    on.close();
  });

  test.runIf(deviceNames.includes("webgpu"))("webgpu: what the driver refuses later reaches the next who reads, once", async () => {
    const { device: on } = await choose("webgpu");
    const x = withDevice(on, () => ones([1000]));
    await x.data();
    const pop = GPUDevice.prototype.popErrorScope;
    GPUDevice.prototype.popErrorScope = async function () {
      await pop.call(this);
      return { message: "no memory" } as GPUError;
    };
    const lost = withDevice(on, () => empty([3 * MIB])); // 12 MiB
    GPUDevice.prototype.popErrorScope = pop;
    const reserved = on.memory.reserved;
    await expect(x.data()).rejects.toThrow(/^webgpu: out of memory; asked for 12 MiB with 13 MiB held/);
    expect(on.memory.reserved).toBe(reserved - 12 * MIB); // nobody takes that buffer again
    lost.free();
    const y = withDevice(on, () => add(x, x));
    expect((await y.data())[999]).toBe(2);
    for (const t of [x, y]) t.free();
    expect(on.memory.live).toBe(0);
    on.close();
  });

  test("cpu: more than there can be is refused with the figures", async () => {
    const { device: on } = await choose("cpu", { threads: 1 });
    expect(() => withDevice(on, () => empty([2 ** 31]))).toThrow(
      /^cpu: out of memory; asked for 8,192 MiB with 0 MiB held and 4,096 MiB free of 4,096 MiB; use smaller batches/,
    );
    expect(on.memory.live).toBe(0);
    on.close();
  });
});

/** Loops that no worker has heard of. */
const cubed = kernel({
  name: "cubed",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { n: "u32" },
  passes: [{ groups: ({ n }) => lanes(n), wgsl: each("y[i] = x[i] * x[i] * x[i];") }],
  loops({ x, y }, { n }) {
    if (n === 13) throw new Error("cubed: thirteen");
    for (let i = 0; i < n; i++) y[i] = x[i] ** 3;
  },
});

onDevices((on) => {
  test("a kernel of one's own runs in order with others", async () => {
    const y = inference(() => {
      const x = tensor(Float32Array.from({ length: 1000 }, (_, i) => i % 7));
      const one = add(x, x); // compiled or WGSL
      const two = run(cubed, { x: one }, { y: one.shape }, { n: 1000 }).y;
      return softmax(mul(two, tensor([0])));
    });
    const values = await y.data();
    for (const value of values) expect(value).toBeCloseTo(1e-3, 6);
    const x = tensor([1, 2, 3]);
    const z = run(cubed, { x }, { y: [3] }, { n: 3 }).y;
    x.write([0, 0, 0]); // what was enqueued reads the former values
    expect([...(await z.data())]).toEqual([1, 8, 27]);
    for (const t of [x, y, z]) t.free();
    expect(on().memory.live).toBe(0);
  });
}, allDeviceNames);

describe.runIf(allDeviceNames.includes("worker"))("the cpu device in a worker", () => {
  test.each([1, 2])("with %i threads computes as in place, bit for bit", async (threads) => {
    const values = Float32Array.from({ length: 300 * 70 }, (_, i) => Math.sin(i));
    const compute = async (on: Device) => {
      const made = withDevice(on, () => inference(() => softmax(matmul(tensor(values, [300, 70]), tensor(values, [70, 300])))));
      const read = await made.data();
      on.close();
      return read;
    };
    const { device: remote } = await choose("cpu", { worker: true, threads, least: 0 });
    expect(remote.description).toMatch(/in a worker$/);
    const { device: local } = await choose("cpu", { threads: 1 });
    expect(await compute(remote)).toEqual(await compute(local));
  });

  test("an error in loops reaches the next who reads, once", async () => {
    const { device: on } = await choose("cpu", { worker: true, threads: 1 });
    const x = withDevice(on, () => ones([13]));
    const { y } = run(cubed, { x }, { y: [13] }, { n: 13 });
    await expect(y.data()).rejects.toThrow("cubed: thirteen");
    expect([...(await x.data())].every((value) => value === 1)).toBe(true);
    on.close();
  });

  test("a thread that dies is a lost device; opened again it works", async () => {
    const on = await open("cpu", { worker: true, threads: 1 });
    const x = ones([4]);
    const dead = x.data();
    on.close(); // what a crash does, from outside
    await expect(dead).rejects.toThrow(DeviceLost);
    const again = await reopen(on);
    expect(device()).toBe(again);
    expect(again.description).toMatch(/in a worker$/);
    const y = ones([4]);
    expect([...(await y.data())]).toEqual([1, 1, 1, 1]);
    again.close();
    use(null);
  });
});

describe.runIf(allDeviceNames.includes("threads"))("the cpu device on threads", () => {
  test("a helper that dies is a lost device rather than a wait for ever; opened again it works", async () => {
    try {
      await withWorkers(async (started) => {
        const on = await open("cpu", { threads: 2, least: 0 });
        const x = ones([1000]);
        expect((await add(x, x).data())[999]).toBe(2);
        await started[0].terminate();
        await new Promise((later) => setTimeout(later, 50));
        expect(() => add(x, x)).toThrow(DeviceLost);
        await expect(x.data()).rejects.toThrow(DeviceLost);
        const again = await reopen(on);
        const y = ones([1000]);
        expect((await add(y, y).data())[999]).toBe(2);
        again.close();
      });
    } finally {
      use(null);
    }
  });

  test("kernels that fail together say so once, and the next works", async () => {
    const { device: on } = await choose("cpu", { threads: 2, least: 0 });
    await withDevice(on, async () => {
      const x = ones([64, 32]);
      const beyond = { rows: 64, cols: 32 };
      const spans = tensor([0, 2 ** 31 - 1, 0, 2 ** 31 - 1, 0, 2 ** 31 - 1, 0, 2 ** 31 - 1], [4, 2], "u32");
      expect(() => run(segmentMean, { x, spans }, { y: [4, 32] }, { ...beyond, rows: 4 })).toThrow(/^cpu: segmentMean: /);
      expect((await add(x, x).data())[2047]).toBe(2);
    });
    on.close();
  });
});

describe.runIf(deviceNames.includes("webgpu"))("a lost webgpu device", () => {
  test("is an exception everywhere, and reopen() gives another that works", async () => {
    const gpus: GPUDevice[] = [];
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      const made = await request.apply(this, args);
      gpus.push(made);
      return made;
    };
    try {
      const on = await open("webgpu");
      const x = ones([4]);
      expect((await x.data())[0]).toBe(1);
      gpus[0].destroy(); // as a driver that resets
      await gpus[0].lost;
      await Promise.resolve();
      const gone = /^webgpu: the device was lost: .*; its tensors are gone: await reopen\(\) and load them again$/;
      await expect(x.data()).rejects.toThrow(gone);
      expect(() => x.write([1, 2, 3, 4])).toThrow(gone);
      expect(() => ones([1])).toThrow(gone);
      expect(() => add(x, x)).toThrow(DeviceLost);
      x.free(); // harmless

      const again = await reopen();
      expect(again).not.toBe(on);
      const y = ones([4]);
      expect([...(await y.data())]).toEqual([1, 1, 1, 1]);
      expect(() => add(x, y)).toThrow(/used after it was freed/);
      again.close();
    } finally {
      GPUAdapter.prototype.requestDevice = request;
      use(null);
    }
  });

  test("one that was given cannot be opened again by us", async () => {
    const gpu = { limits: {}, addEventListener() {}, lost: new Promise(() => {}) } as unknown as GPUDevice;
    const { device: on } = await choose("webgpu", { gpu });
    await expect(reopen(on)).rejects.toThrow("reopen(device): it ran on a GPUDevice that was given");
  });
});

onDevices((on) => {
  test("what is read is what it was when the reading was asked for", async () => {
    await new Promise((later) => setTimeout(later, 150)); // the cpu device gives the event loop a turn now and then
    const x = tensor([1, 2, 3]);
    const first = x.data();
    x.write([4, 5, 6]);
    const second = x.data();
    x.free();
    const other = tensor([7, 8, 9]);
    expect([...(await first)]).toEqual([1, 2, 3]);
    expect([...(await second)]).toEqual([4, 5, 6]);
    other.free();
    expect(on().memory.live).toBe(0);
  });

  test("an op that fails for want of memory in the midst leaves nothing taken", async () => {
    const name = on().name as "cpu";
    const { device: small } = await choose(name, { limit: name === "cpu" ? 2_400_000 : 35_000, threads: 2, least: 0 });
    const size = name === "cpu" ? 256 : 50;
    const x = withDevice(small, () => ones([size, size]));
    const before = small.memory.live;
    for (let i = 0; i < 3; i++) {
      try {
        matmul(x, x).free();
      } catch (error) {
        expect(error).toBeInstanceOf(OutOfMemory);
      }
      expect(small.memory.live).toBe(before);
    }
    x.free();
    small.close();
  });
}, allDeviceNames);

describe("two devices", () => {
  test("live at once, and mixing them is an error that names both", async () => {
    const [first, second] = [(await choose("cpu", { threads: 1 })).device, (await choose("reference")).device];
    const a = withDevice(first, () => ones([3]));
    const b = withDevice(second, () => ones([3]));
    expect(() => add(a, b)).toThrow(
      `add: b is on reference (the kernels' loops in f64) but another tensor is on cpu (${first.description}); bring them to one device`,
    );
    for (const t of [a, b]) t.free();
    first.close();
    second.close();
  });
});

describe("prepare", () => {
  const shapeOf = { x: [200, 64], w: [64, 128] };
  const step = () => {
    const [x, w] = [empty(shapeOf.x), empty(shapeOf.w)];
    return valueAndGrad(() => sum(softmax(matmul(x, w))), [w]);
  };

  test("finds the bytes that the program then takes, and its kernels", async () => {
    const { device: on } = await choose("cpu", { threads: 1 });
    const seen = watched(on);
    const { bytes, kernels } = needs(step);
    withDevice(seen, () => scoped(() => void step()));
    expect(kernels.map(({ name }) => name).sort()).toEqual([...new Set(seen.ran)].sort());
    // the heap of cpu has no classes of size, which waste up to a quarter; compiled kernels have scratch of their own
    expect(bytes).toBeGreaterThan(200 * 128 * 4 * 2);
    expect(Math.abs(bytes - on.memory.peak)).toBeLessThan(0.3 * on.memory.peak + 1.5 * MIB);
    expect(on.memory.live).toBe(0);
    on.close();
  });

  test("refuses with a figure what will not fit, before anything is made", async () => {
    const { device: on } = await choose("cpu", { threads: 1, limit: 10 * MIB });
    const large = () => void softmax(empty([1000, 4000]));
    await expect(prepare(large, on)).rejects.toThrow(
      /^cpu: prepare: out of memory; asked for 3[12] MiB with 0 MiB held and 10 MiB free of 10 MiB; use smaller batches/,
    );
    expect(on.memory.peak).toBe(0);
    on.close();
  });

  test.runIf(deviceNames.includes("webgpu"))("compiles all pipelines ahead", async () => {
    const { device: on } = await choose("webgpu");
    const sync = GPUDevice.prototype.createComputePipeline;
    let compiled = 0;
    GPUDevice.prototype.createComputePipeline = function (...args) {
      compiled++;
      return sync.apply(this, args);
    };
    try {
      const { kernels } = await prepare(step, on);
      expect(kernels.length).toBeGreaterThan(4);
      withDevice(on, () => scoped(() => void step()));
      const one = withDevice(on, () => ones([1]));
      expect([...(await one.data())]).toEqual([1]); // all of it ran
      expect(compiled).toBe(0);
    } finally {
      GPUDevice.prototype.createComputePipeline = sync;
      on.close();
    }
  });

  test("uses what lies on a device already, and writes to none of it", async () => {
    const { device: on } = await choose("cpu", { threads: 1 });
    const w = withDevice(on, () => ones([8]));
    await prepare(() => {
      w.write(new Float32Array(8));
      return add(w, ones([8]));
    }, on);
    expect([...(await w.data())]).toEqual(new Array(8).fill(1));
    w.free();
    on.close();
  });

  test("nothing can be read there", async () => {
    let made: Promise<unknown> = Promise.resolve();
    needs(() => {
      made = ones([2]).data();
    });
    await expect(made).rejects.toThrow("shapes: nothing was computed");
  });
});

/** Devices: one interface, the choice among them, and errors that reach whoever reads. */

import { afterEach, describe, expect, test } from "vitest";
import { add, square } from "../../autograd/ops.ts";
import { each, kernel, lanes } from "../../kernels/kernel.ts";
import { choose, type Device, type DeviceName, device, open, use, withDevice } from "../../src/device.ts";
import { empty, integers, ones, run, tensor, zeros } from "../../src/tensor.ts";
import { deviceNames, onDevices } from "../devices.ts";

onDevices((on, name) => {
  test("says what it is", () => {
    expect(on().name).toBe(name);
    expect(on().description.length).toBeGreaterThan(3);
  });

  test("gives back what was uploaded, and copies", async () => {
    const [x, n, none] = [tensor([1.5, -2, 3]), integers([0, 7, 0xffffffff]), zeros([0, 4])];
    const first = await x.data();
    expect([...first]).toEqual([1.5, -2, 3]);
    expect([...(await n.data())]).toEqual([0, 7, 0xffffffff]);
    expect([...(await none.data())]).toEqual([]);
    x.write([4, 5, 6]);
    expect([...first]).toEqual([1.5, -2, 3]);
    expect([...(await x.data())]).toEqual([4, 5, 6]);
    for (const t of [x, n, none]) t.free();
    expect(on().memory.live).toBe(0);
  });

  test("works in the order of the calls: a write waits for what was enqueued before it", async () => {
    const x = tensor([1, 2]);
    const before = square(x);
    x.write([10, 20]);
    const after = square(x);
    expect([...(await before.data())]).toEqual([1, 4]);
    expect([...(await after.data())]).toEqual([100, 400]);
    for (const t of [x, before, after]) t.free();
  });

  test("buffers come from the pool, whatever they held", async () => {
    const reserved = () => on().memory.reserved;
    const first = ones([1000]);
    const before = reserved();
    first.free();
    const again = empty([1000]);
    expect(reserved()).toBe(before);
    again.free();
  });

  test("the same number as another type is another parameter", async () => {
    const give = <T extends "u32" | "i32" | "f32">(type: T) =>
      kernel({
        name: `give ${type}`,
        inputs: {},
        outputs: { y: "f32" },
        params: { n: "u32", value: type },
        passes: [{ groups: ({ n }) => lanes(n), wgsl: each("y[i] = f32(p.value);") }],
        loops({ y }, { value }) {
          y.fill(value);
        },
      });
    const made = (["u32", "i32", "f32"] as const).map((type) => run(give(type), {}, { y: [2] }, { n: 2, value: 3 }).y);
    for (const y of made) {
      expect([...(await y.data())]).toEqual([3, 3]);
      y.free();
    }
  });

  test("an item is one number", async () => {
    const [one, two] = [tensor([3], []), ones([2])];
    expect(await one.item()).toBe(3);
    await expect(two.item()).rejects.toThrow(new RangeError("item(): the tensor has shape [2], not one number"));
    for (const t of [one, two]) t.free();
  });

  test("two devices live at once, and stay apart", async () => {
    const other = (await choose("reference")).device;
    const [x, y] = [tensor([1, 2]), withDevice(other, () => tensor([3, 4]))];
    expect(x.device).toBe(on());
    expect(y.device).toBe(other);
    const [a, b] = [add(x, x), add(y, y)];
    expect([...(await a.data()), ...(await b.data())]).toEqual([2, 4, 6, 8]);
    for (const t of [x, y, a, b]) t.free();
  });
});

/** For a device that TEST_DEVICES leaves out by hand. */
const leftOut = (_name: string, _suite: () => void) => {};

describe("choosing", () => {
  afterEach(() => void use(null));

  test("without a device, making a tensor says what to call", () => {
    use(null);
    expect(() => ones([1])).toThrow(new Error('device(): no device is open; call await open("auto") first'));
  });

  test("by name, and the last one opened is current", async () => {
    const first = await open("reference");
    expect(device()).toBe(first);
    expect((await choose("reference")).reason).toBe("named");
    expect(device()).toBe(first);
  });

  test("a name that is none is an error", async () => {
    await expect(open("cuda" as DeviceName)).rejects.toThrow(
      new RangeError('open(name): there is no device "cuda"; give auto, webgpu, cpu or reference'),
    );
  });

  test("withDevice puts the former one back, also after an exception", async () => {
    const [first, second] = [await open("reference"), (await choose("reference")).device];
    expect(withDevice(second, device)).toBe(second);
    expect(() => withDevice(second, () => square(tensor([1]).withShape([1, 1, 1, 1, 1, 1, 1])).write([]))).toThrow();
    expect(device()).toBe(first);
  });

  test("auto never takes a software adapter, nor the reference, and says why", async () => {
    const { device, reason } = await choose("auto");
    expect(["cpu", "webgpu"]).toContain(device.name);
    expect(reason).toMatch(device.name === "cpu" ? /software, slower than the compiled kernels|there is no WebGPU adapter/ : /hardware/);
    if (device.name === "webgpu") expect(device.description).not.toMatch(/llvmpipe|swiftshader/i);
    device.close();
  });
});

(deviceNames.includes("webgpu") ? describe : leftOut)("what goes wrong on webgpu", () => {
  const broken = (wgsl: string) =>
    kernel({
      name: "broken",
      inputs: { x: "f32" },
      outputs: { y: "f32" },
      params: { n: "u32" },
      passes: [{ groups: ({ n }) => lanes(n), wgsl }],
      loops() {},
    });
  const opened = async (f: (on: Device) => Promise<void>) => {
    const { device } = await choose("webgpu");
    try {
      await withDevice(device, () => f(device));
    } finally {
      device.close();
    }
  };

  test("reaches the reader with the kernel's name", () =>
    opened(async (on) => {
      const x = withDevice(on, () => ones([4]));
      const { y } = withDevice(on, () =>
        run(broken("@compute @workgroup_size(1) fn main() { y[0] = nonsense; }"), { x }, { y: [4] }, { n: 4 }),
      );
      await expect(y.data()).rejects.toThrow(/^webgpu: [\s\S]*broken/);
    }));

  test("the device works on, and the kernel mended under the same name runs", () =>
    opened(async (on) => {
      const x = tensor([1, 2, 3, 4]);
      const main = (line: string) => `@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { ${line} }`;
      const { y } = run(broken(main("y[i] = nonsense;")), { x }, { y: [4] }, { n: 4 });
      await expect(y.data()).rejects.toThrow(/^webgpu: /);
      await on.read(x.memory).catch(() => {}); // errors that followed from it
      const twice = run(broken(main("y[i] = 2.0 * x[i];")), { x }, { y: [4] }, { n: 4 });
      expect([...(await twice.y.data())]).toEqual([2, 4, 6, 8]);
      const square = run(broken(main("y[i] = x[i] * x[i];")), { x }, { y: [4] }, { n: 4 });
      expect([...(await square.y.data())]).toEqual([1, 4, 9, 16]);
    }));

  test("a closed device says so", () =>
    opened(async (on) => {
      const x = withDevice(on, () => ones([4]));
      on.close();
      expect(() => x.write([1, 2, 3, 4])).toThrow(new Error("webgpu: this device was closed; open another"));
      await expect(x.data()).rejects.toThrow("webgpu: this device was closed; open another");
    }));

  test("more memory than the adapter has is refused with both figures", () =>
    opened(async (on) => {
      expect(() => empty([2 ** 40])).toThrow(
        /^webgpu: out of memory; asked for 4,194,304 MiB .* of [\d,]+ MiB; that is all one buffer of this adapter/,
      );
      expect(on.memory.live).toBe(0);
    }));
});

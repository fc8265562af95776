/** The devices the tests run on: all three, or those that TEST_DEVICES names. */

import { afterAll, beforeAll, describe } from "vitest";
import { choose, type Device, type DeviceName, use } from "../src/device.ts";

const known: readonly DeviceName[] = ["reference", "cpu", "webgpu"];

export const deviceNames: readonly DeviceName[] = (process.env.TEST_DEVICES || known.join(",")).split(",").map((given) => {
  const name = known.find((device) => device === given.trim());
  if (!name) throw new RangeError(`TEST_DEVICES: there is no device "${given}"; give some of ${known.join(", ")}`);
  return name;
});

/** A suite on one device, which is opened before it, made the current one, and closed after it. A device that cannot be opened fails the suite. */
export function onDevice(name: DeviceName, suite: (device: () => Device) => void): void {
  describe(`on ${name}`, () => {
    let device: Device | undefined;
    beforeAll(async () => {
      device = use((await choose(name)).device);
    });
    afterAll(() => {
      use(null);
      device?.close(); // Dawn keeps the process alive while a device lives
    });
    suite(() => device!);
  });
}

/** The suite once on each device. */
export function onDevices(suite: (device: () => Device, name: DeviceName) => void, names: readonly DeviceName[] = deviceNames): void {
  for (const name of names) onDevice(name, (device) => suite(device, name));
}

/** The same device, which also writes down the name of every kernel it runs. */
export function watched(device: Device): Device & { readonly ran: string[] } {
  const ran: string[] = [];
  return {
    name: device.name,
    description: device.description,
    get memory() {
      return device.memory;
    },
    ran,
    allocate: (dtype, length) => device.allocate(dtype, length),
    free: (memory) => device.free(memory),
    upload: (memory, values) => device.upload(memory, values),
    run(kernel, buffers, params) {
      ran.push(kernel.name);
      device.run(kernel, buffers, params);
    },
    read: (memory) => device.read(memory),
    close: () => device.close(),
  };
}

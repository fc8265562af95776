/** The devices the tests run on: all of them, or those that TEST_DEVICES names. */

import { afterAll, beforeAll, describe } from "vitest";
import { choose, type Device, type DeviceName, type OpenOptions, use } from "../src/device.ts";

export type Known = DeviceName | "threads" | "worker";

/** What each name opens. */
const known: Readonly<Record<Known, readonly [DeviceName, OpenOptions]>> = {
  reference: ["reference", {}],
  cpu: ["cpu", { threads: 1 }],
  webgpu: ["webgpu", {}],
  /** Two threads that share whatever can be shared. */
  threads: ["cpu", { threads: 2, least: 0 }],
  /** As in a page: in a worker that owns the queue. And by the kernels for engines that cannot multiply and add in one. */
  worker: ["cpu", { threads: 1, worker: true, fused: false }],
};
const names = Object.keys(known) as Known[];

/** Do the tests run in a page? */
export const inPage = typeof document !== "undefined";

/** A setting of the run: from the environment, or in a page from what the runner wrote in its place. */
export const setting = (name: "TEST_DEVICES" | "TEST_SEED"): string | undefined => {
  const page = (import.meta as { env?: Readonly<Record<string, string>> }).env;
  return globalThis.process?.env?.[name] || page?.[name] || undefined;
};

const wanted = setting("TEST_DEVICES") ?? names.join(",");
const chosen: readonly Known[] = wanted.split(",").map((given) => {
  const name = names.find((device) => device === given.trim());
  if (!name) throw new RangeError(`TEST_DEVICES: there is no device "${given}"; give some of ${names.join(", ")}`);
  return name;
});

/** Those of all suites. */
export const deviceNames: readonly Known[] = chosen.filter((name) => name !== "threads" && name !== "worker");
/** And other ways of opening the cpu device, which carry out kernels by other paths. */
export const allDeviceNames: readonly Known[] = chosen;

/** A suite on one device, which is opened before it, made the current one, and closed after it. A device that cannot be opened fails the suite. */
export function onDevice(name: Known, suite: (device: () => Device) => void): void {
  describe(`on ${name}`, () => {
    let device: Device | undefined;
    beforeAll(async () => {
      device = use((await choose(...known[name])).device);
    });
    afterAll(() => {
      use(null);
      device?.close(); // Dawn keeps the process alive while a device lives
    });
    suite(() => device!);
  });
}

/** The suite once on each device. */
export function onDevices(suite: (device: () => Device, name: Known) => void, names: readonly Known[] = deviceNames): void {
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

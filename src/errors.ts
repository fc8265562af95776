/** What a device may say that a program can act on. */

const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20).toLocaleString("en-US")} MiB`;

/** What memory looked like when there was not enough of it, bytes. */
export interface Shortage {
  readonly asked: number;
  /** What tensors held. */
  readonly live: number;
  /** The most there may be. */
  readonly limit: number;
}

/** There is no memory for what was asked. The device works on: free something, or ask for less. */
export class OutOfMemory extends RangeError implements Shortage {
  override readonly name = "OutOfMemory";
  readonly asked: number;
  readonly live: number;
  readonly limit: number;

  constructor(device: string, { asked, live, limit }: Shortage, advice: string) {
    const free = Math.max(0, limit - live);
    super(`${device}: out of memory; asked for ${mib(asked)} with ${mib(live)} held and ${mib(free)} free of ${mib(limit)}; ${advice}`);
    this.asked = asked;
    this.live = live;
    this.limit = limit;
  }
}

/** The device is gone, with everything on it. `reopen()` gives another. */
export class DeviceLost extends Error {
  override readonly name = "DeviceLost";

  constructor(device: string, why: string) {
    super(`${device}: the device was lost: ${why}; its tensors are gone: await reopen() and load them again`);
  }
}

/** How much of the processors others take while we stand still. */

import { cpus } from "node:os";

/** Milliseconds of a look: the clocks of the operating system tick every 10. */
const LOOK = 300;

function ticks(): { busy: number; all: number } {
  let [busy, all] = [0, 0];
  for (const { times } of cpus()) {
    const sum = Object.values(times).reduce((a, b) => a + b, 0);
    all += sum;
    busy += sum - times.idle;
  }
  return { busy, all };
}

/** The share of all cores that is busy over a third of a second in which this program waits. */
export async function disturbance(): Promise<number> {
  const before = ticks();
  await new Promise((resolve) => setTimeout(resolve, LOOK));
  const after = ticks();
  return (after.busy - before.busy) / Math.max(1, after.all - before.all);
}

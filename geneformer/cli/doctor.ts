/** `geneformer doctor`: which devices there are, whether every kernel is right on them, and what `auto` takes. */

import { samples } from "../../kernels/samples.ts";
import { choose, type Device, type DeviceName } from "../../src/device.ts";
import { type Verdict, verify } from "../../src/verify.ts";
import { findAdapter, isSoftware } from "../../src/webgpu.ts";
import { type Define, examples } from "./command.ts";

interface Found {
  readonly name: DeviceName;
  readonly description: string;
  readonly verdicts: readonly Verdict[];
}

export const command: Define = (program, { signal, say, report, progress }) => {
  program.addHelpText("after", examples("doctor", "doctor --json")).action(async () => {
    const found: Found[] = [];
    const missing: Record<string, string> = {};
    for (const name of ["cpu", "webgpu"] as const) {
      let device: Device;
      try {
        ({ device } = await choose(name));
      } catch (error) {
        missing[name] = (error as Error).message;
        continue;
      }
      const all = samples();
      const bar = progress(`Checking ${name}`, all.length, "kernels");
      const verdicts: Verdict[] = [];
      for (const sample of all) {
        signal.throwIfAborted();
        verdicts.push(await verify(device, sample));
        bar.update(verdicts.length);
      }
      bar.stop();
      found.push({ name, description: device.description, verdicts });
      device.close();
    }

    for (const { name, description, verdicts } of found) {
      const wrong = verdicts.filter(({ ok }) => !ok);
      say(`${name}: ${description}`);
      say(`  ${verdicts.length - wrong.length} of ${verdicts.length} kernels agree with their loops in f64`);
      for (const { kernel, worst, bound } of wrong)
        say(`  WRONG: ${kernel} is off by ${worst.toExponential(1)} of its largest value; ${bound} is allowed`);
      const loops = verdicts.filter(({ loops }) => loops).map(({ kernel }) => kernel);
      if (loops.length > 0) say(`  ${loops.length} run their loops, for want of a compiled kernel: ${loops.join(", ")}`);
    }
    for (const why of Object.values(missing)) say(why);

    const adapter = await findAdapter();
    const { device, reason } = await choose("auto");
    device.close();
    const limits = adapter
      ? { maxBufferSize: adapter.limits.maxBufferSize, maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize }
      : null;
    const features = adapter ? [...adapter.features].sort() : [];
    if (adapter)
      say(
        `adapter: ${isSoftware(adapter) ? "software" : "hardware"}; features ${features.join(", ")}; largest binding ${limits?.maxStorageBufferBindingSize} bytes`,
      );
    report({ auto: device.name, reason, devices: found, missing, features, limits }, `auto takes ${device.name}: ${reason}`);
    const wrong = found.flatMap(({ verdicts }) => verdicts).filter(({ ok }) => !ok);
    if (wrong.length > 0)
      throw new Error(`${wrong.length} kernels are wrong on this machine: ${wrong.map(({ kernel }) => kernel).join(", ")}`);
  });
};

/** `geneformer doctor`: which devices there are, whether every kernel is right on them, which ways of writing them are taken, and what `auto` takes. */

import { samples } from "../../kernels/samples.ts";
import { calibrate, type Finding, fileStore, transformerProblems } from "../../src/calibrate.ts";
import { classOf } from "../../src/choices.ts";
import { choose, type Device, type DeviceName } from "../../src/device.ts";
import { type Verdict, verify } from "../../src/verify.ts";
import { abilitiesOf, findAdapter, isSoftware } from "../../src/webgpu.ts";
import { type Define, examples } from "./command.ts";

interface Found {
  readonly name: DeviceName;
  readonly description: string;
  readonly verdicts: readonly Verdict[];
}

/** What became of an alternative, in a line. */
const line = ({ alternative, verdict, ms, reason }: Finding): string =>
  `  ${verdict.padEnd(8)} ${alternative}${ms === null ? "" : `, ${ms.toPrecision(3)} ms`}${reason === null ? "" : `: ${reason}`}`;

export const command: Define = (program, { signal, say, report, progress }) => {
  program
    .option(
      "--calibrate [file]",
      "measure which ways of writing kernels are fastest on this adapter; keep that in a file (.json), for open()",
    )
    .addHelpText("after", examples("doctor", "doctor --json", "doctor --calibrate adapter.json"));
  program.action(async ({ calibrate: wanted = false }: { calibrate?: boolean | string }) => {
    const found: Found[] = [];
    const plans: Record<string, string> = {};
    const findings: Finding[] = [];
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
      if (device.choices)
        for (const { kernel, params } of transformerProblems(device.choices.abilities.software))
          plans[classOf(kernel, params)] = device.choices.plan(kernel, params).name;
      device.close();
    }
    if (wanted !== false && !("webgpu" in missing)) {
      const { device } = await choose("webgpu", { precision: "mixed", experimental: true }); // so that nothing is absent that could be had
      const bar = progress("Calibrating webgpu", undefined, "problems");
      const store = typeof wanted === "string" ? fileStore(wanted) : undefined;
      const onProgress = (done: number, total: number) => bar.update(done, undefined, total);
      findings.push(...(await calibrate(device, { store, signal, warn: say, onProgress })).findings);
      bar.stop();
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
    for (const [problem, plan] of Object.entries(plans)) say(`  ${problem}: by its sizes alone, ${plan}`);
    for (const problem of new Set(findings.map(({ problem }) => problem))) {
      say(`${problem}:`);
      for (const finding of findings) if (finding.problem === problem) say(line(finding));
    }

    const adapter = await findAdapter();
    const { device, reason } = await choose("auto");
    device.close();
    const limits = adapter
      ? { maxBufferSize: adapter.limits.maxBufferSize, maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize }
      : null;
    const abilities = adapter ? abilitiesOf(adapter, adapter.info, {}) : null;
    const units = abilities?.units.map(({ type, m, n, k }) => `${m}x${n}x${k} ${type}`) ?? [];
    const features = adapter ? [...adapter.features].sort() : [];
    if (adapter)
      say(
        `adapter: ${isSoftware(adapter) ? "software" : "hardware"}; features ${features.join(", ")}; largest binding ${limits?.maxStorageBufferBindingSize} bytes; workgroups of ${abilities?.lanes} lanes and ${abilities?.bytes} bytes; matrix units ${units.join(", ") || "none without --calibrate, which asks for drafts too"}`,
      );
    report(
      { auto: device.name, reason, devices: found, missing, features, limits, units, plans, findings },
      `auto takes ${device.name}: ${reason}`,
    );
    const wrong = found.flatMap(({ verdicts }) => verdicts).filter(({ ok }) => !ok);
    if (wrong.length > 0)
      throw new Error(`${wrong.length} kernels are wrong on this machine: ${wrong.map(({ kernel }) => kernel).join(", ")}`);
  });
};

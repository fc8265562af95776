/** Does a device compute what a kernel's loops say? */

import { fromHalf } from "../kernels/half.ts";
import { type Dtype, type Values, valuesOf } from "../kernels/kernel.ts";
import type { Sample } from "../kernels/samples.ts";
import type { Device } from "./device.ts";

export interface Verdict {
  readonly kernel: string;
  /** The largest difference from the loops in f64, of the output's largest value. */
  readonly worst: number;
  /** What it may be. */
  readonly bound: number;
  readonly ok: boolean;
  /** Does the device run the very loops it is held against, for want of a compiled kernel? Then agreement proves nothing. */
  readonly loops: boolean;
}

/** How far numbers are from what they should be, of the largest of those; NaN where one of them is NaN, or where there are more or fewer. */
export function distance(got: Values, wanted: Values): number {
  if (got.length !== wanted.length) return Number.NaN;
  let largest = Number.MIN_VALUE;
  let error = 0;
  for (let i = 0; i < wanted.length; i++) {
    largest = Math.max(largest, Math.abs(wanted[i]));
    error = Math.max(error, Math.abs(got[i] - wanted[i])); // NaN, once met, stays
  }
  return error / largest;
}

/** What a buffer holds, as numbers: f16 is bits. */
const numbersOf = (dtype: Dtype, values: Values): Values => (dtype === "f16" ? Float64Array.from(values, fromHalf) : values);

/** Run one sample on a device and hold it against the loops. @throws Error for what goes wrong on the device. */
export async function verify(device: Device, { kernel, inputs, outputs, params, tolerance }: Sample): Promise<Verdict> {
  const before = { ...inputs } as Record<string, Values>;
  for (const [name, given] of Object.entries(outputs)) {
    if (typeof given !== "number") before[name] = given;
    else before[name] = kernel.outputs[name] === "f32" ? new Float64Array(given) : valuesOf(kernel.outputs[name], { length: given });
  }
  const wanted = Object.fromEntries(Object.entries(before).map(([name, values]) => [name, values.slice()]));
  kernel.loops(wanted, params);

  const buffers = Object.fromEntries(
    Object.entries(before).map(([name, values]) => [name, device.allocate({ ...kernel.inputs, ...kernel.outputs }[name], values.length)]),
  );
  for (const [name, values] of Object.entries(before)) device.upload(buffers[name], values);
  device.run(kernel, buffers, params);
  let worst = 0;
  for (const [name, dtype] of Object.entries(kernel.outputs)) {
    const got = await device.read(buffers[name]);
    worst = Math.max(worst, distance(numbersOf(dtype, got), numbersOf(dtype, wanted[name])));
  }
  for (const buffer of Object.values(buffers)) device.free(buffer);
  const loops = device.name === "reference" || (device.name === "cpu" && !kernel.compiled);
  return { kernel: kernel.name, worst, bound: tolerance, ok: worst <= tolerance, loops };
}

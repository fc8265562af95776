/** What a kernel makes of a sample on a device. */

import type { Values } from "../../kernels/kernel.ts";
import type { Sample } from "../../kernels/samples.ts";
import type { Device } from "../../src/device.ts";

/** All outputs, in the order of their declaration. */
export async function outcome(device: Device, { kernel, inputs, outputs, params }: Sample): Promise<Values[]> {
  const dtypes = { ...kernel.inputs, ...kernel.outputs };
  const all = { ...inputs, ...outputs };
  const buffers = Object.fromEntries(
    Object.entries(all).map(([name, given]) => [name, device.allocate(dtypes[name], typeof given === "number" ? given : given.length)]),
  );
  for (const [name, given] of Object.entries(all))
    device.upload(buffers[name], typeof given === "number" ? new Float32Array(given) : given);
  device.run(kernel, buffers, params);
  const read = await Promise.all(Object.keys(kernel.outputs).map((name) => device.read(buffers[name])));
  for (const buffer of Object.values(buffers)) device.free(buffer);
  return read;
}

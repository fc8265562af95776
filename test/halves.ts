/** Products of f16 by force: for tests of what mixed precision does, on adapters that would not choose it. */

import { classOf, textOf } from "../src/choices.ts";
import type { Device } from "../src/device.ts";
import { needs, type Problem } from "../src/shapes.ts";

/** A register tile whose slices are rounded to f16. */
const HALF = "64x128 packed f16";

/** Have the matrix products among these problems made of f16, as if a calibration had found that fastest; the device was opened for mixed precision. */
export function halve({ choices }: Device, problems: readonly Problem[]): void {
  if (!choices?.abilities.mixed) throw new Error('halve(device, problems): open it with precision "mixed"');
  const tried = problems.flatMap(({ kernel, params }) => {
    const half = kernel.alternatives?.of(params).find(({ name }) => name === HALF);
    return half ? [[classOf(kernel, params), [{ alternative: HALF, text: textOf(half.kernel), ms: 1 }]]] : []; // attention has none of that name
  });
  if (tried.length === 0) throw new Error("halve(device, problems): there is no matrix product among them");
  choices.use({ adapter: choices.abilities.name, tried: Object.fromEntries(tried) });
}

/** The same of all that f computes. */
export const halveAll = (on: Device, f: () => unknown): void => halve(on, needs(f, on).problems);

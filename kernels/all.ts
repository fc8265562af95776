/** Every kernel by its name or its family's: how another thread, told a name, finds the loops. */

import * as adamw from "./adamw.ts";
import * as addnorm from "./addnorm.ts";
import * as attention from "./attention.ts";
import * as cast from "./cast.ts";
import * as collect from "./collect.ts";
import * as cosine from "./cosine.ts";
import * as elementwise from "./elementwise.ts";
import * as extreme from "./extreme.ts";
import * as fill from "./fill.ts";
import * as gather from "./gather.ts";
import { HALVED, halved } from "./halved.ts";
import { type Kernel, type Variant, variantOf } from "./kernel.ts";
import * as layernorm from "./layernorm.ts";
import * as loss from "./loss.ts";
import * as matmul from "./matmul.ts";
import * as nans from "./nans.ts";
import * as permute from "./permute.ts";
import * as random from "./random.ts";
import * as reduce from "./reduce.ts";
import * as rmsnorm from "./rmsnorm.ts";
import * as scan from "./scan.ts";
import * as segment from "./segment.ts";
import * as sgd from "./sgd.ts";
import * as softmax from "./softmax.ts";
import * as take from "./take.ts";
import * as topk from "./topk.ts";
import * as variance from "./variance.ts";

const files = [
  addnorm,
  adamw,
  attention,
  cast,
  collect,
  cosine,
  elementwise,
  extreme,
  fill,
  gather,
  layernorm,
  loss,
  matmul,
  nans,
  permute,
  random,
  reduce,
  rmsnorm,
  scan,
  segment,
  sgd,
  softmax,
  take,
  topk,
  variance,
];

const exported = new Map<string, unknown>(files.flatMap((file) => Object.entries(file)));

/** Is it one of these, or stored as f16 one of them, and not one of somebody's own that is called the same? */
export function isOurs(kernel: Kernel): boolean {
  if (kernel.whole) return isOurs(kernel.whole);
  const [name, ...variant] = variantOf(kernel);
  const found = exported.get(name);
  if (typeof found === "function" && "made" in found) return (found.made as ReadonlyMap<string, Kernel>).get(variant.join(" ")) === kernel;
  return found === kernel;
}

/** The kernel of a name; undefined where there is none such: a kernel of somebody's own. */
export function kernelOf([name, ...variant]: Variant): Kernel | undefined {
  if (name === HALVED) {
    const [names, ...of] = variant;
    const whole = kernelOf(of as unknown as Variant);
    return whole && halved(whole, String(names).split(" "));
  }
  const found = exported.get(name);
  if (typeof found === "function" && "made" in found) return found(...variant);
  return typeof found === "object" && found !== null && "loops" in found ? (found as Kernel) : undefined;
}

/** Every kernel by its name or its family's: how another thread, told a name, finds the loops. */

import * as adamw from "./adamw.ts";
import * as attention from "./attention.ts";
import * as cosine from "./cosine.ts";
import * as elementwise from "./elementwise.ts";
import * as fill from "./fill.ts";
import * as gather from "./gather.ts";
import type { Kernel, Variant } from "./kernel.ts";
import * as layernorm from "./layernorm.ts";
import * as loss from "./loss.ts";
import * as matmul from "./matmul.ts";
import * as permute from "./permute.ts";
import * as random from "./random.ts";
import * as reduce from "./reduce.ts";
import * as segment from "./segment.ts";
import * as softmax from "./softmax.ts";

const files = [adamw, attention, cosine, elementwise, fill, gather, layernorm, loss, matmul, permute, random, reduce, segment, softmax];

const exported = new Map<string, unknown>(files.flatMap((file) => Object.entries(file)));

/** The kernel of a name; undefined where there is none such: a kernel of somebody's own. */
export function kernelOf([name, ...variant]: Variant): Kernel | undefined {
  const found = exported.get(name);
  if (typeof found === "function" && "made" in found) return found(...variant);
  return typeof found === "object" && found !== null && "loops" in found ? (found as Kernel) : undefined;
}

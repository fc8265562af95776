/** The ways to write attention for a GPU, by name. */

import type { Alternative, Kernel, Pass } from "../kernel.ts";
import type { Way, Written } from "./registers.ts";

/**
 * Register tiles; first those that use a number most often and keep most lanes busy at once, on processors with 48 KiB of workgroup memory and more;
 * then those that take less memory, for wider heads and smaller processors.
 */
export const WAYS = {
  "blocks of 32": { block: 32, across: 8, half: false },
  "blocks of 32, 16 lanes a row": { block: 32, across: 16, half: false },
  "blocks of 16": { block: 16, across: 8, half: false },
  "blocks of 8": { block: 8, across: 8, half: false },
  "blocks of 32 f16": { block: 32, across: 8, half: true },
  "blocks of 64 f16": { block: 64, across: 16, half: true },
} as const satisfies Record<string, Way>;

/** What the plain writing is called among the others. */
export const PLAIN = "16 columns a lane";

/**
 * The register tiles of a kernel, and last the plain one, which every adapter can run. The tiles are taken only where they were tried: drivers have much
 * to get wrong in them.
 * @param plain the kernel; @param taken lanes and bytes of its passes; @param write its passes in another way, and what tiles are made in those.
 */
export function waysOf(
  { alternatives: _, compiled: __, ...plain }: Kernel,
  taken: Pick<Written, "lanes" | "bytes">,
  write: (way: Way) => { readonly passes: readonly Pass[]; readonly written: readonly Written[] },
): Alternative[] {
  const tiles = Object.entries<Way>(WAYS).map(([name, way]): Alternative => {
    const { passes, written } = write(way);
    return {
      name,
      kernel: { ...plain, name: `${plain.name} (${name})`, variant: undefined, passes },
      features: way.half ? ["shader-f16"] : [],
      lanes: Math.max(...written.map(({ lanes }) => lanes)),
      bytes: Math.max(...written.map(({ bytes }) => bytes)),
      mixed: way.half,
      unproven: true,
    };
  });
  return [...tiles, { name: PLAIN, kernel: { ...plain, variant: undefined }, features: [], ...taken, mixed: false, unproven: false }];
}

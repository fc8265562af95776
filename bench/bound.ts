/** The least time that a computation could take on a machine, by what limits it, and the share of that which was reached. */

/** What the machine can do at most. */
export interface Peaks {
  /** Operations, 10^9 a second. */
  readonly gflops: number;
  /** Bytes between memory and processor, 10^9 a second. */
  readonly gigabytes: number;
}

/** Operations, and bytes that must move. */
export interface Cost {
  readonly flop: number;
  readonly bytes: number;
}

/** The roofline (Williams, Waterman and Patterson 2009): whichever takes longer, computing or moving, ms. */
export function bound({ flop, bytes }: Cost, { gflops, gigabytes }: Peaks): { readonly by: "arithmetic" | "memory"; readonly ms: number } {
  const [computing, moving] = [flop / gflops / 1e6, bytes / gigabytes / 1e6];
  return computing >= moving ? { by: "arithmetic", ms: computing } : { by: "memory", ms: moving };
}

/** The share reached, in words; nothing where the peaks are not known. What stays in the cache may pass the bound by memory. */
export function boundOf(cost: Cost, ms: number, peaks: Peaks | null): string {
  if (!peaks) return "";
  const { by, ms: least } = bound(cost, peaks);
  return `${((100 * least) / ms).toFixed(0).padStart(4)} % of ${by}`;
}

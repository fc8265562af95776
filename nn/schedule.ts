/** Learning rates by step: a factor on the peak rate, as Hugging Face's get_scheduler, whose names these are. */

import { nearest } from "./names.ts";

export const scheduleNames = ["constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"] as const;
export type ScheduleName = (typeof scheduleNames)[number];

export interface ScheduleOptions {
  /** Half cosines of cosine_with_restarts; each begins at 1 (Loshchilov and Hutter 2017). Default 1. */
  readonly cycles?: number;
  /** Of polynomial: what is left of the way, to this power. Default 1. */
  readonly power?: number;
  /** Where polynomial ends, as a factor: Hugging Face's lr_end / lr. Default 0. */
  readonly end?: number;
}

/** The steps after which inverse_sqrt begins to fall, when there is no warm-up: Hugging Face's. */
const TIMESCALE = 10_000;

/**
 * The factor at a step, 0 first. In `warmup` steps it rises from 0 to 1 in a line; then it is
 *
 *   constant               1
 *   linear                 1 - x, where x goes from 0 to 1 at `total` and stays there
 *   cosine                 (1 + cos(pi x)) / 2
 *   cosine_with_restarts   (1 + cos(pi (cycles x mod 1))) / 2, and 0 from `total` on
 *   polynomial             end + (1 - end) (1 - x)^power
 *   inverse_sqrt           sqrt(warmup / step), which has no end (Vaswani et al. 2017, 5.3)
 *
 * @throws RangeError for a name that is none, with the nearest that is.
 */
export function schedule(
  name: ScheduleName,
  step: number,
  warmup: number,
  total: number,
  { cycles = 1, power = 1, end = 0 }: ScheduleOptions = {},
): number {
  if (!scheduleNames.includes(name))
    throw new RangeError(
      `schedule(name, step, warmup, total): there is no schedule "${String(name)}"; did you mean "${nearest(String(name), scheduleNames)}"? There are ${scheduleNames.join(", ")}`,
    );
  if (step < warmup) return step / warmup;
  const x = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  const wave = (x: number): number => 0.5 * (1 + Math.cos(Math.PI * x));
  switch (name) {
    case "constant":
      return 1;
    case "linear":
      return 1 - x;
    case "cosine":
      return wave(x);
    case "cosine_with_restarts":
      return x < 1 ? wave((cycles * x) % 1) : 0;
    case "polynomial":
      return end + (1 - end) * (1 - x) ** power;
    case "inverse_sqrt": {
      const scale = warmup || TIMESCALE;
      return Math.sqrt(scale / (step - warmup + scale));
    }
  }
}

/** Learning rates by step: a factor on the peak rate, as Hugging Face's get_*_schedule_with_warmup. */

export const scheduleNames = ["constant", "linear", "cosine"] as const;
export type ScheduleName = (typeof scheduleNames)[number];

/** The factor at a step (0 first): up from 0 in `warmup` steps, then constant, down to 0 at `total` in a line, or in half a cosine. */
export function schedule(name: ScheduleName, step: number, warmup: number, total: number): number {
  if (step < warmup) return step / Math.max(1, warmup);
  if (name === "constant") return 1;
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  return name === "linear" ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
}

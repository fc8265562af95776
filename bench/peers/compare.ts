/** Are two results equal? Asked before anything is timed: a wrong answer has no speed. */

import type { Parts } from "./task.ts";

/**
 * How far each part of a result may be from ours, as a share of the part's largest number. f32 holds 7 digits; a forward pass of 6 layers in another
 * order of sums keeps 5 or 6 of them. AdamW's first step goes by the sign of a gradient, so that rounding shows in the losses after it. Of the
 * millions of numbers that go into a relu some lie within rounding of 0, and which side one falls on is chance: a single one moved a norm by 1.6e-4,
 * in PyTorch against PyTorch with another kernel for attention.
 */
export const TOLERANCES: Readonly<Record<string, number>> = { y: 2e-4, losses: 2e-4, norms: 1e-3, shifts: 1e-5 };

/** Parts whose numbers are compared as they are: shifts are differences of cosines, whose error does not shrink with them. */
const ABSOLUTE: ReadonlySet<string> = new Set(["shifts"]);

/** The largest difference of each part, as a share of the largest number there is in ours (shifts: as it is); NaN stays NaN. */
export function differences(ours: Parts, theirs: Parts): Record<string, number> {
  return Object.fromEntries(
    Object.entries(ours).map(([name, a]) => {
      const b = theirs[name];
      if (b?.length !== a.length) return [name, Number.NaN];
      let [largest, worst] = [Number.MIN_VALUE, 0];
      for (let i = 0; i < a.length; i++) {
        largest = Math.max(largest, Math.abs(a[i]));
        const difference = Math.abs(a[i] - b[i]);
        worst = Number.isNaN(difference) || Number.isNaN(worst) ? Number.NaN : Math.max(worst, difference);
      }
      return [name, worst / (ABSOLUTE.has(name) ? 1 : largest)];
    }),
  );
}

/** What is wrong with a result, in words; null when nothing is. @param slack times the tolerances, for who rounds more. */
export function disagreement(ours: Parts, theirs: Parts, slack = 1): string | null {
  const most = (name: string) => slack * (TOLERANCES[name] ?? 0);
  const wrong = Object.entries(differences(ours, theirs)).filter(([name, difference]) => !(difference <= most(name)));
  if (wrong.length === 0) return null;
  return wrong
    .map(([name, difference]) =>
      Number.isNaN(difference)
        ? `its ${name} are not numbers, or not as many as ours`
        : `its ${name} are off ours by ${difference.toExponential(1)}, more than ${most(name).toExponential(0)}`,
    )
    .join("; ");
}

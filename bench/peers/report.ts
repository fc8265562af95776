/** What the races gave, as a table for people and as JSON for programs. */

import type { Outcome } from "./race.ts";

/** A work, and what became of it. */
export interface Section {
  readonly title: string;
  /** The most that ours / theirs may be, by contender; those not named are for information. */
  readonly limits: Readonly<Record<string, number>>;
  /** Ours first. */
  readonly outcomes: readonly Outcome[];
  /** The share of all cores that other programs took between the rounds. Threads that wait for each other in circles suffer most from it. */
  readonly disturbance?: number;
}

/** Above this share ratios mean little: a tenth of a core of two. */
const QUIET = 0.05;

export const isDisturbed = ({ disturbance = 0 }: Section): boolean => disturbance > QUIET;

/** A section's title, with a warning where the machine was busy with something else. */
export const titleOf = (section: Section): string =>
  isDisturbed(section)
    ? `${section.title} (DISTURBED: other programs took ${(100 * (section.disturbance ?? 0)).toFixed(0)} % of the cores)`
    : section.title;

/** Where and when the figures were taken. */
export interface Circumstances {
  readonly date: string;
  readonly commit: string;
  readonly machine: string;
  readonly node: string;
  readonly rounds: number;
}

/** A contender's line. */
export interface Line {
  readonly name: string;
  readonly min: number | null;
  readonly median: number | null;
  /** Ours / theirs of the fastest runs, as time: below 1 ours is faster. */
  readonly ratio: number | null;
  readonly limit: number | null;
  readonly verdict: "" | "ok" | "over" | "absent" | "error";
  /** What it was, or why it is not there. */
  readonly note: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The lines of a section: only who was timed beside ours has a ratio, and only a ratio can be within its limit. */
export function linesOf({ limits, outcomes }: Section): Line[] {
  const [ours] = outcomes;
  const best = ours.state === "timed" ? Math.min(...ours.times) : null;
  return outcomes.map((each) => {
    const limit = limits[each.name] ?? null;
    if (each.state !== "timed") {
      const verdict = each.state === "absent" ? "absent" : "error";
      return { name: each.name, min: null, median: null, ratio: null, limit, verdict, note: each.reason };
    }
    const min = Math.min(...each.times);
    const ratio = each === ours || best === null ? null : best / min;
    const verdict = limit === null || ratio === null ? "" : ratio <= limit ? "ok" : "over";
    return { name: each.name, min, median: median(each.times), ratio, limit, verdict, note: each.description };
  });
}

const HEAD = ["", "min ms", "median ms", "ours / theirs", "at most", "", ""] as const;

const cells = ({ name, min, median, ratio, limit, verdict, note }: Line): string[] => {
  const ms = (value: number | null) => (value === null ? "" : value.toFixed(value < 100 ? 2 : 0));
  return [name, ms(min), ms(median), ratio === null ? "" : ratio.toFixed(2), limit === null ? "" : String(limit), verdict, note];
};

/** Columns of equal width, for a terminal. */
export function textTable(section: Section): string {
  const rows = [[...HEAD], ...linesOf(section).map(cells)];
  const widths = HEAD.map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i >= 1 && i <= 4 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join("  ")
      .trimEnd();
  return `${titleOf(section)}\n${rows.map((row) => `  ${line(row)}`).join("\n")}\n`;
}

/** The whole report as a page of Markdown. */
export function markdown(sections: readonly Section[], circumstances: Circumstances): string {
  const { date, commit, machine, node, rounds } = circumstances;
  const table = (section: Section) => {
    const row = (columns: readonly string[]) => `| ${columns.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
    return [
      `## ${titleOf(section)}`,
      "",
      row(HEAD),
      "|---|---:|---:|---:|---:|---|---|",
      ...linesOf(section).map((line) => row(cells(line))),
    ].join("\n");
  };
  return `# Beside others; ${date}, commit ${commit}

${machine}, Node ${node}. \`npm run bench:peers\`: equal results first, then ${rounds} rounds, taking turns. Times are the fastest and the median run; ours / theirs
is of the fastest, so smaller is better for us. What each work is: bench/README.md.

${sections.map(table).join("\n\n")}
`;
}

/** The same for programs. */
export const json = (sections: readonly Section[], circumstances: Circumstances): string =>
  `${JSON.stringify({ ...circumstances, works: sections.map((section) => ({ title: section.title, disturbance: section.disturbance, lines: linesOf(section), times: timesOf(section) })) }, null, 1)}\n`;

const timesOf = ({ outcomes }: Section) =>
  Object.fromEntries(
    outcomes.flatMap((each) => (each.state === "timed" ? [[each.name, each.times.map((ms) => Number(ms.toFixed(3)))]] : [])),
  );

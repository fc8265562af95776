/** What the benches of truth print and keep: tables of figures with their intervals, and where and when they were taken. */

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { commit, machine, today } from "../circumstances.ts";
import type { Interval } from "./bootstrap.ts";

export type Figure = Interval | number | string;

/** A question, and what each method answers. */
export interface Answers {
  readonly title: string;
  /** What the figures are, how many stand behind them, what chance would give. */
  readonly note: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly [method: string, ...figures: Figure[]])[];
}

const results = fileURLToPath(new URL("../results/", import.meta.url));

const digits = (value: number): string =>
  Number.isNaN(value) ? "-" : value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3);

/** A figure as a person reads it: with its interval in brackets. */
export function shown(figure: Figure): string {
  if (typeof figure === "string") return figure;
  if (typeof figure === "number") return digits(figure);
  return Number.isNaN(figure.value) ? "-" : `${digits(figure.value)} [${digits(figure.low)}, ${digits(figure.high)}]`;
}

/** For a terminal: columns in line. */
export function textTable({ title, note, columns, rows }: Answers): string {
  const lines = [["", ...columns], ...rows.map(([method, ...figures]) => [method, ...figures.map(shown)])];
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return `${title}\n${note}\n${lines.map(line).join("\n")}\n`;
}

/** For a page. */
export function markdownTable({ title, note, columns, rows }: Answers): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    `## ${title}\n\n${note}\n`,
    line(["", ...columns]),
    line(["---", ...columns.map(() => "---:")]),
    ...rows.map(([method, ...figures]) => line([method, ...figures.map(shown)])),
  ].join("\n");
}

/** Keep a bench's answers: `bench/results/NAME-DATE.md` and `.json`, and pictures as `NAME-WORD-DATE.svg`. @returns what was written. */
export function save(
  name: string,
  about: { readonly title: string; readonly settings: Readonly<Record<string, unknown>>; readonly lines: readonly string[] },
  answers: readonly Answers[],
  pictures: Readonly<Record<string, string>>,
): string[] {
  const where = { date: today(), commit: commit(), machine: machine(), node: process.version };
  const { date, node } = where;
  const files: [string, string][] = [
    [
      `${name}-${date}.md`,
      [
        `# ${about.title}`,
        `${where.machine}; ${date}; commit ${where.commit}; Node ${node}`,
        ...about.lines,
        ...answers.map(markdownTable),
        ...Object.keys(pictures).map((word) => `![${word}](${name}-${word}-${date}.svg)`),
      ].join("\n\n"),
    ],
    [`${name}-${date}.json`, JSON.stringify({ ...where, settings: about.settings, answers }, null, 2)],
    ...Object.entries(pictures).map(([word, svg]): [string, string] => [`${name}-${word}-${date}.svg`, svg]),
  ];
  for (const [file, content] of files) writeFileSync(`${results}${file}`, `${content}\n`);
  return files.map(([file]) => `bench/results/${file}`);
}

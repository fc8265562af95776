/** `geneformer plot`: pictures of what perturbations did. */

import { Argument } from "commander";
import { namesOf } from "../data/names.ts";
import { readParquet } from "../data/parquet.ts";
import { DICTIONARY, hasVocabulary, readVocabulary } from "../data/vocabulary.ts";
import { fileSource, readFile, readText, refuseOverwrite, writeWhole } from "../files.ts";
import { readResults } from "../perturb/results.ts";
import { networkPlot, png, shiftPlot, statePlot, volcanoPlot } from "../plot.ts";
import { CELL, goalStateShift } from "../stats/tables.ts";
import { type Field, readCsv, type Table } from "../table.ts";
import { type Define, ending, examples, force, integer, out, pairs, real } from "./command.ts";
import { count } from "./terminal.ts";

interface Options {
  out: string;
  top?: number;
  title?: string;
  subtitle?: string;
  column: ReadonlyMap<string, string>;
  threshold: number;
  minCells: number;
  start?: string;
  goal?: string;
  dictionary?: string;
  scale: number;
  font: readonly string[];
  force: boolean;
}

/** A picture, how many things are in it, and what is to be said of it. */
interface Drawn {
  readonly svg: string;
  readonly things: number;
  readonly said: readonly string[];
}

interface Picture {
  readonly summary: string;
  /** What --column may name. */
  readonly parts: readonly string[];
  draw(input: string, options: Options): Promise<Drawn>;
}

const PICTURES: Readonly<Record<string, Picture>> = {
  volcano: {
    ...{ summary: "effects and how sure they are, of a table from stats", parts: ["name", "effect", "p", "cells"], draw: volcano },
  },
  shifts: {
    summary: "genes ranked by shift with intervals, of a table of effects from stats",
    ...{ parts: ["name", "effect", "low", "high", "cells"], draw: shifts },
  },
  states: { summary: "genes by their shifts to two states, of a folder from perturb", parts: [], draw: states },
  network: {
    summary: "the strongest effects of genes on genes, of a table of aggregate-gene-shifts from stats",
    ...{ parts: ["from", "to", "cosine", "cells"], draw: network },
  },
};

export const command: Define = (program, context) => {
  const summaries = Object.entries(PICTURES).map(([name, { summary }]) => `${name}: ${summary}`);
  program
    .addArgument(new Argument("<picture>", summaries.join("; ")).choices(Object.keys(PICTURES)))
    .argument("<input>", "the table, .csv or .parquet, or the folder")
    .option(
      "--top <number>",
      "genes that bear labels, or are shown at either end, or effects in a network (default: 15, of a network 40)",
      integer(1),
    )
    .option("--title <text>", "what stands above the picture (default: what it is of)")
    .option("--subtitle <text>", "what stands below the title (default: of what, and how many)")
    .option(
      "--column <part=name>",
      "the table's column for a part of the picture: name, effect, p, low, high, cells; from, to, cosine; may be repeated",
      pairs("="),
      new Map(),
    )
    .option("--threshold <p>", "genes below it are coloured, in volcano and states", real(Number.MIN_VALUE, 1), 0.05)
    .option("--min-cells <number>", "what fewer cells are behind is left out", integer(1), 1)
    .option(
      "--goal <state>",
      "volcano: the alternative state of the table to show; states: the state upwards (default: the second of the run)",
    )
    .option("--start <state>", "states: the state to the right (default: the first of the run)")
    .option("--dictionary <folder>", "states: what genes are called (default: the dictionary in the run)")
    .option("--scale <number>", "pixels of a .png to a pixel of the picture", real(0.1, 20), 2)
    .option(
      "--font <file>",
      "a font for letters of a .png that are not Latin, Greek, Cyrillic or Hebrew; may be repeated",
      (file: string, before: readonly string[]) => [...before, file],
      [],
    )
    .addOption(out("the picture, .svg or .png", "--out <file>").argParser(ending(".svg", ".png")))
    .addOption(force())
    .addHelpText(
      "after",
      examples("plot volcano shifts.csv --out volcano.svg", 'plot states run --start monocyte --goal "B cell" --top 20 --out states.png'),
    )
    .action(async (picture: string, input: string, options: Options) => {
      await refuseOverwrite(options.out, options.force);
      const { parts, draw } = PICTURES[picture];
      const unknown = [...options.column.keys()].find((part) => !parts.includes(part));
      if (unknown)
        throw new Error(`--column: ${picture} has no part "${unknown}"; it has ${parts.join(", ") || "none, as it reads a folder"}`);
      const { svg, things, said } = await draw(input, options);
      const fonts = await Promise.all(options.font.map(readFile));
      await writeWhole(options.out, options.out.endsWith(".png") ? await png(svg, { scale: options.scale, fonts }) : svg, options);
      context.report({ out: options.out, picture, things }, ...said, `wrote ${options.out}`);
    });
};

/** A table of stats, whose columns are asked for by the part they play. */
interface Parts {
  readonly length: number;
  /** @throws Error where the column is missing or not of numbers. */
  numbers(part: string, column: string): (number | null)[];
  words(part: string, column: string): string[];
  has(column: string): boolean;
}

async function tableAt(path: string): Promise<Table> {
  if (path.endsWith(".csv")) return readCsv(await readText(path), path);
  if (!path.endsWith(".parquet")) throw new Error(`"${path}" is neither .csv nor .parquet; give a table that geneformer stats wrote`);
  const read = [...(await readParquet(await fileSource(path)))];
  // pandas writes integers of 64 bits.
  const plain = (field: unknown): Field => (typeof field === "bigint" ? Number(field) : (field as Field));
  const rows = Array.from({ length: read[0]?.[1].length ?? 0 }, (_, i) => read.map(([, fields]) => plain(fields[i])));
  return { columns: read.map(([name]) => name), index: [...rows.keys()], rows };
}

/** @param maker the command that makes a table with the columns asked for. */
async function partsOf(path: string, { column: named }: Options, maker: string): Promise<Parts> {
  const { columns, rows } = await tableAt(path);
  if (rows.length === 0) throw new Error(`"${path}" has no rows; there is nothing to draw`);
  const fields = (part: string, column: string): Field[] => {
    const name = named.get(part) ?? column;
    const at = columns.indexOf(name);
    if (at >= 0) return rows.map((row) => row[at]);
    throw new Error(
      `"${path}" has no column "${name}"; it has ${columns.join(", ")}; make it with ${maker}, or name a column with --column ${part}=NAME`,
    );
  };
  return {
    length: rows.length,
    has: (column) => columns.includes(column),
    words: (part, column) => fields(part, column).map((field) => (field === null ? "" : String(field))),
    numbers: (part, column) =>
      fields(part, column).map((field, i) => {
        if (typeof field !== "string") return field === null || Number.isNaN(field) ? null : field;
        throw new Error(`"${path}" has "${field}" in row ${i} of column "${named.get(part) ?? column}"; --column ${part} takes numbers`);
      }),
  };
}

/** What genes are called: by symbol, else Ensembl id, else token. */
function namesIn(table: Parts, { part, symbol, id, token }: Called = GENE): string[] {
  const [symbols, ids, tokens] = [symbol, id, token].map((column) => (table.has(column) ? table.words("", column) : []));
  return table.words(part, table.has(symbol) ? symbol : token).map((name, i) => name || symbols[i] || ids[i] || tokens[i] || "");
}

/** The same, with the id behind a name that several genes have. */
function namesApart(table: Parts, called: Called): string[] {
  const names = namesIn(table, called);
  if (!table.has(called.id)) return names;
  const ids = table.words("", called.id);
  const bearers = new Map<string, Set<string>>();
  for (const [i, name] of names.entries()) bearers.set(name, (bearers.get(name) ?? new Set()).add(ids[i]));
  return names.map((name, i) => (bearers.get(name)!.size > 1 ? `${name} (${ids[i]})` : name));
}

/** Where a table has the names of genes, and the part by which another column may be named. */
interface Called {
  readonly part: string;
  readonly symbol: string;
  readonly id: string;
  readonly token: string;
}
const GENE: Called = { part: "name", symbol: "Gene_name", id: "Ensembl_ID", token: "Gene" };

/** What a subtitle says: where numbers are from, how many, and what was left out. */
const subtitleOf = (input: string, what: string, { subtitle, minCells }: Options): string =>
  subtitle ?? `${input.split("/").at(-1)}: ${what}${minCells > 1 ? ` of at least ${count(minCells)} cells` : ""}`;

/** What is said of rows that the picture has not. @throws Error where none is left. */
function leftOut(input: string, all: number, left: number, { minCells }: Options, ...reasons: string[]): string[] {
  const why = [...reasons, ...(minCells > 1 ? [`of fewer than ${minCells} cells`] : [])].join(", or ");
  if (left === 0) throw new Error(`"${input}" has ${count(all)} rows, and none is left: all are ${why}`);
  return all === left ? [] : [`${count(all - left)} of ${count(all)} rows are not in the picture: ${why}`];
}

/** A kind of table that a volcano is drawn of. */
interface Kind {
  readonly effect: string;
  readonly p: string;
  readonly cells: string;
  readonly title: string;
  readonly axis: string;
  readonly sides: readonly [above: string, below: string];
}

const SHIFT = { cells: "N_Detections", sides: ["toward the goal", "away from it"] } as const;
/** In the order in which they are looked for. */
const KINDS: readonly Kind[] = [
  { ...SHIFT, effect: "Shift_to_goal_end", p: "Goal_end_FDR", title: "Shifts to the goal", axis: "shift to the goal" },
  {
    ...{ effect: "Test_vs_null_avg_shift", p: "Test_vs_null_FDR", cells: "N_Detections_test", title: "Impact beside the null's" },
    ...{ axis: "mean cosine minus the null's", sides: ["less impact than the null", "more impact than the null"] },
  },
  {
    ...{ effect: "Difference", p: "FDR", cells: "N_Detections", title: "Effects beside matched genes'" },
    ...{ axis: "effect minus that of matched genes", sides: ["more than matched genes", "less than matched genes"] },
  },
];

async function volcano(input: string, options: Options): Promise<Drawn> {
  const { goal, title, threshold, top, minCells } = options;
  const table = await partsOf(input, options, "geneformer stats RUN --mode goal-state-shift, vs-null or effects");
  const known = KINDS.find(({ effect }) => table.has(effect)) ?? KINDS[0];
  const kind = goal
    ? {
        ...SHIFT,
        effect: `Shift_to_alt_end_${goal}`,
        p: `Alt_end_FDR_${goal}`,
        title: `Shifts to ${goal}`,
        axis: `shift to ${goal}`,
        sides: [`toward ${goal}`, "away from it"] as const,
      }
    : known;
  const [names, effects, ps, cells] = [
    namesIn(table),
    table.numbers("effect", kind.effect),
    table.numbers("p", kind.p),
    cellsOf(table, kind.cells, options),
  ];
  const genes = names.flatMap((name, i) => {
    const [effect, p] = [effects[i], ps[i]];
    return effect === null || p === null || cells[i] < minCells ? [] : [{ name, effect, p }];
  });
  const said = leftOut(input, table.length, genes.length, options, `without ${kind.effect} or ${kind.p}`);
  const svg = await volcanoPlot(genes, {
    ...{ title: title ?? kind.title, subtitle: subtitleOf(input, `${count(genes.length)} genes`, options), threshold, top },
    ...{
      axes: [options.column.get("effect") ?? kind.axis, `−log10 of ${options.column.get("p") ?? "the false discovery rate"}`],
      sides: kind.sides,
    },
  });
  return { svg, things: genes.length, said };
}

/** The cells behind each row; as many as you like where nobody asks. */
function cellsOf(table: Parts, column: string, { minCells, column: named }: Options): number[] {
  if (minCells === 1 && !named.has("cells")) return new Array<number>(table.length).fill(Number.POSITIVE_INFINITY);
  return table.numbers("cells", column).map((cells) => cells ?? 0);
}

async function shifts(input: string, options: Options): Promise<Drawn> {
  const { title, top, minCells } = options;
  const table = await partsOf(input, options, "geneformer stats RUN --mode effects");
  const [names, means, lows, highs, cells] = [
    ...([
      namesIn(table),
      table.numbers("effect", "Shift"),
      table.numbers("low", "Shift_low"),
      table.numbers("high", "Shift_high"),
    ] as const),
    table.numbers("cells", "N_Detections"),
  ];
  const genes = names.flatMap((name, i) => {
    const [shift, n] = [means[i], cells[i] ?? 0];
    return shift === null || n < minCells ? [] : [{ name, shift, low: lows[i], high: highs[i], cells: n }];
  });
  const said = leftOut(input, table.length, genes.length, options, "without a shift");
  const axis = options.column.get("effect") ?? "shift";
  const svg = await shiftPlot(genes, {
    ...{
      title: title ?? "Genes by their shift",
      subtitle: subtitleOf(input, `${count(genes.length)} genes`, options),
      axes: [axis, ""],
      top,
    },
  });
  return { svg, things: genes.length, said };
}

async function states(input: string, options: Options): Promise<Drawn> {
  const { title, top, minCells, threshold } = options;
  const { effects } = await readResults(input);
  const all = [...effects.keys()];
  if (effects.has("")) throw new Error(`"${input}" was run without states; give perturb --state-column, --start and --goal`);
  const [across, up] = [options.start ?? all[0], options.goal ?? all[1]];
  const [x, y] = (
    [
      ["--start", across],
      ["--goal", up],
    ] as const
  ).map(([option, state]) => {
    const held = effects.get(state);
    if (!held) throw new Error(`${option}: "${input}" has no state "${state}"; it has ${all.map((name) => `"${name}"`).join(", ")}`);
    if (held.genes.size === 0)
      throw new Error(`"${input}" perturbed a group, or pairs with an anchor; states is of genes perturbed one by one`);
    return held.genes;
  });
  const dictionary = options.dictionary ?? `${input}/${DICTIONARY}`;
  const vocabulary = options.dictionary || (await hasVocabulary(dictionary)) ? await readVocabulary(dictionary) : null;
  // The table of shifts has what is needed of either state: means and rates.
  const table = goalStateShift(y, new Map([["x", x]]), namesOf(vocabulary));
  const [token, symbol, id, toY, toX, rateY, rateX, detections] = [
    ...["Gene", "Gene_name", "Ensembl_ID", "Shift_to_goal_end", "Shift_to_alt_end_x", "Goal_end_FDR", "Alt_end_FDR_x", "N_Detections"],
  ].map((name) => table.columns.indexOf(name));
  const genes = table.rows.flatMap((row) => {
    if ((row[detections] as number) < minCells) return [];
    const name = String(row[symbol] ?? row[id] ?? row[token]);
    return [
      { name, x: row[toX] as number, y: row[toY] as number, significant: Math.min(row[rateX] as number, row[rateY] as number) < threshold },
    ];
  });
  const said = leftOut(input, table.rows.length, genes.length, options);
  const svg = await statePlot(genes, {
    ...{ title: title ?? `Shifts to ${across} and to ${up}`, subtitle: subtitleOf(input, `${count(genes.length)} genes`, options), top },
    axes: [`shift to ${across}`, `shift to ${up}`],
  });
  const unnamed = vocabulary ? [] : [`genes have no names: there is no dictionary in "${input}"; give --dictionary`];
  return { svg, things: genes.length, said: [...said, ...unnamed] };
}

async function network(input: string, options: Options): Promise<Drawn> {
  const { title, top, minCells } = options;
  const table = await partsOf(input, options, "geneformer stats RUN --mode aggregate-gene-shifts, of a run of perturb --affected");
  const cosines = table.numbers("cosine", "Cosine_sim_mean");
  const cells = cellsOf(table, "N_Detections", options);
  const from = namesApart(table, { part: "from", symbol: "Gene_name", id: "Ensembl_ID", token: "Perturbed" });
  const to = namesApart(table, { part: "to", symbol: "Affected_gene_name", id: "Affected_Ensembl_ID", token: "Affected" });
  const affected = table.words("affected", "Affected");
  const edges = cosines.flatMap((cosine, i) => {
    if (cosine === null || affected[i] === CELL || cells[i] < minCells) return [];
    return [{ from: from[i], to: to[i], strength: Math.max(0, 1 - cosine) }];
  });
  const said = leftOut(input, table.length, edges.length, options, "on cells as a whole, not on genes");
  const svg = await networkPlot(edges, {
    ...{ title: title ?? "Effects of genes on genes (1 - cosine)", top },
    subtitle: subtitleOf(input, "genes", options),
  });
  return { svg, things: edges.length, said };
}

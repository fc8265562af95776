/** Raw counts of an .h5ad as the tokenizer and the dictionary want them: which gene each column is, each cell's total, every value checked. */

import { type Cells, type Chunk, type Column, openCells } from "./h5ad.ts";

/** What narrows and names the counts of a file. */
export interface CountsOptions {
  /** Take gene ids from var's index and not from its `ensembl_id` column. */
  readonly useIndex?: boolean;
  /** Only cells whose obs column holds one of the values (as text). */
  readonly filters?: ReadonlyMap<string, readonly string[]>;
}

/** A run of cells with their totals and whether each passes the filters. */
export interface CountChunk extends Chunk {
  /** Counts of each cell over all genes: what scores are divided by. */
  readonly totals: Float64Array;
  readonly passes: Uint8Array;
}

/** An open file of raw counts. */
export interface Counts {
  readonly cells: Cells;
  /** Gene id of each column, "" where there is none. */
  readonly ids: readonly string[];
  readonly idsFrom: string;
  /** "obs.n_counts", or "row totals" where that column is absent. */
  readonly totalsFrom: string;
  /** Whether counts and totals are both 32-bit floats: the original then divides them in 32 bits (`data/oracle/README.md` of the project's data). */
  readonly single: boolean;
  readonly passing: number;
  /** What a person should know, filled while chunks are read. */
  readonly warnings: string[];
  /** Reads and checks; throws on a count that is negative or no number, and on log-normalised values. */
  chunks(): Generator<CountChunk>;
}

/** Cells per chunk: the rows of a record batch as Hugging Face `datasets` writes them. */
const ROWS = 1000;
/** log1p(counts per million) ends at 13.8, log2 of it at 20: raw counts of hundreds of cells do not stay below. */
const LOGARITHM = 20;
const ENSEMBL = /^ENS[A-Z]*G(R)?\d{6,}/i;

/** Opens a file of counts and decides where ids and totals come from. The caller closes `cells`. */
export async function openCounts(source: string | Blob, { useIndex, filters = new Map() }: CountsOptions = {}): Promise<Counts> {
  const cells = await openCells(source);
  try {
    const [ids, idsFrom] = geneIds(cells, useIndex);
    const totals = cells.obs.names.includes("n_counts") ? totalsOf(cells) : null;
    const passes = passing(cells, filters);
    const counts = {
      cells,
      ids,
      idsFrom,
      totalsFrom: totals ? "obs.n_counts" : "row totals",
      single: cells.single && (totals?.single ?? false),
      passing: passes.reduce((sum, pass) => sum + pass, 0),
      warnings: [] as string[],
    };
    return { ...counts, chunks: () => checkedChunks(counts, totals?.values ?? null, passes) };
  } catch (cause) {
    cells.close();
    throw cause;
  }
}

function fail(cells: Cells, what: string): never {
  throw new Error(`counts: "${cells.path}": ${what}`);
}

function geneIds(cells: Cells, useIndex = false): [readonly string[], string] {
  if (!useIndex && cells.var.names.includes("ensembl_id")) {
    return [cells.var.column("ensembl_id").values.map((id) => String(id ?? "")), "var.ensembl_id"];
  }
  const index = cells.var.index();
  if (useIndex || index.filter((id) => ENSEMBL.test(id)).length > index.length / 2) return [index, "var index"];
  const other = cells.var.names.find((name) => {
    const { kind, values } = cells.var.column(name);
    return kind === "string" && values.filter((id) => ENSEMBL.test(String(id))).length > values.length / 2;
  });
  const remedy = other
    ? `rename var["${other}"], which holds Ensembl ids, to "ensembl_id"`
    : `add the Ensembl gene ids as var["ensembl_id"], or make them the index`;
  return fail(cells, `there is no ensembl_id in var, and its index is not made of Ensembl ids ("${index[0] ?? ""}", ...); ${remedy}`);
}

function totalsOf(cells: Cells): { values: Float64Array; single: boolean } {
  const column = cells.obs.column("n_counts");
  if (column.kind !== "int" && column.kind !== "float")
    fail(cells, `obs["n_counts"] holds ${column.kind} values; it must be the total counts per cell`);
  return { values: Float64Array.from(column.values as (number | null)[], (value) => value ?? NaN), single: column.single };
}

/** 1 for each cell that passes `filter_pass == 1` (if the file has that column, as in the original) and every filter asked for. */
function passing(cells: Cells, filters: ReadonlyMap<string, readonly string[]>): Uint8Array {
  const passes = new Uint8Array(cells.cells).fill(1);
  const require = ({ values }: Column, holds: (value: Column["values"][number]) => boolean) => {
    values.forEach((value, cell) => {
      if (!holds(value)) passes[cell] = 0;
    });
  };
  if (cells.obs.names.includes("filter_pass")) require(cells.obs.column("filter_pass"), (value) => value === true || Number(value) === 1);
  for (const [name, allowed] of filters) require(cells.obs.column(name), (value) => value !== null && allowed.includes(String(value)));
  return passes;
}

function* checkedChunks(counts: Omit<Counts, "chunks">, totals: Float64Array | null, passes: Uint8Array): Generator<CountChunk> {
  const { cells, warnings } = counts;
  let [stored, broken, low, largest] = [0, 0, 0, 0];
  for (const chunk of cells.chunks(ROWS)) {
    const sums = new Float64Array(chunk.rows);
    for (let r = 0; r < chunk.rows; r++) {
      let sum = 0;
      for (let i = chunk.indptr[r]!; i < chunk.indptr[r + 1]!; i++) {
        const x = chunk.data[i]!;
        if (!(x >= 0 && x < Infinity)) refuse(counts, chunk, r, i);
        if (x > largest) largest = x;
        if (x !== 0) stored++;
        if (x !== Math.floor(x)) broken++;
        sum += x;
      }
      sums[r] = sum;
      const total = totals?.[chunk.start + r] ?? sum;
      if (sum > 0 && !(total > 0 && total < Infinity)) {
        fail(
          cells,
          `obs["n_counts"] is ${total} in cell "${cells.obs.index()[chunk.start + r]}", which has counts; it must be the cell's total`,
        );
      }
      // a total over all genes cannot be below the sum of the genes that are here; 0.1 % is float32 and care
      if (total < sum * 0.999) low++;
      if (totals) sums[r] = total;
    }
    if (broken > stored / 2 && largest < LOGARITHM) {
      fail(
        cells,
        `${Math.round((100 * broken) / stored)} % of the values are no whole numbers and the largest is ${largest.toPrecision(4)}: this file looks log-normalised; put the raw UMI counts into X`,
      );
    }
    yield { ...chunk, totals: sums, passes: passes.subarray(chunk.start, chunk.start + chunk.rows) };
  }
  if (broken > 0) warnings.push(`"${cells.path}": ${broken} of ${stored} counts are no whole numbers; raw UMI counts are expected`);
  if (low > 0) warnings.push(`"${cells.path}": obs["n_counts"] is below the sum of the counts in ${low} of ${cells.cells} cells`);
}

function refuse({ cells, ids }: Omit<Counts, "chunks">, chunk: Chunk, row: number, entry: number): never {
  const column = chunk.indices[entry]!;
  const scaled = chunk.data[entry]! < 0 ? " (this file looks scaled or log-normalised)" : "";
  return fail(
    cells,
    `counts[${column}] (gene "${ids[column]}") is ${chunk.data[entry]} in cell "${cells.obs.index()[chunk.start + row]}"; counts must be raw UMI counts${scaled}`,
  );
}

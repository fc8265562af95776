/** Rank value encoding: a cell as its detected genes, the most above their median first (Theodoris et al., Nature 2023, Methods). */

import { refuseOverwrite } from "../files.ts";
import { type CountChunk, type Counts, openCounts } from "./counts.ts";
import { type Batch, type Cell, type Dtype, type Field, MARK, writeDataset } from "./dataset.ts";
import type { Column } from "./h5ad.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** Places of a cell in each model (spec 1.1): V1 2,048, V2 4,096 with `<cls>` and `<eos>`. */
export const PLACES = { V1: 2048, V2: 4096 } as const;

/** Gene columns matched to tokens. A slot is one place in a cell's ranking; several columns may share one, and are then summed. */
export interface Genes {
  /** Slot of each column, -1 where its gene has no token. */
  readonly slots: Int32Array;
  /** Token and median of each slot. */
  readonly tokens: Int32Array;
  readonly medians: Float64Array;
  /** Columns that have a token. */
  readonly known: number;
  /** Columns that were folded into another one. */
  readonly summed: number;
  /** The first few ids without a token. */
  readonly unknown: readonly string[];
  /** Unknown ids that would be known without their version (".15"). */
  readonly versioned: number;
}

/**
 * Matches gene ids to tokens as the original's `sum_ensembl_ids` does (spec 1.4): through the mapping, upper-cased. Only where some
 * two different ids (case as written) mean one gene are columns of one gene summed; else the same id twice gives its token twice.
 */
export function matchGenes(ids: readonly string[], { tokens, medians, mapping }: Vocabulary): Genes {
  const target = (id: string): string | undefined => {
    const gene = mapping.get(id);
    return gene !== undefined && tokens.has(gene) ? gene : undefined;
  };
  const mapped = new Set(ids.filter((id) => target(id) !== undefined));
  const sum = new Set([...mapped].map(target)).size < mapped.size;
  const slotOf = new Map<string, number>();
  const genes: string[] = [];
  const slots = Int32Array.from(ids, (id) => {
    const gene = target(id.toUpperCase());
    if (gene === undefined) return -1;
    const slot = sum ? (slotOf.get(gene) ?? genes.length) : genes.length;
    if (slot === genes.length) genes.push(gene);
    slotOf.set(gene, slot);
    return slot;
  });
  const unknown = ids.filter((_, column) => slots[column]! < 0);
  const known = ids.length - unknown.length;
  return {
    slots,
    tokens: Int32Array.from(genes, (gene) => tokens.get(gene)!),
    medians: Float64Array.from(genes, (gene) => medians.get(gene)!),
    known,
    summed: known - genes.length,
    unknown: unknown.slice(0, 5),
    versioned: unknown.filter((id) => target(id.replace(/\.\d+$/, "").toUpperCase()) !== undefined).length,
  };
}

/** A cell's detected genes in rank order: tokens, scores, and counts per 10,000 before the division by the median. */
export interface Ranked {
  readonly tokens: Int32Array;
  readonly scores: Float64Array;
  readonly counts: Float64Array;
}

/** Counts of one cell: entries [start, end) of `indices` (columns) and `data`, and its total over all genes. */
export interface Entries {
  readonly indices: ArrayLike<number>;
  readonly data: ArrayLike<number>;
  readonly start: number;
  readonly end: number;
  readonly total: number;
}

/**
 * Makes the function that ranks cells: score = x / total * 10,000 / median, in f64 from left to right; genes with x = 0 are not
 * detected; equal scores stand in order of token (spec 15). With `single` the first quotient is rounded to f32, as the original does
 * where counts and totals are f32. Pure but for its scratch memory, runs anywhere.
 */
export function ranker({ slots, tokens, medians }: Genes, single = false): (cell: Entries) => Ranked {
  const sums = new Float64Array(tokens.length); // counts per slot, zero between calls
  const scores = new Float64Array(tokens.length);
  const found = new Int32Array(tokens.length);
  const before = (a: number, b: number) => scores[b]! - scores[a]! || tokens[a]! - tokens[b]!;
  return ({ indices, data, start, end, total }) => {
    let detected = 0;
    for (let i = start; i < end; i++) {
      const slot = slots[indices[i]!]!;
      if (slot < 0 || data[i] === 0) continue;
      if (sums[slot] === 0) found[detected++] = slot;
      sums[slot]! += data[i]!;
    }
    const perTenThousand = (x: number) => (single ? Math.fround(x / total) : x / total) * 10_000;
    const order = found.subarray(0, detected);
    for (const slot of order) scores[slot] = perTenThousand(sums[slot]!) / medians[slot]!;
    order.sort(before);
    const ranked = {
      tokens: new Int32Array(detected),
      scores: new Float64Array(detected),
      counts: new Float64Array(detected),
    };
    for (let rank = 0; rank < detected; rank++) {
      const slot = order[rank]!;
      ranked.tokens[rank] = tokens[slot]!;
      ranked.scores[rank] = scores[slot]!;
      ranked.counts[rank] = perTenThousand(sums[slot]!);
      sums[slot] = 0;
    }
    return ranked;
  };
}

/** The input of a model: V1 the first `places` tokens; V2 `<cls>`, the first `places` - 2, `<eos>`. */
export function enclose(
  tokens: Int32Array,
  { modelVersion, tokens: words }: Vocabulary,
  places: number = PLACES[modelVersion],
): Int32Array {
  if (modelVersion === "V1") return tokens.slice(0, places);
  return Int32Array.of(words.get("<cls>")!, ...tokens.subarray(0, places - 2), words.get("<eos>")!);
}

/** What `tokenize` is told. */
export interface TokenizeOptions {
  /** Paths of .h5ad files; their cells follow one another. */
  readonly inputs: readonly string[];
  readonly vocabulary: Vocabulary;
  /** Must be the vocabulary's version; there to catch a mistake. */
  readonly modelVersion?: "V1" | "V2";
  readonly out: string;
  /** obs column -> dataset column. */
  readonly attributes?: ReadonlyMap<string, string>;
  readonly modelInputSize?: number;
  /** Adds the column `counts`: counts per 10,000 in rank order. */
  readonly keepCounts?: boolean;
  readonly useIndex?: boolean;
  readonly filters?: ReadonlyMap<string, readonly string[]>;
  readonly force?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
}

/** What was done, per file and in all. */
export interface TokenizeReport {
  readonly files: readonly {
    readonly path: string;
    readonly cells: number;
    readonly genes: number;
    readonly known: number;
    readonly summed: number;
    readonly idsFrom: string;
    readonly totalsFrom: string;
  }[];
  /** Cells read, cells written, and why the others were not. */
  readonly cells: number;
  readonly written: number;
  readonly filtered: number;
  readonly empty: number;
  /** Cells with more genes than places. */
  readonly truncated: number;
  /** Tokens written. */
  readonly tokens: number;
  readonly fingerprint: string;
  readonly warnings: readonly string[];
}

/**
 * Tokenizes .h5ad files into a Hugging Face `.dataset` folder, a chunk of cells at a time; the vocabulary is laid beside the shards.
 * Cells without a known gene are dropped and counted.
 * @throws Error, and leaves nothing under `out`, where a file cannot be read, has no ids or no known gene, or holds no raw counts.
 */
export async function tokenize(options: TokenizeOptions): Promise<TokenizeReport> {
  const { inputs, vocabulary, out, attributes = new Map(), keepCounts = false, force } = options;
  const places = options.modelInputSize ?? PLACES[vocabulary.modelVersion];
  if (options.modelVersion && options.modelVersion !== vocabulary.modelVersion) {
    fail(
      `model version ${options.modelVersion} but the dictionary is of ${vocabulary.modelVersion}; name the folder of the other dictionary`,
    );
  }
  if (inputs.length === 0) fail("no input; name at least one .h5ad file");
  if (!(Number.isInteger(places) && places >= 3)) fail(`model input size is ${places}; it must be a whole number of at least 3`);
  for (const column of attributes.values()) {
    if (["input_ids", "counts", "length"].includes(column))
      fail(`an attribute may not be named "${column}"; choose another name after the colon`);
  }
  if (new Set(attributes.values()).size < attributes.size) fail(`two attributes have one name; choose another name after the colon`);
  await refuseOverwrite(out, force, MARK);
  const { fields, total } = await survey(options);

  const files: TokenizeReport["files"][number][] = [];
  const warnings: string[] = [];
  const sum = { cells: 0, written: 0, filtered: 0, empty: 0, truncated: 0, tokens: 0 };
  const batches = async function* (): AsyncGenerator<Batch> {
    for (const path of inputs) {
      const counts = await openCounts(path, options);
      try {
        const genes = match(counts, vocabulary);
        const rank = ranker(genes, counts.single);
        const columns = [...attributes].map(([from, to]): [string, Column["values"]] => [to, counts.cells.obs.column(from).values]);
        for (const chunk of counts.chunks()) {
          yield encodeChunk(chunk, rank);
          options.onProgress?.(sum.cells, total);
        }
        files.push(describe(counts, genes));
        warnings.push(...counts.warnings, ...advice(counts, genes));

        function encodeChunk(chunk: CountChunk, rank: (cell: Entries) => Ranked): Batch {
          const batch: Record<string, Cell[]> = Object.fromEntries(fields.map(({ name }) => [name, []]));
          for (let r = 0; r < chunk.rows; r++) {
            sum.cells++;
            if (!chunk.passes[r]) {
              sum.filtered++;
              continue;
            }
            const { indices, data, indptr, totals } = chunk;
            const ranked = rank({ indices, data, start: indptr[r]!, end: indptr[r + 1]!, total: totals[r]! });
            if (ranked.tokens.length === 0) {
              sum.empty++;
              continue;
            }
            const tokens = enclose(ranked.tokens, vocabulary, places);
            batch.input_ids!.push(tokens);
            if (keepCounts) batch.counts!.push(encloseCounts(ranked.counts, vocabulary, places));
            for (const [name, values] of columns) batch[name]!.push(values[chunk.start + r]!);
            batch.length!.push(tokens.length);
            sum.written++;
            sum.tokens += tokens.length;
            if (ranked.tokens.length > places - (vocabulary.modelVersion === "V1" ? 0 : 2)) sum.truncated++;
          }
          return batch;
        }
      } finally {
        counts.cells.close();
      }
    }
    if (sum.written === 0) fail(`no cell is left: ${sum.filtered} of ${sum.cells} were filtered out, ${sum.empty} have no known gene`);
  };
  const { fingerprint } = await writeDataset(out, fields, batches(), { vocabulary, force });
  if (sum.empty > 0) warnings.push(`${sum.empty} of ${sum.cells} cells have no known gene and were dropped`);
  return { files, ...sum, fingerprint, warnings };
}

/** Counts take the places of their tokens; special tokens have 0. */
function encloseCounts(counts: Float64Array, { modelVersion }: Vocabulary, places: number): Float64Array {
  return modelVersion === "V1" ? counts.slice(0, places) : Float64Array.of(0, ...counts.subarray(0, places - 2), 0);
}

/** Looks at every file before the first is tokenized: whether its genes are known, and what its attributes are. */
async function survey(options: TokenizeOptions): Promise<{ fields: Field[]; total: number }> {
  const { inputs, vocabulary, attributes = new Map(), keepCounts } = options;
  const dtypes = new Map<string, Dtype>();
  let total = 0;
  for (const path of inputs) {
    const counts = await openCounts(path, options);
    try {
      match(counts, vocabulary);
      total += counts.cells.cells;
      for (const [from, to] of attributes) {
        const { kind } = counts.cells.obs.column(from);
        const dtype = ({ string: "string", int: "int64", float: "float64", bool: "bool" } as const)[kind];
        const other = dtypes.get(to) ?? dtype;
        const numeric = [dtype, other].every((d) => d === "int64" || d === "float64");
        if (dtype !== other && !numeric) fail(`obs["${from}"] is ${dtype} in "${path}" but ${other} before; make it one kind in all files`);
        dtypes.set(to, dtype === other ? dtype : "float64");
      }
    } finally {
      counts.cells.close();
    }
  }
  // upstream's dictionaries hold int16 in V1 and Python integers in V2 (spec 14.1)
  const token: Dtype = vocabulary.modelVersion === "V1" && vocabulary.size <= 2 ** 15 ? "int16" : "int32";
  return {
    total,
    fields: [
      { name: "input_ids", dtype: token, list: true },
      ...(keepCounts ? [{ name: "counts", dtype: "float64", list: true } as const] : []),
      ...[...dtypes].map(([name, dtype]) => ({ name, dtype })),
      { name: "length", dtype: "int64" },
    ],
  };
}

function match({ cells, ids, idsFrom }: Counts, vocabulary: Vocabulary): Genes {
  const genes = matchGenes(ids, vocabulary);
  if (genes.known === 0) {
    const remedy =
      genes.versioned > 0 ? "remove the versions (.15) from the ids" : "are they human Ensembl ids, and is this the dictionary meant?";
    fail(
      `"${cells.path}": no gene is known: none of the ${ids.length} ids in ${idsFrom} ("${genes.unknown.join('", "')}", ...); ${remedy}`,
    );
  }
  return genes;
}

function describe({ cells, ids, idsFrom, totalsFrom }: Counts, { known, summed }: Genes): TokenizeReport["files"][number] {
  return { path: cells.path, cells: cells.cells, genes: ids.length, known, summed, idsFrom, totalsFrom };
}

function advice({ cells, ids }: Counts, { versioned, known }: Genes): string[] {
  const warnings: string[] = [];
  if (versioned > 0)
    warnings.push(`"${cells.path}": ${versioned} ids are unknown only for their version (.15); remove it to use these genes`);
  if (known < ids.length / 10)
    warnings.push(`"${cells.path}": only ${known} of ${ids.length} genes are known; is this the dictionary meant?`);
  return warnings;
}

function fail(what: string): never {
  throw new Error(`tokenize: ${what}`);
}

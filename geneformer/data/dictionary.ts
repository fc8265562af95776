/** Token and median dictionaries made from a corpus: the genes detected in it, and how much of each is usual. */

import { type Counts, type CountsOptions, openCounts } from "./counts.ts";
import { makeVocabulary, type Vocabulary } from "./vocabulary.ts";

/** What `buildDictionary` is told. */
export interface DictionaryOptions extends CountsOptions {
  readonly inputs: readonly string[];
  readonly modelVersion: "V1" | "V2";
  /** Values held in memory at a time (8 bytes each); a corpus with more is read again for each group of genes. */
  readonly budget?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** 512 MiB of values. */
const BUDGET = 2 ** 26;

/**
 * Builds the vocabulary of a corpus: the median of a gene is the exact median, over the cells that have it, of count / total * 10,000
 * (spec 1.7; the original estimates it with t-digests). Tokens follow the special ones in order of Ensembl id. A first pass counts how
 * often each gene is detected; then the values of as many genes as `budget` holds are gathered per further pass.
 * @throws Error where a file holds no raw counts, or no gene is detected.
 */
export async function buildDictionary(options: DictionaryOptions): Promise<Vocabulary> {
  const { inputs, modelVersion, budget = BUDGET } = options;
  if (inputs.length === 0) throw new Error("dictionary: no input; name at least one .h5ad file");
  const detections = new Map<string, number>();
  const names = new Map<string, string>();
  let total = 0;
  let done = 0;
  let passes = 1;
  const progress = (cells: number) => {
    done += cells;
    options.onProgress?.(done, total * passes);
  };
  for (const path of inputs) {
    await opened(path, options, async (counts) => {
      total += counts.cells.cells;
      for (const [id, symbol] of symbols(counts)) if (!names.has(id)) names.set(id, symbol);
    });
  }
  for (const path of inputs) {
    await opened(path, options, async (counts) => {
      const found = new Float64Array(counts.ids.length);
      await eachValue(counts, (gene) => found[gene]!++, progress);
      counts.ids.forEach((id, gene) => {
        if (found[gene]! > 0) detections.set(id, (detections.get(id) ?? 0) + found[gene]!);
      });
    });
  }
  const genes = [...detections.keys()].filter((id) => id !== "").sort();
  if (genes.length === 0) throw new Error(`dictionary: no gene with an id is detected in ${inputs.length} file(s); are the counts in X?`);
  const groups = groupsOf(genes, detections, budget);
  passes = 1 + groups.length;
  const medians = new Map<string, number>();
  for (const group of groups) {
    const values = new Map(group.map((id) => [id, { at: 0, data: new Float64Array(detections.get(id)!) }]));
    for (const path of inputs) {
      await opened(path, options, async (counts) => {
        const stores = counts.ids.map((id) => values.get(id));
        const store = (gene: number, value: number) => {
          const held = stores[gene];
          if (held) held.data[held.at++] = value;
        };
        await eachValue(counts, store, progress);
      });
    }
    for (const [id, { data }] of values) medians.set(id, median(data));
  }
  const special = modelVersion === "V1" ? ["<pad>", "<mask>"] : ["<pad>", "<mask>", "<cls>", "<eos>"];
  return makeVocabulary({
    tokens: new Map([...special, ...genes].map((word, token) => [word, token])),
    medians,
    mapping: mappingOf(genes, names),
    names: new Map([...names].filter(([id]) => detections.has(id))),
  });
}

/** Ids to themselves, and upper-case ids and symbols, as the tokenizer looks for them, to the id where they name one gene only. */
function mappingOf(genes: readonly string[], names: ReadonlyMap<string, string>): Map<string, string> {
  const unique = (nameOf: (id: string) => string | undefined) => {
    const owners = new Map<string, string[]>();
    for (const id of genes) {
      const name = nameOf(id)?.toUpperCase();
      if (name) owners.set(name, [...(owners.get(name) ?? []), id]);
    }
    return [...owners].flatMap(([name, [id, ...others]]): [string, string][] => (others.length === 0 ? [[name, id!]] : []));
  };
  return new Map([...unique((id) => names.get(id)), ...unique((id) => id), ...genes.map((id): [string, string] => [id, id])]);
}

async function opened(path: string, options: CountsOptions, use: (counts: Counts) => Promise<void>): Promise<void> {
  const counts = await openCounts(path, options);
  try {
    await use(counts);
  } finally {
    counts.cells.close();
  }
}

/** Calls `use(column, count / total * 10,000)` for each non-zero count of the cells that pass; columns of one id in a cell are summed. */
async function eachValue(counts: Counts, use: (gene: number, value: number) => void, progress: (cells: number) => void): Promise<void> {
  const first = new Map<string, number>();
  const slots = Int32Array.from(counts.ids, (id, column) => {
    if (!first.has(id)) first.set(id, column);
    return first.get(id)!;
  });
  const sums = new Float64Array(slots.length);
  const found = new Int32Array(slots.length);
  for (const { rows, indptr, indices, data, totals, passes } of counts.chunks()) {
    for (let r = 0; r < rows; r++) {
      if (!passes[r]) continue;
      let detected = 0;
      for (let i = indptr[r]!; i < indptr[r + 1]!; i++) {
        const slot = slots[indices[i]!]!;
        if (data[i] === 0) continue;
        if (sums[slot] === 0) found[detected++] = slot;
        sums[slot]! += data[i]!;
      }
      for (let k = 0; k < detected; k++) {
        const slot = found[k]!;
        use(slot, (sums[slot]! / totals[r]!) * 10_000);
        sums[slot] = 0;
      }
    }
    progress(rows);
    await new Promise((turn) => setTimeout(turn)); // else Ctrl-C is not heard
  }
}

/** Symbols by id, where the file has them. */
function symbols({ cells, ids, idsFrom }: Counts): [string, string][] {
  const column = ["gene_symbol", "gene_symbols", "feature_name", "gene_name", "symbol"].find((name) => cells.var.names.includes(name));
  const values = column ? cells.var.column(column).values : idsFrom === "var index" ? [] : cells.var.index();
  return ids.flatMap((id, gene): [string, string][] =>
    values[gene] && id !== "" && values[gene] !== id ? [[id, String(values[gene])]] : [],
  );
}

/** Consecutive genes whose values together fit the budget (one gene alone may exceed it). */
function groupsOf(genes: readonly string[], detections: ReadonlyMap<string, number>, budget: number): string[][] {
  const groups: string[][] = [];
  let room = 0;
  for (const id of genes) {
    room -= detections.get(id)!;
    if (room < 0 || groups.length === 0) {
      groups.push([]);
      room = budget - detections.get(id)!;
    }
    groups.at(-1)!.push(id);
  }
  return groups;
}

/** The middle value, or the mean of the middle two. Sorts in place. */
function median(values: Float64Array): number {
  values.sort();
  const middle = values.length >> 1;
  return values.length % 2 ? values[middle]! : (values[middle - 1]! + values[middle]!) / 2;
}

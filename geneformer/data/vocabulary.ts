/** The dictionaries of a Geneformer: which gene is which token, its median, its other names; read from the original's pickles or from JSON. */

import { type Pickled, readPickle } from "../../nn/pickle.ts";
import { exists, list, readFile, readJson, writeWhole } from "../files.ts";

/** What the tokenizer and every model share. Ids are Ensembl gene ids ("ENSG00000139618"). */
export interface Vocabulary {
  /** V2 has `<cls>` and `<eos>`; V1 has neither. */
  readonly modelVersion: "V1" | "V2";
  /** Largest token + 1: the V of the model. */
  readonly size: number;
  /** "<pad>", "<mask>" (V2 also "<cls>", "<eos>") and Ensembl ids -> token. */
  readonly tokens: ReadonlyMap<string, number>;
  /** Ensembl id -> median of the non-zero counts per 10,000. */
  readonly medians: ReadonlyMap<string, number>;
  /** An id as it stands in data, an old id, or an upper-case symbol -> Ensembl id. */
  readonly mapping: ReadonlyMap<string, string>;
  /** Ensembl id -> gene symbol. */
  readonly names: ReadonlyMap<string, string>;
}

/** The parts a vocabulary is made of; `mapping` without entries means identity. */
export type Parts = Pick<Vocabulary, "tokens" | "medians" | "mapping" | "names">;

/** Words that are no genes. */
export const SPECIAL = ["<pad>", "<mask>", "<cls>", "<eos>"] as const;

/** The subfolder, of a dataset or of a model, that holds the dictionary its tokens were made with. */
export const DICTIONARY = "dictionary";

const FILE = "vocabulary.json";

/** The original's four files by the beginning of their names (EW `geneformer/__init__.py`). */
const PREFIX = {
  tokens: "token_dictionary",
  medians: "gene_median_dictionary",
  mapping: "ensembl_mapping_dict",
  names: "gene_name_id_dict",
} as const;

/**
 * Checks the parts and makes the vocabulary.
 * @throws Error where tokens repeat or are no whole numbers >= 0, a special token is missing or misplaced, or a gene lacks a median > 0.
 */
export function makeVocabulary({ tokens, medians, mapping, names }: Parts): Vocabulary {
  const owner = new Map<number, string>();
  for (const [word, token] of tokens) {
    if (!Number.isInteger(token) || token < 0 || token >= 2 ** 31)
      fail(`the token of "${word}" is ${token}; a token is a whole number >= 0`);
    if (owner.has(token)) fail(`"${word}" and "${owner.get(token)}" share token ${token}; tokens must be unique`);
    owner.set(token, word);
  }
  if (tokens.get("<pad>") !== 0) fail(`"<pad>" is ${tokens.get("<pad>") ?? "missing"}; it must be token 0`);
  if (!tokens.has("<mask>")) fail(`"<mask>" is missing; is this a token dictionary?`);
  if (tokens.has("<cls>") !== tokens.has("<eos>")) fail(`one of "<cls>" and "<eos>" is missing; V2 has both, V1 neither`);
  const genes = [...tokens.keys()].filter((word) => !isSpecial(word));
  for (const gene of genes) {
    const median = medians.get(gene);
    if (median === undefined || !(median > 0 && median < Infinity)) {
      fail(
        `gene ${gene} has median ${median ?? "none"}; every gene with a token needs one above 0 (are the two dictionaries of one version?)`,
      );
    }
  }
  for (const [name, gene] of mapping) if (isSpecial(gene)) fail(`"${name}" is mapped to "${gene}"; that is no gene`);
  return {
    modelVersion: tokens.has("<cls>") ? "V2" : "V1",
    size: tokens.size === 0 ? 0 : [...owner.keys()].reduce((a, b) => Math.max(a, b)) + 1,
    tokens,
    medians,
    mapping: mapping.size > 0 ? mapping : new Map(genes.map((gene) => [gene, gene])),
    names,
  };
}

/** Whether a word of the token dictionary is no gene. */
export function isSpecial(word: string): boolean {
  return (SPECIAL as readonly string[]).includes(word);
}

/**
 * Reads the vocabulary in a folder: ours (`vocabulary.json`), or the original's four dictionaries as .pkl or .json, found by the
 * beginning of their names. The mapping and the names may be absent: ids then map to themselves and have no symbols.
 */
export async function readVocabulary(directory: string): Promise<Vocabulary> {
  const files = await list(directory);
  if (files.includes(FILE)) return parseVocabulary(await readJson(`${directory}/${FILE}`), `${directory}/${FILE}`);
  const read = async (part: keyof typeof PREFIX): Promise<Map<string, unknown>> => {
    const found = files.filter((name) => name.startsWith(PREFIX[part]) && /\.(pkl|pickle|json)$/.test(name));
    if (found.length > 1) fail(`"${directory}" holds ${found.join(" and ")}; leave one of them in the folder`);
    if (found.length === 1) return readEntries(`${directory}/${found[0]}`);
    if (part === "mapping" || part === "names") return new Map();
    return fail(`"${directory}" has neither ${FILE} nor ${PREFIX[part]}*.pkl or .json; name the folder of the dictionaries`);
  };
  return makeVocabulary({
    tokens: typed(await read("tokens"), "number", "token"),
    medians: typed(await read("medians"), "number", "median"),
    mapping: typed(await read("mapping"), "string", "mapping"),
    names: inverted(typed(await read("names"), "string", "name")),
  });
}

/** Reads our JSON; `from` names it in errors. */
export function parseVocabulary(json: unknown, from = FILE): Vocabulary {
  const parts = entries(json, from);
  const part = (name: string) => entries(parts.get(name) ?? fail(`"${from}" has no "${name}"`), `${from}: ${name}`);
  return makeVocabulary({
    tokens: typed(part("tokens"), "number", "token"),
    medians: typed(part("medians"), "number", "median"),
    mapping: typed(part("mapping"), "string", "mapping"),
    names: typed(part("names"), "string", "name"),
  });
}

/** The vocabulary as JSON text, the same bytes for the same vocabulary. */
export function formatVocabulary({ tokens, medians, mapping, names }: Vocabulary): string {
  const object = (map: ReadonlyMap<string, unknown>) => Object.fromEntries(map);
  return `${JSON.stringify({ tokens: object(tokens), medians: object(medians), mapping: object(mapping), names: object(names) }, null, 0)}\n`;
}

/** Writes `vocabulary.json` into a folder (made if need be), whole or not at all. */
export async function writeVocabulary(vocabulary: Vocabulary, directory: string): Promise<void> {
  await writeWhole(`${directory}/${FILE}`, formatVocabulary(vocabulary));
}

/** Whether a folder holds a vocabulary. */
export async function hasVocabulary(directory: string): Promise<boolean> {
  return (await exists(directory)) && (await list(directory)).some((name) => name === FILE || name.startsWith(PREFIX.tokens));
}

/** An Ensembl id, or else its symbol where it has one: what a table or a plot shows. */
export function nameOf(vocabulary: Vocabulary, id: string): string {
  return vocabulary.names.get(id) ?? id;
}

async function readEntries(path: string): Promise<Map<string, unknown>> {
  if (path.endsWith(".json")) return entries(await readJson(path), path);
  let value: Pickled;
  try {
    value = readPickle(await readFile(path));
  } catch (cause) {
    throw new Error(`vocabulary: "${path}": ${(cause as Error).message}`, { cause });
  }
  if (!(value instanceof Map)) fail(`"${path}" holds no dict`);
  return value as Map<string, unknown>;
}

function entries(json: unknown, from: string): Map<string, unknown> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) fail(`"${from}" is no JSON object`);
  return new Map(Object.entries(json as object));
}

function typed(map: Map<string, unknown>, type: "number", what: string): Map<string, number>;
function typed(map: Map<string, unknown>, type: "string", what: string): Map<string, string>;
function typed(map: Map<string, unknown>, type: "number" | "string", what: string): Map<string, unknown> {
  for (const [key, value] of map) {
    if (typeof key !== "string") fail(`the ${what} dictionary has a key ${String(key)} that is no string`);
    if (typeof value !== type) fail(`the ${what} of "${key}" is ${shown(value)}, not a ${type}`);
  }
  return map;
}

/** A value in an error: short ones as they are, of others the kind (JSON would throw on a bigint, and on a list that holds itself). */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "bigint" || Object(value) === value ? `of type ${typeof value}` : String(value);
}

/** The original's name dictionary goes from symbol to id; where two symbols share an id the later one stands, as in the original. */
function inverted(map: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...map].map(([symbol, id]) => [id, symbol]));
}

function fail(what: string): never {
  throw new Error(`vocabulary: ${what}`);
}

/** What genes are called: tokens by symbol or Ensembl id, and back. */

import { isSpecial, type Vocabulary } from "./vocabulary.ts";

/** What a token is called. */
export interface Names {
  /** Its Ensembl id, or null for a token that no dictionary has. */
  id(token: number): string | null;
  /** Its symbol, or null. */
  symbol(token: number): string | null;
}

/** The names of a vocabulary's tokens; without one there are none. */
export function namesOf(vocabulary: Vocabulary | null): Names {
  const ids = new Map([...(vocabulary?.tokens ?? [])].map(([id, token]) => [token, id]));
  const id = (token: number) => ids.get(token) ?? null;
  return { id, symbol: (token) => vocabulary?.names.get(id(token) ?? "") ?? null };
}

/** The tokens of all genes of a vocabulary, in order. */
export const geneTokens = ({ tokens }: Vocabulary): number[] =>
  [...tokens].flatMap(([word, token]) => (isSpecial(word) ? [] : [token])).sort((a, b) => a - b);

/** Changes of one letter that make one word of another (Levenshtein), or `most` + 1 where there are more. */
function distance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + Number(a[i - 1] !== b[j - 1]));
    row = next;
  }
  return Math.min(row[b.length], most + 1);
}

/**
 * The tokens of genes, named by Ensembl id, symbol, or anything else that the vocabulary maps to a gene.
 * @throws RangeError naming each gene that the vocabulary has not, and the nearest symbol.
 */
export function tokensOf(vocabulary: Vocabulary, genes: readonly string[]): number[] {
  const { tokens, mapping, names } = vocabulary;
  const symbols = new Map([...names].filter(([id]) => tokens.has(id)).map(([id, symbol]) => [symbol.toUpperCase(), id]));
  const found = genes.map((gene) => {
    const upper = gene.toUpperCase();
    const id = [gene, upper, mapping.get(gene), mapping.get(upper), symbols.get(upper)].find(
      (name) => name !== undefined && tokens.has(name) && !isSpecial(name),
    );
    return id === undefined ? undefined : tokens.get(id);
  });
  const unknown = genes.filter((_, i) => found[i] === undefined);
  if (unknown.length === 0) return found as number[];
  const nearest = (gene: string): string => {
    const upper = gene.toUpperCase();
    let [best, least] = ["", 4]; // more changes than that are another word
    for (const symbol of symbols.keys()) {
      const changes = distance(upper, symbol, least - 1);
      if (changes < least) [best, least] = [symbol, changes];
    }
    return best && !upper.startsWith("ENSG") ? `"${gene}" (nearest: ${names.get(symbols.get(best) ?? "")})` : `"${gene}"`;
  };
  throw new RangeError(`genes: the dictionary has not ${unknown.map(nearest).join(", ")}; give Ensembl ids or symbols that it has`);
}

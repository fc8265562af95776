/** What a masked language model is asked: places chosen at random, most of them hidden, the genes that stood there as labels. */

import type { Key } from "../src/key.ts";
import type { Vocabulary } from "./data/vocabulary.ts";

export interface MaskOptions {
  /** Share of places that are chosen. */
  readonly probability: number;
  /** The token of <mask>. */
  readonly mask: number;
  /** Tokens in the vocabulary: a random gene is any of them, special ones included, as Hugging Face's collator draws it. */
  readonly vocabulary: number;
  /** Tokens that are never chosen: <pad> and <mask>; <cls> and <eos> too, where they are to be kept. */
  readonly never: ReadonlySet<number>;
}

/** @param keepSpecial never choose <cls> and <eos>; upstream does choose them. */
export function maskOptions(vocabulary: Vocabulary, { probability = 0.15, keepSpecial = false } = {}): MaskOptions {
  const token = (word: string) => vocabulary.tokens.get(word);
  const never = ["<pad>", "<mask>", ...(keepSpecial ? ["<cls>", "<eos>"] : [])].map(token);
  return { probability, mask: token("<mask>") ?? 1, vocabulary: vocabulary.size, never: new Set(never.filter((t) => t !== undefined)) };
}

export interface Masked {
  /** The cell as the model sees it. */
  readonly tokens: Uint32Array;
  /** Chosen places, ascending, and the genes that stood there. */
  readonly places: readonly number[];
  readonly labels: readonly number[];
}

const UNIT = 2 ** -32;

/**
 * Choose places by coin and hide the genes: 80 % <mask>, 10 % a random token, 10 % as they were (Devlin et al. 2019, 3.1;
 * transformers, DataCollatorForLanguageModeling). The same key gives the same mask.
 */
export function maskCell(cell: ArrayLike<number>, key: Key, { probability, mask, vocabulary, never }: MaskOptions): Masked {
  const bits = key.bits(3 * cell.length);
  const tokens = Uint32Array.from(cell);
  const places: number[] = [];
  const labels: number[] = [];
  for (let i = 0; i < cell.length; i++) {
    if (never.has(cell[i]) || bits[3 * i] * UNIT >= probability) continue;
    places.push(i);
    labels.push(cell[i]);
    const kind = bits[3 * i + 1] * UNIT;
    if (kind < 0.8) tokens[i] = mask;
    else if (kind < 0.9) tokens[i] = Math.floor(bits[3 * i + 2] * UNIT * vocabulary);
  }
  return { tokens, places, labels };
}

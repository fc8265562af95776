/** What a masked language model is asked: the shares of the coin, who is never chosen, and that the same key asks the same. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Masked, maskCell, maskOptions } from "../../geneformer/masking.ts";
import { Key } from "../../src/key.ts";
import { V1, V2 } from "./toy.ts";

const [PAD, MASK, CLS, EOS] = [0, 1, 2, 3];
const VOCABULARY = V2.size;

/** Five deviations of a binomial share: one run in a million falls outside, and the key is fixed. */
const near = (hits: number, of: number, share: number) =>
  expect(Math.abs(hits / of - share), `${hits} of ${of}, ${share} expected`).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / of));

describe("of many places", () => {
  const cell = Array.from({ length: 50 }, (_, i) => 4 + (i % 12));
  const masked: Masked[] = Array.from({ length: 4000 }, (_, i) => maskCell(cell, Key.from(1).fold(i), maskOptions(V2)));
  const chosen = masked.flatMap(({ tokens, places, labels }) => places.map((place, i) => ({ now: tokens[place], was: labels[i] })));

  test("15 % are chosen, each as often as the other", () => {
    near(chosen.length, 50 * 4000, 0.15);
    for (let place = 0; place < 50; place++) near(masked.filter(({ places }) => places.includes(place)).length, 4000, 0.15);
  });

  test("of these 80 % are hidden, 10 % another gene, 10 % as they were", () => {
    const share = (of: (change: { now: number; was: number }) => boolean) => chosen.filter(of).length;
    const lucky = 0.1 / VOCABULARY; // a random token that is <mask>, or the gene itself
    near(
      share(({ now }) => now === MASK),
      chosen.length,
      0.8 + lucky,
    );
    near(
      share(({ now, was }) => now === was),
      chosen.length,
      0.1 + lucky,
    );
    near(
      share(({ now, was }) => now !== was && now !== MASK),
      chosen.length,
      0.1 - 2 * lucky,
    );
  });

  test("a random token is any of the vocabulary, <pad>, <cls> and <eos> as often as a gene", () => {
    const drawn = chosen.filter(({ now, was }) => now !== was && now !== MASK).map(({ now }) => now);
    for (const token of [PAD, CLS, EOS]) near(drawn.filter((now) => now === token).length, drawn.length, 1 / (VOCABULARY - 2));
    expect(new Set(drawn)).toEqual(new Set(Array.from({ length: VOCABULARY }, (_, token) => token).filter((token) => token !== MASK)));
  });

  test("another probability chooses another share", () => {
    const half = Array.from({ length: 400 }, (_, i) => maskCell(cell, Key.from(2).fold(i), maskOptions(V2, { probability: 0.5 })));
    near(half.flatMap(({ places }) => places).length, 50 * 400, 0.5);
  });
});

const cells = fc.array(fc.nat({ max: VOCABULARY - 1 }), { maxLength: 60 });
const options = fc.record({ probability: fc.double({ min: 0.01, max: 0.99, noNaN: true }), keepSpecial: fc.boolean() });

test("labels are the genes that stood there, and all else is left alone", () =>
  fc.assert(
    fc.property(cells, fc.nat(), options, (cell, seed, given) => {
      const { tokens, places, labels } = maskCell(cell, Key.from(seed), maskOptions(V2, given));
      expect(tokens).toHaveLength(cell.length);
      expect(labels).toEqual(places.map((place) => cell[place]));
      expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
      expect([...tokens].filter((_, i) => !places.includes(i))).toEqual(cell.filter((_, i) => !places.includes(i)));
      for (const token of tokens) expect(token).toBeLessThan(VOCABULARY);
    }),
  ));

test("<pad> and <mask> are never asked for; <cls> and <eos> are, as upstream does, unless they are to be kept", () => {
  const cell = [CLS, PAD, MASK, 5, EOS];
  const asked = (keepSpecial: boolean) =>
    new Set(
      Array.from({ length: 400 }, (_, i) => maskCell(cell, Key.from(3).fold(i), maskOptions(V2, { keepSpecial }))).flatMap(
        ({ labels }) => labels,
      ),
    );
  expect(asked(false)).toEqual(new Set([CLS, 5, EOS]));
  expect(asked(true)).toEqual(new Set([5]));
});

test("in V1 tokens 2 and 3 are genes, which --keep-special does not keep", () => {
  const { never, vocabulary, mask } = maskOptions(V1, { keepSpecial: true });
  expect([[...never], vocabulary, mask]).toEqual([[PAD, MASK], V1.size, MASK]);
});

test("the same key asks the same, another key something else", () => {
  const cell = Array.from({ length: 40 }, (_, i) => 4 + (i % 12));
  const ask = (n: number) => maskCell(cell, Key.from(7).fold(n), maskOptions(V2));
  expect(ask(1)).toEqual(ask(1));
  expect(ask(2)).not.toEqual(ask(1));
});

test("a cell's mask is written in its key's bits: coin, kind and gene of each place, in this order", () => {
  const cell = Array.from({ length: 30 }, (_, i) => 4 + (i % 12));
  const key = Key.from(11);
  const unit = (word: number) => word / 2 ** 32;
  const words = key.bits(90);
  const { tokens, places } = maskCell(cell, key, maskOptions(V2, { probability: 0.5 }));
  cell.forEach((gene, i) => {
    const [coin, kind, other] = [...words.subarray(3 * i, 3 * i + 3)].map(unit);
    expect(places.includes(i)).toBe(coin < 0.5);
    const changed = kind < 0.8 ? MASK : kind < 0.9 ? Math.floor(other * VOCABULARY) : gene;
    expect(tokens[i]).toBe(coin < 0.5 ? changed : gene);
  });
});

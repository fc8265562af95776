/** Keys: values that fold, and what is drawn from them. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { Key } from "../../src/key.ts";

const N = 20_000;
const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;

test("folding gives another key and changes nothing", () => {
  const key = Key.from(7);
  const words = [...key.words];
  const folds = Array.from({ length: 1000 }, (_, n) => key.fold(n).words.join());
  expect(new Set([...folds, words.join()]).size).toBe(1001);
  expect([...key.words]).toEqual(words);
  expect(key.fold(3).words).toEqual(key.fold(3).words);
  expect(key.fold(2 ** 40).words).not.toEqual(key.fold(0).words);
  expect(key.fold(1).fold(2).words).not.toEqual(key.fold(2).fold(1).words);
});

test("seeds of more than 32 bits are different keys", () => {
  expect(Key.from(5).words).toEqual([5, 0]);
  expect(Key.from(2 ** 32 + 5).words).toEqual([5, 1]);
  for (const seed of [-1, 0.5, Number.NaN, 2 ** 53])
    expect(() => Key.from(seed)).toThrow(new RangeError(`Key.from(seed): a seed is an integer from 0 to 2^53 - 1; got ${seed}`));
});

test("fewer draws are the beginning of more", () => {
  const key = Key.from(1);
  expect([...key.bits(7)]).toEqual([...key.bits(100)].slice(0, 7));
  expect([...key.uniforms(7)]).toEqual([...key.uniforms(100)].slice(0, 7));
  expect([...key.normals(7)]).toEqual([...key.normals(100)].slice(0, 7));
});

test("uniform numbers lie in [0, 1), are exact in f32, and have their mean and variance", () => {
  const draws = Key.from(2).uniforms(N);
  expect(draws.every((u) => u >= 0 && u < 1 && Math.fround(u) === u)).toBe(true);
  expect(Math.abs(mean(draws) - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / N));
  expect(Math.abs(mean(draws.map((u) => (u - 0.5) ** 2)) - 1 / 12)).toBeLessThan(0.003);
});

test("normal numbers have the moments of the normal distribution", () => {
  const draws = Key.from(3).normals(N);
  const moment = (k: number) => mean(draws.map((z) => z ** k));
  expect(Math.abs(moment(1))).toBeLessThan(5 / Math.sqrt(N));
  expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / N));
  expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / N));
  expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / N));
});

test("a permutation holds every number once, and every place is as likely", () => {
  fc.assert(
    fc.property(fc.nat({ max: 60 }), fc.nat(), (n, seed) => {
      expect([...Key.from(seed).permutation(n)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
    }),
    { seed: 1 },
  );
  const counts = new Array<number>(25).fill(0);
  for (let seed = 0; seed < 2500; seed++) for (const [place, value] of Key.from(seed).permutation(5).entries()) counts[5 * place + value]++;
  for (const count of counts) expect(Math.abs(count - 500)).toBeLessThan(5 * Math.sqrt(500 * 0.8));
});

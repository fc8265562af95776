/**
 * Random bits that depend on a key and an index alone, and dropout, which is made of them.
 *
 * Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a keyed bijection of 64 bits, made of
 * additions, rotations and xors, so that WGSL, WebAssembly and TypeScript draw the same bits.
 */

import { DRAWN, DRAWS } from "./cpu/scratch.ts";
import { each, kernel, lanes } from "./kernel.ts";

export type Pair = readonly [number, number];

/** Rotation distances of the eight distinct rounds (Salmon et al. 2011, table 2). */
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24];
/** The key schedule's parity constant, from Skein (Ferguson et al. 2010). */
const PARITY = 0x1bd11bda;

const [A0, A1, A2, A3, B0, B1, B2, B3] = ROTATIONS;

const turned = (x: number, y: number, distance: number): number => ((y << distance) | (y >>> (32 - distance))) ^ x;

/** Threefry-2x32-20 of a counter under a key: two words of 32 bits, written at `at`. Rounds are written out: weights are millions of draws. */
function encrypt(k0: number, k1: number, c0: number, c1: number, to: Uint32Array, at: number): void {
  let x = (c0 + k0) | 0;
  let y = (c1 + k1) | 0;
  // The schedule k0, k1, k2, k0, ... moves on as the rounds do, four at a time.
  let [a, b, c] = [k0, k1, k0 ^ k1 ^ PARITY];
  for (let s = 1; ; s += 2) {
    x = (x + y) | 0;
    y = turned(x, y, A0);
    x = (x + y) | 0;
    y = turned(x, y, A1);
    x = (x + y) | 0;
    y = turned(x, y, A2);
    x = (x + y) | 0;
    y = turned(x, y, A3);
    x = (x + b) | 0;
    y = (y + c + s) | 0;
    if (s === 5) break;
    x = (x + y) | 0;
    y = turned(x, y, B0);
    x = (x + y) | 0;
    y = turned(x, y, B1);
    x = (x + y) | 0;
    y = turned(x, y, B2);
    x = (x + y) | 0;
    y = turned(x, y, B3);
    x = (x + c) | 0;
    y = (y + a + s + 1) | 0;
    [a, b, c] = [c, a, b];
  }
  to[at] = x;
  to[at + 1] = y;
}

const pair = new Uint32Array(2);

/** The two words of one counter. */
export function threefry([k0, k1]: Pair, [c0, c1]: Pair): [number, number] {
  encrypt(k0, k1, c0, c1, pair, 0);
  return [pair[0], pair[1]];
}

/** Those of counters (0, 0), (1, 0), ..., one after the other: without an object a block, for millions of them. */
export function threefryBlocks([k0, k1]: Pair, words: Uint32Array): void {
  for (let i = 0; i < words.length; i += 2) encrypt(k0, k1, i / 2, 0, words, i);
}

/** `threefry(key: vec2u, counter: vec2u) -> vec2u` in WGSL, its rounds written out. */
export const threefryWgsl = /* wgsl */ `
fn threefry(key: vec2u, counter: vec2u) -> vec2u {
  let k2 = key.x ^ key.y ^ ${PARITY}u;
  var x = counter + key;
${Array.from({ length: 20 }, (_, round) => {
  const r = ROTATIONS[round % 8];
  const step = `  x.x += x.y; x.y = ((x.y << ${r}u) | (x.y >> ${32 - r}u)) ^ x.x;`;
  if (round % 4 !== 3) return step;
  const s = (round + 1) / 4;
  const word = ["key.x", "key.y", "k2"];
  return `${step} x += vec2u(${word[s % 3]}, ${word[(s + 1) % 3]} + ${s}u);`;
}).join("\n")}
  return x;
}
// The quarter-word of 16 random bits at place \`which\` of a block.
fn quarter(block: vec2u, which: u32) -> u32 { return (select(block.x, block.y, which >= 2u) >> (16u * (which & 1u))) & 0xffffu; }
`;

/** The same quarter in TypeScript. */
export const quarter = (block: Pair, which: number): number => (block[which >> 1] >>> (16 * (which & 1))) & 0xffff;

/** Draws below this number (of 65,536) drop a value: p in steps of 2^-16. */
export const dropThreshold = (p: number): number => Math.round(p * 65536);

/** What survives is scaled by this, so that the mean stays: a number that f32 holds, so that every device scales by the same. */
export const keepScale = (p: number): number => Math.fround(65536 / (65536 - dropThreshold(p)));

/**
 * y[i] = x[i] * scale where draw[i] >= threshold, else 0. Four neighbours share a block: draw[i] is quarter i % 4 of
 * threefry(threefry(key, site), (i / 4, 0)). Its own gradient: the same kernel on dy draws the same mask.
 */
export const dropout = kernel({
  name: "dropout",
  inputs: { x: "f32", key: "u32" },
  outputs: { y: "f32" },
  params: { n: "u32", threshold: "u32", scale: "f32", site0: "u32", site1: "u32" },
  passes: [
    {
      groups: ({ n }) => lanes(Math.ceil(n / 4)),
      wgsl:
        threefryWgsl +
        each(
          /* wgsl */ `
  let block = threefry(threefry(vec2u(key[0], key[1]), vec2u(p.site0, p.site1)), vec2u(i, 0u));
  for (var which = 0u; which < 4u && 4u * i + which < p.n; which++) {
    y[4u * i + which] = select(0.0, x[4u * i + which] * p.scale, quarter(block, which) >= p.threshold);
  }`,
          "(p.n + 3u) / 4u",
        ),
    },
  ],
  compiled: {
    name: "dropout",
    buffers: ["x", "key", "y"],
    scratch: () => DRAWS,
    split: ({ n }) => ({ pieces: Math.ceil(n / DRAWN), work: DRAWN * 8 }), // by what is drawn together
  },
  loops({ x, y, key }, { n, threshold, scale, site0, site1 }) {
    const folded = threefry([key[0], key[1]], [site0, site1]);
    for (let i = 0; i < n; i += 4) {
      const block = threefry(folded, [i / 4, 0]);
      for (let which = 0; which < 4 && i + which < n; which++) y[i + which] = quarter(block, which) >= threshold ? x[i + which] * scale : 0;
    }
  },
});

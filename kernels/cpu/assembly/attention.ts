/**
 * Flash attention over segments, forward and backward (Dao et al. 2022; kernels/attention.ts says what is computed).
 *
 * Scores stand with a key in each row and 32 queries across, [key][query], so that a vector holds four queries: maxima and sums over keys need
 * nothing across a vector, and all matrix products are strips over panels. Of a segment's keys, one block at a time is in work. A causal tile ends
 * with the last key that its last query sees. Without dropout the key's address is 0.
 */

import { min, pack, packTransposed, PANEL, ROW, strip, whole } from "./panel";
import { put } from "./row";
import { fade, threefry } from "./vector";

/** Most queries in a tile, and most keys in a block: 16 KiB of scores (kernels/cpu/scratch.ts). */
const TILE: u32 = 32;
const KEYS: u32 = 128;
/** Bytes from one key's scores to the next's. */
const KEY: usize = 128;
/** Bytes of 32 rows of a panel. */
const TALL: usize = 2048;
/** Bytes of the folded key, and of the draws of eight queries for a block: two words for four keys each. */
const BITS: usize = 16 + 2048;
/** Parts that the cells of a stream are dealt out to: see `attentionGrad`. */
const SHARES: u32 = 16;
/** Exponentials are powers of 2: e^x = 2^(x log2 e). */
const LOG2E: f32 = 1.44269504;

@inline
function field(tiles: usize, t: u32, which: u32): u32 {
  return load<u32>(tiles + usize(5 * t + which) * 4);
}

/** scores[j][i] = sum over d of a[j][d] b[i][d]; a lies by rows, b in panels of its transpose. */
@inline
function scores(a: usize, step: usize, keys: u32, b: usize, rows: u32, width: u32, to: usize): void {
  for (let i: u32 = 0; i < rows; i += PANEL) strip(a, step, 4, keys, b + usize(i) * width * 4, width, to + usize(i) * 4, KEY, false);
}

/** No weight to keys that a query may not see (`seenByAll`). */
function hide(score: usize, rows: u32, keys: u32, ahead: i32): void {
  for (let j = ahead < 0 ? 0 : ahead + 1; j < i32(keys); j++) {
    const unseen = min(rows, j - ahead); // of the tile's queries, its first
    for (let i: u32 = 0; i < unseen; i++) store<f32>(score + usize(j) * KEY + usize(i) * 4, -Infinity);
  }
}

/** Of a block's keys, those that every query of the tile sees: key j comes after query i where j > i + ahead. */
@inline
function seenByAll(keys: u32, ahead: i32): u32 {
  return ahead < 0 ? 0 : min(keys, u32(ahead) + 1);
}

/**
 * Rows of queries: c[i] = or += sum over the keys j that query i may see of score[j][i] b[j], for a panel b. The others have no weight, but 0 x NaN is NaN:
 * where queries see unlike many keys, each goes by itself.
 */
function ofQueries(score: usize, rows: u32, keys: u32, ahead: i32, b: usize, c: usize, add: bool): void {
  const all = seenByAll(keys, ahead);
  strip(score, 4, KEY, rows, b, all, c, ROW, add);
  for (let i: u32 = 0; all < keys && i < rows; i++) {
    const seen = seenByAll(keys, ahead + i32(i));
    if (seen > all) strip(score + KEY * all + usize(i) * 4, 4, KEY, 1, b + ROW * all, seen - all, c + ROW * i, ROW, true);
  }
}

/** Rows of keys: c[j] += sum over the queries i that see key j of score[j][i] b[i], likewise. */
function ofKeys(score: usize, rows: u32, keys: u32, ahead: i32, b: usize, c: usize): void {
  const all = seenByAll(keys, ahead);
  strip(score, KEY, 4, all, b, rows, c, ROW, true);
  for (let j = all; j < keys; j++) {
    const unseen = u32(i32(j) - ahead); // the tile's queries before it
    if (unseen < rows) strip(score + KEY * j + usize(unseen) * 4, KEY, 4, 1, b + ROW * unseen, rows - unseen, c + ROW * j, ROW, true);
  }
}

/** The folded key of a site, where `draw` looks for it. */
function fold(key: usize, site0: u32, site1: u32, bits: usize): void {
  threefry(load<u32>(key), load<u32>(key, 4), site0, site1, bits + 16, 1);
  store<u32>(bits, load<u32>(bits + 16));
  store<u32>(bits + 4, load<u32>(bits + 48));
}

/** The draws of eight queries from `query` on for keys j and on of their segment, `keys` of them: blocks of four keys, a quarter each. */
function draw(bits: usize, query: u32, head: u32, j: u32, keys: u32): void {
  threefry(load<u32>(bits), load<u32>(bits, 4), query, (head << 16) | (j >> 2), bits + 16, (keys + 3) >> 2);
}

/** Zeros where those draws drop a number of [key][query]: of two keys at a time, a word's halves, so that a row beyond the last may go along. */
function drop(bits: usize, keys: u32, threshold: u32, at: usize): void {
  const low = i32x4.splat(0xffff);
  const least = i32x4.splat(threshold);
  let words = bits + 16;
  for (const end = words + 16 * usize(keys); words < end; words += 32) {
    const words0 = v128.load(words);
    const words1 = v128.load(words, 16);
    const even0 = v128.and(v128.load(at), i32x4.ge_s(v128.and(words0, low), least));
    const even1 = v128.and(v128.load(at, 16), i32x4.ge_s(v128.and(words1, low), least));
    const odd0 = v128.and(v128.load(at, 128), i32x4.ge_s(i32x4.shr_u(words0, 16), least));
    const odd1 = v128.and(v128.load(at, 144), i32x4.ge_s(i32x4.shr_u(words1, 16), least));
    v128.store(at, even0);
    v128.store(at, even1, 16);
    v128.store(at, odd0, 128);
    v128.store(at, odd1, 144);
    at += 2 * KEY;
  }
}

/** dS = P (dP - delta) for eight queries, but for its scale, where dP is. */
function meet(p: usize, dp: usize, keys: u32, delta: usize): void {
  const mean0 = v128.load(delta);
  const mean1 = v128.load(delta, 16);
  for (const end = p + KEY * keys; p < end; p += KEY) {
    const ds0 = f32x4.mul(v128.load(p), f32x4.sub(v128.load(dp), mean0));
    const ds1 = f32x4.mul(v128.load(p, 16), f32x4.sub(v128.load(dp, 16), mean1));
    v128.store(dp, ds0);
    v128.store(dp, ds1, 16);
    dp += KEY;
  }
}

/** A number for each key, `step` bytes apart: the sum of its row of [key][query], of all eights that queries fill, is added. */
function addRows(x: usize, keys: u32, rows: u32, sums: usize, step: usize): void {
  for (const end = x + KEY * keys; x < end; x += KEY) {
    let sum0 = v128.load(x);
    let sum1 = v128.load(x, 16);
    for (let i: usize = 8; i < usize(rows); i += 8) {
      sum0 = f32x4.add(sum0, v128.load(x + i * 4));
      sum1 = f32x4.add(sum1, v128.load(x + i * 4, 16));
    }
    const sum = f32x4.add(sum0, sum1);
    const all = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
    store<f32>(sums, load<f32>(sums) + all);
    sums += step;
  }
}

/** Rows of [rows, width] from panels `tall` bytes high, each times its factor; `next` bytes lie between factors. */
function unpack(panels: usize, tall: usize, rows: u32, width: u32, factors: usize, next: usize, to: usize, step: usize): void {
  for (let i: u32 = 0; i < rows; i++) {
    const factor = v128.load_splat<f32>(factors);
    for (let c: u32 = 0; c < width; c += 4) {
      const x = v128.load(panels + usize(c / PANEL) * tall + usize(i) * ROW + usize(c % PANEL) * 4);
      put(to + usize(c) * 4, f32x4.mul(x, factor), width - c);
    }
    factors += next;
    to += step;
  }
}

/** Rows of zeros. */
function clear(to: usize, rows: u32, width: u32, step: usize): void {
  for (let i: u32 = 0; i < rows; i++) {
    memory.fill(to, 0, usize(width) * 4);
    to += step;
  }
}

/** x = x factor, n numbers, n a multiple of four. */
function multiply(x: usize, n: u32, factor: f32): void {
  const end = x + usize(n) * 4;
  for (; x < end; x += 16) v128.store(x, f32x4.mul(v128.load(x), f32x4.splat(factor)));
}

/** Eight queries' shifts, minus their largest exponent so far, after scores from `at` to `end` times -`factor`; `old` gets what they were. */
function lower(shift: usize, at: usize, end: usize, factor: f32, old: usize): void {
  const factors = f32x4.splat(factor);
  let most0 = f32x4.splat(-f32.MAX_VALUE);
  let most1 = most0;
  for (; at < end; at += KEY) {
    most0 = f32x4.pmax(most0, v128.load(at));
    most1 = f32x4.pmax(most1, v128.load(at, 16));
  }
  const shift0 = v128.load(shift);
  const shift1 = v128.load(shift, 16);
  v128.store(old, shift0);
  v128.store(old, shift1, 16);
  v128.store(shift, f32x4.pmin(shift0, f32x4.mul(most0, factors)));
  v128.store(shift, f32x4.pmin(shift1, f32x4.mul(most1, factors)), 16);
}

/** Eight queries' sums: what is left of them, and what is new. */
function gain(sum: usize, left: usize, more: usize): void {
  v128.store(sum, f32x4.add(f32x4.mul(v128.load(sum), v128.load(left)), v128.load(more)));
  v128.store(sum, f32x4.add(f32x4.mul(v128.load(sum, 16), v128.load(left, 16)), v128.load(more, 16)), 16);
}

/** What eight queries have gathered, in panels, times a factor each. */
function shrink(result: usize, panels: u32, factors: usize): void {
  for (let r: usize = 0; r < 8; r++) {
    const factor = v128.load_splat<f32>(factors + r * 4);
    for (let c: u32 = 0; c < panels; c++) {
      const at = result + usize(c) * TALL + r * ROW;
      const x0 = f32x4.mul(v128.load(at), factor);
      const x1 = f32x4.mul(v128.load(at, 16), factor);
      const x2 = f32x4.mul(v128.load(at, 32), factor);
      const x3 = f32x4.mul(v128.load(at, 48), factor);
      v128.store(at, x0);
      v128.store(at, x1, 16);
      v128.store(at, x2, 32);
      v128.store(at, x3, 48);
    }
  }
}

function forward(
  q: usize, k: usize, v: usize, tiles: usize, key: usize, y: usize, lse: usize, scratch: usize,
  count: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool,
): void {
  const step = usize(heads * width) * 4;
  const panels = whole(width) / PANEL;
  const bits = scratch;
  const queries = bits + BITS; // panels of the tile's transpose
  const score = queries + usize(TILE * width) * 4;
  const result = score + usize(KEYS) * KEY; // panels
  const shift = result + usize(panels) * TALL; // by query: minus the largest score so far, as an exponent of 2
  const sum = shift + TILE * 4; // of the powers of shifted scores
  const values = sum + TILE * 4; // panels of the segment
  const left = bits + 16; // of what eight queries had before a block; draws come later
  const scale: f32 = LOG2E / sqrt<f32>(f32(width));
  if (key) fold(key, site0, site1, bits);
  for (let h: u32 = 0; h < heads; h++) {
    const column = usize(h * width) * 4;
    let packed: u32 = -1;
    for (let t: u32 = 0; t < count; t++) {
      const row0 = field(tiles, t, 0);
      const rows = field(tiles, t, 1) - row0;
      const from = field(tiles, t, 2);
      const to = field(tiles, t, 3);
      const place = row0 - field(tiles, t, 4); // of the first query in its segment
      const seen = causal ? min(to, from + place + rows) : to;
      if (from == to) {
        clear(y + step * row0 + column, rows, width, step);
        for (let i: u32 = 0; i < rows; i++) store<f32>(lse + usize((row0 + i) * heads + h) * 4, 0);
        continue;
      }
      if (from != packed) pack(v + step * from + column, step, to - from, width, values);
      packed = from;
      packTransposed(q + step * row0 + column, step, width, rows, queries);
      for (let i: u32 = 0; i < TILE; i++) {
        store<f32>(shift + usize(i) * 4, f32.MAX_VALUE);
        store<f32>(sum + usize(i) * 4, 0);
      }
      for (let j0 = from; j0 < seen; j0 += KEYS) {
        const keys = min(KEYS, seen - j0);
        scores(k + step * j0 + column, step, keys, queries, rows, width, score);
        const ahead = causal ? i32(place - (j0 - from)) : i32(keys);
        if (causal) hide(score, rows, keys, ahead);
        for (let i: u32 = 0; i < rows; i += 8) {
          const o = usize(i) * 4;
          const end = score + usize(keys) * KEY + o;
          lower(shift + o, score + o, end, -scale, left);
          fade(left, left + 32, 32, -1, shift + o, left); // what is left of what came before
          if (j0 > from) shrink(result + usize(i) * ROW, panels, left);
          fade(score + o, end, KEY, scale, shift + o, left + 32);
          gain(sum + o, left, left + 32);
          if (!key) continue;
          draw(bits, row0 + i, h, j0 - from, keys);
          drop(bits, keys, threshold, score + o);
        }
        for (let c: u32 = 0; c < panels; c++)
          ofQueries(score, rows, keys, ahead, values + usize((to - from) * c + j0 - from) * ROW, result + TALL * c, j0 > from);
      }
      for (let i: u32 = 0; i < rows; i++) {
        const l = load<f32>(sum + usize(i) * 4);
        store<f32>(lse + usize((row0 + i) * heads + h) * 4, Mathf.log(l) - load<f32>(shift + usize(i) * 4) / LOG2E);
        store<f32>(sum + usize(i) * 4, keep / l);
      }
      unpack(result, TALL, rows, width, sum, 4, y + step * row0 + column, step);
    }
  }
}

export function attention(
  q: usize, k: usize, v: usize, tiles: usize, y: usize, lse: usize, scratch: usize,
  count: u32, keyRows: u32, heads: u32, width: u32, causal: bool,
): void {
  forward(q, k, v, tiles, 0, y, lse, scratch, count, heads, 0, 1, 0, 0, width, causal);
}

export function attentionDropped(
  q: usize, k: usize, v: usize, tiles: usize, key: usize, y: usize, lse: usize, scratch: usize,
  count: u32, keyRows: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool,
): void {
  forward(q, k, v, tiles, key, y, lse, scratch, count, heads, threshold, keep, site0, site1, width, causal);
}

/**
 * One head of one segment: tiles t0 up to t1 of queries, and the keys from `from` on, `length` of them. `bits` holds the folded key. The address of the
 * head's gates is 0 where nobody asks for them; a tile's queries beyond its last are zeros, and so is what they add.
 */
function backwardOf(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, dq: usize, dk: usize, dv: usize, gates: usize, bits: usize,
  h: u32, t0: u32, t1: u32, from: u32, length: u32, heads: u32, threshold: u32, keep: f32, width: u32, causal: bool, dropped: bool,
): void {
  const step = usize(heads * width) * 4;
  const panels = whole(width) / PANEL;
  const queriesT = bits + BITS; // of the tile: panels of q and dy, both ways round
  const dyT = queriesT + usize(TILE * width) * 4;
  const queries = dyT + usize(TILE * width) * 4;
  const dyPanels = queries + usize(panels) * TALL;
  const dQueries = dyPanels + usize(panels) * TALL;
  const score = dQueries + usize(panels) * TALL; // becomes the probabilities that met the values
  const dScore = score + usize(KEYS) * KEY; // from dP to dS, but for its scale
  const logs = dScore + usize(KEYS) * KEY; // of the sums, as exponents of 2, negated
  const delta = logs + TILE * 4;
  const factors = delta + TILE * 4; // 1, and the scale of scores
  const keyPanels = factors + 16; // of the segment
  const dKeys = keyPanels + usize(length * panels) * ROW;
  const dValues = dKeys + usize(length * panels) * ROW;
  const scale: f32 = 1 / sqrt<f32>(f32(width));
  store<f32>(factors, 1);
  store<f32>(factors, scale, 4);
  pack(k + step * from, step, length, width, keyPanels);
  memory.fill(dKeys, 0, 2 * usize(length * panels) * ROW);
  for (let t = t0; t < t1; t++) {
    const row0 = field(tiles, t, 0);
    const rows = field(tiles, t, 1) - row0;
    const first = step * row0;
    const place = row0 - field(tiles, t, 4); // of the first query in its segment
    const seen = causal ? min(length, place + rows) : length;
    packTransposed(q + first, step, width, rows, queriesT);
    packTransposed(dy + first, step, width, rows, dyT);
    pack(q + first, step, rows, width, queries);
    pack(dy + first, step, rows, width, dyPanels);
    if (dropped) {
      multiply(dyT, whole(rows) * width, keep);
      multiply(dyPanels, rows * panels * PANEL, keep);
    }
    for (let i: u32 = 0; i < TILE; i++) {
      let sum: f32 = 0;
      if (i < rows) {
        const o = first + step * i;
        for (let c: usize = 0; c < usize(width) * 4; c += 4) sum += load<f32>(dy + o + c) * load<f32>(y + o + c);
      }
      store<f32>(delta + usize(i) * 4, sum);
      store<f32>(logs + usize(i) * 4, i < rows ? -LOG2E * load<f32>(lse + usize((row0 + i) * heads + h) * 4) : 0);
    }
    for (let j0: u32 = 0; j0 < seen; j0 += KEYS) {
      const keys = min(KEYS, seen - j0);
      const block = step * (from + j0);
      scores(k + block, step, keys, queriesT, rows, width, score);
      const ahead = causal ? i32(place - j0) : i32(keys);
      if (causal) hide(score, rows, keys, ahead);
      scores(v + block, step, keys, dyT, rows, width, dScore);
      for (let i: u32 = 0; i < rows; i += 8) {
        const o = usize(i) * 4;
        fade(score + o, score + o + usize(keys) * KEY, KEY, scale * LOG2E, logs + o, bits + 16);
        if (dropped) {
          draw(bits, row0 + i, h, j0, keys);
          drop(bits, keys, threshold, dScore + o);
        }
        meet(score + o, dScore + o, keys, delta + o);
        if (dropped) drop(bits, keys, threshold, score + o);
      }
      if (gates) addRows(dScore, keys, rows, gates + usize((from + j0) * heads) * 4, usize(heads) * 4);
      for (let c: u32 = 0; c < panels; c++) {
        const at = usize(length * c + j0) * ROW;
        const panel = usize(rows * c) * ROW;
        ofKeys(score, rows, keys, ahead, dyPanels + panel, dValues + at);
        ofKeys(dScore, rows, keys, ahead, queries + panel, dKeys + at);
        ofQueries(dScore, rows, keys, ahead, keyPanels + at, dQueries + TALL * c, j0 > 0);
      }
    }
    unpack(dQueries, TALL, rows, width, factors + 4, 0, dq + first, step);
  }
  unpack(dKeys, usize(length) * ROW, length, width, factors + 4, 0, dk + step * from, step);
  unpack(dValues, usize(length) * ROW, length, width, factors, 0, dv + step * from, step);
}

/**
 * Pieces are heads, each in SHARES parts: part s of a head has the segments whose first tile lies in the s-th of as many stretches of the table. Who has
 * a segment writes all of its rows, and zeros to the keys of nobody before it; the last part does so after the last.
 */
function backward(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, key: usize, dq: usize, dkv: usize, gates: usize, scratch: usize,
  count: u32, keyRows: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool, first: u32, end: u32,
): void {
  const step = usize(heads * width) * 4;
  if (key) fold(key, site0, site1, scratch);
  for (let piece = first; piece < end; piece++) {
    const h = piece / SHARES;
    const share = piece % SHARES;
    const column = usize(h * width) * 4;
    const dk = dkv + column;
    const dv = dk + step * keyRows;
    const next = usize(heads) * 4; // bytes from one key's gate to the next's
    const own = gates ? gates + usize(h) * 4 : 0;
    let before: u32 = 0; // where the keys of the segments so far end
    for (let t: u32 = 0; t < count; ) {
      const mine = (t * SHARES) / count == share;
      const row0 = field(tiles, t, 0);
      const from = field(tiles, t, 2);
      const to = field(tiles, t, 3);
      if (from == to) {
        if (mine) clear(dq + step * row0 + column, field(tiles, t, 1) - row0, width, step);
        t++;
        continue;
      }
      const t0 = t++;
      while (t < count && field(tiles, t, 2) == from && field(tiles, t, 3) == to) t++;
      if (mine) {
        clear(dk + step * before, from - before, width, step);
        clear(dv + step * before, from - before, width, step);
        if (own) clear(own + next * before, to - before, 1, next);
        backwardOf(
          q + column, k + column, v + column, y + column, dy + column, lse, tiles, dq + column, dk, dv, own, scratch,
          h, t0, t, from, to - from, heads, threshold, keep, width, causal, key != 0,
        );
      }
      before = to;
    }
    if (share < SHARES - 1) continue;
    clear(dk + step * before, keyRows - before, width, step);
    clear(dv + step * before, keyRows - before, width, step);
    if (own) clear(own + next * before, keyRows - before, 1, next);
  }
}

export function attentionGrad(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, dq: usize, dkv: usize, scratch: usize,
  count: u32, keyCount: u32, rows: u32, keyRows: u32, heads: u32, width: u32, causal: bool, first: u32, end: u32,
): void {
  backward(q, k, v, y, dy, lse, tiles, 0, dq, dkv, 0, scratch, count, keyRows, heads, 0, 1, 0, 0, width, causal, first, end);
}

export function attentionGradGated(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, dq: usize, dkv: usize, gates: usize, scratch: usize,
  count: u32, keyCount: u32, rows: u32, keyRows: u32, heads: u32, width: u32, causal: bool, first: u32, end: u32,
): void {
  backward(q, k, v, y, dy, lse, tiles, 0, dq, dkv, gates, scratch, count, keyRows, heads, 0, 1, 0, 0, width, causal, first, end);
}

export function attentionGradDropped(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, key: usize, dq: usize, dkv: usize, scratch: usize,
  count: u32, keyCount: u32, rows: u32, keyRows: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool,
  first: u32, end: u32,
): void {
  backward(q, k, v, y, dy, lse, tiles, key, dq, dkv, 0, scratch, count, keyRows, heads, threshold, keep, site0, site1, width, causal, first, end);
}

/**
 * Flash attention over segments, forward and backward (Dao et al. 2022; kernels/attention.ts says what is computed).
 *
 * Scores stand with a key in each row and 32 queries across, [key][query], so that a vector holds four queries: maxima and sums over keys need
 * nothing across a vector, and all matrix products are strips over panels. Of a segment's keys, one block at a time is in work. A causal tile ends
 * with the last key that its last query sees.
 */

import { min, pack, packTransposed, PANEL, ROW, strip, whole } from "./panel";
import { fading, threefry } from "./vector";

/** Most queries in a tile, and most keys in a block: 16 KiB of scores (kernels/cpu/scratch.ts). */
const TILE: u32 = 32;
const KEYS: u32 = 128;
/** Bytes from one key's scores to the next's. */
const KEY: usize = 128;
/** Bytes of 32 rows of a panel. */
const TALL: usize = 2048;

@inline
function field(tiles: usize, t: u32, which: u32): u32 {
  return load<u32>(tiles + usize(5 * t + which) * 4);
}

/** scores[j][i] = sum over d of a[j][d] b[i][d]; a lies by rows, b in panels of its transpose. */
@inline
function scores(a: usize, step: usize, keys: u32, b: usize, rows: u32, width: u32, to: usize): void {
  for (let i: u32 = 0; i < rows; i += PANEL) strip(a, step, 4, keys, b + usize(i) * width * 4, width, to + usize(i) * 4, KEY, false);
}

/** No weight to keys that a query may not see: key j of the block comes after query i of the tile where j > i + ahead. */
function hide(score: usize, rows: u32, keys: u32, ahead: i32): void {
  for (let j = ahead < 0 ? 0 : ahead + 1; j < i32(keys); j++) {
    const unseen = min(rows, j - ahead); // of the tile's queries, its first
    for (let i: u32 = 0; i < unseen; i++) store<f32>(score + usize(j) * KEY + usize(i) * 4, -Infinity);
  }
}

/** Ones where the draw for (query, key j of the segment) keeps a probability; every fourth j draws anew. `bits`: the folded key, then room. */
@inline
function kept(bits: usize, queries: v128, head: u32, j: u32, threshold: u32): v128 {
  if ((j & 3) == 0) threefry(load<u32>(bits), load<u32>(bits, 4), queries, i32x4.splat((head << 16) | (j >> 2)), bits + 16);
  const word = v128.load(bits + (j & 2 ? 32 : 16));
  return i32x4.ge_s(v128.and(i32x4.shr_u(word, j & 1 ? 16 : 0), i32x4.splat(0xffff)), i32x4.splat(threshold));
}

/** The folded key of a site, where `kept` looks for it. */
function fold(key: usize, site0: u32, site1: u32, bits: usize): void {
  threefry(load<u32>(key), load<u32>(key, 4), i32x4.splat(site0), i32x4.splat(site1), bits + 16);
  store<u32>(bits, load<u32>(bits + 16));
  store<u32>(bits + 4, load<u32>(bits + 32));
}

/** Rows of [rows, width] from panels 32 rows tall, each times its factor; address 0: rows of zeros. */
function unpack(panels: usize, rows: u32, width: u32, factors: usize, to: usize, step: usize): void {
  for (let i: u32 = 0; i < rows; i++) {
    const factor = panels ? load<f32>(factors + usize(i) * 4) : 0;
    for (let c: u32 = 0; c < width; c++) {
      const x: f32 = panels ? load<f32>(panels + usize(c / PANEL) * TALL + usize(i) * ROW + usize(c % PANEL) * 4) * factor : 0;
      store<f32>(to + usize(c) * 4, x);
    }
    to += step;
  }
}

@inline
function forward(
  q: usize, k: usize, v: usize, tiles: usize, key: usize, y: usize, lse: usize, scratch: usize,
  count: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool, dropped: bool,
): void {
  const step = usize(heads * width) * 4;
  const panels = whole(width) / PANEL;
  const bits = scratch;
  const queries = bits + 48; // panels of the tile's transpose
  const score = queries + usize(TILE * width) * 4;
  const result = score + usize(KEYS) * KEY; // panels
  const most = result + usize(panels) * TALL; // of the scores so far, by query
  const sum = most + TILE * 4; // of their exponentials
  const values = sum + TILE * 4; // panels of the segment
  const scale = f32x4.splat(1 / sqrt<f32>(f32(width)));
  if (dropped) fold(key, site0, site1, bits);
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
        unpack(0, rows, width, 0, y + step * row0 + column, step);
        for (let i: u32 = 0; i < rows; i++) store<f32>(lse + usize((row0 + i) * heads + h) * 4, 0);
        continue;
      }
      if (from != packed) pack(v + step * from + column, step, to - from, width, values);
      packed = from;
      packTransposed(q + step * row0 + column, step, width, rows, queries);
      for (let i: u32 = 0; i < TILE; i++) {
        store<f32>(most + usize(i) * 4, -f32.MAX_VALUE);
        store<f32>(sum + usize(i) * 4, 0);
      }
      for (let j0 = from; j0 < seen; j0 += KEYS) {
        const keys = min(KEYS, seen - j0);
        scores(k + step * j0 + column, step, keys, queries, rows, width, score);
        if (causal) hide(score, rows, keys, place - (j0 - from));
        for (let i: u32 = 0; i < rows; i += 4) {
          const o = usize(i) * 4;
          const end = score + usize(keys) * KEY + o;
          const before = v128.load(most + o);
          let m = before;
          for (let at = score + o; at < end; at += KEY) m = f32x4.pmax(m, f32x4.mul(v128.load(at), scale));
          const shrink = fading(f32x4.sub(before, m));
          let l = f32x4.mul(v128.load(sum + o), shrink);
          const query = i32x4.add(i32x4.splat(row0 + i), i32x4(0, 1, 2, 3));
          let j = j0 - from;
          for (let at = score + o; at < end; at += KEY) {
            let p = fading(f32x4.sub(f32x4.mul(v128.load(at), scale), m));
            l = f32x4.add(l, p);
            if (dropped) p = v128.and(kept(bits, query, h, j++, threshold), f32x4.mul(p, f32x4.splat(keep)));
            v128.store(at, p);
          }
          v128.store(most + o, m);
          v128.store(sum + o, l);
          if (j0 == from) continue;
          v128.store(bits + 16, shrink);
          for (let r: u32 = 0; r < 4; r++) {
            const factor = v128.load_splat<f32>(bits + 16 + usize(r) * 4);
            for (let c: u32 = 0; c < panels * 4; c++) {
              const at = result + usize(c >> 2) * TALL + usize(i + r) * ROW + usize(c & 3) * 16;
              v128.store(at, f32x4.mul(v128.load(at), factor));
            }
          }
        }
        for (let c: u32 = 0; c < panels; c++)
          strip(score, 4, KEY, rows, values + usize((to - from) * c + j0 - from) * ROW, keys, result + TALL * c, ROW, j0 > from);
      }
      for (let i: u32 = 0; i < rows; i++) {
        const l = load<f32>(sum + usize(i) * 4);
        store<f32>(lse + usize((row0 + i) * heads + h) * 4, load<f32>(most + usize(i) * 4) + Mathf.log(l));
        store<f32>(sum + usize(i) * 4, 1 / l);
      }
      unpack(result, rows, width, sum, y + step * row0 + column, step);
    }
  }
}

export function attention(
  q: usize, k: usize, v: usize, tiles: usize, y: usize, lse: usize, scratch: usize,
  count: u32, keyRows: u32, heads: u32, width: u32, causal: bool,
): void {
  forward(q, k, v, tiles, 0, y, lse, scratch, count, heads, 0, 1, 0, 0, width, causal, false);
}

export function attentionDropped(
  q: usize, k: usize, v: usize, tiles: usize, key: usize, y: usize, lse: usize, scratch: usize,
  count: u32, keyRows: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool,
): void {
  forward(q, k, v, tiles, key, y, lse, scratch, count, heads, threshold, keep, site0, site1, width, causal, true);
}

/** Adds what was gathered for the keys of a segment, in panels, to their rows. */
function addRows(panels: usize, rows: u32, width: u32, to: usize, step: usize): void {
  for (let i: u32 = 0; i < rows; i++) {
    for (let c: u32 = 0; c < width; c++) {
      const at = to + usize(c) * 4;
      store<f32>(at, load<f32>(at) + load<f32>(panels + usize((c / PANEL) * rows + i) * ROW + usize(c % PANEL) * 4));
    }
    to += step;
  }
}

@inline
function backward(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, key: usize, dq: usize, dkv: usize, scratch: usize,
  count: u32, keyRows: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool, dropped: bool,
): void {
  const step = usize(heads * width) * 4;
  const panels = whole(width) / PANEL;
  const bits = scratch;
  const queriesT = bits + 48; // of the tile: panels of q and dy, both ways round
  const dyT = queriesT + usize(TILE * width) * 4;
  const queries = dyT + usize(TILE * width) * 4;
  const dyPanels = queries + usize(panels) * TALL;
  const dQueries = dyPanels + usize(panels) * TALL;
  const score = dQueries + usize(panels) * TALL; // becomes the probabilities that met the values
  const dScore = score + usize(KEYS) * KEY; // from dP to dS
  const logs = dScore + usize(KEYS) * KEY;
  const delta = logs + TILE * 4;
  const keyPanels = delta + TILE * 4; // of the segment
  const scale: f32 = 1 / sqrt<f32>(f32(width));
  const dv = dkv + step * keyRows;
  if (dropped) fold(key, site0, site1, bits);
  memory.fill(dkv, 0, 2 * step * keyRows);
  for (let h: u32 = 0; h < heads; h++) {
    const column = usize(h * width) * 4;
    for (let t: u32 = 0; t < count; ) {
      const from = field(tiles, t, 2);
      const length = field(tiles, t, 3) - from;
      if (length == 0) {
        const row0 = field(tiles, t, 0);
        unpack(0, field(tiles, t, 1) - row0, width, 0, dq + step * row0 + column, step);
        t++;
        continue;
      }
      const dKeys = keyPanels + usize(length * panels) * ROW;
      const dValues = dKeys + usize(length * panels) * ROW;
      pack(k + step * from + column, step, length, width, keyPanels);
      memory.fill(dKeys, 0, 2 * usize(length * panels) * ROW);
      for (; t < count && field(tiles, t, 2) == from && field(tiles, t, 3) == from + length; t++) {
        const row0 = field(tiles, t, 0);
        const rows = field(tiles, t, 1) - row0;
        const first = step * row0 + column;
        const place = row0 - field(tiles, t, 4); // of the first query in its segment
        const seen = causal ? min(length, place + rows) : length;
        packTransposed(q + first, step, width, rows, queriesT);
        packTransposed(dy + first, step, width, rows, dyT);
        pack(q + first, step, rows, width, queries);
        pack(dy + first, step, rows, width, dyPanels);
        for (let i: u32 = 0; i < TILE; i++) {
          let sum: f32 = 0;
          if (i < rows) {
            const o = first + step * i;
            for (let c: usize = 0; c < usize(width) * 4; c += 4) sum += load<f32>(dy + o + c) * load<f32>(y + o + c);
          }
          store<f32>(delta + usize(i) * 4, sum);
          store<f32>(logs + usize(i) * 4, i < rows ? load<f32>(lse + usize((row0 + i) * heads + h) * 4) : 0);
        }
        for (let j0: u32 = 0; j0 < seen; j0 += KEYS) {
          const keys = min(KEYS, seen - j0);
          const block = step * (from + j0) + column;
          scores(k + block, step, keys, queriesT, rows, width, score);
          if (causal) hide(score, rows, keys, place - j0);
          scores(v + block, step, keys, dyT, rows, width, dScore);
          for (let i: u32 = 0; i < rows; i += 4) {
            const o = usize(i) * 4;
            const log = v128.load(logs + o);
            const mean = v128.load(delta + o);
            const query = i32x4.add(i32x4.splat(row0 + i), i32x4(0, 1, 2, 3));
            for (let j: u32 = 0; j < keys; j++) {
              const at = usize(j) * KEY + o;
              let p = fading(f32x4.sub(f32x4.mul(v128.load(score + at), f32x4.splat(scale)), log));
              let dp = v128.load(dScore + at);
              if (dropped) {
                const mask = kept(bits, query, h, j0 + j, threshold);
                v128.store(score + at, v128.and(mask, f32x4.mul(p, f32x4.splat(keep))));
                dp = v128.and(mask, f32x4.mul(dp, f32x4.splat(keep)));
              } else v128.store(score + at, p);
              v128.store(dScore + at, f32x4.mul(f32x4.mul(p, f32x4.sub(dp, mean)), f32x4.splat(scale)));
            }
          }
          for (let c: u32 = 0; c < panels; c++) {
            const place = usize(length * c + j0) * ROW;
            const panel = usize(rows * c) * ROW;
            strip(score, KEY, 4, keys, dyPanels + panel, rows, dValues + place, ROW, true);
            strip(dScore, KEY, 4, keys, queries + panel, rows, dKeys + place, ROW, true);
            strip(dScore, 4, KEY, rows, keyPanels + place, keys, dQueries + TALL * c, ROW, j0 > 0);
          }
        }
        for (let i: u32 = 0; i < rows; i++) store<f32>(logs + usize(i) * 4, 1);
        unpack(dQueries, rows, width, logs, dq + first, step);
      }
      addRows(dKeys, length, width, dkv + step * from + column, step);
      addRows(dValues, length, width, dv + step * from + column, step);
    }
  }
}

export function attentionGrad(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, dq: usize, dkv: usize, scratch: usize,
  count: u32, keyCount: u32, rows: u32, keyRows: u32, heads: u32, width: u32, causal: bool,
): void {
  backward(q, k, v, y, dy, lse, tiles, 0, dq, dkv, scratch, count, keyRows, heads, 0, 1, 0, 0, width, causal, false);
}

export function attentionGradDropped(
  q: usize, k: usize, v: usize, y: usize, dy: usize, lse: usize, tiles: usize, key: usize, dq: usize, dkv: usize, scratch: usize,
  count: u32, keyCount: u32, rows: u32, keyRows: u32, heads: u32, threshold: u32, keep: f32, site0: u32, site1: u32, width: u32, causal: bool,
): void {
  backward(q, k, v, y, dy, lse, tiles, key, dq, dkv, scratch, count, keyRows, heads, threshold, keep, site0, site1, width, causal, true);
}

/**
 * One step of AdamW (Loshchilov and Hutter 2019, algorithm 2, as PyTorch orders it) or of Adam (Kingma and Ba 2015), and the clipping that goes
 * before it.
 *
 *   g = scale g + l2 w      m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2      w = w (1 - lr decay)
 *   w = w - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * AdamW has no l2, Adam no decay. What changes each step lies in buffers, `clip` = [norm, scale] and a row of `hyper` for each parameter:
 * [lr, b1, b2, eps, 1 - b1^t, 1 - b2^t, 1 - b1, 1 - b2, decay, l2]. The differences come from the host, in f64: 1 - 0.999 in f32 is wrong by
 * 1e-5 of itself. A negative scale leaves everything as it is: see `unscale`.
 */

import { PART } from "./collect.ts";
import { each, kernel, lanes, type Values } from "./kernel.ts";

/** The scale in `clip` that skips a step. */
const SKIP = -1;

/** Numbers in a row of adamw's `hyper`. */
export const ADAM_ROW = 10;

/** WGSL: the step of number i, whose parameter's row begins at h. */
const step = /* wgsl */ `
  let lr = hyper[h]; let b1 = hyper[h + 1u]; let b2 = hyper[h + 2u]; let eps = hyper[h + 3u];
  let gi = g[i] * clip[1] + hyper[h + 9u] * w[i];
  let mi = b1 * m[i] + hyper[h + 6u] * gi;
  let vi = b2 * v[i] + hyper[h + 7u] * gi * gi;
  m[i] = mi; v[i] = vi;
  w[i] = w[i] * (1.0 - lr * hyper[h + 8u]) - lr / hyper[h + 4u] * mi / (sqrt(vi) / sqrt(hyper[h + 5u]) + eps);`;

/** The same in loops, of the numbers from `first` to before `end`. */
function stepped({ g, hyper, clip, w, m, v }: Readonly<Record<string, Values>>, slot: number, first: number, end: number): void {
  const [lr, b1, b2, eps, c1, c2, d1, d2, decay, l2] = hyper.subarray(slot * ADAM_ROW, (slot + 1) * ADAM_ROW);
  const scale = clip[1];
  if (scale < 0) return;
  const keep = 1 - lr * decay;
  const rate = lr / c1;
  const root = Math.sqrt(c2);
  for (let i = first; i < end; i++) {
    const gi = g[i] * scale + l2 * w[i];
    const mi = b1 * m[i] + d1 * gi;
    const vi = b2 * v[i] + d2 * gi * gi;
    m[i] = mi;
    v[i] = vi;
    w[i] = w[i] * keep - (rate * mi) / (Math.sqrt(vi) / root + eps);
  }
}

export const adamw = kernel({
  name: "adamw",
  inputs: { g: "f32", hyper: "f32", clip: "f32" },
  outputs: { w: "f32", m: "f32", v: "f32" },
  params: { n: "u32", slot: "u32" },
  passes: [
    {
      groups: ({ n }) => lanes(n),
      wgsl: each(/* wgsl */ `
  if (clip[1] < 0.0) { return; }
  let h = p.slot * ${ADAM_ROW}u;${step}`),
    },
  ],
  compiled: {
    name: "adamw",
    buffers: ["g", "hyper", "clip", "w", "m", "v"],
    split: () => ({ over: "n", strides: [1, 0, 0, 1, 1, 1], work: 8 }),
  },
  loops: (buffers, { n, slot }) => stepped(buffers, slot, 0, n),
});

/** Of all parameters together, that lie side by side, each from a multiple of PART on: slots[j] is the row of numbers PART j and on. */
export const adamwTogether = kernel({
  name: "adamwTogether",
  inputs: { g: "f32", slots: "u32", hyper: "f32", clip: "f32" },
  outputs: { w: "f32", m: "f32", v: "f32" },
  params: { n: "u32" },
  passes: [
    {
      groups: ({ n }) => lanes(n),
      wgsl: each(/* wgsl */ `
  if (clip[1] < 0.0) { return; }
  let h = slots[i / ${PART}u] * ${ADAM_ROW}u;${step}`),
    },
  ],
  loops(buffers, { n }) {
    for (let i = 0; i < n; i += PART) stepped(buffers, buffers.slots[i / PART], i, Math.min(n, i + PART));
  },
});

/** What brings a norm down to `most`, where it is larger and `most` is not 0: WGSL, and the same in loops. */
const clipped = "select(p.most / (norm + 1e-6), 1.0, p.most == 0.0 || p.most / (norm + 1e-6) > 1.0)";
const clippedTo = (most: number, norm: number): number => (most > 0 ? Math.min(1, most / (norm + 1e-6)) : 1);

/**
 * clip = [norm, min(1, most / (norm + 1e-6))], norm the root of the sum of `squares` [n] (as torch.nn.utils.clip_grad_norm_). A `most` of 0 clips
 * nothing. A norm that is NaN makes the scale NaN.
 */
export const clipScale = kernel({
  name: "clipScale",
  inputs: { squares: "f32" },
  outputs: { clip: "f32" },
  params: { n: "u32", most: "f32" },
  passes: [
    {
      groups: () => 1,
      wgsl: each(
        /* wgsl */ `
  var sum = 0.0;
  for (var j = 0u; j < p.n; j++) { sum += squares[j]; }
  let norm = sqrt(sum);
  clip[0] = norm;
  clip[1] = ${clipped};`,
        "1u",
      ),
    },
  ],
  loops({ squares, clip }, { n, most }) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += squares[j];
    const norm = Math.sqrt(sum);
    clip[0] = norm;
    clip[1] = clippedTo(most, norm);
  },
});

/**
 * The same of gradients of a loss that was multiplied by `state[0]`, so that numbers rounded to f16 on the way do not vanish, and what becomes of that
 * factor (Micikevicius et al. 2018, "Mixed precision training", as torch.amp.GradScaler): clip = [norm, scale], both of the gradients as they would be
 * without it. Where one of them overflowed, the scale is -1, so that the step is skipped, and the factor is multiplied by `backoff`; after `interval` steps
 * in which none did, by `growth`.   `state` = [factor, steps since it changed]
 */
export const unscale = kernel({
  name: "unscale",
  inputs: { squares: "f32" },
  outputs: { clip: "f32", state: "f32" },
  params: { n: "u32", most: "f32", growth: "f32", backoff: "f32", interval: "f32" },
  passes: [
    {
      groups: () => 1,
      wgsl: each(
        /* wgsl */ `
  var sum = 0.0;
  for (var j = 0u; j < p.n; j++) { sum += squares[j]; }
  let factor = state[0];
  let norm = sqrt(sum) / factor;
  clip[0] = norm;
  if ((bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u) { // NaN or Infinity
    clip[1] = ${SKIP}.0;
    state[0] = factor * p.backoff;
    state[1] = 0.0;
    return;
  }
  clip[1] = ${clipped} / factor;
  let grow = state[1] + 1.0 >= p.interval;
  state[0] = select(factor, factor * p.growth, grow);
  state[1] = select(state[1] + 1.0, 0.0, grow);`,
        "1u",
      ),
    },
  ],
  loops({ squares, clip, state }, { n, most, growth, backoff, interval }) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += squares[j];
    const [factor, steps] = state;
    const finite = Number.isFinite(Math.fround(sum)); // what f32 cannot hold has overflowed, in f64 too
    const norm = (finite ? Math.sqrt(sum) : Math.fround(sum)) / factor;
    const grow = steps + 1 >= interval;
    clip[0] = norm;
    clip[1] = finite ? clippedTo(most, norm) / factor : SKIP;
    state[0] = finite ? (grow ? factor * growth : factor) : factor * backoff;
    state[1] = finite && !grow ? steps + 1 : 0;
  },
});

/**
 * One step of AdamW (Loshchilov and Hutter 2019, algorithm 2, as PyTorch orders it), and the clipping that goes before it.
 *
 *   w = w (1 - lr decay)      m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2      g the clipped gradient
 *   w = w - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * What changes each step lies in buffers: `hyper` = [lr, b1, b2, eps, 1 - b1^t, 1 - b2^t, 1 - b1, 1 - b2] and `clip` = [norm, scale]. The
 * differences come from the host, in f64: 1 - 0.999 in f32 is wrong by 1e-5 of itself.
 */

import { each, kernel, lanes } from "./kernel.ts";

export const adamw = kernel({
  name: "adamw",
  inputs: { g: "f32", hyper: "f32", clip: "f32" },
  outputs: { w: "f32", m: "f32", v: "f32" },
  params: { n: "u32", decay: "f32" },
  passes: [
    {
      groups: ({ n }) => lanes(n),
      wgsl: each(/* wgsl */ `
  let lr = hyper[0]; let b1 = hyper[1]; let b2 = hyper[2]; let eps = hyper[3];
  let gi = g[i] * clip[1];
  let mi = b1 * m[i] + hyper[6] * gi;
  let vi = b2 * v[i] + hyper[7] * gi * gi;
  m[i] = mi; v[i] = vi;
  w[i] = w[i] * (1.0 - lr * p.decay) - lr / hyper[4] * mi / (sqrt(vi) / sqrt(hyper[5]) + eps);`),
    },
  ],
  compiled: { name: "adamw", buffers: ["g", "hyper", "clip", "w", "m", "v"] },
  loops({ g, hyper, clip, w, m, v }, { n, decay }) {
    const [lr, b1, b2, eps, c1, c2, d1, d2] = hyper;
    const scale = clip[1];
    const keep = 1 - lr * decay;
    const rate = lr / c1;
    const root = Math.sqrt(c2);
    for (let i = 0; i < n; i++) {
      const gi = g[i] * scale;
      const mi = b1 * m[i] + d1 * gi;
      const vi = b2 * v[i] + d2 * gi * gi;
      m[i] = mi;
      v[i] = vi;
      w[i] = w[i] * keep - (rate * mi) / (Math.sqrt(vi) / root + eps);
    }
  },
});

/** clip = [norm, min(1, most / (norm + 1e-6))], norm the root of the sum of `squares` [n] (as torch.nn.utils.clip_grad_norm_). A `most` of 0 clips nothing. */
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
  clip[1] = select(1.0, min(1.0, p.most / (norm + 1e-6)), p.most > 0.0);`,
        "1u",
      ),
    },
  ],
  loops({ squares, clip }, { n, most }) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += squares[j];
    const norm = Math.sqrt(sum);
    clip[0] = norm;
    clip[1] = most > 0 ? Math.min(1, most / (norm + 1e-6)) : 1;
  },
});

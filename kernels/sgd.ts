/**
 * One step of gradient descent with momentum, as torch.optim.SGD orders it (its momentum: Sutskever et al. 2013, with the rate outside).
 *
 *   g = scale g + decay w      m = momentum m + share g      w = w - lr (direct g + held m)
 *
 * Plain momentum goes by m alone; Nesterov's by g + momentum m. `clip` = [norm, scale], and `hyper` has a row for each parameter:
 * [lr, decay, momentum, share, direct, held].
 */

import { each, kernel, lanes, variants } from "./kernel.ts";

/** Numbers in a row of sgd's `hyper`. */
export const SGD_ROW = 6;

/** Without momentum there is no m, and w = w - lr g. */
export const sgd = variants("sgd", (momentum: boolean) =>
  kernel({
    name: momentum ? "sgd momentum" : "sgd",
    inputs: { g: "f32", hyper: "f32", clip: "f32" },
    outputs: { w: "f32", ...(momentum && ({ m: "f32" } as const)) } as { w: "f32"; m: "f32" },
    params: { n: "u32", slot: "u32" },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl: each(/* wgsl */ `
  if (clip[1] < 0.0) { return; } // a step to be skipped (kernels/adamw.ts)
  let h = p.slot * ${SGD_ROW}u;
  let gi = g[i] * clip[1] + hyper[h + 1u] * w[i];
  ${
    momentum
      ? `let mi = hyper[h + 2u] * m[i] + hyper[h + 3u] * gi;
  m[i] = mi;
  w[i] = w[i] - hyper[h] * (hyper[h + 4u] * gi + hyper[h + 5u] * mi);`
      : "w[i] = w[i] - hyper[h] * gi;"
  }`),
      },
    ],
    compiled: {
      name: "sgd",
      buffers: ["g", "hyper", "clip", "w", momentum ? "m" : null],
      split: () => ({ over: "n", strides: [1, 0, 0, 1, 1], work: 4 }),
    },
    loops({ g, hyper, clip, w, m }, { n, slot }) {
      const [lr, decay, held, share, direct, along] = hyper.subarray(slot * SGD_ROW, (slot + 1) * SGD_ROW);
      const scale = clip[1];
      if (scale < 0) return;
      for (let i = 0; i < n; i++) {
        const gi = g[i] * scale + decay * w[i];
        if (!momentum) {
          w[i] -= lr * gi;
          continue;
        }
        m[i] = held * m[i] + share * gi;
        w[i] -= lr * (direct * gi + along * m[i]);
      }
    },
  }),
);

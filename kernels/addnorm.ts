/**
 * A residual, dropped or not, and the layer norm of the sum, in one reading: what stands twice in every layer of a BERT.
 *
 *     h = x + dropout(r)        y = (h - mean) / sqrt(variance + eps) * weight + bias
 *
 * By itself each of the three would read and write all rows once. The draws are those of `dropout`, so its kernel makes r's gradient of h's.
 */

import { addNormScratch } from "./cpu/scratch.ts";
import { type Arrays, kernel, LANES, variants } from "./kernel.ts";
import { normed, normRows } from "./layernorm.ts";
import { type Pair, quarter, threefry, threefryWgsl } from "./random.ts";
import { eachRow } from "./rows.ts";

const draws = { threshold: "u32", scale: "f32", site0: "u32", site1: "u32" } as const;

/** Blocks of four draws may straddle two rows: a lane takes the part of a block that is in its own. */
const dropped = /* wgsl */ `
  let site = threefry(vec2u(key[0], key[1]), vec2u(p.site0, p.site1));
  for (var block = start / 4u + lane; 4u * block < start + p.cols; block += ${LANES}u) {
    let bits = threefry(site, vec2u(block, 0u));
    for (var i = max(start, 4u * block); i < min(start + p.cols, 4u * block + 4u); i++) {
      h[i] = x[i] + select(0.0, r[i] * p.scale, quarter(bits, i % 4u) >= p.threshold);
    }
  }
  storageBarrier();`;
const whole = /* wgsl */ `
  for (var i = start + lane; i < start + p.cols; i += ${LANES}u) { h[i] = x[i] + r[i]; }`;

/** `stats` keeps each row's mean and 1 / sqrt(variance + eps), [rows, 2], as `layerNorm` does.   x, r, h, y [rows, cols] */
export const addNorm = variants("addNorm", (drops: boolean) =>
  kernel({
    name: drops ? "addNorm dropped" : "addNorm",
    inputs: { x: "f32", r: "f32", weight: "f32", bias: "f32", ...(drops && { key: "u32" as const }) },
    outputs: { h: "f32", y: "f32", stats: "f32" },
    params: { rows: "u32", cols: "u32", eps: "f32", ...(drops && draws) },
    passes: [
      {
        groups: ({ rows }) => rows,
        wgsl: eachRow(`${drops ? dropped : whole}${normed("h")}`, drops ? threefryWgsl : ""),
      },
    ],
    compiled: {
      name: drops ? "addNormDropped" : "addNorm",
      buffers: ["x", "r", "weight", "bias", ...(drops ? ["key"] : []), "h", "y", "stats"],
      ...(drops && { scratch: ({ cols }) => addNormScratch(cols) }),
      split: ({ rows, cols }) => ({ pieces: rows, work: (drops ? 12 : 6) * cols }),
    },
    loops(buffers, { rows, cols, eps, ...site }) {
      const { x, r, h } = buffers;
      const { key } = buffers as Partial<Arrays<{ key: "u32" }>>;
      const { threshold = 0, scale = 1, site0 = 0, site1 = 0 } = site as Readonly<Record<string, number>>;
      const folded = key && threefry([key[0], key[1]], [site0, site1]);
      let bits: Pair = [0, 0];
      for (let i = 0; i < rows * cols; i++) {
        if (folded && i % 4 === 0) bits = threefry(folded, [i / 4, 0]);
        h[i] = x[i] + (quarter(bits, i % 4) >= threshold ? r[i] * scale : 0);
      }
      normRows(h, buffers, { rows, cols, eps });
    },
  }),
);

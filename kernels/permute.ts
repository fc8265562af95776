/** Moving numbers without changing them: axes in another order, a window of a tensor (a slice, or a pad around it), a tensor laid into another. */

import { coordinates, eachLine, place, SIZES, strides } from "./axes.ts";
import { AXES } from "./cpu/scratch.ts";
import { type Dtype, each, kernel, lanes, variants } from "./kernel.ts";

/** What moves: whole words, whatever they stand for. */
export type Word = Exclude<Dtype, "f16">;

/** y[c0, ... c4] = x[c0 * s0 + ... + c4 * s4]: y's n elements have last sizes n1 ... n4, s are strides in x; 0 repeats what lies along that axis. */
export const permute = variants("permute", (dtype: Word) =>
  kernel({
    name: `permute ${dtype}`,
    inputs: { x: dtype },
    outputs: { y: dtype },
    params: { ...SIZES, ...strides("s") },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl: each(`${coordinates} y[i] = x[${place("s")}];`),
      },
    ],
    compiled: {
      name: "permute",
      buffers: ["x", "y"],
      scratch: () => AXES,
      split: ({ n }) => ({ pieces: n, work: 2, together: 16 }),
    },
    loops({ x, y }, p) {
      eachLine(p, ["s"], (i, at) => {
        for (let c4 = 0; c4 < p.n4; c4++) y[i + c4] = x[at + c4 * p.s4];
      });
    },
  }),
);

/**
 * y[outer, c, inner] = x[outer, c + start, inner] where that lies in x, else 0: along one axis, of `size` in y and `whole` in x.
 * A positive start slices, a negative one pads: each is the other's gradient.
 */
export const window = variants("window", (dtype: Word) =>
  kernel({
    name: `window ${dtype}`,
    inputs: { x: dtype },
    outputs: { y: dtype },
    params: { n: "u32", size: "u32", whole: "u32", inner: "u32", start: "i32" },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl: each(/* wgsl */ `
  let c = i32(i / p.inner % p.size) + p.start;
  let outer = i / (p.inner * p.size);
  y[i] = ${dtype}();
  if (c >= 0 && c < i32(p.whole)) { y[i] = x[(outer * p.whole + u32(c)) * p.inner + i % p.inner]; }`),
      },
    ],
    compiled: { name: "window", buffers: ["x", "y"], split: ({ n }) => ({ pieces: n, work: 1, together: 16 }) },
    loops({ x, y }, { n, size, whole, inner, start }) {
      for (let i = 0, block = 0; i < n; i += inner, block++) {
        const c = (block % size) + start;
        const at = (Math.floor(block / size) * whole + c) * inner;
        for (let j = 0; j < inner; j++) y[i + j] = c >= 0 && c < whole ? x[at + j] : 0;
      }
    },
  }),
);

/**
 * y[outer, c + start, inner] = x[outer, c, inner], in place: x's n elements are laid into y along one axis, of `size` in x and `whole` in y.
 * The rest of y stays as it is.
 */
export const paste = variants("paste", (dtype: Word) =>
  kernel({
    name: `paste ${dtype}`,
    inputs: { x: dtype },
    outputs: { y: dtype },
    params: { n: "u32", size: "u32", whole: "u32", inner: "u32", start: "u32" },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl: each(/* wgsl */ `
  let block = p.inner * p.size;
  y[(i / block * p.whole + p.start) * p.inner + i % block] = x[i];`),
      },
    ],
    compiled: { name: "paste", buffers: ["x", "y"], split: ({ n }) => ({ pieces: n, work: 1, together: 16 }) },
    loops({ x, y }, { n, size, whole, inner, start }) {
      const block = size * inner;
      for (let i = 0, to = start * inner; i < n; i += block, to += whole * inner) for (let j = 0; j < block; j++) y[to + j] = x[i + j];
    },
  }),
);

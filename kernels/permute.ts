/** Moving numbers without changing them: axes in another order, a window of a tensor (a slice, or a pad around it), a tensor laid into another. */

import { coordinates } from "./axes.ts";
import { type Dtype, each, kernel, lanes, variants } from "./kernel.ts";

/** What moves: whole words, whatever they stand for. */
export type Word = Exclude<Dtype, "f16">;

/** y[c0, ... c4] = x[c0 * s0 + ... + c4 * s4]: y's n elements have last sizes n1 ... n4, s are strides in x; 0 repeats what lies along that axis. */
export const permute = variants("permute", (dtype: Word) =>
  kernel({
    name: `permute ${dtype}`,
    inputs: { x: dtype },
    outputs: { y: dtype },
    params: { n: "u32", n1: "u32", n2: "u32", n3: "u32", n4: "u32", s0: "u32", s1: "u32", s2: "u32", s3: "u32", s4: "u32" },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl: each(`${coordinates} y[i] = x[c0 * p.s0 + c1 * p.s1 + c2 * p.s2 + c3 * p.s3 + c4 * p.s4];`),
      },
    ],
    loops({ x, y }, { n, n1, n2, n3, n4, s0, s1, s2, s3, s4 }) {
      if (n === 0) return;
      let i = 0;
      for (let c0 = 0; c0 < n / (n1 * n2 * n3 * n4); c0++)
        for (let c1 = 0; c1 < n1; c1++)
          for (let c2 = 0; c2 < n2; c2++)
            for (let c3 = 0; c3 < n3; c3++) {
              const at = c0 * s0 + c1 * s1 + c2 * s2 + c3 * s3;
              for (let c4 = 0; c4 < n4; c4++) y[i++] = x[at + c4 * s4];
            }
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
    loops({ x, y }, { n, size, whole, inner, start }) {
      const block = size * inner;
      for (let i = 0, to = start * inner; i < n; i += block, to += whole * inner) for (let j = 0; j < block; j++) y[to + j] = x[i + j];
    },
  }),
);

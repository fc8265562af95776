/** Numbers in another dtype. f16 is for storage: its bits lie two to a word, and whatever becomes of them goes through f32. */

import { isNan } from "./elementwise.ts";
import { fromHalf, toHalf } from "./half.ts";
import { type Dtype, each, kernel, lanes, variants } from "./kernel.ts";

/** The least f32 that rounds to infinity in f16, and the largest number that f16 holds. */
const BEYOND = 65520;
const LARGEST = 65504;

/**
 * A conversion to an integer that does not fit, and a pack of what f16 does not hold, have no value that WGSL promises (WGSL, 15.7.6 and 17.9): both
 * are kept from it.
 */
const library = /* wgsl */ `${isNan}
fn toU32(x: f32) -> u32 {
  if (isNan(x) || x <= 0.0) { return 0u; }
  if (x >= 4294967296.0) { return 0xffffffffu; }
  return u32(x);
}
fn toI32(x: f32) -> i32 {
  if (isNan(x)) { return 0; }
  if (x >= 2147483648.0) { return 0x7fffffff; }
  if (x <= -2147483648.0) { return -0x7fffffff - 1; }
  return i32(x);
}
fn toHalf(x: f32) -> u32 {
  let sign = (bitcast<u32>(x) >> 16u) & 0x8000u;
  if (isNan(x)) { return 0x7e00u; }
  if (abs(x) >= ${BEYOND}.0) { return sign | 0x7c00u; }
  return pack2x16float(vec2f(clamp(x, -${LARGEST}.0, ${LARGEST}.0), 0.0));
}
fn fromHalf(bits: u32) -> f32 {
  if ((bits & 0x7c00u) == 0x7c00u) { return bitcast<f32>(((bits & 0x8000u) << 16u) | 0x7f800000u | ((bits & 0x3ffu) << 13u)); }
  return unpack2x16float(bits).x;
}
`;

/** In the order of `assembly/cast.ts`. */
export const DTYPES: readonly Dtype[] = ["f32", "u32", "i32", "f16"];

/** An f32 in WGSL as another dtype, and what loops do. */
const fromFloat: Record<Dtype, readonly [wgsl: string, js: (x: number) => number]> = {
  f32: ["v", (x) => x],
  u32: ["toU32(v)", (x) => Math.min(Math.max(Math.trunc(x) || 0, 0), 0xffffffff)],
  i32: ["toI32(v)", (x) => Math.min(Math.max(Math.trunc(x) || 0, -0x80000000), 0x7fffffff)],
  f16: ["toHalf(v)", (x) => toHalf(Math.fround(x))],
};

/**
 * y[i] = x[i] in another dtype, from and to f32, u32, i32 and f16.
 *
 * To an integer: truncated toward zero; what does not fit becomes the nearest that does, NaN becomes 0. Between u32 and i32 the bits stay.
 * To f16: the nearest, ties to even; from 65,520 on infinity. A device that computes WGSL may take either neighbour in f16 and, from integers
 * past 2^24, in f32, and may take numbers that are subnormal in f16 for 0.
 */
export const cast = variants("cast", (source: Dtype, target: Dtype) => {
  const integers = source !== "f16" && source !== "f32" && target !== "f16" && target !== "f32";
  const read = (i: string) => (source === "f16" ? `fromHalf((x[${i} / 2u] >> (16u * (${i} % 2u))) & 0xffffu)` : `f32(x[${i}])`);
  const [wgsl, convert] = fromFloat[target];
  const value = (i: string) => wgsl.replace("v", read(i));
  return kernel({
    name: `cast ${source} ${target}`,
    inputs: { x: source },
    outputs: { y: target },
    params: { n: "u32" },
    passes: [
      target === "f16"
        ? {
            groups: ({ n }) => lanes(Math.ceil(n / 2)),
            // a lane has a word; beyond the end of an odd number of halves lies nothing
            wgsl:
              library +
              each(
                `var word = ${value("(2u * i)")}; if (2u * i + 1u < p.n) { word |= ${value("(2u * i + 1u)")} << 16u; } y[i] = word;`,
                "(p.n + 1u) / 2u",
              ),
          }
        : { groups: ({ n }) => lanes(n), wgsl: library + each(`y[i] = ${integers ? `${target}(x[i])` : value("i")};`) },
    ],
    compiled: {
      name: "cast",
      buffers: ["x", "y"],
      constants: [DTYPES.indexOf(source), DTYPES.indexOf(target)],
      split: () => ({ over: "n", strides: [source, target].map((dtype) => (dtype === "f16" ? 0.5 : 1)), work: 2, together: 16 }),
    },
    loops({ x, y }, { n }) {
      for (let i = 0; i < n; i++) {
        const v = source === "f16" ? fromHalf(x[i]) : x[i];
        y[i] = integers ? v : convert(v); // a typed array takes integers modulo 2^32
      }
    },
  });
});

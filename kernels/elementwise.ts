/**
 * Elementwise maps and broadcasting zips. Each is one line: a WGSL expression and the same expression in JavaScript.
 *
 * Infinities and NaN go through all of them as through JavaScript's. WGSL lets an implementation assume that there are none (WGSL, 15.7.2), and
 * some do: they take `x != x` for false and give max(NaN, 0) as 0. So nothing here rests on max, min, clamp, sign or `!=`, but on `<`, `==` and
 * select, and on bits. Subnormal numbers may count as 0 there.
 */

import { coordinates, eachLine, place, SIZES, strides } from "./axes.ts";
import { operandScratch } from "./cpu/scratch.ts";
import { each, kernel, lanes, variants } from "./kernel.ts";

/** 2 / sqrt(pi) */
const TWO_OVER_SQRT_PI = 1.1283791670955126;

/** The error function to 1e-15: erf(x) = 2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!! (Abramowitz and Stegun 7.1.6; all terms of one sign). */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x); // 1 - erf(6) is 2e-17
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return TWO_OVER_SQRT_PI * Math.exp(-x * x) * sum;
}

/**
 * erf in WGSL. Up to 1 its power series about 0 (Abramowitz and Stegun 7.1.5), ten terms; above, their formula 7.1.26 through
 * t = 1 / (1 + px), whose error of 1.5e-7 is near an ulp there.
 */
const erfWgsl = /* wgsl */ `
fn erf(v: f32) -> f32 {
  let x = abs(v);
  if (x < 1.0) {
    let s = x * x;
    var sum = 0.0;
    ${Array.from({ length: 11 }, (_, i) => {
      const n = 10 - i;
      let factorial = 1;
      for (let f = 2; f <= n; f++) factorial *= f;
      return `sum = sum * s + ${((n % 2 ? -1 : 1) / (factorial * (2 * n + 1))).toExponential(10)};`;
    }).join(" ")}
    return sign(v) * ${TWO_OVER_SQRT_PI} * x * sum;
  }
  let t = 1.0 / (1.0 + 0.3275911 * x);
  let y = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(v) * (1.0 - y * exp(-min(x * x, 80.0)));
}`;

const HALF = Math.SQRT1_2;
const DENSITY = 0.3989422804014327; // 1 / sqrt(2 pi)
/** Twice that which Hendrycks and Gimpel (2016) take the tanh of is BEND (x + CUBE x^3): half of 1 + tanh(u) is the sigmoid of 2u. */
const BEND = 2 * Math.sqrt(2 / Math.PI);
const CUBE = 0.044715;

/** 1 / (1 + e^-x) through e^-|x|, which cannot overflow. */
const sigmoid = (x: number): number => {
  const e = Math.exp(-Math.abs(x));
  return (x >= 0 ? 1 : e) / (1 + e);
};
/** Its derivative, which is even: e^-|x| / (1 + e^-|x|)^2. Through 1 - sigmoid(x) it would be 0 from x = 17 on. */
const sigmoidSlope = (x: number): number => {
  const e = Math.exp(-Math.abs(x));
  return e / (1 + e) ** 2;
};
const bend = (x: number): number => BEND * (x + CUBE * x ** 3);
const bendSlope = (x: number): number => BEND * (1 + 3 * CUBE * x * x);

/** In WGSL, by its bits: `x != x` may be taken for false. */
export const isNan = "fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }";

/** WGSL functions by name, each after those that it calls. */
const library = {
  isNan,
  /** Not 0: neither 0 nor -0. NaN and subnormal numbers are not. */
  holds: "fn holds(x: f32) -> bool { return (bitcast<u32>(x) << 1u) != 0u; }",
  erf: erfWgsl,
  // Some drivers read the fraction of a subnormal number as that of a normal one: brought to size, it is right, or 0 where it counts as 0.
  logOf: `fn logOf(x: f32) -> f32 { return select(log(x), log(x * ${2 ** 24}.0) - ${24 * Math.LN2}, x < ${2 ** -126}); }`,
  // Below 0.625 as tanhf of Cephes (Moshier 1989): WGSL's own may be off by 1e-5, however small x is (WGSL, 15.7.4).
  tanhOf: /* wgsl */ `
fn tanhOf(x: f32) -> f32 {
  let s = x * x;
  let near = x * (1.0 + s * ((((-5.70498872745e-3 * s + 2.06390887954e-2) * s - 5.37397155531e-2) * s + 1.33314422036e-1) * s - 3.33332819422e-1));
  let e = exp(-2.0 * abs(x));
  let far = (1.0 - e) / (1.0 + e);
  return select(select(far, -far, x < 0.0), near, abs(x) < 0.625);
}`,
  sigmoid: /* wgsl */ `
fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}`,
  sigmoidSlope: /* wgsl */ `
fn sigmoidSlope(x: f32) -> f32 {
  let e = exp(-abs(x));
  return e / ((1.0 + e) * (1.0 + e));
}`,
  // log(1 + e) = 2 artanh(s) = 2 (s + s^3 / 3 + ...) with s = e / (2 + e), up to 1/3 here: WGSL has no log1p (Abramowitz and Stegun 4.1.27).
  softplus: /* wgsl */ `
fn softplus(x: f32) -> f32 {
  let e = exp(-abs(x));
  let s = e / (2.0 + e);
  let q = s * s;
  var sum = 0.0;
  ${[15, 13, 11, 9, 7, 5, 3, 1].map((n) => `sum = sum * q + ${(1 / n).toExponential(10)};`).join(" ")}
  return select(x, 0.0, x < 0.0) + 2.0 * s * sum;
}`,
  // Where |x| is past 100 the slope of the sigmoid is 0, and x^2, kept below 1e4, does not overflow to make NaN of it.
  bend: `fn bend(x: f32) -> f32 { return ${BEND} * x * (1.0 + ${CUBE} * min(x * x, 1e4)); }`,
  bendSlope: `fn bendSlope(x: f32) -> f32 { return ${BEND} * (1.0 + ${3 * CUBE} * min(x * x, 1e4)); }`,
  // WGSL's pow is not defined below 0 (WGSL, 17.5): the size is that of |x|^y, the sign negative for odd y, and only whole y are allowed.
  powOf: /* wgsl */ `
fn powOf(x: f32, y: f32) -> f32 {
  if (y == 0.0) { return 1.0; }
  if (isNan(x) || isNan(y)) { return x + y; }
  let bits = bitcast<u32>(x);
  let whole = trunc(y) == y;
  if (x < 0.0 && !whole && bits != 0xff800000u) { return bitcast<f32>(bits | 0x7fc00000u); }
  var size = pow(abs(x), y);
  if (x == 0.0) { size = select(0.0, 1.0 / abs(x), y < 0.0); } // some drivers have pow(0, -1) = 0
  let odd = whole && abs(y) < 16777216.0 && floor(0.5 * y) * 2.0 < y; // past 2^24 all numbers of f32 are even
  return select(size, -size, odd && (bits >> 31u) == 1u);
}`,
  // Equal numbers have equal bits, but 0 and -0: -0 is the smaller one.
  larger: /* wgsl */ `
fn larger(x: f32, y: f32) -> f32 {
  if (isNan(x) || isNan(y)) { return x + y; }
  if (x == y) { return bitcast<f32>(bitcast<u32>(x) & bitcast<u32>(y)); }
  return select(x, y, x < y);
}`,
} as const;

type Unary = readonly [wgsl: string, js: (x: number) => number];
type Binary = readonly [wgsl: string, js: (x: number, y: number) => number];
type Ternary = readonly [wgsl: string, js: (x: number, y: number, w: number) => number];

const unary = {
  neg: ["-x", (x) => -x],
  exp: ["exp(x)", Math.exp],
  log: ["logOf(x)", Math.log],
  sqrt: ["sqrt(x)", Math.sqrt],
  rsqrt: ["1.0 / sqrt(x)", (x) => 1 / Math.sqrt(x)],
  square: ["x * x", (x) => x * x],
  abs: ["abs(x)", Math.abs],
  tanh: ["tanhOf(x)", Math.tanh],
  sigmoid: ["sigmoid(x)", sigmoid],
  // not Math.max, which makes 0 of -0
  relu: ["select(x, 0.0, x < 0.0)", (x) => (x < 0 ? 0 : x)],
  gelu: [`0.5 * x * (1.0 + erf(${HALF} * x))`, (x) => 0.5 * x * (1 + erf(HALF * x))],
  geluTanh: ["x * sigmoid(bend(x))", (x) => x * sigmoid(bend(x))],
  silu: ["x * sigmoid(x)", (x) => x * sigmoid(x)],
  softplus: ["softplus(x)", (x) => (x < 0 ? 0 : x) + Math.log1p(Math.exp(-Math.abs(x)))],
} satisfies Record<string, Unary>;

const binary = {
  add: ["x + y", (x, y) => x + y],
  sub: ["x - y", (x, y) => x - y],
  mul: ["x * y", (x, y) => x * y],
  div: ["x / y", (x, y) => x / y],
  pow: ["powOf(x, y)", (x, y) => x ** y],
  maximum: ["larger(x, y)", Math.max],
  minimum: ["-larger(-x, -y)", Math.min],
  equal: ["select(0.0, 1.0, x == y)", (x, y) => Number(x === y)],
  notEqual: ["select(1.0, 0.0, x == y)", (x, y) => Number(x !== y)],
  less: ["select(0.0, 1.0, x < y)", (x, y) => Number(x < y)],
  lessEqual: ["select(0.0, 1.0, x <= y)", (x, y) => Number(x <= y)],
  greater: ["select(0.0, 1.0, x > y)", (x, y) => Number(x > y)],
  greaterEqual: ["select(0.0, 1.0, x >= y)", (x, y) => Number(x >= y)],
  // Gradients take what the op kept, then dy.
  sqrtGrad: ["0.5 * y / x", (x, y) => (0.5 * y) / x], // x is the root
  rsqrtGrad: ["-0.5 * y * x * x * x", (x, y) => -0.5 * y * x * x * x], // x is the result
  absGrad: ["select(select(0.0, y, x > 0.0), -y, x < 0.0)", (x, y) => (x < 0 ? -y : x > 0 ? y : 0)],
  squareGrad: ["2.0 * x * y", (x, y) => 2 * x * y],
  tanhGrad: ["y * (1.0 - x * x)", (x, y) => y * (1 - x * x)], // x is the tanh
  reluGrad: ["select(0.0, y, x > 0.0)", (x, y) => (x > 0 ? y : 0)],
  geluGrad: [
    `y * (0.5 * (1.0 + erf(${HALF} * x)) + x * ${DENSITY} * exp(-0.5 * x * x))`,
    (x, y) => y * (0.5 * (1 + erf(HALF * x)) + x * DENSITY * Math.exp(-0.5 * x * x)),
  ],
  sigmoidGrad: ["y * sigmoidSlope(x)", (x, y) => y * sigmoidSlope(x)],
  siluGrad: ["y * (sigmoid(x) + x * sigmoidSlope(x))", (x, y) => y * (sigmoid(x) + x * sigmoidSlope(x))],
  softplusGrad: ["y * sigmoid(x)", (x, y) => y * sigmoid(x)],
  geluTanhGrad: [
    "y * (sigmoid(bend(x)) + x * sigmoidSlope(bend(x)) * bendSlope(x))",
    (x, y) => y * (sigmoid(bend(x)) + x * sigmoidSlope(bend(x)) * bendSlope(x)),
  ],
  /** Part of div's: -y / x^2, in f32 divided twice, since x^2 may overflow or vanish where that does not. */
  reciprocalGrad: ["-y / x / x", (x, y) => -y / (x * x)],
} satisfies Record<string, Binary>;

const ternary = {
  where: ["select(w, y, holds(x))", (x, y, w) => (x !== 0 ? y : w)],
  // Gradients take both arguments, then dy.
  /** By the first argument; by the second with both exchanged. Where they are equal, each has half. */
  maximumGrad: ["select(select(w, 0.5 * w, x == y), 0.0, x < y)", (x, y, w) => (x < y ? 0 : x === y ? 0.5 * w : w)],
  minimumGrad: ["select(select(w, 0.5 * w, x == y), 0.0, x > y)", (x, y, w) => (x > y ? 0 : x === y ? 0.5 * w : w)],
  powGradBase: ["select(w * (y * powOf(x, y - 1.0)), 0.0, y == 0.0)", (x, y, w) => (y === 0 ? 0 : w * (y * x ** (y - 1)))],
  powGradExponent: [
    "select(w * (powOf(x, y) * logOf(x)), 0.0, x == 0.0 && y >= 0.0)",
    (x, y, w) => (x === 0 && y >= 0 ? 0 : w * (x ** y * Math.log(x))),
  ],
} satisfies Record<string, Ternary>;

export type UnaryName = keyof typeof unary;
export type BinaryName = keyof typeof binary;
export type TernaryName = keyof typeof ternary;
/** Their order numbers the variants for `assembly/elementwise.ts`. */
export const unaryNames = Object.keys(unary) as UnaryName[];
export const binaryNames = Object.keys(binary) as BinaryName[];
export const ternaryNames = Object.keys(ternary) as TernaryName[];

/** The functions that an expression calls, and those that they call. */
function needs(expression: string): string {
  let needed = "";
  for (const [name, wgsl] of Object.entries(library).reverse())
    if (new RegExp(`\\b${name}\\(`).test(expression + needed)) needed = `${wgsl}\n${needed}`;
  return needed;
}

/** z[i] = f(a[i]) */
export const map = variants("map", (name: UnaryName) => {
  const [expression, f] = unary[name] as Unary;
  return kernel({
    name,
    inputs: { a: "f32" },
    outputs: { z: "f32" },
    params: { n: "u32" },
    passes: [{ groups: ({ n }) => lanes(n), wgsl: needs(expression) + each(`let x = a[i]; z[i] = ${expression};`) }],
    compiled: {
      name: "map",
      buffers: ["a", "z"],
      constants: [unaryNames.indexOf(name)],
      split: () => ({ over: "n", strides: [1, 1], work: 2 }),
    },
    loops({ a, z }, { n }) {
      for (let i = 0; i < n; i++) z[i] = f(a[i]);
    },
  });
});

/** z[i] = f(a[i], b[i]), both of the same shape. */
export const zip = variants("zip", (name: BinaryName) => {
  const [expression, f] = binary[name] as Binary;
  return kernel({
    name,
    inputs: { a: "f32", b: "f32" },
    outputs: { z: "f32" },
    params: { n: "u32" },
    passes: [{ groups: ({ n }) => lanes(n), wgsl: needs(expression) + each(`let x = a[i]; let y = b[i]; z[i] = ${expression};`) }],
    compiled: {
      name: "zip",
      buffers: ["a", "b", "z"],
      constants: [binaryNames.indexOf(name)],
      split: () => ({ over: "n", strides: [1, 1, 1], work: 3 }),
    },
    loops({ a, b, z }, { n }) {
      for (let i = 0; i < n; i++) z[i] = f(a[i], b[i]);
    },
  });
});

/**
 * z = f(a, b) where a and b stretch to z's five axes: along an axis of stride 0 the same element is read again.
 * Parameters: n, the sizes n1 ... n4 of the last four axes, and the strides of both inputs along all five.
 */
export const zipBroadcast = variants("zipBroadcast", (name: BinaryName) => {
  const [expression, f] = binary[name] as Binary;
  return kernel({
    name: `${name} broadcast`,
    inputs: { a: "f32", b: "f32" },
    outputs: { z: "f32" },
    params: { ...SIZES, ...strides("a"), ...strides("b") },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl:
          needs(expression) +
          each(/* wgsl */ `${coordinates}
  let x = a[${place("a")}];
  let y = b[${place("b")}];
  z[i] = ${expression};`),
      },
    ],
    compiled: {
      name: "zipBroadcast",
      buffers: ["a", "b", "z"],
      scratch: () => operandScratch(2),
      constants: [binaryNames.indexOf(name)],
      split: ({ n }) => ({ pieces: n, work: 4, together: 16 }),
    },
    loops({ a, b, z }, p) {
      eachLine(p, ["a", "b"], (i, x, y) => {
        for (const end = i + p.n4; i < end; i++, x += p.a4, y += p.b4) z[i] = f(a[x], b[y]);
      });
    },
  });
});

/** z = f(a, b, d), all three stretching to z's five axes: as zipBroadcast, with the strides of three inputs. */
export const zipThree = variants("zipThree", (name: TernaryName) => {
  const [expression, f] = ternary[name] as Ternary;
  return kernel({
    name,
    inputs: { a: "f32", b: "f32", d: "f32" },
    outputs: { z: "f32" },
    params: { ...SIZES, ...strides("a"), ...strides("b"), ...strides("d") },
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl:
          needs(expression) +
          each(/* wgsl */ `${coordinates}
  let x = a[${place("a")}];
  let y = b[${place("b")}];
  let w = d[${place("d")}];
  z[i] = ${expression};`),
      },
    ],
    compiled: {
      name: "zipThree",
      buffers: ["a", "b", "d", "z"],
      scratch: () => operandScratch(3),
      constants: [ternaryNames.indexOf(name)],
      split: ({ n }) => ({ pieces: n, work: 5, together: 16 }),
    },
    loops({ a, b, d, z }, p) {
      eachLine(p, ["a", "b", "d"], (i, x, y, w) => {
        for (const end = i + p.n4; i < end; i++, x += p.a4, y += p.b4, w += p.d4) z[i] = f(a[x], b[y], d[w]);
      });
    },
  });
});

/** z[i] = a[i], but `low` where it is less, and then `high` where that is more: high where low is above it. NaN stays. */
export const clamp = kernel({
  name: "clamp",
  inputs: { a: "f32" },
  outputs: { z: "f32" },
  params: { n: "u32", low: "f32", high: "f32" },
  passes: [
    {
      groups: ({ n }) => lanes(n),
      wgsl: each("let x = a[i]; let y = select(x, p.low, x < p.low); z[i] = select(y, p.high, y > p.high);"),
    },
  ],
  compiled: { name: "clamp", buffers: ["a", "z"], split: () => ({ over: "n", strides: [1, 1], work: 2 }) },
  loops({ a, z }, { n, low, high }) {
    for (let i = 0; i < n; i++) {
      const y = a[i] < low ? low : a[i];
      z[i] = y > high ? high : y;
    }
  },
});

/** da[i] = dz[i] where low <= a[i] <= high, else 0. */
export const clampGrad = kernel({
  name: "clampGrad",
  inputs: { a: "f32", dz: "f32" },
  outputs: { da: "f32" },
  params: { n: "u32", low: "f32", high: "f32" },
  passes: [{ groups: ({ n }) => lanes(n), wgsl: each("let x = a[i]; da[i] = select(0.0, dz[i], x >= p.low && x <= p.high);") }],
  compiled: { name: "clampGrad", buffers: ["a", "dz", "da"], split: () => ({ over: "n", strides: [1, 1, 1], work: 3 }) },
  loops({ a, dz, da }, { n, low, high }) {
    for (let i = 0; i < n; i++) da[i] = a[i] >= low && a[i] <= high ? dz[i] : 0;
  },
});

/** Elementwise maps and broadcasting zips. Each is one line: a WGSL expression and the same expression in JavaScript. */

import { coordinates } from "./axes.ts";
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

type Unary = readonly [wgsl: string, js: (x: number) => number];
type Binary = readonly [wgsl: string, js: (x: number, y: number) => number];

const unary = {
  neg: ["-x", (x) => -x],
  exp: ["exp(x)", Math.exp],
  log: ["log(x)", Math.log],
  sqrt: ["sqrt(x)", Math.sqrt],
  square: ["x * x", (x) => x * x],
  tanh: ["tanh(clamp(x, -15.0, 15.0))", Math.tanh], // tanh is 1 in f32 past 9; unclamped, some drivers overflow
  // not Math.max, which makes 0 of -0
  relu: ["max(x, 0.0)", (x) => (x < 0 ? 0 : x)],
  gelu: [`0.5 * x * (1.0 + erf(${HALF} * x))`, (x) => 0.5 * x * (1 + erf(HALF * x))],
} satisfies Record<string, Unary>;

const binary = {
  add: ["x + y", (x, y) => x + y],
  sub: ["x - y", (x, y) => x - y],
  mul: ["x * y", (x, y) => x * y],
  div: ["x / y", (x, y) => x / y],
  // Gradients take what the op kept, then dy.
  sqrtGrad: ["0.5 * y / x", (x, y) => (0.5 * y) / x], // x is the root
  squareGrad: ["2.0 * x * y", (x, y) => 2 * x * y],
  tanhGrad: ["y * (1.0 - x * x)", (x, y) => y * (1 - x * x)], // x is the tanh
  reluGrad: ["select(0.0, y, x > 0.0)", (x, y) => (x > 0 ? y : 0)],
  geluGrad: [
    `y * (0.5 * (1.0 + erf(${HALF} * x)) + x * ${DENSITY} * exp(-0.5 * x * x))`,
    (x, y) => y * (0.5 * (1 + erf(HALF * x)) + x * DENSITY * Math.exp(-0.5 * x * x)),
  ],
  /** Part of div's: -y / x^2 */
  reciprocalGrad: ["-y / (x * x)", (x, y) => -y / (x * x)],
} satisfies Record<string, Binary>;

export type UnaryName = keyof typeof unary;
export type BinaryName = keyof typeof binary;
export const unaryNames = Object.keys(unary) as UnaryName[];
export const binaryNames = Object.keys(binary) as BinaryName[];

/** What the cpu device has compiled: all but those that take an exponential, a logarithm or the error function. */
const compiledNames: ReadonlySet<string> = new Set<UnaryName | BinaryName>(
  ["neg", "square", "sqrt", "relu", "add", "sub", "mul", "div", "sqrtGrad", "squareGrad", "tanhGrad", "reluGrad", "reciprocalGrad"],
); // biome-ignore format: one line

const needs = (expression: string) => (expression.includes("erf(") ? erfWgsl : "");

/** z[i] = f(a[i]) */
export const map = variants("map", (name: UnaryName) => {
  const [expression, f] = unary[name] as Unary;
  return kernel({
    name,
    inputs: { a: "f32" },
    outputs: { z: "f32" },
    params: { n: "u32" },
    passes: [{ groups: ({ n }) => lanes(n), wgsl: needs(expression) + each(`let x = a[i]; z[i] = ${expression};`) }],
    ...(compiledNames.has(name) && { compiled: { name, buffers: ["a", "z"] } }),
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
    ...(compiledNames.has(name) && { compiled: { name, buffers: ["a", "b", "z"] } }),
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
    params: {
      n: "u32", n1: "u32", n2: "u32", n3: "u32", n4: "u32",
      a0: "u32", a1: "u32", a2: "u32", a3: "u32", a4: "u32",
      b0: "u32", b1: "u32", b2: "u32", b3: "u32", b4: "u32",
    }, // biome-ignore format: one line an argument
    passes: [
      {
        groups: ({ n }) => lanes(n),
        wgsl:
          needs(expression) +
          each(/* wgsl */ `${coordinates}
  let x = a[c0 * p.a0 + c1 * p.a1 + c2 * p.a2 + c3 * p.a3 + c4 * p.a4];
  let y = b[c0 * p.b0 + c1 * p.b1 + c2 * p.b2 + c3 * p.b3 + c4 * p.b4];
  z[i] = ${expression};`),
      },
    ],
    loops({ a, b, z }, p) {
      const { n, n1, n2, n3, n4 } = p;
      if (n === 0) return;
      let i = 0;
      for (let c0 = 0; c0 < n / (n1 * n2 * n3 * n4); c0++)
        for (let c1 = 0; c1 < n1; c1++)
          for (let c2 = 0; c2 < n2; c2++)
            for (let c3 = 0; c3 < n3; c3++) {
              let x = c0 * p.a0 + c1 * p.a1 + c2 * p.a2 + c3 * p.a3;
              let y = c0 * p.b0 + c1 * p.b1 + c2 * p.b2 + c3 * p.b3;
              for (let c4 = 0; c4 < n4; c4++, x += p.a4, y += p.b4) z[i++] = f(a[x], b[y]);
            }
    },
  });
});

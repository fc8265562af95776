/** Elementwise ops, each beside its derivative. */

import type { Tensor } from "../../src/tensor.ts";
import { op } from "../tape.ts";
import { map, sumTo, zip } from "./apply.ts";

/** a + b, shapes broadcasting as numpy's, here and below. */
export const add = op("add", (a: Tensor, b: Tensor) => [
  zip("add", a, b),
  [],
  (dz, need) => [need[0] ? sumTo(dz, a.shape) : null, need[1] ? sumTo(dz, b.shape) : null],
]);
export const sub = op("sub", (a: Tensor, b: Tensor) => [
  zip("sub", a, b),
  [],
  (dz, need) => [need[0] ? sumTo(dz, a.shape) : null, need[1] ? map("neg", sumTo(dz, b.shape)) : null],
]);
export const mul = op("mul", (a: Tensor, b: Tensor) => [
  zip("mul", a, b),
  [a, b],
  (dz, need) => [need[0] ? sumTo(zip("mul", dz, b), a.shape) : null, need[1] ? sumTo(zip("mul", dz, a), b.shape) : null],
]);
export const div = op("div", (a: Tensor, b: Tensor) => [
  zip("div", a, b),
  [a, b],
  (dz, need) => [
    need[0] ? sumTo(zip("div", dz, b), a.shape) : null,
    need[1] ? sumTo(zip("mul", dz, zip("reciprocalGrad", b, a)), b.shape) : null, // -a / b^2
  ],
]);

export const neg = op("neg", (x: Tensor) => [map("neg", x), [], (dy) => [map("neg", dy)]]);
export const exp = op("exp", (x: Tensor) => {
  const y = map("exp", x);
  return [y, [y], (dy) => [zip("mul", dy, y)]];
});
export const log = op("log", (x: Tensor) => [map("log", x), [x], (dy) => [zip("div", dy, x)]]);
export const sqrt = op("sqrt", (x: Tensor) => {
  const y = map("sqrt", x);
  return [y, [y], (dy) => [zip("sqrtGrad", y, dy)]];
});
export const square = op("square", (x: Tensor) => [map("square", x), [x], (dy) => [zip("squareGrad", x, dy)]]);
export const tanh = op("tanh", (x: Tensor) => {
  const y = map("tanh", x);
  return [y, [y], (dy) => [zip("tanhGrad", y, dy)]];
});
export const relu = op("relu", (x: Tensor) => {
  const y = map("relu", x);
  return [y, [y], (dy) => [zip("reluGrad", y, dy)]]; // y is positive where x is
});
/** x Phi(x), with the error function (Hendrycks and Gimpel 2016), as torch.nn.functional.gelu. */
export const gelu = op("gelu", (x: Tensor) => [map("gelu", x), [x], (dy) => [zip("geluGrad", x, dy)]]);

/**
 * What elementwise ops make of unusual arguments, and their gradients: NaN, infinities, zeros with a sign, huge and subnormal numbers; plain numbers
 * in a tensor's place; and what is neither.
 *
 * By IEEE 754, as JavaScript's operators and Math have it, or by the op's docstring. On `webgpu` this holds for the driver it was run on, llvmpipe:
 * WGSL lets a driver assume that there are no NaN and no infinities, take subnormal numbers for 0 and lose the sign of 0 (WGSL, 15.7.2).
 */

import { describe, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { ones, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { onDevices } from "../devices.ts";

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
/** Near the ends of f32: its largest number, and a subnormal one. */
const [huge, tiny] = [3e38, 1e-40].map(Math.fround);

const shown = (x: number): string => (Object.is(x, -0) ? "-0" : String(x));

/** Equal to 2^-20, zeros with their sign, what lies beyond f32 infinite; what is subnormal may be any such number, or 0. */
function same(what: string, got: number, want: number): void {
  const [g, w] = [Math.fround(got), Math.fround(want)];
  const close = Number.isFinite(w) && Math.abs(g - w) <= 2 ** -20 * Math.abs(w) + 2 ** -126 && !(g === 0 && w === 0);
  if (!Object.is(g, w) && !close) expect.fail(`${what} is ${shown(g)}, not ${shown(w)}`);
}

/** The value of an op, and the gradients of its sum. */
async function evaluate(call: (...args: Tensor[]) => Tensor, ...args: readonly (readonly number[])[]): Promise<number[][]> {
  const made = scoped(() => {
    const tensors = args.map((values) => tensor(values));
    const { value, grads } = valueAndGrad(() => {
      const y = call(...tensors);
      return [ops.sum(y), y] as const;
    }, tensors);
    return [value[1], ...grads];
  });
  const read = await Promise.all(made.map(async (t) => [...(await t.data())]));
  for (const t of made) t.free();
  return read;
}

const parts = ["the value", "the gradient", "the second gradient"];
function compare(args: readonly (readonly number[])[], got: readonly (readonly number[])[], want: readonly (readonly number[])[]): void {
  want.forEach((values, part) => {
    expect(got[part].length).toBe(values.length);
    values.forEach((value, i) => void same(`${parts[part]} at ${args.map((arg) => shown(arg[i])).join(", ")}`, got[part][i], value));
  });
}

// ---- of one tensor -------------------------------------------------------------------------

const xs = [nan, inf, -inf, 0, -0, huge, -huge, tiny, -tiny];
/** 1 / f32's tiny is beyond f32. */
const unary: Record<string, readonly [call: (x: Tensor) => Tensor, values: readonly number[], slopes: readonly number[]]> = {
  neg: [ops.neg, [nan, -inf, inf, -0, 0, -huge, huge, -tiny, tiny], [-1, -1, -1, -1, -1, -1, -1, -1, -1]],
  abs: [ops.abs, [nan, inf, inf, 0, 0, huge, huge, tiny, tiny], [0, 1, -1, 0, 0, 1, -1, 1, -1]],
  exp: [ops.exp, [nan, inf, 0, 1, 1, inf, 0, 1, 1], [nan, inf, 0, 1, 1, inf, 0, 1, 1]],
  log: [
    ops.log,
    [nan, inf, nan, -inf, -inf, Math.log(huge), nan, Math.log(tiny), nan],
    [nan, 0, -0, inf, -inf, 1 / huge, -1 / huge, inf, -inf], // as torch: 1 / x, on either side of 0
  ],
  sqrt: [
    ops.sqrt,
    [nan, inf, nan, 0, -0, Math.sqrt(huge), nan, Math.sqrt(tiny), nan],
    [nan, 0, nan, inf, -inf, 0.5 / Math.sqrt(huge), nan, 0.5 / Math.sqrt(tiny), nan],
  ],
  rsqrt: [ops.rsqrt, [nan, 0, nan, inf, -inf, huge ** -0.5, nan, tiny ** -0.5, nan], [nan, -0, nan, -inf, inf, -0, nan, -inf, nan]],
  square: [ops.square, [nan, inf, inf, 0, 0, inf, inf, 0, 0], [nan, inf, -inf, 0, -0, inf, -inf, 2 * tiny, -2 * tiny]],
  tanh: [ops.tanh, [nan, 1, -1, 0, -0, 1, -1, tiny, -tiny], [nan, 0, 0, 1, 1, 0, 0, 1, 1]],
  sigmoid: [ops.sigmoid, [nan, 1, 0, 0.5, 0.5, 1, 0, 0.5, 0.5], [nan, 0, 0, 0.25, 0.25, 0, 0, 0.25, 0.25]],
  softplus: [ops.softplus, [nan, inf, 0, Math.LN2, Math.LN2, huge, 0, Math.LN2, Math.LN2], [nan, 1, 0, 0.5, 0.5, 1, 0, 0.5, 0.5]],
  relu: [ops.relu, [nan, inf, 0, 0, -0, huge, 0, tiny, 0], [0, 1, 0, 0, 0, 1, 0, 1, 0]],
  gelu: [ops.gelu, [nan, inf, nan, 0, -0, huge, -0, tiny / 2, -tiny / 2], [nan, nan, nan, 0.5, 0.5, 1, 0, 0.5, 0.5]],
  geluTanh: [ops.geluTanh, [nan, inf, nan, 0, -0, huge, -0, tiny / 2, -tiny / 2], [nan, nan, nan, 0.5, 0.5, 1, 0, 0.5, 0.5]],
  silu: [ops.silu, [nan, inf, nan, 0, -0, huge, -0, tiny / 2, -tiny / 2], [nan, nan, nan, 0.5, 0.5, 1, 0, 0.5, 0.5]],
  "clamp, both bounds": [(x) => ops.clamp(x, -1, 1), [nan, 1, -1, 0, -0, 1, -1, tiny, -tiny], [0, 0, 0, 1, 1, 0, 0, 1, 1]],
  "clamp, no upper bound": [(x) => ops.clamp(x, -1, null), [nan, inf, -1, 0, -0, huge, -1, tiny, -tiny], [0, 1, 0, 1, 1, 1, 0, 1, 1]],
  "clamp, no lower bound": [(x) => ops.clamp(x, null, 1), [nan, 1, -inf, 0, -0, 1, -huge, tiny, -tiny], [0, 0, 1, 1, 1, 0, 1, 1, 1]],
  where: [(x) => ops.where(x, x, 2), [nan, inf, -inf, 2, 2, huge, -huge, tiny, -tiny], [1, 1, 1, 0, 0, 1, 1, 1, 1]],
  cast: [(x) => ops.cast(x, "f32"), xs, xs.map(() => 1)],
};

// ---- of two --------------------------------------------------------------------------------

type Slope = (a: number, b: number) => number;
const none: Slope = () => 0;
/** As torch: half where both are equal, nothing for the loser, all where one is NaN. */
const share =
  (loses: (a: number, b: number) => boolean): Slope =>
  (a, b) =>
    loses(a, b) ? 0 : a === b ? 0.5 : 1;
const lower = share((a, b) => a < b);
const higher = share((a, b) => a > b);

const binary: Record<string, readonly [call: (a: Tensor, b: Tensor) => Tensor, value: Slope, da: Slope, db: Slope]> = {
  add: [ops.add, (a, b) => a + b, () => 1, () => 1],
  sub: [ops.sub, (a, b) => a - b, () => 1, () => -1],
  mul: [ops.mul, (a, b) => a * b, (_, b) => b, (a) => a],
  div: [ops.div, (a, b) => a / b, (_, b) => 1 / b, (a, b) => -a / b / b],
  maximum: [ops.maximum, Math.max, lower, (a, b) => lower(b, a)],
  minimum: [ops.minimum, Math.min, higher, (a, b) => higher(b, a)],
  equal: [ops.equal, (a, b) => Number(a === b), none, none],
  notEqual: [ops.notEqual, (a, b) => Number(a !== b), none, none],
  less: [ops.less, (a, b) => Number(a < b), none, none],
  lessEqual: [ops.lessEqual, (a, b) => Number(a <= b), none, none],
  greater: [ops.greater, (a, b) => Number(a > b), none, none],
  greaterEqual: [ops.greaterEqual, (a, b) => Number(a >= b), none, none],
};

/** a, b, a^b, and its derivatives by a and by b. */
const powers: readonly (readonly [a: number, b: number, value: number, da: number, db: number])[] = [
  // anything to the power of 0 is 1, and has no slope
  [nan, 0, 1, 0, nan],
  [inf, 0, 1, 0, inf],
  [-inf, -0, 1, 0, nan],
  [0, 0, 1, 0, 0],
  [-0, -0, 1, 0, 0],
  // and NaN otherwise comes through; 1 to it too, as JavaScript has it
  [nan, 2, nan, nan, nan],
  [2, nan, nan, nan, nan],
  [1, nan, nan, nan, nan],
  [1, inf, nan, nan, nan],
  [-1, -inf, nan, nan, nan],
  // 0: the sign is that of an odd exponent
  [0, 3, 0, 0, 0],
  [-0, 3, -0, 0, 0],
  [-0, 2, 0, -0, 0],
  [0, 0.5, 0, inf, 0],
  [0, -2, inf, -inf, -inf],
  [-0, -3, -inf, -inf, inf],
  [-0, -2, inf, inf, -inf],
  // below 0: whole exponents alone
  [-2, 3, -8, 12, nan],
  [-2, 2, 4, -4, nan],
  [-2, -1, -0.5, -0.25, nan],
  [-2, 0.5, nan, nan, nan],
  // infinity
  [inf, 2, inf, inf, inf],
  [inf, -2, 0, -0, nan],
  [-inf, 3, -inf, inf, nan],
  [-inf, -3, -0, -0, nan],
  [2, inf, inf, inf, inf],
  [2, -inf, 0, nan, 0],
  [0.5, inf, 0, nan, -0],
];

// ---- tests ---------------------------------------------------------------------------------

onDevices((device) => {
  describe("values and gradients of strange numbers:", () => {
    test.each(Object.entries(unary))("%s", async (_, [call, ...want]) => {
      compare([xs], await evaluate(call, xs), want);
    });

    const some = [nan, inf, -inf, 0, -0, huge, tiny, 1, -2];
    const pairs = some.flatMap((a) => some.map((b) => [a, b] as const));
    const [as, bs] = [0, 1].map((i) => pairs.map((pair) => pair[i]));
    test.each(Object.entries(binary))("%s", async (_, [call, ...want]) => {
      compare([as, bs], await evaluate(call, as, bs), want.map((f) => pairs.map(([a, b]) => f(a, b)))); // biome-ignore format: one line
    });

    test("pow", async () => {
      const [a, b, ...want] = [0, 1, 2, 3, 4].map((i) => powers.map((power) => power[i]));
      compare([a, b], await evaluate(ops.pow, a, b), want);
    });

    test("where: what is not taken leaves no trace, though it be NaN", async () => {
      const x = [-1, 0, 4];
      const [y, dx] = await evaluate((t) => ops.where(ops.greater(t, 0), ops.log(t), t), x);
      compare([x], [y], [[-1, 0, Math.log(4)]]);
      expect(dx[2]).toBeCloseTo(0.25, 6);
      const [taken, da, db] = await evaluate((a, b) => ops.where(tensor([0, 1, nan]), a, b), [nan, 1, 2], [3, nan, nan]);
      expect([taken, da, db]).toEqual([[3, 1, 2], [0, 1, 1], [1, 0, 0]]); // biome-ignore format: one line
    });

    test("where bounds cross, clamp gives the upper one, and no gradient", async () => {
      const x = [-2, 0, 2, nan];
      compare([x], await evaluate((t) => ops.clamp(t, 1, -1), x), [[-1, -1, -1, nan], [0, 0, 0, 0]]); // biome-ignore format: one line
    });

    test("clamp at its bounds, relu and abs at 0, as torch", async () => {
      expect(await evaluate((t) => ops.clamp(t, -1, 1), [-1, 1])).toEqual([[-1, 1], [1, 1]]); // biome-ignore format: one line
      expect((await evaluate(ops.relu, [0]))[1]).toEqual([0]);
      expect((await evaluate(ops.abs, [0]))[1]).toEqual([0]);
    });

    test("far from 0 the derivatives of sigmoid, silu and softplus are small, not lost", async () => {
      const x = [-60, -20, 20, 60];
      const e = x.map((v) => Math.exp(-Math.abs(v)));
      const [, sigmoid] = await evaluate(ops.sigmoid, x);
      const [softplus, rising] = await evaluate(ops.softplus, x);
      const [, silu] = await evaluate(ops.silu, x);
      for (const i of x.keys()) {
        expect(sigmoid[i] / (e[i] / (1 + e[i]) ** 2)).toBeCloseTo(1, 4);
        expect(softplus[i] / Math.log1p(Math.exp(x[i]))).toBeCloseTo(1, 4);
        expect(rising[i] / (1 / (1 + Math.exp(-x[i])))).toBeCloseTo(1, 4);
        expect(silu[i] / (1 / (1 + Math.exp(-x[i])) + (x[i] * e[i]) / (1 + e[i]) ** 2)).toBeCloseTo(1, 4);
      }
    });

    test("the gradient of a quotient is right where the square of the divisor is not in f32", async () => {
      const [, , db] = await evaluate(ops.div, [1e30, 0, 1e-30], [1e25, 1e-25, 1e-25]);
      expect(db[0] / -1e-20).toBeCloseTo(1, 4);
      expect(Math.abs(db[1])).toBe(0);
      expect(db[2] / -1e20).toBeCloseTo(1, 4);
    });
  });

  describe("plain numbers:", () => {
    const calls: Record<string, readonly [call: (x: Tensor) => Tensor, value: (x: number) => number, slope: (x: number) => number]> = {
      "add(x, 2)": [(x) => ops.add(x, 2), (x) => x + 2, () => 1],
      "sub(2, x)": [(x) => ops.sub(2, x), (x) => 2 - x, () => -1],
      "mul(0.5, x)": [(x) => ops.mul(0.5, x), (x) => 0.5 * x, () => 0.5],
      "div(1, x)": [(x) => ops.div(1, x), (x) => 1 / x, (x) => -1 / x ** 2],
      "pow(x, 3)": [(x) => ops.pow(x, 3), (x) => x ** 3, (x) => 3 * x ** 2],
      "pow(2, x)": [(x) => ops.pow(2, x), (x) => 2 ** x, (x) => 2 ** x * Math.LN2],
      "maximum(x, 0)": [(x) => ops.maximum(x, 0), (x) => Math.max(x, 0), (x) => Number(x > 0)],
      "minimum(0, x)": [(x) => ops.minimum(0, x), (x) => Math.min(x, 0), (x) => Number(x < 0)],
      "less(x, 1)": [(x) => ops.less(x, 1), (x) => Number(x < 1), () => 0],
      "greaterEqual(1, x)": [(x) => ops.greaterEqual(1, x), (x) => Number(1 >= x), () => 0],
      "where(x, x, 7)": [(x) => ops.where(x, x, 7), (x) => x, () => 1],
      "where(x, 1, 2)": [(x) => ops.where(x, 1, 2), () => 1, () => 0],
      "where(0, x, 7)": [(x) => ops.where(0, x, 7), () => 7, () => 0],
    };
    const values = [-2, 0.5, 3];

    test.each(Object.entries(calls))("%s, and live bytes stay flat in and out of scopes", async (_, [call, value, slope]) => {
      compare([values], await evaluate(call, values), [values.map(value), values.map(slope)]);
      const x = tensor(values);
      const before = device().memory.live;
      const y = call(x);
      const one = device().memory.live - before;
      y.free();
      expect(device().memory.live).toBe(before);
      const bare = ops.neg(x);
      expect(one).toBe(device().memory.live - before); // y alone, no constant beside it
      bare.free();
      for (let i = 0; i < 3; i++) {
        inference(() => call(x)).free();
        const { value: y, grads } = valueAndGrad(() => ops.sum(call(x)), [x]);
        for (const t of [y, ...grads]) t.free();
        expect(device().memory.live).toBe(before);
      }
      x.free();
    });

    test("a number keeps the shape of the tensor beside it", () => {
      scoped(() => {
        expect(ops.add(ones([2, 3]), 1).shape).toEqual([2, 3]);
        expect(ops.mul(2, ones([])).shape).toEqual([]);
        expect(ops.where(ones([0, 3]), 1, 0).shape).toEqual([0, 3]);
      });
    });
  });

  describe("what is no argument:", () => {
    const x = () => ones([2]);
    const wrong: readonly (readonly [call: (...args: never[]) => Tensor, args: () => unknown[], message: string])[] = [
      [
        ops.add,
        () => [x(), undefined],
        "add(a, b): b is neither a tensor nor a number; got undefined; make one with tensor(values, shape)",
      ],
      [ops.mul, () => [[1, 2], x()], "mul(a, b): a is neither a tensor nor a number; got an array; make one with tensor(values, shape)"],
      [ops.less, () => [x(), "1"], 'less(a, b): b is neither a tensor nor a number; got "1"; make one with tensor(values, shape)'],
      [
        ops.where,
        () => [x(), x()],
        "where(condition, a, b): b is neither a tensor nor a number; got undefined; make one with tensor(values, shape)",
      ],
      [ops.exp, () => [null], "exp(x): x is neither a tensor nor a number; got null; make one with tensor(values, shape)"],
      [ops.pow, () => [2, 3], "pow(a, b): no argument is a tensor; got 2 and 3; make one with tensor(values, shape)"],
      [ops.tanh, () => [2], "tanh(x): no argument is a tensor; got 2; make one with tensor(values, shape)"],
      [ops.clamp, () => [2, 0, 1], "clamp: a must be a tensor but is the number 2; make one with tensor(values, shape)"],
      [ops.clamp, () => [x(), "0", 1], 'clamp(x, low, high): low is "0"; give a number, or null for no bound'],
      [ops.clamp, () => [x(), null, null], "clamp(x, low, high): low and high are both null; give one of them"],
    ];
    test.each(wrong.map(([call, args, message]) => [message, call, args] as const))("%s", (message, call, args) => {
      scoped(() => {
        expect(() => (call as (...args: unknown[]) => Tensor)(...args())).toThrow(new TypeError(message));
      });
    });

    test("a bound that is NaN, and shapes that do not broadcast", () => {
      scoped(() => {
        expect(() => ops.clamp(x(), nan, 1)).toThrow(
          new RangeError("clamp(x, low, high): low is NaN; give a number, or null for no bound"),
        );
        expect(() => ops.where(x(), ones([2, 1]), ones([3]))).toThrow(
          new RangeError("where: [2], [2, 1], [3] do not broadcast to one shape; sizes must be equal or 1, from the last axis on"),
        );
        expect(() => ops.maximum(x(), ones([3]))).toThrow(/^maximum\(a, b\): axis -1 is 2 in argument 1 but 3 in argument 2/);
      });
    });
  });
});

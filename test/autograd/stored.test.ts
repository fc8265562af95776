/**
 * Ops of activations that are stored as f16: for each of the catalogue's rows the value and all gradients are those of f32 to f16's rounding, and stored
 * as they should be. Ops that do not take f16 say so.
 */

import { describe, expect, test } from "vitest";
import { detectAnomaly } from "../../autograd/anomaly.ts";
import { checkpoint } from "../../autograd/checkpoint.ts";
import * as ops from "../../autograd/ops.ts";
import { inference, valueAndGrad } from "../../autograd/tape.ts";
import { fromHalf, toHalf } from "../../kernels/half.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { capture } from "../../src/capture.ts";
import { type Abilities, Choices } from "../../src/choices.ts";
import { type Device, storageOf, storesHalves, withDevice } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { openReference } from "../../src/reference.ts";
import { needs } from "../../src/shapes.ts";
import { empty, integers, keep, scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { type Case, edgeCases, rows, say } from "../cases.ts";
import type { Row } from "../catalogue.ts";
import { onDevice, onDevices } from "../devices.ts";

/** Those that take f16, and how many roundings of 2^-11 their results and gradients may show, of the magnitude: WebGPU's go to either neighbour. */
const TAKES: Readonly<Record<string, number>> = {
  ...Object.fromEntries(["add", "sub", "mul", "neg", "abs", "relu", "gelu", "geluTanh", "silu", "softplus", "square", "log", "clamp"].map((op) => [op, 8])), // biome-ignore format: a list
  ...Object.fromEntries(["div", "pow", "maximum", "minimum", "where", "exp", "sqrt", "rsqrt", "tanh", "sigmoid"].map((op) => [op, 16])),
  ...Object.fromEntries(["equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual"].map((op) => [op, 0])),
  ...Object.fromEntries(["reshape", "permute", "slice", "pad", "broadcastTo", "concat", "stack", "gather", "dropout"].map((op) => [op, 6])),
  ...Object.fromEntries(["scatterAdd", "matmul", "linear", "sum", "mean", "segmentSum", "segmentMean"].map((op) => [op, 6])),
  ...{ layerNorm: 10, addNorm: 24, attention: 16 },
};

/** Arguments, by their shapes' letters, that are weights: f32 whatever activations are. */
const WEIGHTS: Readonly<Record<string, readonly string[]>> = { linear: ["o i", "o"], layerNorm: ["n"], addNorm: ["n"] };
/** Ops whose result is f32 all the same: sums of many. */
const SUMS = /^(sum|mean|segmentSum|segmentMean)$/;

const opOf = (name: string) => name.split(" ")[0];
const half = (x: number) => fromHalf(toHalf(x));

interface Evaluated {
  readonly values: readonly Float64Array[];
  readonly dtypes: readonly string[];
}

/** The value and all gradients of sum(w call(args)), of arguments so stored. */
async function evaluate(
  on: Device,
  call: Row<unknown>["call"],
  { shapes, values, drawn }: Case,
  dtypes: readonly ("f32" | "f16")[],
  w: (size: number) => Float64Array,
): Promise<Evaluated> {
  const made = withDevice(on, () =>
    scoped(() => {
      const args = values.map((value, i) => tensor(value, shapes[i], dtypes[i]));
      const { value, grads } = valueAndGrad(() => {
        const y = call(args, drawn);
        return [ops.sum(ops.mul(ops.cast(y, "f32"), tensor(w(y.size), y.shape))), y] as const;
      }, args);
      return [value[1], ...grads];
    }),
  );
  const read = await Promise.all(made.map(async (t) => Float64Array.from(await t.data())));
  for (const t of made) t.free();
  return { values: read, dtypes: made.map(({ dtype }) => dtype) };
}

const taking = rows.filter(([name]) => opOf(name) in TAKES);

test("every op of the list is in the catalogue", () => {
  expect([...new Set(taking.map(([name]) => opOf(name)))].sort()).toEqual(Object.keys(TAKES).sort());
});

onDevices((device) => {
  const reference = openReference();

  test.each(taking)("%s", async (name, row) => {
    const op = opOf(name);
    for (const it of edgeCases(row, [0, 1, 33])) {
      const rounded = { ...it, values: it.values.map((values) => values.map(half)) };
      const terms = row.shapes.split(";")[0].split(",").map((term) => term.trim()); // biome-ignore format: one line
      const stored = terms.map((term) => (WEIGHTS[op]?.includes(term) ? "f32" : "f16"));
      const plain = terms.map(() => "f32" as const);
      const w = (size: number) => Float64Array.from(Key.from(it.seed).fold(1).uniforms(size), (u) => half(2 * u - 1));
      const want = (await evaluate(reference, row.call, rounded, plain, w)).values;
      const got = await evaluate(device(), row.call, rounded, stored, w);
      expect(got.dtypes, say(it)).toEqual([SUMS.test(op) ? "f32" : "f16", ...stored]);
      const absolute = { ...it, values: rounded.values.map((values) => values.map(Math.abs)) };
      const magnitude = row.magnitude
        ? row.magnitude({ args: rounded.values, dy: w(want[0].length), drawn: it.drawn, sizes: it.sizes })
        : (await evaluate(reference, row.absolute ?? row.call, absolute, plain, (size) => w(size).map(Math.abs))).values;
      want.forEach((expected, part) => {
        expected.forEach((value, i) => {
          // what rounding makes of it, and numbers that are subnormal in f16, which a driver may take for 0
          const bound = TAKES[op] * (2 ** -11 * Math.abs(magnitude[part][i]) + 2 ** -14);
          const is = got.values[part][i];
          if (!Object.is(is, value) && !(Math.abs(is - value) <= bound))
            expect.fail(
              `${say(it)}: ${part === 0 ? "value" : `gradient ${part}`}[${i}] is ${is} but must be ${value} to ${bound.toExponential(1)}`,
            );
        });
      });
    }
  });

  const x = (values: readonly number[] = [1, -2, 3, 4]) => tensor(values, [2, 2], "f16");
  const read = async (made: readonly Tensor[]) => {
    const values = await Promise.all(made.map(async (t) => [...(await t.data())]));
    for (const t of made) t.free();
    return values;
  };

  test("of f16 and f32 comes f16, and each has a gradient of its own kind", async () => {
    const [value, ...grads] = scoped(() => {
      const args = [x(), tensor([2, 3])];
      const { value, grads } = valueAndGrad(() => {
        const y = ops.mul(args[0], args[1]);
        return [ops.sum(y), y] as const;
      }, args);
      return [value[1], ...grads];
    });
    expect([value, ...grads].map(({ dtype }) => dtype)).toEqual(["f16", "f16", "f32"]);
    expect(await read([value, ...grads])).toEqual([
      [2, -6, 6, 12],
      [2, 3, 2, 3],
      [4, 2],
    ]);
  });

  test("what is used twice, and not at all", async () => {
    const grads = scoped(() => {
      const args = [x(), x()];
      return valueAndGrad(() => ops.sum(ops.add(args[0], ops.mul(args[0], 2))), args).grads;
    });
    expect(grads.map(({ dtype }) => dtype)).toEqual(["f16", "f16"]);
    expect(await read(grads)).toEqual([
      [3, 3, 3, 3],
      [0, 0, 0, 0],
    ]);
  });

  test("a gradient that f16 does not hold is infinite where a weight meets it", async () => {
    const grads = scoped(() => {
      const [given, weight] = [x([1, 1, 1, 1]), tensor([1, 1, 1, 1], [2, 2])];
      const loss = () => ops.mul(ops.sum(ops.cast(ops.linear(given, weight), "f32")), 1e6);
      return valueAndGrad(loss, [weight]).grads;
    });
    expect(await read(grads)).toEqual([new Array(4).fill(Number.POSITIVE_INFINITY)]);
  });

  test("a weight's gradient is added up beyond what f16 holds", async () => {
    const grads = scoped(() => {
      const [given, weight] = [tensor(new Array(200).fill(100), [200, 1], "f16"), tensor([1], [1, 1])];
      const loss = () => ops.mul(ops.sum(ops.linear(given, weight)), 100);
      return valueAndGrad(loss, [weight]).grads;
    });
    expect(await read(grads)).toEqual([[200 * 100 * 100]]);
  });

  test("a checkpoint, and a step that is replayed, give the same bits", async () => {
    const weight = keep(tensor([0.3, -0.7, 1.1, 0.9], [2, 2]));
    const given = keep(x([0.1, 0.2, -0.3, 0.4]));
    const f = () => ops.relu(ops.linear(ops.gelu(given), weight));
    const step = (g: () => Tensor) => () => {
      const { value, grads } = valueAndGrad(() => ops.sum(ops.square(g())), [weight, given]);
      return [value, ...grads];
    };
    const replayed = capture(step(f));
    replayed();
    const [plain, again, ...others] = await Promise.all([step(f), step(() => checkpoint(f)), replayed].map((run) => read(scoped(run))));
    expect(again).toEqual(plain);
    expect(others).toEqual([plain]);
    replayed.free();
    for (const t of [weight, given]) t.free();
  });

  test("an anomaly is seen", async () => {
    const bad = x([1, Number.NaN, 0, 0]);
    await expect(detectAnomaly(() => ops.relu(bad))).rejects.toThrow("detectAnomaly(f): argument 1 of relu, [2, 2], is NaN already");
    bad.free();
  });

  test("an op that does not take it says so", () => {
    const refused: readonly (readonly [string, (x: Tensor) => unknown])[] = [
      ['softmax: x must be f32 but is f16; cast(x, "f32") makes it so', (x) => ops.softmax(x)],
      ['crossEntropy: x must be f32 but is f16; cast(x, "f32") makes it so', (x) => ops.crossEntropy(x, integers([IGNORED, 0]))],
      ['cosine: a must be f32 but is f16; cast(x, "f32") makes it so', (x) => ops.cosine(x, x)],
      ['rmsNorm: x must be f32 but is f16; cast(x, "f32") makes it so', (x) => ops.rmsNorm(x, tensor([1, 1]), 1e-6)],
      ['max: x must be f32 but is f16; cast(x, "f32") makes it so', (x) => ops.max(x)],
      ['cumsum: x must be f32 but is f16; cast(x, "f32") makes it so', (x) => ops.cumsum(x)],
      ["concat(tensors, axis): tensor 1 is f16 but tensor 2 is f32; give all in one dtype", (x) => ops.concat([x, tensor([1, 1], [1, 2])])],
      ["gather(x, index): the index is f16; give u32 or i32", (x) => ops.gather(tensor([1, 2]), x)],
    ]; // biome-ignore format: message beside call
    for (const [why, call] of refused) expect(() => inference(() => scoped(() => call(x()) as Tensor))).toThrow(new TypeError(why));
  });

  test("neither does an optimiser take weights of f16, nor gradients", () => {
    const step = (w: Tensor, g: Tensor) => () =>
      scoped(() => {
        const optimizer = new AdamW([["w", w]], {});
        try {
          optimizer.step([g], 0.1);
        } finally {
          optimizer.free();
        }
      });
    scoped(() => {
      expect(step(x(), tensor([1, 1, 1, 1], [2, 2]))).toThrow(/must be f32 but is f16/);
      expect(step(tensor([1, 1, 1, 1], [2, 2]), x())).toThrow(/must be f32 but is f16/);
    });
  });
});

describe("an adapter", () => {
  /** The loops, as a WebGPU device with these features. */
  const adapter = (features: readonly string[], mixed: boolean): Device => ({
    ...openReference(),
    name: "webgpu",
    choices: new Choices({
      name: "",
      software: false,
      features: new Set(features),
      lanes: 256,
      bytes: 16384,
      units: [],
      mixed,
    } as Abilities),
  });

  test("without shader-f16 takes none, and says what to do", () => {
    const on = adapter(["subgroups"], true);
    expect(storesHalves(on)).toBe(false);
    withDevice(on, () =>
      scoped(() => {
        const x = tensor([1, 2], [2], "f16");
        const why = 'add: a is f16, and this adapter has no shader-f16; cast(x, "f32") makes it f32';
        expect(() => ops.add(x, 1)).toThrow(new TypeError(why));
      }),
    );
  });

  test("stores activations as f16 where that was asked for and it can", () => {
    const asked = [[adapter(["shader-f16"], true)], [adapter([], true)], [adapter(["shader-f16"], false)], [openReference()]];
    expect(asked.map(([on]) => storageOf(on))).toEqual(["f16", "f32", "f32", "f32"]);
  });
});

onDevice("reference", () => {
  test("half the bytes are needed", () => {
    const bytes = (dtype: "f32" | "f16") => needs(() => scoped(() => ops.relu(empty([1000, 64], dtype)))).bytes;
    expect(bytes("f16")).toBe(bytes("f32") / 2);
  });
});

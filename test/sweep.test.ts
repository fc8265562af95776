/**
 * Every device computes what the kernels' loops say, for every op: value and gradients, within f32 bounds. Sizes cross the kernels' edges one letter
 * at a time, 0 and 1 among them; then fast-check draws them; then arguments come out of other ops, in buffers that held something else before.
 */

import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import * as ops from "../autograd/ops.ts";
import { inference, valueAndGrad } from "../autograd/tape.ts";
import { type Device, withDevice } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { openReference } from "../src/reference.ts";
import { scoped, type Tensor, tensor } from "../src/tensor.ts";
import { anyCase, type Case, edgeCases, options, rows, say } from "./cases.ts";
import { edges, type Row } from "./catalogue.ts";
import { allDeviceNames, inPage, onDevices } from "./devices.ts";

/** f32's unit roundoff. */
const U = 2 ** -24;

// ---- properties ----------------------------------------------------------------------------

/** The value and all gradients of sum(w call(args)). */
async function evaluate(
  device: Device,
  call: Row<unknown>["call"],
  { shapes, values, drawn }: Case,
  w: (size: number) => Float64Array,
): Promise<Float64Array[]> {
  const made = withDevice(device, () =>
    scoped(() => {
      const args = values.map((value, i) => tensor(value, shapes[i]));
      const y = inference(() => call(args, drawn));
      const { grads } = valueAndGrad(() => ops.sum(ops.mul(call(args, drawn), tensor(w(y.size), y.shape))), args);
      return [y, ...grads];
    }),
  );
  const read = await Promise.all(made.map(async (t) => Float64Array.from(await t.data())));
  for (const t of made) t.free();
  return read;
}

const abs = (x: Float64Array) => x.map(Math.abs);

/** How far the device is from the loops, in parts of what the row allows; the worst place is named when that is more than one. */
async function agree(device: Device, reference: Device, row: Row<unknown>, it: Case): Promise<void> {
  const w = (size: number) => Float64Array.from(Key.from(it.seed).fold(1).uniforms(size), (u) => Math.fround(2 * u - 1));
  const want = await evaluate(reference, row.call, it, w);
  const got = await evaluate(device, row.call, it, w);
  const magnitude = row.magnitude
    ? row.magnitude({ args: it.values, dy: w(want[0].length), drawn: it.drawn, sizes: it.sizes })
    : await evaluate(reference, row.absolute ?? row.call, { ...it, values: it.values.map(abs) }, (size) => abs(w(size)));
  const units = row.rounding(it.sizes);
  want.forEach((expected, part) => {
    if (got[part].length !== expected.length) throw new Error(`${say(it)}: got ${got[part].length} numbers for ${expected.length}`);
    expected.forEach((value, i) => {
      const bound = units * U * Math.abs(magnitude[part][i]) + 1e-37; // f32's least normal number is near 1e-38
      // IEEE's own answers count too: the mean of nothing is NaN, its logarithm -Infinity
      if (!Object.is(got[part][i], value) && !(Math.abs(got[part][i] - value) <= bound))
        throw new Error(
          `${say(it)}: ${part === 0 ? "value" : `gradient ${part}`}[${i}] is ${got[part][i]} but must be ${value} to ${bound.toExponential(1)}`,
        );
    });
  });
}

// ---- the sweep -----------------------------------------------------------------------------

/** x by way of other ops: its axes turned round and back, and a slice that leaves nothing out. */
const moved = (x: Tensor): Tensor => {
  if (x.shape.length === 0) return x;
  const turned = x.shape.map((_, axis) => x.shape.length - 1 - axis);
  return ops.slice(ops.permute(ops.permute(x, turned), turned), 0, 0, x.shape[0]);
};

/** In a page, and in a worker, the same WGSL and the same WebAssembly run that all sizes are tried on elsewhere: those about a few edges are enough. */
const fewer = (name: string) => inPage || name === "worker";

test("every op is swept", () => {
  expect([...new Set(rows.map(([name]) => name.split(" ")[0]))].sort()).toEqual(Object.keys(ops).sort());
});

onDevices(
  (device, name) => {
    const reference = openReference();
    let cases = 0;
    const check = (row: Row<unknown>, it: Case) => {
      cases++;
      return agree(device(), reference, row, it);
    };
    test.each(rows)("%s", async (_, row) => {
      for (const it of edgeCases(row, [0, 1, ...(fewer(name) ? [17, 65, 257] : edges)])) await check(row, it);
      await fc.assert(
        fc.asyncProperty(anyCase(row), (it) => check(row, it)),
        options(fewer(name) ? 2 : name === "webgpu" ? 5 : 20),
      );
      for (const it of edgeCases(row, [33])) await check({ ...row, call: (args, drawn) => row.call(args.map(moved), drawn) }, it);
    });
    afterAll(() => console.log(`${cases} cases on ${name}`));
  },
  allDeviceNames.filter((name) => name !== "reference"), // the loops in f64 are what the others are held against
);

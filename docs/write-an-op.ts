/**
 * An op of your own. Run it: npx tsx docs/write-an-op.ts
 *
 * An op is a function whose derivative somebody wrote down. Those of the library are written with the same op() that you are about to use; there is
 * no other door. Ours is the soft threshold with a threshold that can be learnt (Donoho 1995): small numbers become 0, large ones come nearer to it.
 *
 *   y = x - t  where x > t,      y = x + t  where x < -t,      else y = 0
 */

import {
  checkGradients,
  greater,
  inference,
  Key,
  less,
  maximum,
  minimum,
  mse,
  mul,
  needs,
  neg,
  notEqual,
  op,
  open,
  scoped,
  sub,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from "geneformer-ts";
import { Adam } from "geneformer-ts/nn";

const [, , name = "auto"] = process.argv;
const device = await open(name as Parameters<typeof open>[0]);
console.log(`device: ${device.name} (${device.description})`);

// ---- 1. The op ------------------------------------------------------------------------------
//
// The function given to op() returns three things: [the value, what to keep, the way back].
//
// The value is made of whatever computes, here other ops: y = x - clamp(x, -t, t). Inside an op they write nothing down, for what we say ourselves
// is the derivative of all of it.
//
// What to keep. The way back needs to know where x lay beyond the threshold, and on which side. One might keep x and t; but y knows it too: it is
// not 0 exactly there, and has the sign of x. So keep y alone, and x may be forgotten as soon as nobody else needs it. What is not on this list
// is freed when the op ends or the forward pass does: memory is a choice you make in this line.
//
// The way back gets dy, the slope of the loss along each number of y, and gives the slope along each argument, by the chain rule:
//
//   dx = dy      where y is not 0 (dy/dx = 1), else 0
//   dt = the sum of -dy where y > 0, +dy where y < 0: one t serves all numbers, so its slopes add up
//
// `need` says which arguments want theirs. A threshold that is not trained has need[1] = false, and costs nothing.

const sign = (y: Tensor): Tensor => sub(greater(y, 0), less(y, 0));

/** The soft threshold of x at t, one positive number.   x [...], t [] -> [...]   @throws RangeError when t is more than one number. */
const softThreshold = op("softThreshold", (x: Tensor, t: Tensor) => {
  if (t.size !== 1) throw new RangeError(`softThreshold(x, t): t must be one number; got [${t.shape}]; make it with tensor([0.5], [])`);
  const y = sub(x, minimum(maximum(x, neg(t)), t));
  return [
    y,
    [y],
    (dy, need) => [
      need[0] ? mul(dy, notEqual(y, 0)) : null, //
      need[1] ? neg(sum(mul(dy, sign(y)))).withShape(t.shape) : null,
    ],
  ];
});

const x = tensor([-2, -0.6, -0.2, 0, 0.2, 0.6, 2]);
const half = tensor([0.5], []);
const list = async (t: Tensor): Promise<string> => [...(await t.data())].map((value) => Number(value.toFixed(3))).join(" ");
const y = inference(() => softThreshold(x, half));
console.log(`softThreshold([${await list(x)}], 0.5) = [${await list(y)}]`);

// ---- 2. Is the derivative right? ------------------------------------------------------------
//
// Never believe a derivative that you have only looked at. checkGradients takes a step to either side along a random direction, in f64, and
// compares the slope it sees with the slope that the way back says. Check at more than one shape, and away from kinks, where there is no slope.

const point = (shape: readonly number[], seed: number) => ({ shape, values: Key.from(seed).normals(shape.reduce((a, b) => a * b, 1)) });
const threshold = { shape: [], values: [0.5] };
for (const shape of [[1], [3, 5], [2, 3, 50]]) await checkGradients(softThreshold, [point(shape, 1), threshold]);
console.log("checkGradients: the slopes agree at [1], [3, 5] and [2, 3, 50]");

// ---- 3. Was it worth it? --------------------------------------------------------------------
//
// Without op() the same line of ops has a derivative already: each op in it brings its own. It is right, and often good enough. But each op keeps
// what it needs for itself, and in a deep network all of that waits for the way back. needs() runs a program without computing anything, and counts
// bytes: here ten layers of it, and a million numbers, 4 MB, in each.

const composed = (x: Tensor, t: Tensor): Tensor => sub(x, minimum(maximum(x, neg(t)), t));
for (const [name, f] of Object.entries({ composed, softThreshold })) {
  const { bytes } = needs(() => {
    const [x, t] = [tensor(new Float32Array(1e6)), tensor([0.5], [])];
    const deep = () => Array.from({ length: 10 }).reduce((y: Tensor) => f(y, t), x);
    return valueAndGrad(() => sum(deep()), [x, t]);
  });
  console.log(`${name.padEnd(13)} ten deep, forward and back: ${(bytes / 1e6).toFixed(0)} MB at most`);
}

// ---- 4. Training with it --------------------------------------------------------------------
//
// A signal is 0 nearly everywhere, and we see it with noise. A threshold removes noise where there is no signal, and spoils the signal a little where
// there is one. Which threshold is best? Let the gradient say; then try many, and see whether it was right.

const N = 4000;
const signal = Float64Array.from(Key.from(2).uniforms(N), (u, i) => (u < 0.1 ? 4 * Key.from(3).fold(i).normals(1)[0] : 0));
const noise = Key.from(4).normals(N);
const clean = tensor(signal);
const noisy = tensor(signal.map((value, i) => value + 0.5 * noise[i]));

type Threshold = (x: Tensor, t: Tensor) => Tensor;

/** What is left of the noise, and lost of the signal, at a threshold. */
async function lossAt(t: number): Promise<number> {
  const loss = inference(() => mse(softThreshold(noisy, tensor([t], [])), clean));
  const value = await loss.item();
  loss.free();
  return value;
}

/** Learn a threshold, from 0.1 on. Gives it and its loss. */
async function learn(f: Threshold): Promise<readonly [t: number, loss: number]> {
  const t = tensor([0.1], []);
  const optimizer = new Adam([["t", t]]);
  for (let step = 0; step < 200; step++)
    scoped(() => {
      const { grads } = valueAndGrad(() => mse(f(noisy, t), clean), [t]);
      optimizer.step(grads, 0.02);
    });
  const value = await t.item();
  optimizer.free();
  t.free();
  return [value, await lossAt(value)];
}

const grid = Array.from({ length: 151 }, (_, i) => i / 100);
const losses: number[] = [];
for (const t of grid) losses.push(await lossAt(t));
const best = losses.indexOf(Math.min(...losses));

const [learnt, loss] = await learn(softThreshold);
console.log(`no threshold:  loss ${losses[0].toFixed(4)}`);
console.log(`learnt:        loss ${loss.toFixed(4)} at t = ${learnt.toFixed(3)}`);
console.log(`best of ${grid.length}:   loss ${losses[best].toFixed(4)} at t = ${grid[best].toFixed(2)}`);

// ---- 5. What goes wrong ---------------------------------------------------------------------
//
// A wrong derivative does not crash. Here somebody forgot that the slope along t changes its sign where y is negative. The op computes the same
// values, and training runs to its end, with a threshold that is far from the best. Nothing says so, but the check.

const wrong: Threshold = op("wrong", (x: Tensor, t: Tensor) => {
  const y = sub(x, minimum(maximum(x, neg(t)), t));
  return [y, [y], (dy, need) => [mul(dy, notEqual(y, 0)), need[1] ? neg(sum(mul(dy, notEqual(y, 0)))).withShape(t.shape) : null]];
});
const [astray, worse] = await learn(wrong);
console.log(`wrong op:      loss ${worse.toFixed(4)} at t = ${astray.toFixed(3)}`);

const said = async (f: () => unknown): Promise<string> => {
  try {
    await f();
    return "no complaint";
  } catch (error) {
    return (error as Error).message;
  }
};
console.log(`wrong op:      ${await said(() => checkGradients(wrong, [point([3, 5], 1), threshold]))}`);

// Whoever forgets to keep what the way back uses is told, since it has been freed by then: here x minus something, on the way to y.

const forgetful = op("forgetful", (x: Tensor, t: Tensor) => {
  const inside = minimum(maximum(x, neg(t)), t);
  return [sub(x, inside), [], (dy) => [mul(dy, notEqual(x, inside)), null]];
});
console.log(`forgetful op:  ${await said(() => valueAndGrad(() => sum(forgetful(x, half)), [x]))}`);

// And a gradient of another shape than its argument is refused with both.

const misshapen = op("misshapen", (x: Tensor, t: Tensor) => [softThreshold(x, t), [], (dy) => [sum(dy), null]]);
console.log(`misshapen op:  ${await said(() => valueAndGrad(() => sum(misshapen(x, half)), [x]))}`);

device.close();

/** Attention inside segments: its loops against a dense softmax and central differences in f64, its WGSL and its compiled form against the loops. */

import { describe, expect, test } from "vitest";
import { attention, attentionGrad } from "../../kernels/attention.ts";
import type { Kernel, Values } from "../../kernels/kernel.ts";
import { dropThreshold, keepScale, quarter, threefry } from "../../kernels/random.ts";
import { Key } from "../../src/key.ts";
import { tilesOf } from "../../src/stream.ts";
import { verify } from "../../src/verify.ts";
import { onDevices } from "../devices.ts";

/** Cells that cross the edges of tiles, and a dead tail. */
const LENGTHS = [1, 31, 32, 33, 65];
const TAIL = 40;
const DROP = { threshold: dropThreshold(0.25), scale: keepScale(0.25), site0: 5, site1: 0x80000001 };
const KEY = Uint32Array.of(0xdeadbeef, 7);

interface Given {
  readonly lengths: readonly number[];
  readonly rows: number;
  readonly heads: number;
  readonly width: number;
  readonly dropped: boolean;
  readonly q: Float64Array;
  readonly k: Float64Array;
  readonly v: Float64Array;
  readonly dy: Float64Array;
}

/** Numbers in [-1, 1) that f32 holds. */
const draw = (seed: number, n: number) => Key.from(seed).uniforms(n).map((u) => 2 * u - 1); // biome-ignore format: one line

function given(width: number, dropped: boolean, lengths: readonly number[] = LENGTHS, heads = 2): Given {
  const rows = lengths.reduce((a, b) => a + b, TAIL);
  const [q, k, v, dy] = [1, 2, 3, 4].map((seed) => draw(seed, rows * heads * width));
  return { lengths, rows, heads, width, dropped, q, k, v, dy };
}

/** What the kernels are called with, and NaN in every output. */
function call({ lengths, rows, heads, width, dropped, q, k, v, dy }: Given) {
  const blank = (n: number) => new Float64Array(n).fill(Number.NaN);
  const tiles = Uint32Array.from([...tilesOf(lengths, rows), 0, 0, 0, 0]); // and one to spare, which owns no row
  const inputs = { q, k, v, tiles, ...(dropped && { key: KEY }) };
  const params = { count: tiles.length / 4, heads, ...(dropped && DROP) };
  const [y, lse, dq, dkv] = [q.length, rows * heads, q.length, 2 * q.length].map(blank);
  const run = (kernel: unknown, buffers: Record<string, Values>) => (kernel as Kernel).loops(buffers, { ...params, rows });
  return {
    inputs,
    params,
    forward() {
      run(attention(width, dropped), { ...inputs, y, lse });
      return { y, lse };
    },
    backward() {
      run(attention(width, dropped), { ...inputs, y, lse });
      run(attentionGrad(width, dropped), { ...inputs, y, dy, lse, dq, dkv });
      return { dq, dk: dkv.subarray(0, q.length), dv: dkv.subarray(q.length) };
    },
  };
}

/** The formula, cell by cell and head by head, with the whole matrix of probabilities. */
function dense({ lengths, rows, heads, width, dropped, q, k, v }: Given) {
  const y = new Float64Array(q.length);
  const lse = new Float64Array(rows * heads);
  const folded = threefry([KEY[0], KEY[1]], [DROP.site0, DROP.site1]);
  let from = 0;
  for (const length of lengths) {
    for (let h = 0; h < heads; h++) {
      const row = (x: Float64Array, i: number) => Array.from(x.subarray((i * heads + h) * width, (i * heads + h + 1) * width));
      for (let i = from; i < from + length; i++) {
        const keys = Array.from({ length }, (_, j) => row(k, from + j));
        const scores = keys.map((key) => key.reduce((sum, value, c) => sum + value * row(q, i)[c], 0) / Math.sqrt(width));
        const total = scores.reduce((sum, score) => sum + Math.exp(score), 0);
        lse[i * heads + h] = Math.log(total);
        scores.forEach((score, j) => {
          const kept = !dropped || quarter(threefry(folded, [i, (h << 16) | (j >> 2)]), j & 3) >= DROP.threshold;
          const weight = kept ? (Math.exp(score) / total) * (dropped ? DROP.scale : 1) : 0;
          row(v, from + j).forEach((value, c) => {
            y[(i * heads + h) * width + c] += weight * value;
          });
        });
      }
    }
    from += length;
  }
  return { y, lse };
}

const farthest = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

describe.each([false, true])("attention's loops, dropped: %s", (dropped) => {
  test.each([1, 3, 4])("are the dense softmax, heads %d wide", (width) => {
    const problem = given(width, dropped);
    const [found, wanted] = [call(problem).forward(), dense(problem)];
    expect(farthest(found.y, wanted.y)).toBeLessThan(1e-12);
    expect(farthest(found.lse, wanted.lse)).toBeLessThan(1e-12);
  });

  test("large scores do not overflow", () => {
    const problem = given(3, dropped);
    const { y } = call({ ...problem, q: problem.q.map((x) => 2000 * x) }).forward();
    expect(y.every(Number.isFinite)).toBe(true);
  });

  test.each(["q", "k", "v"] as const)("have the gradient that central differences have, with respect to %s", (name) => {
    const problem = given(3, dropped, [1, 31, 33]);
    const live = (problem.rows - TAIL) * problem.heads * problem.width;
    const loss = (at: Given) =>
      call(at)
        .forward()
        .y.reduce((sum, y, i) => sum + y * problem.dy[i], 0);
    const h = 1e-5;
    const direction = draw(9, problem.q.length);
    const moved = (by: number) => loss({ ...problem, [name]: problem[name].map((x, i) => x + by * direction[i]) });
    const grads = call(problem).backward();
    const grad = { q: grads.dq, k: grads.dk, v: grads.dv }[name];
    const slope = grad.reduce((sum, g, i) => sum + g * direction[i], 0);
    expect(Math.abs(slope)).toBeGreaterThan(1e-3);
    expect(Math.abs((moved(h) - moved(-h)) / (2 * h) - slope)).toBeLessThan(1e-7);
    expect(grad.subarray(live).every((g) => g === 0)).toBe(true);
  });

  test("see nothing of a neighbour, nor of the dead tail", () => {
    const problem = given(4, dropped);
    const start = (1 + 31) * problem.heads * problem.width;
    const end = start + 32 * problem.heads * problem.width;
    const elsewhere = (x: Float64Array) => x.map((value, i) => (i >= start && i < end ? value : Number.NaN));
    const other = { ...problem, q: elsewhere(problem.q), k: elsewhere(problem.k), v: elsewhere(problem.v), dy: elsewhere(problem.dy) };
    const mine = (x: Float64Array) => x.slice(start, end);
    expect(mine(call(other).forward().y)).toEqual(mine(call(problem).forward().y));
    const [a, b] = [call(problem).backward(), call(other).backward()];
    for (const name of ["dq", "dk", "dv"] as const) expect(mine(b[name])).toEqual(mine(a[name]));
  });
});

describe("dropout of probabilities", () => {
  /** With q = 0 all probabilities are equal, and with v = 1 each y is the kept share of its row times the scale. */
  const shares = (site: Partial<typeof DROP>) => {
    const problem = given(1, true, [200]);
    const { inputs, params, forward } = call({ ...problem, q: problem.q.map(() => 0), v: problem.v.map(() => 1) });
    const { y, lse } = forward();
    (attention(1, true) as unknown as Kernel).loops({ ...inputs, y, lse }, { ...params, ...site });
    return y.slice(0, 200 * problem.heads);
  };

  test("keeps the mean", () => {
    const y = shares({});
    const mean = y.reduce((a, b) => a + b) / y.length;
    // of n draws the mean kept share has deviation sqrt(p / (1 - p) / n)
    expect(Math.abs(mean - 1)).toBeLessThan((5 * Math.sqrt(1 / 3)) / Math.sqrt(200 * y.length));
  });

  test("drops all at a threshold above every draw", () => expect(shares({ threshold: 65536 }).every((y) => y === 0)).toBe(true));

  test("draws for each site and each head anew", () => {
    const y = shares({});
    expect(shares({ site0: 6 })).not.toEqual(y);
    expect(shares({ site1: 6 })).not.toEqual(y);
    const head = (h: number) => y.filter((_, i) => i % 2 === h);
    expect(head(0)).not.toEqual(head(1));
  });
});

onDevices((device) => {
  // one lane a row and columns to spare; the usual width; five lanes a row and columns to spare
  test.each([
    [5, false],
    [64, true],
    [72, false],
  ] as const)("heads %d wide, dropped: %s, as the loops", async (width, dropped) => {
    const problem = given(width, dropped);
    const live = (problem.rows - TAIL) * problem.heads * width;
    const withTail = (x: Float64Array) => x.map((value, i) => (i < live ? value : Number.NaN)); // what lies in the tail must not matter
    const hostile = { ...problem, q: withTail(problem.q), k: withTail(problem.k), v: withTail(problem.v), dy: withTail(problem.dy) };
    const { inputs, params, forward } = call(hostile);
    const { y, lse } = forward();
    const sizes = { y: y.length, lse: lse.length };
    const rounded = { y: Float64Array.from(y, Math.fround), lse: Float64Array.from(lse, Math.fround) };
    // Sums of at most 72 + 65 products, each within 2^-24, and an exponential of a few units in the last place.
    const tolerance = 1e-5;
    const first = await verify(device(), {
      kernel: attention(width, dropped) as unknown as Kernel,
      inputs,
      outputs: sizes,
      params,
      tolerance,
    });
    expect(first.worst).toBeLessThanOrEqual(tolerance);
    const second = await verify(device(), {
      kernel: attentionGrad(width, dropped) as unknown as Kernel,
      inputs: { ...inputs, ...rounded, dy: hostile.dy },
      outputs: { dq: y.length, dkv: 2 * y.length },
      params: { ...params, rows: problem.rows },
      tolerance,
    });
    expect(second.worst).toBeLessThanOrEqual(tolerance);
  });
});

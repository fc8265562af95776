/** Attention inside segments: its loops against a dense softmax and central differences in f64, its WGSL and its compiled form against the loops. */

import { describe, expect, test } from "vitest";
import { PLAIN } from "../../kernels/attention/ways.ts";
import { attention, attentionGrad, crossTiles, FIELDS } from "../../kernels/attention.ts";
import type { Alternative, Kernel, Values } from "../../kernels/kernel.ts";
import { dropThreshold, keepScale, quarter, threefry } from "../../kernels/random.ts";
import { NOBODY } from "../../kernels/segment.ts";
import { Choices, classOf, textOf } from "../../src/choices.ts";
import type { Device } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { spansOf, tilesOf } from "../../src/stream.ts";
import { verify } from "../../src/verify.ts";
import { deviceNames, onDevice, onDevices } from "../devices.ts";

/** Cells that cross the edges of tiles, and a dead tail. */
const LENGTHS = [1, 31, 32, 0, 33, 65];
const TAIL = 40;
/** The same cells in another stream. */
const KEYS = [40, 0, 31, 5, 65, 33];
const KEY_TAIL = 9;
const DROP = { threshold: dropThreshold(0.25), scale: keepScale(0.25), site0: 5, site1: 0x80000001 };
const KEY = Uint32Array.of(0xdeadbeef, 7);

interface Kind {
  readonly dropped: boolean;
  readonly causal: boolean;
  /** Are keys another stream than queries? */
  readonly cross: boolean;
}
const kinds: readonly Kind[] = [false, true].flatMap((dropped) =>
  [false, true].flatMap((causal) => [false, true].map((cross) => ({ dropped, causal, cross }))),
);

interface Given extends Kind {
  readonly lengths: readonly number[];
  readonly rows: number;
  readonly keys: readonly number[];
  readonly keyRows: number;
  readonly heads: number;
  readonly width: number;
  readonly q: Float64Array;
  readonly k: Float64Array;
  readonly v: Float64Array;
  readonly dy: Float64Array;
}

/** Numbers in [-1, 1) that f32 holds. */
const draw = (seed: number, n: number) => Key.from(seed).uniforms(n).map((u) => 2 * u - 1); // biome-ignore format: one line

function given(width: number, kind: Kind, lengths: readonly number[] = LENGTHS, heads = 2): Given {
  const keys = kind.cross ? KEYS.slice(0, lengths.length) : lengths;
  const rows = lengths.reduce((a, b) => a + b, TAIL);
  const keyRows = keys.reduce((a, b) => a + b, kind.cross ? KEY_TAIL : TAIL);
  const [q, dy] = [1, 4].map((seed) => draw(seed, rows * heads * width));
  const [k, v] = [2, 3].map((seed) => draw(seed, keyRows * heads * width));
  return { ...kind, lengths, rows, keys, keyRows, heads, width, q, k, v, dy };
}

/** The tiles of a stream that looks at the same cells of another one, and one to spare, which owns no row. */
function tilesAcross(lengths: readonly number[], rows: number, others: readonly number[]): Uint32Array {
  const [mine, theirs] = [spansOf(lengths), spansOf(others)];
  const tiles = [...tilesOf(mine, rows), ...new Array<number>(FIELDS).fill(0)];
  for (let t = 0; t < tiles.length; t += FIELDS) {
    const cell = mine.findIndex(([from, to]) => from <= tiles[t] && tiles[t] < to);
    if (tiles[t] < tiles[t + 1] && cell >= 0) tiles.splice(t + 2, 2, ...theirs[cell]);
  }
  return Uint32Array.from(tiles);
}

/** What the kernels are called with, and NaN in every output. */
function call({ lengths, rows, keys, keyRows, heads, width, dropped, causal, q, k, v, dy }: Given) {
  const blank = (n: number) => new Float64Array(n).fill(Number.NaN);
  const tiles = tilesAcross(lengths, rows, keys);
  const keyTiles = tilesAcross(keys, keyRows, lengths);
  const inputs = { q, k, v, tiles, ...(dropped && { key: KEY }) };
  const count = tiles.length / FIELDS;
  const params = { count, rows, keyCount: keyTiles.length / FIELDS, keyRows, heads, ...(dropped && DROP) };
  const [y, lse, dq, dkv] = [q.length, rows * heads, q.length, 2 * k.length].map(blank);
  const forwardKernel = attention(width, dropped, causal) as unknown as Kernel;
  const backwardKernel = attentionGrad(width, dropped, causal) as unknown as Kernel;
  return {
    inputs,
    keyTiles,
    params,
    forwardKernel,
    backwardKernel,
    forward() {
      forwardKernel.loops({ ...inputs, y, lse } as Record<string, Values>, params);
      return { y, lse };
    },
    backward() {
      forwardKernel.loops({ ...inputs, y, lse } as Record<string, Values>, params);
      backwardKernel.loops({ ...inputs, keyTiles, y, dy, lse, dq, dkv } as Record<string, Values>, params);
      return { dq, dk: dkv.subarray(0, k.length), dv: dkv.subarray(k.length) };
    },
  };
}

/** The formula, cell by cell and head by head, with the whole matrix of probabilities. */
function dense({ lengths, rows, keys, heads, width, dropped, causal, q, k, v }: Given) {
  const y = new Float64Array(q.length);
  const lse = new Float64Array(rows * heads);
  const folded = threefry([KEY[0], KEY[1]], [DROP.site0, DROP.site1]);
  let [from, fromKey] = [0, 0];
  lengths.forEach((length, cell) => {
    for (let h = 0; h < heads; h++) {
      const row = (x: Float64Array, i: number) => Array.from(x.subarray((i * heads + h) * width, (i * heads + h + 1) * width));
      for (let i = from; i < from + length; i++) {
        const seen = Array.from({ length: keys[cell] }, (_, j) => fromKey + j).filter((_, j) => !causal || j <= i - from);
        if (seen.length === 0) continue;
        const scores = seen.map((j) => row(k, j).reduce((sum, value, c) => sum + value * row(q, i)[c], 0) / Math.sqrt(width));
        const total = scores.reduce((sum, score) => sum + Math.exp(score), 0);
        lse[i * heads + h] = Math.log(total);
        scores.forEach((score, j) => {
          const kept = !dropped || quarter(threefry(folded, [i, (h << 16) | (j >> 2)]), j & 3) >= DROP.threshold;
          const weight = kept ? (Math.exp(score) / total) * (dropped ? DROP.scale : 1) : 0;
          row(v, fromKey + j).forEach((value, c) => {
            y[(i * heads + h) * width + c] += weight * value;
          });
        });
      }
    }
    from += length;
    fromKey += keys[cell];
  });
  return { y, lse };
}

const farthest = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

describe.each(kinds)("attention's loops, dropped: $dropped, causal: $causal, cross: $cross,", (kind) => {
  test.each([1, 3, 4])("are the dense softmax, heads %d wide", (width) => {
    const problem = given(width, kind);
    const [found, wanted] = [call(problem).forward(), dense(problem)];
    expect(farthest(found.y, wanted.y)).toBeLessThan(1e-12);
    expect(farthest(found.lse, wanted.lse)).toBeLessThan(1e-12);
  });

  test("large scores do not overflow", () => {
    const problem = given(3, kind);
    const { y } = call({ ...problem, q: problem.q.map((x) => 2000 * x) }).forward();
    expect(y.every(Number.isFinite)).toBe(true);
  });

  test.each(["q", "k", "v"] as const)("have the gradient that central differences have, with respect to %s", (name) => {
    const problem = given(3, kind, [1, 31, 33]);
    const loss = (at: Given) =>
      call(at)
        .forward()
        .y.reduce((sum, y, i) => sum + y * problem.dy[i], 0);
    const h = 1e-5;
    const direction = draw(9, problem[name].length);
    const moved = (by: number) => loss({ ...problem, [name]: problem[name].map((x, i) => x + by * direction[i]) });
    const grads = call(problem).backward();
    const grad = { q: grads.dq, k: grads.dk, v: grads.dv }[name];
    const slope = grad.reduce((sum, g, i) => sum + g * direction[i], 0);
    expect(Math.abs(slope)).toBeGreaterThan(1e-3);
    expect(Math.abs((moved(h) - moved(-h)) / (2 * h) - slope)).toBeLessThan(1e-7);
    const live = (name === "q" ? problem.lengths : problem.keys).reduce((a, b) => a + b) * problem.heads * problem.width;
    expect(grad.subarray(live).every((g) => g === 0)).toBe(true);
  });

  test("see nothing of a neighbour, nor of the dead tail", () => {
    const problem = given(4, kind);
    /** The third cell of a stream. */
    const mine = (lengths: readonly number[]) => {
      const [from, to] = spansOf(lengths)[2].map((row) => row * problem.heads * problem.width);
      return {
        of: (x: Float64Array) => x.slice(from, to),
        alone: (x: Float64Array) => x.map((n, i) => (i >= from && i < to ? n : Number.NaN)),
      };
    };
    const [queries, keys] = [mine(problem.lengths), mine(problem.keys)];
    const { q, k, v, dy } = problem;
    const other = { ...problem, q: queries.alone(q), k: keys.alone(k), v: keys.alone(v), dy: queries.alone(dy) };
    expect(queries.of(call(other).forward().y)).toEqual(queries.of(call(problem).forward().y));
    const [a, b] = [call(problem).backward(), call(other).backward()];
    expect(queries.of(b.dq)).toEqual(queries.of(a.dq));
    for (const name of ["dk", "dv"] as const) expect(keys.of(b[name])).toEqual(keys.of(a[name]));
  });
});

describe("causal attention's loops", () => {
  test.each([false, true])("see nothing of what comes later, cross: %s", (cross) => {
    const problem = given(3, { dropped: false, causal: true, cross }, [33]);
    const row = problem.heads * problem.width;
    const last = 20; // of the places that count
    const cut = (x: Float64Array) => x.map((n, i) => (i < (last + 1) * row ? n : Number.NaN));
    const [whole, start] = [problem, { ...problem, k: cut(problem.k), v: cut(problem.v) }].map((given) => call(given).forward().y);
    expect(start.slice(0, (last + 1) * row)).toEqual(whole.slice(0, (last + 1) * row));
    expect(start.slice((last + 1) * row, 33 * row).every(Number.isNaN)).toBe(true);
  });
});

test("a stream's tiles turned to another have the spans of its cells", () => {
  const rows = LENGTHS.reduce((a, b) => a + b, TAIL);
  const tiles = Uint32Array.from([...tilesOf(spansOf(LENGTHS), rows), 0, 0, 0, 0, 0]);
  const owner = Uint32Array.from({ length: rows }, (_, row) => {
    const cell = spansOf(LENGTHS).findIndex(([from, to]) => from <= row && row < to);
    return cell < 0 ? NOBODY : cell;
  });
  const turned = tiles.map(() => NOBODY);
  crossTiles.loops({ tiles, owner, spans: Uint32Array.from(spansOf(KEYS).flat()), turned }, { count: tiles.length / FIELDS });
  expect(turned).toEqual(tilesAcross(LENGTHS, rows, KEYS));
});

describe("dropout of probabilities", () => {
  /** With q = 0 all probabilities are equal, and with v = 1 each y is the kept share of its row times the scale. */
  const shares = (site: Partial<typeof DROP>) => {
    const problem = given(1, { dropped: true, causal: false, cross: false }, [200]);
    const { inputs, params, forward, forwardKernel } = call({ ...problem, q: problem.q.map(() => 0), v: problem.v.map(() => 1) });
    const { y, lse } = forward();
    forwardKernel.loops({ ...inputs, y, lse }, { ...params, ...site });
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

/** What lies in the tail must not matter: NaN there. */
function hostile(problem: Given): Given {
  const withTail = (x: Float64Array, lengths: readonly number[]) => {
    const live = lengths.reduce((a, b) => a + b) * problem.heads * problem.width;
    return x.map((value, i) => (i < live ? value : Number.NaN));
  };
  const { q, k, v, dy, lengths, keys } = problem;
  return { ...problem, q: withTail(q, lengths), k: withTail(k, keys), v: withTail(v, keys), dy: withTail(dy, lengths) };
}

/** How far a device is from the loops, forward and backward, by kernels that stand for the plain ones. */
async function distances(device: Device, problem: Given, way: (kernel: Kernel) => Kernel): Promise<number[]> {
  const { inputs, keyTiles, params, forward, forwardKernel, backwardKernel } = call(problem);
  const { y, lse } = forward();
  const rounded = { y: Float64Array.from(y, Math.fround), lse: Float64Array.from(lse, Math.fround) };
  const there = { kernel: way(forwardKernel), inputs, outputs: { y: y.length, lse: lse.length }, params, tolerance: 0 };
  const back = {
    kernel: way(backwardKernel),
    inputs: { ...inputs, keyTiles, ...rounded, dy: problem.dy },
    outputs: { dq: y.length, dkv: 2 * problem.k.length },
    params,
    tolerance: 0,
  };
  return [(await verify(device, there)).worst, (await verify(device, back)).worst];
}

/** Sums of at most 128 + 65 products, each within 2^-24, and an exponential of a few units in the last place. */
const TOLERANCE = 1e-5;
const near = (distance: number, tolerance = TOLERANCE) => expect(distance).toBeLessThanOrEqual(tolerance);

onDevices((device) => {
  // one lane a row and columns to spare; the usual width; five lanes a row and columns to spare
  test.each([
    [5, false, false, true],
    [64, true, false, false],
    [64, true, true, true],
    [72, false, true, false],
  ])("heads %d wide, dropped: %s, causal: %s, cross: %s, as the loops", async (width, dropped, causal, cross) => {
    for (const distance of await distances(device(), hostile(given(width, { dropped, causal, cross })), (kernel) => kernel)) near(distance);
  });
});

// ---- register tiles ----------------------------------------------------------------------------

const alternativesOf = (kernel: Kernel): readonly Alternative[] => kernel.alternatives?.of({}) ?? [];
const waysFor = (width: number, dropped: boolean, causal: boolean) =>
  [attention, attentionGrad].map((family) => alternativesOf(family(width, dropped, causal) as unknown as Kernel));

if (deviceNames.includes("webgpu"))
  onDevice("webgpu", (device) => {
    test("nobody takes them on a software adapter, unless a table says so", () => {
      const { abilities } = device().choices!;
      const kernel = attention(64, false, false) as unknown as Kernel;
      const params = { count: 64, keyRows: 2048, heads: 4 };
      const choices = new Choices(abilities);
      expect(choices.plan(kernel, params).passes).toBe(kernel.passes);
      const [first] = alternativesOf(kernel);
      choices.use({
        adapter: abilities.name,
        tried: { [classOf(kernel, params)]: [{ alternative: first.name, text: textOf(first.kernel), ms: 1 }] },
      });
      expect(choices.plan(kernel, params)).toBe(first.kernel);
    });
  });

describe.each([20, 64, 128])("the ways to write attention over heads %d wide", (width) => {
  const all = [false, true].flatMap((dropped) => [false, true].flatMap((causal) => waysFor(width, dropped, causal)));

  test("say how many lanes and bytes they take", () => {
    const sizes: Record<string, number> = { f32: 4, vec4f: 16, "vec4<f16>": 8, vec2f: 8, vec2u: 8 };
    for (const { kernel, lanes, bytes, mixed, features } of all.flatMap((ways) => ways.slice(0, -1))) {
      const tiled = kernel.passes.filter(({ wgsl }) => wgsl.includes("var<workgroup>"));
      const taken = tiled.map(({ wgsl }) =>
        [...wgsl.matchAll(/var<workgroup> \w+: array<([\w<>]+), (\d+)>/g)].map(
          ([, type, n]) => Math.ceil((sizes[type] * Number(n)) / 16) * 16,
        ),
      );
      expect(Math.max(...taken.map((each) => each.reduce((a, b) => a + b)))).toBe(bytes);
      for (const { wgsl } of tiled) expect(Number(/const LANES = (\d+)u;/.exec(wgsl)?.[1])).toBe(lanes);
      expect(kernel.passes.some(({ directives = [] }) => directives.includes("enable f16;"))).toBe(mixed);
      expect(features).toEqual(mixed ? ["shader-f16"] : []);
    }
  });

  test("end with the plain one, which fits every adapter", () => {
    for (const ways of all) {
      const plain = ways.at(-1)!;
      expect(plain.name).toBe(PLAIN);
      expect([plain.lanes <= 256, plain.bytes <= 16384, plain.mixed, plain.unproven, plain.kernel.alternatives]).toEqual([
        ...[true, true, false, false],
        undefined,
      ]);
      expect(new Set(ways.map(({ name }) => name)).size).toBe(ways.length);
    }
  });
});

/** Captured steps: a replay computes what the function would, from what is written now, in memory of its own; what it could not do again is refused. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { detectAnomaly } from "../../autograd/anomaly.ts";
import { add, attention, crossEntropy, dropout, gather, layerNorm, linear, mul, reshape, scatterAdd, segmentMean, square, sum } from "../../autograd/ops.ts"; // biome-ignore format: one line
import { StepKey } from "../../autograd/stepkey.ts";
import { accumulate, inference, valueAndGrad } from "../../autograd/tape.ts";
import { each, kernel, lanes } from "../../kernels/kernel.ts";
import { IGNORED } from "../../kernels/loss.ts";
import { Attention } from "../../nn/attention.ts";
import { withHooks } from "../../nn/hooks.ts";
import { Linear } from "../../nn/linear.ts";
import { LossScale } from "../../nn/lossscale.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { ahead, type Captured, capture } from "../../src/capture.ts";
import { choose, type Device, open, use, withDevice } from "../../src/device.ts";
import { OutOfMemory } from "../../src/errors.ts";
import { Heap, HeapBranch } from "../../src/heap.ts";
import { Key } from "../../src/key.ts";
import { type Branch, Branching, Pool, poolOn } from "../../src/pool.ts";
import { needs, prepare } from "../../src/shapes.ts";
import { type Index, index, inner, mostTiles, rewriteIndex, rewriteSegments, type Segments, segments } from "../../src/stream.ts";
import { full, integers, keep, normal, ones, run, scoped, type Tensor, tensor, tensorsIn, zeros } from "../../src/tensor.ts";
import { allDeviceNames, onDevice, onDevices, watched } from "../devices.ts";
import { withWorkers } from "../workers.ts";

// ---- a step as training takes it -------------------------------------------------------------

const [WORDS, WIDTH, HEADS, LAYERS] = [11, 8, 2, 2];
const [ROWS, CELLS, PLACES] = [70, 4, 12];
const ROOM = { rows: ROWS, cells: CELLS, tiles: mostTiles(ROWS, CELLS) };

/** What differs from step to step. */
interface Numbers {
  readonly lengths: readonly number[];
  readonly tokens: readonly number[];
  readonly places: readonly number[];
  readonly labels: readonly number[];
  readonly key: Key;
  readonly rate: number;
  /** Times the loss, and by which the gradients are divided again. */
  readonly scale: number;
}

const LENGTHS = [[33, 0, 5], [7, 40, 20, 3], [1], [70], [2, 3, 60]]; // biome-ignore format: one line

/** Step number i of a training run in which everything changes. */
function numbersOf(i: number): Numbers {
  const lengths = LENGTHS[i % LENGTHS.length];
  const used = lengths.reduce((a, b) => a + b, 0);
  const drawn = (n: number, below: number, of: number) => Array.from(Key.from(of).fold(i).uniforms(n), (u) => Math.floor(u * below));
  const asked = 1 + ((5 * i) % PLACES);
  return {
    lengths,
    tokens: drawn(used, WORDS, 1),
    places: drawn(asked, used, 2),
    labels: drawn(asked, WORDS, 3),
    key: Key.from(4).fold(i),
    rate: 0.01 / (i + 1),
    scale: 1000.3 * (i + 1),
  };
}

interface Inputs {
  readonly tokens: Index;
  readonly places: Index;
  readonly cells: Segments;
  readonly labels: Tensor;
  readonly words: Tensor;
  readonly scale: Tensor;
  readonly inverse: Tensor;
}

const padded = (values: readonly number[], length: number, by = 0) => [...values, ...new Array<number>(length - values.length).fill(by)];

/** The inputs of a step, made for it. */
const made = ({ lengths, tokens, places, labels, key, scale }: Numbers): Inputs => ({
  tokens: index(padded(tokens, ROWS), WORDS, { count: tokens.length, frozen: 3 }),
  places: index(padded(places, PLACES), ROWS, { count: places.length }),
  cells: segments(lengths, ROOM),
  labels: integers(padded(labels, PLACES, IGNORED)),
  words: integers(key.words),
  scale: tensor([scale], []),
  inverse: tensor([1 / scale], []),
});

/** Other numbers in inputs that are there. */
function rewrite(inputs: Inputs, { lengths, tokens, places, labels, key, scale }: Numbers): void {
  rewriteIndex(inputs.tokens, tokens, { frozen: 3 });
  rewriteIndex(inputs.places, places);
  rewriteSegments(inputs.cells, lengths);
  inputs.labels.write(padded(labels, PLACES, IGNORED));
  inputs.words.write(key.words);
  inputs.scale.write([scale]);
  inputs.inverse.write([1 / scale]);
}

interface Result {
  readonly loss: Tensor;
  readonly clip: Tensor;
  readonly means: Tensor;
}

/** A model of two layers, its optimiser, and a step of it. */
function trainee() {
  const key = Key.from(9);
  const square = (n: number) => normal(key.fold(n), 0.3, [WIDTH, WIDTH]);
  const weights = keep(
    scoped(() => ({
      table: normal(key.fold(0), 0.5, [WORDS, WIDTH]),
      layers: Array.from({ length: LAYERS }, (_, i) => ({
        qkv: [square(10 * i + 1), square(10 * i + 2), square(10 * i + 3)],
        scale: ones([WIDTH]),
        offset: zeros([WIDTH]),
      })),
      bias: zeros([WORDS]),
    })),
  );
  const all = [...tensorsIn(weights)];
  const optimizer = new AdamW(
    all.map((t, i) => [`${i}`, t] as const),
    { clip: 0.5 },
  );
  const compute = ({ tokens, places, cells, labels, words, scale, inverse }: Inputs): Result => {
    const step = new StepKey(words);
    const { value, grads } = valueAndGrad(() => {
      let x = gather(weights.table, tokens);
      for (const [i, { qkv, scale, offset }] of weights.layers.entries()) {
        const [q, k, v] = qkv.map((w) => linear(x, w));
        const y = attention(q, k, v, cells, HEADS, { drop: { p: 0.1, key: step.fold(2 * i) } });
        x = layerNorm(add(x, dropout(y, { p: 0.2, key: step.fold(2 * i + 1) })), scale, offset, 1e-5);
      }
      const loss = crossEntropy(linear(gather(x, places), weights.table, weights.bias), labels);
      return [mul(loss, scale), loss, segmentMean(x, cells)] as const;
    }, all);
    const clip = optimizer.apply(grads.map((g) => mul(g, inverse)));
    return { loss: value[1], clip, means: value[2] };
  };
  return {
    all,
    optimizer,
    compute,
    free() {
      optimizer.free();
      for (const t of all) t.free();
    },
  };
}
type Trainee = ReturnType<typeof trainee>;

const bits = async (tensors: Iterable<Tensor>): Promise<number[][]> => {
  const values = await Promise.all([...tensors].map((t) => t.data()));
  return values.map((each) => [...new Uint32Array(Float32Array.from(each).buffer)]);
};
const outcome = ({ loss, clip, means }: Result) => bits([loss, clip, means]);

/** What steps give, and the weights after them; `next` runs one. */
async function trained(steps: number, next: (one: Trainee, numbers: Numbers) => Result, end: () => void = () => {}) {
  const one = trainee();
  const results: number[][][] = [];
  for (let i = 0; i < steps; i++) {
    const numbers = numbersOf(i);
    one.optimizer.advance(numbers.rate);
    results.push(await outcome(next(one, numbers)));
  }
  const weights = await bits(one.all);
  end();
  one.free();
  return { results, weights };
}

/** Steps replayed: after the first, which records, only inputs are written. */
function replayed(steps: number) {
  let inputs: Inputs | null = null;
  let step: Captured<Result> | null = null;
  return trained(
    steps,
    (one, numbers) => {
      if (inputs) rewrite(inputs, numbers);
      else inputs = made(numbers);
      const given = inputs;
      step ??= capture(() => one.compute(given));
      return step();
    },
    () => {
      step?.free();
      for (const t of tensorsIn(inputs)) t.free();
    },
  );
}

const free = (...tensors: Tensor[]) => {
  for (const t of tensors) t.free();
};

/** Loops that no worker has heard of. */
const cubed = kernel({
  name: "cubed",
  inputs: { x: "f32" },
  outputs: { y: "f32" },
  params: { n: "u32" },
  passes: [{ groups: ({ n }) => lanes(n), wgsl: each("y[i] = x[i] * x[i] * x[i];") }],
  loops({ x, y }, { n }) {
    for (let i = 0; i < n; i++) y[i] = x[i] ** 3;
  },
});

onDevices((on) => {
  test("five replayed steps are five steps, bit for bit: other cells, keys, rates and loss scales each time", async () => {
    const live = on().memory.live;
    const results: Result[] = [];
    const eager = await trained(
      5,
      (one, numbers) => {
        const result = scoped(() => one.compute(made(numbers)));
        results.push(result);
        return result;
      },
      () => free(...tensorsIn(results)),
    );
    const again = await replayed(5);
    expect(again).toEqual(eager);
    expect(eager.results[0][0]).not.toEqual(eager.results[1][0]);
    expect(on().memory.live).toBe(live);
  });

  test("five replayed steps are five steps, bit for bit, by a loss scale that moves on: it grows, and halves where gradients overflow", async () => {
    const key = Key.from(11);
    const run = async (replaying: boolean) => {
      const w = keep(normal(key, 0.5, [WIDTH, WIDTH]));
      const [x, words] = [zeros([ROWS, WIDTH]), integers([0, 0])];
      const scale = new LossScale({ initial: 2 ** 100, interval: 2 });
      const optimizer = new AdamW([["w", w]], { clip: 0.5, scale });
      const compute = () => {
        const step = new StepKey(words);
        const { value, grads } = valueAndGrad(() => {
          const loss = sum(square(dropout(linear(x, w), { p: 0.2, key: step.fold(0) })));
          return [scale.apply(loss), loss] as const;
        }, [w]);
        return { loss: value[1], clip: optimizer.apply(grads) };
      };
      const captured = capture(compute);
      const results: unknown[] = [];
      for (const [i, size] of [1e-24, 1e-24, 1e-24, 1, 1e-24].entries()) {
        x.write(key.fold(i).normals(ROWS * WIDTH, size));
        words.write(key.fold(100 + i).words);
        optimizer.advance(0.01 / (i + 1));
        const { loss, clip } = replaying ? captured() : scoped(compute);
        results.push(await bits([loss, clip, scale.state, w]), (await scale.state.data())[0]);
        if (!replaying) free(loss, clip);
      }
      captured.free();
      optimizer.free();
      scale.free();
      free(w, x, words);
      return results;
    };
    const before = on().memory.live;
    const eager = await run(false);
    expect(await run(true)).toEqual(eager);
    expect(eager.filter((_, i) => i % 2 === 1)).toEqual([2 ** 100, 2 ** 101, 2 ** 101, 2 ** 100, 2 ** 100]);
    const weights = eager.filter((_, i) => i % 2 === 0).map((each) => (each as number[][])[3]);
    expect(weights[3]).toEqual(weights[2]); // the step that was skipped
    expect(weights[4]).not.toEqual(weights[3]);
    expect(on().memory.live).toBe(before);
  });

  test("nothing freezes: each number that is written changes what a replay gives", async () => {
    const one = trainee();
    const before = numbersOf(0);
    const other = numbersOf(1);
    const inputs = made(before);
    const start = await Promise.all([...one.all, ...[...one.optimizer.state()].map(([, t]) => t)].map((t) => t.data()));
    const step = capture(() => one.compute(inputs));
    /** A step from the beginning: what it gives, and the weights after it. */
    const from = async (numbers: Numbers, steps = 0) => {
      [...one.all, ...[...one.optimizer.state()].map(([, t]) => t)].forEach((t, i) => {
        t.write(start[i]);
      });
      rewrite(inputs, numbers);
      one.optimizer.steps = steps;
      one.optimizer.advance(numbers.rate);
      const given = await outcome(step());
      return { given, weights: await bits(one.all) };
    };
    const first = await from(before);
    const forward: readonly Partial<Numbers>[] = [
      { tokens: other.tokens.slice(0, before.tokens.length) },
      { lengths: [before.tokens.length - 10, 10] },
      { places: before.places.map((place) => (place + 1) % before.tokens.length) },
      { labels: before.labels.map((label) => (label + 1) % WORDS) },
      { key: other.key },
    ];
    for (const change of forward) {
      const { given, weights } = await from({ ...before, ...change });
      expect(given[0], Object.keys(change)[0]).not.toEqual(first.given[0]);
      expect(weights, Object.keys(change)[0]).not.toEqual(first.weights);
    }
    const rate = await from({ ...before, rate: before.rate / 2 });
    expect(rate.given).toEqual(first.given);
    expect(rate.weights).not.toEqual(first.weights);
    expect((await from(before, 7)).weights).not.toEqual(first.weights); // Adam's step number
    // the scale of the loss, without its inverse, is that of the gradients' norm
    inputs.inverse.write([1]);
    one.optimizer.advance(before.rate);
    const [norm] = await step().clip.data();
    expect(norm).toBeGreaterThan(100);
    expect(await from(before)).toEqual(first); // and nothing stays
    step.free();
    one.free();
    free(...tensorsIn(inputs));
  });

  test("two hundred replays take no memory, and the end gives all of it back", async () => {
    const empty = on().memory.live;
    const one = trainee();
    const inputs = made(numbersOf(0));
    const before = on().memory.live;
    const step = capture(() => one.compute(inputs));
    expect([step.commands, step.bytes]).toEqual([0, 0]);
    one.optimizer.advance(1e-3);
    const { loss } = step();
    const { live, reserved } = on().memory;
    expect(step.commands).toBeGreaterThan(50);
    expect(live - before).toBeGreaterThanOrEqual(step.bytes);
    expect(live - before).toBeLessThan(1.05 * step.bytes); // a block that lay free may be larger than what was asked for
    for (let i = 0; i < 200; i++) {
      rewrite(inputs, numbersOf(i));
      one.optimizer.advance(1e-3);
      expect(step().loss).toBe(loss);
      if (i % 20 === 0) expect(await loss.item()).toBeGreaterThan(0);
    }
    expect([on().memory.live, on().memory.reserved]).toEqual([live, reserved]);
    step.free();
    step.free();
    expect([step.commands, step.bytes]).toEqual([0, 0]);
    expect(on().memory.live).toBe(before);
    expect(loss.alive).toBe(false);
    one.free();
    free(...tensorsIn(inputs));
    expect(on().memory.live).toBe(empty);
  });

  test("buffers that are not needed together share their memory", () => {
    const x = ones([1000]);
    const deep = (n: number) =>
      capture(() => {
        let y = scoped(() => add(x, x));
        for (let i = 0; i < n; i++) y = replaced(y);
        return y;
      });
    const replaced = (y: Tensor) => {
      const next = add(y, x);
      y.free();
      return next;
    };
    const [few, many] = [deep(2), deep(50)];
    few();
    many();
    expect(many.bytes).toBe(few.bytes);
    few.free();
    many.free();
    x.free();
  });

  test("a number read after its step is that step's, however many follow before anybody waits", async () => {
    const x = zeros([3]);
    const step = capture(() => sum(mul(x, 2)));
    await step().item();
    const reads: Promise<number>[] = [];
    for (let i = 0; i < 20; i++) {
      x.write([i, i, 1]);
      reads.push(step().item());
    }
    expect(await Promise.all(reads)).toEqual(Array.from({ length: 20 }, (_, i) => 4 * i + 2));
    step.free();
    x.free();
  });

  test("hundreds of kernels are replayed in order, those of one's own among them", async () => {
    const x = tensor([1, -2]);
    const step = capture(() =>
      scoped(() => {
        let y = x;
        for (let i = 0; i < 300; i++) y = add(y, 1);
        for (let i = 0; i < 2; i++) y = add(run(cubed, { x: mul(y, 0.01) }, { y: [2] }, { n: 2 }).y, 1);
        return [run(cubed, { x: y }, { y: [2] }, { n: 2 }).y, reshape(y, [2, 1])] as const;
      }),
    );
    const want = (x: number) => {
      let y = x + 300;
      for (let i = 0; i < 2; i++) y = (0.01 * y) ** 3 + 1;
      return [y ** 3, y];
    };
    for (const values of [
      [1, -2],
      [50, 3],
      [-300, 7],
    ]) {
      x.write(values);
      const [y, z] = step();
      const [a, b] = [await y.data(), await z.data()];
      values.forEach((value, i) => {
        const [cube, root] = want(value);
        expect(Math.abs(a[i] - cube) / Math.abs(cube)).toBeLessThan(1e-5);
        expect(Math.abs(b[i] - root) / Math.abs(root)).toBeLessThan(1e-5);
      });
    }
    expect(step.commands).toBeGreaterThanOrEqual(307);
    step.free();
    x.free();
  });

  test("what it uses from outside is held: a replay finds it, although its owner, or f itself, let go of it", async () => {
    const before = on().memory.live;
    const [x, w, v] = [tensor([1, 2, 3]), tensor([10, 10, 10]), tensor([5, 5, 5])];
    const step = capture(() => {
      const y = scoped(() => add(mul(x, w), v));
      v.free();
      return y;
    });
    expect([...(await step().data())]).toEqual([15, 25, 35]);
    expect(v.alive).toBe(false);
    w.free();
    const others = Array.from({ length: 8 }, () => full([3], 7)); // would have their buffers
    x.write([4, 5, 6]);
    expect([...(await step().data())]).toEqual([45, 55, 65]);
    step.free();
    free(x, ...others);
    expect(on().memory.live).toBe(before);
  });

  test("a result that somebody holds outlives the capture; one that was made outside is not its own", async () => {
    const before = on().memory.live;
    const x = tensor([1, 2]);
    const step = scoped(() => capture(() => ({ x, y: add(x, x), name: "double", none: null })));
    const { y, name, none } = scoped(() => step()); // no scope around frees what is the capture's
    expect([name, none, step().x === x]).toEqual(["double", null, true]);
    y.hold();
    step.free();
    expect([x.alive, y.alive]).toEqual([true, true]);
    const others = Array.from({ length: 8 }, () => full([2], 7));
    expect([...(await y.data())]).toEqual([2, 4]);
    free(x, y, ...others);
    expect(on().memory.live).toBe(before);
  });

  test("inference, gradients that are summed, and captures side by side", async () => {
    const before = on().memory.live;
    const [x, w] = [tensor([1, 2]), tensor([3, 4])];
    const forward = capture(() => inference(() => sum(mul(x, w))));
    const back = capture(() => {
      const loss = () => sum(square(mul(x, w)));
      return accumulate(accumulate(null, valueAndGrad(loss, [w]).grads), valueAndGrad(loss, [w]).grads)[0];
    });
    for (const [a, b] of [
      [1, 2],
      [-3, 5],
    ]) {
      x.write([a, b]);
      expect(await forward().item()).toBe(3 * a + 4 * b);
      expect([...(await back().data())]).toEqual([2 * 2 * 3 * a * a, 2 * 2 * 4 * b * b]);
    }
    forward.free();
    expect((await back().data())[0]).toBe(12 * 9);
    back.free();
    free(x, w);
    expect(on().memory.live).toBe(before);
  });

  test("a step without tensors, and one of nothing", () => {
    const step = capture(() => 42);
    expect([step(), step(), step.commands]).toEqual([42, 42, 0]);
    step.free();
    const nothing = capture(() => {});
    nothing();
    expect(nothing()).toBeUndefined();
    nothing.free();
  });

  describe("is refused, and leaves nothing behind:", () => {
    const refused = (f: () => unknown, message: string | RegExp) => {
      const before = on().memory.live;
      const step = capture(f);
      expect(step).toThrow(message);
      expect(on().memory.live).toBe(before);
      step.free();
      expect(on().memory.live).toBe(before);
    };
    const again = ", which a replay would not do again; ";

    test("uploads", () => {
      const x = ones([2]);
      refused(
        () => add(add(x, x), tensor([1, 2])),
        `capture(f): tensor(values, shape) uploads numbers inside f${again}make the tensor before, and write() to it between the steps`,
      );
      refused(() => x.write([1, 2]), `capture(f): write(values) uploads numbers inside f${again}call it before the step`);
      refused(() => StepKey.from(Key.from(1)), "capture(f): tensor(values, shape) uploads numbers inside f");
      refused(() => segments([1, 2]), "capture(f): tensor(values, shape) uploads numbers inside f");
      const made = index([0, 1], 2);
      refused(() => rewriteIndex(made, [1, 0]), "capture(f): write(values) uploads numbers inside f");
      const step = capture(() => add(full([2], 3), zeros([2]))); // made on the device
      step();
      step.free();
      free(x, ...tensorsIn(made));
    });

    test("reading", () => {
      const x = ones([1]);
      const instead = `${again}return the tensor, and read it after the step`;
      refused(() => add(x, x).data(), `capture(f): data() reads numbers inside f${instead}`);
      refused(() => add(x, x).item(), `capture(f): item() reads a number inside f${instead}`);
      refused(async () => add(x, x), "capture(f): f returned a promise; let it return tensors, and await data() afterwards");
      refused(async () => await add(x, x).item(), "capture(f): f returned a promise");
      x.free();
    });

    test("an optimiser's whole step, and its host's half", () => {
      const w = ones([2]);
      const optimizer = new AdamW([["w", w]]);
      refused(
        () => optimizer.step([w], 0.1),
        `capture(f): AdamW.step(grads, rate) writes the step's numbers inside f${again}call advance(rate) before the captured step and apply(grads) inside f`,
      );
      refused(() => optimizer.advance(0.1), "capture(f): AdamW.advance(rate) writes the step's numbers inside f");
      expect(optimizer.steps).toBe(0);
      refused(() => optimizer.apply([]), "AdamW.apply(grads): 0 gradients for 1 parameters");
      expect(() => optimizer.advance(-1)).toThrow(new RangeError("AdamW.advance(rate): rate must be 0 or more; got -1"));
      optimizer.free();
      w.free();
    });

    test("hooks, inside and around, those of attention's weights too", () => {
      const model = { layer: new Linear(2, 2, Key.from(1)), attention: new Attention(1) };
      const x = ones([2, 2]);
      const cells = segments([2]);
      const seen: string[] = [];
      const note = (_: Tensor, { path }: { path: string }) => void seen.push(path);
      refused(
        () => withHooks(model, { layer: note }, () => model.layer.forward(x)),
        `capture(f): withHooks(model, hooks, f) calls hooks inside f${again}run the function under hooks without capturing it`,
      );
      refused(
        () => withHooks(model, { "attention.weights": note }, () => model.attention.forward(x, x, x, cells)),
        "capture(f): withHooks(model, hooks, f) calls hooks inside f",
      );
      const step = capture(() => add(model.layer.forward(x), model.attention.forward(x, x, x, cells)));
      const around = () => withHooks(model, { layer: note }, step);
      const said = "withHooks(model, hooks, f): f runs a captured step, of whose replays it would see nothing; give it the function itself";
      expect(around).toThrow(said); // at first
      step();
      expect(around).toThrow(said); // and later
      expect(seen).toEqual([]);
      step.free();
      free(x, model.layer.weight, ...(model.layer.bias ? [model.layer.bias] : []), ...tensorsIn(cells));
    });

    test("looking for NaN, inside and around", async () => {
      const x = ones([2]);
      refused(() => detectAnomaly(() => add(x, x)), `capture(f): detectAnomaly(f) reads numbers inside f${again}give it the function`);
      const step = capture(() => add(x, x));
      await expect(detectAnomaly(step)).rejects.toThrow("detectAnomaly(f): f runs a captured step");
      step();
      await expect(detectAnomaly(step)).rejects.toThrow("detectAnomaly(f): f runs a captured step");
      step.free();
      x.free();
    });

    test("a capture inside another, and inside what writes it on a tape", () => {
      const x = ones([1]);
      const inside = capture(() => add(x, x));
      refused(() => add(inside(), x), `capture(f): a captured step runs inside f${again}call the function that it captured`);
      inside();
      refused(() => add(inside(), x), "capture(f): a captured step runs inside f");
      refused(() => inside.free(), "capture(f): free() gives a step back inside f");
      expect(() => valueAndGrad(inside, [x])).toThrow("valueAndGrad(f, wrt): f runs a captured step");
      inside();
      inside.free();
      x.free();
    });

    test("what throws in between; the next call begins anew", async () => {
      const x = ones([1000]);
      const before = on().memory.live;
      let sound = false;
      const step = capture(() => {
        const y = add(x, x);
        if (!sound) throw new RangeError("not yet");
        return y;
      });
      expect(step).toThrow(new RangeError("not yet"));
      expect(step).toThrow("not yet");
      expect([on().memory.live, step.commands, step.bytes]).toEqual([before, 0, 0]);
      sound = true;
      expect((await step().data())[999]).toBe(2);
      step.free();
      x.free();
    });

    test("tensors of another device", async () => {
      const { device: other } = await choose("reference");
      const [x, y] = [ones([2]), withDevice(other, () => ones([2]))];
      refused(() => [add(x, x), add(y, y)], `uses a tensor on reference (the kernels' loops in f64); bring all to one device`);
      free(x, y);
      expect(other.memory.live).toBe(0);
      other.close();
    });

    test("a step that was freed, or of whose results one was", () => {
      const x = ones([2, 3]);
      const step = capture(() => add(x, x));
      step().free();
      expect(step).toThrow("capture(f): its result [2, 3] was freed, but belongs to the capture; free the step when it is of no use");
      step.free();
      expect(step).toThrow(new Error("capture(f): the step was freed; capture f again"));
      x.free();
    });
  });
}, allDeviceNames);

// ---- devices that are gone, or short, or cannot ----------------------------------------------

describe("a captured step", () => {
  test.each(allDeviceNames.filter((name) => name !== "reference"))(
    "on %s, which was closed, says so; what is left is given up",
    async (name) => {
      const on = await open(
        name === "webgpu" ? "webgpu" : "cpu",
        name === "threads" ? { threads: 2 } : { threads: 1, worker: name === "worker" },
      );
      const x = ones([2]);
      const step = capture(() => add(x, x));
      expect([...(await step().data())]).toEqual([2, 2]);
      on.close();
      expect(step).toThrow(/^(cpu|webgpu): this device was closed; open another$/);
      step.free();
      x.free();
      expect(on.memory.live).toBe(0);
      use(null);
    },
  );

  test.runIf(allDeviceNames.includes("worker"))("whose worker died is on a lost device", async () => {
    try {
      await withWorkers(async (started) => {
        const on = await open("cpu", { worker: true, threads: 1 });
        const x = ones([2]);
        const step = capture(() => add(x, x));
        expect([...(await step().data())]).toEqual([2, 2]);
        await started[0].terminate();
        await new Promise((later) => setTimeout(later, 50));
        expect(step).toThrow(/^cpu: the device was lost: /);
        step.free();
        on.close();
      });
    } finally {
      use(null);
    }
  });

  test.each(allDeviceNames)("on %s that finds no memory says so, gives back what it took, and works when there is", async (name) => {
    const kind = name === "threads" || name === "worker" ? "cpu" : name;
    const { device: on } = await choose(kind, { limit: 2 ** 20, threads: name === "threads" ? 2 : 1, worker: name === "worker" });
    use(on);
    const word = name === "reference" ? 8 : 4; // bytes a float takes there
    const [x, large] = [ones([1000]), zeros([400_000 / word])];
    const before = on.memory.live;
    const step = capture(() => scoped(() => sum(add(full([240_000 / word], 2), full([240_000 / word], 3)))));
    expect(step).toThrow(OutOfMemory);
    expect(on.memory.live).toBe(before);
    const twice = add(x, x);
    expect((await twice.data())[999]).toBe(2);
    free(large, twice);
    expect(await step().item()).toBe((240_000 / word) * 5);
    step.free();
    x.free();
    expect(on.memory.live).toBe(0);
    use(null);
    on.close();
  });

  test("on a device that cannot record says so", async () => {
    const { device: on } = await choose("reference");
    const plain: Device = watched(on);
    withDevice(plain, () =>
      expect(capture(() => full([1], 2))).toThrow(
        "capture(f): the device reference (the kernels' loops in f64) cannot record; open another",
      ),
    );
  });
});

onDevice("cpu", (on) => {
  test("is prepared as its function is, and records nothing by that", async () => {
    const x = ones([100]);
    const step = capture(() => add(mul(x, 2), x));
    const found = needs(step);
    expect(found.bytes).toBeGreaterThan(2 * 400);
    expect(found.kernels.map(({ name }) => name)).toContain("add");
    expect((await prepare(step)).bytes).toBe(found.bytes);
    expect([step.commands, on().memory.live]).toEqual([0, 400]);
    expect((await step().data())[99]).toBe(3);
    expect(needs(step).bytes).toBe(found.bytes);
    expect((await step().data())[99]).toBe(3);
    step.free();
    x.free();
  });

  test("a replay runs nothing of f, and makes no tensor", () => {
    const x = ones([4]);
    let ran = 0;
    const step = capture(() => {
      ran++;
      return add(x, x);
    });
    const first = step();
    expect([step() === first, step() === first, ran]).toEqual([true, true, 1]);
    {
      using again = capture(() => add(x, x));
      again();
      expect(on().memory.live).toBe(16 + step.bytes + again.bytes);
    }
    expect(on().memory.live).toBe(16 + step.bytes);
    step.free();
    x.free();
  });
});

// ---- tables that are written anew --------------------------------------------------------------

onDevice("reference", () => {
  const numbers = async (t: Tensor) => [...(await t.data())];
  const numRuns = { numRuns: 50, seed: 1 };
  const lengths = fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 6 });

  test("segments written anew are those made for the same cells, whatever they were before", () =>
    fc.assert(
      fc.asyncProperty(lengths, lengths, fc.nat({ max: 2 }), fc.nat({ max: 2 }), async (before, after, head, tail) => {
        const room = { rows: 240, cells: 6, tiles: mostTiles(240, 6) };
        const [tables, want] = [inner(before, head, tail, room), inner(after, head, tail, room)];
        rewriteSegments(tables, after, { head, tail });
        expect([tables.rows, tables.count, tables.lengths]).toEqual([want.rows, want.count, want.lengths]);
        for (const name of ["spans", "owner", "tiles"] as const) expect(await numbers(tables[name])).toEqual(await numbers(want[name]));
        free(...tensorsIn([tables, want]));
      }),
      numRuns,
    ));

  test("an index written anew is one made for the same values, whatever it was before", () => {
    const values = fc.array(fc.nat({ max: 9 }), { maxLength: 30 });
    return fc.assert(
      fc.asyncProperty(values, values, fc.nat({ max: 30 }), fc.integer({ min: -1, max: 9 }), async (before, after, most, frozen) => {
        const made = index(padded(before, 30), 10, { count: before.length, frozen });
        const count = Math.min(most, after.length);
        const want = index(padded(after, 30), 10, { count, frozen });
        rewriteIndex(made, after, { count, frozen });
        for (const [a, b] of [
          [made.values, want.values],
          [made.inverse!.order, want.inverse!.order],
          [made.inverse!.starts, want.inverse!.starts],
        ])
          expect(await numbers(a)).toEqual(await numbers(b));
        free(...tensorsIn([made, want]));
      }),
      numRuns,
    );
  });

  test("what does not fit is refused, and nothing is written", async () => {
    const tables = segments([3, 4], { rows: 40, cells: 3, tiles: 4 });
    const where = "rewriteSegments(segments, lengths): ";
    expect(() => rewriteSegments(tables, [30, 11])).toThrow(
      `${where}2 cells of 41 rows do not fit 3 cells of 40 rows; use a smaller batch`,
    );
    expect(() => rewriteSegments(tables, [1, 1, 1, 1])).toThrow(`${where}4 cells of 4 rows do not fit 3 cells of 40 rows`);
    expect(() => rewriteSegments(tables, [1, 33, 1])).toThrow(`${where}5 attention tiles do not fit 4`);
    expect(() => rewriteSegments(tables, [-1])).toThrow(`${where}lengths are non-negative integers; got -1`);
    expect(() => rewriteSegments(tables, [1], { heads: 1 } as object)).toThrow('there is no option "heads"');
    const want = segments([3, 4], { rows: 40, cells: 3, tiles: 4 });
    for (const name of ["spans", "owner", "tiles"] as const) expect(await numbers(tables[name])).toEqual(await numbers(want[name]));
    expect(tables.lengths).toEqual([3, 4]);

    const [part, whole, bare] = [index([1, 2, 0], 3, { count: 2 }), index([1, 2], 3), index([1, 2], 3, { gradients: false })];
    const at = "rewriteIndex(index, values): ";
    expect(() => rewriteIndex(part, [0, 1, 2, 0])).toThrow(`${at}4 values do not fit the 3 places that the index was made with`);
    expect(() => rewriteIndex(part, [0, 3])).toThrow(`${at}values[1] is 3, but there are 3 rows; give one from 0 to 2`);
    expect(() => rewriteIndex(part, [0], { count: 2 })).toThrow(`${at}count is 2, but there are 1 values; give how many of them count`);
    expect(() => index([0], 1, { count: 2 })).toThrow("index(values, rows): count is 2, but there are 1 values");
    const left = /^rewriteIndex\(index, values\): all 2 places of the index count, but of \d values some would be left out; make it with/;
    expect(() => rewriteIndex(whole, [0])).toThrow(left);
    expect(() => rewriteIndex(whole, [0, 1], { count: 1 })).toThrow(left);
    expect(() => rewriteIndex(whole, [0, 1], { frozen: 2 })).toThrow(left);
    expect(await numbers(part.values)).toEqual([1, 2, 0]);
    expect(await numbers(whole.values)).toEqual([1, 2]);
    rewriteIndex(whole, [2, 0]);
    rewriteIndex(bare, [0, 1]);
    expect([await numbers(whole.inverse!.order), await numbers(bare.values)]).toEqual([[1, 0], [0, 1]]); // biome-ignore format: one line
    const x = ones([2, 1]);
    expect(await numbers(scatterAdd(x, whole))).toEqual([1, 0, 1]);
    expect(() => scatterAdd(x, index([0, 1], 2, { count: 2 }))).toThrow("the index leaves places out");
  });
});

// ---- reading late --------------------------------------------------------------------------------

describe("ahead", () => {
  const gathered = async <T>(values: AsyncIterable<T>) => {
    const all: T[] = [];
    for await (const value of values) all.push(value);
    return all;
  };

  test.each([0, 1, 2, 5])("with %i unread gives all in order, and never more are under way", async (most) => {
    let [begun, told, widest] = [0, 0, 0];
    function* steps() {
      for (let i = 0; i < 9; i++) {
        begun++;
        widest = Math.max(widest, begun - told);
        yield new Promise<number>((resolve) => setTimeout(resolve, (7 * i) % 5, i));
      }
    }
    for await (const value of ahead(steps(), most)) expect(value).toBe(told++);
    expect([told, widest]).toEqual([9, Math.min(most + 1, 9)]);
  });

  test("gives none of none; two by default", async () => {
    expect(await gathered(ahead([]))).toEqual([]);
    let begun = 0;
    function* steps() {
      for (;;) yield Promise.resolve(begun++);
    }
    for await (const value of ahead(steps())) {
      expect([value, begun]).toEqual([0, 3]);
      break;
    }
  });

  test("what fails is said in its turn, once, and nothing goes on", async () => {
    let begun = 0;
    function* steps() {
      for (let i = 0; i < 9; i++) yield begun++ === 2 || i === 3 ? Promise.reject(new Error(`step ${i}`)) : Promise.resolve(i);
    }
    const told: number[] = [];
    await expect(
      (async () => {
        for await (const value of ahead(steps(), 3)) told.push(value);
      })(),
    ).rejects.toThrow("step 2");
    expect([told, begun]).toEqual([[0, 1], 6]);
  });

  test.each([-1, 0.5, Number.NaN])("refuses %d unread", async (most) => {
    await expect(gathered(ahead([], most))).rejects.toThrow(
      new RangeError(`ahead(promises, most): most is an integer, 0 or more; got ${most}`),
    );
  });
});

// ---- memory with branches ----------------------------------------------------------------------

test("a branch of a pool keeps what is taken while it grows, takes that again, and gives all of it back when it is closed", () => {
  let blocks = 0;
  const root = new Pool<number>({ make: () => blocks++ });
  const tree = new Branching(root, poolOn);
  const early = tree.take(1000);
  const branch = tree.begin();
  tree.give(early); // the root's
  expect([root.live, branch.reserved]).toEqual([0, 0]);
  const [a, b] = [tree.take(1000), tree.take(500)];
  tree.give(a);
  expect(tree.take(1000)).toBe(a);
  tree.give(a);
  tree.end();
  expect(tree.take(1000)).not.toBe(a); // a is free, but only on its branch
  const held = root.live;
  branch.close();
  expect(root.live).toBeLessThan(held);
  const rest = root.live;
  tree.give(b); // somebody held it until now
  expect(root.live).toBeLessThan(rest);
  expect(branch.reserved).toBe(0);
});

test("a branch of a heap has addresses that nobody else has, until the last of them comes back", () => {
  const step = fc.tuple(fc.constantFrom("take", "give", "begin", "end", "close"), fc.integer({ min: 1, max: 400 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const heap = new Heap(0, 1 << 30, () => true, () => new RangeError("no room")); // biome-ignore format: one line
      const tree = new Branching<number>(heap, (root) => new HeapBranch(root));
      const branches: Branch<number>[] = [];
      const held: { at: number; size: number }[] = [];
      let growing = false;
      for (const [what, n] of steps) {
        if (what === "begin" && !growing) branches.push(tree.begin());
        if (what === "begin") growing = true;
        if (what === "end" || what === "close") {
          tree.end();
          growing = false;
        }
        if (what === "close") branches[n % branches.length]?.close();
        if (what === "give" && held.length > 0) tree.give(held.splice(n % held.length, 1)[0].at);
        if (what !== "take") continue;
        const [at, size] = [tree.take(n), 16 * Math.ceil(n / 16)];
        for (const other of held) expect(at + size <= other.at || other.at + other.size <= at).toBe(true);
        held.push({ at, size });
      }
      tree.end();
      expect(heap.live).toBeGreaterThanOrEqual(held.reduce((sum, { size }) => sum + size, 0));
      for (const branch of branches) branch.close();
      for (const { at } of held) tree.give(at);
      expect(heap.live).toBe(0);
      expect(branches.every(({ reserved }) => reserved === 0)).toBe(true);
      expect(heap.take(heap.reserved)).toBe(0); // all in one piece again
    }),
    { seed: 1, numRuns: 300 },
  );
});

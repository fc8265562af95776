/** jax-js as a contender: products, attention, the encoder and its training, in its own operations, valueAndGrad and jit. */

import type { Arrays, Array as Jax } from "@jax-js/jax";
import { decaysByDefault } from "../../nn/optimizer.ts";
import {
  COMPARED_STEPS,
  type Contender,
  DECAY,
  type Encode,
  type Job,
  normsOf,
  RATE,
  rectangle,
  refuse,
  type Train,
  weightsOf,
} from "./task.ts";

type Library = typeof import("@jax-js/jax");

/** Its einsum maps over an iterator (ECMAScript 2025), which Node 20 cannot; two lines let it run there too. */
function allowIteratorMap(): void {
  const iterators = Object.getPrototypeOf(Object.getPrototypeOf([].values())) as { map?: unknown };
  iterators.map ??= function* <T, R>(this: Iterable<T>, f: (value: T) => R) {
    for (const value of this) yield f(value);
  };
  (iterators as { filter?: unknown }).filter ??= function* <T>(this: Iterable<T>, f: (value: T) => boolean) {
    for (const value of this) if (f(value)) yield value;
  };
}

export async function openJax(backend: "wasm" | "webgpu", job: Job): Promise<Contender> {
  allowIteratorMap();
  const jax = await import("@jax-js/jax");
  const found = await jax.init(backend);
  if (!found.includes(backend)) throw new Error(`jax-js: its ${backend} back end does not start; there are ${found.join(", ")}`);
  jax.defaultDevice(backend);
  return { description: `jax-js, ${backend}`, ...work(jax, job) };
}

function work(jax: Library, { task, inputs, weights }: Job): Omit<Contender, "description"> {
  const { numpy: np, nn, jit } = jax;
  const single = (f: () => Jax): Omit<Contender, "description"> => ({
    async run() {
      await f().data();
    },
    result: async () => ({ y: await f().data() }),
  });
  const given = (name: string, shape: readonly number[]) => np.array(inputs[name] as Float32Array).reshape(shape);
  const whole = (values: Int32Array) => np.array(values, { dtype: np.int32 });
  switch (task.kind) {
    case "perturb":
      return refuse("jax-js", task);
    case "matmul": {
      const [a, b] = [given("a", [task.m, task.k]), given("b", [task.k, task.n])];
      const product = jit((a: Jax, b: Jax) => np.matmul(a, b));
      return single(() => product(a.ref, b.ref));
    }
    case "attention": {
      const { length, heads, width } = task;
      const [q, k, v] = ["q", "k", "v"].map((name) => given(name, [length, heads, width]));
      const mix = jit((q: Jax, k: Jax, v: Jax) => nn.dotProductAttention(q, k, v));
      return single(() => mix(q.ref, k.ref, v.ref));
    }
    case "encode": {
      const { encode } = bert(jax, task);
      const model = arraysOf(jax, weights);
      const tokens = whole(inputs.tokens as Int32Array);
      const forward = jit((model: Arrays, tokens: Jax) => {
        const y = encode(model, tokens);
        for (const w of Object.values(model)) w.dispose();
        return y;
      });
      return single(() => forward(kept(model), tokens.ref));
    }
    case "train": {
      const { encode, predict } = bert(jax, task);
      const { vocabulary } = task.config;
      const [tokens, places] = [whole(inputs.tokens as Int32Array), whole(inputs.places as Int32Array)];
      const wanted = nn.oneHot(whole(inputs.labels as Int32Array), vocabulary);
      const loss = (model: Arrays, tokens: Jax, places: Jax, wanted: Jax): Jax => {
        const chosen = lookup(np, encode(model, tokens), places);
        const likely = wanted.mul(nn.logSoftmax(predict(model, chosen), -1));
        for (const w of Object.values(model)) w.dispose();
        return likely.sum().mul(-1 / inputs.labels.length);
      };
      const graded = jax.valueAndGrad(loss);
      // What changes from step to step comes as arrays: a number would be compiled in.
      const step = jit((model: Arrays, mean: Arrays, square: Arrays, scale1: Jax, scale2: Jax, tokens: Jax, places: Jax, wanted: Jax) => {
        const [value, grads] = graded(kept(model), tokens, places, wanted);
        const next: { model: Arrays; mean: Arrays; square: Arrays } = { model: {}, mean: {}, square: {} };
        for (const [name, g] of Object.entries(grads)) {
          const m = mean[name].mul(0.9).add(g.ref.mul(0.1));
          const v = square[name].mul(0.999).add(np.square(g).mul(0.001));
          const change = m.ref.mul(scale1.ref).div(np.sqrt(v.ref.mul(scale2.ref)).add(1e-8));
          const decayed = decaysByDefault(name.toLowerCase()) ? model[name].mul(1 - RATE * DECAY) : model[name];
          next.model[name] = decayed.sub(change.mul(RATE));
          next.mean[name] = m;
          next.square[name] = v;
        }
        scale1.dispose();
        scale2.dispose();
        return { value, ...next };
      });

      let model = arraysOf(jax, weights);
      const zeros = () => Object.fromEntries(Object.entries(model).map(([name, w]) => [name, w.ref.mul(0)]));
      let [mean, square, steps] = [zeros(), zeros(), 0];
      const once = async () => {
        steps++;
        const [scale1, scale2] = [0.9, 0.999].map((beta) => np.array(Float32Array.of(1 / (1 - beta ** steps))).reshape([]));
        const done = step(model, mean, square, scale1, scale2, tokens.ref, places.ref, wanted.ref);
        ({ model, mean, square } = done);
        const [value] = await done.value.data();
        await jax.blockUntilReady(model);
        return value;
      };
      return {
        async run() {
          await once();
        },
        async result() {
          const losses = [await once()];
          // After one step the mean of the gradients is a tenth of the first ones.
          const grads: Record<string, Float32Array> = {};
          for (const [name, m] of Object.entries(mean)) grads[name] = (await m.ref.data()).map((value) => value * 10);
          while (losses.length < COMPARED_STEPS) losses.push(await once());
          return { losses: Float32Array.from(losses), norms: normsOf(grads) };
        },
      };
    }
  }
}

/** References to all arrays, to be given away while the arrays stay. */
const kept = (arrays: Arrays): Arrays => Object.fromEntries(Object.entries(arrays).map(([name, x]) => [name, x.ref]));

const arraysOf = ({ numpy: np }: Library, file: Uint8Array): Arrays =>
  Object.fromEntries([...weightsOf(file)].map(([name, { shape, data }]) => [name, np.array(data).reshape(shape)]));

/** Rows of a table. Its jit refuses to scatter a gradient that is a mere view of another array; times 2 and 0.5, exactly, it is an array of its own. */
const lookup = (np: Library["numpy"], table: Jax, rows: Jax): Jax => np.take(table, rows, 0).mul(2).mul(0.5);

/** The BERT of geneformer/model.ts, in its operations. The model's arrays stay; what is computed is given away. */
function bert({ numpy: np, nn }: Library, task: Encode | Train) {
  const { config } = task;
  const { width, heads } = config;
  const [cells, length] = rectangle("jax-js", task);
  const rows = cells * length;

  const linear = (model: Arrays, x: Jax, name: string) =>
    np.matmul(x, model[`${name}.weight`].ref.transpose()).add(model[`${name}.bias`].ref);
  const norm = (model: Arrays, x: Jax, name: string) => {
    const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
    const variance = np.mean(np.square(centred.ref), -1, { keepdims: true });
    return centred
      .div(np.sqrt(variance.add(config.eps)))
      .mul(model[`${name}.weight`].ref)
      .add(model[`${name}.bias`].ref);
  };
  const layer = (model: Arrays, x: Jax, name: string) => {
    const part = (which: string) => linear(model, x.ref, `${name}.attention.self.${which}`).reshape([cells, length, heads, width / heads]);
    const mixed = nn.dotProductAttention(part("query"), part("key"), part("value")).reshape([rows, width]);
    const half = norm(model, linear(model, mixed, `${name}.attention.output.dense`).add(x), `${name}.attention.output.LayerNorm`);
    const wide = nn.relu(linear(model, half.ref, `${name}.intermediate.dense`));
    return norm(model, linear(model, wide, `${name}.output.dense`).add(half), `${name}.output.LayerNorm`);
  };
  return {
    /** int32 [rows] to [rows, C] */
    encode(model: Arrays, tokens: Jax): Jax {
      const weight = (name: string) => model[`bert.embeddings.${name}_embeddings.weight`].ref;
      const ranks = weight("position")
        .slice([0, length])
        .add(weight("token_type").slice([0, 1]));
      const placed = lookup(np, weight("word"), tokens).reshape([cells, length, width]).add(ranks);
      let x = norm(model, placed.reshape([rows, width]), "bert.embeddings.LayerNorm");
      for (let i = 0; i < config.layers; i++) x = layer(model, x, `bert.encoder.layer.${i}`);
      return x;
    },
    /** [places, C] to logits [places, V] */
    predict(model: Arrays, x: Jax): Jax {
      const h = norm(model, nn.relu(linear(model, x, "cls.predictions.transform.dense")), "cls.predictions.transform.LayerNorm");
      return np.matmul(h, model["bert.embeddings.word_embeddings.weight"].ref.transpose()).add(model["cls.predictions.bias"].ref);
    },
  };
}

/** TensorFlow.js as a contender: products, attention, the encoder and its training, in its own operations, gradients and Adam. */

import type { Save, Tensor, Variable } from "@tensorflow/tfjs";
import type { Config } from "../../geneformer/config.ts";
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

type Tf = typeof import("@tensorflow/tfjs")["default"];

/** The umbrella package: its core alone registers no gradients in Node. */
const load = async (): Promise<Tf> => {
  const loaded = await import("@tensorflow/tfjs");
  return loaded.default ?? (loaded as unknown as Tf);
};

export async function openTfjs(backend: "wasm" | "webgpu", job: Job): Promise<Contender> {
  const tf = await load();
  if (backend === "wasm") {
    const { setWasmPaths, setThreadsCount } = await import("@tensorflow/tfjs-backend-wasm");
    const { createRequire } = await import("node:module");
    setWasmPaths(
      createRequire(import.meta.url)
        .resolve("@tensorflow/tfjs-backend-wasm")
        .replace(/[^/]*$/, ""),
    );
    setThreadsCount(job.threads); // heeded in pages; in Node it has one thread
  } else await import("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs: its ${backend} back end does not start`);
  await tf.ready();
  return { description: `tfjs ${tf.version.tfjs ?? tf.version["tfjs-core"]}, ${tf.getBackend()}`, ...work(tf, job) };
}

function work(tf: Tf, { task, inputs, weights }: Job): Omit<Contender, "description"> {
  /** f's tensor read back, and all it made given back. */
  const read = async (f: () => Tensor): Promise<Float32Array> => {
    const y = tf.tidy(f);
    const values = await y.data();
    y.dispose();
    return values;
  };
  const single = (f: () => Tensor): Omit<Contender, "description"> => ({
    async run() {
      await read(f);
    },
    result: async () => ({ y: await read(f) }),
  });
  switch (task.kind) {
    case "perturb":
      return refuse("tfjs", task);
    case "matmul": {
      const { m, n, k } = task;
      const [a, b] = [tf.tensor(inputs.a, [m, k]), tf.tensor(inputs.b, [k, n])];
      return single(() => tf.matMul(a, b));
    }
    case "attention": {
      const { length, heads, width } = task;
      const [q, k, v] = ["q", "k", "v"].map((name) => tf.tensor(inputs[name], [1, length, heads * width]));
      return single(() => attend(tf, q, k, v, heads));
    }
    case "encode": {
      const model = bert(tf, weights, task);
      const tokens = tf.tensor(inputs.tokens, undefined, "int32");
      return single(() => model.encode(tokens));
    }
    case "train": {
      const { encode, predict, variables } = bert(tf, weights, task);
      const { vocabulary } = task.config;
      const tokens = tf.tensor(inputs.tokens, undefined, "int32");
      const places = tf.tensor(inputs.places, undefined, "int32");
      const wanted = tf.tidy(() => tf.cast(tf.oneHot(tf.tensor(inputs.labels, undefined, "int32"), vocabulary), "float32"));
      const loss = () => {
        const { width } = task.config;
        const chosen = lookup(tf, tf.reshape(encode(tokens), [inputs.tokens.length, width]), places, inputs.tokens.length, width);
        const likely = tf.mul(wanted, tf.logSoftmax(predict(chosen)));
        return tf.mul(tf.sum(likely), -1 / inputs.labels.length);
      };
      const adam = tf.train.adam(RATE, 0.9, 0.999, 1e-8);
      const decaying = variables.filter(({ name }) => decaysByDefault(name.toLowerCase()));
      const step = async (look: (grads: Readonly<Record<string, Tensor>>) => Promise<void> | void) => {
        const { value, grads } = tf.variableGrads(loss, variables);
        await look(grads);
        tf.tidy(() => {
          for (const w of decaying) w.assign(tf.mul(w, 1 - RATE * DECAY));
          adam.applyGradients(grads);
        });
        const [number] = await value.data();
        tf.dispose(value);
        tf.dispose(grads);
        return number;
      };
      return {
        async run() {
          await step(() => {});
        },
        async result() {
          const norms: Record<string, Float32Array> = {};
          const losses = [
            await step(async (grads) => {
              for (const [name, grad] of Object.entries(grads)) norms[name] = await grad.data();
            }),
          ];
          while (losses.length < COMPARED_STEPS) losses.push(await step(() => {}));
          return { losses: Float32Array.from(losses), norms: normsOf(norms) };
        },
      };
    }
  }
}

/** Rows of a table. Its own gather has a gradient that its wasm back end lacks (the kernel UnsortedSegmentSum); scatterND adds up the same. */
function lookup(tf: Tf, table: Tensor, indices: Tensor, rows: number, width: number): Tensor {
  return tf.customGrad((...[x]) => ({
    value: tf.gather(x as Tensor, indices),
    gradFunc: (dy) => tf.scatterND(tf.reshape(indices, [-1, 1]), dy, [rows, width]),
  }))(table);
}

/**
 * a b^T. Its wasm back end hands products to XNNPACK only where nothing is transposed, and else takes loops that are ten times slower: so whatever must
 * be transposed is, first, here and in the gradients.
 */
function product(tf: Tf, a: Tensor, b: Tensor): Tensor {
  const turned = (x: Tensor) => tf.transpose(x, [1, 0]);
  return tf.customGrad((...given) => {
    const [a, b, save] = given as [Tensor, Tensor, Save];
    save([a, b]);
    return {
      value: tf.matMul(a, turned(b)),
      gradFunc: (dy, [a, b]) => [tf.matMul(dy, b), tf.matMul(turned(dy), a)],
    };
  })(a, b);
}

/** Softmax(q k^T / sqrt(D)) v.   each [cells, length, C] */
function attend(tf: Tf, q: Tensor, k: Tensor, v: Tensor, heads: number): Tensor {
  const [cells, length, width] = q.shape;
  const each = width / heads;
  const split = (x: Tensor) => tf.transpose(tf.reshape(x, [cells, length, heads, each]), [0, 2, 1, 3]);
  const scale = 1 / Math.sqrt(each);
  const batched = () => tf.matMul(tf.softmax(tf.mul(tf.matMul(split(q), split(k), false, true), scale)), split(v));
  // Nor does its wasm back end hand products of batches to XNNPACK: one by one they take a fifth of the time.
  const oneByOne = () => {
    const [qs, ks, vs] = [q, k, v].map((x) => tf.unstack(tf.reshape(split(x), [cells * heads, length, each])));
    const mixed = qs.map((one, i) => product(tf, tf.softmax(tf.mul(product(tf, one, ks[i]), scale)), tf.transpose(vs[i], [1, 0])));
    return tf.reshape(tf.stack(mixed), [cells, heads, length, each]);
  };
  const mixed = tf.getBackend() === "wasm" ? oneByOne() : batched();
  return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [cells, length, width]);
}

/** The BERT of geneformer/model.ts, in its operations. */
function bert(tf: Tf, file: Uint8Array, task: Encode | Train) {
  const { config } = task;
  const [cells, length] = rectangle("tfjs", task);
  const weights = new Map<string, Variable>();
  for (const [name, { shape, data }] of weightsOf(file)) weights.set(name, tf.variable(tf.tensor(data, shape), true, name));
  const weight = (name: string) => weights.get(name) as Variable;

  const linear = (x: Tensor, name: string) => {
    const flat = tf.reshape(x, [-1, x.shape[x.shape.length - 1]]); // one product instead of one a cell
    return tf.add(product(tf, flat, weight(`${name}.weight`)), weight(`${name}.bias`));
  };
  const norm = (x: Tensor, name: string, { eps }: Config = config) => {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const spread = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
    return tf.add(tf.mul(tf.mul(centred, spread), weight(`${name}.weight`)), weight(`${name}.bias`));
  };
  const layer = (x: Tensor, name: string) => {
    const whole = (y: Tensor) => tf.reshape(y, [cells, length, config.width]);
    const [q, k, v] = ["query", "key", "value"].map((part) => whole(linear(x, `${name}.attention.self.${part}`)));
    const mixed = tf.reshape(attend(tf, q, k, v, config.heads), [cells * length, config.width]);
    const half = norm(tf.add(linear(mixed, `${name}.attention.output.dense`), x), `${name}.attention.output.LayerNorm`);
    const wide = tf.relu(linear(half, `${name}.intermediate.dense`));
    return norm(tf.add(linear(wide, `${name}.output.dense`), half), `${name}.output.LayerNorm`);
  };
  return {
    variables: [...weights.values()],
    /** int32 [cells * length] to [cells * length, C] */
    encode(tokens: Tensor): Tensor {
      const { width, vocabulary } = config;
      const genes = lookup(tf, weight("bert.embeddings.word_embeddings.weight"), tokens, vocabulary, width);
      const ranks = tf.slice(weight("bert.embeddings.position_embeddings.weight"), [0, 0], [length, width]);
      const type = tf.slice(weight("bert.embeddings.token_type_embeddings.weight"), [0, 0], [1, width]);
      const placed = tf.add(tf.reshape(genes, [cells, length, width]), tf.add(ranks, type));
      let x = norm(tf.reshape(placed, [cells * length, width]), "bert.embeddings.LayerNorm");
      for (let i = 0; i < config.layers; i++) x = layer(x, `bert.encoder.layer.${i}`);
      return x;
    },
    /** [places, C] to logits [places, V] */
    predict(x: Tensor): Tensor {
      const h = norm(tf.relu(linear(x, "cls.predictions.transform.dense")), "cls.predictions.transform.LayerNorm");
      return tf.add(product(tf, h, weight("bert.embeddings.word_embeddings.weight")), weight("cls.predictions.bias"));
    },
  };
}

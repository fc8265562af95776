/** How fast our kernels are on a device, each beside its bound, all checked against their loops first: `npm run bench -- [cpu|webgpu] [word ...] [--threads n]`. */

import { parseArgs } from "node:util";
import { Bench } from "tinybench";
import { inference, valueAndGrad } from "../autograd/tape.ts";
import { presets } from "../geneformer/config.ts";
import { streamOf } from "../geneformer/data/batches.ts";
import { Geneformer, hiddenOf } from "../geneformer/model.ts";
import { type Measure, perturb } from "../geneformer/perturb/exact.ts";
import { editsOf, unitsOf } from "../geneformer/perturb/plan.ts";
import { flopOf } from "../geneformer/perturb/run.ts";
import { adamw } from "../kernels/adamw.ts";
import { attention, attentionGrad, FIELDS } from "../kernels/attention.ts";
import { map } from "../kernels/elementwise.ts";
import { gather, gatherSum } from "../kernels/gather.ts";
import type { Kernel } from "../kernels/kernel.ts";
import { layerNorm, layerNormGrad, layerNormGradWeights } from "../kernels/layernorm.ts";
import { crossEntropy, crossEntropyGrad } from "../kernels/loss.ts";
import { matmul } from "../kernels/matmul.ts";
import { dropThreshold, keepScale } from "../kernels/random.ts";
import { samples } from "../kernels/samples.ts";
import { freeParameters, parameters } from "../nn/module.ts";
import { AdamW } from "../nn/optimizer.ts";
import { choose, type Device, type DeviceName, type Memory, use } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { index, spansOf, tilesOf } from "../src/stream.ts";
import { integers, scoped } from "../src/tensor.ts";
import { verify } from "../src/verify.ts";
import { boundOf, type Peaks } from "./bound.ts";

/** Something to time. */
interface Case {
  readonly name: string;
  /** Operations of one run, and bytes that must move between memory and processor: every buffer once. 0 where nobody counts them. */
  readonly flop: number;
  readonly bytes: number;
  /** Allocate what it needs, on the current device. */
  ready(device: Device): { run(): Promise<void>; free(): void };
}

/** What a buffer begins with: random numbers, or given ones. */
type Content = number | ArrayLike<number>;

const lengthOf = (content: Content): number => (typeof content === "number" ? content : content.length);

/** One kernel. */
const single = (
  name: string,
  kernel: unknown,
  buffers: Readonly<Record<string, Content>>,
  params: Readonly<Record<string, number>>,
  { flop = 0, bytes = 4 * Object.values(buffers).reduce((sum: number, content) => sum + lengthOf(content), 0) } = {},
): Case => ({
  name,
  flop,
  bytes,
  ready(device) {
    const it = kernel as Kernel;
    const dtypes = { ...it.inputs, ...it.outputs };
    const key = Key.from(1);
    const memory = Object.fromEntries(
      Object.entries(buffers).map(([buffer, content]): [string, Memory] => {
        const made = device.allocate(dtypes[buffer], lengthOf(content));
        const draw = (length: number) => (dtypes[buffer] === "u32" ? new Uint32Array(length) : key.uniforms(length).map((u) => u - 0.5));
        device.upload(made, typeof content === "number" ? draw(content) : content);
        return [buffer, made];
      }),
    );
    const one = device.allocate("f32", 1);
    return {
      async run() {
        device.run(it, memory, params);
        await device.read(one); // the queue keeps order: a small read waits for all
      },
      free() {
        for (const each of [...Object.values(memory), one]) device.free(each);
      },
    };
  },
});

// ---- kernels -------------------------------------------------------------------------------

const product = (m: number, n: number, k: number, form: "NN" | "NT" | "TN"): Case =>
  single(
    `matmul ${m} x ${n} x ${k} ${form}`,
    matmul(form === "TN", form === "NT", false, false, false),
    { a: m * k, b: k * n, c: m * n },
    { m, n, k, batch: 1, strideA: 0, strideB: 0 },
    { flop: 2 * m * n * k },
  );

/** A linear layer's three products: y = x w^T, dx = dy w, dw = dy^T x. */
const layer = (rows: number, inputs: number, outputs: number): Case[] => [
  product(rows, outputs, inputs, "NT"),
  product(rows, inputs, outputs, "NN"),
  product(outputs, inputs, rows, "TN"),
];

/** Dropout as V1 has it. */
const DROP = { threshold: dropThreshold(0.02), scale: keepScale(0.02), site0: 1, site1: 2 };

const mixed = (lengths: number[], back: boolean, { dropped = false, causal = false } = {}): Case => {
  const [heads, width] = [4, 64];
  const rows = lengths.reduce((a, b) => a + b, 0);
  const size = rows * heads * width;
  const tiles = tilesOf(spansOf(lengths), rows);
  const count = tiles.length / FIELDS;
  const seen = lengths.reduce((sum, length) => sum + (causal ? (length * (length + 1)) / 2 : length * length), 0);
  const words = `${causal ? " causal" : ""}${dropped ? " with dropout" : ""}`;
  return single(
    `attention${back ? "Grad" : ""}${words} ${lengths.join("+")}, ${heads} heads of ${width}`,
    back ? attentionGrad(width, dropped, causal) : attention(width, dropped, causal),
    {
      ...{ q: size, k: size, v: size, y: size, tiles, lse: rows * heads },
      ...(dropped && { key: 2 }),
      ...(back && { keyTiles: tiles, dy: size, dq: size, dkv: 2 * size }),
    },
    { count, keyCount: count, heads, rows, keyRows: rows, ...(dropped && DROP) },
    { flop: (back ? 10 : 4) * seen * heads * width }, // two products forward, five back (Dao et al. 2022)
  );
};

const config = presets["V1-10M"];
const { width, inner, vocabulary } = config;
const ROWS = 2048;
/** Of so many rows 15 % are masked. */
const ASKED = Math.round(0.15 * ROWS);

const drawn = (length: number, below: number, site: number): Uint32Array =>
  Uint32Array.from(
    Key.from(2)
      .fold(site)
      .uniforms(length)
      .map((u) => Math.floor(u * below)),
  );
const tokens = drawn(ROWS, vocabulary, 0);

/** Tokens grouped by gene, as `index` makes it: the rows that add up to each row of the table's gradient. */
function grouped(): { order: Uint32Array; starts: Uint32Array } {
  const starts = new Uint32Array(vocabulary + 1);
  for (const token of tokens) starts[token + 1]++;
  for (let i = 0; i < vocabulary; i++) starts[i + 1] += starts[i];
  const order = Uint32Array.from(tokens.keys()).sort((a, b) => tokens[a] - tokens[b] || a - b);
  return { order, starts };
}

const size = ROWS * width;
const [UNEQUAL, EQUAL] = [
  [1003, 221, 640, 184],
  [512, 512, 512, 512],
];

const kernels: readonly Case[] = [
  product(512, 512, 512, "NN"),
  product(1024, 1024, 1024, "NN"),
  product(2048, 256, 1024, "NT"),
  ...layer(ROWS, width, width),
  ...layer(ROWS, width, inner),
  ...layer(ROWS, inner, width),
  ...layer(ASKED, width, vocabulary),
  ...[[ROWS], EQUAL, UNEQUAL].flatMap((lengths) => [false, true].map((back) => mixed(lengths, back))),
  ...[false, true].map((back) => mixed(UNEQUAL, back, { dropped: true })),
  ...[false, true].map((back) => mixed([ROWS], back, { causal: true })),
  single(
    "layerNorm 2048 x 256",
    layerNorm,
    { x: size, weight: width, bias: width, y: size, stats: 2 * ROWS },
    { rows: ROWS, cols: width, eps: 1e-12 },
  ),
  single(
    "layerNormGrad 2048 x 256",
    layerNormGrad,
    { x: size, weight: width, stats: 2 * ROWS, dy: size, dx: size },
    { rows: ROWS, cols: width },
  ),
  single(
    "layerNormGradWeights 2048 x 256",
    layerNormGradWeights,
    { x: size, stats: 2 * ROWS, dy: size, dweight: width, dbias: width },
    { rows: ROWS, cols: width },
  ),
  single(
    `crossEntropy ${ASKED} x ${vocabulary}`,
    crossEntropy,
    { x: ASKED * vocabulary, labels: drawn(ASKED, vocabulary, 1), given: 1, loss: 1, stats: ASKED + 1 },
    { rows: ASKED, cols: vocabulary },
  ),
  single(
    `crossEntropyGrad ${ASKED} x ${vocabulary}`,
    crossEntropyGrad,
    { x: ASKED * vocabulary, labels: drawn(ASKED, vocabulary, 1), stats: ASKED + 1, dloss: 1, dx: ASKED * vocabulary },
    { rows: ASKED, cols: vocabulary },
  ),
  single(
    "gather 2048 of 25426 x 256",
    gather("f32", "u32"),
    { x: vocabulary * width, index: tokens, y: size },
    { rows: ROWS, cols: width, whole: vocabulary },
    { bytes: 8 * size }, // of the table only the rows asked for
  ),
  single("embedding gradient 25426 x 256", gatherSum, { x: size, ...grouped(), y: vocabulary * width }, { rows: vocabulary, cols: width }),
  single(
    "adamw 25426 x 256",
    adamw,
    { g: vocabulary * width, hyper: 10, clip: 2, w: vocabulary * width, m: vocabulary * width, v: vocabulary * width },
    { n: vocabulary * width, slot: 0 },
  ),
];

// ---- whole passes --------------------------------------------------------------------------

/** Operations of the products of a forward pass: what is in the layers, who looks at whom, and the head at the places asked for. */
const passFlop = (lengths: readonly number[], places: number): number =>
  lengths.reduce((sum, length) => sum + flopOf(config, config.layers, length), 2 * places * width * (width + vocabulary));

const whole = (lengths: number[], step: boolean): Case => ({
  name: `${step ? "training step" : "encoder forward"} V1-10M ${lengths.join("+")}`,
  flop: (step ? 3 : 1) * passFlop(lengths, step ? ASKED : 0),
  bytes: 0,
  ready() {
    const model = new Geneformer(config, Key.from(0));
    const cells = lengths.map((length, i) => drawn(length, vocabulary, 2 + i));
    const stream = streamOf(cells, config, { gradients: step });
    const named = [...parameters(model)];
    const optimizer = new AdamW(named);
    const places = index(
      Array.from({ length: ASKED }, (_, i) => Math.floor((i * stream.segments.rows) / ASKED)),
      stream.segments.rows,
    );
    const labels = integers(drawn(ASKED, vocabulary, 9));
    const wrt = named.map(([, t]) => t);
    const train = () =>
      scoped(() => {
        const { value, grads } = valueAndGrad(() => model.loss(stream, places, labels), wrt);
        optimizer.step(grads, 1e-4);
        return value;
      });
    return {
      async run() {
        const y = step ? train() : inference(() => model.encode(stream));
        await y.data();
        y.free();
      },
      free() {
        optimizer.free();
        freeParameters(model);
        freeParameters(stream);
        freeParameters({ places, labels });
      },
    };
  },
});

/** Genes of a cell that is perturbed, and how many of them are deleted: 64 copies, in batches of 16. */
const [GENES, DELETED] = [500, 64];

/** Deletions with two states, as `perturb` runs them; FLOP of a run, by `DELETED` those of a pair of a gene and a cell. */
const deletions = (mode: "cell" | "cls"): Case => {
  const name = `perturb V1-10M, ${mode}: ${DELETED} of ${GENES} genes deleted`;
  const ends = { cls: mode === "cls", eos: false };
  const cell = drawn(GENES, vocabulary, 1);
  const states = new Map([1, 2].map((seed) => [String(seed), Key.from(seed).normals(width)]));
  const measure: Measure = { layer: -1, mode, ends, states, tokensPerBatch: 8192 };
  const units = [...unitsOf(cell, ends, { type: "delete", genes: "all" })].slice(0, DELETED);
  const layers = hiddenOf(config, measure.layer);
  const copy = flopOf(config, layers, GENES - 1, mode === "cls" ? 1 : GENES - 1);
  return {
    name,
    flop: flopOf(config, layers, GENES) + DELETED * copy,
    bytes: 0,
    ready() {
      const model = new Geneformer(config, Key.from(0));
      return {
        async run() {
          for await (const _ of perturb(model, [{ row: 0, cell, edits: editsOf(cell, ends, units, config.length) }], measure));
        },
        free: () => freeParameters(model),
      };
    },
  };
};

const passes: readonly Case[] = [
  ...[whole([ROWS], false), whole(EQUAL, false), whole(EQUAL, true), whole(UNEQUAL, true)],
  ...[deletions("cell"), deletions("cls")],
];

// ---- measuring -----------------------------------------------------------------------------

/** The fastest run, ms. */
async function fastest(device: Device, each: Case): Promise<number> {
  const { run, free } = each.ready(device);
  const bench = new Bench({ time: 600, warmupTime: 200, iterations: 3, warmupIterations: 1 });
  bench.add(each.name, run);
  await bench.run();
  free();
  const { result } = bench.tasks[0];
  if (!(result && "latency" in result)) throw new Error(`${each.name}: ${result && "error" in result ? result.error : "was not measured"}`);
  return result.latency.min;
}

/** A copy that no cache holds, read and written, by a kernel on all threads and by the host on one: the better is what the memory gives, GB/s. */
async function bandwidth(device: Device): Promise<number> {
  const length = 2 ** 24;
  const kernel = await fastest(device, single("copy", map("neg"), { a: length, z: length }, { n: length }));
  const [a, z] = [new Float32Array(length), new Float32Array(length)];
  let host = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 20; i++) {
    const before = performance.now();
    z.set(a);
    host = Math.min(host, performance.now() - before);
  }
  return (8 * length) / Math.min(kernel, host) / 1e6;
}

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: { threads: { type: "string" } } });
const isDevice = (word: string): word is DeviceName => ["cpu", "webgpu", "reference"].includes(word);
const name = positionals.find(isDevice) ?? "auto";
const words = positionals.filter((word) => !isDevice(word));
const threads = options.threads === undefined ? undefined : Number(options.threads);

const { device } = await choose(name, { threads });
use(device);
console.log(`${device.name}: ${device.description}`);
for (const sample of samples()) {
  const { ok, kernel, worst, bound } = await verify(device, sample);
  if (!ok) throw new Error(`${kernel} is off by ${worst}, more than ${bound}: a wrong kernel has no speed`);
}
const chosen = [...kernels, ...passes].filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
if (chosen.length === 0) throw new RangeError(`bench: no kernel's name has ${words.join(" or ")} in it`);

const measured: { each: Case; ms: number }[] = [];
for (const each of chosen) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${each.name}`);
  measured.push({ each, ms: await fastest(device, each) });
}

// On cpu the bounds are measured, too: the best rate of all, of a product at least, and a copy. What a graphics card could do is not ours to say.
let peaks: Peaks | null = null;
if (device.name === "cpu") {
  const rates = measured.map(({ each, ms }) => each.flop / ms / 1e6);
  for (const each of kernels.slice(0, 3)) rates.push(each.flop / (await fastest(device, each)) / 1e6);
  peaks = { gflops: Math.max(...rates), gigabytes: await bandwidth(device) };
  console.log(`bounds: ${peaks.gflops.toFixed(1)} GFLOP/s, the best of these; ${peaks.gigabytes.toFixed(1)} GB/s, a copy of 64 MiB`);
}
if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
for (const { each, ms } of measured) {
  const speed = each.flop > 0 ? `${(each.flop / ms / 1e6).toFixed(1)} GFLOP/s` : "";
  const moved = each.bytes > 0 ? `${(each.bytes / ms / 1e6).toFixed(2)} GB/s` : "";
  console.log(
    `${each.name.padEnd(62)} ${ms.toFixed(2).padStart(9)} ms ${speed.padStart(16)} ${moved.padStart(12)}  ${boundOf(each, ms, peaks)}`.trimEnd(),
  );
}
device.close();
process.exit(0);

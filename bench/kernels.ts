/** How fast our kernels are on a device, each checked against its loops first and printed beside its bound: `npm run bench -- [cpu|webgpu]`. */

import { Bench } from "tinybench";
import { adamw } from "../kernels/adamw.ts";
import { attention, attentionGrad, FIELDS } from "../kernels/attention.ts";
import type { Kernel } from "../kernels/kernel.ts";
import { layerNorm } from "../kernels/layernorm.ts";
import { crossEntropy } from "../kernels/loss.ts";
import { matmul } from "../kernels/matmul.ts";
import { samples } from "../kernels/samples.ts";
import { choose, type Device, type DeviceName, type Memory } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { spansOf, tilesOf } from "../src/stream.ts";
import { verify } from "../src/verify.ts";

interface Case {
  readonly name: string;
  readonly kernel: Kernel;
  /** Lengths of the buffers, or their values. */
  readonly buffers: Readonly<Record<string, number | readonly number[]>>;
  readonly params: Readonly<Record<string, number>>;
  /** Operations, and bytes that must move, of one run. */
  readonly flop: number;
  readonly bytes: number;
}

const product = (m: number, n: number, k: number, ta: boolean, tb: boolean): Case => ({
  name: `matmul ${m} x ${n} x ${k} ${ta ? "T" : "N"}${tb ? "T" : "N"}`,
  kernel: matmul(ta, tb, false, false, false) as unknown as Kernel,
  buffers: { a: m * k, b: k * n, c: m * n },
  params: { m, n, k, batch: 1, strideA: 0, strideB: 0 },
  flop: 2 * m * n * k,
  bytes: 4 * (m * k + k * n + m * n),
});

const mixed = (lengths: number[], heads: number, width: number, back: boolean, causal = false): Case => {
  const rows = lengths.reduce((a, b) => a + b, 0);
  const size = rows * heads * width;
  const tiles = tilesOf(spansOf(lengths), rows);
  const seen = (length: number) => (causal ? (length * (length + 1)) / 2 : length * length);
  const forward = lengths.reduce((sum, length) => sum + 4 * seen(length) * heads * width, 0);
  const count = tiles.length / FIELDS;
  return {
    name: `attention${back ? "Grad" : ""}${causal ? " causal" : ""} ${lengths.join("+")}, ${heads} heads of ${width}`,
    kernel: (back ? attentionGrad(width, false, causal) : attention(width, false, causal)) as unknown as Kernel,
    buffers: {
      ...{ q: size, k: size, v: size, y: size, tiles, lse: rows * heads },
      ...(back && { keyTiles: tiles, dy: size, dq: size, dkv: 2 * size }),
    },
    params: { count, keyCount: count, heads, rows, keyRows: rows },
    flop: back ? 2.5 * forward : forward,
    bytes: 4 * size * (back ? 8 : 4),
  };
};

const rows = (name: string, kernel: unknown, buffers: Record<string, number>, params: Record<string, number>, bytes: number): Case => ({
  name,
  kernel: kernel as Kernel,
  buffers,
  params,
  flop: 0,
  bytes,
});

const cases: readonly Case[] = [
  product(512, 512, 512, false, false),
  product(2048, 256, 1024, false, true),
  product(300, 25426, 128, false, true),
  product(25426, 128, 300, true, false),
  mixed([2048], 4, 64, false),
  mixed([2048], 4, 64, true),
  mixed([512, 512, 512, 512], 4, 64, false),
  mixed([2048], 4, 64, false, true),
  mixed([2048], 4, 64, true, true),
  rows(
    "layerNorm 4096 x 256",
    layerNorm,
    { x: 4096 * 256, weight: 256, bias: 256, y: 4096 * 256, stats: 8192 },
    { rows: 4096, cols: 256, eps: 1e-12 },
    8 * 4096 * 256,
  ),
  rows(
    "crossEntropy 300 x 25426",
    crossEntropy,
    { x: 300 * 25426, labels: 300, given: 1, loss: 1, stats: 301 },
    { rows: 300, cols: 25426 },
    4 * 300 * 25426,
  ),
  rows(
    "adamw 3,254,528",
    adamw,
    { g: 3254528, hyper: 10, clip: 2, w: 3254528, m: 3254528, v: 3254528 },
    { n: 3254528, slot: 0 },
    28 * 3254528,
  ),
];

function allocate(device: Device, { kernel, buffers }: Case): Record<string, Memory> {
  const key = Key.from(1);
  const dtypes = { ...kernel.inputs, ...kernel.outputs };
  return Object.fromEntries(
    Object.entries(buffers).map(([name, given]) => {
      const length = typeof given === "number" ? given : given.length;
      const memory = device.allocate(dtypes[name], length);
      const draw = () => (dtypes[name] === "u32" ? new Uint32Array(length) : key.uniforms(length).map((u) => u - 0.5));
      device.upload(memory, typeof given === "number" ? draw() : given);
      return [name, memory];
    }),
  );
}

const { device } = await choose((process.argv[2] ?? "auto") as "auto" | DeviceName);
console.log(`${device.name}: ${device.description}`);
for (const sample of samples()) {
  const { ok, kernel, worst, bound } = await verify(device, sample);
  if (!ok) throw new Error(`${kernel} is off by ${worst}, more than ${bound}: a wrong kernel has no speed`);
}
for (const each of cases) {
  const buffers = allocate(device, each);
  const last = buffers[Object.keys(each.kernel.outputs).at(-1) as string];
  const bench = new Bench({ time: 600, warmupTime: 200 });
  const one = device.allocate("f32", 1);
  bench.add(each.name, async () => {
    device.run(each.kernel, buffers, each.params);
    await device.read(device.name === "webgpu" ? one : { ...last, length: 1 }); // the queue keeps order: a small read waits for all
  });
  await bench.run();
  const { result } = bench.tasks[0];
  const ms = result && "latency" in result ? result.latency.min : Number.NaN;
  const speed = each.flop > 0 ? `${(each.flop / ms / 1e6).toFixed(1)} GFLOP/s` : "";
  console.log(
    `${each.name.padEnd(44)} ${ms.toFixed(2).padStart(9)} ms ${speed.padStart(14)} ${(each.bytes / ms / 1e6).toFixed(2).padStart(8)} GB/s moved at least`,
  );
  for (const memory of [...Object.values(buffers), one]) device.free(memory);
}
device.close();
process.exit(0);

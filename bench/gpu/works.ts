/** What is measured on a card, who takes part, what ours / theirs may be at most (the project's goals), and what a time means as a rate. */

import { type Config, presets } from "../../geneformer/config.ts";
import { flopOf } from "../../geneformer/perturb/run.ts";
import type { Task } from "../peers/task.ts";

export interface CardWork {
  readonly title: string;
  readonly task: Task;
  readonly cells?: readonly ArrayLike<number>[];
  /** Ours first. */
  readonly entrants: readonly { readonly name: string; readonly opener: string; readonly slack?: number }[];
  readonly limits: Readonly<Record<string, number>>;
  /** A run of so many milliseconds in tokens or operations a second, and its share of what the card can do. */
  rate(ms: number): string;
}

/** Peaks of an H200's SXM board, dense (NVIDIA H200 data sheet, 2024): f32, and f16 on tensor cores, TFLOP/s. */
const F32_PEAK = 67;
const F16_PEAK = 989;

/** Numbers rounded to f16 or TF32 keep 11 bits, to bf16 8. */
const SLACK = { f16: 30, tf32: 30, bf16: 250 };

const OURS = { name: "geneformer-ts", opener: "ours" };
const MIXED = { name: "geneformer-ts, mixed", opener: "ours-mixed", slack: SLACK.f16 };
const FP32 = { name: "PyTorch fp32", opener: "torch-fp32" };
const TF32 = { name: "PyTorch TF32", opener: "torch-tf32", slack: SLACK.tf32 };
const BF16 = { name: "PyTorch bf16", opener: "torch-bf16", slack: SLACK.bf16 };
const everybody = [OURS, MIXED, FP32, TF32, BF16];

const share = (tera: number) =>
  `${tera.toFixed(1)} TFLOP/s, ${((100 * tera) / F32_PEAK).toFixed(0)} % of an H200's f32, ${((100 * tera) / F16_PEAK).toFixed(1)} % of its f16 tensor peak`;

const product = (side: number): CardWork => ({
  title: `matmul ${side} x ${side} x ${side}`,
  task: { kind: "matmul", m: side, n: side, k: side },
  entrants: everybody,
  limits: { [FP32.name]: 2 },
  rate: (ms) => share((2 * side ** 3) / ms / 1e9),
});

const model = (
  kind: "train" | "encode",
  name: string,
  config: Config,
  cells: readonly ArrayLike<number>[],
  limits: CardWork["limits"],
): CardWork => {
  const lengths = cells.map(({ length }) => length);
  const tokens = lengths.reduce((a, b) => a + b, 0);
  // Three times as many with the way back.
  const flop = (kind === "train" ? 3 : 1) * lengths.reduce((sum, length) => sum + flopOf(config, config.layers, length), 0);
  return {
    title: `${kind === "train" ? "pretraining step" : "embedding"}, ${name}, ${lengths.length} real cells, ${tokens} tokens`,
    task: { kind, config, lengths },
    cells,
    entrants: everybody,
    limits,
    rate: (ms) => `${((1000 * tokens) / ms).toFixed(0)} tokens/s, ${share(flop / ms / 1e9)}`,
  };
};

/** Genes of long cells deleted one by one; <cls> stands for a cell, which is what upstream's V2 does by default. */
const perturbation = (name: string, config: Config, cells: readonly ArrayLike<number>[], deletions: number): CardWork => {
  const lengths = cells.map(({ length }) => length);
  const flop = lengths.reduce((sum, T) => {
    const layers = config.layers - 1;
    return sum + flopOf(config, layers, T, 1) + deletions * flopOf(config, layers, T - 1, 1);
  }, 0);
  const pairs = deletions * cells.length;
  return {
    title: `perturb, ${name}: ${deletions} genes of each of ${cells.length} cells of ${Math.min(...lengths)} tokens or more deleted, cls with states`,
    task: { kind: "perturb", config, lengths, deletions, mode: "cls" },
    cells,
    entrants: everybody,
    limits: {},
    rate: (ms) => `${((1000 * pairs) / ms).toFixed(1)} pairs/s of ${(flop / pairs / 1e9).toFixed(0)} GFLOP, ${share(flop / ms / 1e9)}`,
  };
};

/** Cells whose genes come to some many tokens. */
function upTo(tokens: number, cells: readonly ArrayLike<number>[], longest: number): ArrayLike<number>[] {
  const taken: ArrayLike<number>[] = [];
  let sum = 0;
  for (const cell of cells) {
    const cut = Array.from(cell).slice(0, longest);
    if (sum + cut.length > tokens) break;
    taken.push(cut);
    sum += cut.length;
  }
  return taken;
}

/** Tokens of a batch. */
const BATCH = 16_384;

/**
 * @param small sizes of a rehearsal.   @param given real cells by dictionary, "v1" and "v2" (bench/gpu/cells.ts); without them cells are drawn.
 */
export function cardWorks(small: boolean, given: Readonly<Record<string, readonly number[][]>>): CardWork[] {
  const drawn = (count: number, length: number, vocabulary: number) =>
    Array.from({ length: count }, (_, c) =>
      Array.from({ length: length - 7 * (c % 5) }, (_, i) => 4 + ((c * 7919 + i * 104_729) % (vocabulary - 4))),
    );
  if (small) {
    const tiny: Config = { ...presets["V1-10M"], vocabulary: 500, width: 64, heads: 2, inner: 128, layers: 2, length: 64 };
    const cells = drawn(4, 40, tiny.vocabulary);
    return [
      product(128),
      ...[model("train", "a tiny model", tiny, cells, {}), model("encode", "a tiny model", tiny, cells, {})],
      perturbation("a tiny model", tiny, cells, 8),
    ];
  }
  const [v1, v2] = [presets["V1-10M"], presets["V2-104M"]];
  const cells1 = given.v1 ?? drawn(40, 900, v1.vocabulary);
  const cells2 = given.v2 ?? drawn(1000, 900, v2.vocabulary);
  return [
    product(1024),
    product(4096),
    model("train", "V1-10M", v1, upTo(BATCH, cells1, v1.length), { [FP32.name]: 1, [BF16.name]: 1 }),
    model("train", "V2-104M", v2, upTo(BATCH, cells2, v2.length), { [BF16.name]: 2 }),
    model("encode", "V2-104M", v2, upTo(4 * BATCH, cells2, v2.length), { [BF16.name]: 2 }),
    perturbation("V2-104M", v2, drawn(2, v2.length, v2.vocabulary), 32), // no real cell at hand is as long
  ];
}

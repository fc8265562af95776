/** Low-rank adapters (Hu et al. 2021, "LoRA"): small matrices beside frozen ones, which alone are trained. */

import { add, dropout, linear, matmul, mul, relu as rectify } from "../autograd/ops.ts";
import type { StepKey } from "../autograd/stepkey.ts";
import type { Key } from "../src/key.ts";
import { full, keep, scoped, type Tensor, zeros } from "../src/tensor.ts";
import { kaimingUniform } from "./init.ts";
import { Linear, type LinearOptions } from "./linear.ts";
import { copyParameters, modules } from "./module.ts";
import { type Match, select } from "./names.ts";

export interface LoraOptions {
  /** Rows of A and columns of B. */
  readonly rank: number;
  /** The adapter's share is alpha / rank. Default: the rank. */
  readonly alpha?: number;
  /** Of the adapter's input, where `withLoraDropout` gives a key. Default 0. */
  readonly dropout?: number;
}

/**
 * A Linear, frozen, and an adapter beside it; it stands in the Linear's place.
 *
 *   y = x weightT + bias + alpha / rank (x AT) BT      A [rank, in], B [out, rank]
 *
 * Its tensors are named as in Hugging Face's PEFT, "lora_A.weight" and "lora_B.weight", and the Linear's as before: weights saved without adapters fit.
 */
export class LoraLinear {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly lora_A: { readonly weight: Tensor };
  readonly lora_B: { readonly weight: Tensor };
  /** alpha / rank */
  readonly scale: number;
  readonly dropout: number;
  readonly #linear: Linear;
  /** What dropout draws from; null drops nothing. In a private field, where `parameters` does not look. */
  #key: StepKey | null = null;

  /** A begins as in PEFT and the authors' code, evenly in (-1, 1) / sqrt(in); B at 0, so that nothing changes at first. */
  constructor(base: Linear, { rank, alpha = rank, dropout: p = 0 }: LoraOptions, key: Key | null) {
    const fail = (what: string, got: number): never => {
      throw new RangeError(`lora(linear, options): ${what}; got ${got}`);
    };
    if (!Number.isInteger(rank) || rank < 1) fail("rank must be a positive integer", rank);
    if (!(alpha > 0)) fail("alpha must be positive", alpha);
    if (!(p >= 0 && p < 1)) fail("dropout must lie in [0, 1)", p);
    const [outputs, inputs] = base.weight.shape;
    this.weight = base.weight;
    this.bias = base.bias;
    this.lora_A = { weight: kaimingUniform(key, [rank, inputs], { slope: Math.sqrt(5) }) };
    this.lora_B = { weight: keep(zeros([outputs, rank])) };
    this.scale = alpha / rank;
    this.dropout = p;
    this.#linear = base;
  }

  forward(x: Tensor, { residual = null, relu = false }: LinearOptions = {}): Tensor {
    const seen = this.#key && this.dropout > 0 ? dropout(x, { p: this.dropout, key: this.#key }) : x;
    const inside = mul(linear(seen, this.lora_A.weight), full([], this.scale)); // [..., rank]
    const base = this.#linear.forward(x, { residual: relu ? null : residual });
    const y = linear(inside, this.lora_B.weight, null, base);
    if (!relu) return y;
    return residual ? add(rectify(y), residual) : rectify(y);
  }

  /** Run f with dropout drawn from a key. */
  withKey<T>(key: StepKey | null, f: () => T): T {
    const before = this.#key;
    this.#key = key;
    try {
      return f();
    } finally {
      this.#key = before;
    }
  }

  /** weight + alpha / rank B A, written into the Linear, which is given back; the adapter is freed. */
  merge(): Linear {
    scoped(() => {
      const share = mul(matmul(this.lora_B.weight, this.lora_A.weight), full([], this.scale));
      copyParameters([add(this.weight, share)], [this.weight]);
    });
    this.lora_A.weight.free();
    this.lora_B.weight.free();
    return this.#linear;
  }
}

/** An adapter for a Linear, to stand in its place. Without a key its A is to be loaded. @throws RangeError for options that make none. */
export const lora = (base: Linear, options: LoraOptions, key: Key | null): LoraLinear => new LoraLinear(base, options, key);

/** Put others in the places of some objects, wherever in a model they stand. */
function replace(model: object, others: ReadonlyMap<object, object>): void {
  for (const [, part] of [...modules(model)])
    for (const [key, value] of Object.entries(part)) if (others.has(value)) Object.assign(part, { [key]: others.get(value) });
}

/**
 * Put an adapter in the place of every Linear whose path matches: "layers.*.query", or a function of the path.
 * @returns the adapters' parameters by name, which alone are to be trained: `valueAndGrad` and an optimiser take them.
 *   As an object they are a module of their own, to save and to load: `load(Object.fromEntries(adapters), values)`.
 * @throws RangeError when no Linear matches, or for options that make no adapter.   @throws TypeError for a model that is itself a Linear.
 */
export function addLora(model: object, match: Match, options: LoraOptions, key: Key | null): [name: string, parameter: Tensor][] {
  if (model instanceof Linear)
    throw new TypeError("addLora(model, match, options, key): the model is itself the Linear; wrap it: addLora({ head: linear }, ...)");
  const linears = [...modules(model)].filter((entry): entry is [string, Linear] => entry[1] instanceof Linear);
  const chosen = select(linears, match, "addLora(model, match, options, key)", "Linear");
  const made = chosen.map(([path, base], i) => ({ path, base, adapter: lora(base, options, key?.fold(i) ?? null) }));
  replace(model, new Map(made.map(({ base, adapter }) => [base, adapter])));
  return made.flatMap(({ path, adapter }): [string, Tensor][] => [
    [`${path}.lora_A.weight`, adapter.lora_A.weight],
    [`${path}.lora_B.weight`, adapter.lora_B.weight],
  ]);
}

const adapters = (model: object): LoraLinear[] => [...modules(model)].flatMap(([, part]) => (part instanceof LoraLinear ? [part] : []));

/** Fold every adapter into its Linear's weight, W + alpha / rank B A, and put the Linears back. @throws RangeError when there is no adapter. */
export function mergeLora(model: object): void {
  const found = adapters(model);
  if (found.length === 0) throw new RangeError("mergeLora(model): the model has no adapters; addLora() puts them in");
  replace(model, new Map(found.map((adapter) => [adapter, adapter.merge()])));
}

/** Run f with dropout in the adapters. @param key a key of its own, no other dropout's; each adapter folds its number in. */
export const withLoraDropout = <T>(model: object, key: StepKey, f: () => T): T =>
  adapters(model).reduceRight((inner, adapter, i) => () => adapter.withKey(key.fold(i), inner), f)();

/** AdamW with clipping by the global norm. */

import { adamw, clipScale } from "../kernels/adamw.ts";
import { squareSumShape, sumSquares } from "../kernels/reduce.ts";
import { empty, keep, run, scoped, type Tensor, zeros } from "../src/tensor.ts";
import type { Stored } from "./module.ts";

export interface AdamWOptions {
  /** Decay of the running means of gradient and squared gradient. */
  readonly beta1?: number;
  readonly beta2?: number;
  /** Added to the root of the second mean. */
  readonly eps?: number;
  /** Weight decay per step, times the learning rate. */
  readonly decay?: number;
  /** Which parameters decay. Default: all but biases and layer norms, as Hugging Face's Trainer. */
  readonly decays?: (name: string) => boolean;
  /** Scale gradients down to this global norm; 0 does not. */
  readonly clip?: number;
}

/** Not a bias, not a layer norm: paths end in "bias", or hold "norm". */
export const decaysByDefault = (name: string): boolean => !/(^|\.)bias$|norm/i.test(name);

/** w <- AdamW(w, gradient): Loshchilov and Hutter 2019, with PyTorch's defaults and order. Its state lies beside the parameters. */
export class AdamW {
  readonly #parameters: readonly (readonly [string, Tensor])[];
  readonly #options: Required<AdamWOptions>;
  readonly #means: Tensor[];
  readonly #squares: Tensor[];
  readonly #hyper: Tensor;
  /** Steps taken. */
  steps = 0;

  constructor(parameters: Iterable<readonly [string, Tensor]>, options: AdamWOptions = {}) {
    this.#parameters = [...parameters];
    this.#options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, decays: decaysByDefault, clip: 0, ...options };
    this.#means = keep(this.#parameters.map(([, t]) => zeros(t.shape)));
    this.#squares = keep(this.#parameters.map(([, t]) => zeros(t.shape)));
    this.#hyper = keep(zeros([8]));
  }

  /**
   * One step. Nothing is read back: rate, step and clipping are data on the device.
   * @param grads a gradient for each parameter, in order.   @param rate the learning rate of this step.
   * @returns f32 [2]: the global norm of the gradients, and the factor they were scaled by.
   */
  step(grads: readonly Tensor[], rate: number): Tensor {
    if (grads.length !== this.#parameters.length)
      throw new RangeError(`AdamW.step(grads, rate): ${grads.length} gradients for ${this.#parameters.length} parameters`);
    const { beta1, beta2, eps, decay, decays, clip: most } = this.#options;
    const t = ++this.steps;
    this.#hyper.write([rate, beta1, beta2, eps, 1 - beta1 ** t, 1 - beta2 ** t, 1 - beta1, 1 - beta2]);
    return scoped(() => {
      const squares = empty([grads.length]);
      grads.forEach((x, slot) => {
        run(sumSquares, { x }, { squares }, squareSumShape(x.size, slot));
      });
      const { clip } = run(clipScale, { squares }, { clip: [2] }, { n: grads.length, most });
      this.#parameters.forEach(([name, w], i) => {
        const outputs = { w, m: this.#means[i], v: this.#squares[i] };
        run(adamw, { g: grads[i], hyper: this.#hyper, clip }, outputs, { n: w.size, decay: decays(name) ? decay : 0 });
      });
      return clip;
    });
  }

  /** The state by name, for a checkpoint: "mean.{parameter}" and "square.{parameter}". */
  *state(): Generator<[name: string, state: Tensor]> {
    for (const [i, [name]] of this.#parameters.entries()) {
      yield [`mean.${name}`, this.#means[i]];
      yield [`square.${name}`, this.#squares[i]];
    }
  }

  /** Go on from a saved state. @throws TypeError when a tensor of it is missing or misshapen. */
  restore(steps: number, values: ReadonlyMap<string, Stored>): void {
    for (const [name, t] of this.state()) {
      const value = values.get(name);
      if (!value || value.data.length !== t.size)
        throw new TypeError(`AdamW.restore: "${name}" is ${value ? "misshapen" : "missing"} in the optimiser's state`);
      t.write(value.data);
    }
    this.steps = steps;
  }

  free(): void {
    for (const [, t] of this.state()) t.free();
    this.#hyper.free();
  }
}

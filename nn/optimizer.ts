/** What turns gradients into steps: AdamW, Adam and SGD, for parameters in groups, with clipping by the global norm. */

import { mul, slice } from "../autograd/ops.ts";
import { inference } from "../autograd/tape.ts";
import { ADAM_ROW, adamw, adamwTogether, clipScale, unscale } from "../kernels/adamw.ts";
import { squareSumShape, sumRows, sumSquares } from "../kernels/reduce.ts";
import { SGD_ROW, sgd } from "../kernels/sgd.ts";
import { unknownOption } from "../src/options.ts";
import { show } from "../src/shape.ts";
import { alike, empty, keep, refuseRecorded, run, scoped, type Tensor, zeros } from "../src/tensor.ts";
import { type Arena, arenasOf } from "./arena.ts";
import type { LossScale } from "./lossscale.ts";
import type { Stored } from "./module.ts";
import { type Match, select } from "./names.ts";

/** What changes parameters by their gradients. Its state lies on the device beside them. */
export interface Optimizer {
  /** Steps taken. */
  steps: number;
  /**
   * One step. Nothing is read back: rate, step and clipping are data on the device.
   * @param grads a gradient for each parameter, in order.   @param rate the learning rate of this step.
   * @returns f32 [2]: the global norm of the gradients, and the factor they were scaled by.
   * @throws Error inside a captured function: there the two halves below take its place.
   */
  step(grads: readonly Tensor[], rate: number): Tensor;
  /** The host's half of a step: count it, and write its numbers, which are all that differs from the step before. Before each call of a captured step. */
  advance(rate: number): void;
  /** The device's half: the same kernels each time, with the numbers that were written last. Inside a captured function. @returns as `step`. */
  apply(grads: readonly Tensor[]): Tensor;
  /** The state by name, for a checkpoint: "mean.{parameter}". */
  state(): Iterable<readonly [name: string, state: Tensor]>;
  /** Go on from a saved state. @throws TypeError when a tensor of it is missing or misshapen. */
  restore(steps: number, values: ReadonlyMap<string, Stored>): void;
  /** Give the state back. The parameters stay. */
  free(): void;
}

// ---- clipping ------------------------------------------------------------------------------

/** f32 [n]: the sum of squares of each. */
function squaresOf(grads: readonly Tensor[]): Tensor {
  const squares = empty([grads.length]);
  grads.forEach((x, slot) => {
    run(sumSquares, { x }, { squares }, squareSumShape(x.size, slot));
  });
  return squares;
}

/**
 * f32 [2]: the norm of all gradients as one vector, of whose squares these are sums, and what brings it down to `most`: 1 where it is no larger, or
 * where most is 0.
 * @param scale the factor that is in the gradients, if one is, and that the second number takes out; it moves on.
 */
function clipOf(squares: Tensor, most: number, scale: LossScale | null = null): Tensor {
  const n = squares.size;
  if (!scale) return run(clipScale, { squares }, { clip: [2] }, { n, most }).clip;
  return run(unscale, { squares }, { clip: [2], state: scale.state }, { n, most, ...scale.rule }).clip;
}

/**
 * Gradients scaled down so that their norm, taken as one vector, is at most `most`: torch.nn.utils.clip_grad_norm_, for use by hand. The optimisers
 * do it themselves when told to, without a copy.
 * @returns the gradients, and f32 [2]: their norm before, and the factor.
 */
export function clipGradients(grads: readonly Tensor[], most: number): { grads: Tensor[]; clip: Tensor } {
  if (!(most > 0)) throw new RangeError(`clipGradients(grads, most): most must be positive; got ${most}`);
  return inference(() => {
    const clip = clipOf(squaresOf(grads), most);
    const scale = slice(clip, 0, 1, 2);
    return { grads: grads.map((g) => mul(g, scale)), clip };
  });
}

// ---- what optimisers share -----------------------------------------------------------------

/** What any optimiser may be told. */
interface DecaySettings {
  /** Weight decay. */
  readonly decay: number;
  /** Which parameters decay, by name. */
  readonly decays: (name: string) => boolean;
}

/** Parameters that are treated otherwise. What a group leaves open is as for all. */
export type Group<S> = Partial<S> & {
  /** Which, by name: a pattern such as "layers.*.norm*.*", or a function. Of several groups that match, the later one has the last word. */
  readonly match: Match;
  /** Times the rate of the step. */
  readonly rate?: number;
};

/** An optimiser's settings, those of its groups, and clipping. */
export type Options<S> = Partial<S> & {
  readonly groups?: readonly Group<S>[];
  /** Scale gradients down to this global norm; 0, the default, does not. */
  readonly clip?: number;
  /** The factor that the loss was multiplied by: taken out of the gradients, and adjusted. Where it made one overflow, the step changes nothing. */
  readonly scale?: LossScale | null;
};

/** What tells one optimiser from another. */
interface Rule<S> {
  readonly name: string;
  readonly defaults: S;
  /** @throws RangeError by `fail` for a setting that cannot be. */
  check(settings: S, fail: (setting: keyof S, what: string) => never): void;
  /** What is kept beside a parameter, by name. */
  state(settings: S): readonly string[];
  /** Numbers in a row of the kernel's `hyper`, and the row of a parameter at step t, the first being 1. */
  readonly row: number;
  numbers(settings: S, rate: number, t: number): readonly number[];
  /** Enqueue the kernel for all parameters of an arena, if there is one. */
  together?(
    inputs: { g: Tensor; slots: Tensor; hyper: Tensor; clip: Tensor },
    w: Tensor,
    state: readonly Tensor[],
    params: { n: number },
  ): void;
  /** Enqueue the kernel for one parameter. */
  run(inputs: { g: Tensor; hyper: Tensor; clip: Tensor }, w: Tensor, state: readonly Tensor[], params: { n: number; slot: number }): void;
}

/** A parameter and how it is treated. */
interface Slot<S> {
  readonly name: string;
  readonly w: Tensor;
  readonly settings: S & { readonly rate: number };
  readonly state: readonly (readonly [name: string, state: Tensor])[];
}

/** A rule applied to parameters. */
class Ruled<S extends DecaySettings> implements Optimizer {
  steps = 0;
  readonly #rule: Rule<S>;
  readonly #slots: readonly Slot<S>[];
  /** Where parameters lie side by side, on devices where that pays. */
  readonly #arenas: readonly Arena[];
  /** A row of numbers for each parameter, written anew at each step. */
  readonly #hyper: Tensor;
  readonly #clip: number;
  readonly #scale: LossScale | null;

  constructor(rule: Rule<S>, parameters: Iterable<readonly [string, Tensor]>, { clip = 0, groups = [], scale = null, ...own }: Options<S>) {
    const where = `${rule.name}(parameters, options)`;
    const known = (given: object, names: readonly string[]) => {
      const wrong = unknownOption(given, names);
      if (wrong) throw new RangeError(`${where}: ${wrong}`);
    };
    const names = Object.keys(rule.defaults);
    known(own, [...names, "clip", "groups", "scale"]);
    for (const group of groups) known(group, [...names, "match", "rate"]);
    if (!(clip >= 0)) throw new RangeError(`${where}: clip must be 0 or more; got ${clip}`);

    const named = [...parameters];
    if (named.length === 0)
      throw new RangeError(`${where}: there are no parameters; give a list of [name, tensor], which a generator gives only once`);
    const settings = named.map(() => ({ ...rule.defaults, rate: 1, ...own }));
    const of = new Map(named.map(([name], i) => [name, settings[i]]));
    for (const [i, { match, ...given }] of groups.entries())
      for (const [, found] of select(of, match, `${where}: groups[${i}]`, "parameter")) Object.assign(found, given);
    for (const each of settings) {
      const fail = (setting: PropertyKey, what: string): never => {
        throw new RangeError(`${where}: ${String(setting)} must be ${what}; got ${String(each[setting as keyof typeof each])}`);
      };
      if (!(each.decay >= 0)) fail("decay", "0 or more");
      if (!(each.rate >= 0)) fail("rate", "0 or more");
      rule.check(each, fail);
    }

    this.#rule = rule;
    this.#clip = clip;
    this.#scale = scale;
    const kinds = settings.map((each) => rule.state(each));
    const tensors = named.map(([, w]) => w);
    this.#arenas = rule.together ? arenasOf(tensors, kinds[0].length) : [];
    const kept = new Map(this.#arenas.flatMap((arena) => [...arena.kept()]));
    this.#slots = named.map(([name, w], i) => {
      const { decay, decays } = settings[i];
      return {
        name,
        w,
        settings: { ...settings[i], decay: decays(name) ? decay : 0 },
        state: kinds[i].map((kind, j) => [`${kind}.${name}`, kept.get(i)?.[j] ?? keep(zeros(w.shape))] as const),
      };
    });
    this.#hyper = keep(zeros([this.#slots.length, rule.row]));
  }

  step(grads: readonly Tensor[], rate: number): Tensor {
    const where = `${this.#rule.name}.step(grads, rate)`;
    refuseRecorded(where, "writes the step's numbers", "call advance(rate) before the captured step and apply(grads) inside f");
    this.#check(where, grads); // before anything is counted
    this.#advance(where, rate);
    return this.apply(grads);
  }

  /** @throws RangeError for gradients that are not those of the parameters. */
  #check(where: string, grads: readonly Tensor[]): void {
    if (grads.length !== this.#slots.length)
      throw new RangeError(`${where}: ${grads.length} gradients for ${this.#slots.length} parameters`);
    for (const [i, { name, w }] of this.#slots.entries())
      if (!alike(w, grads[i])) throw new RangeError(`${where}: the gradient of "${name}" is ${show(grads[i].shape)}, not ${show(w.shape)}`);
  }

  advance(rate: number): void {
    const where = `${this.#rule.name}.advance(rate)`;
    refuseRecorded(where, "writes the step's numbers", "call it before the captured step, and apply(grads) inside f");
    this.#advance(where, rate);
  }

  #advance(where: string, rate: number): void {
    if (!(rate >= 0)) throw new RangeError(`${where}: rate must be 0 or more; got ${rate}`);
    const t = ++this.steps;
    this.#hyper.write(this.#slots.flatMap(({ settings }) => this.#rule.numbers(settings, rate * settings.rate, t)));
  }

  apply(grads: readonly Tensor[]): Tensor {
    this.#check(`${this.#rule.name}.apply(grads)`, grads);
    return scoped(() => {
      if (this.#arenas.length > 0 && this.#arenas.every(({ complete }) => complete)) return this.#together(grads);
      const clip = clipOf(squaresOf(grads), this.#clip, this.#scale);
      this.#slots.forEach(({ w, state }, slot) => {
        this.#rule.run(
          { g: grads[slot], hyper: this.#hyper, clip },
          w,
          state.map(([, t]) => t),
          { n: w.size, slot },
        );
      });
      return clip;
    });
  }

  #together(grads: readonly Tensor[]): Tensor {
    const squares = empty([this.#arenas.reduce((sum, { loads }) => sum + loads, 0)]);
    let at = 0;
    const gathered = this.#arenas.map((arena) => {
      const g = arena.gather(grads, squares, at);
      at += arena.loads;
      return g;
    });
    const { y } = run(sumRows, { x: squares }, { y: [1] }, { rows: 1, cols: at, scale: 1 });
    const clip = clipOf(y, this.#clip, this.#scale);
    this.#arenas.forEach(({ whole, states, slots }, i) => {
      this.#rule.together?.({ g: gathered[i], slots, hyper: this.#hyper, clip }, whole, states, { n: whole.size });
    });
    return clip;
  }

  *state(): Generator<readonly [name: string, state: Tensor]> {
    for (const { state } of this.#slots) yield* state;
    if (this.#scale) yield ["lossScale", this.#scale.state];
  }

  restore(steps: number, values: ReadonlyMap<string, Stored>): void {
    for (const [name, t] of this.state()) {
      const value = values.get(name);
      if (!value || value.data.length !== t.size)
        throw new TypeError(`${this.#rule.name}.restore: "${name}" is ${value ? "misshapen" : "missing"} in the optimiser's state`);
      t.write(value.data);
    }
    this.steps = steps;
  }

  free(): void {
    for (const { state } of this.#slots) for (const [, t] of state) t.free();
    for (const arena of this.#arenas) arena.free();
    this.#hyper.free();
  }
}

// ---- AdamW and Adam ------------------------------------------------------------------------

export interface AdamSettings extends DecaySettings {
  /** Decay of the running means of gradient and squared gradient. Default 0.9 and 0.999. */
  readonly beta1: number;
  readonly beta2: number;
  /** Added to the root of the second mean. Default 1e-8. */
  readonly eps: number;
}

/** Default: a decay of 0.01, of all but biases and layer norms. */
export type AdamWOptions = Options<AdamSettings>;
/** Default: no decay; where there is one, it is for all, as in PyTorch. */
export type AdamOptions = Options<AdamSettings>;

/** Not a bias, not a layer norm: paths end in "bias", or hold "norm". What Hugging Face's Trainer lets decay. */
export const decaysByDefault = (name: string): boolean => !/(^|\.)bias$|norm/i.test(name);

const adam = (name: string, decoupled: boolean, decay: number, decays: (name: string) => boolean): Rule<AdamSettings> => ({
  name,
  defaults: { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay, decays },
  check({ beta1, beta2, eps }, fail) {
    if (!(beta1 >= 0 && beta1 < 1)) fail("beta1", "0 or more and below 1");
    if (!(beta2 >= 0 && beta2 < 1)) fail("beta2", "0 or more and below 1");
    if (!(eps >= 0)) fail("eps", "0 or more");
  },
  state: () => ["mean", "square"],
  row: ADAM_ROW,
  together(inputs, w, [m, v], params) {
    run(adamwTogether, inputs, { w, m, v }, params);
  },
  numbers: ({ beta1, beta2, eps, decay }, rate, t) => [
    ...[rate, beta1, beta2, eps, 1 - beta1 ** t, 1 - beta2 ** t, 1 - beta1, 1 - beta2],
    ...(decoupled ? [decay, 0] : [0, decay]),
  ],
  run(inputs, w, [m, v], params) {
    run(adamw, inputs, { w, m, v }, params);
  },
});

const ADAMW = adam("AdamW", true, 0.01, decaysByDefault);
const ADAM = adam("Adam", false, 0, () => true);

/**
 * w <- AdamW(w, gradient): Loshchilov and Hutter 2019, with PyTorch's defaults and order. Decay takes its share of the weight, times the rate.
 *
 *   new AdamW(parameters(model), { decay: 0.01, clip: 1, groups: [{ match: "embeddings.**", rate: 0.1, decay: 0 }] })
 *
 * @throws RangeError for a setting that cannot be, and for a group that matches no parameter.
 */
export class AdamW extends Ruled<AdamSettings> {
  constructor(parameters: Iterable<readonly [string, Tensor]>, options: AdamWOptions = {}) {
    super(ADAMW, parameters, options);
  }
}

/** w <- Adam(w, gradient): Kingma and Ba 2015, as torch.optim.Adam. Decay is added to the gradient, decay * w. @throws as AdamW does. */
export class Adam extends Ruled<AdamSettings> {
  constructor(parameters: Iterable<readonly [string, Tensor]>, options: AdamOptions = {}) {
    super(ADAM, parameters, options);
  }
}

// ---- SGD -----------------------------------------------------------------------------------

export interface SgdSettings extends DecaySettings {
  /** What stays of the mean from step to step. Default 0: none is kept. */
  readonly momentum: number;
  /** What is left out of a gradient that comes to the mean, but of the first. Default 0. */
  readonly dampening: number;
  /** Go by where momentum will have led. Default false. */
  readonly nesterov: boolean;
}

/** Default: no decay; where there is one, it is for all, as in PyTorch. */
export type SgdOptions = Options<SgdSettings>;

const SGD_RULE: Rule<SgdSettings> = {
  name: "SGD",
  defaults: { momentum: 0, dampening: 0, nesterov: false, decay: 0, decays: () => true },
  check({ momentum, dampening, nesterov }, fail) {
    if (!(momentum >= 0)) fail("momentum", "0 or more");
    if (!(dampening <= 1)) fail("dampening", "at most 1");
    if (nesterov && !(momentum > 0 && dampening === 0)) fail("nesterov", "false without momentum, or with dampening");
  },
  state: ({ momentum }) => (momentum > 0 ? ["momentum"] : []),
  row: SGD_ROW,
  numbers({ momentum, dampening, nesterov, decay }, rate, t) {
    const share = t === 1 ? 1 : 1 - dampening; // the first gradient is the mean
    return [rate, decay, momentum, share, ...(nesterov ? [1, momentum] : [0, 1])];
  },
  run(inputs, w, state, params) {
    run(sgd(state.length > 0), inputs, { w, ...(state.length > 0 && { m: state[0] }) } as { w: Tensor; m: Tensor }, params);
  },
};

/** w <- SGD(w, gradient): gradient descent, as torch.optim.SGD. Decay is added to the gradient, decay * w. @throws as AdamW does. */
export class SGD extends Ruled<SgdSettings> {
  constructor(parameters: Iterable<readonly [string, Tensor]>, options: SgdOptions = {}) {
    super(SGD_RULE, parameters, options);
  }
}

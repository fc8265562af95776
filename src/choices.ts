/** Which of a kernel's alternatives a WebGPU device takes: of those that its adapter can run and that were allowed, the one a calibration chose. */

import { type Alternative, type Kernel, type MatrixUnit, source } from "../kernels/kernel.ts";

/** What an adapter has, as far as kernels ask for it. */
export interface Abilities {
  /** Its name, by which a calibration is known to be its own. */
  readonly name: string;
  /** Does it compute on the CPU? */
  readonly software: boolean;
  readonly features: ReadonlySet<string>;
  /** Lanes of a workgroup, and bytes of its memory, at most. */
  readonly lanes: number;
  readonly bytes: number;
  readonly units: readonly MatrixUnit[];
  /** May what is multiplied be rounded to f16? */
  readonly mixed: boolean;
}

/** An alternative that was tried, with a number of its text: another text is another alternative. */
export interface Tried {
  readonly alternative: string;
  readonly text: string;
  /** Of one run; null: it was wrong. */
  readonly ms: number | null;
}

/** What a calibration found, by class of problem: what was tried, the fastest first. It may be kept as JSON. */
export interface Table {
  readonly adapter: string;
  readonly tried: Readonly<Record<string, readonly Tried[]>>;
}

type Numbers = Readonly<Record<string, number>>;

/** The class a problem falls into: the kernel, however its numbers are stored, and its sizes to the nearest power of two. */
export const classOf = (kernel: Kernel, params: Numbers): string =>
  [
    (kernel.whole ?? kernel).name,
    ...(kernel.alternatives?.sizes ?? []).map((size) => `${size} ${2 ** Math.round(Math.log2(params[size]))}`),
  ].join(", ");

/** A number of a kernel's WGSL, as it is with its numbers stored as f32, FNV-1a (Fowler, Noll and Vo), in hexadecimal. */
export function textOf(kernel: Kernel): string {
  let hash = 0x811c9dc5;
  const { whole = kernel } = kernel;
  for (const pass of whole.passes)
    for (const letter of source(whole, pass)) hash = Math.imul(hash ^ (letter.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0).toString(16);
}

/** What an adapter lacks for an alternative, in words; null where it has all. */
export function lacking({ features, lanes, bytes, unit, mixed }: Alternative, on: Abilities): string | null {
  const missing = features.filter((feature) => !on.features.has(feature));
  if (missing.length > 0) return `the adapter has no ${missing.join(", ")}`;
  if (lanes > on.lanes) return `it takes ${lanes} lanes; the adapter allows ${on.lanes}`;
  if (bytes > on.bytes) return `it takes ${bytes} bytes of workgroup memory; the adapter allows ${on.bytes}`;
  if (unit && !on.units.some(({ type, m, n, k }) => type === unit.type && m === unit.m && n === unit.n && k === unit.k))
    return `the adapter has no matrix unit of ${unit.m}x${unit.n}x${unit.k} ${unit.type} with sums of f32`;
  if (mixed && !on.mixed) return 'it rounds to f16; open with precision "mixed" to allow that';
  return null;
}

/** Sizes that are remembered of a kernel, past which they are forgotten. */
const MOST = 4096;

export class Choices {
  readonly abilities: Abilities;
  #tried: Table["tried"] = {};
  #plans = new WeakMap<Kernel, Map<string, Kernel>>();

  constructor(abilities: Abilities) {
    this.abilities = abilities;
  }

  /** What calibration found, so far. */
  get table(): Table {
    return { adapter: this.abilities.name, tried: this.#tried };
  }

  /** Take what a calibration of this adapter found, beside what is known. @throws RangeError for another adapter's. */
  use({ adapter, tried }: Table): void {
    if (adapter !== this.abilities.name)
      throw new RangeError(`calibration: it was made on "${adapter}", and this adapter is "${this.abilities.name}"; calibrate anew`);
    this.#tried = { ...this.#tried, ...tried };
    this.#plans = new WeakMap();
  }

  /**
   * The kernel that stands for this one at these sizes: what was fastest for their class, of what can be taken; else the first that is known to work
   * and leaves f32 as precise as it is.
   */
  plan(kernel: Kernel, params: Numbers): Kernel {
    if (!kernel.alternatives) return kernel;
    let plans = this.#plans.get(kernel);
    if (!plans || plans.size >= MOST) {
      plans = new Map();
      this.#plans.set(kernel, plans);
    }
    const key = Object.values(params).join(" ");
    let found = plans.get(key);
    if (!found) {
      found = this.#find(kernel, params);
      plans.set(key, found);
    }
    return found;
  }

  /** Was every alternative that can be taken tried for problems of this class? */
  knows(kernel: Kernel, params: Numbers): boolean {
    const tried = this.#tried[classOf(kernel, params)];
    return tried !== undefined && this.#usable(kernel, params).every(({ name }) => tried.some(({ alternative }) => alternative === name));
  }

  #usable(kernel: Kernel, params: Numbers): readonly Alternative[] {
    return kernel.alternatives?.of(params).filter((each) => lacking(each, this.abilities) === null) ?? [];
  }

  #find(kernel: Kernel, params: Numbers): Kernel {
    const usable = this.#usable(kernel, params);
    for (const { alternative, text, ms } of this.#tried[classOf(kernel, params)] ?? []) {
      // Where the same name stands for another text, another was tried: lines of whole vectors differ within a class. That is good enough for what is proven.
      const found = usable.find((each) => each.name === alternative && (!each.unproven || textOf(each.kernel) === text));
      if (found && ms !== null) return found.kernel;
    }
    return (usable.find(({ unproven, mixed }) => !unproven && !mixed) ?? { kernel }).kernel;
  }
}

/** What a kernel is: one computation, written twice: WGSL for the GPU to run, plain loops for a person to check. */

/**
 * What a buffer holds. f32 is f64 on `reference`. f16 is for storage alone: its bits, two to a word, which every adapter can read; where a pass sees
 * them as `halves`, numbers of "shader-f16".
 */
export type Dtype = "f32" | "u32" | "i32" | "f16";

/** The type of a parameter: a size, an offset (which may be negative), or a constant such as eps. */
export type Scalar = "u32" | "i32" | "f32";

export type Floats = Float32Array | Float64Array;
/** The bits of f16 are a Uint16Array. */
export type Values = Floats | Uint32Array | Int32Array | Uint16Array;

export type Named<T> = Readonly<Record<string, T>>;
type ArrayOf<D extends Dtype> = D extends "f32" ? Floats : D extends "u32" ? Uint32Array : D extends "i32" ? Int32Array : Uint16Array;
/** The arrays a kernel's loops see, by name. */
export type Arrays<B extends Named<Dtype>> = { readonly [K in keyof B]: ArrayOf<B[K]> };
export type Params<P extends Named<Scalar>> = { readonly [K in keyof P]: number };

const ARRAYS = { f32: Float32Array, u32: Uint32Array, i32: Int32Array, f16: Uint16Array } as const;

/** Bytes of a buffer: whole words. */
export const bytesOf = (dtype: Dtype, length: number): number => (dtype === "f16" ? 4 * Math.ceil(length / 2) : 4 * length);

/** A buffer's numbers in memory, as loops see them; f32 is f32 here. */
export function arrayOf(dtype: Dtype, memory: ArrayBufferLike, at: number, length: number): Values {
  switch (dtype) {
    case "f32":
      return new Float32Array(memory, at, length);
    case "u32":
      return new Uint32Array(memory, at, length);
    case "i32":
      return new Int32Array(memory, at, length);
    case "f16":
      return new Uint16Array(memory, at, length);
  }
}

/** Numbers as what a dtype holds: the array itself where it is that already. f16 takes bits. */
export const valuesOf = (dtype: Dtype, values: ArrayLike<number>): Values =>
  values instanceof ARRAYS[dtype] ? values : ARRAYS[dtype].from(values);

/** One dispatch: WGSL with an entry point `main`, and how many workgroups it takes. */
export interface Pass<P extends Named<Scalar> = Named<Scalar>> {
  readonly wgsl: string;
  /** The buffers this pass binds, where it does not need all: a shader stage may be limited to eight (WebGPU, 3.6.2). */
  readonly uses?: readonly string[];
  /** Buffers of floats that this pass sees as vectors of four. */
  readonly vectors?: readonly string[];
  /** f16 buffers that this pass sees as numbers, not as words. */
  readonly halves?: readonly string[];
  /** What must stand before everything else: "enable f16;". */
  readonly directives?: readonly string[];
  groups(params: Params<P>): number;
}

/** Working memory that lives for one run of a kernel: its dtype and its length. */
export interface Scratch<P extends Named<Scalar> = Named<Scalar>> {
  readonly dtype: Dtype;
  length(params: Params<P>): number;
}

/** The same kernel in WebAssembly: an export of `kernels/cpu/assembly`, called with addresses, then parameters, then constants. */
export interface Compiled<P extends Named<Scalar> = Named<Scalar>> {
  readonly name: string;
  /** The buffers whose addresses it takes, in order; null passes address 0 for "none". */
  readonly buffers: readonly (string | null)[];
  /** Numbers that the variant fixes, after the parameters. */
  readonly constants?: readonly number[];
  /** Bytes of working memory, whose address comes after the buffers. Each thread has its own; where there is `finish`, all parts have the same. */
  scratch?(params: Params<P>): number;
  /** How threads share the work, for these sizes. Without it, or with null, one does it all. */
  split?(params: Params<P>): Split<P> | Ranges | null;
  /** An export that is called last, once, with the arguments of the whole: it brings together what the parts have left. Only with Ranges. */
  readonly finish?: string;
}

/** Work that falls apart into equal pieces, each a run of the same kernel on a part of every buffer: so the result is that of one thread, bit for bit. */
export interface Split<P extends Named<Scalar> = Named<Scalar>> {
  /** The parameter that counts the pieces. */
  readonly over: keyof P & string;
  /** How far apart neighbours lie in each of `buffers`, in elements of 4 bytes: 0 in one that all read whole. */
  readonly strides: readonly number[];
  /** The work of a piece: numbers touched, or products made. */
  readonly work: number;
  /** Pieces that stay together. Default 1. */
  readonly together?: number;
}

/**
 * The same of pieces that no address tells apart, such as columns of a matrix: the function itself knows them by number, and takes the first and the
 * one after the last as its last two arguments. A kernel that can be so divided says so for all sizes.
 */
export interface Ranges {
  readonly pieces: number;
  readonly work: number;
  readonly together?: number;
}

/** A family of kernels and what this one was made from. */
export type Variant = readonly [family: string, ...variant: readonly (string | number | boolean)[]];

/** A product of small matrices that an adapter makes in one instruction: c [m, n] += a [m, k] b [k, n], a and b of `type`, c of f32. */
export interface MatrixUnit {
  readonly type: "f16" | "f32";
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Another way to write a kernel's passes: the same buffers, parameters and result, at another speed. */
export interface Alternative {
  readonly name: string;
  readonly kernel: Kernel;
  /** What the adapter must have: features, lanes of a workgroup, bytes of its memory, a matrix unit. */
  readonly features: readonly string[];
  readonly lanes: number;
  readonly bytes: number;
  readonly unit?: MatrixUnit;
  /** Does it round what it multiplies to f16? Then it is for those alone who asked for mixed precision. */
  readonly mixed: boolean;
  /** Does it hang on what drivers get wrong? Then it is taken only where it was tried. */
  readonly unproven: boolean;
}

/** The alternatives of a kernel, among which a GPU device chooses by sizes. */
export interface Alternatives<P extends Named<Scalar> = Named<Scalar>> {
  /** The parameters that speed hangs on. */
  readonly sizes: readonly (keyof P & string)[];
  /** Those that can compute these sizes; first the one to take where nothing was measured. */
  of(params: Params<P>): readonly Alternative[];
  /** Elements of each buffer. */
  lengths(params: Params<P>): Readonly<Record<string, number>>;
  /** Sizes of the same kind that loops are done with in a second. */
  small(params: Params<P>): Params<P>;
  /**
   * What a calibration runs them with, where any numbers will not do: tables, and what must agree with one another. `drawn` are the inputs that hold f32,
   * by chance in [-1, 1); what is given under their names, or of other inputs, stands instead.
   */
  given?(params: Params<P>, drawn: Readonly<Record<string, Float32Array>>): Readonly<Record<string, Values>>;
  /** Do results differ in the last bits, as exponentials' do? Then they are right within rounding. Without it, of whole numbers all must make the same bits. */
  readonly rounding?: boolean;
}

export interface Kernel<
  I extends Named<Dtype> = Named<Dtype>,
  O extends Named<Dtype> = Named<Dtype>,
  P extends Named<Scalar> = Named<Scalar>,
> {
  /** What errors and reports call it. */
  readonly name: string;
  /** Of a family: its name and the variant, from which another thread makes the same kernel. */
  readonly variant?: Variant;
  /** Of a kernel that stores as f16 what another has as f32: that one, of which any calibration is. */
  readonly whole?: Kernel;
  /** Storage buffers that are read. */
  readonly inputs: I;
  /** Storage buffers that are written; an update in place is an output that is also read. */
  readonly outputs: O;
  readonly params: P;
  readonly scratch?: Readonly<Record<string, Scratch<P>>>;
  readonly passes: readonly Pass<P>[];
  readonly alternatives?: Alternatives<P>;
  readonly compiled?: Compiled<P>;
  /** The same computation as plain loops over f32 or f64: the oracle of every test, and the cpu device where nothing is compiled. */
  loops(buffers: Arrays<I & O>, params: Params<P>): void;
}

export const kernel = <const I extends Named<Dtype>, const O extends Named<Dtype>, const P extends Named<Scalar>>(
  definition: Kernel<I, O, P>,
): Kernel<I, O, P> => definition;

/** What a kernel is found by in another thread: its family and variant, or its name. */
export const variantOf = ({ variant, name }: Kernel): Variant => variant ?? [name];

/** Make a kernel once per variant: the same arguments give the same object. `made` holds those made so far. The family is named as its export. */
export function variants<A extends readonly (string | number | boolean)[], K extends object>(
  family: string,
  make: (...variant: A) => K,
): ((...variant: A) => K) & { readonly made: ReadonlyMap<string, K> } {
  const made = new Map<string, K>();
  const get = (...variant: A): K => {
    const name = variant.join(" ");
    const found = made.get(name) ?? Object.assign(make(...variant), { variant: [family, ...variant] });
    made.set(name, found);
    return found;
  };
  return Object.assign(get, { made });
}

/** Lanes in a workgroup, where a kernel does not say otherwise. */
export const LANES = 256;

/** Workgroups along x: a dispatch of n groups is GRID_X by n / GRID_X, since WebGPU allows 65,535 along one side (WebGPU, 3.6.2). */
export const GRID_X = 32768;

/** The buffers a pass binds, in the order of their bindings, from binding 1. */
export const boundBy = (
  { inputs, outputs, scratch = {} }: Pick<Kernel, "inputs" | "outputs"> & { readonly scratch?: object },
  { uses }: Pick<Pass, "uses">,
): readonly string[] => uses ?? [...Object.keys(inputs), ...Object.keys(outputs), ...Object.keys(scratch)];

/** The complete WGSL module of one pass, bindings included: paste it anywhere. */
export function source<I extends Named<Dtype>, O extends Named<Dtype>, P extends Named<Scalar>>(
  of: Kernel<I, O, P>,
  pass: Pass<P>,
): string {
  const { inputs, outputs, scratch = {}, params } = of;
  const declared: Record<string, string> = {};
  const array = (name: string, dtype: Dtype) => {
    const number = dtype === "f16" && !pass.halves?.includes(name) ? "u32" : dtype;
    return `array<${pass.vectors?.includes(name) ? (number === "f16" ? "vec4<f16>" : "vec4f") : number}>`;
  };
  for (const [name, dtype] of Object.entries(inputs)) declared[name] = `var<storage, read> ${name}: ${array(name, dtype)};`;
  for (const [name, dtype] of Object.entries(outputs)) declared[name] = `var<storage, read_write> ${name}: ${array(name, dtype)};`;
  for (const [name, { dtype }] of Object.entries(scratch)) declared[name] = `var<storage, read_write> ${name}: ${array(name, dtype)};`;
  return [
    ...(pass.directives ?? []),
    `struct Params { ${Object.entries(params)
      .map(([name, type]) => `${name}: ${type}`)
      .join(", ")} }`,
    "@group(0) @binding(0) var<uniform> p: Params;",
    ...boundBy(of, pass).map((name, i) => `@group(0) @binding(${i + 1}) ${declared[name]}`),
    `fn groupOf(id: vec3u) -> u32 { return id.y * ${GRID_X}u + id.x; }`,
    pass.wgsl,
  ].join("\n");
}

/** An entry point with one lane for each of n results: `i` is the lane's own. */
export const each = (body: string, n = "p.n"): string => /* wgsl */ `
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = groupOf(wid) * ${LANES}u + lane;
  if (i >= ${n}) { return; }
  ${body}
}`;

/** Workgroups for n lanes. */
export const lanes = (n: number): number => Math.ceil(n / LANES);

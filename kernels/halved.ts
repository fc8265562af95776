/**
 * A kernel with some of its f32 buffers stored as f16: half the memory, and half the traffic; what it computes between reading and writing stays f32.
 *
 * Nothing is written twice for it. The WGSL is the kernel's own, in which each access to such a buffer is wrapped:
 *
 *     sum += x[i];      becomes   sum += f32(x[i]);                     vec4f(x[i]) where the pass sees vectors
 *     y[i] = sum;       becomes   y[i] = storedHalf(sum);
 *     y[i] += sum;      becomes   y[i] = storedHalf(f32(y[i]) + (sum));
 *
 * The loops decode what is stored, run the kernel's, and encode what those wrote: rounded to nearest, ties to even. WebGPU may take either neighbour
 * (WGSL, 15.7.6), and numbers below 2^-14, which are subnormal in f16, for 0; a kernel that reads back what it wrote reads it rounded there.
 */

import { fromHalf, toHalf } from "./half.ts";
import { type Alternatives, boundBy, type Kernel, type Pass, type Values, type Variant, variantOf } from "./kernel.ts";

/** What the variants of these kernels begin with: then the names, then the variant of the kernel. */
export const HALVED = "halved";

/**
 * f32 to f16. Of a number that f16 does not hold the conversion has no value that WGSL promises (WGSL, 15.7.6): from 65,520 on, whose bits are
 * 0x477ff000, it is infinity, as dynamic loss scaling needs to see, and NaN stays: both by their bits.
 */
const library = /* wgsl */ `
fn storedHalf(x: f32) -> f16 {
  let bits = bitcast<u32>(x);
  let size = bits & 0x7fffffffu;
  let beyond = ((bits >> 16u) & 0x8000u) | select(0x7c00u, 0x7e00u, size > 0x7f800000u);
  return select(f16(clamp(x, -65504.0, 65504.0)), bitcast<vec2<f16>>(beyond).x, size >= 0x477ff000u);
}
fn storedHalves(x: vec4f) -> vec4<f16> {
  return vec4<f16>(storedHalf(x.x), storedHalf(x.y), storedHalf(x.z), storedHalf(x.w));
}
`;

// ---- the text ------------------------------------------------------------------------------

/** How a buffer's element is read and written. */
interface Access {
  readonly read: string;
  readonly write: string;
}
const SINGLE: Access = { read: "f32", write: "storedHalf" };
const VECTOR: Access = { read: "vec4f", write: "storedHalves" };

/** Comments, spaces, words, numbers, &&, and anything else, one by one. */
const TOKEN = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|\s+|[A-Za-z_]\w*|\d[\w.]*|&&|[\s\S]/gy;
const BRACKETS: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/** The place of the first token at `from` or after that `stop` wants, outside all brackets opened since; the text's length where there is none. */
function find(text: string, from: number, stop: (token: string) => boolean): number {
  const open: string[] = [];
  TOKEN.lastIndex = from;
  for (let match = TOKEN.exec(text); match; match = TOKEN.exec(text)) {
    const [token] = match;
    if (open.length === 0 && stop(token)) return match.index;
    if (token in BRACKETS) open.push(BRACKETS[token]);
    else if (token === open.at(-1)) open.pop();
  }
  return text.length;
}

/** Does a word or a bracket that ends a value stand before an operator? Then that has two sides. */
const endsValue = (token: string): boolean => /^[\w)\]]/.test(token) && token !== "return";

/** Accesses to buffers, wrapped. @throws Error for what cannot be: pointers, ++ and --, and writing a part of a vector. */
export function wrapped(text: string, buffers: ReadonlyMap<string, Access>): string {
  const fail = (what: string, at: number): never => {
    throw new Error(`halved(kernel, names): ${what} cannot be rewritten: ${text.slice(at, at + 40).split("\n")[0]}`);
  };
  let out = "";
  let [before, last] = ["", ""]; // the two tokens before this one, without spaces and comments
  for (let at = 0; at < text.length; ) {
    TOKEN.lastIndex = at;
    const [token] = TOKEN.exec(text) ?? [""];
    const access = last === "." ? undefined : buffers.get(token);
    const open = access ? at + token.length + text.slice(at + token.length).search(/\S|$/) : 0;
    if (access && last === "&" && !endsValue(before)) fail("a pointer to a buffer of f16", at);
    if (!access || text[open] !== "[") {
      out += token;
      at += token.length;
      if (!/^(\s|\/[/*])/.test(token)) [before, last] = [last, token];
      continue;
    }
    const close = find(text, open + 1, (token) => token === "]");
    const place = `${token}[${wrapped(text.slice(open + 1, close), buffers)}]`;
    // what follows of the same value: members and components
    let end = close + 1;
    for (let more = /^\s*(\.\s*\w+|\[)/.exec(text.slice(end)); more; more = /^\s*(\.\s*\w+|\[)/.exec(text.slice(end))) {
      end += more[0].length;
      if (more[1] === "[") end = find(text, end, (token) => token === "]") + 1;
    }
    const assigned = /^\s*(\+\+|--|([-+*/]?)=(?!=))/.exec(text.slice(end));
    [before, last] = [token, "]"];
    if (!assigned) {
      out += `${access.read}(${place})`;
      at = close + 1;
      continue;
    }
    const [all, sign, operator] = assigned;
    if (operator === undefined) fail(`${sign} of a number of f16`, at);
    if (end > close + 1) fail("writing a part of a vector of f16", at);
    const from = end + all.length;
    at = find(text, from, (token) => token === ";" || token === ")");
    const value = wrapped(text.slice(from, at), buffers).trim();
    out += `${place} = ${access.write}(${operator === "" ? value : `${access.read}(${place}) ${operator} (${value})`})`;
  }
  return out;
}

const ENABLE = "enable f16;";

/** A pass that sees these of the kernel's buffers as f16; itself, where it binds none. */
function halvedPass(kernel: Kernel, pass: Pass, names: readonly string[]): Pass {
  const halves = boundBy(kernel, pass).filter((name) => names.includes(name));
  if (halves.length === 0) return pass;
  const { vectors = [], directives = [] } = pass;
  const buffers = new Map(halves.map((name) => [name, vectors.includes(name) ? VECTOR : SINGLE]));
  return {
    ...pass,
    halves,
    directives: directives.includes(ENABLE) ? directives : [ENABLE, ...directives],
    wgsl: library + wrapped(pass.wgsl, buffers),
  };
}

// ---- the loops -----------------------------------------------------------------------------

let numbers: Float64Array | null = null;

/** The numbers that bits stand for. */
function decoded(bits: Values): Float64Array {
  numbers ??= Float64Array.from({ length: 65536 }, (_, code) => fromHalf(code));
  const values = new Float64Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = numbers[bits[i]];
  return values;
}

// ---- the kernel ----------------------------------------------------------------------------

const made = new WeakMap<Kernel, Map<string, Kernel>>();

/**
 * The kernel with these f32 buffers stored as f16: the same object for the same names. It needs "shader-f16" of an adapter; it has no compiled form.
 * @throws RangeError for a name that is no f32 buffer of the kernel; Error for WGSL that cannot be rewritten.
 */
export function halved(whole: Kernel, names: readonly string[]): Kernel {
  const buffers = { ...whole.inputs, ...whole.outputs };
  const wrong = names.find((name) => buffers[name] !== "f32");
  if (wrong !== undefined) throw new RangeError(`halved(kernel, names): ${whole.name} has no f32 buffer "${wrong}"`);
  const key = Object.keys(buffers)
    .filter((name) => names.includes(name))
    .join(" ");
  const known = made.get(whole) ?? new Map<string, Kernel>();
  made.set(whole, known);
  const found = known.get(key) ?? make(whole, key === "" ? [] : key.split(" "));
  known.set(key, found);
  return found;
}

function make(whole: Kernel, names: readonly string[]): Kernel {
  if (names.length === 0) return whole;
  const { compiled: _, alternatives, ...kernel } = whole;
  const stored = (buffers: Kernel["inputs"]): Kernel["inputs"] =>
    Object.fromEntries(Object.entries(buffers).map(([name, dtype]) => [name, names.includes(name) ? "f16" : dtype]));
  const halving = ({ of, ...rest }: Alternatives): Alternatives => ({
    ...rest,
    of: (params) => of(params).map((each) => ({ ...each, kernel: halved(each.kernel, names) })),
  });
  const variant: Variant = [HALVED, names.join(" "), ...variantOf(whole)];
  return {
    ...kernel,
    name: `${whole.name} (f16 ${names.join(" ")})`,
    variant,
    whole,
    inputs: stored(whole.inputs),
    outputs: stored(whole.outputs),
    passes: whole.passes.map((pass) => halvedPass(whole, pass, names)),
    ...(alternatives && { alternatives: halving(alternatives) }),
    loops(buffers, params) {
      const plain: Record<string, Values> = { ...buffers };
      for (const name of names) plain[name] = decoded(buffers[name]);
      whole.loops(plain as typeof buffers, params);
      for (const name of names)
        if (name in whole.outputs) for (let i = 0; i < plain[name].length; i++) buffers[name][i] = toHalf(plain[name][i]);
    },
  };
}

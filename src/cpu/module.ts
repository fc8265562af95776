/** The compiled kernels as this engine runs them best: on plain or shared memory, with fused multiplication, and, in V8 that can, on vectors of 8. */

import { node } from "../node.ts";

/** Which kernels: for memory that threads share or for plain memory; with multiplication and addition in one rounding or in two; on pairs of vectors. */
export interface Build {
  readonly shared: boolean;
  readonly fused: boolean;
  readonly wide: boolean;
}

// ---- fused ---------------------------------------------------------------------------------

/** A module of one function: f32x4.relaxed_madd of three zeros (WebAssembly 3.0, relaxed vector instructions). */
const RELAXED = [
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic and version
  ...[1, 5, 1, 0x60, 0, 1, 0x7b], // a type: [] -> [v128]
  ...[3, 2, 1, 0], // a function of that type
  ...[10, 19, 1, 17, 0, ...[0, 0, 0].flatMap(() => [0x41, 0, 0xfd, 15]), 0xfd, 0x85, 2, 0x0b], // its body: splats of i32.const 0
];

/**
 * Does the engine multiply and add in one rounding? Browsers do, and Node from 22; in Node 20 V8 has it finished but behind a flag, which is set
 * here where it helps.
 */
export function mayFuse(): boolean {
  const can = () => WebAssembly.validate(new Uint8Array(RELAXED));
  if (!can()) node?.getBuiltinModule("node:v8").setFlagsFromString("--experimental-wasm-relaxed-simd");
  return can();
}

// ---- wide ----------------------------------------------------------------------------------

/** What decides whether V8 can work on vectors of 8. */
export interface Host {
  /** process.versions.v8; undefined where that is not V8 in Node. */
  readonly v8: string | undefined;
  readonly arch: string;
  /** Flags that V8 was started with. */
  readonly flags: string;
  /** What the system says of its processor; undefined where it says nothing. */
  readonly cpu: string | undefined;
}

/** Lines of V8 whose rewriting of pairs our kernels were tested with: those of Node 24 and 26. It is an experiment of V8's, so others have to be tried first. */
const TRIED = ["13.6", "14.6"];

/** Is it a V8 that was tried, on a processor with AVX2, whose WebAssembly nobody else has set flags for? */
export const widens = ({ v8, arch, flags, cpu }: Host): boolean =>
  arch === "x64" &&
  TRIED.some((line) => v8?.startsWith(`${line}.`)) &&
  !/wasm|liftoff/.test(flags) &&
  (cpu === undefined || /\bavx2\b/.test(cpu));

/** Does the engine make one instruction of two neighbouring ones, on 8 numbers instead of 4? */
export function mayWiden(): boolean {
  if (!node) return false;
  const { existsSync, readFileSync } = node.getBuiltinModule("node:fs");
  const about = "/proc/cpuinfo";
  return widens({
    v8: node.versions.v8,
    arch: node.arch,
    flags: [...node.execArgv, node.env.NODE_OPTIONS].join(" "),
    cpu: existsSync(about) ? readFileSync(about, "latin1") : undefined,
  });
}

/**
 * Flags, and what they are otherwise. The first has V8's best compiler rewrite pairs; the others have that compiler do all functions at once,
 * without inlining, for which it would want to see them run first.
 */
const FLAGS = [
  ["--experimental-wasm-revectorize", "--no-experimental-wasm-revectorize"],
  ["--no-liftoff", "--liftoff"],
  ["--no-wasm-lazy-compilation", "--wasm-lazy-compilation"],
  ["--no-wasm-inlining", "--wasm-inlining"],
];

/** A custom section, which means nothing: V8 keeps compiled code by a module's bytes, and this one is compiled in its own way. */
const APART = [0, 2, 1, 0x77];

/** Compile for vectors of 8, here and now (40 ms), so that the flags hold for this module alone. */
function compileWide(bytes: Uint8Array): WebAssembly.Module {
  const v8 = node?.getBuiltinModule("node:v8");
  const apart = new Uint8Array(bytes.length + APART.length);
  apart.set(bytes);
  apart.set(APART, bytes.length);
  for (const [on] of FLAGS) v8?.setFlagsFromString(on);
  try {
    return new WebAssembly.Module(apart);
  } finally {
    for (const [, off] of FLAGS) v8?.setFlagsFromString(off);
  }
}

// ---- compiling -----------------------------------------------------------------------------

/** In a module's imports: env.memory with limits (WebAssembly 3.0, 5.5.5), whose next byte is 1 for a maximum, and 2 more where it is shared. */
const MEMORY = [..."\x03env\x06memory\x02"].map((c) => c.charCodeAt(0));

/** The module for memory that threads share: nothing else in it differs. */
function forSharing(module: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const at = module.findIndex((_, i) => MEMORY.every((byte, j) => module[i + j] === byte));
  if (at < 0) throw new Error("it imports no memory");
  module[at + MEMORY.length] |= 2;
  return module;
}

const compiling = new Map<string, Promise<WebAssembly.Module>>();

/** The kernels at an address, compiled once for each build. @throws Error when they cannot be loaded. */
export function kernelsAt(url: URL, { shared, wide }: Build): Promise<WebAssembly.Module> {
  const fetched = async () => {
    const bytes =
      url.protocol === "file:" ? await node?.getBuiltinModule("node:fs/promises").readFile(url) : await (await fetch(url)).arrayBuffer();
    const module = new Uint8Array(bytes ?? []);
    if (shared) forSharing(module);
    return wide ? compileWide(module) : WebAssembly.compile(module);
  };
  const name = `${url.href} ${shared} ${wide}`;
  const found = compiling.get(name) ?? fetched();
  compiling.set(name, found);
  return found.catch((cause) => {
    compiling.delete(name);
    throw new Error(`cpu: ${url.pathname} cannot be loaded; in a checkout, run npm run build`, { cause });
  });
}

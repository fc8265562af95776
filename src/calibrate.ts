/** Calibration: which of a kernel's alternatives are right on this adapter, and which of those is fastest, by class of problem. */

import { attention, attentionGrad } from "../kernels/attention.ts";
import { type Alternative, arrayOf, boundBy, bytesOf, GRID_X, type Kernel, source, type Values, valuesOf } from "../kernels/kernel.ts";
import { matmul } from "../kernels/matmul.ts";
import { dropThreshold, keepScale } from "../kernels/random.ts";
import { classOf, lacking, type Table, type Tried, textOf } from "./choices.ts";
import { type Device, device, type Store } from "./device.ts";
import { Key } from "./key.ts";
import { node } from "./node.ts";
import { checkOptions } from "./options.ts";
import type { Problem } from "./shapes.ts";
import { mostTiles } from "./stream.ts";
import { PROGRAM } from "./trial.ts";
import { distance, verify } from "./verify.ts";

/** What became of an alternative, for one class of problems. */
export interface Finding {
  readonly problem: string;
  readonly alternative: string;
  /** Fastest of those that are right; right and slower; wrong, or not compiled; not to be had on this adapter. */
  readonly verdict: "chosen" | "slower" | "refused" | "absent";
  /** Of one run, where it was measured. */
  readonly ms: number | null;
  /** Why it was refused, or is absent. */
  readonly reason: string | null;
}

export interface Calibration {
  readonly table: Table;
  /** Of the problems that were measured now. */
  readonly findings: readonly Finding[];
}

export interface CalibrateOptions {
  /** What to measure. Default: products of squares, and the products and attention of the layers of a transformer. `needs(f).problems` are those of a program. */
  readonly problems?: readonly Problem[];
  /** Where the table is kept: what it has of this adapter is not measured again. */
  readonly store?: Store;
  /** Told after each class of problems, with its findings. */
  readonly onProgress?: (done: number, total: number, findings: readonly Finding[]) => void;
  readonly signal?: AbortSignal;
  /** Told of a store that holds nothing of use. Default: a line on the console. */
  readonly warn?: (message: string) => void;
  /** How an alternative that hangs on what drivers get wrong is tried where it can do no harm. Default: in a process of its own, in Node; in a page, not at all. */
  readonly trial?: Trial | null;
}

// ---- what is measured ------------------------------------------------------------------------

/** What is done to a product before it is written: a linear layer's bias, and perhaps its activation or what it is added to. */
type Epilogue = "" | "bias" | "bias relu" | "bias residual";

const product = (ta: boolean, tb: boolean, m: number, n: number, k: number, and: Epilogue = ""): Problem => ({
  kernel: matmul(ta, tb, and !== "", and === "bias relu", and === "bias residual") as unknown as Kernel,
  params: { m, n, k, batch: 1, strideA: 0, strideB: 0 },
});

/** Width of a head, and rows of a cell, as Geneformer has them; the share of probabilities that it drops when it is trained. */
const HEAD = 64;
const CELL = 2048;
const DROPPED = 0.1;

/** Attention of so many tokens, forward and back. */
function attended(tokens: number, heads: number, dropped: boolean): Problem[] {
  const count = mostTiles(tokens, Math.max(1, tokens / CELL));
  const drop = { threshold: dropThreshold(DROPPED), scale: keepScale(DROPPED), site0: 0, site1: 0 };
  const size = { count, keyRows: tokens, heads, ...(dropped && drop) };
  return [
    { kernel: attention(HEAD, dropped, false) as unknown as Kernel, params: size },
    { kernel: attentionGrad(HEAD, dropped, false) as unknown as Kernel, params: { ...size, keyCount: count, rows: tokens } },
  ];
}

/** What a linear layer of a transformer ends in: that which widens in an activation, the others in a residual, or in dropout before that. */
const ended = (from: number, to: number): readonly Epilogue[] => (to > from ? ["bias", "bias relu"] : ["bias", "bias residual"]);

/** Squares, and the layers of a transformer, forward and back: so many tokens, so wide, its feed-forward so much wider; attention with and without dropout. */
export function transformerProblems(software: boolean): Problem[] {
  const layers = software ? [[512, 128, 256]] : [[2048, 256, 512], [8192, 256, 512], [8192, 768, 3072]]; // biome-ignore format: a table
  const sides = software ? [256] : [512, 1024, 2048, 4096];
  return [
    ...sides.flatMap((n) => [product(false, false, n, n, n), product(false, true, n, n, n), product(true, false, n, n, n)]),
    ...layers.flatMap(([tokens, width, wider]) => [
      ...[[width, width], [width, wider], [wider, width]].flatMap(([from, to]) => [
        ...(software ? (["bias"] as const) : ended(from, to)).map((and) => product(false, true, tokens, to, from, and)), // y = x wT + b
        product(false, false, tokens, from, to), // dx = dy w
        product(true, false, to, from, tokens), // dw = dyT x
      ]),
      ...(software ? [false] : [false, true]).flatMap((dropped) => attended(tokens, width / HEAD, dropped)),
    ]), // biome-ignore format: as it is read
  ];
}

/** Time that runs of one alternative take together, ms: enough for a clock to measure. */
const LONG = 20;
const MOST_RUNS = 200;
/** Turns that all alternatives are measured in, one after the other: what disturbs one disturbs all. */
const TURNS = 4;
/** How much slower than the best in the first turn is slow enough to be left out of the others. */
const HOPELESS = 2;

/** How far results may be off, of the largest: sums of some thousand products of f32, and of numbers rounded to f16. */
const TOLERANCE = { f32: 1e-5, mixed: 2e-3 };

type Draw = (length: number, site: number) => Float32Array;

/** Small whole numbers, from 0 to 8, whose sums of products f32 holds: every alternative must give the same bits; sums in f16 would not. */
const whole: Draw = (length, site) => Float32Array.from({ length }, (_, i) => (Math.imul(i + 1 + 977 * site, 0x9e3779b1) >>> 16) % 9);

/** Broken numbers in [-1, 1). */
const broken: Draw = (length, site) =>
  new Float32Array(
    Key.from(site)
      .uniforms(length)
      .map((u) => 2 * u - 1),
  );

// ---- calibration -----------------------------------------------------------------------------

/**
 * Find the fastest alternatives of kernels on a WebGPU device, and take them from now on.
 *
 * Each alternative that the adapter can run is compiled, held against the loops in f64 on a small problem of the kind, then against the plain kernel on the
 * problem itself: bit for bit, in whole numbers, or within rounding where the kernel says that bits differ. Those that are right are timed in turns. One
 * that a driver may fall over is first tried in a process of its own. Kernels of other numbers than f32 are left out, unless they say what such inputs hold.
 *
 * @throws RangeError for a device that has no alternatives; Error where the plain kernel is wrong.
 */
export async function calibrate(on: Device = device(), options: CalibrateOptions = {}): Promise<Calibration> {
  checkOptions("calibrate(device, options)", options, ["problems", "store", "onProgress", "signal", "warn", "trial"]);
  const { choices } = on;
  if (!choices) throw new RangeError(`calibrate(device): the ${on.name} device has nothing to choose from; open "webgpu"`);
  const { store, onProgress, signal, warn = console.warn, trial = trialHere() } = options;
  const { problems = transformerProblems(choices.abilities.software) } = options;
  if (store) {
    const kept = tableOf(await store.load().catch((error: Error) => error.message), choices.abilities.name);
    if (typeof kept !== "string") choices.use(kept);
    else if (kept !== "") warn(`calibrate: what was kept is not used, ${kept}; calibrating anew`);
  }
  const known = ({ kernel: { inputs, outputs, alternatives } }: Problem) =>
    Object.values({ ...(alternatives?.given ? {} : inputs), ...outputs }).every((dtype) => dtype === "f32");
  const unknown = ({ kernel, params }: Problem) => !store || !choices.knows(kernel, params);
  const classes = new Map(
    problems.filter((each) => known(each) && unknown(each)).map((problem) => [classOf(problem.kernel, problem.params), problem]),
  );
  const findings: Finding[] = [];
  const survived: Survived = new Map();
  let done = 0;
  for (const [name, problem] of classes) {
    signal?.throwIfAborted();
    const found = await measure(on, name, problem, trial, survived);
    findings.push(...found.findings);
    choices.use({ adapter: choices.abilities.name, tried: { [name]: found.tried } });
    onProgress?.(++done, classes.size, found.findings);
  }
  if (store && classes.size > 0) await store.save(choices.table);
  return { table: choices.table, findings };
}

/** What a store holds, if it is a table of this adapter; else why it is of no use, and "" where it holds nothing. */
function tableOf(kept: unknown, adapter: string): Table | string {
  if (kept === null || kept === undefined) return "";
  if (typeof kept === "string") return kept;
  const { adapter: made, tried } = kept as Partial<Table>;
  if (typeof made !== "string" || typeof tried !== "object" || tried === null) return "it is no table of a calibration";
  const sound = (each: Partial<Tried> | null) =>
    typeof each?.alternative === "string" && typeof each.text === "string" && (each.ms === null || typeof each.ms === "number");
  if (!Object.values(tried).every((list) => Array.isArray(list) && list.every(sound))) return "some of what was tried is not told";
  return made === adapter ? { adapter, tried } : `it was made on "${made}", and this adapter is "${adapter}"`;
}

/** What a kernel is run with at these sizes: what it says of its inputs, and numbers drawn. */
function runOf({ inputs, outputs, alternatives }: Kernel, params: Problem["params"], draw: Draw) {
  const lengths = alternatives?.lengths(params) ?? {};
  const floats = Object.keys(inputs).filter((name) => inputs[name] === "f32");
  const drawn = Object.fromEntries(floats.map((name, site) => [name, draw(lengths[name], site)]));
  const all = { ...drawn, ...alternatives?.given?.(params, drawn) };
  return {
    inputs: Object.fromEntries(Object.keys(inputs).map((name) => [name, all[name]])),
    outputs: Object.fromEntries(Object.keys(outputs).map((name) => [name, lengths[name]])),
    params,
  };
}

/** Are these the numbers that were wanted? */
type Same = (got: Values, wanted: Values) => boolean;

/** Kernels that were tried in a process of their own, once each; rejected with why they may not be taken. */
type Survived = Map<Kernel, Promise<void>>;

/** The alternatives of one problem. */
async function measure(
  on: Device,
  problem: string,
  { kernel, params }: Problem,
  trial: Trial | null,
  survived: Survived,
): Promise<{ readonly findings: Finding[]; readonly tried: Tried[] }> {
  const { alternatives, ...plain } = kernel;
  const choices = on.choices;
  if (!alternatives || !choices) return { findings: [], tried: [] };
  const outputs = Object.keys(kernel.outputs);
  const numbers = alternatives.rounding ? broken : whole;
  const small = alternatives.small(params);
  const sample = runOf(kernel, small, broken);
  const { inputs, outputs: lengths } = runOf(kernel, params, numbers);
  const buffers = Object.fromEntries([
    ...Object.entries(inputs).map(([name, values]) => [name, on.allocate(kernel.inputs[name], values.length)] as const),
    ...Object.entries(lengths).map(([name, length]) => [name, on.allocate(kernel.outputs[name], length)] as const),
  ]);
  const one = on.allocate("f32", 1);
  const run = async (each: Kernel): Promise<Values[]> => {
    for (const name of outputs) on.upload(buffers[name], new Float32Array(lengths[name]).fill(Number.NaN));
    on.run(each, buffers, params);
    return Promise.all(outputs.map((name) => on.read(buffers[name])));
  };
  try {
    for (const [name, values] of Object.entries(inputs)) on.upload(buffers[name], values);
    const { ok, worst } = await verify(on, { ...sample, kernel: plain, tolerance: TOLERANCE.f32 });
    if (!ok)
      throw new Error(`calibrate: ${kernel.name} is off by ${worst} on this adapter: its plainest writing is wrong; see geneformer doctor`);
    const wanted = await run(plain);

    /** Run it elsewhere. @throws Error saying why it may not be taken. */
    const apart = async (each: Alternative, elsewhere: Trial, same: Same): Promise<void> => {
      const { inputs: given, outputs: blank } = runOf(kernel, small, numbers);
      const got = await elsewhere({ kernel: each.kernel, buffers: { ...given, ...blank }, params: small, features: each.features });
      const want: Record<string, Values> = { ...given };
      for (const name of outputs) want[name] = new Float64Array(blank[name]);
      kernel.loops(want, small);
      if (!outputs.every((name) => same(got[name], want[name]))) throw new Error("it is wrong, in a process of its own");
    };
    /** Why an alternative may not be taken; null where it is right. */
    const refusal = async (each: Alternative): Promise<string | null> => {
      const tolerance = TOLERANCE[each.mixed ? "mixed" : "f32"];
      const same: Same = (got, want) => distance(got, want) <= (alternatives.rounding ? tolerance : 0);
      const off = (worst: number) => `it is off by ${worst.toExponential(1)} of the largest; ${tolerance} is allowed`;
      try {
        if (each.unproven && trial) {
          const before = survived.get(each.kernel) ?? apart(each, trial, same);
          survived.set(each.kernel, before);
          await before;
        }
        await on.prepare?.([each.kernel]);
        const { ok, worst } = await verify(on, { ...sample, kernel: each.kernel, tolerance });
        if (!ok) return off(worst);
        const got = await run(each.kernel);
        const unlike = () =>
          alternatives.rounding
            ? `beside the plain kernel ${off(Math.max(...got.map((values, i) => distance(values, wanted[i]))))}`
            : "it is wrong: whole numbers differ from the plain kernel's";
        return got.every((values, i) => same(values, wanted[i])) ? null : unlike();
      } catch (error) {
        return (error as Error).message.replace(/\s+/g, " ").slice(0, 300);
      }
    };
    const reasons = new Map<Alternative, readonly ["refused" | "absent", string]>();
    const racing: Alternative[] = [];
    const all = alternatives.of(params);
    for (const each of all) {
      const absent = lacking(each, choices.abilities);
      const refused = absent ? null : await refusal(each);
      if (absent) reasons.set(each, ["absent", absent]);
      else if (refused) reasons.set(each, ["refused", refused]);
      else racing.push(each);
    }

    const timed = async (each: Kernel, runs: number): Promise<number> => {
      const since = performance.now();
      for (let i = 0; i < runs; i++) on.run(each, buffers, params);
      await on.read(one); // the queue keeps order: this waits for all
      return (performance.now() - since) / runs;
    };
    const runs = Math.min(MOST_RUNS, Math.max(1, Math.ceil(LONG / (await timed(plain, 1)))));
    const times = new Map<Alternative, number>();
    for (let turn = 0; turn < TURNS; turn++) {
      const best = Math.min(...times.values());
      for (const each of racing) {
        const before = times.get(each) ?? Number.POSITIVE_INFINITY;
        if (turn > 0 && before > HOPELESS * best) continue;
        times.set(each, Math.min(before, await timed(each.kernel, runs)));
      }
    }
    const ranked = racing.sort((a, b) => (times.get(a) ?? 0) - (times.get(b) ?? 0));
    const findings = all.map((each): Finding => {
      const [verdict, reason] = reasons.get(each) ?? [each === ranked[0] ? "chosen" : "slower", null];
      return { problem, alternative: each.name, verdict, ms: times.get(each) ?? null, reason };
    });
    const refused = all.filter((each) => reasons.get(each)?.[0] === "refused");
    const tried = [...ranked, ...refused].map((each) => ({
      alternative: each.name,
      text: textOf(each.kernel),
      ms: times.get(each) ?? null,
    }));
    return { findings, tried };
  } finally {
    for (const buffer of [...Object.values(buffers), one]) on.free(buffer);
  }
}

// ---- a process of its own ---------------------------------------------------------------------

/** A kernel to be run once elsewhere. */
export interface Request {
  readonly kernel: Kernel;
  /** What inputs hold, and how long outputs are. */
  readonly buffers: Readonly<Record<string, Values | number>>;
  readonly params: Readonly<Record<string, number>>;
  readonly features: readonly string[];
}

/** Runs a kernel where it can take nothing down, and gives the outputs back. @throws Error saying how it failed. */
export type Trial = (request: Request) => Promise<Readonly<Record<string, Values>>>;

/** Time a trial may take, ms: drivers have been seen to compile for minutes, or for ever. */
const PATIENCE = 120_000;

/** In Node, a trial in a process of its own: a driver that crashes takes that down, and not the user's work. null elsewhere. */
export function trialHere(program: string = PROGRAM): Trial | null {
  const host = node;
  if (!host) return null;
  return async ({ kernel, buffers, params, features }) => {
    const { spawn } = host.getBuiltinModule("node:child_process");
    const { createRequire } = host.getBuiltinModule("node:module");
    const { Buffer } = host.getBuiltinModule("node:buffer");
    const { flagsOf } = await import("./webgpu.ts");
    const numbers = new DataView(new ArrayBuffer(Math.ceil(Object.keys(kernel.params).length / 4) * 16));
    Object.entries(kernel.params).forEach(([name, type], i) => {
      if (type === "f32") numbers.setFloat32(4 * i, params[name], true);
      else numbers.setInt32(4 * i, params[name], true);
    });
    const scratch = Object.entries(kernel.scratch ?? {}).map(([name, { dtype, length }]) => [
      name,
      { bytes: bytesOf(dtype, length(params)) },
    ]);
    const dtypes = { ...kernel.inputs, ...kernel.outputs };
    const given = Object.entries(buffers).map(([name, x]) => {
      const words = Buffer.alloc(bytesOf(dtypes[name], typeof x === "number" ? x : x.length));
      if (typeof x === "number") return [name, { bytes: words.length }];
      const { buffer, byteOffset, byteLength } = valuesOf(dtypes[name], x);
      words.set(new Uint8Array(buffer, byteOffset, byteLength));
      return [name, { bytes: words.length, values: words.toString("base64") }];
    });
    const message = JSON.stringify({
      webgpu: host.getBuiltinModule("node:url").pathToFileURL(createRequire(import.meta.url).resolve("webgpu")).href,
      flags: flagsOf({ precision: "mixed", experimental: true }),
      features,
      uniform: [...new Uint8Array(numbers.buffer)],
      buffers: Object.fromEntries([...given, ...scratch]),
      outputs: Object.keys(kernel.outputs),
      passes: kernel.passes.map((pass) => {
        const groups = pass.groups(params);
        const bound = boundBy(kernel, pass).map((name) => ({ name, type: name in kernel.inputs ? "read-only-storage" : "storage" }));
        return { code: source(kernel, pass), bound, x: Math.min(groups, GRID_X), y: Math.ceil(groups / GRID_X) };
      }),
    });
    const child = spawn(host.execPath, ["--input-type=module", "--eval", program], { stdio: ["pipe", "pipe", "pipe"], timeout: PATIENCE });
    let [out, err] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (err += text));
    child.stdin.on("error", () => {}); // it died before it had read all: how it ended says more
    child.stdin.end(message);
    const [code, signal] = await new Promise<readonly [number | null, string | null]>((done, fail) => {
      child.on("close", (...how) => done(how));
      child.on("error", fail);
    });
    if (code !== 0)
      throw new Error(`in a process of its own it ended with ${signal ?? `status ${code}`}: ${err.trim().split("\n").at(-1)}`);
    return Object.fromEntries(
      Object.entries(JSON.parse(out) as Record<string, string>).map(([name, text]) => {
        const bytes = Uint8Array.from(Buffer.from(text, "base64")).buffer;
        const came = Math.floor(bytes.byteLength / (bytesOf(dtypes[name], 2) / 2));
        return [name, arrayOf(dtypes[name], bytes, 0, Math.min(buffers[name] as number, came))];
      }),
    );
  };
}

/** A store in a file of JSON, in Node. @throws Error elsewhere. */
export function fileStore(path: string): Store {
  const fs = globalThis.process?.getBuiltinModule?.("node:fs/promises");
  if (!fs) throw new Error(`fileStore("${path}"): files are for Node; give calibrate a store of your own`);
  return {
    load: async () => {
      const text = await fs.readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return null;
        throw error;
      });
      if (text === null) return null;
      try {
        return JSON.parse(text);
      } catch {
        return `"${path}" is not JSON`;
      }
    },
    save: async (table) => {
      await fs.writeFile(`${path}.part`, `${JSON.stringify(table, null, 2)}\n`);
      await fs.rename(`${path}.part`, path); // whole or not at all
    },
  };
}

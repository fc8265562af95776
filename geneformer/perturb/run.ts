/** A run of perturbations on disk: results in shards as they are made, each whole or absent, and the way on after a break. */

import { needs } from "../../src/shapes.ts";
import type { Config } from "../config.ts";
import { streamOf } from "../data/batches.ts";
import { type ParquetColumn, parquetBytes, readParquet } from "../data/parquet.ts";
import type { Ends } from "../embed.ts";
import { exists, fileSource, list, readJson, refuseForeign, remove, writeWhole } from "../files.ts";
import { type Geneformer, hiddenOf } from "../model.ts";
import { type Move, NEW } from "./edit.ts";
import { type Estimate, type Measure, type Outcome, perturb } from "./exact.ts";
import { anchorOf, editsOf, type Perturbation, type Unit, unitsOf } from "./plan.ts";
import { type ScreenOptions, screen } from "./screen.ts";

/** Cells to perturb, in order. */
export interface Cells {
  /** Which rows of a dataset. */
  readonly rows: readonly number[];
  tokens(row: number): ArrayLike<number>;
}

/** What a run is going to cost. */
export interface Plan {
  /** Cells that something is done to. */
  readonly cells: number;
  /** Rows of the result: a gene, or a group, of a cell. */
  readonly pairs: number;
  /** Cells that go through the model, perturbed or not, and their tokens. */
  readonly passes: number;
  readonly tokens: number;
  /** Multiplications and additions, two to a product. */
  readonly flop: number;
  readonly shards: number;
}

/** Part of a run: units [from, to) of cells. */
interface Shard {
  readonly pairs: number;
  /** Of the perturbed cells. */
  readonly tokens: number;
  readonly parts: readonly { readonly row: number; readonly from: number; readonly to: number }[];
}

/**
 * Multiplications and additions of a cell of T tokens through a model, up to a layer.
 * @param rows how many of its places the last of these layers makes: keys and values it makes of all. Default T.
 */
export function flopOf({ width: C, inner: F }: Config, layers: number, T: number, rows = T): number {
  const layer = (made: number) => made * (2 * (2 * C * C + 2 * C * F) + 4 * T * C) + T * 4 * C * C;
  return layers === 0 ? 0 : (layers - 1) * layer(T) + layer(rows);
}

/** Multiplications and additions of a cell of so many tokens, as it is measured: the last layer makes <cls> alone where nothing else is asked for. */
function passFlop(config: Config, { layer, mode, affected }: Measure): (tokens: number) => number {
  const layers = hiddenOf(config, layer);
  return (tokens) => flopOf(config, layers, tokens, mode === "cls" && !affected ? 1 : tokens);
}

const lengthAfter = (cell: ArrayLike<number>, moves: readonly Move[], longest: number): number => {
  const change = moves.reduce((sum, { place, to }) => sum + Number(place < 0) - Number(to === null), 0);
  return Math.min(cell.length + change, longest);
};

/** The shards of a run, cut where their tokens exceed a budget: the same for the same cells, so that a run goes on where it stopped. */
export function* shardsOf(cells: Cells, perturbation: Perturbation, { ends }: Measure, config: Config, budget: number): Generator<Shard> {
  let [parts, pairs, tokens]: [Shard["parts"][number][], number, number] = [[], 0, 0];
  for (const row of cells.rows) {
    const cell = cells.tokens(row);
    let [from, at] = [0, 0];
    for (const { moves } of unitsOf(cell, ends, perturbation)) {
      at++;
      pairs++;
      for (const each of moves) tokens += lengthAfter(cell, each, config.length);
      if (tokens < budget) continue;
      yield { pairs, tokens, parts: [...parts, { row, from, to: at }] };
      [parts, pairs, tokens, from] = [[], 0, 0, at];
    }
    if (at > from) parts.push({ row, from, to: at });
  }
  if (parts.length > 0) yield { pairs, tokens, parts };
}

/** What a run costs, without running it. @throws Error where there is nothing to do. */
export function planOf(cells: Cells, perturbation: Perturbation, measure: Measure, config: Config, budget: number): Plan {
  const flopOfPass = passFlop(config, measure);
  let [perturbed, pairs, passes, tokens, flop] = [0, 0, 0, 0, 0];
  const pass = (length: number) => {
    passes++;
    tokens += length;
    flop += flopOfPass(length);
  };
  for (const row of cells.rows) {
    const cell = cells.tokens(row);
    const before = pairs;
    for (const { moves } of unitsOf(cell, measure.ends, perturbation)) {
      if (pairs++ === before) {
        perturbed++;
        pass(cell.length); // as it is
        const anchor = anchorOf(cell, measure.ends, perturbation);
        for (const each of anchor?.moves ?? []) pass(lengthAfter(cell, each, config.length));
      }
      for (const each of moves) pass(lengthAfter(cell, each, config.length));
    }
  }
  if (pairs === 0)
    throw new Error("perturb: no cell has a gene to perturb, and another one that stays to be compared; choose other genes or cells");
  let shards = 0;
  for (const _ of shardsOf(cells, perturbation, measure, config, budget)) shards++;
  return { cells: perturbed, pairs, passes, tokens, flop, shards };
}

/** The most bytes that a batch of perturbed cells holds at one time, beside the model. */
export function memoryOf(model: Geneformer, { tokensPerBatch, layer }: Measure, longest: number): number {
  const count = Math.max(1, Math.floor(tokensPerBatch / longest));
  const cells = Array.from({ length: count }, () => new Uint32Array(longest));
  return needs(() => model.encode(streamOf(cells, model.config, { gradients: false }), { layers: hiddenOf(model.config, layer) })).bytes;
}

/** A pace is believed of a batch that takes so many seconds. */
const LASTS = 1;

/**
 * Multiplications and additions a second of perturbed copies of a cell, here and now: of the start of the cell, and of more and more tokens until a batch is
 * whole or lasts a second, so that a large model on a slow device is not kept waiting. Each size goes once before, as devices compile on the way.
 */
export async function paceOf(model: Geneformer, cell: ArrayLike<number>, measure: Measure): Promise<number> {
  const { config } = model;
  const flopOfPass = passFlop(config, measure);
  const batch = async (start: readonly number[], copies: number) => {
    const began = performance.now();
    const units = [...unitsOf(start, measure.ends, { type: "delete", genes: "all" })].slice(0, copies);
    const edits = editsOf(start, measure.ends, units, config.length);
    let flop = flopOfPass(start.length);
    for await (const { edit } of perturb(model, [{ row: 0, cell: start, edits }], measure)) flop += flopOfPass(edit.tokens.length);
    return { flop, seconds: (performance.now() - began) / 1000 };
  };
  const whole = Math.max(measure.tokensPerBatch, cell.length);
  for (let tokens = Math.min(256, whole); ; tokens = Math.min(4 * tokens, whole)) {
    const start: number[] = Array.prototype.slice.call(cell, 0, tokens);
    const copies = Math.ceil(tokens / start.length);
    await batch(start, copies);
    const { flop, seconds } = await batch(start, copies);
    if (seconds >= LASTS || tokens === whole) return flop / seconds;
  }
}

/** By default a break costs no more than this: a minute or so on a cpu, seconds on a GPU. With affected genes a quarter, as there is a row for each. */
export const TOKENS_PER_SHARD = 1_000_000;

export interface RunOptions {
  /** Tokens of perturbed cells in one shard: what a break can cost. */
  readonly tokensPerShard: number;
  /** Estimates from a few passes a cell, instead of exact effects from one a pair: the points of the way between ranks. */
  readonly screen?: ScreenOptions;
  /** The state that shifts are to, among the states. Default the second. */
  readonly goal?: string;
  /** What the run is, beyond perturbation and measure: which cells, which model. A run is resumed by the same only. */
  readonly identity: Readonly<Record<string, unknown>>;
  /** Go on with the run in the folder. */
  readonly resume: boolean;
  /** Begin anew in a folder where a run is. */
  readonly force: boolean;
  /** Pairs done of this run, those of earlier sessions included. It may throw, to stop. */
  readonly onProgress?: (pairs: number) => void;
}

/** A run in a folder, as run.json describes it. */
export interface Run {
  readonly directory: string;
  readonly perturbation: Perturbation;
  /** Names of the states, in the order of effects; none: effects are cosines. */
  readonly states: readonly string[];
  /** The state that shifts are to, where it is not the second. */
  readonly goal?: string;
  readonly affected: boolean;
  readonly plan: Plan;
  readonly identity: Readonly<Record<string, unknown>>;
}

const RUN = "run.json";
const FORMAT = 2;
/** What a killed process leaves of a file that it was writing. */
const PARTIAL = /^\..+\.partial-/;
const nameOf = (kind: "pairs" | "genes", shard: number) => `${kind}-${String(shard).padStart(6, "0")}.parquet`;

/** What stands for a group among the genes perturbed. */
export const GROUP = -1;

/** The columns of effects: a cosine, or a shift to each state; with an anchor also those of the anchor alone and of the gene alone. */
export function effectColumns(states: readonly string[], anchored: boolean): string[] {
  const names = states.length > 0 ? states.map((state) => `shift_${state}`) : ["cosine"];
  return anchored ? names.flatMap((name) => [`${name}_anchor`, `${name}_gene`, name]) : names;
}

/**
 * Perturb cells into a folder: `run.json`, and shard after shard `pairs-N.parquet` (a row for every gene of every cell: `cell`, `gene`, -1 for a group, its
 * `rank` in the cell before, -1 where it has none, and the effect) and, where asked for, `genes-N.parquet` (`cell`, `gene`, `affected`, `cosine`). A killed run loses the shard it was at; resumed, it ends as if nothing
 * had happened, to the bit on the same device.
 * @throws Error when the folder holds a run and neither `resume` nor `force` was asked for, or when the run to resume was another one.
 */
export async function runPerturbation(
  model: Geneformer,
  cells: Cells,
  perturbation: Perturbation,
  measure: Measure,
  out: string,
  { tokensPerShard, screen: screened, goal, identity, resume, force, onProgress }: RunOptions,
): Promise<Run> {
  const { config } = model;
  const plan = planOf(cells, perturbation, measure, config, tokensPerShard);
  const states = Object.fromEntries([...(measure.states ?? [])].map(([name, vector]) => [name, Array.from(vector)]));
  const { layer, mode, affected = false, tokensPerBatch } = measure;
  const settings = {
    perturbation,
    layer,
    mode,
    affected,
    tokensPerBatch,
    tokensPerShard,
    states,
    ...(screened && { screen: screened }),
    ...(goal && { goal }),
  };
  const described = { format: FORMAT, ...settings, identity, plan };
  await refuseRun(out, { resume, force });
  if (resume && (await exists(`${out}/${RUN}`))) sameRun(await readJson(`${out}/${RUN}`), described, out);
  else if (force) await remove(out);
  for (const name of (await exists(out)) ? await list(out) : []) if (PARTIAL.test(name)) await remove(`${out}/${name}`);
  if (!(await exists(`${out}/${RUN}`))) await writeWhole(`${out}/${RUN}`, `${JSON.stringify(described)}\n`);

  const names = effectColumns(Object.keys(states), perturbation.anchor !== undefined);
  let [shard, done] = [0, 0];
  for (const each of shardsOf(cells, perturbation, measure, config, tokensPerShard)) {
    const path = `${out}/${nameOf("pairs", shard)}`;
    if (!(await exists(path))) {
      const before = done;
      const made = await runShard(model, cells, perturbation, measure, each, names, screened, (pair) => onProgress?.(before + pair));
      if (affected) await writeWhole(`${out}/${nameOf("genes", shard)}`, await parquetBytes(made.genes));
      await writeWhole(path, await parquetBytes(made.pairs)); // last: where it is, the shard is whole
    }
    done += each.pairs;
    shard++;
    onProgress?.(done);
  }
  return { directory: out, perturbation, states: Object.keys(states), ...(goal && { goal }), affected, plan, identity };
}

/** @throws Error if something stands where a run is to go, unless it is a run, and to be resumed or replaced. */
export async function refuseRun(out: string, { resume, force }: Pick<RunOptions, "resume" | "force">): Promise<void> {
  if (!(await exists(out))) return;
  await refuseForeign(out, [RUN]);
  if (!resume && !force && (await list(out)).length > 0)
    throw new Error(`perturb: "${out}" exists; go on with --resume, begin anew with --force, or choose another name`);
}

/** @throws Error naming what differs. */
function sameRun(was: unknown, is: Readonly<Record<string, unknown>>, out: string): void {
  const text = (value: unknown) => JSON.stringify(value);
  const held = (was ?? {}) as Record<string, unknown>;
  const differs = (a: Record<string, unknown>, b: Record<string, unknown>) =>
    Object.keys(b).find((name) => text(a[name]) !== text(b[name]));
  const other = differs(held, JSON.parse(text(is)) as Record<string, unknown>);
  if (!other) return;
  const part = [held[other], is[other]].every((value) => typeof value === "object" && value !== null && !Array.isArray(value))
    ? differs(held[other] as Record<string, unknown>, is[other] as Record<string, unknown>)
    : undefined;
  const short = (value: unknown) => (text(value) ?? "nothing").slice(0, 100);
  const [from, to] = part
    ? [(held[other] as Record<string, unknown>)[part], (is[other] as Record<string, unknown>)[part]]
    : [held[other], is[other]];
  throw new Error(
    `perturb: "${out}" was run with ${part ?? other} ${short(from)}, now it is ${short(to)}; resume with the same settings, or begin anew with --force`,
  );
}

/** The rank of a unit's gene in its cell before, from 0; NEW where the cell has it not, and for a group. */
function rankOf({ gene, moves: [[{ place }]] }: Unit, { cls }: Ends): number {
  return gene === null || place === NEW ? NEW : place - Number(cls);
}

/** A shard's columns. */
async function runShard(
  model: Geneformer,
  cells: Cells,
  perturbation: Perturbation,
  measure: Measure,
  { parts, pairs, tokens }: Shard,
  names: readonly string[],
  screened: ScreenOptions | undefined,
  onProgress: (pairs: number) => void,
): Promise<{ pairs: ParquetColumn[]; genes: ParquetColumn[] }> {
  const { ends } = measure;
  const anchored = perturbation.anchor !== undefined;
  const rows = new Int32Array(pairs);
  const genes = new Int32Array(pairs);
  const ranks = new Int32Array(pairs);
  const effects = names.map(() => new Float32Array(pairs));
  const room = measure.affected ? tokens : 0; // every gene left of every copy is fewer
  const affected = {
    cell: new Int32Array(room),
    gene: new Int32Array(room),
    affected: new Int32Array(room),
    cosine: new Float32Array(room),
  };
  let rowsOfGenes = 0;

  const units: { row: number; unit: Unit }[] = [];
  function* subjects() {
    for (const { row, from, to } of parts) {
      const cell = cells.tokens(row);
      const chosen = [...unitsOf(cell, ends, perturbation)].slice(from, to);
      for (const unit of chosen) units.push({ row, unit });
      const anchor = anchorOf(cell, ends, perturbation);
      yield { row, cell, edits: editsOf(cell, ends, anchor ? [anchor, ...chosen] : chosen, model.config.length) };
    }
  }
  // With an anchor, edits come as: the anchor, once a cell; then for each gene it alone, and both.
  let [pair, row, anchor, alone]: [number, number, Estimate | null, Estimate | null] = [0, -1, null, null];
  const outcomes: AsyncIterable<Estimate & Pick<Outcome, "genes">> = screened
    ? screen(model, subjects(), measure, screened)
    : perturb(model, subjects(), measure);
  for await (const outcome of outcomes) {
    if (anchored && outcome.row !== row) {
      [row, anchor, alone] = [outcome.row, outcome, null];
      continue;
    }
    if (anchored && !alone) {
      alone = outcome;
      continue;
    }
    const { unit } = units[pair];
    rows[pair] = outcome.row;
    genes[pair] = unit.gene ?? GROUP;
    ranks[pair] = rankOf(unit, ends);
    const values = outcome.effect.flatMap((value, s) =>
      anchored ? [anchor?.effect[s] ?? Number.NaN, alone?.effect[s] ?? Number.NaN, value] : [value],
    );
    for (const [i, value] of values.entries()) effects[i][pair] = value;
    for (const [i, token] of (outcome.genes?.tokens ?? []).entries()) {
      affected.cell[rowsOfGenes] = outcome.row;
      affected.gene[rowsOfGenes] = unit.gene ?? GROUP;
      affected.affected[rowsOfGenes] = token;
      affected.cosine[rowsOfGenes++] = outcome.genes?.cosines[i] ?? Number.NaN;
    }
    alone = null;
    onProgress(++pair);
  }
  const column = (name: string, type: "i32" | "f32", data: ParquetColumn["data"]): ParquetColumn => ({ name, type, data });
  return {
    pairs: [
      ...[column("cell", "i32", rows), column("gene", "i32", genes), column("rank", "i32", ranks)],
      ...names.map((name, i) => column(name, "f32", effects[i])),
    ],
    genes: Object.entries(affected).map(([name, data]) => column(name, name === "cosine" ? "f32" : "i32", data.subarray(0, rowsOfGenes))),
  };
}

/** The run in a folder. @throws Error where there is none, or one that is damaged or not finished. */
export async function readRun(directory: string): Promise<Run> {
  if (!(await exists(`${directory}/${RUN}`)))
    throw new Error(`perturb: "${directory}" holds no run (it has no ${RUN}); name the folder that perturb wrote`);
  const held = (await readJson(`${directory}/${RUN}`)) as Record<string, unknown> | null;
  if (held?.format !== FORMAT)
    throw new Error(`perturb: "${directory}/${RUN}" has format ${JSON.stringify(held?.format)}; this version reads ${FORMAT}`);
  const { perturbation, states, goal, affected, plan, identity } = held as unknown as Omit<Run, "states"> & {
    states: Record<string, number[]>;
  };
  const run: Run = { directory, perturbation, states: Object.keys(states), ...(goal && { goal }), affected, plan, identity };
  const files = new Set(await list(directory));
  let whole = 0;
  while (files.has(nameOf("pairs", whole))) whole++;
  if (whole < plan.shards)
    throw new Error(`perturb: the run in "${directory}" stopped at ${whole} of ${plan.shards} shards; finish it with perturb --resume`);
  return run;
}

/**
 * Columns of a run's pairs, or of the genes they affected, in the order asked for, shard after shard.
 * @throws Error where a column is not there, or where there are not as many pairs as the run planned.
 */
export async function* shardColumns(
  run: Run,
  kind: "pairs" | "genes",
  names: readonly string[],
): AsyncGenerator<readonly (readonly number[])[], void, undefined> {
  const { directory, plan } = run;
  let rows = 0;
  for (let shard = 0; shard < plan.shards; shard++) {
    const columns = await readParquet(await fileSource(`${directory}/${nameOf(kind, shard)}`), names);
    rows += columns.get(names[0])?.length ?? 0;
    if (kind === "pairs" && (rows > plan.pairs || (rows < plan.pairs && shard === plan.shards - 1)))
      throw new Error(
        `perturb: "${directory}" should hold ${plan.pairs} pairs, and holds ${rows} up to shard ${shard}; it is damaged: begin anew with --force`,
      );
    yield [...columns.values()] as number[][];
  }
}

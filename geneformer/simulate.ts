/**
 * Single cells from a gene regulatory network that we know, to train on and to test against the truth.
 *
 * After SERGIO (Dibaeinia and Sinha 2020, "SERGIO: a single-cell expression simulator guided by gene regulatory networks", Cell Systems 11:252):
 * a cell type is the production rates of its master regulators; every other gene is made at a rate that Hill functions of its regulators set, and
 * what was measured is that, thinned by a library size, dropout and Poisson counting. Where SERGIO integrates a stochastic equation, a cell here
 * stands at its steady state and each gene is off it by a log-normal factor, which travels down the network, so that genes vary together.
 * Symbols, factors and markers are real; the wiring is drawn at random, but for the edges from a type's masters to its markers.
 */

import { Key } from "../src/key.ts";
import { type Gene, LINEAGES, type Lineage, REGULATORS, TARGETS } from "./genes.ts";

/** First-order decay per unit of time, so that a gene made at rate p settles at p / DECAY (SERGIO's 0.8). */
const DECAY = 0.8;
/** Hill coefficient of every edge (SERGIO's 2). */
const HILL = 2;
/** Standard deviations, on the natural log scale, of a gene about its steady state, of library sizes, and of how well genes are captured. */
const NOISE = 0.35;
const LIBRARY = 0.3;
const CAPTURE = 0.8;
/** A molecule count m is kept with probability 1 / (1 + exp(-STEEPNESS (ln(1 + m) - MIDPOINT))): SERGIO's dropout. */
const STEEPNESS = 2;
const MIDPOINT = Math.log(2);
/** One regulator beside the masters for so many genes. */
const GENES_PER_REGULATOR = 10;
/** The fewest genes per cell type that leave room for its masters, its markers and a network between them. */
const GENES_PER_TYPE = 20;
/** An activated gene is made at so many times the rate that its strongest type makes it at: beyond what any type does by itself. */
const ACTIVATED = 2;
/** exp(-m) is 0 beyond 745: above this the Poisson distribution is drawn as the normal one that it resembles there. */
const LARGE = 500;

/** One regulation: the target is made faster by strength * h(x), h = x^hill / (half^hill + x^hill), or by strength * (1 - h(x)) if sign is -1. */
export interface Edge {
  /** Places in `Network.genes`; the regulator's is the smaller. */
  readonly regulator: number;
  readonly target: number;
  readonly sign: 1 | -1;
  readonly strength: number;
  readonly hill: number;
  /** The regulator's level at which h is 1/2: its mean over the cell types. */
  readonly half: number;
}

export interface Network {
  /** Regulators before what they regulate: the masters of each type, then two levels of other factors, then targets. */
  readonly genes: readonly Gene[];
  readonly types: readonly Lineage[];
  /** Level of each gene: 0 masters, 1 and 2 other factors, 3 targets. */
  readonly levels: Uint8Array;
  /** For each type, the rate at which each gene is made without its regulators. */
  readonly production: readonly Float64Array[];
  /** For each type, each gene's steady state without noise. */
  readonly means: readonly Float64Array[];
  /** The edges into each gene. */
  readonly edges: readonly (readonly Edge[])[];
  /** How many reads a molecule of each gene gives, relative to the others. */
  readonly capture: Float64Array;
}

export interface SimulateOptions {
  /** Cells, types taking turns. Default 2,000. */
  cells?: number;
  /** Genes. Default 1,000. */
  genes?: number;
  /** Cell types, the first of `LINEAGES`. Default 6. */
  types?: number;
  /** Symbols or Ensembl ids of genes that are not made at all. The other draws stay as they are: cell i is the same cell, perturbed. */
  knockout?: readonly string[];
  /**
   * Symbols or Ensembl ids of genes that every cell makes at twice the rate of the type that makes most of them, whatever regulates them; the cell's own noise
   * stays on them, and what they regulate sees it. The other draws stay as they are here, too.
   */
  activate?: readonly string[];
  /** Default 0. */
  seed?: number;
  /** Molecules in a cell of median size before dropout. Default 3 per gene. */
  depth?: number;
  onProgress?: (cells: number) => void;
  signal?: AbortSignal;
}

export interface Simulation {
  readonly network: Network;
  /** Counts as a sparse matrix, a row per cell: row i has data[indptr[i] ... indptr[i + 1]] in the columns that `indices` holds there, ascending. */
  readonly counts: { readonly data: Float32Array; readonly indices: Int32Array; readonly indptr: Int32Array };
  readonly barcodes: readonly string[];
  readonly cellTypes: readonly string[];
  /** Counts in each cell. */
  readonly nCounts: Float64Array;
}

/** A simulation before its first cell. */
export interface Setup {
  readonly network: Network;
  readonly cells: number;
  readonly key: Key;
  readonly depth: number;
  /** What `knockout` and `activate` make of genes. */
  readonly held: Held;
}

/** Levels that genes are held at, their cell's noise aside: 0 for a knock-out. Others follow their regulators. */
export type Held = ReadonlyMap<number, number>;

/** What the options mean. @throws RangeError for options that make no network. */
export function setup({ cells = 2000, genes = 1000, types = 6, knockout, activate, seed = 0, depth = 3 * genes }: SimulateOptions): Setup {
  integer("cells", cells, 1, 2 ** 31 - 1);
  const key = Key.from(seed);
  const network = regulatoryNetwork({ genes, types, key: key.fold(0) });
  if (!(depth > 0 && depth <= 1e9)) throw new RangeError(`simulate: depth must be above 0 and at most 1e9 molecules; got ${depth}`);
  return { network, cells, key, depth, held: heldBy(network, { knockout, activate }) };
}

/** Cells of a random network. The same options give the same counts. @throws RangeError for options that make no network, and if aborted. */
export async function simulate(options: SimulateOptions = {}): Promise<Simulation> {
  const { network, cells, key, depth, held } = setup(options);

  const rows: { indices: Int32Array; data: Float32Array }[] = [];
  const nCounts = new Float64Array(cells);
  for (let cell = 0; cell < cells; cell++) {
    if (cell % BREATH === 0) await breathe(options.signal);
    const levels = express(network, typeOf(network, cell), noise(network, key, cell), held);
    const counts = measure(network, levels, depth, key.fold(2).fold(cell));
    const indices = Int32Array.from(counts.keys()).filter((gene) => counts[gene] > 0);
    const data = Float32Array.from(indices, (gene) => counts[gene]);
    nCounts[cell] = data.reduce((sum, count) => sum + count, 0);
    rows.push({ indices, data });
    options.onProgress?.(cell + 1);
  }
  return {
    network,
    counts: stack(rows),
    barcodes: rows.map((_, cell) => `cell-${String(cell + 1).padStart(String(cells).length, "0")}`),
    cellTypes: rows.map((_, cell) => network.types[typeOf(network, cell)].name),
    nCounts,
  };
}

/** Cells between two turns of the event loop: a page stays alive, and Ctrl-C is heard. */
export const BREATH = 128;

/** A turn of the event loop. @throws the signal's reason, where it was aborted. */
export async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((turn) => setTimeout(turn));
  signal?.throwIfAborted();
}

/** Which type a cell is of: they take turns. */
export const typeOf = ({ types }: Network, cell: number): number => cell % types.length;

/** A layered network: every edge goes from a gene to a later one, so that steady states follow in one pass. */
export function regulatoryNetwork({ genes: count, types: typeCount, key }: { genes: number; types: number; key: Key }): Network {
  integer("types", typeCount, 1, LINEAGES.length);
  const types = LINEAGES.slice(0, typeCount);
  const named = new Set(LINEAGES.flatMap(({ masters, markers }) => [...masters, ...markers]));
  const bySymbol = new Map([...REGULATORS, ...TARGETS].map((gene) => [gene.symbol, gene]));
  const known = (symbols: readonly string[]) => symbols.map((symbol) => bySymbol.get(symbol)!);
  // The same genes for every seed, and fewer genes are a part of more: only the wiring is drawn anew.
  const spread = (list: readonly Gene[]) => {
    const free = list.filter(({ symbol }) => !named.has(symbol));
    return [...Key.from(0).permutation(free.length)].map((i) => free[i]);
  };
  const masters = known(types.flatMap((type) => type.masters));
  const markers = known(types.flatMap((type) => type.markers));
  const factors = spread(REGULATORS).slice(0, Math.round(count / GENES_PER_REGULATOR));
  const others = spread(TARGETS);
  const most = masters.length + factors.length + markers.length + others.length;
  integer("genes", count, GENES_PER_TYPE * typeCount, most, ` with ${typeCount} types`);

  const genes = [...masters, ...factors, ...markers, ...others].slice(0, count);
  const firstTarget = masters.length + factors.length;
  const second = masters.length + Math.ceil(factors.length / 2);
  const levels = Uint8Array.from(genes, (_, i) => (i < masters.length ? 0 : i < second ? 1 : i < firstTarget ? 2 : 3));

  const production = types.map((_, type) => {
    const u = key.fold(0).fold(type).uniforms(masters.length);
    const own = (i: number) => Math.floor(i / types[type].masters.length) === type;
    return Float64Array.from(genes, (_, i) => (i < masters.length ? (own(i) ? 2 + 2 * u[i] : 0.2 * u[i]) : 0));
  });
  const basal = key.fold(1).uniforms(count);
  const edges: Edge[][] = genes.map(() => []);
  const network = { genes, types, levels, production, means: types.map(() => new Float64Array(count)), edges };
  const drawn = {
    ...network,
    capture: key
      .fold(2)
      .normals(count)
      .map((z) => Math.exp(CAPTURE * z)),
  };
  for (let i = 0; i < count; i++) {
    const marks = i >= firstTarget && i < firstTarget + markers.length ? Math.floor((i - firstTarget) / types[0].markers.length) : -1;
    // One target in five is made everywhere, as a housekeeping gene is; markers are nearly silent without their masters.
    if (i >= masters.length)
      for (const rates of production) rates[i] = marks >= 0 ? 0.02 : i >= firstTarget && basal[i] < 0.2 ? 2 : 0.2 * basal[i];
    edges[i] = marks >= 0 ? markerEdges(drawn, i, marks, key.fold(3).fold(i)) : wiring(drawn, i, masters.length, key.fold(3).fold(i));
    for (const [type, means] of network.means.entries()) means[i] = steady(drawn, i, type, means);
  }
  return drawn;
}

/** The edges into a gene that is no marker: one to three regulators of lower levels, each as often a master as another factor. */
function wiring(network: Network, target: number, masters: number, key: Key): Edge[] {
  const level = network.levels[target];
  if (level === 0) return [];
  const factors = network.levels.findLastIndex((other) => other < level) + 1 - masters;
  const u = key.uniforms(1 + 4 * 3);
  const edges = new Map<number, Edge>();
  for (let k = 0; k <= Math.floor(3 * u[0]); k++) {
    const [which, where, sign, strength] = u.subarray(1 + 4 * k);
    const regulator = which < 0.5 || factors === 0 ? Math.floor(where * masters) : masters + Math.floor(where * factors);
    edges.set(regulator, edge(network, regulator, target, sign < 0.7 ? 1 : -1, 1 + 4 * strength));
  }
  return [...edges.values()];
}

/** The edges into a marker: activation by every master of its type. */
function markerEdges(network: Network, target: number, type: number, key: Key): Edge[] {
  const count = network.types[type].masters.length;
  const u = key.uniforms(count);
  return Array.from(u, (strength, k) => edge(network, type * count + k, target, 1, 2 + 3 * strength));
}

function edge(network: Network, regulator: number, target: number, sign: 1 | -1, strength: number): Edge {
  const half = network.means.reduce((sum, means) => sum + means[regulator], 0) / network.types.length;
  return { regulator, target, sign, strength, hill: HILL, half };
}

/** Level of a gene where its production balances its decay, given the levels of the genes before it. */
function steady(network: Network, gene: number, type: number, levels: Float64Array): number {
  let rate = network.production[type][gene];
  for (const { regulator, sign, strength, hill, half } of network.edges[gene]) {
    const h = 1 / (1 + (half / levels[regulator]) ** hill); // 0 for a regulator that is silent
    rate += strength * (sign > 0 ? h : 1 - h);
  }
  return rate / DECAY;
}

/** How far each gene of a cell is off its steady state: log-normal factors of mean 1.   @param key of the simulation.   -> [genes] */
export function noise({ genes }: Network, key: Key, cell: number): Float64Array {
  const z = key.fold(1).fold(cell).normals(genes.length);
  return Float64Array.from(z, (each) => Math.exp(NOISE * each - NOISE ** 2 / 2));
}

/**
 * Levels of the genes in one cell of a type: each off its steady state by the cell's noise, which those it regulates see.   -> [genes]
 * @param which genes to compute, ascending, where `levels` has the others already.
 */
export function express(
  network: Network,
  type: number,
  noise: Float64Array,
  held: Held,
  levels: Float64Array = new Float64Array(noise.length),
  which: Iterable<number> = noise.keys(),
): Float64Array {
  for (const i of which) levels[i] = (held.get(i) ?? steady(network, i, type, levels)) * noise[i];
  return levels;
}

/** The level that an activated gene is held at. */
export const activated = ({ means }: Network, gene: number): number => ACTIVATED * means.reduce((most, of) => Math.max(most, of[gene]), 0);

/** Genes by name as places with levels. @throws RangeError for one that is not there, or is to be both silenced and activated. */
function heldBy(network: Network, { knockout = [], activate = [] }: Pick<SimulateOptions, "knockout" | "activate">): Held {
  const held = new Map(knockout.map((name) => [place(network, name, "knockout"), 0]));
  for (const name of activate) {
    const gene = place(network, name, "activate");
    if (held.get(gene) === 0)
      throw new RangeError(`simulate: "${name}" is in knockout and in activate; a gene is silenced or activated, so leave it out of one`);
    held.set(gene, activated(network, gene));
  }
  return held;
}

/** What sequencing sees of a cell: its levels scaled to its library size, some genes dropped, the rest counted. */
function measure(network: Network, levels: Float64Array, depth: number, key: Key): Float64Array {
  const abundance = levels.map((level, i) => level * network.capture[i]);
  const total = abundance.reduce((sum, value) => sum + value, 0);
  const library = depth * Math.exp(LIBRARY * key.fold(0).normals(1)[0]);
  const u = key.fold(1).uniforms(2 * levels.length);
  return abundance.map((value, i) => {
    const molecules = total === 0 ? 0 : (value / total) * library;
    const kept = u[2 * i] < 1 / (1 + Math.exp(-STEEPNESS * (Math.log1p(molecules) - MIDPOINT)));
    return kept ? poisson(molecules, u[2 * i + 1], () => key.fold(2).fold(i).normals(1)[0]) : 0;
  });
}

/** The Poisson quantile of u at a mean, by summing probabilities upwards. */
function poisson(mean: number, u: number, normal: () => number): number {
  if (mean > LARGE) return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal()));
  let count = 0;
  let probability = Math.exp(-mean);
  for (let sum = probability; sum <= u && probability > 0; sum += probability) probability *= mean / ++count;
  return count;
}

/** The network as plain data, for a file beside the cells: each gene, each type's production rates and means, each edge by symbols. */
export function describeNetwork(network: Network): Record<string, unknown> {
  const { genes, types, levels, production, means, edges, capture } = network;
  return {
    decay: DECAY,
    noise: NOISE,
    genes: genes.map((gene, i) => ({ symbol: gene.symbol, ensembl_id: gene.ensembl, level: levels[i], capture: capture[i] })),
    types: types.map(({ name, masters, markers }, t) => ({ name, masters, markers, production: [...production[t]], mean: [...means[t]] })),
    edges: edges.flat().map((e) => ({ ...e, regulator: genes[e.regulator].symbol, target: genes[e.target].symbol })),
  };
}

/** Where a gene stands in the network, by symbol or Ensembl id. @throws RangeError if it is not there, naming the option it stood in. */
function place(network: Network, name: string, option: "knockout" | "activate"): number {
  const found = network.genes.findIndex(({ symbol, ensembl }) => symbol === name || ensembl === name);
  if (found < 0) {
    const masters = network.types.map((type) => type.masters[0]).join(", ");
    throw new RangeError(
      `simulate: ${option} "${name}" is none of the ${network.genes.length} genes simulated; masters there are ${masters} and others`,
    );
  }
  return found;
}

/** Sparse rows one below the other. */
function stack(rows: readonly { indices: Int32Array; data: Float32Array }[]): Simulation["counts"] {
  const indptr = new Int32Array(rows.length + 1);
  for (const [i, row] of rows.entries()) indptr[i + 1] = indptr[i] + row.data.length;
  const data = new Float32Array(indptr[rows.length]);
  const indices = new Int32Array(data.length);
  for (const [i, row] of rows.entries()) {
    data.set(row.data, indptr[i]);
    indices.set(row.indices, indptr[i]);
  }
  return { data, indices, indptr };
}

function integer(name: string, value: number, least: number, most: number, note = ""): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`simulate: ${name} must be an integer from ${least} to ${most}${note}; got ${value}`);
}

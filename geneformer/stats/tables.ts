/** The tables that say what perturbations did: upstream's InSilicoPerturberStats, its columns and its order, from the cosines and shifts of single cells. */

import type { Names } from "../data/names.ts";
import type { Table } from "../table.ts";
import { fitMixture, likelier, type Mixture } from "./mixture.ts";
import { falseDiscoveryRates, rankSum, Sorted } from "./ranks.ts";
import { pythonSample } from "./twister.ts";

/** For each gene perturbed, by its token, what came of it in each cell. */
export type Shifts = ReadonlyMap<number, ArrayLike<number>>;

/** A difference is called where its false discovery rate is below this (upstream's Sig). */
const SIGNIFICANT = 0.05;

/** The most shifts that make the random set, and the seed they are drawn with (upstream). */
const [RANDOM, SEED] = [100_000, 42];

export const mean = (values: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
};

/** The standard deviation of a population. */
export const deviation = (values: ArrayLike<number>): number => {
  const centre = mean(values);
  return Math.sqrt(mean(Array.from(values, (value) => (value - centre) ** 2)));
};

/** The mean and the spread of numbers that come one by one and are not kept (Welford 1962). */
export class Moments {
  count = 0;
  mean = 0;
  #square = 0;

  static of(values: Iterable<number>): Moments {
    const moments = new Moments();
    for (const value of values) moments.add(value);
    return moments;
  }

  add(value: number): void {
    const difference = value - this.mean;
    this.mean += difference / ++this.count;
    this.#square += difference * (value - this.mean);
  }

  /** numpy's std: divides by the number of values. */
  get deviation(): number {
    return Math.sqrt(this.#square / this.count);
  }
}

/** Genes in the order of their tokens: upstream's before it sorts, which the index column keeps. */
const tokensOf = (shifts: Shifts): number[] => [...shifts.keys()].sort((a, b) => a - b);

/** A gene's token, symbol and Ensembl id: the first columns of its row. */
export const gene = (token: number, names: Names) => [token, names.symbol(token), names.id(token)] as const;

/** Rows in an order: by the first key, then the next; equal ones as they stood. NaN and null come last, as in pandas. */
export function sorted(columns: readonly string[], rows: Table["rows"], keys: readonly (readonly [column: string, way: 1 | -1])[]): Table {
  const by = keys.map(([column, way]) => [columns.indexOf(column), way] as const);
  const missing = (value: unknown) => value === null || Number.isNaN(value);
  const index = [...rows.keys()].sort((a, b) => {
    for (const [column, way] of by) {
      const [x, y] = [rows[a][column], rows[b][column]];
      if (missing(x) || missing(y)) {
        if (missing(x) !== missing(y)) return missing(x) ? 1 : -1;
      } else if (x !== y) return (x as number) < (y as number) ? -way : way;
    }
    return a - b;
  });
  return { columns, index, rows: index.map((i) => rows[i]) };
}

/**
 * Which genes move cells from their state to another one: each gene's shifts beside those of all genes together (a sample of 100,000 where there are more,
 * the one that Python's random draws with seed 42), by rank sums, with false discovery rates.
 * @param alternatives other states that a gene should not move cells to.
 */
export function goalStateShift(goal: Shifts, alternatives: ReadonlyMap<string, Shifts>, names: Names): Table {
  const states = [goal, ...alternatives.values()];
  const others = [...alternatives.keys()];
  const tokens = tokensOf(goal);
  const tested = states.map((shifts) => {
    const random = new Sorted(randomSet(shifts, tokens));
    const ps = tokens.map((token) => rankSum(random, ofGene(shifts, token)).p);
    return { means: tokens.map((token) => mean(ofGene(shifts, token))), ps, rates: falseDiscoveryRates(ps) };
  });
  const columns = [
    ...["Gene", "Gene_name", "Ensembl_ID"],
    ...["Shift_to_goal_end", ...others.map((state) => `Shift_to_alt_end_${state}`)],
    ...["Goal_end_vs_random_pval", ...others.map((state) => `Alt_end_vs_random_pval_${state}`)],
    ...["Goal_end_FDR", ...others.map((state) => `Alt_end_FDR_${state}`)],
    ...["N_Detections", "Sig"],
  ];
  const rows = tokens.map((token, i) => [
    ...gene(token, names),
    ...tested.map(({ means }) => means[i]),
    ...tested.map(({ ps }) => ps[i]),
    ...tested.map(({ rates }) => rates[i]),
    ofGene(goal, token).length,
    Number(tested[0].rates[i] < SIGNIFICANT),
  ]);
  return sorted(columns, rows, [
    ["Sig", -1],
    ["Shift_to_goal_end", -1],
    ["Goal_end_FDR", 1],
  ]);
}

function ofGene(shifts: Shifts, token: number): ArrayLike<number> {
  const values = shifts.get(token);
  if (!values) throw new Error(`stats: gene ${token} was perturbed with one state and not with another; the runs do not belong together`);
  return values;
}

/** All genes' shifts, gene after gene, or a sample of them. */
function randomSet(shifts: Shifts, tokens: readonly number[]): Float64Array {
  const total = tokens.reduce((sum, token) => sum + ofGene(shifts, token).length, 0);
  const all = new Float64Array(total);
  let at = 0;
  for (const token of tokens) {
    const values = ofGene(shifts, token);
    for (let i = 0; i < values.length; i++) all[at++] = values[i];
  }
  return total > RANDOM ? Float64Array.from(pythonSample(SEED, total, RANDOM), (i) => all[i]) : all;
}

/** How far a group of genes, perturbed together, moved cells: the means alone. */
export function groupStateShift(goal: ArrayLike<number>, alternatives: ReadonlyMap<string, ArrayLike<number>>): Table {
  return {
    columns: ["Shift_to_goal_end", ...[...alternatives.keys()].map((state) => `Shift_to_alt_end_${state}`)],
    index: [0],
    rows: [[mean(goal), ...[...alternatives.values()].map(mean)]],
  };
}

/** Which genes move cells otherwise than they move other cells (the null), by rank sums with false discovery rates. */
export function versusNull(test: Shifts, nulls: Shifts, names: Names): Table {
  const tokens = tokensOf(test);
  const samples = tokens.map((token) => [test.get(token) ?? [], Float64Array.from(nulls.get(token) ?? [])] as const);
  const ps = samples.map(([tested, known]) => {
    const { p } = rankSum(new Sorted(known), tested);
    return Number.isNaN(p) ? 1 : p; // a gene that the null has not
  });
  const rates = falseDiscoveryRates(ps);
  const columns = [
    ...["Gene", "Gene_name", "Ensembl_ID", "Test_avg_shift", "Null_avg_shift", "Test_vs_null_avg_shift"],
    ...["Test_vs_null_pval", "Test_vs_null_FDR", "N_Detections_test", "N_Detections_null", "Sig"],
  ];
  const rows = tokens.map((token, i) => {
    const [tested, known] = samples[i];
    const ofNull = known.length > 0 ? mean(known) : null;
    const difference = ofNull === null ? null : mean(tested) - ofNull;
    const called = Number(rates[i] < SIGNIFICANT);
    return [...gene(token, names), mean(tested), ofNull, difference, ps[i], rates[i], tested.length, known.length, called];
  });
  return sorted(columns, rows, [
    ["Sig", -1],
    ["Test_vs_null_avg_shift", -1],
    ["Test_vs_null_FDR", 1],
  ]);
}

/** Is a cosine of the component that moves cells? Beyond a component's mean there is no doubt, whatever the variances say. */
function hasImpact(mixture: Mixture, cosine: number): boolean {
  const [impact, none] = mixture;
  if (cosine > none.mean) return false;
  return cosine < impact.mean || likelier(mixture, cosine) === 0;
}

/**
 * Which genes move cells at all: a mixture of two normal distributions under the genes' mean cosines, of which the lower one is the impact.
 * @param original number the components as scikit-learn 1.2 does, which has them the wrong way round in most samples where few genes have an impact.
 */
export function mixtureModel(shifts: Shifts, names: Names, { original = false } = {}): Table {
  const tokens = tokensOf(shifts);
  const means = tokens.map((token) => mean(ofGene(shifts, token)));
  const mixture = fitMixture(means, { original });
  const columns = ["Gene", "Gene_name", "Ensembl_ID", "Test_avg_shift", "Impact_component", "Impact_component_percent", "N_Detections"];
  const rows = tokens.map((token, i) => {
    const values = Array.from(ofGene(shifts, token));
    const percent = 100 * mean(values.map((value) => Number(hasImpact(mixture, value))));
    return [...gene(token, names), means[i], Number(hasImpact(mixture, means[i])), percent, values.length];
  });
  return sorted(columns, rows, [
    ["Impact_component", -1],
    ["Test_avg_shift", 1],
  ]);
}

/** What perturbing a gene beside an anchor did in each cell: alone the anchor, alone the gene, both together. */
export type Triples = ReadonlyMap<number, readonly (readonly [anchor: number, alone: number, both: number])[]>;

/** The mixture model of pairs with an anchor gene, and what the two together do beyond the sum of what each does: 1 - ((1 - anchor) + (1 - gene)). */
export function combinations(triples: Triples, names: Names, { original = false } = {}): Table {
  const tokens = [...triples.keys()].sort((a, b) => a - b);
  const parts = tokens.map((token) => [0, 1, 2].map((k) => mean((triples.get(token) ?? []).map((triple) => triple[k]))));
  const mixture = fitMixture(
    parts.map(([, , both]) => both),
    { original },
  );
  const columns = [
    ...[
      "Gene",
      "Gene_name",
      "Ensembl_ID",
      "Anchor_shift",
      "Test_token_shift",
      "Sum_of_indiv_shifts",
      "Combo_shift",
      "Combo_minus_sum_shift",
    ],
    ...["Impact_component", "Impact_component_percent", "N_Detections"],
  ];
  const rows = tokens.map((token, i) => {
    const [anchor, alone, both] = parts[i];
    const sum = 1 - (1 - anchor + (1 - alone));
    const cells = triples.get(token) ?? [];
    const percent = 100 * mean(cells.map(([, , value]) => Number(hasImpact(mixture, value))));
    return [...gene(token, names), anchor, alone, sum, both, both - sum, Number(hasImpact(mixture, both)), percent, cells.length];
  });
  return sorted(columns, rows, [
    ["Impact_component", -1],
    ["Combo_minus_sum_shift", 1],
  ]);
}

/**
 * Pairs with an anchor gene and states: how far the anchor, each gene, and the two together move cells to the goal, and what the two together do beyond the
 * sum of what each does. Shifts add up as they are, where cosines do as their distances from 1.
 */
export function combinationShifts(triples: Triples, names: Names): Table {
  const tokens = [...triples.keys()].sort((a, b) => a - b);
  const columns = [
    ...["Gene", "Gene_name", "Ensembl_ID", "Anchor_shift_to_goal_end", "Test_token_shift_to_goal_end", "Sum_of_indiv_shifts"],
    ...["Combo_shift_to_goal_end", "Combo_minus_sum_shift", "N_Detections"],
  ];
  const rows = tokens.map((token) => {
    const cells = triples.get(token) ?? [];
    const [anchor, alone, both] = [0, 1, 2].map((k) => mean(cells.map((triple) => triple[k])));
    return [...gene(token, names), anchor, alone, anchor + alone, both, both - anchor - alone, cells.length];
  });
  return sorted(columns, rows, [["Combo_shift_to_goal_end", -1]]);
}

/** Every cell's cosine when one gene, or one group, is perturbed. */
export function aggregateData(cosines: ArrayLike<number>, name: string): Table {
  const rows = Array.from(cosines, (cosine) => [cosine, name]);
  return { columns: ["Cosine_sim", "Gene"], index: [...rows.keys()], rows };
}

/** What stands for the cell as a whole among the affected. */
export const CELL = "cell_emb";

/** For each gene perturbed, what it did to each other gene, and to the cell. */
export type GeneShifts = ReadonlyMap<number, ReadonlyMap<number | typeof CELL, Moments>>;

/** What perturbing one gene did to another: mean and deviation of their cosines over the cells that have both. The cells themselves come first. */
export function aggregateGeneShifts(shifts: GeneShifts, names: Names): Table {
  const columns = [
    ...["Perturbed", "Gene_name", "Ensembl_ID", "Affected", "Affected_gene_name", "Affected_Ensembl_ID"],
    ...["Cosine_sim_mean", "Cosine_sim_stdev", "N_Detections"],
  ];
  const rows = [...shifts].flatMap(([perturbed, affected]) =>
    [...affected].map(([other, moments]) => {
      const of = other === CELL ? [CELL, null, null] : [other, names.symbol(other), names.id(other)];
      return [...gene(perturbed, names), ...of, moments.mean, moments.deviation, moments.count];
    }),
  );
  const { index } = sorted(columns, rows, [["Cosine_sim_mean", 1]]);
  const [cells, genes] = [true, false].map((whole) => index.filter((i) => (rows[i][3] === CELL) === whole));
  const order = [...cells, ...genes];
  return { columns, index: order, rows: order.map((i) => rows[i]) };
}

/** How much more a gene does than genes like it: effects beside matched nulls, within cells, with intervals, p-values and the cells behind each number. */

import type { Key } from "../../src/key.ts";
import type { Names } from "../data/names.ts";
import type { Table } from "../table.ts";
import { falseDiscoveryRates } from "./ranks.ts";
import { intervals, type Statistic, signFlips } from "./resample.ts";
import { deviation, gene, mean, sorted } from "./tables.ts";

/** What came of perturbing genes one by one, in columns: a row for each gene of each cell. */
export interface Pairs {
  /** Which cell. */
  readonly cells: ArrayLike<number>;
  /** Which gene, by its token. */
  readonly genes: ArrayLike<number>;
  /** The gene's rank among its cell's before, from 0; below 0 where the cell has it not. Null where no ranks are known. */
  readonly ranks: ArrayLike<number> | null;
  /** Shifts, to the goal, or 1 - cosine: larger is more. */
  readonly values: ArrayLike<number>;
}

export interface EffectOptions {
  /** All draws come of it. */
  readonly key: Key;
  /** Genes that each gene is compared with. Default 50. */
  readonly matched?: number;
  /** Resamples of an interval, at least 40. Default 2,000. */
  readonly resamples?: number;
}

/** Genes and cells in columns once more, gene after gene in the order of tokens, in each in the order of cells, each pair once. */
interface Sparse {
  readonly tokens: readonly number[];
  /** Where each gene begins; one more at the end.   [genes + 1] */
  readonly starts: Uint32Array;
  /** [pairs] */
  readonly cells: Int32Array;
  readonly values: Float64Array;
  /** Of each gene over the cells that have it; a gene that none has stands behind all. Null where no ranks are known.   [genes] */
  readonly ranks: Float64Array | null;
}

/** How many standard deviations the mean is from 0: Cohen's d_z, of paired differences (Cohen 1988, 2.3.5; Lakens 2013). */
const effectSize: Statistic = (average, deviation) => (average === 0 ? 0 : average / deviation);
const average: Statistic = (value) => value;

/**
 * What each gene does beside genes like it. For every gene perturbed:
 *
 * - **Shift** is the mean over its cells, with the ends of its 95 % interval: BCa bootstrap, cells drawn anew (Efron and Tibshirani 1993, 14.3).
 * - Its **null** are the genes nearest to it in mean rank, over the cells that have them, and in detection, the number of cells perturbed in. Of two genes the
 *   squared distance is ((log(1 + r1) - log(1 + r2)) / s_r)^2 + ((n1 - n2) / s_n)^2, s the standard deviation over all genes; the lower token first where two
 *   are as near. A gene high up in its cells is held against others high up, a rare one against rare ones.
 * - **Difference** is paired: in each cell that has the gene and at least one of its null, its shift minus the mean shift of those of the null that this cell
 *   has; then the mean over these cells. What makes one cell move further than another falls out. **Null_shift** is the mean of what was subtracted.
 * - **Effect_size** is the mean of these differences over their standard deviation (n - 1): Cohen's d_z, with its BCa interval.
 * - **Pval** says how often random signs of the differences leave a mean as far from 0 (two-sided; exact up to 13 cells, else 9,999 flips and the + 1 of Phipson
 *   and Smyth 2010). With n cells it cannot be below 2 / 2^n: with 5 cells no gene has p < .05. It asks whether the gene differs from the mean of its null in
 *   the same way in cell after cell, not whether it is the most extreme among them; with many cells small effects have small p-values: read it beside Effect_size.
 * - **FDR** is Benjamini and Hochberg's over all genes of the table.
 * - **N_Detections**, **N_Paired**, **N_Null** are the cells behind Shift, the cells behind Difference, and the null genes that were in any of these.
 *
 * Intervals are empty where cells are too few to give them: both with one cell, that of Effect_size mostly up to four. A gene of one cell, or without any
 * difference, has p = 1. No gene is dropped.
 * A gene that stands in a cell twice counts there once, with its mean. The order of rows changes nothing, nor do the cells' numbers.
 * @throws RangeError for a value that is no finite number, for less than one matched gene, for too few resamples.
 */
export function matchedEffects(pairs: Pairs, names: Names, { key, matched = 50, resamples = 2000 }: EffectOptions): Table {
  if (!Number.isInteger(matched) || matched < 1) throw new RangeError(`effects: matched is ${matched}; a null has at least one gene`);
  const sparse = sparseOf(pairs);
  const { tokens, starts, values } = sparse;
  const nulls = matchedGenes(sparse, matched);
  const { differences, subtracted, used } = paired(sparse, nulls, matched);
  const own = tokens.map((_, i) => values.slice(starts[i], starts[i + 1]).sort()); // sorted, sums are the same whatever cells are called
  const intervalsOfShifts = intervals(own, average, { key: key.fold(0), resamples });
  const intervalsOfEffects = intervals(differences, effectSize, { key: key.fold(1), resamples });
  const ps = signFlips(differences, { key: key.fold(2) });
  const rates = falseDiscoveryRates(ps);
  const columns = [
    ...["Gene", "Gene_name", "Ensembl_ID", "Shift", "Shift_low", "Shift_high", "Null_shift", "Difference"],
    ...["Effect_size", "Effect_low", "Effect_high", "Pval", "FDR", "N_Detections", "N_Paired", "N_Null"],
  ];
  const rows = tokens.map((token, i) => [
    ...[...gene(token, names), mean(own[i]), ...intervalsOfShifts[i]],
    ...[finite(mean(subtracted[i])), finite(mean(differences[i])), finite(effectOf(differences[i])), ...intervalsOfEffects[i]],
    ...[ps[i], rates[i], own[i].length, differences[i].length, used[i]],
  ]);
  return sorted(columns, rows, [
    ["FDR", 1],
    ["Pval", 1],
    ["Difference", -1],
  ]);
}

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);

function effectOf(differences: Float64Array): number {
  const [n, m] = [differences.length, mean(differences)];
  const square = differences.reduce((sum, value) => sum + (value - m) ** 2, 0);
  return effectSize(m, Math.sqrt(square / (n - 1)));
}

/** Which rows are of each group, group after group, as they stood. */
function grouped(of: ArrayLike<number>, groups: number, rows: ArrayLike<number>): { starts: Uint32Array; order: Uint32Array } {
  const starts = new Uint32Array(groups + 1);
  for (let i = 0; i < rows.length; i++) starts[of[rows[i]] + 1]++;
  for (let group = 0; group < groups; group++) starts[group + 1] += starts[group];
  const order = new Uint32Array(rows.length);
  const at = starts.slice();
  for (let i = 0; i < rows.length; i++) order[at[of[rows[i]]]++] = rows[i];
  return { starts, order };
}

/** The numbers that occur, ascending, and which of them each row has. */
function numbered(column: ArrayLike<number>): { known: number[]; of: Int32Array } {
  const seen = new Set<number>();
  for (let i = 0; i < column.length; i++) seen.add(column[i]);
  const known = [...seen].sort((a, b) => a - b);
  const places = new Map(known.map((value, place) => [value, place]));
  return { known, of: Int32Array.from(column, (value) => places.get(value) ?? 0) };
}

function sparseOf({ cells, genes, ranks, values }: Pairs): Sparse {
  const count = values.length;
  for (let i = 0; i < count; i++)
    if (!Number.isFinite(values[i]))
      throw new RangeError(`effects: gene ${genes[i]} shifts cell ${cells[i]} by ${values[i]}; look for what is no number in the model`);
  const [byCell, byGene] = [numbered(cells), numbered(genes)];
  const inCells = grouped(
    byCell.of,
    byCell.known.length,
    Uint32Array.from({ length: count }, (_, i) => i),
  );
  const { starts: all, order } = grouped(byGene.of, byGene.known.length, inCells.order);
  const [starts, kept, means] = [new Uint32Array(all.length), new Int32Array(count), new Float64Array(count)];
  const meanRanks = new Float64Array(byGene.known.length);
  let at = 0;
  for (let g = 0; g + 1 < all.length; g++) {
    let [sum, having] = [0, 0];
    for (let i = all[g]; i < all[g + 1]; ) {
      const cell = byCell.of[order[i]];
      let [total, first, times] = [0, ranks?.[order[i]] ?? -1, 0];
      for (; i < all[g + 1] && byCell.of[order[i]] === cell; i++, times++) {
        total += values[order[i]];
        first = Math.min(first, ranks?.[order[i]] ?? -1);
      }
      [kept[at], means[at]] = [cell, total / times];
      at++;
      if (first >= 0) having++;
      sum += Math.max(first, 0);
    }
    starts[g + 1] = at;
    meanRanks[g] = sum / having; // NaN where no cell has the gene
  }
  const last = meanRanks.reduce((most, rank) => (rank > most ? rank : most), 0) + 1;
  const known = ranks && meanRanks.map((rank) => (Number.isNaN(rank) ? last : rank));
  return { tokens: byGene.known, starts, cells: kept.subarray(0, at), values: means.subarray(0, at), ranks: known };
}

/** Numbers in units of their standard deviation; all 0 where they are the same. */
function standardised(numbers: Float64Array): Float64Array {
  const [centre, unit] = [mean(numbers), deviation(numbers)];
  return numbers.map((value) => (unit > 0 ? (value - centre) / unit : 0));
}

/** The genes nearest to each gene, nearest first; -1 where there are no more.   -> [genes * matched] */
function matchedGenes({ tokens, starts, ranks }: Sparse, matched: number): Int32Array {
  const count = tokens.length;
  const x = standardised((ranks ?? new Float64Array(count)).map(Math.log1p));
  const y = standardised(Float64Array.from(tokens, (_, i) => starts[i + 1] - starts[i]));
  const order = Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => x[a] - x[b] || a - b);
  const nulls = new Int32Array(count * matched).fill(-1);
  const distances = new Float64Array(matched);
  for (const [place, own] of order.entries()) {
    const list = nulls.subarray(own * matched, (own + 1) * matched);
    distances.fill(Number.POSITIVE_INFINITY);
    // Outwards in rank, to both sides, until rank alone is further than the last of the list.
    let [down, up] = [place - 1, place + 1];
    while (down >= 0 || up < count) {
      const below = down >= 0 && (up >= count || x[own] - x[order[down]] <= x[order[up]] - x[own]);
      const other = below ? order[down--] : order[up++];
      const apart = (x[own] - x[other]) ** 2;
      if (apart > distances[matched - 1]) break;
      const distance = apart + (y[own] - y[other]) ** 2;
      let at = matched;
      while (at > 0 && (distance < distances[at - 1] || (distance === distances[at - 1] && (list[at - 1] < 0 || other < list[at - 1]))))
        at--;
      if (at === matched) continue;
      list.copyWithin(at + 1, at, matched - 1);
      distances.copyWithin(at + 1, at, matched - 1);
      [list[at], distances[at]] = [other, distance];
    }
  }
  return nulls;
}

interface Paired {
  /** Of each gene, a number for each cell that has it and some of its null. */
  readonly differences: readonly Float64Array[];
  /** The mean of the null in the same cells. */
  readonly subtracted: readonly Float64Array[];
  /** How many of its null each gene met. */
  readonly used: Uint32Array;
}

/** Each gene's value minus the mean of its null's, cell by cell. */
function paired({ tokens, starts, cells, values }: Sparse, nulls: Int32Array, matched: number): Paired {
  const count = tokens.length;
  const genes = new Int32Array(values.length);
  for (let g = 0; g < count; g++) genes.fill(g, starts[g], starts[g + 1]);
  const most = cells.reduce((a, b) => Math.max(a, b), -1);
  const rows = grouped(
    cells,
    most + 1,
    Uint32Array.from(values, (_, i) => i),
  );
  const subtracted = new Float64Array(values.length).fill(Number.NaN);
  const met = new Uint8Array(nulls.length);
  const inCell = new Float64Array(count).fill(Number.NaN); // of the cell at hand, what each gene does there
  for (let cell = 0; cell <= most; cell++) {
    const own = rows.order.subarray(rows.starts[cell], rows.starts[cell + 1]);
    for (const i of own) inCell[genes[i]] = values[i];
    for (const i of own) {
      let [sum, n] = [0, 0];
      for (let at = genes[i] * matched; at < (genes[i] + 1) * matched && nulls[at] >= 0; at++) {
        const value = inCell[nulls[at]];
        if (Number.isNaN(value)) continue;
        sum += value;
        n++;
        met[at] = 1;
      }
      if (n > 0) subtracted[i] = sum / n;
    }
    for (const i of own) inCell[genes[i]] = Number.NaN;
  }
  const used = new Uint32Array(count);
  for (let at = 0; at < met.length; at++) used[Math.floor(at / matched)] += met[at];
  const ofGene = (f: (i: number) => number) =>
    tokens.map((_, g) => {
      const all = Float64Array.from({ length: starts[g + 1] - starts[g] }, (_, k) => f(starts[g] + k));
      return all.filter((value) => !Number.isNaN(value)).sort();
    });
  return { differences: ofGene((i) => values[i] - subtracted[i]), subtracted: ofGene((i) => subtracted[i]), used };
}

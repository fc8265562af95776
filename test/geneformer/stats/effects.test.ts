/** Effects beside matched nulls: by definition on small runs, and where the truth is known: nothing planted, something planted. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { matchedEffects, type Pairs } from "../../../geneformer/stats/effects.ts";
import { intervals, signFlips } from "../../../geneformer/stats/resample.ts";
import type { Table } from "../../../geneformer/table.ts";
import { Key } from "../../../src/key.ts";

const names = { symbol: (token: number) => `G${token}`, id: (token: number) => `ENSG${token}` };
const key = Key.from(5);
const COLUMNS = [
  ...["Gene", "Gene_name", "Ensembl_ID", "Shift", "Shift_low", "Shift_high", "Null_shift", "Difference"],
  ...["Effect_size", "Effect_low", "Effect_high", "Pval", "FDR", "N_Detections", "N_Paired", "N_Null"],
];
type Row = Record<string, number | string | null>;
const rowsOf = ({ columns, rows }: Table): Map<number, Row> =>
  new Map(rows.map((row) => [row[0] as number, Object.fromEntries(columns.map((name, i) => [name, row[i]]))]));
const of = (rows: Map<number, Row>, gene: number, column: string) => rows.get(gene)?.[column] as number;

/** Pairs from rows of cell, gene, rank, value. */
const pairsOf = (rows: readonly (readonly number[])[], ranked = true): Pairs => {
  const [cells, genes, ranks, values] = [0, 1, 2, 3].map((column) => rows.map((row) => row[column]));
  return { cells, genes, ranks: ranked ? ranks : null, values };
};

/** Every gene in every cell with a chance, in an order of the genes' numbers that is somewhat shuffled; what each does is drawn, and differs from cell to cell. */
function simulated(cells: number, genes: number, seed: number, { chance = 0.7, planted = new Map<number, number>() } = {}): number[][] {
  const draws = Key.from(seed);
  const [noise, there, byCell, jitter] = [draws.fold(0).normals(cells * genes), draws.fold(1).uniforms(cells * genes), draws.fold(2).normals(cells, 3), draws.fold(3).uniforms(cells * genes)]; // biome-ignore format: one line
  const rows: number[][] = [];
  for (let cell = 0; cell < cells; cell++) {
    const own = Array.from({ length: genes }, (_, gene) => gene).filter((gene) => there[cell * genes + gene] < chance);
    own.sort((a, b) => a + 10 * jitter[cell * genes + a] - b - 10 * jitter[cell * genes + b]);
    for (const [rank, gene] of own.entries())
      rows.push([cell, gene, rank, byCell[cell] + noise[cell * genes + gene] + (planted.get(gene) ?? 0)]);
  }
  return rows;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values: readonly number[], less: number) =>
  Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - less));

/** The definition, gene by gene, in the words of the docstring. */
function byDefinition(rows: readonly (readonly number[])[], matched: number, ranked: boolean) {
  const genes = [...new Set(rows.map(([, gene]) => gene))].sort((a, b) => a - b);
  const ofGene = (gene: number) => rows.filter(([, other]) => other === gene);
  const meanRanks = genes.map((gene) => mean(ofGene(gene).flatMap(([, , rank]) => (rank < 0 ? [] : [rank]))));
  const last = Math.max(0, ...meanRanks.filter((rank) => !Number.isNaN(rank))) + 1;
  const units = (numbers: number[]) => numbers.map((x) => (deviation(numbers, 0) > 0 ? (x - mean(numbers)) / deviation(numbers, 0) : 0));
  const x = units(meanRanks.map((rank) => (ranked ? Math.log1p(Number.isNaN(rank) ? last : rank) : 0)));
  const y = units(genes.map((gene) => ofGene(gene).length));
  return new Map(
    genes.map((gene, g) => {
      const nearest = genes
        .map((other, o) => ({ other, o, distance: (x[g] - x[o]) ** 2 + (y[g] - y[o]) ** 2 }))
        .filter(({ other }) => other !== gene)
        .sort((a, b) => a.distance - b.distance || a.o - b.o)
        .slice(0, matched)
        .map(({ other }) => other);
      const met = new Set<number>();
      const pairs = ofGene(gene).flatMap(([cell, , , value]) => {
        const nulls = nearest.flatMap((other) => rows.filter(([at, each]) => at === cell && each === other));
        for (const [, other] of nulls) met.add(other);
        return nulls.length > 0 ? [[value, mean(nulls.map((row) => row[3]))]] : [];
      });
      const differences = pairs.map(([value, subtracted]) => value - subtracted);
      return [gene, { shift: mean(ofGene(gene).map((row) => row[3])), differences, subtracted: pairs.map(([, other]) => other), cells: ofGene(gene).length, met: met.size }]; // biome-ignore format: one line
    }),
  );
}

describe("by definition", () => {
  const run = fc
    .array(
      fc.tuple(
        fc.integer({ min: 0, max: 5 }),
        fc.integer({ min: 3, max: 12 }),
        fc.integer({ min: -1, max: 6 }),
        fc.integer({ min: -8, max: 8 }),
      ),
      { minLength: 1, maxLength: 40 },
    )
    .map((rows) => [...new Map(rows.map((row) => [`${row[0]} ${row[1]}`, row.map((part, i) => (i === 3 ? part / 8 : part))])).values()]);

  test.each([
    [2, true],
    [50, true],
    [3, false],
  ] as const)("%d matched genes, ranks known: %s", (matched, ranked) => {
    fc.assert(
      fc.property(run, (rows) => {
        const table = matchedEffects(pairsOf(rows, ranked), names, { key, matched, resamples: 40 });
        expect(table.columns).toEqual(COLUMNS);
        const [got, want] = [rowsOf(table), byDefinition(rows, matched, ranked)];
        expect([...got.keys()].sort((a, b) => a - b)).toEqual([...want.keys()]);
        for (const [gene, { shift, differences, subtracted, cells, met }] of want) {
          const near = (value: number) => (Number.isFinite(value) ? expect.closeTo(value, 10) : null);
          const spread = deviation(differences, 1);
          expect(got.get(gene)).toMatchObject({
            ...{ Gene_name: `G${gene}`, Ensembl_ID: `ENSG${gene}`, N_Detections: cells, N_Paired: differences.length, N_Null: met },
            ...{ Shift: near(shift), Null_shift: near(mean(subtracted)), Difference: near(mean(differences)) },
            Pval: signFlips([differences], { key })[0],
          });
          if (spread > 1e-9) expect(of(got, gene, "Effect_size")).toBeCloseTo(mean(differences) / spread, 8);
          const [[low, high]] = intervals([rows.filter((row) => row[1] === gene).map((row) => row[3])], (m) => m, { key: key.fold(0), resamples: 40 }); // biome-ignore format: one line
          expect([of(got, gene, "Shift_low"), of(got, gene, "Shift_high")]).toEqual([low, high]);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("where the truth is known", () => {
  test("nothing planted: p-values are uniform, and few rates are small", () => {
    const table = matchedEffects(pairsOf(simulated(20, 900, 1)), names, { key, resamples: 40 });
    const ps = table.rows.map((row) => row[11] as number);
    for (const level of [0.05, 0.5]) {
      const share = ps.filter((p) => p < level).length / ps.length;
      expect(Math.abs(share - level)).toBeLessThan(4 * Math.sqrt((level * (1 - level)) / ps.length)); // four deviations of a binomial
    }
    expect(table.rows.filter((row) => (row[12] as number) < 0.05).length).toBeLessThan(5);
  });

  test("what is planted is found, as large as it is, and nothing else, though cells differ by more", () => {
    const planted = new Map([
      [20, 2],
      [150, -2],
    ]);
    const table = matchedEffects(pairsOf(simulated(40, 200, 2, { planted })), names, { key, resamples: 400, matched: 20 });
    const rows = rowsOf(table);
    expect(table.rows.filter((row) => (row[12] as number) < 0.05).map((row) => row[0])).toEqual([20, 150]);
    for (const [gene, shift] of planted) {
      // The noise is 1, that of a mean of some 14 null genes sqrt(1 / 14); so the effect size is 2 / 1.04.
      expect(Math.abs(of(rows, gene, "Difference") - shift)).toBeLessThan(4 * Math.sqrt((1 + 1 / 14) / 28));
      const [low, high] = [of(rows, gene, "Effect_low"), of(rows, gene, "Effect_high")];
      expect(low).toBeLessThan(shift / 1.04);
      expect(high).toBeGreaterThan(shift / 1.04);
      expect(Math.sign(low)).toBe(Math.sign(high));
      expect(of(rows, gene, "N_Null")).toBe(20);
    }
  });

  test("what one cell adds to all its genes falls out of the differences, and of nothing else", () => {
    const rows = simulated(12, 60, 3);
    const options = { key, matched: 10, resamples: 40 };
    const [plain, moved] = [rows, rows.map(([cell, gene, rank, value]) => [cell, gene, rank, value + 16 * cell])].map((each) => rowsOf(matchedEffects(pairsOf(each), names, options))); // biome-ignore format: one line
    for (const gene of plain.keys()) {
      for (const column of ["Difference", "Effect_size", "Effect_low", "Effect_high"]) expect(of(moved, gene, column)).toBeCloseTo(of(plain, gene, column), 8); // biome-ignore format: one line
      expect(of(moved, gene, "Pval")).toBe(of(plain, gene, "Pval"));
      expect(of(moved, gene, "Shift")).toBeGreaterThan(of(plain, gene, "Shift"));
    }
  });

  test("a gene high up in its cells is held against genes high up, a rare one against rare ones", () => {
    // What a gene does is its rank: the null's mean says which ranks it has.
    const byRank = simulated(30, 300, 4, { chance: 1 }).map(([cell, gene, rank]) => [cell, gene, rank, gene]);
    const rows = rowsOf(matchedEffects(pairsOf(byRank), names, { key, matched: 10, resamples: 40 }));
    for (const gene of [0, 1, 2]) expect(of(rows, gene, "Null_shift")).toBeLessThan(15);
    for (const gene of [150, 298]) expect(Math.abs(of(rows, gene, "Null_shift") - gene)).toBeLessThan(30);
    // And with as many cells as it has: genes 0 to 9 are in 3 of 30 cells, and do 1; the others do 0.
    const rare = simulated(30, 100, 5, { chance: 1 }).map(([cell, gene, rank]) => [cell, gene, rank, Number(gene < 10)]).filter(([cell, gene]) => gene >= 10 || cell < 3); // biome-ignore format: one line
    const alone = rowsOf(matchedEffects(pairsOf(rare, false), names, { key, matched: 9, resamples: 40 }));
    for (let gene = 0; gene < 10; gene++) expect(of(alone, gene, "Null_shift")).toBe(1);
    for (let gene = 10; gene < 100; gene++) expect(of(alone, gene, "Null_shift")).toBe(0);
  });
});

describe("what must not matter, and what must:", () => {
  const rows = simulated(9, 40, 6);
  const options = { key, matched: 5, resamples: 60 };
  const table = matchedEffects(pairsOf(rows), names, options);

  test("the order of rows, and what cells are called", () => {
    const order = [...Key.from(1).permutation(rows.length)];
    expect(matchedEffects(pairsOf(order.map((i) => rows[i])), names, options)).toEqual(table);
    expect(matchedEffects(pairsOf(rows.map(([cell, ...rest]) => [1000 - 7 * cell, ...rest])), names, options)).toEqual(table);
  });

  test("the seed: the same gives the same table, another other intervals and the same numbers", () => {
    expect(matchedEffects(pairsOf(rows), names, { ...options, key: Key.from(5) })).toEqual(table);
    const [other, same] = [rowsOf(matchedEffects(pairsOf(rows), names, { ...options, key: Key.from(6) })), rowsOf(table)];
    for (const gene of same.keys()) for (const column of ["Shift", "Difference", "Effect_size", "Pval"]) expect(of(other, gene, column)).toBe(of(same, gene, column)); // biome-ignore format: one line
    expect([...same.keys()].some((gene) => of(other, gene, "Shift_low") !== of(same, gene, "Shift_low"))).toBe(true);
  });

  test("a gene twice in a cell counts once, with its mean and its higher rank", () => {
    const [cell, gene, rank, value] = rows[3];
    const twice = [...rows.slice(0, 3), [cell, gene, rank, value - 1], ...rows.slice(4), [cell, gene, rank + 2, value + 1]];
    const [got, want] = [rowsOf(matchedEffects(pairsOf(twice), names, options)), rowsOf(table)];
    for (const each of want.keys()) for (const column of ["Shift", "Difference", "N_Detections", "N_Paired", "N_Null"]) expect(of(got, each, column)).toBeCloseTo(of(want, each, column), 12); // biome-ignore format: one line
  });

  test("rows stand by rate, then p, then difference", () => {
    const order = table.rows.map((row) => [row[12], row[11], -(row[7] as number)] as number[]);
    expect(order).toEqual([...order].sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]));
  });
});

describe("too little", () => {
  const empty = {
    Null_shift: null,
    Difference: null,
    Effect_size: null,
    Effect_low: null,
    Effect_high: null,
    Pval: 1,
    FDR: 1,
    N_Paired: 0,
    N_Null: 0,
  };

  test("one gene has no null; one cell no interval; neither is dropped", () => {
    const one = matchedEffects(
      pairsOf([
        [0, 7, 2, 0.5],
        [1, 7, 3, 0.25],
      ]),
      names,
      { key, resamples: 40 },
    );
    expect([...rowsOf(one).values()]).toEqual([{ Gene: 7, Gene_name: "G7", Ensembl_ID: "ENSG7", Shift: 0.375, Shift_low: 0.25, Shift_high: 0.5, N_Detections: 2, ...empty }]); // biome-ignore format: one line
    const cell = matchedEffects(
      pairsOf([
        [0, 7, 0, 0.5],
        [0, 8, 1, 0.25],
        [1, 9, 0, 1],
      ]),
      names,
      { key, resamples: 40 },
    );
    expect(rowsOf(cell).get(7)).toMatchObject({ Shift: 0.5, Shift_low: null, Shift_high: null, Difference: 0.25, Effect_size: null, Effect_low: null, Pval: 1, N_Detections: 1, N_Paired: 1, N_Null: 1 }); // biome-ignore format: one line
    expect(rowsOf(cell).get(9)).toMatchObject({ Shift: 1, ...empty });
    expect(matchedEffects(pairsOf([]), names, { key })).toEqual({ columns: COLUMNS, index: [], rows: [] });
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("a value that is %d is named", (value) => {
    expect(() =>
      matchedEffects(
        pairsOf([
          [0, 7, 0, 1],
          [3, 8, 1, value],
        ]),
        names,
        { key },
      ),
    ).toThrow(`effects: gene 8 shifts cell 3 by ${value}; look for what is no number in the model`);
  });

  test("no matched genes, no resamples", () => {
    for (const matched of [0, -1, 1.5, Number.NaN]) expect(() => matchedEffects(pairsOf([[0, 7, 0, 1]]), names, { key, matched })).toThrow(`effects: matched is ${matched}; a null has at least one gene`); // biome-ignore format: one line
    expect(() => matchedEffects(pairsOf([[0, 7, 0, 1]]), names, { key, resamples: 0 })).toThrow("take at least 40");
  });
});

/** What the benches of truth count with: intervals, expression, cosines, and how figures are shown. */

import { describe, expect, test } from "vitest";
import { bootstrap, meanInterval, meanOf } from "../../../bench/truth/bootstrap.ts";
import { correlations, meanExpression } from "../../../bench/truth/expression.ts";
import { INTERFERON_ALPHA, NAMED, RENAMED } from "../../../bench/truth/hallmark.ts";
import { dots } from "../../../bench/truth/picture.ts";
import { cosineWithout, frozen, type Predicted, thawed, truths } from "../../../bench/truth/predicted.ts";
import { markdownTable, shown, textTable } from "../../../bench/truth/report.ts";
import { trueEffects } from "../../../geneformer/effects.ts";
import { Key } from "../../../src/key.ts";

describe("an interval", () => {
  test("of a mean is as wide as the normal distribution says", () => {
    const values = [...Key.from(1).normals(400)];
    const { value, low, high } = meanInterval(values);
    expect(value).toBeCloseTo(meanOf(values), 12);
    // 1.96 standard errors of 1 / 20 to each side; a thousand draws leave a tenth of doubt.
    expect(value - low).toBeGreaterThan(0.08);
    expect(value - low).toBeLessThan(0.12);
    expect(high - value).toBeGreaterThan(0.08);
    expect(high - value).toBeLessThan(0.12);
  });

  test("draws each group from itself, and the same for the same seed", () => {
    const difference = (a: readonly number[], b: readonly number[]) => meanOf(a) - meanOf(b);
    const groups = [
      [1, 1, 1],
      [0, 0],
    ] as const;
    expect(bootstrap(groups, difference)).toEqual({ value: 1, low: 1, high: 1 });
    const values = [[1, 5, 2, 8, 3]];
    expect(bootstrap(values, meanOf)).toEqual(bootstrap(values, meanOf));
    expect(bootstrap(values, meanOf, { seed: 1, draws: 3 })).not.toEqual(bootstrap(values, meanOf, { draws: 3 }));
  });

  test("leaves out what is no number", () => {
    expect(meanOf([1, Number.NaN, 3])).toBe(2);
    expect(meanOf([])).toBeNaN();
    expect(meanInterval([Number.NaN]).value).toBeNaN();
    const { low, high } = bootstrap([[0, 1]], ([values]) => (values === 0 ? Number.NaN : 7));
    expect([low, high]).toEqual([7, 7]);
  });
});

describe("expression", () => {
  const counts = { data: [1, 3, 2, 2, 4], indices: [0, 1, 0, 2, 1], indptr: [0, 2, 4, 5] };

  test("is ln(1 + counts per 10,000), its mean over cells", () => {
    const means = meanExpression(counts, 3, [0, 2]);
    expect(means[0]).toBeCloseTo(Math.log1p(2500) / 2, 12);
    expect(means[1]).toBeCloseTo((Math.log1p(7500) + Math.log1p(10_000)) / 2, 12);
    expect(means[2]).toBe(0);
  });

  test("correlates as Pearson says", () => {
    const rows = [
      [Math.log1p(2500), Math.log1p(5000), 0],
      [Math.log1p(7500), 0, Math.log1p(10_000)],
      [0, Math.log1p(5000), 0],
    ];
    const pearson = (x: number[], y: number[]) => {
      const [a, b] = [x, y].map((row) => row.map((value) => value - meanOf(row)));
      const dot = (u: number[], v: number[]) => u.reduce((sum, value, i) => sum + value * v[i], 0);
      return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    };
    const found = correlations(counts, 3, [0, 1]);
    for (const g of [0, 1]) for (const h of [0, 1, 2]) expect(found.get(g)?.[h]).toBeCloseTo(pearson(rows[g], rows[h]), 12);
  });
});

test("a cosine can leave one place out", () => {
  expect(cosineWithout([1, 0, 5], [1, 0, 5])).toBeCloseTo(1, 12);
  expect(cosineWithout([1, 2, 99], [2, -1, 99], 2)).toBeCloseTo(0, 12);
});

test("the truth about single cells has the true effects as its means, and shifts of which the own level is a part", async () => {
  const options = { cells: 12, genes: 80, types: 2, seed: 2 };
  const { network, effects } = await trueEffects(options);
  const rows = [0, 2, 4, 6, 8, 10]; // the cells of the first type
  const all = truths(options, rows, options.cells);
  for (const { perturbed, intervention, type, affected, log2FoldChange } of effects) {
    if (type !== 0) continue;
    const own = all.get(intervention)?.get(perturbed);
    for (const [i, gene] of affected.entries())
      expect(meanOf(rows.map((row) => own?.get(row)?.change[gene] ?? Number.NaN))).toBeCloseTo(log2FoldChange[i], 10);
  }
  // A master of the first type, silenced: its cells move away from that type, and less so if the master itself is not looked at.
  const master = network.genes.findIndex(({ symbol }) => symbol === network.types[0].masters[0]);
  for (const row of rows) {
    const own = all.get("knockout")?.get(master)?.get(row);
    const [whole, rest] = [own?.shifts[0] ?? Number.NaN, own?.withoutOwn[0] ?? Number.NaN];
    expect(whole).toBeLessThan(0);
    expect(whole).toBeLessThan(rest);
  }
});

test("predictions come back from a file as they were", () => {
  const predicted: Predicted = {
    moved: { sums: new Map([[3, Float64Array.of(0.5, 0)]]), counts: new Map([[3, Uint32Array.of(2, 0)]]) },
    still: { sums: new Map([[3, Float64Array.of(0.25, 0)]]), counts: new Map([[3, Uint32Array.of(1, 0)]]) },
    cells: new Map([[3, [{ row: 8, effect: 0.25, shifts: [0.1, -0.1] }]]]),
  };
  expect(thawed(JSON.parse(JSON.stringify(frozen(predicted))))).toEqual(predicted);
});

test("figures are shown with their intervals, absent ones as such", () => {
  expect(shown({ value: 0.51249, low: 0.4, high: 0.6 })).toBe("0.512 [0.400, 0.600]");
  expect(shown(1e-9)).toBe("1.0e-9");
  expect(shown(0)).toBe("0.000");
  expect(shown({ value: Number.NaN, low: 0, high: 1 })).toBe("-");
  const answers = { title: "T", note: "N", columns: ["a"], rows: [["trained", 0.5] as const] };
  expect(markdownTable(answers)).toBe("## T\n\nN\n\n|  | a |\n| --- | ---: |\n| trained | 0.500 |");
  expect(textTable(answers)).toContain("trained  0.500");
});

test("dots on logarithmic axes are those above 0, counted by class", async () => {
  const points = [
    { x: 1, y: 10, label: "a" },
    { x: 0, y: 10, label: "a" },
    { x: 3, y: 100, label: "" },
  ];
  const svg = await dots(points, { title: "T", axes: ["across", "up"] }, "others", { x: "log", y: "log" });
  for (const text of ["T", "across", "up", "a (1)", "others (1)"]) expect(svg).toContain(`>${text}</t`);
  expect(await dots(points, { title: "T" }, "others")).toContain(">a (2)</t");
});

test("the interferon set has MSigDB's 97 genes, each once", () => {
  expect(INTERFERON_ALPHA).toHaveLength(97);
  expect(new Set(INTERFERON_ALPHA).size).toBe(97);
  for (const old of RENAMED.keys()) expect(INTERFERON_ALPHA).toContain(old);
  expect(NAMED.filter((symbol) => !INTERFERON_ALPHA.includes(symbol))).toEqual(["IFIT1", "STAT1"]);
});

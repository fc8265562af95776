/** Simulated cells: counts, types and a network whose truth the numbers carry. */

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { LINEAGES, REGULATORS, TARGETS } from "../../geneformer/genes.ts";
import {
  activated,
  describeNetwork,
  type Edge,
  express,
  noise,
  regulatoryNetwork,
  type Simulation,
  setup,
  simulate,
  typeOf,
} from "../../geneformer/simulate.ts";
import { Key } from "../../src/key.ts";

/** Logs of counts per 10,000: a row of all cells for one gene. */
function expression({ counts: { data, indices, indptr }, nCounts }: Simulation, gene: number): Float64Array {
  return nCounts.map((total, cell) => {
    for (let k = indptr[cell]; k < indptr[cell + 1]; k++) if (indices[k] === gene) return Math.log1p((1e4 * data[k]) / total);
    return 0;
  });
}

const mean = (x: ArrayLike<number>) => Array.from(x).reduce((a, b) => a + b, 0) / x.length;

function correlation(x: Float64Array, y: Float64Array): number {
  const [mx, my] = [mean(x), mean(y)];
  const product = (a: Float64Array, ma: number, b: Float64Array, mb: number) => mean(a.map((value, i) => (value - ma) * (b[i] - mb)));
  return product(x, mx, y, my) / Math.sqrt(product(x, mx, x, mx) * product(y, my, y, my));
}

describe("the gene list", () => {
  test("has some three thousand genes, each once, with well-formed Ensembl ids", () => {
    const genes = [...REGULATORS, ...TARGETS];
    expect(genes.length).toBeGreaterThan(2500);
    expect(new Set(genes.map(({ symbol }) => symbol)).size).toBe(genes.length);
    expect(new Set(genes.map(({ ensembl }) => ensembl)).size).toBe(genes.length);
    for (const { ensembl } of genes) expect(ensembl).toMatch(/^ENSG\d{11}$/);
    expect(REGULATORS.find(({ symbol }) => symbol === "GATA1")?.ensembl).toBe("ENSG00000102145"); // as in Ensembl
    expect(TARGETS.find(({ symbol }) => symbol === "ALB")?.ensembl).toBe("ENSG00000163631");
  });

  test("has every type's masters among the factors and its markers among the others, none twice", () => {
    const [factors, others] = [REGULATORS, TARGETS].map((list) => new Set(list.map(({ symbol }) => symbol)));
    for (const { masters, markers } of LINEAGES) {
      for (const symbol of masters) expect(factors, symbol).toContain(symbol);
      for (const symbol of markers) expect(others, symbol).toContain(symbol);
      expect([masters.length, markers.length]).toEqual([LINEAGES[0].masters.length, LINEAGES[0].markers.length]);
    }
    const named = LINEAGES.flatMap(({ masters, markers }) => [...masters, ...markers]);
    expect(new Set(named).size).toBe(named.length);
  });
});

describe("a network", () => {
  const network = regulatoryNetwork({ genes: 400, types: 5, key: Key.from(1) });

  test("is layered: a regulator comes before what it regulates, on a lower level", () => {
    const edges = network.edges.flat();
    expect(edges.length).toBeGreaterThan(400);
    for (const { regulator, target } of edges) {
      expect(regulator).toBeLessThan(target);
      expect(network.levels[regulator]).toBeLessThan(network.levels[target]);
    }
    for (let i = 0; i < 400; i++) expect(network.edges[i].length > 0).toBe(network.levels[i] > 0);
    expect(new Set(edges.map(({ sign }) => sign))).toEqual(new Set([1, -1]));
  });

  test("has steady states that balance production and decay", () => {
    for (const [type, means] of network.means.entries()) {
      for (const [gene, level] of means.entries()) {
        let rate = network.production[type][gene];
        for (const { regulator, sign, strength, hill, half } of network.edges[gene]) {
          const [x, k] = [means[regulator] ** hill, half ** hill];
          rate += strength * (sign > 0 ? x / (k + x) : k / (k + x));
        }
        expect(0.8 * level).toBeCloseTo(rate, 10);
      }
    }
  });

  test("makes each type's masters and markers in that type above all", () => {
    for (const [type, { masters, markers }] of network.types.entries()) {
      for (const symbol of [...masters, ...markers]) {
        const gene = network.genes.findIndex((each) => each.symbol === symbol);
        const levels = network.means.map((means) => means[gene]);
        expect(levels[type], symbol).toBeGreaterThan(5 * Math.max(...levels.filter((_, other) => other !== type)));
      }
    }
  });

  test("is described by symbols, as JSON can hold it", () => {
    const plain = JSON.parse(JSON.stringify(describeNetwork(network)));
    expect(plain.genes).toHaveLength(400);
    expect(plain.genes[0]).toMatchObject({ symbol: "GATA1", ensembl_id: "ENSG00000102145", level: 0 });
    expect(plain.edges).toHaveLength(network.edges.flat().length);
    expect(plain.edges).toContainEqual(expect.objectContaining({ regulator: "GATA1", target: "HBB", sign: 1, hill: 2 }));
  });
});

describe("cells", () => {
  const options = { cells: 600, genes: 300, types: 4, seed: 3 };
  let cells: Simulation;
  beforeAll(async () => {
    cells = await simulate(options);
  });

  test("are counts: positive integers in ascending columns, which sum to n_counts", () => {
    const { data, indices, indptr } = cells.counts;
    expect([indptr.length, indptr[600], indices.length]).toEqual([601, data.length, data.length]);
    for (let cell = 0; cell < 600; cell++) {
      const row = data.subarray(indptr[cell], indptr[cell + 1]);
      for (const count of row) expect(Number.isInteger(count) && count > 0).toBe(true);
      expect(row.reduce((a, b) => a + b, 0)).toBe(cells.nCounts[cell]);
      for (let k = indptr[cell]; k < indptr[cell + 1]; k++) expect(indices[k]).toBeGreaterThan(k > indptr[cell] ? indices[k - 1] : -1);
    }
    expect(Math.max(...indices)).toBeLessThan(300);
    const detected = data.length / 600;
    expect(detected).toBeGreaterThan(75);
    expect(detected).toBeLessThan(225); // many zeros, as in real cells
    expect(new Set(cells.barcodes).size).toBe(600);
  });

  test("vary in library size", () => {
    const logs = cells.nCounts.map(Math.log);
    const spread = Math.sqrt(mean(logs.map((x) => (x - mean(logs)) ** 2)));
    expect(spread).toBeGreaterThan(0.2);
    expect(spread).toBeLessThan(0.5);
  });

  test("of the same seed are the same, of another are not", async () => {
    const again = await simulate(options);
    expect(again.counts).toEqual(cells.counts);
    const other = await simulate({ ...options, seed: 4 });
    expect(other.counts).not.toEqual(cells.counts);
    expect(other.network.genes).toEqual(cells.network.genes);
    const fewer = await simulate({ ...options, cells: 10 });
    expect(fewer.counts.data).toEqual(cells.counts.data.subarray(0, fewer.counts.data.length));
  });

  test("of a type are nearer to their type's centre than to any other", () => {
    const rows = cells.network.genes.map((_, gene) => expression(cells, gene));
    const types = cells.network.types.map(({ name }) => name);
    // Centres from the first half, votes from the second.
    const centres = types.map((type) => rows.map((row) => mean(row.filter((_, cell) => cell < 300 && cells.cellTypes[cell] === type))));
    let right = 0;
    for (let cell = 300; cell < 600; cell++) {
      const distances = centres.map((centre) => rows.reduce((sum, row, gene) => sum + (row[cell] - centre[gene]) ** 2, 0));
      if (types[distances.indexOf(Math.min(...distances))] === cells.cellTypes[cell]) right++;
    }
    expect(right / 300).toBeGreaterThan(0.95);
  });

  test("show who regulates whom: targets follow their regulators over all cells, and within one type", async () => {
    // Deep sequencing, so that what is seen is the network and not the counting.
    const deep = await simulate({ ...options, depth: 1e6 });
    const rows = deep.network.genes.map((_, gene) => expression(deep, gene));
    const alone = deep.network.edges.filter((edges) => edges.length === 1).map(([edge]) => edge);
    const follows = (sign: number, rows: Float64Array[]) => {
      const chosen = alone.filter((edge) => edge.sign === sign);
      expect(chosen.length).toBeGreaterThan(10);
      const values = chosen.map(({ regulator, target }) => correlation(rows[regulator], rows[target])).filter((r) => !Number.isNaN(r));
      return mean(values);
    };
    expect(follows(1, rows)).toBeGreaterThan(0.4);
    expect(follows(-1, rows)).toBeLessThan(-0.3);
    const within = rows.map((row) => row.filter((_, cell) => cell % 4 === 0));
    expect(follows(1, within)).toBeGreaterThan(0.1);
    expect(follows(-1, within)).toBeLessThan(-0.05);
  });

  test("without a factor lack it, and have less of what it activates and more of what it represses", async () => {
    const without = await simulate({ ...options, knockout: ["GATA1"] });
    const sum = ({ counts: { data, indices } }: Simulation, gene: number) =>
      data.reduce((total, count, k) => total + (indices[k] === gene ? count : 0), 0);
    expect(sum(cells, 0)).toBeGreaterThan(0);
    expect(sum(without, 0)).toBe(0);
    // HBB has activators beside GATA1: it falls but stays.
    const hbb = cells.network.genes.findIndex(({ symbol }) => symbol === "HBB");
    expect(sum(without, hbb)).toBeLessThan(0.9 * sum(cells, hbb));
    expect(sum(without, hbb)).toBeGreaterThan(0);
    const edges = cells.network.edges.map((into): Edge[] => into.filter(({ regulator }) => regulator === 0));
    const changes = (sign: number) =>
      edges.flatMap((into, gene) => (into[0]?.sign === sign ? [Math.log((sum(without, gene) + 1) / (sum(cells, gene) + 1))] : []));
    expect(mean(changes(1))).toBeLessThan(-0.1);
    expect(mean(changes(-1))).toBeGreaterThan(0);
    const byId = await simulate({ ...options, knockout: ["ENSG00000102145"] });
    expect(byId.counts).toEqual(without.counts);
  });

  test("with a factor activated have much of it in every type, and more of what it alone activates", async () => {
    const { network } = cells;
    // A target that one regulator alone turns on: there is nothing else that its level could follow.
    const target = network.edges.findIndex((into) => into.length === 1 && into[0].sign > 0 && network.levels[into[0].regulator] === 0);
    const [{ regulator }] = network.edges[target];
    const plenty = await simulate({ ...options, depth: 1e6, activate: [network.genes[regulator].symbol] });
    const before = await simulate({ ...options, depth: 1e6 });
    const change = (gene: number) => {
      const [x, y] = [expression(before, gene), expression(plenty, gene)];
      return network.types.map(
        (_, type) => mean(y.filter((_, cell) => cell % 4 === type)) - mean(x.filter((_, cell) => cell % 4 === type)),
      );
    };
    for (const more of change(regulator)) expect(more).toBeGreaterThan(0.3); // twice the strongest type's rate
    expect(Math.max(...change(regulator))).toBeGreaterThan(2); // where it was nearly silent
    expect(mean(change(target))).toBeGreaterThan(0.2);
    const byId = await simulate({ ...options, depth: 1e6, activate: [network.genes[regulator].ensembl] });
    expect(byId.counts).toEqual(plenty.counts);
  });

  test("with a gene activated that regulates nothing differ in that gene's levels alone", () => {
    const { network } = cells;
    const { key } = setup(options);
    const gene = network.genes.length - 1; // a target: nothing comes after it
    for (let cell = 0; cell < 8; cell++) {
      const own = noise(network, key, cell);
      const before = express(network, typeOf(network, cell), own, new Map());
      const after = express(network, typeOf(network, cell), own, new Map([[gene, activated(network, gene)]]));
      const most = Math.max(...network.means.map((means) => means[gene]));
      expect(after[gene]).toBeCloseTo(2 * most * own[gene], 12);
      expect([...after.subarray(0, gene)]).toEqual([...before.subarray(0, gene)]);
    }
  });

  test("stop when asked to, and count how far they are", async () => {
    const stop = new AbortController();
    const seen: number[] = [];
    const onProgress = (done: number) => {
      seen.push(done);
      if (done === 10) stop.abort(new Error("enough"));
    };
    await expect(simulate({ ...options, cells: 1e6, signal: stop.signal, onProgress })).rejects.toThrow("enough");
    expect(seen.slice(0, 3)).toEqual([1, 2, 3]);
    expect(seen.length).toBeLessThan(1000);
  });
});

describe("hostile options", () => {
  test.each([
    [{ cells: 0 }, /cells must be an integer from 1/],
    [{ cells: 1.5 }, /cells/],
    [{ types: 17 }, /types must be an integer from 1 to 16; got 17/],
    [{ types: 0 }, /types/],
    [{ genes: 10 }, /genes must be an integer from 120 .* with 6 types; got 10/],
    [{ genes: 1e6 }, /genes/],
    [{ genes: Number.NaN }, /genes/],
    [{ depth: 0 }, /depth/],
    [{ depth: Number.NaN }, /depth/],
    [{ seed: -1 }, /seed/],
    [{ knockout: ["NOSUCH"] }, /knockout "NOSUCH" is none of the 1000 genes/],
    [{ activate: ["NOSUCH"] }, /activate "NOSUCH" is none of the 1000 genes/],
    [{ knockout: ["SPI1", "GATA1"], activate: ["ENSG00000102145"] }, /"ENSG00000102145" is in knockout and in activate; .*leave it out/],
  ])("%o is refused", async (options, message) => {
    await expect(simulate(options)).rejects.toThrow(RangeError);
    await expect(simulate(options)).rejects.toThrow(message);
  });

  test("any within the limits make counts", async () => {
    const sizes = fc.integer({ min: 1, max: 16 }).chain((types) =>
      fc.record({
        types: fc.constant(types),
        genes: fc.integer({ min: 20 * types, max: 20 * types + 300 }),
        cells: fc.integer({ min: 1, max: 20 }),
        seed: fc.maxSafeNat(),
        depth: fc.integer({ min: 1, max: 1e6 }),
      }),
    );
    await fc.assert(
      fc.asyncProperty(sizes, async (options) => {
        const { counts, nCounts, network } = await simulate(options);
        expect(network.genes).toHaveLength(options.genes);
        expect(nCounts).toHaveLength(options.cells);
        expect(counts.data.every((count) => Number.isInteger(count) && count > 0)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });
});

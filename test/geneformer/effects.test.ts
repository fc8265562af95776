/** True effects: by hand where that is possible, and as `simulate` itself makes cells without a gene. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readParquet } from "../../geneformer/data/parquet.ts";
import {
  descendants,
  logFoldChange,
  PSEUDO_LEVEL,
  reexpression,
  regulatorsOf,
  type TrueEffects,
  trueEffects,
} from "../../geneformer/effects.ts";
import { fileSource } from "../../geneformer/files.ts";
import { activated, express, type Network, noise, setup, typeOf } from "../../geneformer/simulate.ts";
import { geneformer } from "./cli/call.ts";

const options = { cells: 40, genes: 200, types: 3, seed: 5 };
const none: ReadonlyMap<number, number> = new Map();
const at = (network: Network, symbol: string) => network.genes.findIndex((gene) => gene.symbol === symbol);

let all: TrueEffects;
beforeAll(async () => {
  all = await trueEffects(options);
});

describe("descendants", () => {
  test("are what a path of edges leads to, and the gene itself", () => {
    const { network } = setup(options);
    const reaches = (from: number, to: number): boolean =>
      from === to || network.edges[to].some(({ regulator }) => reaches(from, regulator));
    for (const gene of regulatorsOf(network)) {
      const expected = [...network.genes.keys()].filter((other) => reaches(gene, other));
      expect([...descendants(network, gene)]).toEqual(expected);
    }
    expect([...descendants(network, network.genes.length - 1)]).toEqual([network.genes.length - 1]);
  });
});

describe("a cell expressed again", () => {
  test("is the cell that simulate makes with that gene silenced or activated: level for level, to the bit", () => {
    const { network, cells, of } = reexpression(options);
    expect(cells).toBe(40);
    for (const cell of [0, 7, 38]) {
      const seen: string[] = [];
      for (const { perturbed, intervention, affected, before, after } of of(cell)) {
        seen.push(`${perturbed} ${intervention}`);
        const { symbol } = network.genes[perturbed];
        const same = setup({ ...options, [intervention]: [symbol] }); // all that simulate() does before it measures
        const own = noise(same.network, same.key, cell);
        expect(after).toEqual(express(same.network, typeOf(same.network, cell), own, same.held));
        expect(before).toEqual(express(same.network, typeOf(same.network, cell), own, none));
        const still = [...before.keys()].filter((gene) => !affected.includes(gene));
        expect(still.length).toBeGreaterThan(0);
        for (const gene of still) expect(after[gene]).toBe(before[gene]);
      }
      expect(seen).toEqual(regulatorsOf(network).flatMap((gene) => [`${gene} knockout`, `${gene} activate`]));
    }
  });

  test("without noise has direct targets where production balances decay without that edge", () => {
    const { network } = setup(options);
    const ones = new Float64Array(network.genes.length).fill(1);
    const [type, regulator] = [0, 0];
    const before = express(network, type, ones, none);
    expect(before).toEqual(network.means[type]);
    const after = express(network, type, ones, new Map([[regulator, 0]]));
    // Targets whose other regulators are masters: they stay as they were, so this edge is all that changes.
    const direct = [...network.edges.entries()].filter(
      ([, into]) => into.some((edge) => edge.regulator === regulator) && into.every((edge) => network.levels[edge.regulator] === 0),
    );
    expect(direct.length).toBeGreaterThan(3);
    for (const [target, into] of direct) {
      const edge = into.find((each) => each.regulator === regulator)!;
      const h = before[regulator] ** 2 / (edge.half ** 2 + before[regulator] ** 2);
      const lost = edge.sign > 0 ? edge.strength * h : -edge.strength * h; // 1 - h was 1 - h, and is 1
      expect(after[target]).toBeCloseTo(before[target] - lost / 0.8, 10);
    }
  });
});

describe("true effects", () => {
  test("are the means over a type's cells of the log2 fold changes of levels", () => {
    const { network, effects } = all;
    const { key } = setup(options);
    const effect = effects.find((each) => each.perturbed === 3 && each.intervention === "activate" && each.type === 1)!;
    const cells = Array.from({ length: 40 }, (_, cell) => cell).filter((cell) => cell % 3 === 1);
    expect(effect.cells).toBe(cells.length);
    for (const [i, gene] of effect.affected.entries()) {
      const changes = cells.map((cell) => {
        const own = noise(network, key, cell);
        const [x, y] = [none, new Map([[3, activated(network, 3)]])].map((held) => express(network, 1, own, held)[gene]);
        return Math.log2((y + PSEUDO_LEVEL) / (x + PSEUDO_LEVEL));
      });
      expect(effect.log2FoldChange[i]).toBeCloseTo(changes.reduce((a, b) => a + b, 0) / cells.length, 10);
    }
  });

  test("are there for both interventions on every regulator, in every type, and only of its descendants", () => {
    const { network, effects } = all;
    expect(effects).toHaveLength(regulatorsOf(network).length * 2 * 3);
    for (const { perturbed, affected, log2FoldChange } of effects) {
      expect(affected).toEqual(descendants(network, perturbed));
      expect(log2FoldChange.every(Number.isFinite)).toBe(true);
    }
  });

  test("have the sign of the edge where there is one path: an activator silenced lowers its target, a repressor raises it", () => {
    const { network, effects } = all;
    const single = [...network.edges.entries()].filter(([, into]) => into.length === 1 && network.levels[into[0].regulator] === 0);
    expect(new Set(single.map(([, [edge]]) => edge.sign))).toEqual(new Set([1, -1]));
    for (const [target, [{ regulator, sign }]] of single) {
      for (const { perturbed, intervention, affected, log2FoldChange } of effects) {
        if (perturbed !== regulator) continue;
        const change = log2FoldChange[affected.indexOf(target)];
        expect(Math.sign(change)).toBe(intervention === "activate" ? sign : -sign);
        const own = log2FoldChange[affected.indexOf(regulator)];
        expect(Math.sign(own)).toBe(intervention === "activate" ? 1 : -1);
      }
    }
  });

  test("leave genes out that are held already, and see what those do to the others", async () => {
    const { network, effects } = await trueEffects({ ...options, knockout: ["GATA1"] });
    const gata1 = at(network, "GATA1");
    expect(effects.some(({ perturbed }) => perturbed === gata1)).toBe(false);
    const other = (of: TrueEffects) => of.effects.find(({ perturbed, type }) => perturbed !== gata1 && type === 0)!;
    expect(other({ network, effects }).log2FoldChange).not.toEqual(
      other({ ...all, effects: all.effects.filter((e) => e.perturbed !== gata1) }).log2FoldChange,
    );
  });

  test("stop when asked to, and refuse what simulate refuses", async () => {
    const stop = new AbortController();
    const onProgress = (cells: number) => cells === 10 && stop.abort(new Error("enough"));
    await expect(trueEffects({ ...options, cells: 1e6, signal: stop.signal, onProgress })).rejects.toThrow("enough");
    await expect(trueEffects({ genes: 10 })).rejects.toThrow(/genes must be an integer from 120/);
    await expect(trueEffects({ knockout: ["GATA1"], activate: ["GATA1"] })).rejects.toThrow(/"GATA1" is in knockout and in activate/);
  });
});

describe("geneformer simulate --effects", () => {
  const folder = mkdtempSync(join(tmpdir(), "effects-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const args = ["simulate", "--cells", "40", "--genes", "200", "--types", "3", "--seed", "5"];

  test("writes the same numbers beside the cells, by symbol", async () => {
    const { status, stderr } = await geneformer([...args, "--effects", "--out", join(folder, "cells.h5ad")]);
    expect(stderr).toContain("regulators silenced and activated");
    expect(status).toBe(0);
    const table = await readParquet(await fileSource(join(folder, "cells.effects.parquet")));
    expect([...table.keys()]).toEqual(["perturbed", "kind", "cell_type", "affected", "log2_fold_change", "cells"]);
    const { genes, types } = all.network;
    const rows = all.effects.flatMap(({ perturbed, intervention, type, affected, log2FoldChange, cells }) =>
      Array.from(affected, (gene, i) => [
        genes[perturbed].symbol,
        intervention,
        types[type].name,
        genes[gene].symbol,
        log2FoldChange[i],
        cells,
      ]),
    );
    expect(rows.map((_, i) => [...table.values()].map((column) => column[i]))).toEqual(rows);
    expect(table.get("kind")).toHaveLength(rows.length);
  });

  test("says in the network's file what was silenced and activated", async () => {
    const out = join(folder, "held.h5ad");
    const { status } = await geneformer([...args, "--knockout", "GATA1", "--activate", "SPI1,PAX5", "--out", out]);
    expect(status).toBe(0);
    expect(JSON.parse(readFileSync(join(folder, "held.network.json"), "utf8"))).toMatchObject({
      knockout: ["GATA1"],
      activate: ["SPI1", "PAX5"],
    });
    expect(existsSync(join(folder, "held.effects.parquet"))).toBe(false);
  });

  test("writes nothing where its table would replace another one", async () => {
    writeFileSync(join(folder, "new.effects.parquet"), "mine");
    const { status, stderr } = await geneformer([...args, "--effects", "--out", join(folder, "new.h5ad")]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/new\.effects\.parquet" exists/);
    expect(readdirSync(folder).filter((name) => name.startsWith("new."))).toEqual(["new.effects.parquet"]);
  });

  test("refuses a gene that is to be both silenced and activated", async () => {
    const { status, stderr } = await geneformer([...args, "--knockout", "SPI1", "--activate", "SPI1", "--out", join(folder, "both.h5ad")]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/"SPI1" is in knockout and in activate/);
    expect(existsSync(join(folder, "both.h5ad"))).toBe(false);
  });
});

test("a fold change is finite where a gene falls silent, and 0 where nothing changes", () => {
  expect(logFoldChange(0, 0)).toBe(0);
  expect(logFoldChange(1, 0)).toBeCloseTo(Math.log2(0.1 / 1.1), 12);
  expect(logFoldChange(0, 1)).toBeCloseTo(-logFoldChange(1, 0), 12);
});

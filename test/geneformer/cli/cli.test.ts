/** The commands on files, one after the other, and the whole binary as a process of its own: help, wrong usage, Ctrl-C. */

import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Define } from "../../../geneformer/cli/command.ts";
import { run } from "../../../geneformer/cli/run.ts";
import { openCells, writeCells } from "../../../geneformer/data/h5ad.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "geneformer-cli-"));
});
afterAll(() => rm(folder, { recursive: true }));

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the file of one command in this process, which is faster. */
async function geneformer([name, ...args]: string[]): Promise<Outcome> {
  let [stdout, stderr] = ["", ""];
  const load = (): Promise<{ command: Define }> => import(`../../../geneformer/cli/${name}.ts`);
  const status = await run({ [name]: ["", load] }, [name, ...args], {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    ...{ signal: new AbortController().signal, version: "" },
  });
  return { status, stdout, stderr };
}

/** Runs the binary in the root of the project, and interrupts it where its words on stderr match. */
function binary(args: string[], interruptAt?: RegExp): Promise<Outcome> {
  const child = spawn(process.execPath, ["--import", "tsx", "geneformer/cli.ts", ...args], { cwd: root });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (text) => {
    stdout += text;
  });
  child.stderr.on("data", (text) => {
    stderr += text;
    if (interruptAt?.test(stderr)) {
      interruptAt = undefined;
      child.kill("SIGINT");
    }
  });
  return new Promise((resolve) => child.on("close", (status) => resolve({ status, stdout, stderr })));
}

describe("simulate, dictionary, tokenize", () => {
  test("follow one another, with results as JSON", async () => {
    const [cells, dictionary, dataset] = ["cells.h5ad", "dictionary", "cells.dataset"].map((name) => join(folder, name));
    const simulated = await geneformer(["simulate", "--cells", "60", "--genes", "100", "--types", "3", "--out", cells, "--json"]);
    expect(simulated.status, simulated.stderr).toBe(0);
    expect(JSON.parse(simulated.stdout)).toMatchObject({ out: cells, cells: 60, genes: 100, types: ["erythroid", "monocyte", "B cell"] });
    expect(simulated.stderr).toMatch(/60 cells of 3 types/);

    const file = await openCells(cells);
    expect([file.cells, file.genes, ...file.obs.names, ...file.var.names]).toEqual([
      60,
      100,
      "cell_type",
      "n_counts",
      "ensembl_id",
      "gene_symbol",
    ]);
    expect(file.var.index()[0]).toBe("GATA1");
    expect(file.var.column("ensembl_id").values[0]).toBe("ENSG00000102145");
    expect(file.obs.column("cell_type").values.slice(0, 4)).toEqual(["erythroid", "monocyte", "B cell", "erythroid"]);
    file.close();
    const network = JSON.parse(await readFile(join(folder, "cells.network.json"), "utf8"));
    expect(network).toMatchObject({ seed: 0, knockout: [] });
    expect(network.genes).toHaveLength(100);

    const counted = await geneformer(["dictionary", cells, "--out", dictionary, "--json"]);
    expect(counted.status, counted.stderr).toBe(0);
    expect(JSON.parse(counted.stdout)).toMatchObject({ modelVersion: "V2", out: dictionary });
    expect(await readdir(dictionary)).toEqual(["vocabulary.json"]);

    const attributes = ["--attr", "cell_type:type", "--filter", "cell_type=B cell,monocyte"];
    const tokenized = await geneformer(["tokenize", cells, "--dictionary", dictionary, ...attributes, "--out", dataset, "--json"]);
    expect(tokenized.status, tokenized.stderr).toBe(0);
    expect(JSON.parse(tokenized.stdout)).toMatchObject({ cells: 60, written: 40, filtered: 20, empty: 0 });
    expect(JSON.parse(tokenized.stdout).peakMemory).toBeGreaterThan(1e7);
    expect(tokenized.stderr).toMatch(/40 of 60 cells written/);
    expect(tokenized.stderr).toMatch(/cells\/s, peak memory \d+ MB/);
    expect(await readdir(dataset)).toEqual(expect.arrayContaining(["dataset_info.json", "state.json"]));

    for (const args of [
      ["simulate", "--out", cells],
      ["dictionary", cells, "--out", dictionary],
      ["tokenize", cells, "--dictionary", dictionary, "--out", dataset],
    ]) {
      const again = await geneformer(args);
      expect([again.status, again.stdout]).toEqual([1, ""]);
      expect(again.stderr).toMatch(/^geneformer \w+: .* exists; .*--force\n$/);
    }
    const forced = await geneformer(["dictionary", cells, "--out", dictionary, "--model-version", "V1", "--force", "--json"]);
    expect(JSON.parse(forced.stdout)).toMatchObject({ modelVersion: "V1" });
    const wrong = await geneformer(["tokenize", cells, "--dictionary", dictionary, "--model-version", "V2", "--out", `${dataset}2`]);
    expect(wrong.status).toBe(1);
    expect(wrong.stderr).toMatch(/^geneformer tokenize: model version V2 but the dictionary is of V1; .*\n$/);
  }, 60_000);

  test("say in one sentence what is wrong with a file, and leave nothing behind", async () => {
    const write = (name: string, values: number[]) =>
      writeCells(join(folder, name), {
        X: { indptr: [0, 3, 6], indices: Int32Array.of(0, 1, 2, 0, 1, 2), data: Float32Array.from([...values, ...values]) },
        obs: { index: ["a", "b"] },
        var: {
          index: ["GATA1", "ALB", "HBB"],
          columns: new Map([["ensembl_id", ["ENSG00000102145", "ENSG00000163631", "ENSG00000244734"]]]),
        },
      });
    await write("logarithms.h5ad", [0.69, 1.1, 2.4]);
    await write("negative.h5ad", [1, -1, 2]);
    await writeFile(join(folder, "text.h5ad"), "no HDF5");
    const before = await readdir(folder);
    for (const [name, message] of [
      ["logarithms.h5ad", /log-normalised/],
      ["negative.h5ad", /is -1 in cell "a"/],
      ["text.h5ad", /text\.h5ad/],
      ["nosuch.h5ad", /nosuch\.h5ad/],
    ] as const) {
      const { status, stdout, stderr } = await geneformer(["dictionary", join(folder, name), "--out", join(folder, "nothing")]);
      expect([name, status, stdout]).toEqual([name, 1, ""]);
      const said = stderr.trimEnd().split("\n").filter((line) => line.startsWith("geneformer ")); // biome-ignore format: one line
      expect(said, stderr).toHaveLength(1);
      expect(said[0]).toMatch(message);
      expect(stderr).not.toMatch(/\n {4}at /);
    }
    expect(await readdir(folder)).toEqual(before);
  }, 60_000);
});

describe("the binary", () => {
  test("shows the help of each of its commands, with two examples", async () => {
    const { stdout } = await binary(["--help"]);
    const names = [...stdout.slice(stdout.indexOf("Commands:")).matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name);
    expect(names).toEqual(expect.arrayContaining(["simulate", "dictionary", "tokenize"]));
    for (const name of names) {
      const { status, stdout, stderr } = await geneformer([name, "--help"]);
      expect([name, status, stderr]).toEqual([name, 0, ""]);
      expect(stdout.match(new RegExp(`\\$ geneformer ${name}( |$)`, "gm"))?.length, name).toBeGreaterThanOrEqual(2);
      expect(stdout).toContain("--json");
    }
  }, 120_000);

  test("knows its version, and wrong usage", async () => {
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    expect(await binary(["--version"])).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
    const { status, stderr } = await binary(["tokenise"]);
    expect([status, stderr]).toEqual([2, "geneformer: unknown command 'tokenise'; did you mean tokenize?\n"]);
  }, 30_000);

  test("stops at Ctrl-C with nothing half written", async () => {
    const before = await readdir(folder);
    const { status, stdout, stderr } = await binary(["simulate", "--cells", "10000000", "--out", join(folder, "never.h5ad")], /Simulating/);
    expect([status, stdout]).toEqual([130, ""]);
    expect(stderr).toMatch(/\ngeneformer simulate: stopped; nothing was written under its final name, run the same command again\n$/);
    expect(await readdir(folder)).toEqual(before);
  }, 60_000);
});

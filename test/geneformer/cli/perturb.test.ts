/** `geneformer perturb` and `geneformer stats`: the folder and the tables that they write, and what they refuse. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { readModel } from "../../../geneformer/checkpoint.ts";
import { readParquet } from "../../../geneformer/data/parquet.ts";
import { type EmbeddingMode, embed } from "../../../geneformer/embed.ts";
import { fileSource } from "../../../geneformer/files.ts";
import { type Outcome, perturb } from "../../../geneformer/perturb/exact.ts";
import { editsOf, type Perturbation, unitsOf } from "../../../geneformer/perturb/plan.ts";
import { readStates } from "../../../geneformer/perturb/states.ts";
import { scratch } from "../data/scratch.ts";
import { ensembl, onCpu, toyConfig, writeRandomModel, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const [dataset, model] = [path("cells.dataset"), path("model")];
const cells = [
  [2, 9, 4, 7, 3],
  [2, 5, 3],
  [2, 4, 5, 6, 7, 8, 3],
  [2, 9, 4, 3],
];
const ends = { cls: true, eos: true };
const [UP, DOWN] = ["up", 'down, or "reverse"']; // cells 0 and 2; cells 1 and 3
beforeAll(async () => {
  await writeToy(dataset, cells);
  await writeRandomModel(model);
});
const args = (out: string, ...more: string[]) => ["perturb", dataset, "--model", model, "--device", "cpu", "--out", path(out), ...more];
const tableOf = (out: string) => {
  const [header, ...rows] = readFileSync(path(out), "utf8").trimEnd().split("\n").map((line) => line.split(",")); // biome-ignore format: one line
  return { header, rows };
};
const name = (token: number) => [String(token), String.fromCharCode(65 + token - 4), ensembl(token - 4)];

/** The outcomes that must come out, longest cell first. */
const wanted = (
  kind: Perturbation,
  mode: EmbeddingMode,
  layer: number,
  rows: readonly number[],
  states?: ReadonlyMap<string, Float32Array>,
) =>
  onCpu(async () => {
    const loaded = await readModel(model);
    const all: Outcome[] = [];
    const subjects = rows.map((row) => {
      return { row, cell: cells[row], edits: editsOf(cells[row], ends, unitsOf(cells[row], ends, kind), toyConfig.length) };
    });
    for await (const outcome of perturb(loaded, subjects, { mode, layer, ends, tokensPerBatch: 8192, states })) all.push(outcome);
    return all;
  });
const ofGenes = (outcomes: readonly Outcome[], state = 0) => {
  const genes = new Map<number, number[]>();
  for (const { edit, effect } of outcomes) genes.set(edit.genes[0], [...(genes.get(edit.genes[0]) ?? []), effect[state]]);
  return genes;
};
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

test("deletions, then the table of impact: names, means and cells of every gene", async () => {
  const report = await results(args("deletions"));
  expect(report).toMatchObject({ cells: 3, pairs: 10, passes: 13, mode: "cls", layer: -1, states: [] });
  expect(report.flopPerPair).toBeGreaterThan(0);
  expect(readdirSync(path("deletions")).sort()).toEqual(["dictionary", "pairs-000000.parquet", "run.json"]);
  const table = await results(["stats", path("deletions"), "--out", path("impact.csv")]);
  expect(table).toMatchObject({ mode: "mixture-model", pairs: 10, rows: 6 });
  const { header, rows } = tableOf("impact.csv");
  expect(header).toEqual([
    "",
    "Gene",
    "Gene_name",
    "Ensembl_ID",
    "Test_avg_shift",
    "Impact_component",
    "Impact_component_percent",
    "N_Detections",
  ]);
  const genes = ofGenes(await wanted({ type: "delete", genes: "all" }, "cls", -1, [2, 0, 3]));
  expect(rows.map((row) => row[1]).sort()).toEqual([...genes.keys()].map(String).sort());
  for (const [, gene, symbol, id, shift, , , n] of rows) {
    const values = genes.get(Number(gene)) ?? [];
    expect([gene, symbol, id, n]).toEqual([...name(Number(gene)), String(values.length)]);
    expect(Math.abs(Number(shift) - mean(values))).toBeLessThan(1e-7);
  }
});

test("a table as Parquet holds what the one as CSV does", async () => {
  await results(["stats", path("deletions"), "--out", path("impact.parquet")]);
  const columns = await readParquet(await fileSource(path("impact.parquet")));
  const { header, rows } = tableOf("impact.csv");
  expect([...columns.keys()]).toEqual(header.slice(1));
  for (const [i, name] of header.slice(1).entries()) expect(columns.get(name)?.map(String)).toEqual(rows.map((row) => row[i + 1]));
  const { status, stderr } = await geneformer(["stats", path("deletions"), "--out", path("impact.txt")]);
  expect([status, stderr]).toEqual([2, expect.stringMatching(/It must end in \.csv or \.parquet\.\n$/)]);
});

test("states from labels in one command, shifts to the goal and away from others, kept states used again", async () => {
  const states = ["--state-column", "type", "--start", UP, "--goal", DOWN];
  const report = await results(args("shifts", ...states, "--mode", "cell", "--layer", "0", "--type", "overexpress"));
  expect(report).toMatchObject({ cells: 2, pairs: 8, states: [UP, DOWN] });
  const held = await readStates(`${path("shifts")}/states.safetensors`, toyConfig.width);
  const vectors = await onCpu(async () =>
    embed(await readModel(model), [cells[0], cells[2]], { layer: 0, mode: "cell", ends, tokensPerBatch: 99 }),
  );
  for (const [c, value] of (held.get(UP) ?? []).entries()) expect(Math.abs(value - (vectors[c] + vectors[c + 16]) / 2)).toBeLessThan(1e-6);
  await results(["stats", path("shifts"), "--out", path("shifts.csv")]);
  const { header, rows } = tableOf("shifts.csv");
  expect(header.slice(4)).toEqual(["Shift_to_goal_end", "Goal_end_vs_random_pval", "Goal_end_FDR", "N_Detections", "Sig"]);
  const genes = ofGenes(await wanted({ type: "overexpress", genes: "all" }, "cell", 0, [2, 0], held), 1);
  for (const [, gene, , , shift] of rows) expect(Math.abs(Number(shift) - mean(genes.get(Number(gene)) ?? []))).toBeLessThan(1e-7);
  // The other state as the goal; and the states out of the file.
  await results(["stats", path("shifts"), "--goal", UP, "--out", path("back.csv")]);
  await results(args("again", "--states", `${path("shifts")}/states.safetensors`, "--start", UP, "--goal", DOWN, "--state-column", "type", "--mode", "cell", "--layer", "0", "--type", "overexpress")); // biome-ignore format: one line
  await results(["stats", path("again"), "--out", path("again.csv")]);
  expect(readFileSync(path("again.csv"))).toEqual(readFileSync(path("shifts.csv")));
});

test("genes by symbol, id or from a file, one by one or together; the original's quirks and pickles", async () => {
  expect(await results(args("list", "--genes", `a,${ensembl(5)}`, "--type", "overexpress", "--max-cells", "3"))).toMatchObject({
    cells: 3,
    pairs: 6,
  });
  writeFileSync(path("genes.txt"), "A\nF\n");
  const group = await results(
    args("group", "--genes", path("genes.txt"), "--as", "group", "--type", "overexpress", "--pickles", path("raw")),
  );
  expect(group).toMatchObject({ cells: 3, pairs: 3, pickles: [expect.stringMatching(/_cell_embs_dict_\[4, 9\]_raw\.pickle$/)] });
  await results(["stats", path("group"), "--out", path("group.csv")]);
  await results(["stats", path("raw"), "--dictionary", `${dataset}/dictionary`, "--out", path("raw.csv")]);
  expect(tableOf("group.csv").rows.map((row) => row[2])).toEqual(["A+F", "A+F", "A+F"]);
  expect(readFileSync(path("raw.csv"))).toEqual(readFileSync(path("group.csv")));
  expect(await results(args("quirks", "--type", "overexpress", "--upstream-quirks"))).toMatchObject({ pairs: 7 });
  expect(await results(args("inhibited", "--type", "inhibit", "--by", "2", "--genes", "A"))).toMatchObject({ pairs: 3 });
});

test("an anchor, affected genes, and a null run have their tables", async () => {
  await results(args("anchored", "--anchor", "A"));
  await results(["stats", path("anchored"), "--out", path("anchored.csv")]);
  expect(tableOf("anchored.csv").header.slice(4, 9)).toEqual(["Anchor_shift", "Test_token_shift", "Sum_of_indiv_shifts", "Combo_shift", "Combo_minus_sum_shift"]); // biome-ignore format: one line
  for (const [, , , , anchor, alone, sum, both, beyond] of tableOf("anchored.csv").rows.map((row) => row.map(Number))) {
    expect(sum).toBeCloseTo(anchor + alone - 1, 12);
    expect(beyond).toBeCloseTo(both - sum, 12);
  }
  await results(args("both", "--anchor", "A", "--state-column", "type", "--start", UP, "--goal", DOWN));
  await results(["stats", path("both"), "--out", path("both.csv")]);
  const { header, rows: pairs } = tableOf("both.csv");
  expect(header.slice(4)).toEqual(["Anchor_shift_to_goal_end", "Test_token_shift_to_goal_end", "Sum_of_indiv_shifts", "Combo_shift_to_goal_end", "Combo_minus_sum_shift", "N_Detections"]); // biome-ignore format: one line
  expect(pairs.map((row) => row[2]).sort()).toEqual(["B", "C", "D", "E", "F"]); // D in both cells
  for (const [, , , , anchor, alone, sum, both, beyond] of pairs.map((row) => row.map(Number))) {
    expect(sum).toBeCloseTo(anchor + alone, 12);
    expect(beyond).toBeCloseTo(both - sum, 12);
  }
  expect(pairs.map((row) => Number(row[7]))).toEqual(pairs.map((row) => Number(row[7])).sort((a, b) => b - a));
  await results(args("network", "--affected", "--mode", "cell"));
  await results(["stats", path("network"), "--mode", "aggregate-gene-shifts", "--out", path("network.csv")]);
  const { rows } = tableOf("network.csv");
  expect(rows.slice(0, 6).map((row) => row[4])).toEqual(Array(6).fill("cell_emb"));
  expect(rows.slice(6).every((row) => /^\d+$/.test(row[4]) && row[4] !== row[1])).toBe(true);
  await results(["stats", path("network"), "--mode", "vs-null", "--null", path("deletions"), "--out", path("null.csv")]);
  expect(tableOf("null.csv").rows).toHaveLength(6);
});

test("screening, then verifying: estimates of all, exact passes of some, and what they say of each other", async () => {
  const states = ["--state-column", "type", "--start", UP, "--goal", DOWN];
  const report = await results(args("screened", ...states, "--screen", "--verify", "2"));
  expect(report).toMatchObject({ pairs: 8, genes: 6, points: 2, knots: 8 }); // a random model's ranks are rough
  expect([report.top, report.control].map((genes) => (genes as number[]).length)).toEqual([2, 2]);
  for (const [run, rows] of [
    ["screen", 6],
    ["exact", 4],
  ] as const) {
    // biome-ignore format: one line
    await results(["stats", `${path("screened")}/${run}`, "--out", path(`${run}.csv`)]);
    expect(tableOf(`${run}.csv`).rows).toHaveLength(rows);
    expect(tableOf(`${run}.csv`).rows.every((row) => row[2] !== "")).toBe(true);
  }
  const { stderr } = await geneformer(
    args("screened", ...states, "--screen", "--verify", "2", "--resume", "--points", "2", "--knots", "8"),
  );
  expect(stderr).toMatch(/2 points between them, 8 knots/);
  expect(stderr).toMatch(/Spearman \S+ over the random control/);
  expect(await sentence(args("screened", ...states, "--screen"))).toMatch(/screened\/screen" exists; go on with --resume/);
});

test("cells: filters, the first so many, a slice of the longest; each part of a run shared out", async () => {
  expect(await results(args("filtered", "--filter", `type=${UP}`))).toMatchObject({ cells: 2, pairs: 8 });
  expect(await results(args("first", "--max-cells", "1"))).toMatchObject({ cells: 1, pairs: 3 });
  const parts = [await results(args("part-0", "--slice", "0:1")), await results(args("part-1", "--slice", "1:"))];
  expect(parts.map(({ pairs }) => pairs)).toEqual([5, 5]);
});

test("without a dictionary genes have tokens only, and it says so; --dictionary gives them names", async () => {
  const [bare, nameless] = [await writeToy(path("bare.dataset"), cells, null), await writeRandomModel(path("nameless"), null)];
  const given = ["perturb", bare, "--model", nameless, "--device", "cpu"];
  const { status, stderr } = await geneformer([...given, "--out", path("bare")]);
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(/^genes have no names: neither dataset nor model has a dictionary beside it; give --dictionary$/m);
  const said = await geneformer(["stats", path("bare"), "--out", path("bare.csv")]);
  expect(said.stderr).toMatch(/genes have no names/);
  expect(tableOf("bare.csv").rows[0].slice(2, 4)).toEqual(["", ""]);
  await results(["stats", path("bare"), "--dictionary", `${dataset}/dictionary`, "--out", path("named.csv")]);
  expect(readFileSync(path("named.csv"), "utf8")).not.toMatch(/,,/);
  expect(await sentence([...given, "--genes", "A", "--out", path("refused")])).toMatch(/genes have no names; give --dictionary$/);
});

test("a list gene by gene is no group", async () => {
  await results(args("listed", "--genes", "A,F"));
  expect(await results(["stats", path("listed"), "--out", path("listed.csv")])).toMatchObject({ mode: "mixture-model", rows: 2 });
});

test("what it costs is said before it begins", async () => {
  const { stderr } = await geneformer(args("said"));
  expect(stderr).toMatch(
    /^10 pairs of a gene and a cell in 3 cells: 13 forward passes of 5 tokens, \S+ TFLOP, about \S+ s on cpu, \S+ [KM]B beside the model$/m,
  );
});

test("Ctrl-C says what stays, and the run goes on", async () => {
  const stop = new AbortController();
  const stopped = await geneformer(args("stopped", "--tokens-per-shard", "6", "--tokens-per-batch", "6"), stop.signal, (text) => {
    if (/forward passes/.test(text)) stop.abort();
  });
  expect(stopped.status).toBe(130);
  expect(stopped.stderr).toMatch(/stopped; what is whole in ".*stopped" stays: go on with --resume/);
  expect(await sentence(args("stopped", "--tokens-per-shard", "6", "--tokens-per-batch", "6"))).toMatch(/exists; go on with --resume/);
  await results(args("stopped", "--tokens-per-shard", "6", "--tokens-per-batch", "6", "--resume"));
  await results(["stats", path("stopped"), "--out", path("stopped.csv")]);
  expect(tableOf("stopped.csv").rows.map((row) => row[1])).toEqual(tableOf("impact.csv").rows.map((row) => row[1]));
});

describe("is refused in one sentence, and writes nothing:", () => {
  const refused = async (given: string[], message: string | RegExp) => {
    const before = readdirSync(path("")).sort();
    const said = await sentence(given);
    if (typeof message === "string") expect(said).toContain(message);
    else expect(said).toMatch(message);
    expect(readdirSync(path("")).sort()).toEqual(before);
  };
  const states = ["--state-column", "type", "--start", UP];

  test.each([
    ["an unknown gene, with the nearest", ["--genes", "A,XYZ"], /the dictionary has not "XYZ"/],
    ["a gene in no cell", ["--genes", "K"], "none of the 4 cells has K; leave it out, or choose other cells"],
    ["an anchor in no cell", ["--anchor", "K"], "none of the 4 cells has K"],
    ["a gene named twice", ["--genes", `A,${ensembl(0)}`], "is named twice, or under two names"],
    ["no genes", ["--genes", ","], '"," names none'],
    ["a group of all", ["--as", "group"], "--as group: a group is a list; give --genes"],
    ["an anchor of a group", ["--genes", "A,B", "--as", "group", "--anchor", "C"], "--anchor: pairs are perturbed one after the other"],
    [
      "a state with no cells",
      [...states, "--goal", "sideways"],
      /no cell of ".*" has type "sideways"; there are "up", "down, or "reverse""/,
    ],
    ["a column that is not there", ["--state-column", "disease", "--start", "a", "--goal", "b"], 'has no column "disease"'],
    ["a start without a goal", states, "give --start and --goal"],
    ["a goal without states", ["--goal", "b"], "give the column of the states with --state-column"],
    ["a state twice", [...states, "--goal", UP], "is named twice; start, goal and alternatives are different states"],
    ["filters that leave nothing", ["--filter", "type=none"], /no cell is left after --filter type=none; there were 4/],
    ["a slice beyond the cells", ["--slice", "7:9"], "no cell is left after --slice 7:9"],
    ["screening of affected genes", [...states, "--goal", DOWN, "--screen", "--affected"], "leave --affected to exact runs"],
    [
      "screening of a group",
      [...states, "--goal", DOWN, "--screen", "--genes", "A,B", "--as", "group"],
      "genes are screened one at a time",
    ],
    ["screening of pairs", [...states, "--goal", DOWN, "--screen", "--anchor", "A"], "leave groups and anchors to exact runs"],
    ["a layer that is not there", ["--layer", "-9"], "layer: must be an integer from -2 to 0"],
  ])("%s", (_, more, message) => refused(args("refused", ...more), message));

  test("states of another model's width, of nothing, and of what is no number", async () => {
    const given = (json: unknown) => {
      writeFileSync(path("states.json"), JSON.stringify(json));
      return args("refused", "--states", path("states.json"), "--start", "a", "--goal", "b");
    };
    writeFileSync(path("states.json"), "");
    await refused(given({ a: [1, 2], b: [1, 2] }), /"a" of ".*states\.json" has 2 numbers, but the model is 16 wide/);
    await refused(given({ a: Array(16).fill(1) }), 'has no state "b"; it has a');
    await refused(given({ a: Array(16).fill(1), b: "far" }), '"b" is no list of numbers');
    await refused(given({}), "holds none");
  });

  test("cells with nothing to compare; an output that exists", async () => {
    const lonely = await writeToy(path("lonely.dataset"), [[2, 5, 3]]);
    await refused(
      ["perturb", lonely, "--model", model, "--device", "cpu", "--out", path("refused")],
      "no cell has a gene to perturb, and another one that stays to be compared; choose other genes or cells",
    );
    await refused(args("deletions"), "exists; go on with --resume, begin anew with --force, or choose another name");
    await refused(["stats", path("deletions"), "--out", path("impact.csv")], /impact\.csv" exists; remove it/);
  });

  test("statistics of what has not what they need", async () => {
    const stats = (run: string, ...more: string[]) => ["stats", path(run), "--out", path("refused.csv"), ...more];
    await refused(stats("nowhere"), /nowhere/);
    await refused(stats("deletions", "--mode", "goal-state-shift"), "was run without states");
    await refused(stats("shifts", "--mode", "mixture-model"), "has shifts to states, not cosines");
    await refused(stats("shifts", "--goal", "sideways"), 'has no state "sideways"');
    await refused(stats("deletions", "--mode", "vs-null"), "give the run to compare with, --null");
    await refused(stats("deletions", "--mode", "aggregate-data"), "it is for one gene, or one group");
    await refused(stats("group", "--mode", "mixture-model"), "perturbed one group; take aggregate-data");
  });

  test("a token beyond the vocabulary", async () => {
    const beyond = await writeToy(path("beyond.dataset"), [[2, 16, 5, 3]], null);
    await refused(
      ["perturb", beyond, "--model", model, "--device", "cpu", "--out", path("refused")],
      /^geneformer perturb: token 16 of ".*" is beyond the vocabulary of 16/,
    );
  });
});

test("wrong usage is not silence", async () => {
  for (const [more, message] of [
    [["--type", "explode"], /'explode' is invalid\. Allowed choices are delete, overexpress, inhibit, activate\.\n$/],
    [["--slice", "3"], /two numbers with ":" between them/],
    [["--by", "4"], /from 1 to 3/],
  ] as const) {
    const { status, stderr } = await geneformer(args("refused", ...more));
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  }
});

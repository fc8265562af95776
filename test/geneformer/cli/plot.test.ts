/** `geneformer plot`: pictures of the tables and the folders that other commands write, and what it refuses. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { parquetBytes, tableColumns } from "../../../geneformer/data/parquet.ts";
import { csvLines, type Field } from "../../../geneformer/table.ts";
import { scratch } from "../data/scratch.ts";
import { expectWhole, marks, texts } from "../plot/svg.ts";
import { writeRandomModel, writeToy } from "../toy.ts";
import { geneformer, results, sentence } from "./call.ts";

const path = scratch();
const [UP, DOWN] = ["up", 'down, or "reverse"'];
const write = (name: string, columns: readonly string[], rows: readonly (readonly Field[])[]) => {
  writeFileSync(path(name), [...csvLines(columns, rows)].join(""));
  return path(name);
};
/** Draws, and reads what was drawn. */
const draw = async (...args: string[]) => {
  const out = path(`${args.join("-").replaceAll(/\W+/g, "-").slice(-60)}.svg`);
  const report = await results(["plot", ...args, "--out", out]);
  const svg = readFileSync(out, "utf8");
  expectWhole(svg);
  return { report, svg, seen: texts(svg) };
};
const refused = (...args: string[]) => sentence(["plot", ...args, "--out", path("never.svg")]);

const GOAL = [
  "Gene",
  "Gene_name",
  "Ensembl_ID",
  "Shift_to_goal_end",
  "Shift_to_alt_end_x",
  "Goal_end_FDR",
  "Alt_end_FDR_x",
  "N_Detections",
];
const EFFECTS = ["Gene", "Gene_name", "Ensembl_ID", "Shift", "Shift_low", "Shift_high", "Difference", "FDR", "N_Detections"];
const SHIFTS = "geneformer stats RUN --mode effects";

beforeAll(async () => {
  const cells = [
    [2, 9, 4, 7, 3],
    [2, 5, 6, 3],
    [2, 4, 5, 6, 7, 8, 3],
    [2, 9, 4, 3],
  ];
  await writeToy(path("cells.dataset"), cells);
  await writeRandomModel(path("model"));
  const perturb = (out: string, ...more: string[]) =>
    results(["perturb", path("cells.dataset"), "--model", path("model"), "--device", "cpu", "--mode", "cell", "--out", path(out), ...more]);
  await perturb("cosines", "--affected");
  await perturb("shifts", "--state-column", "type", "--start", UP, "--goal", DOWN);
});

describe("volcano", () => {
  const rows = [
    [4, "A", "ENSG1", 0.5, -0.5, 0.001, 0.9, 20],
    [5, null, "ENSG2", -0.5, 0.1, 0.02, 0.001, 3],
    [6, "C, or <c>", "ENSG3", 0.1, 0.1, 0.9, 0, 1],
  ];

  test("of shifts to the goal, as CSV and as Parquet", async () => {
    const csv = write("goal.csv", GOAL, rows);
    const { report, svg, seen } = await draw("volcano", csv);
    expect(report).toMatchObject({ picture: "volcano", things: 3 });
    for (const text of ["Shifts to the goal", "goal.csv: 3 genes", "toward the goal (1)", "away from it (1)", "not significant (1)"])
      expect(seen).toContain(text);
    for (const name of ["A", "ENSG2", "C, or <c>"]) expect(seen).toContain(name);
    writeFileSync(path("goal.parquet"), await parquetBytes(tableColumns({ columns: GOAL, index: [], rows })));
    const parquet = await draw("volcano", path("goal.parquet"), "--subtitle", "goal.csv: 3 genes");
    expect(parquet.svg).toBe(svg);
  });

  test("of an alternative state, of other columns, of fewer genes, under another title", async () => {
    const csv = write("goal2.csv", GOAL, rows);
    const alternative = await draw("volcano", csv, "--goal", "x");
    for (const text of ["Shifts to x", "toward x (2)", "goal2.csv: 3 genes; 1 with p = 0 as triangles at the top"])
      expect(alternative.seen).toContain(text);
    const named = await draw("volcano", csv, "--column", "effect=Shift_to_alt_end_x", "--column", "p=Alt_end_FDR_x", "--title", "T & T");
    expect(marks(named.svg, "dot", "circle")).toHaveLength(marks(alternative.svg, "dot", "circle").length);
    for (const text of ["T & T", "Shift_to_alt_end_x", "−log10 of Alt_end_FDR_x"]) expect(named.seen).toContain(text);
    const { report, seen } = await draw("volcano", csv, "--min-cells", "2", "--top", "1", "--threshold", "0.01");
    expect(report.things).toBe(2);
    expect(seen).toContain("goal2.csv: 2 genes of at least 2 cells");
    expect(seen.filter((text) => ["A", "ENSG2"].includes(text ?? ""))).toEqual(["A"]);
    expect(seen).toContain("0.01");
  });

  test("of a comparison with a null, without the genes that the null has not; of effects beside matched genes", async () => {
    const columns = ["Gene", "Gene_name", "Ensembl_ID", "Test_vs_null_avg_shift", "Test_vs_null_FDR", "N_Detections_test"];
    const csv = write("null.csv", columns, [[4, "A", "E", -0.1, 0.01, 5], [5, "B", "F", null, 1, 5]]); // biome-ignore format: one line
    const { status, stderr } = await geneformer(["plot", "volcano", csv, "--out", path("null.svg")]);
    expect([status, stderr]).toEqual([
      0,
      `1 of 2 rows are not in the picture: without Test_vs_null_avg_shift or Test_vs_null_FDR\nwrote ${path("null.svg")}\n`,
    ]);
    expect(texts(readFileSync(path("null.svg"), "utf8"))).toContain("more impact than the null (1)");
    const effects = write("e.csv", EFFECTS, [[4, "A", "E", 9, 8, 10, 0.5, 0.01, 5]]);
    expect((await draw("volcano", effects)).seen).toContain("more than matched genes (1)");
  });

  test("of the table that stats writes of a run", async () => {
    await results(["stats", path("shifts"), "--out", path("run.csv")]);
    const { report, seen } = await draw("volcano", path("run.csv"));
    expect(report.things).toBe(6); // the genes of the two cells that are "up"
    expect(seen).toContain("run.csv: 6 genes");
  });

  test("says what a table lacks, and who makes it", async () => {
    const csv = write("bare.csv", ["Gene", "Gene_name", "Cosine"], [[4, "A", 1]]);
    expect(await refused("volcano", csv)).toBe(
      `geneformer plot: "${csv}" has no column "Shift_to_goal_end"; it has Gene, Gene_name, Cosine; make it with geneformer stats RUN --mode goal-state-shift, vs-null or effects, or name a column with --column effect=NAME`,
    );
    const goal = write("goal3.csv", GOAL, rows);
    expect(await refused("volcano", goal, "--goal", "y")).toContain('no column "Shift_to_alt_end_y"');
    expect(await refused("volcano", goal, "--column", "colour=Sig")).toBe(
      'geneformer plot: --column: volcano has no part "colour"; it has name, effect, p, cells',
    );
    expect(await refused("volcano", goal, "--column", "p=Gene_name")).toContain(
      'has "A" in row 0 of column "Gene_name"; --column p takes numbers',
    );
    expect(await refused("volcano", goal, "--min-cells", "21")).toContain("has 3 rows, and none is left: all are");
    expect(await refused("volcano", write("none.csv", GOAL, []))).toContain("has no rows; there is nothing to draw");
    expect(await refused("volcano", write("wrong.csv", GOAL, [[4, "A", "E", 0.5, 0, 7, 0, 1]]))).toContain("p of gene 0 (\"A\") is 7; give one from 0 to 1"); // biome-ignore format: one line
  });
});

describe("shifts", () => {
  test("of a table of effects", async () => {
    const rows = [[4, "A", "E", 1, 0.5, 1.5, 1, 0.01, 20], [5, "B", "F", -1, -2, -0.5, 1, 0.01, 7], [6, "C", "G", 0.5, null, null, null, 1, 1]]; // biome-ignore format: one line
    const { report, seen } = await draw("shifts", write("effects.csv", EFFECTS, rows));
    expect(report.things).toBe(3);
    expect(seen.filter((text) => ["A", "B", "C"].includes(text ?? ""))).toEqual(["A", "C", "B"]);
    for (const text of ["n = 20", "n = 7", "n = 1", "interval above 0", "interval below 0", "no interval"]) expect(seen).toContain(text);
    const { report: fewer } = await draw("shifts", path("effects.csv"), "--min-cells", "7");
    expect(fewer.things).toBe(2);
  });

  test("says that other tables have no intervals", async () => {
    const csv = write("goal4.csv", GOAL, [[4, "A", "E", 0.5, 0, 0.1, 0, 1]]);
    expect(await refused("shifts", csv)).toContain(`has no column "Shift"; it has ${GOAL.join(", ")}; make it with ${SHIFTS}`);
    expect(await refused("shifts", csv, "--column", "effect=Shift_to_goal_end")).toContain(`has no column "Shift_low"`);
  });
});

describe("states", () => {
  test("of a run with states, either way round, with names of the run's dictionary", async () => {
    const { report, svg, seen } = await draw("states", path("shifts"));
    expect(report.things).toBe(6);
    for (const text of [`shift to ${UP}`, `shift to ${DOWN}`, "shifts: 6 genes", "A", "F"]) expect(seen).toContain(text);
    // Turned, what was up is to the right.
    const turned = await draw("states", path("shifts"), "--start", DOWN, "--goal", UP);
    const spread = (of: string, along: string, way: 1 | -1) => {
      const dots = marks(of, "dot", "circle").filter((dot) => dot.getAttribute("fill") !== null);
      const values = dots.map((dot) => way * Number(dot.getAttribute(along))).sort((a, b) => a - b);
      return values.map((value) => (value - values[0]) / (values[5] - values[0]));
    };
    for (const [i, value] of spread(turned.svg, "cx", 1).entries()) expect(value).toBeCloseTo(spread(svg, "cy", -1)[i], 6);
  });

  test("refuses runs without states, states that are none, and folders that are no run", async () => {
    expect(await refused("states", path("cosines"))).toContain("was run without states; give perturb --state-column, --start and --goal");
    expect(await refused("states", path("shifts"), "--goal", "sideways")).toBe(
      `geneformer plot: --goal: "${path("shifts")}" has no state "sideways"; it has "${UP}", "${DOWN}"`,
    );
    expect(await refused("states", path("model"))).toMatch(/model/);
  });
});

describe("network", () => {
  test("of a table of aggregate-gene-shifts, without what is done to cells as a whole", async () => {
    const table = await results(["stats", path("cosines"), "--mode", "aggregate-gene-shifts", "--out", path("network.csv")]);
    const { report, seen } = await draw("network", path("network.csv"), "--top", "4");
    const lines = readFileSync(path("network.csv"), "utf8").trimEnd().split("\n").slice(1);
    const genes = lines.filter((line) => !line.includes("cell_emb"));
    expect(lines).toHaveLength(table.rows as number);
    expect(report.things).toBe(genes.length);
    expect(genes.length).toBeLessThan(lines.length);
    expect(seen.some((text) => text?.startsWith(`network.csv: genes; the 4 strongest of ${genes.length} effects, from `))).toBe(true);
    expect(seen).not.toContain("cell_emb");
    // The strongest effect is the lowest cosine.
    const cosine = (line: string) => Number(line.split(",")[7]);
    const [, , symbol] = genes.sort((a, b) => cosine(a) - cosine(b))[0].split(",");
    expect(seen).toContain(symbol);
  });

  test("tells genes of one symbol apart", async () => {
    const columns = [
      "Perturbed",
      "Gene_name",
      "Ensembl_ID",
      "Affected",
      "Affected_gene_name",
      "Affected_Ensembl_ID",
      "Cosine_sim_mean",
      "N_Detections",
    ];
    const rows = [[4, "P", "E1", 5, "SAME", "E2", 0.5, 3], [4, "P", "E1", 6, "SAME", "E3", 0.6, 3]]; // biome-ignore format: one line
    const { seen } = await draw("network", write("same.csv", columns, rows));
    for (const text of ["P", "SAME (E2)", "SAME (E3)"]) expect(seen).toContain(text);
    expect(await refused("network", write("goal5.csv", GOAL, [[4, "A", "E", 0.5, 0, 0.1, 0, 1]]))).toMatch(
      /no column "Cosine_sim_mean".*aggregate-gene-shifts, of a run of perturb --affected/,
    );
  });
});

describe("the command", () => {
  const csv = () => write("one.csv", GOAL, [[4, "A", "E", 0.5, 0, 0.1, 0, 1]]);

  test("writes PNG, at the scale asked for", async () => {
    const size = (name: string) => {
      const bytes = readFileSync(path(name));
      expect(bytes.subarray(1, 4).toString()).toBe("PNG");
      return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
    };
    await results(["plot", "volcano", csv(), "--out", path("one.png")]);
    await results(["plot", "volcano", csv(), "--scale", "1", "--out", path("small.png")]);
    expect(size("one.png")).toEqual(size("small.png").map((side) => 2 * side));
  });

  test("writes over nothing without --force, and leaves nothing where it fails", async () => {
    await results(["plot", "volcano", csv(), "--out", path("kept.svg")]);
    writeFileSync(path("kept.svg"), "mine");
    expect(await sentence(["plot", "volcano", csv(), "--out", path("kept.svg")])).toContain("kept.svg\" exists; remove it"); // biome-ignore format: one line
    expect(readFileSync(path("kept.svg"), "utf8")).toBe("mine");
    await results(["plot", "volcano", csv(), "--force", "--out", path("kept.svg")]);
    expect(readFileSync(path("kept.svg"), "utf8")).toMatch(/^<svg /);
    expect(await sentence(["plot", "volcano", csv(), "--title", "細胞", "--out", path("never.png")])).toContain("png: no font has 細 胞; give one that does, or write .svg"); // biome-ignore format: one line
    for (const name of ["never.png", "never.svg"]) expect(existsSync(path(name))).toBe(false);
  });

  test("knows its pictures, its endings and its files", async () => {
    const { status, stderr } = await geneformer(["plot", "pie", csv(), "--out", path("never.svg")]);
    expect(status).toBe(2);
    expect(stderr).toContain("volcano, shifts, states, network");
    expect((await geneformer(["plot", "volcano", csv(), "--out", path("never.pdf")])).status).toBe(2);
    expect(await refused("volcano", path("absent.csv"))).toContain('absent.csv" does not exist; check the path');
    expect(await refused("volcano", path("model"))).toContain("is neither .csv nor .parquet; give a table that geneformer stats wrote");
    const { stdout } = await geneformer(["plot", "--help"]);
    expect(stdout.match(/\$ geneformer plot /g)).toHaveLength(2);
  });
});

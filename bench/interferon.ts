/** Does a model find the genes of the interferon response in real cells, or does fold change do it alone? `npm run bench:interferon -- [--save]`. */

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { exists, readJson, writeWhole } from "../geneformer/files.ts";
import {
  auroc,
  editsOf,
  type Geneformer,
  namesOf,
  openCells,
  perturb,
  pretrainDefaults,
  rankSum,
  Sorted,
  spearman,
  stateEmbeddings,
  tokensOf,
  unitsOf,
} from "../geneformer/index.ts";
import { matched, type Presence, presenceOf } from "../geneformer/stats/presence.ts";
import { open } from "../src/device.ts";
import { Key } from "../src/key.ts";
import { bootstrap } from "./truth/bootstrap.ts";
import { meanExpression } from "./truth/expression.ts";
import { INTERFERON_ALPHA, NAMED, RENAMED } from "./truth/hallmark.ts";
import { KANG, kang } from "./truth/kang.ts";
import { small, trained, untrained } from "./truth/model.ts";
import { dots } from "./truth/picture.ts";
import { type Answers, type Figure, save, textTable } from "./truth/report.ts";
import { shifts } from "./truth/shifts.ts";

const { values: options } = parseArgs({ options: { save: { type: "boolean", default: false } } });

/** Chosen before anything was looked at: some ten minutes of two idle cores. */
const TRAINING = { ...pretrainDefaults, steps: 2500, tokensPerBatch: 2048 };
/** Cells that are perturbed, drawn at random; a deletion needs more of them, as not every cell has a gene to lose. */
const CELLS = { overexpress: 12, delete: 40 } as const;
/** Cells that a state's mean embedding is of, at most. */
const STATE_CELLS = 400;
/** Nulls of each gene, and the share of all cells that must have a gene for it to be asked about. */
const [NULLS, SEEN] = [5, 0.01];
/** Log fold changes (natural logs of counts per 10,000) that count as similar. */
const SIMILAR = 0.05;
const FOLDER = fileURLToPath(new URL("../out/interferon", import.meta.url));
const say = (line: string) => console.error(line);

type Kind = keyof typeof CELLS;
const KINDS: Readonly<Record<Kind, { readonly start: string; readonly goal: string }>> = {
  overexpress: { start: "CTRL", goal: "STIM" },
  delete: { start: "STIM", goal: "CTRL" },
};

const { cells, corpus, vocabulary } = await kang(FOLDER);
await open("cpu");
const training = {
  config: small(
    vocabulary.size,
    corpus.lengths.reduce((a, b) => Math.max(a, b), 0),
  ),
  options: TRAINING,
};
const { model, course } = await trained(corpus, vocabulary, training, `${FOLDER}/model`, say);
const models: Record<string, Geneformer> = { trained: model, untrained: untrained(training) };

// The set, in the vocabulary and seen.
const condition = cells.column("condition");
const rowsOf = (state: string) => [...condition.keys()].filter((row) => condition[row] === state);
const presence = presenceOf(Array.from({ length: cells.length }, (_, row) => cells.tokens(row)));
const seen = new Set([...presence.values()].filter(({ rate }) => rate >= SEEN).map(({ gene }) => gene));
const tokenOf = (symbol: string): number[] => {
  for (const name of [symbol, RENAMED.get(symbol) ?? symbol])
    try {
      return tokensOf(vocabulary, [name]);
    } catch {} // not by that name
  return [];
};
const known = INTERFERON_ALPHA.filter((symbol) => tokenOf(symbol).length > 0);
const set = [...new Set(known.flatMap(tokenOf))].filter((token) => seen.has(token));
const named = NAMED.flatMap((symbol) => tokenOf(symbol).map((token) => [symbol, token] as const)).filter(([, token]) => seen.has(token));
const symbols = namesOf(vocabulary);
const foldChange = await foldChanges();

const answers: Answers[] = [];
const pictures: Record<string, string> = {};
for (const kind of ["overexpress", "delete"] as const) await ask(kind);
for (const each of answers) console.log(textTable(each));
const lines = [
  `Cells: Kang et al. 2018 (Nature Biotechnology 36:89), 1,000 without and 1,000 with interferon beta; V1's dictionary restricted to the genes of that file, ${vocabulary.size} tokens. ` +
    `Model: ${training.config.layers} layers of ${training.config.width}, trained on these cells and on pbmc3k, ${corpus.length} cells in all, without labels, ${course.steps} steps of at most ${TRAINING.tokensPerBatch} tokens (${course.epochs.toFixed(1)} readings of each cell, ${(course.seconds / 60).toFixed(0)} minutes), held-out loss ${course.untrained.toFixed(3)} before and ${course.heldOut.toFixed(3)} nats after; how common genes are gives ${course.unigram.toFixed(3)}, rank and gene ${course.rank.toFixed(3)}. The cells perturbed are among those trained on.`,
  `Genes: HALLMARK_INTERFERON_ALPHA_RESPONSE (Liberzon et al. 2015, Cell Systems 1:417; MSigDB, CC BY 4.0), ${INTERFERON_ALPHA.length} genes, ${known.length} in the vocabulary, ${set.length} in ${100 * SEEN} % of the cells or more. ` +
    `Nulls: for each, the ${NULLS} genes outside the set that are nearest in rank and in share of cells, among cells of the start state, none twice. ${NAMED.join(", ")} are looked at by name; IFIT1 and STAT1 are not of the set, and stand among neither group.`,
  "Own place left out: means of a cell without the gene that came in or went, before and after, so that what is left is what became of the other genes. Layer -1, mean over genes. Intervals: 95 %, genes drawn again; p: Wilcoxon's rank sum, two-sided.",
];
console.log(lines.join("\n"));
if (options.save) {
  const title = "Interferon: overexpressions towards, and deletions away from, the stimulated state";
  const settings = {
    training: TRAINING,
    model: training.config,
    course,
    cells: CELLS,
    stateCells: STATE_CELLS,
    nulls: NULLS,
    seen: SEEN,
    similar: SIMILAR,
  };
  for (const file of save("interferon", { title, settings, lines }, answers, pictures)) console.log(`wrote ${file}`);
}
process.exit(0);

interface Mean {
  readonly shift: number;
  readonly others: number;
}

async function ask(kind: Kind): Promise<void> {
  const { start, goal } = KINDS[kind];
  const startRows = rowsOf(start);
  const ofStart = presenceOf(startRows.map((row) => cells.tokens(row)));
  const at = (gene: number): Presence => ofStart.get(gene) ?? { gene, rate: 0, rank: 1 };
  const outside = new Set([...set, ...named.map(([, token]) => token)]);
  const candidates = [...seen].filter((gene) => !outside.has(gene)).map(at);
  const nulls = [...matched(set.map(at), candidates, NULLS).values()].flat();
  const genes = [...new Set([...set, ...named.map(([, token]) => token), ...nulls])];
  const chosen = Array.from(Key.from(0).permutation(startRows.length).subarray(0, CELLS[kind]), (i) => startRows[i]);

  const told = new Map<string, ReadonlyMap<number, Mean>>();
  for (const [name, of] of Object.entries(models)) told.set(name, await meansOf(name, of, kind, genes, chosen, goal));
  const score = (name: string, part: keyof Mean) => (gene: number) => told.get(name)?.get(gene)?.[part] ?? Number.NaN;
  // What stimulated cells have more of takes cells there when it comes in, and back when it goes.
  const byFoldChange = (gene: number) => foldChange.get(gene) ?? Number.NaN;
  const methods: [string, (gene: number) => number][] = [
    ["trained model", score("trained", "shift")],
    ["untrained model", score("untrained", "shift")],
    ["log fold change STIM / CTRL", byFoldChange],
    ["trained model, own place left out", score("trained", "others")],
    ["untrained model, own place left out", score("untrained", "others")],
  ];
  // The same genes for all: those that were perturbed in some cell.
  const has = (gene: number) => !Number.isNaN(score("trained", "shift")(gene)) && !Number.isNaN(byFoldChange(gene));
  const [own, others] = [set.filter(has), nulls.filter(has)];
  const alike = similar(own, others);
  answers.push({
    title: `${kind}, from ${start} to ${goal}`,
    note: `${own.length} genes of the set against ${others.length} matched nulls in ${chosen.length} ${start} cells. AUROC of the set by shift to ${goal} (chance 0.5); Spearman of shifts with the fold change (over all of these genes); AUROC among ${alike.length} pairs of a gene of the set and a null whose log fold changes differ by ${SIMILAR} at most.`,
    columns: ["AUROC", "p", "Spearman with fold change", "AUROC at like fold change"],
    rows: methods.map(([name, of]): Row => {
      const area = bootstrap([own.map(of), others.map(of)], (positives, negatives) => auroc(positives, negatives));
      const { p } = rankSum(new Sorted(own.map(of)), others.map(of));
      const all = [...own, ...others];
      const follows = bootstrap([all], (drawn) => spearman(drawn.map(of), drawn.map(byFoldChange)), { draws: 300 });
      const like = bootstrap([alike], (pairs) =>
        auroc(
          pairs.map(([gene]) => of(gene)),
          pairs.map(([, other]) => of(other)),
        ),
      );
      return [name, area, p, follows, like];
    }),
  });
  const background = [...own, ...others];
  answers.push({
    title: `${kind}: genes by name`,
    note: `The share of the ${background.length} genes above (set and nulls) that score lower, in per cent; "-" where no cell has the gene to lose.`,
    columns: [...named.map(([symbol]) => symbol), "median"],
    rows: methods.map(([name, of]): Row => {
      const all = new Sorted(background.map(of));
      const shares = named.map(([, gene]) => (has(gene) ? (100 * all.around(of(gene))[0]) / background.length : Number.NaN));
      const sorted = shares.filter((share) => !Number.isNaN(share)).sort((a, b) => a - b);
      const median = sorted.length === 0 ? Number.NaN : (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
      return [name, ...[...shares, median].map((share) => (Number.isNaN(share) ? "-" : share.toFixed(0)))];
    }),
  });
  pictures[kind] = await dots(
    background.map((gene) => ({
      x: byFoldChange(gene),
      y: score("trained", "shift")(gene),
      label: set.includes(gene) ? "interferon alpha response" : "",
    })),
    {
      title: `${kind}: shift from ${start} to ${goal}, and fold change`,
      subtitle: "trained model, a dot for each gene",
      axes: ["log fold change STIM / CTRL", `mean shift to ${goal}`],
    },
    "matched nulls",
  );
  const best = [...background].sort((a, b) => score("trained", "shift")(b) - score("trained", "shift")(a)).slice(0, 15);
  say(`${kind}: strongest ${best.map((gene) => symbols.symbol(gene) ?? gene).join(", ")}`);
}

/** Each gene's mean shift over the cells, computed or, where this very model was asked the same, read. The first cell is held against `perturb`. */
async function meansOf(
  name: string,
  of: Geneformer,
  kind: Kind,
  genes: readonly number[],
  rows: readonly number[],
  goal: string,
): Promise<Map<number, Mean>> {
  const about = JSON.stringify({ training, corpus: corpus.fingerprint, cells: cells.fingerprint, genes, rows, goal, STATE_CELLS });
  const path = `${FOLDER}/${name}-${kind}.json`;
  if (await exists(path)) {
    const kept = (await readJson(path)) as { about: string; means: [number, Mean][] };
    if (kept.about === about) return new Map(kept.means);
  }
  say(`${name}, ${kind}: ${genes.length} genes in ${rows.length} cells`);
  const ends = { cls: false, eos: false };
  const measure = { layer: -1, mode: "cell", ends, tokensPerBatch: 8192 } as const;
  const states = await stateEmbeddings(of, cells, "condition", [goal], { ...measure, maxCells: STATE_CELLS });
  const subjects = rows.map((row) => ({ row, tokens: cells.tokens(row) }));
  const sums = new Map<number, { shift: number; others: number; count: number }>();
  const first = new Map<number, number>();
  for await (const { gene, row, shift, others } of shifts(of, subjects, kind, genes, states.get(goal) as Float32Array)) {
    if (row === rows[0]) first.set(gene, shift);
    const sum = sums.get(gene) ?? { shift: 0, others: 0, count: 0 };
    sums.set(gene, { shift: sum.shift + shift, others: sum.others + others, count: sum.count + 1 });
  }
  const cell = Array.from(subjects[0].tokens).slice(0, of.config.length - 1);
  const edits = editsOf(cell, ends, unitsOf(cell, ends, { type: kind, genes }), of.config.length);
  for await (const { edit, effect } of perturb(of, [{ row: rows[0], cell, edits }], { ...measure, states })) {
    const ours = first.get(edit.genes[0]) ?? Number.NaN;
    if (!(Math.abs(ours - effect[0]) < 1e-5))
      throw new Error(`bench: gene ${edit.genes[0]} shifts a cell by ${ours} here but by ${effect[0]} in perturb; the two must agree`);
  }
  const means = new Map([...sums].map(([gene, { shift, others, count }]) => [gene, { shift: shift / count, others: others / count }]));
  await writeWhole(path, JSON.stringify({ about, means: [...means] }));
  return means;
}

/** Mean ln(1 + counts per 10,000) of stimulated cells minus that of the others, by token. */
async function foldChanges(): Promise<Map<number, number>> {
  const file = await openCells(KANG);
  const ids = file.var.column("ensembl_id").values;
  const states = file.obs.column("condition").values;
  const means = ["CTRL", "STIM"].map(() => new Float64Array(file.genes));
  for (const { start, rows, indptr, indices, data } of file.chunks())
    for (const [s, state] of ["CTRL", "STIM"].entries()) {
      const own = Array.from({ length: rows }, (_, r) => r).filter((r) => states[start + r] === state);
      const mean = meanExpression({ data, indices, indptr }, file.genes, own);
      const all = states.filter((each) => each === state).length;
      for (const [gene, value] of mean.entries()) if (own.length > 0) means[s][gene] += (value * own.length) / all;
    }
  file.close();
  return new Map(
    ids.flatMap((id, column) => {
      const token = vocabulary.tokens.get(vocabulary.mapping.get(String(id)) ?? "");
      return token === undefined ? [] : [[token, means[1][column] - means[0][column]] as const];
    }),
  );
}

/** Each gene of the set with a null of nearly its fold change, none twice; genes without one are left out. */
function similar(own: readonly number[], others: readonly number[]): [number, number][] {
  const free = new Set(others);
  const change = (gene: number) => foldChange.get(gene) ?? Number.NaN;
  return own.flatMap((gene) => {
    const [nearest] = [...free].sort((a, b) => Math.abs(change(a) - change(gene)) - Math.abs(change(b) - change(gene)));
    if (nearest === undefined || !(Math.abs(change(nearest) - change(gene)) <= SIMILAR)) return [];
    free.delete(nearest);
    return [[gene, nearest] as [number, number]];
  });
}

type Row = readonly [method: string, ...figures: Figure[]];

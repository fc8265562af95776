/** Do predicted effects agree with true ones? Cells of a network that we know, and a model pretrained on them: `npm run bench:truth -- [--save]`. */

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { regulatorsOf } from "../geneformer/effects.ts";
import { exists, readJson, remove, writeWhole } from "../geneformer/files.ts";
import { type Dataset, type Geneformer, pretrainDefaults, simulate, smoothness, stateEmbeddings } from "../geneformer/index.ts";
import { matched, presenceOf } from "../geneformer/stats/presence.ts";
import { open } from "../src/device.ts";
import { direction, displacement, impact, movedBy, movedMoreBy, type Shift, targets, trueChange } from "./truth/answers.ts";
import { meanOf } from "./truth/bootstrap.ts";
import { correlations, meanExpression } from "./truth/expression.ts";
import { dataset, small, trained, untrained } from "./truth/model.ts";
import { dots } from "./truth/picture.ts";
import { ENDS, frozen, KINDS, type Kind, type Predicted, predict, thawed, truths } from "./truth/predicted.ts";
import { type Answers, type Figure, save, textTable } from "./truth/report.ts";

const { values: options } = parseArgs({ options: { save: { type: "boolean", default: false } } });

/**
 * Factors are seen in a third of the cells or more, and two cores train in some 40 minutes. Chosen before anything was looked at, but for the numbers of cells
 * and steps: five times those of a first run, whose model answered for ranks alone (bench/LOG.md).
 */
const SIMULATION = { cells: 15_000, genes: 600, types: 4, depth: 3600, seed: 0 };
const TRAINING = { ...pretrainDefaults, steps: 25_000, tokensPerBatch: 1024 };
/** Cells of each type that are perturbed, and cells that a type's mean embedding is of. */
const [CELLS, STATE_CELLS] = [8, 200];
/** A method that orders genes and says nothing of directions. */
const UNSIGNED = "mean expression in the start type";
/** A gene has truly changed whose level is at least 7 % off: 2^0.1. */
const CHANGED = 0.1;
const FOLDER = fileURLToPath(new URL("../out/truth", import.meta.url));
const say = (line: string) => console.error(line);

const cells = await prepared();
const vocabulary = await cells.vocabulary();
if (!vocabulary) throw new Error(`bench: "${FOLDER}/cells.dataset" has no dictionary; remove it`);
const simulation = await simulate(SIMULATION);
const { network, counts } = simulation;
const places = new Map(network.genes.map(({ ensembl }, place) => [vocabulary.tokens.get(ensembl) ?? -1, place]));
const tokens = new Map([...places].map(([token, place]) => [place, token]));
const placeOf = (token: number) => places.get(token) ?? -1;
const names = network.types.map(({ name }) => name);

await open("cpu");
const longest = cells.lengths.reduce((a, b) => Math.max(a, b), 0);
const training = { config: small(vocabulary.size, longest), options: TRAINING };
const { model, course } = await trained(cells, vocabulary, training, `${FOLDER}/model`, say);
const models: Record<string, Geneformer> = { trained: model, untrained: untrained(training) };

// Who is perturbed, in which cells.
const rows = names.flatMap((_, type) => Array.from({ length: CELLS }, (_, i) => i * names.length + type));
const presence = presenceOf(Array.from({ length: cells.length }, (_, row) => cells.tokens(row)));
const at = (gene: number) => presence.get(tokens.get(gene) ?? -1);
const regulators = regulatorsOf(network).filter((gene) => at(gene));
const others = [...network.genes.keys()].filter((gene) => !regulators.includes(gene));
const present = (genes: readonly number[]) => genes.flatMap((gene) => at(gene) ?? []);
const nulls = [...matched(present(regulators), present(others), 1).values()].flat().map(placeOf);
say(`${regulators.length} regulators and ${nulls.length} other genes in ${rows.length} cells`);
const truth = truths(SIMULATION, rows, SIMULATION.cells);
const expressed = names.map((_, type) =>
  meanExpression(
    counts,
    network.genes.length,
    Array.from({ length: Math.floor((SIMULATION.cells - type + names.length - 1) / names.length) }, (_, i) => i * names.length + type),
  ),
);
const overall = expressed[0].map((_, gene) => meanOf(expressed.map((of) => of[gene])));
const together = correlations(counts, network.genes.length, [...regulators, ...nulls]);

const answers: Answers[] = [];
let picture = "";
for (const kind of Object.keys(KINDS) as Kind[]) await ask(kind);
for (const each of answers) console.log(textTable(each));

const lines = [
  `Simulated: ${SIMULATION.cells} cells of ${SIMULATION.types} types, ${SIMULATION.genes} genes, depth ${SIMULATION.depth}, seed ${SIMULATION.seed}; ${regulators.length} regulators. ` +
    `Model: ${training.config.layers} layers of ${training.config.width}, ${course.steps} steps of at most ${TRAINING.tokensPerBatch} tokens (${course.epochs.toFixed(1)} readings of each cell, ${(course.seconds / 60).toFixed(0)} minutes), held-out loss ${course.untrained.toFixed(3)} before and ${course.heldOut.toFixed(3)} nats after; how common genes are gives ${course.unigram.toFixed(3)}, rank and gene ${course.rank.toFixed(3)}.`,
  `Cosine of position embeddings of neighbouring ranks: trained ${(await smoothness(models.trained, longest)).toFixed(3)}, untrained ${(await smoothness(models.untrained, longest)).toFixed(3)}; near 0, a gene that is displaced by one rank changes as if it stood anywhere else.`,
  `Perturbed: every regulator and as many other genes, matched by rank and by how many cells have them, in ${CELLS} cells of each type, which the model was trained on, without labels. ` +
    "Layer -1, mean over genes. The truth is of the same cells, expressed again by the simulation, before sequencing. Intervals: 95 %, regulators drawn again.",
];
console.log(lines.join("\n"));
if (options.save) {
  const title = "Predicted and true effects of perturbations, on simulated cells";
  const settings = { simulation: SIMULATION, training: TRAINING, model: training.config, course, cellsPerType: CELLS, changed: CHANGED };
  for (const file of save("truth", { title, settings, lines }, answers, { effects: picture })) console.log(`wrote ${file}`);
}
process.exit(0);

/** The three questions, of deletions or of overexpressions. */
async function ask(kind: Kind): Promise<void> {
  const predictions = new Map<string, Predicted>();
  for (const [name, of] of Object.entries(models)) predictions.set(name, await predicted(name, of, kind));
  const ofKind = truth.get(KINDS[kind]) ?? new Map();
  const perturbedIn = (gene: number) => predictions.get("trained")?.cells.get(gene) ?? [];
  const asked = regulators.filter((gene) => perturbedIn(gene).length > 0);
  const changes = new Map(
    asked.map((gene) => [
      gene,
      trueChange(
        ofKind,
        gene,
        perturbedIn(gene).map(({ row }) => row),
      ),
    ]),
  );

  // 1. Which genes does it reach?
  const ofTrained = predictions.get("trained") as Predicted;
  const trainedScore = movedBy(ofTrained.moved);
  const pairScores: [string, (perturbed: number, affected: number) => number][] = [
    ...[...predictions].flatMap(([name, of]): typeof pairScores => [
      [`${name} model`, movedBy(of.moved)],
      [`${name} model, beside the average perturbation`, movedMoreBy(of.moved)],
    ]),
    ["co-expression, absolute Pearson", (a, b) => Math.abs(together.get(a)?.[b] ?? Number.NaN) || 0],
    ["mean expression of the target", (_, b) => overall[b]],
  ];
  const reached = pairScores.map(([name, score]) => ({ name, ...targets(score, changes, trainedScore, CHANGED) }));
  answers.push({
    title: `${kind}: which genes does it reach?`,
    note: `Over the genes of a cell, for each of ${reached[0].regulators} regulators, then their mean: Spearman of predicted |effect| and true |log2 fold change| (chance 0), and AUROC of genes truly changed by ${CHANGED} or more (chance 0.5).`,
    columns: ["Spearman", "AUROC of changed genes"],
    rows: reached.map(({ name, spearman, auroc }): Row => [name, spearman, auroc]),
  });

  const kept: typeof pairScores = [
    ...[...predictions].map(([name, of]): (typeof pairScores)[number] => [`${name} model`, movedBy(of.still)]),
    ...pairScores.slice(-2),
  ];
  const unmoved = kept.map(([name, score]) => ({ name, ...targets(score, changes, movedBy(ofTrained.still), CHANGED) }));
  const apart = [...predictions].map(([name, of]) => [name, displacement(of)] as const);
  answers.push({
    title: `${kind}: which genes does it reach, of those that keep their rank?`,
    note:
      `The same over those genes alone whose rank the perturbation leaves as it was (${unmoved[0].regulators} regulators). Mean 1 - cosine of genes that keep their rank, and of those that are displaced by one: ` +
      `${apart.map(([name, { stayed, displaced }]) => `${name} ${stayed.toExponential(1)} and ${displaced.toExponential(1)}`).join(", ")}. Added after the first run, to see why trained and untrained are alike.`,
    columns: ["Spearman", "AUROC of changed genes"],
    rows: unmoved.map(({ name, spearman, auroc }): Row => [name, spearman, auroc]),
  });

  // 2. Who is a regulator?
  const size = (gene: number) =>
    meanOf([...(changes.get(gene) ?? [])].flatMap((change, other) => (other === gene ? [] : Math.abs(change))));
  const connected = (gene: number) => meanOf([...(together.get(gene) ?? [])].flatMap((r, other) => (other === gene ? [] : Math.abs(r))));
  const cellEffect = (of: Predicted) => (gene: number) => meanOf((of.cells.get(gene) ?? []).map(({ effect }) => effect));
  const geneScores: [string, (gene: number) => number][] = [
    ...[...predictions].map(([name, of]): [string, (gene: number) => number] => [`${name} model`, cellEffect(of)]),
    ["co-expression, mean absolute Pearson", connected],
    ["mean expression", (gene) => overall[gene]],
  ];
  const [own, matchedNulls] = [asked, nulls.filter((gene) => perturbedIn(gene).length > 0)];
  answers.push({
    title: `${kind}: who regulates?`,
    note: `By the effect on the whole cell: AUROC of ${own.length} regulators against ${matchedNulls.length} matched genes that regulate nothing (chance 0.5); Spearman over the regulators with the true size of their effect, the mean |log2 fold change| of all other genes (chance 0).`,
    columns: ["AUROC of regulators", "Spearman with true size"],
    rows: geneScores.map(([name, score]): Row => {
      const { auroc, spearman } = impact(score, own, matchedNulls, size);
      return [name, auroc, spearman];
    }),
  });

  // 3. Where does it move cells?
  const typeOf = (row: number) => row % names.length;
  const way = kind === "delete" ? -1 : 1;
  type Told = (gene: number, start: number, goal: number) => number;
  const told: [string, Told][] = [
    ...[...predictions].map(([name, of]): [string, Told] => [
      `${name} model`,
      (gene, start, goal) =>
        meanOf((of.cells.get(gene) ?? []).filter(({ row }) => typeOf(row) === start).map(({ shifts }) => shifts[goal])),
    ]),
    ["fold change between the types", (gene, start, goal) => way * (expressed[goal][gene] - expressed[start][gene])],
    [UNSIGNED, (gene, start) => expressed[start][gene]],
  ];
  const shiftsOf = (score: Told, whole: boolean): Shift[] =>
    asked.flatMap((gene) =>
      names.flatMap((_, start) =>
        names.flatMap((_, goal): Shift[] => {
          const rows = perturbedIn(gene).flatMap(({ row }) => (typeOf(row) === start ? row : []));
          if (start === goal || rows.length === 0) return [];
          const shifts = rows
            .map((row) => ofKind.get(gene)?.get(row))
            .map((each) => (whole ? each?.shifts : each?.withoutOwn)?.[goal] ?? Number.NaN);
          return [{ regulator: gene, pair: `${start} ${goal}`, predicted: score(gene, start, goal), truth: meanOf(shifts) }];
        }),
      ),
    );
  const moved = told.map(([name, score]) => ({ name, whole: direction(shiftsOf(score, true)), rest: direction(shiftsOf(score, false)) }));
  answers.push({
    title: `${kind}: where does it move cells?`,
    note: `${moved[0].whole.shifts} shifts of ${asked.length} regulators between ${names.length * (names.length - 1)} ordered pairs of types: Spearman with the true shift over the regulators, and the share of right directions, means over pairs. In the last two columns the truth is without the perturbed gene's own level, which no more than says where it is a marker.`,
    columns: ["Spearman", "right directions", "Spearman, own level left out", "right directions, own level left out"],
    rows: moved.map(({ name, whole, rest }): Row => {
      const signs = ({ signs }: typeof whole) => (name === UNSIGNED ? "-" : signs); // a level has no direction
      return [name, whole.spearman, signs(whole), rest.spearman, signs(rest)];
    }),
  });

  if (kind === "delete") {
    const points = asked.flatMap((gene) =>
      [...(changes.get(gene) ?? [])].flatMap((change, other) => {
        const score = trainedScore(gene, other);
        if (other === gene || change === 0 || Number.isNaN(score)) return [];
        const direct = network.edges[other].some(({ regulator }) => regulator === gene);
        return [{ x: score, y: Math.abs(change), label: direct ? "direct targets" : "at second hand" }];
      }),
    );
    picture = await dots(
      points,
      {
        title: "Deleted regulators: predicted and true effects on genes",
        subtitle: "trained model; every gene that a regulator truly reaches. At the right, genes displaced by one rank",
        axes: ["predicted: 1 - cosine", "true: |log2 fold change|"],
      },
      "",
      { x: "log", y: "log" },
    );
  }
}

/** The simulated cells, tokenized, by the commands that anyone would use; made anew where settings differ. */
async function prepared(): Promise<Dataset> {
  const settings = `${JSON.stringify(SIMULATION)}\n`;
  const kept = `${FOLDER}/settings.json`;
  if (!(await exists(kept)) || `${JSON.stringify(await readJson(kept))}\n` !== settings) {
    await remove(FOLDER);
    const cli = fileURLToPath(new URL("../geneformer/cli.ts", import.meta.url));
    const run = (...args: string[]) =>
      execFileSync(process.execPath, ["--import", "tsx", cli, ...args], { stdio: ["ignore", "ignore", "inherit"] });
    const { cells, genes, types, depth, seed } = SIMULATION;
    const sizes = Object.entries({ cells, genes, types, depth, seed }).flatMap(([name, value]) => [`--${name}`, String(value)]);
    run("simulate", ...sizes, "--out", `${FOLDER}/cells.h5ad`);
    run("dictionary", `${FOLDER}/cells.h5ad`, "--model-version", "V1", "--out", `${FOLDER}/dictionary`);
    run(
      "tokenize",
      `${FOLDER}/cells.h5ad`,
      "--dictionary",
      `${FOLDER}/dictionary`,
      "--attr",
      "cell_type:cell_type",
      "--out",
      `${FOLDER}/cells.dataset`,
    );
    await writeWhole(kept, settings);
  }
  return dataset(`${FOLDER}/cells.dataset`, () => Promise.reject(new Error(`bench: remove "${FOLDER}" and begin anew`)));
}

/** A model's predictions, computed or, where this very model made them already, read. */
async function predicted(name: string, of: Geneformer, kind: Kind): Promise<Predicted> {
  const about = JSON.stringify({ training, fingerprint: cells.fingerprint, rows, perturbed: [...regulators, ...nulls], STATE_CELLS });
  const path = `${FOLDER}/${name}-${kind}.json`;
  if (await exists(path)) {
    const kept = (await readJson(path)) as { about: string; predicted: unknown };
    if (kept.about === about) return thawed(kept.predicted);
  }
  say(`${name}, ${kind}: perturbing`);
  const states = await stateEmbeddings(of, cells, "cell_type", names, {
    layer: -1,
    mode: "cell",
    ends: ENDS,
    tokensPerBatch: 8192,
    maxCells: STATE_CELLS,
  });
  const perturbed = [...regulators, ...nulls].map((gene) => tokens.get(gene) ?? -1);
  const made = await predict(of, cells, { rows, tokens: perturbed, kind, states }, placeOf, network.genes.length);
  await writeWhole(path, JSON.stringify({ about, predicted: frozen(made) }));
  return made;
}

type Row = readonly [method: string, ...figures: Figure[]];

/**
 * Geneformer: what it is for.
 * @module geneformer-ts/geneformer
 */

export * from "./baselines.ts";
export * from "./checkpoint.ts";
export * from "./config.ts";
export * from "./data/batches.ts";
export {
  type Batch,
  type Cell,
  type Dataset,
  type DatasetOptions,
  type Dtype,
  type Field,
  readDataset,
  writeDataset,
} from "./data/dataset.ts";
export { buildDictionary, type DictionaryOptions } from "./data/dictionary.ts";
export { type Cells, type Chunk, type Column, type Frame, openCells, writeCells } from "./data/h5ad.ts";
export type { CellTable, Columns, SparseRows } from "./data/h5write.ts";
export type { Numbers } from "./data/hdf5.ts";
export { type Names, namesOf, tokensOf } from "./data/names.ts";
export type { Cursor } from "./data/order.ts";
export { type TokenizeOptions, type TokenizeReport, tokenize } from "./data/tokenizer.ts";
export { readVocabulary, type Vocabulary, writeVocabulary } from "./data/vocabulary.ts";
export * from "./effects.ts";
export * from "./embed.ts";
export type { WriteOptions } from "./files.ts";
export type { Gene, Lineage } from "./genes.ts";
export * from "./inspect.ts";
export * from "./masking.ts";
export * from "./model.ts";
export type { Edit, Move, PerturbationType, Quartiles } from "./perturb/edit.ts";
export { type Estimate, type Measure, type Outcome, perturb, type Subject } from "./perturb/exact.ts";
export { editsOf, type Perturbation, type Unit, unitsOf } from "./perturb/plan.ts";
export { type Effects, type Results, type RunPairs, readPairs, readResults, writePickles } from "./perturb/results.ts";
export {
  type Cells as CellsToPerturb,
  type Plan,
  planOf,
  type Run,
  type RunOptions as PerturbationRunOptions,
  readRun,
  runPerturbation,
} from "./perturb/run.ts";
export { type ScreenOptions, screen } from "./perturb/screen.ts";
export { readStates, type StateOptions, stateEmbeddings, writeStates } from "./perturb/states.ts";
export { type Action, type Round, type Step, type TreatOptions, type Trial, treat } from "./perturb/treat.ts";
export { recallOf, screenAndVerify, smoothness, type Verification, type VerifyOptions } from "./perturb/verify.ts";
export * from "./plot.ts";
export * from "./pretrain.ts";
export * from "./run.ts";
export {
  describeNetwork,
  type Edge,
  type Network,
  regulatoryNetwork,
  type SimulateOptions,
  type Simulation,
  simulate,
} from "./simulate.ts";
export { type EffectOptions, matchedEffects, type Pairs } from "./stats/effects.ts";
export { falseDiscoveryRates, rankSum, Sorted, spearman } from "./stats/ranks.ts";
export { type Interval, intervals, type Statistic, signFlips } from "./stats/resample.ts";
export { auroc } from "./stats/roc.ts";
export {
  aggregateData,
  aggregateGeneShifts,
  combinationShifts,
  combinations,
  type GeneShifts,
  goalStateShift,
  groupStateShift,
  Moments,
  mixtureModel,
  type Shifts,
  type Triples,
  versusNull,
} from "./stats/tables.ts";
export type { Table } from "./table.ts";

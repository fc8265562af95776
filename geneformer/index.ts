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
export type { Cursor } from "./data/order.ts";
export { type TokenizeOptions, type TokenizeReport, tokenize } from "./data/tokenizer.ts";
export { readVocabulary, type Vocabulary, writeVocabulary } from "./data/vocabulary.ts";
export * from "./embed.ts";
export type { WriteOptions } from "./files.ts";
export type { Gene, Lineage } from "./genes.ts";
export * from "./inspect.ts";
export * from "./masking.ts";
export * from "./model.ts";
export * from "./perturb.ts";
export * from "./plot.ts";
export * from "./pretrain.ts";
export * from "./run.ts";
export * from "./simulate.ts";

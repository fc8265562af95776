/** Geneformer: what it is for. */

export * from "./baselines.ts";
export * from "./checkpoint.ts";
export * from "./config.ts";
export * from "./data/batches.ts";
export { type Dataset, readDataset, writeDataset } from "./data/dataset.ts";
export { buildDictionary } from "./data/dictionary.ts";
export { type Cells, openCells, writeCells } from "./data/h5ad.ts";
export { tokenize } from "./data/tokenizer.ts";
export { readVocabulary, type Vocabulary, writeVocabulary } from "./data/vocabulary.ts";
export * from "./embed.ts";
export * from "./inspect.ts";
export * from "./masking.ts";
export * from "./model.ts";
export * from "./perturb.ts";
export * from "./plot.ts";
export * from "./pretrain.ts";
export * from "./run.ts";
export * from "./simulate.ts";

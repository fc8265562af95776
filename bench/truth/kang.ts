/** Real cells with a known cause: peripheral blood before and after interferon beta (Kang et al. 2018), tokenized beside others to train on. */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isSpecial, makeVocabulary, SPECIAL } from "../../geneformer/data/vocabulary.ts";
import { type Dataset, openCells, readVocabulary, tokenize, type Vocabulary } from "../../geneformer/index.ts";
import { dataset } from "./model.ts";

const shared = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
export const KANG = `${shared}cells/kang_ifnb.h5ad`;
const [PBMC, V1] = [`${shared}cells/pbmc3k.h5ad`, `${shared}dictionaries/v1`];
/** Places of a cell: three quarters of Kang's cells have no more genes. The lowest ranks of the others are cropped. */
const PLACES = 640;

/** A vocabulary with fewer genes, numbered anew in the same order: its head is that much smaller to train. @param keep Ensembl ids. */
export function restricted({ tokens, medians, mapping, names }: Vocabulary, keep: ReadonlySet<string>): Vocabulary {
  const words = [...tokens].sort(([, a], [, b]) => a - b).map(([word]) => word);
  const special = SPECIAL.filter((word) => tokens.has(word));
  const genes = words.filter((word) => !isSpecial(word) && keep.has(word));
  const kept = new Set(genes);
  return makeVocabulary({
    tokens: new Map([...special, ...genes].map((word, token) => [word, token])),
    medians: new Map([...medians].filter(([id]) => kept.has(id))),
    mapping: new Map([...mapping].filter(([, id]) => kept.has(id))),
    names: new Map([...names].filter(([id]) => kept.has(id))),
  });
}

/**
 * Kang's cells with their conditions, and the same beside pbmc3k's, to pretrain on: V1's dictionary, restricted to the genes of Kang's file.
 * @throws Error where the shared data are absent.
 */
export async function kang(out: string): Promise<{ readonly cells: Dataset; readonly corpus: Dataset; readonly vocabulary: Vocabulary }> {
  const missing = [KANG, PBMC, V1].find((path) => !existsSync(path));
  if (missing) throw new Error(`bench: "${missing}" is not there; this bench reads real cells that lie beside a checkout of ours`);
  const whole = await readVocabulary(V1);
  const file = await openCells(KANG);
  const ids = new Set(file.var.column("ensembl_id").values.map((id) => whole.mapping.get(String(id)) ?? ""));
  file.close();
  const vocabulary = restricted(whole, ids);
  const made = (name: string, inputs: string[], attributes: [string, string][]) =>
    dataset(`${out}/${name}.dataset`, () =>
      tokenize({ inputs, vocabulary, out: `${out}/${name}.dataset`, attributes: new Map(attributes), modelInputSize: PLACES }),
    );
  return {
    cells: await made("kang", [KANG], [["condition", "condition"]]),
    corpus: await made("corpus", [KANG, PBMC], []),
    vocabulary,
  };
}

/** Writes counts and their tables as an .h5ad that anndata, scanpy and our own reader open. */

import { replaceWhole, type WriteOptions } from "../files.ts";
import { createHdf5, datasetAt, type Group, guard } from "./hdf5.ts";

/** A column: text, integers or floats (booleans as integers 0 and 1). */
export type Values = readonly string[] | Int32Array | Float32Array | Float64Array;
/** Columns by name. */
export type Columns = ReadonlyMap<string, Values>;

/** What an .h5ad holds: counts as CSR, in one piece or as an iterable of pieces (each with its own `indptr` from 0), and two tables. */
export interface CellTable {
  readonly X: SparseRows | Iterable<SparseRows>;
  readonly obs: { readonly index: readonly string[]; readonly columns?: Columns };
  readonly var: { readonly index: readonly string[]; readonly columns?: Columns };
  /** "gzip" (the default) or none. */
  readonly compression?: "gzip" | "none";
}

/** Some cells as CSR: cell r has entries [indptr[r], indptr[r + 1]). */
export interface SparseRows {
  readonly indptr: ArrayLike<number>;
  readonly indices: Int32Array;
  readonly data: Float32Array | Int32Array;
}

/** Elements per HDF5 chunk, and gzip level 4, as h5py's `compression="gzip"`. */
const CHUNK = 2 ** 16;
const LEVEL = 4;

/**
 * Writes an .h5ad (AnnData on-disk format 0.1.0), whole or not at all.
 * @throws RangeError where lengths disagree or an index lies outside the genes.
 */
export async function writeCells(path: string, table: CellTable, options: WriteOptions = { force: true }): Promise<void> {
  await replaceWhole(
    path,
    async (temporary) => {
      const file = await createHdf5(temporary);
      try {
        guard(path, () => {
          encode(file, "anndata", "0.1.0");
          writeMatrix(file.create_group("X"), table);
          writeFrame(file.create_group("obs"), table.obs, "obs", table);
          writeFrame(file.create_group("var"), table.var, "var", table);
          for (const name of ["layers", "obsm", "obsp", "uns", "varm", "varp"]) encode(file.create_group(name), "dict", "0.1.0");
        });
      } finally {
        file.close();
      }
    },
    options,
  );
}

function encode(entity: Pick<Group, "create_attribute">, type: string, version: string): void {
  entity.create_attribute("encoding-type", type);
  entity.create_attribute("encoding-version", version);
}

function writeMatrix(group: Group, { X, obs, var: genes, compression = "gzip" }: CellTable): void {
  const packing = compression === "gzip" ? { compression: "gzip" as const, compression_opts: LEVEL } : {};
  const cells = obs.index.length;
  const indptr = [0];
  let stored = 0;
  for (const piece of Symbol.iterator in X ? X : [X]) {
    const rows = piece.indptr.length - 1;
    if (rows < 0 || piece.indptr[0] !== 0 || piece.indptr[rows] !== piece.data.length || piece.indices.length !== piece.data.length) {
      throw new RangeError(
        `writeCells(X): indptr ends at ${piece.indptr[rows]} with ${piece.indices.length} indices and ${piece.data.length} values; they must agree`,
      );
    }
    for (let r = 1; r <= rows; r++) indptr.push(stored + piece.indptr[r]!);
    for (const index of piece.indices) {
      if (!(index >= 0 && index < genes.index.length))
        throw new RangeError(`writeCells(X): index ${index} outside ${genes.index.length} genes`);
    }
    for (const name of ["data", "indices"] as const) {
      const dataset =
        datasetAt(group, name) ??
        group.create_dataset({ name, data: piece[name].subarray(0, 0), shape: [0], maxshape: [null], chunks: [CHUNK], ...packing });
      if (piece[name].length === 0) continue;
      dataset.resize([stored + piece[name].length]);
      dataset.write_slice([[stored, stored + piece[name].length]], piece[name]);
    }
    stored += piece.data.length;
  }
  if (indptr.length !== cells + 1) throw new RangeError(`writeCells(X): ${indptr.length - 1} rows of counts but ${cells} cells in obs`);
  const starts = stored < 2 ** 31 ? Int32Array.from(indptr) : BigInt64Array.from(indptr, BigInt);
  group.create_dataset({ name: "indptr", data: starts, chunks: [starts.length], ...packing });
  encode(group, "csr_matrix", "0.1.0");
  group.create_attribute("shape", BigInt64Array.of(BigInt(cells), BigInt(genes.index.length)));
}

function writeFrame(
  group: Group,
  { index, columns = new Map() }: CellTable["obs"],
  where: string,
  { compression = "gzip" }: CellTable,
): void {
  const write = (name: string, values: Values) => {
    if (values.length !== index.length) {
      throw new RangeError(`writeCells(${where}): column "${name}" has ${values.length} values for ${index.length} rows`);
    }
    if (name.includes("/") || name === "" || (name === "_index" && values !== index)) {
      throw new RangeError(`writeCells(${where}): a column may not be named "${name}"`);
    }
    if (ArrayBuffer.isView(values)) {
      const packing = compression === "gzip" && values.length > 0 ? { chunks: [values.length], compression } : {};
      encode(group.create_dataset({ name, data: values, ...packing }), "array", "0.2.0");
    } else {
      encode(group.create_dataset({ name, data: [...values], dtype: "S", shape: [values.length] }), "string-array", "0.2.0");
    }
  };
  write("_index", index);
  for (const [name, values] of columns) write(name, values);
  encode(group, "dataframe", "0.2.0");
  group.create_attribute("_index", "_index");
  const names = [...columns.keys()];
  if (names.length > 0) group.create_attribute("column-order", names);
  else group.create_attribute("column-order", new Float64Array(0), [0]); // what h5py writes for an empty list
}

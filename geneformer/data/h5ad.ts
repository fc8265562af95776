/** AnnData files (.h5ad): the columns of cells and genes, and the counts in chunks of cells, whatever way they are stored. */

import {
  attribute,
  type Dataset,
  datasetAt,
  type Group,
  groupAt,
  guard,
  type Hdf5File,
  kindOf,
  type Numbers,
  nameOf,
  numbers,
  openHdf5,
  strings,
} from "./hdf5.ts";

export { writeCells } from "./h5write.ts";

/** A run of cells as CSR: cell `start + r` has entries [indptr[r], indptr[r + 1]) of `indices` (gene columns, any order) and `data`. */
export interface Chunk {
  readonly start: number;
  readonly rows: number;
  readonly indptr: Float64Array;
  readonly indices: Numbers;
  readonly data: Numbers;
}

/** One column: missing values are null. `single` says that a float was stored in 32 bits. */
export interface Column {
  readonly kind: "string" | "int" | "float" | "bool";
  readonly single: boolean;
  readonly values: readonly (string | number | boolean | null)[];
}

/** The columns of the cells (`obs`) or of the genes (`var`). */
export interface Frame {
  readonly rows: number;
  readonly names: readonly string[];
  /** Names of the cells or genes. */
  index(): readonly string[];
  /** @throws Error that lists the columns there are. */
  column(name: string): Column;
}

/** An open .h5ad. */
export interface Cells {
  readonly path: string;
  readonly cells: number;
  readonly genes: number;
  readonly obs: Frame;
  readonly var: Frame;
  /** Whether counts are stored as 32-bit floats. */
  readonly single: boolean;
  /** The cells in order, at most `rows` of them at a time, fewer where they are rich. Checks what it reads. */
  chunks(rows?: number): Generator<Chunk>;
  close(): void;
}

/** Numbers per chunk at most (a chunk of one cell excepted): 4 Mi of them keep indices and data at some 32 MiB. */
const BLOCK = 2 ** 22;
/** Numbers of a CSC matrix at most: it is transposed in memory, 8 to 12 bytes each. */
const TRANSPOSABLE = 2 ** 26;

/**
 * Opens an .h5ad (AnnData 0.7 to 0.13; layout: anndata `docs/fileformat-prose.md`): a path in Node, a Blob in a page.
 * X may be CSR, dense, or CSC of moderate size; gzip or uncompressed.
 * @throws Error saying what is wrong with the file and what to do.
 */
export async function openCells(source: string | Blob): Promise<Cells> {
  const path = nameOf(source);
  const file = await openHdf5(source);
  try {
    return describe(file, path);
  } catch (cause) {
    file.close();
    throw cause;
  }
}

function describe(file: Hdf5File, path: string): Cells {
  const fail = (what: string): never => {
    throw new Error(`h5ad: "${path}": ${what}`);
  };
  for (const name of ["obs", "var"]) {
    if (datasetAt(file, name))
      fail(`${name} is a compound table, the layout of AnnData before 0.7; open and save it with a current anndata`);
    if (!groupAt(file, name)) {
      const hint = file.keys().includes("matrix") ? "; this is a .loom or 10x file, convert it to .h5ad" : "; is this an .h5ad?";
      fail(`there is no "${name}"${hint}`);
    }
  }
  const obs = frame(groupAt(file, "obs")!, path);
  const vars = frame(groupAt(file, "var")!, path);
  const matrix = guard(path, () => matrixAt(file, obs.rows, vars.rows, path));
  return {
    path,
    cells: obs.rows,
    genes: vars.rows,
    obs,
    var: vars,
    single: matrix.single,
    chunks: matrix.chunks,
    close: () => void file.close(),
  };
}

interface Matrix {
  readonly single: boolean;
  chunks(rows?: number): Generator<Chunk>;
}

function matrixAt(file: Hdf5File, cells: number, genes: number, path: string): Matrix {
  const fail = (what: string): never => {
    throw new Error(`h5ad: "${path}": ${what}`);
  };
  const agree = (shape: readonly number[]) => {
    if (shape.length !== 2 || shape[0] !== cells || shape[1] !== genes) {
      fail(`X is ${shape.join(" x ")} but obs has ${cells} and var ${genes} rows; the file is damaged`);
    }
  };
  const plain = (dataset: Dataset) => {
    if (kindOf(dataset) !== "int" && kindOf(dataset) !== "float") fail(`"${dataset.path}" holds no numbers`);
    return dataset;
  };
  const dense = datasetAt(file, "X");
  if (dense) {
    agree(dense.shape ?? []);
    return { single: isSingle(plain(dense)), chunks: (rows) => denseChunks(dense, cells, genes, path, rows) };
  }
  const group = groupAt(file, "X") ?? fail(`there is no X; the counts must stand in X`);
  const part = (name: string): Dataset => plain(datasetAt(group, name) ?? fail(`X has no "${name}"; is it a sparse matrix?`));
  const data = part("data");
  const whole = (name: string): Dataset =>
    kindOf(part(name)) === "int" ? part(name) : fail(`X/${name} holds no whole numbers; the file is damaged`);
  const indices = whole("indices");
  const format = String(attribute(group, "encoding-type") ?? attribute(group, "h5sparse_format"));
  const byColumn = format.startsWith("csc");
  if (!byColumn && !format.startsWith("csr")) fail(`X is stored as "${format}"; CSR, CSC and dense matrices are read`);
  agree([attribute(group, "shape") ?? attribute(group, "h5sparse_shape")].flat().map(Number));
  const stored = data.metadata.total_size;
  const indptr = Float64Array.from(numbers(whole("indptr"), path));
  if (indices.metadata.total_size !== stored)
    fail(`X has ${stored} values but ${indices.metadata.total_size} indices; the file is damaged`);
  if (indptr.length !== (byColumn ? genes : cells) + 1) fail(`X/indptr has ${indptr.length} entries; the file is damaged`);
  if (indptr[0] !== 0 || indptr.at(-1) !== stored) fail(`X/indptr runs from ${indptr[0]} to ${indptr.at(-1)}, not from 0 to ${stored}`);
  for (let r = 1; r < indptr.length; r++) if (!(indptr[r]! >= indptr[r - 1]!)) fail(`X/indptr falls at ${r}; the file is damaged`);
  const single = isSingle(data);
  const sparse: Sparse = {
    indptr,
    bound: byColumn ? cells : genes,
    indices: (a, b) => numbers(indices, path, [[a, b]]),
    data: (a, b) => numbers(data, path, [[a, b]]),
    path,
  };
  if (!byColumn) return { single, chunks: (rows) => sparseChunks(sparse, rows) };
  if (stored > TRANSPOSABLE) fail(`X is CSC with ${stored} values, too many to transpose; save it with adata.X = adata.X.tocsr()`);
  return { single, chunks: (rows) => sparseChunks(transpose(sparse, cells), rows) };
}

/** A compressed matrix: where each line begins, and its indices (below `bound`) and values by range. */
interface Sparse {
  readonly indptr: Float64Array;
  readonly bound: number;
  readonly path: string;
  indices(start: number, end: number): Numbers;
  data(start: number, end: number): Numbers;
}

function* sparseChunks(sparse: Sparse, most = 512): Generator<Chunk> {
  const { indptr } = sparse;
  for (let start = 0; start < indptr.length - 1; ) {
    let end = start + 1;
    while (end < indptr.length - 1 && end - start < most && indptr[end + 1]! - indptr[start]! <= BLOCK) end++;
    const from = indptr[start]!;
    const indices = sparse.indices(from, indptr[end]!);
    checkIndices(indices, sparse);
    const rows = indptr.slice(start, end + 1).map((at) => at - from);
    yield { start, rows: end - start, indptr: rows, indices, data: sparse.data(from, indptr[end]!) };
    start = end;
  }
}

function checkIndices(indices: Numbers, { bound, path }: Sparse): void {
  for (let i = 0; i < indices.length; i++) {
    if (!(indices[i]! >= 0 && indices[i]! < bound)) {
      throw new Error(`h5ad: "${path}": X/indices holds ${indices[i]}, outside 0...${bound - 1}; the file is damaged`);
    }
  }
}

function* denseChunks(dataset: Dataset, cells: number, genes: number, path: string, most = 512): Generator<Chunk> {
  const rows = Math.max(1, Math.min(most, Math.floor(BLOCK / Math.max(1, genes))));
  for (let start = 0; start < cells; start += rows) {
    const end = Math.min(cells, start + rows);
    const block = numbers(dataset, path, [
      [start, end],
      [0, genes],
    ]);
    let stored = 0;
    for (let i = 0; i < block.length; i++) if (block[i] !== 0) stored++;
    const indptr = new Float64Array(end - start + 1);
    const indices = new Int32Array(stored);
    const data = new Float64Array(stored);
    let at = 0;
    for (let i = 0; i < block.length; i++) {
      if (block[i] !== 0) {
        indices[at] = i % genes;
        data[at++] = block[i]!;
        indptr[Math.floor(i / genes) + 1] = at;
      }
    }
    for (let r = 1; r < indptr.length; r++) indptr[r] = Math.max(indptr[r]!, indptr[r - 1]!); // cells without counts
    yield { start, rows: end - start, indptr, indices, data };
  }
}

/** CSC to CSR in memory: one pass counts the values of each cell, one puts them in place. */
function transpose(columns: Sparse, cells: number): Sparse {
  const { indptr: starts, path } = columns;
  const stored = starts.at(-1)!;
  const indptr = new Float64Array(cells + 1);
  const blocks = function* () {
    for (let start = 0; start < stored; start += BLOCK) {
      const end = Math.min(stored, start + BLOCK);
      const indices = columns.indices(start, end);
      checkIndices(indices, columns);
      yield { start, indices, data: () => columns.data(start, end) };
    }
  };
  for (const { indices } of blocks()) for (let i = 0; i < indices.length; i++) indptr[indices[i]! + 1]!++;
  for (let r = 0; r < cells; r++) indptr[r + 1]! += indptr[r]!;
  const next = indptr.slice();
  const genes = new Int32Array(stored);
  const values = new Float64Array(stored);
  let column = 0;
  for (const { start, indices, data } of blocks()) {
    const block = data();
    for (let i = 0; i < indices.length; i++) {
      while (starts[column + 1]! <= start + i) column++;
      const place = next[indices[i]!]!++;
      genes[place] = column;
      values[place] = block[i]!;
    }
  }
  return { indptr, bound: starts.length - 1, path, indices: (a, b) => genes.subarray(a, b), data: (a, b) => values.subarray(a, b) };
}

function isSingle(dataset: Dataset): boolean {
  return kindOf(dataset) === "float" && dataset.metadata.size === 4;
}

/** A dataframe group; its rows are counted on the index, which every column must match. */
function frame(group: Group, path: string): Frame {
  const fail = (what: string): never => {
    throw new Error(`h5ad: "${path}": ${group.path.slice(1)}${what}`);
  };
  const indexName = String(attribute(group, "_index") ?? "_index");
  const order = attribute(group, "column-order");
  const names = Array.isArray(order)
    ? order.flat().map(String)
    : group.keys().filter((name) => name !== indexName && name !== "__categories");
  const element = (name: string): Column =>
    guard(path, () => readColumn(group, name, path)) ?? fail(` has no column "${name}"; it has ${names.join(", ") || "none"}`);
  let index: readonly string[] | undefined;
  const readIndex = () => (index ??= element(indexName).values.map((value) => String(value ?? "")));
  const rows = countRows(group, indexName) ?? fail(` has no index "${indexName}"; the file is damaged`);
  return {
    rows,
    names,
    index: readIndex,
    column: (name) => {
      if (!names.includes(name)) fail(` has no column "${name}"; it has ${names.join(", ") || "none"}`);
      const column = element(name);
      if (column.values.length !== rows) fail(`/${name} has ${column.values.length} rows, not ${rows}; the file is damaged`);
      return column;
    },
  };
}

function countRows(group: Group, name: string): number | null {
  const dataset = datasetAt(group, name);
  if (dataset) return dataset.metadata.total_size;
  const parts = groupAt(group, name); // anndata 0.13 writes the index as a nullable array, or as categorical codes
  return parts ? ((datasetAt(parts, "values") ?? datasetAt(parts, "codes"))?.metadata.total_size ?? null) : null;
}

/** A column by its layout, which says more than the encoding's name: categorical, nullable, or plain. */
function readColumn(group: Group, name: string, path: string): Column | null {
  const parts = groupAt(group, name);
  if (parts) {
    const codes = datasetAt(parts, "codes");
    const categories =
      readColumnOf(datasetAt(parts, "categories"), path) ?? (groupAt(parts, "categories") && readColumn(parts, "categories", path));
    if (codes && categories) return coded(numbers(codes, path), categories, name, path);
    const values = readColumnOf(datasetAt(parts, "values"), path);
    const mask = datasetAt(parts, "mask");
    if (values && mask) {
      const missing = numbers(mask, path);
      return { ...values, values: values.values.map((value, i) => (missing[i] ? null : value)) };
    }
    throw new Error(`h5ad: "${path}": column "${name}" is stored as "${attribute(parts, "encoding-type")}", which is not read here`);
  }
  const dataset = datasetAt(group, name);
  const reference = dataset?.attrs.categories?.value; // AnnData 0.7: codes that refer to __categories/<name>
  if (dataset && reference !== undefined && reference !== null) {
    const target = dataset.dereference((Array.isArray(reference) ? reference[0] : reference) as Parameters<Dataset["dereference"]>[0]);
    const categories = readColumnOf(target && !("source_dataset" in target) && "slice" in target ? target : null, path);
    if (categories) return coded(numbers(dataset, path), categories, name, path);
  }
  return readColumnOf(dataset, path);
}

function readColumnOf(dataset: Dataset | null, path: string): Column | null {
  if (!dataset) return null;
  const kind = kindOf(dataset);
  if (kind === "string") return { kind, single: false, values: strings(dataset, path) };
  if (kind === "compound" || kind === "other") {
    throw new Error(`h5ad: "${path}": "${dataset.path}" is a compound or reference dataset, which is not read as a column`);
  }
  const raw = numbers(dataset, path);
  if (kind === "bool") return { kind, single: false, values: Array.from(raw, (value) => value !== 0) };
  // pandas has no missing integer, and writes a missing float as NaN
  return { kind, single: isSingle(dataset), values: Array.from(raw, (value) => (Number.isNaN(value) ? null : value)) };
}

function coded(codes: Numbers, categories: Column, name: string, path: string): Column {
  const values = Array.from(codes, (code) => {
    if (code >= categories.values.length)
      throw new Error(`h5ad: "${path}": column "${name}" has code ${code} of ${categories.values.length} categories`);
    return code < 0 ? null : categories.values[code]!;
  });
  return { kind: categories.kind, single: categories.single, values };
}

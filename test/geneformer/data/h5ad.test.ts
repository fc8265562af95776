/** .h5ad files: what the writer writes the reader reads, every storage of X gives the same chunks, and damage is named. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Cells, openCells, writeCells } from "../../../geneformer/data/h5ad.ts";
import type { SparseRows, Values } from "../../../geneformer/data/h5write.ts";
import { createHdf5, type Group } from "../../../geneformer/data/hdf5.ts";
import { scratch } from "./scratch.ts";

const path = scratch();
const names = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

/** A dense matrix as CSR. */
function sparse(X: readonly (readonly number[])[]): SparseRows {
  const stored = X.map((row) => row.flatMap((x, gene) => (x === 0 ? [] : [gene])));
  const indptr = [0];
  for (const genes of stored) indptr.push(indptr.at(-1)! + genes.length);
  return {
    indptr,
    indices: Int32Array.from(stored.flat()),
    data: Float32Array.from(stored.flatMap((genes, cell) => genes.map((gene) => X[cell]![gene]!))),
  };
}

/** The whole of an open file as a dense matrix. */
function dense(cells: Cells, rows?: number): number[][] {
  const X = Array.from({ length: cells.cells }, () => new Array<number>(cells.genes).fill(0));
  for (const chunk of cells.chunks(rows)) {
    for (let r = 0; r < chunk.rows; r++) {
      for (let i = chunk.indptr[r]!; i < chunk.indptr[r + 1]!; i++) X[chunk.start + r]![chunk.indices[i]!]! += chunk.data[i]!;
    }
  }
  return X;
}

const matrix = fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 9 })).chain(([rows, columns]) => {
  const count = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.integer({ min: 1, max: 5000 }) });
  return fc.array(fc.array(count, { minLength: columns, maxLength: columns }), { minLength: rows, maxLength: rows });
});

describe("the writer and the reader", () => {
  test("give back counts, indices and columns, whatever the chunking", async () => {
    await fc.assert(
      fc.asyncProperty(
        matrix,
        fc.constantFrom("gzip" as const, "none" as const),
        fc.integer({ min: 1, max: 4 }),
        async (X, compression, rows) => {
          const file = path("round.h5ad");
          const word = (i: number) => ["T cell", "", "naïve B", "x"][i % 4]!;
          const columns = new Map<string, Values>([
            ["type", X.map((_, i) => word(i))],
            ["n_counts", Float64Array.from(X, (row) => row.reduce((a, b) => a + b, 0))],
            ["batch", Int32Array.from(X, (_, i) => i - 1)],
            ["share", Float32Array.from(X, (_, i) => i / 4)],
          ]);
          const genes = X[0]!.length;
          await writeCells(file, {
            X: sparse(X),
            obs: { index: names("cell", X.length), columns },
            var: { index: names("ENSG", genes), columns: new Map([["symbol", names("S", genes)]]) },
            compression,
          });
          const cells = await openCells(file);
          expect([cells.cells, cells.genes, cells.single]).toEqual([X.length, genes, true]);
          expect(dense(cells, rows)).toEqual(X);
          expect(cells.obs.names).toEqual(["type", "n_counts", "batch", "share"]);
          for (const [name, values] of columns) expect(cells.obs.column(name).values).toEqual([...values]);
          expect([cells.obs.column("share").single, cells.obs.column("n_counts").single]).toEqual([true, false]);
          expect(["type", "batch", "share"].map((name) => cells.obs.column(name).kind)).toEqual(["string", "int", "float"]);
          expect(cells.obs.index()).toEqual(names("cell", X.length));
          expect(cells.var.column("symbol").values).toEqual(names("S", genes));
          cells.close();
        },
      ),
      { numRuns: 25 },
    );
  });

  test("pieces written one after another are the whole; whole numbers stay whole numbers", async () => {
    const pieces = [[[1, 0, 2]], [[0, 0, 0]], [[0, 3, 0]]].map((piece) => ({
      ...sparse(piece),
      data: Int32Array.from(sparse(piece).data),
    }));
    await writeCells(path("pieces.h5ad"), { X: pieces.values(), obs: { index: names("c", 3) }, var: { index: names("g", 3) } });
    const cells = await openCells(path("pieces.h5ad"));
    expect(dense(cells)).toEqual([
      [1, 0, 2],
      [0, 0, 0],
      [0, 3, 0],
    ]);
    expect([cells.single, cells.obs.names]).toEqual([false, []]);
    expect(() => cells.obs.column("louvain")).toThrow(/obs has no column "louvain"; it has none/);
    cells.close();
  });

  test("a table that does not fit is refused and leaves no file", async () => {
    const obs = { index: names("c", 1) };
    const genes = { index: names("g", 2) };
    const write = (table: Partial<Parameters<typeof writeCells>[1]>) =>
      writeCells(path("bad.h5ad"), { X: sparse([[1, 2]]), obs, var: genes, ...table });
    await expect(write({ X: sparse([[1, 2, 3]]) })).rejects.toThrow(/index 2 outside 2 genes/);
    await expect(write({ X: sparse([[1], [1]]) })).rejects.toThrow(/2 rows of counts but 1 cells/);
    await expect(write({ X: { indptr: [0, 5], indices: Int32Array.of(0), data: Float32Array.of(1) } })).rejects.toThrow(/indptr ends at 5/);
    await expect(write({ obs: { ...obs, columns: new Map([["a", ["x", "y"]]]) } })).rejects.toThrow(/"a" has 2 values for 1 rows/);
    await expect(write({ obs: { ...obs, columns: new Map([["_index", ["x"]]]) } })).rejects.toThrow(/may not be named "_index"/);
    expect(readdirSync(path(".")).filter((name) => name.includes("bad"))).toEqual([]);
  });
});

interface Layout {
  X?: (file: Group) => void;
  obs?: (group: Group) => void;
  index?: number;
}

/** A file of three cells and two genes, laid out by hand. */
async function layout(name: string, { X, obs, index = 3 }: Layout): Promise<string> {
  const file = await createHdf5(path(name));
  for (const [table, rows] of [
    ["obs", index],
    ["var", 2],
  ] as const) {
    const group = file.create_group(table);
    group.create_attribute("_index", "id");
    group.create_dataset({ name: "id", data: names(table, rows) });
    if (table === "obs") obs?.(group);
  }
  X?.(file);
  file.close();
  return path(name);
}

/** [[1, 2], [0, 0], [0, 3]], rows in reverse order of gene. */
const rows = {
  encoding: "csr_matrix",
  shape: [3n, 2n],
  indptr: Int32Array.of(0, 2, 2, 3),
  indices: Int32Array.of(1, 0, 1),
  data: Float32Array.of(2, 1, 3),
};
type Integers = Int32Array | BigInt64Array | Float64Array;
type Rows = { encoding: string; shape: bigint[]; indptr: Integers; indices: Integers; data: Values };

function compressed(change: Partial<Rows> = {}): (file: Group) => void {
  const { encoding, shape, ...parts } = { ...rows, ...change };
  return (file) => {
    const group = file.create_group("X");
    group.create_attribute("encoding-type", encoding);
    group.create_attribute("shape", BigInt64Array.from(shape));
    for (const [name, data] of Object.entries(parts)) group.create_dataset({ name, data: data as Int32Array });
  };
}

describe("X", () => {
  const expected = [
    [1, 2],
    [0, 0],
    [0, 3],
  ];
  test.each([
    ["CSR, unsorted indices", compressed(), true],
    [
      "CSR, int64 pointers and float64 counts",
      compressed({ indptr: BigInt64Array.of(0n, 2n, 2n, 3n), data: Float64Array.of(2, 1, 3) }),
      false,
    ],
    ["CSR of int32 counts", compressed({ data: Int32Array.of(2, 1, 3) }), false],
    [
      "CSC",
      compressed({
        encoding: "csc_matrix",
        indptr: Int32Array.of(0, 1, 3),
        indices: Int32Array.of(0, 2, 0),
        data: Float32Array.of(1, 3, 2),
      }),
      true,
    ],
    ["dense", (file: Group) => void file.create_dataset({ name: "X", data: Float32Array.of(1, 2, 0, 0, 0, 3), shape: [3, 2] }), true],
  ])("%s", async (name, X, single) => {
    const cells = await openCells(await layout(`${name}.h5ad`, { X }));
    expect(cells.single).toBe(single);
    for (const rows of [1, 2, 512]) expect(dense(cells, rows)).toEqual(expected);
    expect([...cells.chunks(2)].map(({ start, rows }) => [start, rows])).toEqual([
      [0, 2],
      [2, 1],
    ]);
    cells.close();
  });

  test.each([
    ["none", { X: () => {} }, /there is no X/],
    ["falling indptr", { X: compressed({ indptr: Int32Array.of(0, 2, 1, 3) }) }, /indptr falls at 2; the file is damaged/],
    ["indptr beyond the data", { X: compressed({ indptr: Int32Array.of(0, 2, 2, 9) }) }, /indptr runs from 0 to 9, not from 0 to 3/],
    ["short indptr", { X: compressed({ indptr: Int32Array.of(0, 3) }) }, /indptr has 2 entries/],
    ["an index outside the genes", { X: compressed({ indices: Int32Array.of(1, 0, 2) }) }, /indices holds 2, outside 0\.\.\.1/],
    ["a negative index", { X: compressed({ indices: Int32Array.of(1, -1, 1) }) }, /indices holds -1, outside/],
    [
      "an index outside the cells, CSC",
      { X: compressed({ encoding: "csc_matrix", indptr: Int32Array.of(0, 1, 3), indices: Int32Array.of(0, 3, 0) }) },
      /indices holds 3, outside 0\.\.\.2/,
    ],
    ["fewer indices than values", { X: compressed({ indices: Int32Array.of(1, 0) }) }, /3 values but 2 indices/],
    ["an index between two", { X: compressed({ indices: Float64Array.of(1, 0.5, 1) }) }, /X\/indices holds no whole numbers/],
    ["float indptr", { X: compressed({ indptr: Float64Array.of(0, 1.5, 2, 3) }) }, /X\/indptr holds no whole numbers/],
    ["another shape", { X: compressed({ shape: [4n, 2n] }) }, /X is 4 x 2 but obs has 3 and var 2 rows/],
    ["fewer cells in obs", { X: compressed(), index: 2 }, /X is 3 x 2 but obs has 2/],
    ["an unknown format", { X: compressed({ encoding: "coo_matrix" }) }, /stored as "coo_matrix"; CSR, CSC and dense/],
    ["text", { X: compressed({ data: ["a", "b", "c"] }) }, /"\/X\/data" holds no numbers/],
    ["a flat dense matrix", { X: (file: Group) => void file.create_dataset({ name: "X", data: Float32Array.of(1, 2) }) }, /X is 2 but obs/],
  ] as [string, Layout, RegExp][])("%s is refused", async (name, made, message) => {
    const file = await layout(`refused ${name}.h5ad`, made);
    await expect(openCells(file).then((cells) => [...cells.chunks()])).rejects.toThrow(message);
  });
});

describe("columns", () => {
  const open = async (name: string, obs: (group: Group) => void) => openCells(await layout(`${name}.h5ad`, { X: compressed(), obs }));

  test("categorical, nullable, boolean-like and plain; -1 and NaN are missing", async () => {
    const cells = await open("kinds", (group) => {
      const type = group.create_group("type");
      type.create_dataset({ name: "codes", data: Int8Array.of(1, -1, 0) });
      type.create_dataset({ name: "categories", data: ["B", "T"] });
      const age = group.create_group("age");
      age.create_dataset({ name: "values", data: Int32Array.of(40, 50, 60) });
      age.create_dataset({ name: "mask", data: Uint8Array.of(0, 1, 0) });
      group.create_dataset({ name: "share", data: Float64Array.of(0.5, NaN, 1) });
      group.create_dataset({ name: "big", data: BigInt64Array.of(1n, 2n, 3n) });
    });
    expect(cells.obs.names).toEqual(["age", "big", "share", "type"]); // no column-order: as they stand
    expect(cells.obs.column("type")).toEqual({ kind: "string", single: false, values: ["T", null, "B"] });
    expect(cells.obs.column("age").values).toEqual([40, null, 60]);
    expect(cells.obs.column("share").values).toEqual([0.5, null, 1]);
    expect(cells.obs.column("big")).toEqual({ kind: "int", single: false, values: [1, 2, 3] });
    expect(() => cells.obs.column("nothing")).toThrow(/obs has no column "nothing"; it has age, big, share, type/);
    cells.close();
  });

  test("a code without a category and a column of another length are damage", async () => {
    const cells = await open("damaged columns", (group) => {
      const type = group.create_group("type");
      type.create_dataset({ name: "codes", data: Int8Array.of(1, 2, 0) });
      type.create_dataset({ name: "categories", data: ["B", "T"] });
      group.create_dataset({ name: "short", data: Int32Array.of(1, 2) });
    });
    expect(() => cells.obs.column("type")).toThrow(/column "type" has code 2 of 2 categories/);
    expect(() => cells.obs.column("short")).toThrow(/has 2 rows, not 3/);
    cells.close();
  });
});

describe("files that are none", () => {
  test.each([
    ["text", "no HDF5 at all", /not an HDF5 file; an .h5ad is expected/],
    ["empty", "", /is not an HDF5 file|is damaged/],
  ])("%s", async (name, content, message) => {
    writeFileSync(path(`${name}.h5ad`), content);
    await expect(openCells(path(`${name}.h5ad`))).rejects.toThrow(message);
  });

  test("a missing file, and HDF5 without tables", async () => {
    await expect(openCells(path("missing.h5ad"))).rejects.toThrow(/missing.h5ad" does not exist/);
    (await createHdf5(path("bare.h5ad"))).close();
    await expect(openCells(path("bare.h5ad"))).rejects.toThrow(/there is no "obs"; is this an .h5ad/);
  });
});

test("a chosen file is read from memory, which nothing of it is left in", async () => {
  const { FS } = await (await import("h5wasm")).ready;
  const file = await layout("chosen.h5ad", { X: compressed() });
  const before = FS.readdir("/");
  const cells = await openCells(new Blob([readFileSync(file)]));
  expect(dense(cells, 1)).toEqual([
    [1, 2],
    [0, 0],
    [0, 3],
  ]);
  cells.close();
  await expect(openCells(new Blob(["no HDF5 at all"]))).rejects.toThrow(/the given bytes" is not an HDF5 file/);
  expect(FS.readdir("/")).toEqual(before);
});

/** Columns of numbers and words as Parquet files, which pandas, polars, R and DuckDB read. */

import type { Source } from "../../nn/source.ts";
import type { Table } from "../table.ts";

/** A column: `i32` and `f32` take typed arrays; null where there is no value. */
export interface ParquetColumn {
  readonly name: string;
  readonly type: "i32" | "f32" | "f64" | "string";
  readonly data: ArrayLike<number | string | null>;
}

const TYPES = { i32: "INT32", f32: "FLOAT", f64: "DOUBLE", string: "STRING" } as const;

/** The bytes of a file of these columns, all equally long. @param about words to keep in the file's own metadata. */
export async function parquetBytes(columns: readonly ParquetColumn[], about: Readonly<Record<string, string>> = {}): Promise<Uint8Array> {
  const { parquetWriteBuffer } = await import("hyparquet-writer");
  const columnData = columns.map(({ name, type, data }) => ({ name, type: TYPES[type], data: data as number[] }));
  const kvMetadata = Object.entries(about).map(([key, value]) => ({ key, value }));
  return new Uint8Array(parquetWriteBuffer({ columnData, kvMetadata, rowGroupSize: 100_000, createdBy: "geneformer-ts" }));
}

/** A table as the columns of a file; a column with a word in it is of words. */
export function tableColumns({ columns, rows }: Table): ParquetColumn[] {
  return columns.map((name, i) => {
    const data = rows.map((row) => row[i]);
    const words = data.some((field) => typeof field === "string");
    return { name, type: words ? "string" : "f64", data: words ? data.map((field) => (field === null ? null : String(field))) : data };
  });
}

/** What a Parquet file's columns hold, by name. @throws Error with the file's name where it is damaged. */
export async function readParquet(source: Source, columns?: readonly string[]): Promise<Map<string, (number | string | null)[]>> {
  const { parquetMetadataAsync, parquetRead, parquetSchema } = await import("hyparquet");
  const file = {
    byteLength: source.size,
    slice: async (start: number, end = source.size): Promise<ArrayBuffer> => {
      const bytes = await source.read(start, Math.min(end, source.size));
      return new Uint8Array(bytes).buffer; // a copy: a source may give a view of more
    },
  };
  try {
    const metadata = await parquetMetadataAsync(file);
    const names = parquetSchema(metadata).children.map(({ element }) => element.name);
    const missing = columns?.find((name) => !names.includes(name));
    if (missing) throw new Error(`has no column "${missing}"; it has ${names.join(", ")}`);
    const read = new Map<string, (number | string | null)[]>((columns ?? names).map((name) => [name, []]));
    await parquetRead({
      file,
      metadata,
      columns: [...read.keys()],
      onChunk: ({ columnName, columnData, rowStart }) => {
        const into = read.get(columnName) ?? [];
        for (let i = 0; i < columnData.length; i++) into[rowStart + i] = columnData[i] as number | string | null;
      },
    });
    return read;
  } catch (cause) {
    throw new Error(`parquet: "${source.name}" ${(cause as Error).message}`, { cause });
  }
}

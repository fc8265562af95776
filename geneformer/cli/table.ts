/** Tables that commands write, in the format that the name of the file asks for. */

import { parquetBytes, tableColumns } from "../data/parquet.ts";
import { type WriteOptions, writeLines, writeWhole } from "../files.ts";
import { csvLines, type Table } from "../table.ts";

/** Write a table as CSV, or, where the name ends in .parquet, as Parquet. */
export async function writeTable(path: string, table: Table, options: WriteOptions): Promise<void> {
  if (path.endsWith(".parquet")) await writeWhole(path, await parquetBytes(tableColumns(table)), options);
  else await writeLines(path, csvLines(table.columns, table.rows, table.index), options);
}

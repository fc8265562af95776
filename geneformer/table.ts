/** Tables as CSV text, the way pandas writes them: an index column without a name, then the columns. */

export type Field = string | number | null;

/** Columns and rows of one thing, in memory. */
export interface Table {
  readonly columns: readonly string[];
  /** What pandas' index says of each row: where it stood before rows were sorted. */
  readonly index: readonly number[];
  readonly rows: readonly (readonly Field[])[];
}

const quoted = (field: Field): string => {
  const text = field === null || Number.isNaN(field) ? "" : String(field);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Nine digits name every f32 (IEEE 754: 24 bits need 9); more would be noise. */
export const single = (value: number): number => Number(value.toPrecision(9));

/** One header and one line a row, numbered in a first column that has no name: from 0, or as `index` says. */
export function* csvLines(columns: readonly string[], rows: Iterable<readonly Field[]>, index?: readonly number[]): Generator<string> {
  yield `,${columns.map(quoted).join(",")}\n`;
  let i = 0;
  for (const row of rows) {
    yield `${index?.[i] ?? i},${row.map(quoted).join(",")}\n`;
    i++;
  }
}

/** Tables as CSV text, the way pandas writes them: an index column without a name, then the columns. */

export type Field = string | number | null;

const quoted = (field: Field): string => {
  const text = field === null ? "" : String(field);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Nine digits name every f32 (IEEE 754: 24 bits need 9); more would be noise. */
export const single = (value: number): number => Number(value.toPrecision(9));

/** One header and one line a row, numbered from 0 in a first column that has no name. */
export function* csvLines(columns: readonly string[], rows: Iterable<readonly Field[]>): Generator<string> {
  yield `,${columns.map(quoted).join(",")}\n`;
  let i = 0;
  for (const row of rows) yield `${i++},${row.map(quoted).join(",")}\n`;
}

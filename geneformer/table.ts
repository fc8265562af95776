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

/** A number as pandas and JavaScript write it. */
const NUMBER = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)$/i;
const numberOf = (text: string): number => (/inf/i.test(text) ? (text.startsWith("-") ? -1 : 1) * Number.POSITIVE_INFINITY : Number(text));

/**
 * A table from CSV text (RFC 4180), as pandas and we write it: a first column without a name is the index. A column is of numbers where every field of it that
 * holds something is one; nothing, and pandas' nan, is null.
 * @param name the file's, for errors.
 * @throws Error for text without a header, a column named twice, a row of more or fewer fields, an index that is no integer, or a quote that is never closed.
 */
export function readCsv(text: string, name = "csv"): Table {
  const [header, ...lines] = fieldsOf(text.replace(/^\ufeff/, ""), name);
  if (!header) throw new Error(`csv: "${name}" is empty; give a table with a header`);
  const twice = header.find((column, i) => header.indexOf(column) < i);
  if (twice !== undefined) throw new Error(`csv: "${name}" has two columns "${twice}"; name them apart`);
  const indexed = header[0] === "";
  for (const [i, line] of lines.entries()) {
    if (line.length !== header.length)
      throw new Error(`csv: row ${i} of "${name}" has ${line.length} fields, the header ${header.length}; is the file whole?`);
    if (indexed && !/^\d+$/.test(line[0]))
      throw new Error(`csv: row ${i} of "${name}" has the index "${line[0]}"; a column without a name holds integers`);
  }
  const first = Number(indexed);
  const empty = (field: string) => field === "" || field === "nan" || field === "NaN";
  const numeric = header.map((_, j) => lines.every((line) => empty(line[j]) || NUMBER.test(line[j])));
  return {
    columns: header.slice(first),
    index: lines.map((line, i) => (indexed ? Number(line[0]) : i)),
    rows: lines.map((line) =>
      line.slice(first).map((field, j) => (numeric[j + first] ? (empty(field) ? null : numberOf(field)) : field === "" ? null : field)),
    ),
  };
}

/** The fields of each line. */
function fieldsOf(text: string, name: string): string[][] {
  const lines: string[][] = [];
  const field = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|$)/y;
  for (let line: string[] = []; field.lastIndex < text.length || line.length > 0; ) {
    const at = field.lastIndex;
    const found = field.exec(text);
    if (!found)
      throw new Error(
        `csv: row ${lines.length - 1} of "${name}" has a quote out of place: ${text.slice(at, at + 40)}; quote fields, and double the quotes in them`,
      );
    line.push(found[1] === undefined ? found[2] : found[1].replaceAll('""', '"'));
    if (found[3] === ",") continue;
    lines.push(line);
    line = [];
  }
  return lines;
}

/** What a model is made of, as a table: its modules, their parameters, and what they give. */

import { bytesOf } from "../kernels/kernel.ts";
import { type Shape, show } from "../src/shape.ts";
import { type Needs, needs } from "../src/shapes.ts";
import { Tensor, tensorsIn } from "../src/tensor.ts";
import { type Hook, Tap, withHooks } from "./hooks.ts";
import { modules } from "./module.ts";

export interface SummaryRow {
  /** Where the module is: "layers.3.query"; "" is the model itself. */
  readonly path: string;
  /** Its class. */
  readonly type: string;
  /** What it gave, each shape once; of a tap, whose hooks may change what is computed, nothing. */
  readonly shapes: readonly Shape[];
  /** Numbers in its own tensors, without those of modules inside it, and without ones that another row counts. */
  readonly parameters: number;
  /** What those take. */
  readonly bytes: number;
}

export interface Summary {
  readonly rows: readonly SummaryRow[];
  readonly parameters: number;
  readonly bytes: number;
  /** What f needs beside what lies on the device already. null without f. */
  readonly needs: Needs | null;
  /** The table. */
  toString(): string;
}

/** The shapes of what a model's modules give while f runs, by their paths, and what f needs; nothing is computed. */
function watch(model: object, f: () => unknown): { shapes: Map<string, Shape[]>; needs: Needs } {
  const shapes = new Map<string, Shape[]>();
  const note: Hook = (y, { path }) => {
    const noted = shapes.get(path) ?? [];
    shapes.set(path, noted);
    for (const { shape } of tensorsIn(y)) if (!noted.some((other) => show(other) === show(shape))) noted.push(shape);
  };
  // a hook at a tap may change what is computed
  const paths = [...modules(model)].flatMap(([path, part]) => ("forward" in part && !(part instanceof Tap) ? [path] : []));
  const hooks = Object.fromEntries(paths.map((path) => [path, note]));
  return { shapes, needs: needs(() => withHooks(model, hooks, f)) };
}

/**
 * A row for each module that has parameters of its own, or gives something when f runs, and for each tap, which is there for hooks alone.
 *
 *   console.log(String(summary(model, () => valueAndGrad(() => model.loss(...batch()), weights))));
 *
 * @param f runs the model, on a device that knows only shapes: it makes the tensors it uses, or uses what there is, and reads nothing.
 * @throws whatever f throws: a shape that does not fit shows here.
 */
export function summary(model: object, f?: () => unknown): Summary {
  const found = f ? watch(model, f) : null;
  const counted = new Set<unknown>();
  const rows = [...modules(model)].flatMap(([path, part]): SummaryRow[] => {
    const own = Object.values(part).filter((value): value is Tensor => value instanceof Tensor && !counted.has(value));
    for (const t of own) counted.add(t);
    const shapes = found?.shapes.get(path) ?? [];
    if (own.length === 0 && shapes.length === 0 && !(part instanceof Tap)) return [];
    const parameters = own.reduce((sum, { size }) => sum + size, 0);
    const bytes = own.reduce((sum, { dtype, size }) => sum + bytesOf(dtype, size), 0);
    return [{ path, type: part.constructor.name, shapes, parameters, bytes }];
  });
  const parameters = rows.reduce((sum, row) => sum + row.parameters, 0);
  const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  const made = { rows, parameters, bytes, needs: found?.needs ?? null };
  return { ...made, toString: () => table(made) };
}

const grouped = (n: number): string => n.toLocaleString("en-US");

/** Columns side by side, the last two to the right; then the totals. */
function table({ rows, parameters, bytes, needs }: Omit<Summary, "toString">): string {
  const lines = [
    ["path", "type", "output", "parameters", "bytes"],
    ...rows.map(({ path, type, shapes, ...row }) => [path, type, shapes.map(show).join(" "), grouped(row.parameters), grouped(row.bytes)]),
    ["", "", "", grouped(parameters), grouped(bytes)],
  ];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const text = lines.map((line) => line.map((cell, i) => (i < 3 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  "));
  return [...text, ...(needs ? [`needs ${grouped(needs.bytes)} bytes beside them, and ${needs.kernels.length} kernels`] : [])].join("\n");
}

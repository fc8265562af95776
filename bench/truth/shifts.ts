/** Shifts of cells to a state, with and without the place of the gene that was put in or taken out: what a marker does by standing there, and what it does to the others. */

import { gather, segmentMean } from "../../autograd/ops.ts";
import { inference } from "../../autograd/tape.ts";
import { streamOf } from "../../geneformer/data/batches.ts";
import { batchesOf } from "../../geneformer/embed.ts";
import { type Edit, editsOf, type Geneformer, unitsOf } from "../../geneformer/index.ts";
import { hiddenOf } from "../../geneformer/model.ts";
import { cosineOf } from "../../geneformer/perturb/exact.ts";
import { index, spansOf } from "../../src/stream.ts";

/** Kang's cells are V1's: nothing stands at their ends. */
const ENDS = { cls: false, eos: false };
/** The hidden states that perturbation measures by default: those before the last layer. */
const LAYER = -1;
const TOKENS = 8192;

export interface Shifted {
  readonly gene: number;
  readonly row: number;
  /** cos(after, goal) - cos(before, goal) of the means of all genes: what `perturb` says. */
  readonly shift: number;
  /** The same without the gene's own place: in the cell after an overexpression, and before either. */
  readonly others: number;
}

const minus = (mean: Float32Array, count: number, row: Float32Array): Float32Array =>
  mean.map((value, c) => (count * value - row[c]) / (count - 1));

/** Mean of the rows [n, C] of a cell. */
function meanRow(rows: Float32Array, width: number): Float32Array {
  const sums = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) sums[i % width] += rows[i];
  return Float32Array.from(sums, (sum) => (sum * width) / rows.length);
}

/** One gene at a time in every cell: deleted where a cell has it, or overexpressed, put in where it has not. */
export async function* shifts(
  model: Geneformer,
  cells: readonly { readonly row: number; readonly tokens: ArrayLike<number> }[],
  type: "delete" | "overexpress",
  genes: readonly number[],
  goal: Float32Array,
): AsyncGenerator<Shifted> {
  const { config } = model;
  const [layers, width] = [hiddenOf(config, LAYER), config.width];
  const read = (batch: readonly ArrayLike<number>[]) =>
    inference(() => model.encode(streamOf(batch, config, { gradients: false }), { layers }));
  for (const { row, tokens } of cells) {
    // A cell at the model's full length would lose its last gene to one that comes in: it goes before, too, so that both have the same.
    const cell = Array.prototype.slice.call(tokens, 0, config.length - 1) as number[];
    const whole = read([cell]);
    const rows = (await whole.data()) as Float32Array;
    whole.free();
    const before = meanRow(rows, width);
    const ownBefore = (gene: number) => {
      const place = cell.indexOf(gene);
      return place < 0 ? before : minus(before, cell.length, rows.slice(place * width, (place + 1) * width));
    };
    const edits = editsOf(cell, ENDS, unitsOf(cell, ENDS, { type, genes }), config.length);
    for (const batch of batchesOf(edits, TOKENS, (edit: Edit) => edit.tokens.length)) {
      const made = inference(() => {
        const stream = streamOf(
          batch.map((edit) => edit.tokens),
          config,
          { gradients: false },
        );
        const x = model.encode(stream, { layers });
        const firsts = spansOf(batch.map((edit) => edit.tokens.length)).map(([from]) => from);
        // An overexpressed gene stands at the front; a deleted one has no place.
        return { means: segmentMean(x, stream.segments), own: gather(x, index(firsts, x.shape[0], { gradients: false })) };
      });
      const [means, own] = await Promise.all([made.means.data(), made.own.data()]);
      made.means.free();
      made.own.free();
      for (const [i, { genes, tokens }] of batch.entries()) {
        const part = (of: ArrayLike<number>) => Float32Array.prototype.slice.call(of, i * width, (i + 1) * width);
        const after = part(means);
        const rest = type === "delete" ? after : minus(after, tokens.length, part(own));
        const [gene] = genes;
        yield {
          gene,
          row,
          shift: cosineOf(after, goal) - cosineOf(before, goal),
          others: cosineOf(rest, goal) - cosineOf(ownBefore(gene), goal),
        };
      }
    }
  }
}

/**
 * One pass of cells with handles on them: how much each gene is there, what its rank is, and genes that might come, as probes.
 *
 * A gate multiplies exp(score) wherever its place is looked at, and its weight in the mean: 1 for a gene, 0 for one that has gone. A probe is a token with gate 0
 * at a rank: it sees the cell and nobody sees it, so that the cell stays what it is, and the derivative by its gate says what its coming would do. As nothing of the
 * cell depends on a probe but through its gate, probes run off the tape: the way back is of the cell alone, and gates are met in attention (presence.ts).
 */

import { add, div, gather, mul, reshape, segmentSum } from "../../autograd/ops.ts";
import { inference, onTape, type Pullback, pullback } from "../../autograd/tape.ts";
import { index, type Segments, segments } from "../../src/stream.ts";
import { scoped, type Tensor, tensor } from "../../src/tensor.ts";
import { type EmbeddingMode, type Ends, firstRows } from "../embed.ts";
import type { Geneformer, Stream } from "../model.ts";
import { genesOf } from "./edit.ts";
import { presence } from "./presence.ts";

/** A token at a rank, special tokens counted. */
export type Probe = readonly [token: number, place: number];

/** A cell with the genes that might come. */
export interface Probed {
  readonly cell: readonly number[];
  readonly probes: readonly Probe[];
}

/** What is made of each cell: one vector, or the rows of its places as they are. */
export type Target = EmbeddingMode | "rows";

/** Cells and their probes have run, and the way back is open. */
export interface Pass {
  /** [B, C], or, of rows, [N, C]: of the cells alone. */
  readonly value: Tensor;
  pull(dy: ArrayLike<number>): Promise<Slopes>;
  free(): void;
}

/** Derivatives, cell after cell: by the gates of places [N] and of probes [P], and by the places' position embeddings [N, C]. */
export interface Slopes {
  readonly gates: ArrayLike<number>;
  readonly coming: ArrayLike<number>;
  readonly places: ArrayLike<number>;
}

/** Run cells and probes.   @param places position embeddings of the cells' places.   [N, C] */
export function probedPass(
  model: Geneformer,
  batch: readonly Probed[],
  places: Float32Array,
  { layers, target, ends }: { readonly layers: number; readonly target: Target; readonly ends: Ends },
): Pass {
  const { width } = model.config;
  const probes = batch.reduce((sum, { probes }) => sum + probes.length, 0);
  const { pass, given } = inference(() => {
    const rows = places.length / width;
    const open = [tensor(places, [rows, width]), tensor(new Float32Array(rows).fill(1))] as const;
    const given = probes > 0 ? ([...open, tensor(new Float32Array(probes))] as const) : open; // genes count, probes do not yet
    return { given, pass: pullback(() => forward(model, batch, layers, target, ends, given), given) };
  });
  return { value: pass.value, pull: (dy) => pulled(pass, dy), free: () => freed(pass, given) };
}

async function pulled({ value, pull }: Pullback, dy: ArrayLike<number>): Promise<Slopes> {
  const made = inference(() => pull(tensor(Float32Array.from(dy), value.shape)));
  const reads = made.map((grad) => grad.data());
  for (const grad of made) grad.free(); // once they have been read
  const [places, gates, coming = []] = await Promise.all(reads);
  return { gates, coming, places };
}

function freed({ value, free }: Pullback, given: readonly Tensor[]): void {
  free();
  for (const t of [value, ...given]) t.free();
}

function forward(
  model: Geneformer,
  batch: readonly Probed[],
  layers: number,
  target: Target,
  ends: Ends,
  [places, gates, coming]: readonly [places: Tensor, gates: Tensor, coming?: Tensor],
): Tensor {
  const cells = streamAt(model, batch.map(({ cell }) => cell.map((token, place): Probe => [token, place]))); // biome-ignore format: one line
  const probes = coming ? streamAt(model, batch.map(({ probes }) => probes)) : null; // biome-ignore format: one line
  /** What is made of probes, off the tape. */
  const aside = <T>(f: (stream: Stream) => T): T | null => probes && onTape(null, () => f(probes));

  let x = model.embeddings.forward(cells, null, "f32", places);
  let p = aside((stream) => model.embeddings.forward(stream, null));
  for (const [i, layer] of model.layers.slice(0, layers).entries()) {
    const [below, beside, last]: [Tensor, Tensor | null, boolean] = [x, p, i === layers - 1];
    [x, p] = scoped((): readonly [Tensor, Tensor | null] => {
      const [q, k, v] = [layer.query.forward(below), layer.key.forward(below), layer.value.forward(below)];
      const arrivals = aside(({ segments }) =>
        beside ? { keys: layer.key.forward(beside), values: layer.value.forward(beside), segments } : null,
      );
      const above = presence(q, k, v, gates, coming ?? null, arrivals, cells.segments, model.config.heads);
      // of the last layer probes are part of the mean, and of nothing else
      const over = beside && last && target !== "cell";
      const next = aside(({ segments }) =>
        beside && !over
          ? layer.close(beside, layer.attention.forward(layer.query.forward(beside), k, v, segments, { keys: cells.segments }))
          : null,
      );
      return [layer.close(below, above), next];
    });
  }
  if (target === "rows") return x;
  if (target === "cls") return gather(x, index(firstRows(batch.map(({ cell }) => cell.length)), cells.segments.rows));
  // The mean of the genes, each as much as it counts: special tokens nothing.
  const counts = batch.flatMap(({ cell }) => {
    const [first, end] = genesOf(cell.length, ends);
    return cell.map((_, i) => Number(i >= first && i < end));
  });
  const column = (weights: Tensor) => reshape(weights, [weights.shape[0], 1]);
  const total = (rows: Tensor, weights: Tensor, of: Segments) => [segmentSum(mul(rows, weights), of), segmentSum(weights, of)];
  const genes = total(x, column(mul(gates, tensor(Float32Array.from(counts)))), cells.segments);
  const [sums, weights] = p && coming && probes ? total(p, column(coming), probes.segments).map((more, i) => add(genes[i], more)) : genes;
  return div(sums, weights);
}

/** Cells of tokens at ranks, as a stream. */
export function streamAt({ config }: Geneformer, cells: readonly (readonly Probe[])[]): Stream {
  const all = cells.flat();
  const tokens = all.map(([token]) => token);
  const ranks = all.map(([, place]) => place);
  return {
    tokens: index(tokens, config.vocabulary, { gradients: false }),
    positions: index(ranks, config.length, { gradients: false }),
    segments: segments(cells.map(({ length }) => length)),
  };
}

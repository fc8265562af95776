/** Cells packed into a stream: tokens, ranks and segments on the device, within capacities. */

import { index, mostTiles, rewriteIndex, rewriteSegments, segments } from "../../src/stream.ts";
import type { Config } from "../config.ts";
import type { Stream } from "../model.ts";

export interface StreamOptions {
  /** Fixed sizes: tokens and cells of every batch. Default: exactly what the cells need. */
  readonly capacity?: { readonly tokens: number; readonly cells: number };
  /** Will anything be differentiated by the embeddings? Default true. */
  readonly gradients?: boolean;
}

/** Cells one after the other: the token and the rank at each of `rows` places. @throws RangeError for a cell or a token beyond the model's sizes. */
function placesOf(cells: readonly ArrayLike<number>[], config: Config, rows: number) {
  const tokens = new Uint32Array(rows);
  const positions = new Uint32Array(rows);
  let at = 0;
  cells.forEach((cell, c) => {
    if (cell.length > config.length)
      throw new RangeError(
        `stream: cell ${c} has ${cell.length} tokens, but the model has positions for ${config.length}; tokenize with that input size`,
      );
    for (let i = 0; i < cell.length; i++, at++) {
      if (!(cell[i] >= 0 && cell[i] < config.vocabulary))
        throw new RangeError(
          `stream: token ${cell[i]} at place ${i} of cell ${c} is beyond the model's vocabulary of ${config.vocabulary}; was it tokenized with another dictionary?`,
        );
      tokens[at] = cell[i];
      positions[at] = i;
    }
  });
  return { tokens, positions };
}

const sizes = (cells: readonly ArrayLike<number>[]) => {
  const lengths = cells.map((cell) => cell.length);
  return { lengths, used: lengths.reduce((a, b) => a + b, 0) };
};

/** The token of <pad>, which learns nothing, as torch's padding_idx. */
const PAD = 0;

/**
 * Pack cells into a stream.
 * @param cells the tokens of each cell, most expressed gene first.
 * @throws RangeError for a cell longer than the model's positions, or a token beyond its vocabulary, naming cell and place.
 */
export function streamOf(cells: readonly ArrayLike<number>[], config: Config, { capacity, gradients = true }: StreamOptions = {}): Stream {
  const { lengths, used } = sizes(cells);
  const rows = capacity?.tokens ?? used;
  const { tokens, positions } = placesOf(cells, config, rows);
  return {
    tokens: index(tokens, config.vocabulary, { count: used, frozen: PAD, gradients }),
    positions: index(positions, config.length, { count: used, gradients }),
    segments: segments(lengths, capacity && { rows, cells: capacity.cells, tiles: mostTiles(rows, capacity.cells) }),
  };
}

/** Write other cells into a stream that was made with capacities. @throws as `streamOf`; RangeError for more cells or tokens than it has room for. */
export function rewriteStream(stream: Stream, cells: readonly ArrayLike<number>[], config: Config): void {
  const { lengths, used } = sizes(cells);
  rewriteSegments(stream.segments, lengths); // says what does not fit
  const { tokens, positions } = placesOf(cells, config, stream.segments.rows);
  rewriteIndex(stream.tokens, tokens, { count: used, frozen: PAD });
  rewriteIndex(stream.positions, positions, { count: used });
}

/** Cells packed into a stream: tokens, ranks and segments on the device, within capacities. */

import { index, mostTiles, segments } from "../../src/stream.ts";
import type { Config } from "../config.ts";
import type { Stream } from "../model.ts";

export interface StreamOptions {
  /** Fixed sizes: tokens and cells of every batch. Default: exactly what the cells need. */
  readonly capacity?: { readonly tokens: number; readonly cells: number };
  /** Will anything be differentiated by the embeddings? Default true. */
  readonly gradients?: boolean;
}

/**
 * Pack cells into a stream.
 * @param cells the tokens of each cell, most expressed gene first.
 * @throws RangeError for a cell longer than the model's positions, or a token beyond its vocabulary, naming cell and place.
 */
export function streamOf(cells: readonly ArrayLike<number>[], config: Config, { capacity, gradients = true }: StreamOptions = {}): Stream {
  const lengths = cells.map((cell) => cell.length);
  const used = lengths.reduce((a, b) => a + b, 0);
  const rows = capacity?.tokens ?? used;
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
  return {
    tokens: index(tokens, config.vocabulary, { count: used, frozen: 0, gradients }), // <pad> is frozen, as torch's padding_idx
    positions: index(positions, config.length, { count: used, gradients }),
    segments: segments(lengths, capacity && { rows, cells: capacity.cells, tiles: mostTiles(rows, capacity.cells) }),
  };
}

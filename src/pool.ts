/** Buffers by size: what is given back is taken again, so that a step after the first allocates nothing. */

/** Smallest class, bytes: also the least a uniform or storage binding may need. */
const LEAST = 16;

/** The size class of a request, bytes: four classes to each doubling, so at most a quarter is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= LEAST) return LEAST;
  const step = Math.max(LEAST, 2 ** (Math.floor(Math.log2(bytes)) - 2));
  return Math.ceil(bytes / step) * step;
}

/** How much larger than asked a free block may be: beyond that a new one is made. */
const MOST_WASTE = 2;

/** Blocks of one device. `live` counts what tensors hold, `reserved` all that was ever made; both in bytes, as blocks are large. */
export class Pool<Block> {
  live = 0;
  peak = 0;
  reserved = 0;
  readonly #free = new Map<number, Block[]>();
  readonly #sizes = new Map<Block, number>();
  readonly #make: (bytes: number) => Block;

  /** @param make a block of so many bytes; throws when there is no memory for it. */
  constructor(make: (bytes: number) => Block) {
    this.#make = make;
  }

  /** A block of at least `bytes`, with whatever it held before. @throws what `make` throws, when no free block is large enough either. */
  take(bytes: number): Block {
    const size = sizeClass(bytes);
    const block = this.#reuse(size, MOST_WASTE * size) ?? this.#new(size);
    this.live += this.#sizes.get(block) ?? 0;
    this.peak = Math.max(this.peak, this.live);
    return block;
  }

  /** Give a block back. */
  give(block: Block): void {
    const size = this.#sizes.get(block) ?? 0;
    this.live -= size;
    const free = this.#free.get(size);
    if (free) free.push(block);
    else this.#free.set(size, [block]);
  }

  /** The smallest free block of these sizes. */
  #reuse(least: number, most: number): Block | undefined {
    if (this.#free.get(least)?.length) return this.#free.get(least)?.pop();
    const sizes = [...this.#free].flatMap(([size, blocks]) => (blocks.length > 0 && size >= least && size <= most ? [size] : []));
    return this.#free.get(Math.min(...sizes))?.pop();
  }

  #new(size: number): Block {
    try {
      const block = this.#make(size);
      this.#sizes.set(block, size);
      this.reserved += size;
      return block;
    } catch (error) {
      const larger = this.#reuse(size, Number.POSITIVE_INFINITY);
      if (larger === undefined) throw error;
      return larger;
    }
  }
}

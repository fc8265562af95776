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

/** What a pool is made of. */
export interface Blocks<Block> {
  /** A block of so many bytes; throws when there is no memory for it. */
  make(bytes: number): Block;
  /** Let go of a block for good. Without it, what was made stays. */
  destroy?(block: Block): void;
  /** The most bytes there may be in all. */
  readonly limit?: number;
  /** The error for a request of so many bytes that the limit forbids. */
  fail?(asked: number): Error;
}

/** Blocks of one device. `live` counts what tensors hold, `reserved` all that there is; both in bytes, as blocks are large. */
export class Pool<Block> {
  live = 0;
  peak = 0;
  reserved = 0;
  readonly limit: number;
  readonly #free = new Map<number, Block[]>();
  readonly #sizes = new Map<Block, number>();
  readonly #blocks: Blocks<Block>;

  constructor(blocks: Blocks<Block>) {
    this.#blocks = blocks;
    this.limit = blocks.limit ?? Number.POSITIVE_INFINITY;
  }

  /** A block of at least `bytes`, with whatever it held before. @throws when there is no memory for it, and no free block is large enough either. */
  take(bytes: number): Block {
    const size = sizeClass(bytes);
    const block = this.#reuse(size, MOST_WASTE * size) ?? this.#new(size);
    this.live += this.#sizes.get(block) ?? 0;
    this.peak = Math.max(this.peak, this.live);
    return block;
  }

  /** Give a block back. */
  give(block: Block): void {
    const size = this.#sizes.get(block);
    if (size === undefined) return; // it was dropped
    this.live -= size;
    const free = this.#free.get(size);
    if (free) free.push(block);
    else this.#free.set(size, [block]);
  }

  /** Forget a block that somebody holds, and that is of no use. */
  drop(block: Block): void {
    const size = this.#sizes.get(block) ?? 0;
    this.#sizes.delete(block);
    this.live -= size;
    this.reserved -= size;
  }

  /** Destroy every block that nobody holds. */
  trim(): void {
    const { destroy } = this.#blocks;
    if (!destroy) return;
    for (const [size, blocks] of this.#free) {
      for (const block of blocks) {
        this.#sizes.delete(block);
        this.reserved -= size;
        destroy(block);
      }
    }
    this.#free.clear();
  }

  /** The smallest free block of these sizes. */
  #reuse(least: number, most: number): Block | undefined {
    if (this.#free.get(least)?.length) return this.#free.get(least)?.pop();
    const sizes = [...this.#free].flatMap(([size, blocks]) => (blocks.length > 0 && size >= least && size <= most ? [size] : []));
    return this.#free.get(Math.min(...sizes))?.pop();
  }

  #new(size: number): Block {
    const { make, fail } = this.#blocks;
    if (this.reserved + size > this.limit) {
      const larger = this.#reuse(size, Number.POSITIVE_INFINITY);
      if (larger !== undefined) return larger;
      this.trim();
      if (this.reserved + size > this.limit) throw fail?.(size) ?? new RangeError(`pool: ${size} bytes are more than its limit leaves`);
    }
    const block = make(size);
    this.#sizes.set(block, size);
    this.reserved += size;
    return block;
  }
}

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

/** Where blocks come from. */
export interface Source<Block> {
  /** A block of at least so many bytes. @throws when there is no memory for it. */
  take(bytes: number): Block;
  give(block: Block): void;
}

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
export class Pool<Block> implements Branch<Block> {
  live = 0;
  peak = 0;
  reserved = 0;
  readonly limit: number;
  readonly #free = new Map<number, Block[]>();
  readonly #sizes = new Map<Block, number>();
  readonly #blocks: Blocks<Block>;
  #closed = false;

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
    if (this.#closed) this.trim();
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

  /** Destroy every block: now, or when it comes back. */
  close(): void {
    this.#closed = true;
    this.trim();
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

/** A part of a source, for itself. */
export interface Branch<Block> extends Source<Block> {
  /** Bytes that it has of the source. */
  readonly reserved: number;
  /** Give all of it back to the source: now, or when nobody holds any of it. */
  close(): void;
}

/** A pool whose blocks come from another source. */
export const poolOn = <Block>(root: Source<Block>): Pool<Block> =>
  new Pool({ make: (size) => root.take(size), destroy: (block) => root.give(block) });

/**
 * A source on which recordings have branches: what is taken while one grows belongs to it, and what comes back in that time is taken again there. So
 * buffers that are not needed at the same time share their memory, and nobody else ever writes to what a replay uses.
 */
export class Branching<Block> implements Source<Block> {
  readonly #root: Source<Block>;
  readonly #branch: (root: Source<Block>) => Branch<Block>;
  /** Whose a block is, while somebody holds it. */
  readonly #owner = new Map<Block, Branch<Block>>();
  #growing: Branch<Block> | null = null;

  constructor(root: Source<Block>, branch: (root: Source<Block>) => Branch<Block>) {
    this.#root = root;
    this.#branch = branch;
  }

  take(bytes: number): Block {
    if (!this.#growing) return this.#root.take(bytes);
    const block = this.#growing.take(bytes);
    this.#owner.set(block, this.#growing);
    return block;
  }

  give(block: Block): void {
    const owner = this.#owner.get(block) ?? this.#root;
    this.#owner.delete(block);
    owner.give(block);
  }

  /** Begin a branch, from which all is taken until `end`. */
  begin(): Branch<Block> {
    this.#growing = this.#branch(this.#root);
    return this.#growing;
  }

  end(): void {
    this.#growing = null;
  }
}

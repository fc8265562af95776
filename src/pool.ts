/** Buffers by size: what is given back is taken again, so that a step after the first allocates nothing. */

/** Smallest class, bytes: also the least a uniform or storage binding may need. */
const LEAST = 16;

/** The size class of a request, bytes: four classes to each doubling, so at most a quarter is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= LEAST) return LEAST;
  const step = Math.max(LEAST, 2 ** (Math.floor(Math.log2(bytes)) - 2));
  return Math.ceil(bytes / step) * step;
}

/** Blocks of one device. `live` counts what tensors hold, `reserved` all that was ever made and not destroyed; both in bytes. */
export class Pool<Block> {
  live = 0;
  peak = 0;
  reserved = 0;
  readonly #free = new Map<number, Block[]>();
  readonly #make: (bytes: number) => Block;

  constructor(make: (bytes: number) => Block) {
    this.#make = make;
  }

  /** A block of at least `bytes`, with whatever it held before. */
  take(bytes: number): Block {
    const size = sizeClass(bytes);
    let block = this.#free.get(size)?.pop();
    if (block === undefined) {
      block = this.#make(size);
      this.reserved += size;
    }
    this.live += size;
    this.peak = Math.max(this.peak, this.live);
    return block;
  }

  /** Give back a block that was taken with the same number of bytes. */
  give(block: Block, bytes: number): void {
    const size = sizeClass(bytes);
    this.live -= size;
    const free = this.#free.get(size);
    if (free) free.push(block);
    else this.#free.set(size, [block]);
  }

  /** Every block that nobody holds, taken out of the pool for good. */
  drain(): Block[] {
    const blocks = [...this.#free.values()].flat();
    for (const [size, free] of this.#free) this.reserved -= size * free.length;
    this.#free.clear();
    return blocks;
  }
}

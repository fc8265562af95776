/** Addresses in one memory that grows: the smallest free stretch that fits is taken, and neighbours merge when they come back. */

import type { Branch, Source } from "./pool.ts";

/** What a vector load likes best, bytes. */
const ALIGNMENT = 16;

/** What is taken for a request, bytes. */
const sizeOf = (bytes: number): number => Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;

interface Stretch {
  at: number;
  size: number;
}

/** Free memory, by address; no two stretches touch. */
class Stretches {
  readonly #all: Stretch[] = [];

  /** So much of the smallest that fits below the limit. */
  take(size: number, limit = Number.POSITIVE_INFINITY): number | undefined {
    let best = -1;
    for (let i = 0; i < this.#all.length; i++) {
      const { at, size: room } = this.#all[i];
      if (room >= size && at + size <= limit && (best < 0 || room < this.#all[best].size)) best = i;
    }
    if (best < 0) return undefined;
    const stretch = this.#all[best];
    const { at } = stretch;
    stretch.at += size;
    stretch.size -= size;
    if (stretch.size === 0) this.#all.splice(best, 1);
    return at;
  }

  give(at: number, size: number): void {
    const next = this.#after(at);
    const [left, right] = [this.#all[next - 1], this.#all[next]];
    const joinsLeft = left !== undefined && left.at + left.size === at;
    const joinsRight = right !== undefined && at + size === right.at;
    if (joinsLeft) left.size += size + (joinsRight ? right.size : 0);
    if (joinsLeft && joinsRight) this.#all.splice(next, 1);
    else if (joinsRight && !joinsLeft) Object.assign(right, { at, size: size + right.size });
    else if (!joinsLeft) this.#all.splice(next, 0, { at, size });
  }

  /** Where the stretch begins that ends at an address: that address, where there is none. */
  before(end: number): number {
    const left = this.#all[this.#after(end) - 1];
    return left !== undefined && left.at + left.size === end ? left.at : end;
  }

  /** The place of the first that lies after an address. */
  #after(at: number): number {
    let [low, high] = [0, this.#all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#all[middle].at < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export class Heap implements Source<number> {
  /** Bytes taken now, taken at most, and all that was ever reached. */
  live = 0;
  peak = 0;
  reserved = 0;
  /** The most bytes the memory may have. */
  limit: number;
  readonly #bottom: number;
  #top: number;
  readonly #free = new Stretches();
  readonly #sizes = new Map<number, number>();
  readonly #grow: (bytes: number) => boolean;
  readonly #fail: (asked: number) => Error;

  /**
   * @param bottom the first address that is free.   @param limit bytes the memory may have.
   * @param grow make the memory this large, in bytes; false when it cannot be had.   @param fail makes the error for a request of so many bytes.
   */
  constructor(bottom: number, limit: number, grow: (bytes: number) => boolean, fail: (asked: number) => Error) {
    this.#bottom = Math.ceil(bottom / ALIGNMENT) * ALIGNMENT;
    this.#top = this.#bottom;
    this.limit = limit;
    this.#grow = grow;
    this.#fail = fail;
  }

  /** The address of `bytes` of whatever. @throws what `fail` makes, when there is no room; nothing has changed then. */
  take(bytes: number): number {
    const size = sizeOf(bytes);
    const at = this.#free.take(size, this.limit) ?? this.#extend(size);
    if (at === undefined) throw this.#fail(bytes);
    this.#sizes.set(at, size);
    this.live += size;
    this.peak = Math.max(this.peak, this.live);
    return at;
  }

  /** Give back what was taken. */
  give(at: number): void {
    const size = this.#sizes.get(at);
    if (size === undefined) return;
    this.#sizes.delete(at);
    this.live -= size;
    this.#free.give(at, size);
  }

  /** From the top, and what is free just below it. */
  #extend(size: number): number | undefined {
    const at = this.#free.before(this.#top);
    const end = at + size;
    if (end > this.limit || !this.#grow(end)) return undefined;
    this.#free.give(this.#top, end - this.#top);
    this.#top = end;
    this.reserved = end - this.#bottom;
    return this.#free.take(size);
  }
}

/** Stretches of a heap for somebody's own. They go back together, since what is taken here may lie across several. */
export class HeapBranch implements Branch<number> {
  live = 0;
  reserved = 0;
  readonly #root: Source<number>;
  readonly #stretches: number[] = [];
  readonly #free = new Stretches();
  readonly #sizes = new Map<number, number>();
  #closed = false;

  constructor(root: Source<number>) {
    this.#root = root;
  }

  take(bytes: number): number {
    const size = sizeOf(bytes);
    const at = this.#free.take(size) ?? this.#extend(size);
    this.#sizes.set(at, size);
    this.live += size;
    return at;
  }

  give(at: number): void {
    const size = this.#sizes.get(at) ?? 0;
    this.#sizes.delete(at);
    this.live -= size;
    this.#free.give(at, size);
    if (this.#closed) this.close();
  }

  close(): void {
    this.#closed = true;
    if (this.live > 0) return;
    for (const at of this.#stretches.splice(0)) this.#root.give(at);
    this.reserved = 0;
  }

  #extend(size: number): number {
    const at = this.#root.take(size);
    this.#stretches.push(at);
    this.reserved += size;
    return at;
  }
}

/** Addresses in one memory that grows: the smallest free stretch that fits is taken, and neighbours merge when they come back. */

/** What a vector load likes best, bytes. */
const ALIGNMENT = 16;

interface Stretch {
  at: number;
  size: number;
}

export class Heap {
  /** Bytes taken now, taken at most, and all that was ever reached. */
  live = 0;
  peak = 0;
  reserved = 0;
  /** The most bytes the memory may have. */
  limit: number;
  readonly #bottom: number;
  #top: number;
  /** By address; no two touch. */
  readonly #free: Stretch[] = [];
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
    const size = Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
    const at = this.#fit(size) ?? this.#extend(size);
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
    const next = this.#after(at);
    const [left, right] = [this.#free[next - 1], this.#free[next]];
    const joinsLeft = left !== undefined && left.at + left.size === at;
    const joinsRight = right !== undefined && at + size === right.at;
    if (joinsLeft) left.size += size + (joinsRight ? right.size : 0);
    if (joinsLeft && joinsRight) this.#free.splice(next, 1);
    else if (joinsRight && !joinsLeft) Object.assign(right, { at, size: size + right.size });
    else if (!joinsLeft) this.#free.splice(next, 0, { at, size });
  }

  /** The place among the free stretches of the first that lies after an address. */
  #after(at: number): number {
    let [low, high] = [0, this.#free.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#free[middle].at < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #fit(size: number): number | undefined {
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      const { at, size: room } = this.#free[i];
      if (room >= size && at + size <= this.limit && (best < 0 || room < this.#free[best].size)) best = i;
    }
    if (best < 0) return undefined;
    const stretch = this.#free[best];
    const { at } = stretch;
    stretch.at += size;
    stretch.size -= size;
    if (stretch.size === 0) this.#free.splice(best, 1);
    return at;
  }

  /** From the top, and what is free just below it. */
  #extend(size: number): number | undefined {
    const last = this.#free.at(-1);
    const at = last && last.at + last.size === this.#top ? last.at : this.#top;
    if (at + size > this.limit || !this.#grow(at + size)) return undefined;
    if (at !== this.#top) this.#free.pop();
    this.#top = at + size;
    this.reserved = this.#top - this.#bottom;
    return at;
  }
}

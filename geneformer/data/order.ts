/** In what order cells are seen, and how many of them make a batch: what must be the same after a resumed run as without the break. */

import type { Key } from "../../src/key.ts";

/** How far the data has been read: epochs done, and cells of the current one. */
export interface Cursor {
  readonly epoch: number;
  readonly place: number;
}

/** An endless walk through cells, each epoch in an order of its own that its key determines. */
export class Order {
  readonly #count: number;
  readonly #key: Key;
  #epoch: number;
  #place: number;
  #shuffled: Uint32Array;

  constructor(count: number, key: Key, { epoch, place }: Cursor = { epoch: 0, place: 0 }) {
    if (count < 1) throw new RangeError("Order(count, key): there are no cells to order");
    this.#count = count;
    this.#key = key;
    this.#epoch = epoch;
    this.#place = place;
    this.#shuffled = key.fold(epoch).permutation(count);
  }

  get cursor(): Cursor {
    return { epoch: this.#epoch, place: this.#place };
  }

  /** The cell that comes next, without taking it. */
  peek(): { readonly cell: number; readonly epoch: number } {
    if (this.#place === this.#count) {
      this.#epoch++;
      this.#place = 0;
      this.#shuffled = this.#key.fold(this.#epoch).permutation(this.#count);
    }
    return { cell: this.#shuffled[this.#place], epoch: this.#epoch };
  }

  take(): void {
    this.#place++;
  }
}

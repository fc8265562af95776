/** Moving words: axes in another order, a window of a tensor, a tensor laid into another (kernels/permute.ts). Of y's, or x's, words those from `first` to before `end`. */

import { layOut, writeAxes } from "./axes";

export function permute(
  x: usize, y: usize, axes: usize,
  n: u32, n1: u32, n2: u32, n3: u32, n4: u32, s0: u32, s1: u32, s2: u32, s3: u32, s4: u32, first: u32, end: u32,
): void {
  writeAxes(axes, n, n1, n2, n3, n4, s0, s1, s2, s3, s4);
  layOut(x, axes, first, end, y + usize(first) * 4);
}

/** A word, or the nearest of those from `first` to `end`. */
@inline
function within(word: i64, first: u32, end: u32): u32 {
  return u32(min<i64>(max<i64>(word, i64(first)), i64(end)));
}

/** Of each outer index a run of x, and zeros before and behind it, where y goes beyond x. */
export function window(x: usize, y: usize, n: u32, size: u32, whole: u32, inner: u32, start: i32, first: u32, end: u32): void {
  const block = i64(size) * inner;
  for (let outer = first < end ? i64(first) / block : 0; first < end; outer++) {
    // where x begins and ends, in words of y
    const from = outer * block - i64(start) * inner;
    const behind = from + i64(whole) * inner;
    const stop = within((outer + 1) * block, first, end);
    const zeros = within(from, first, stop);
    memory.fill(y + usize(first) * 4, 0, usize(zeros - first) * 4);
    const copied = within(behind, zeros, stop);
    // even a copy of nothing must be from where there is memory
    if (copied > zeros) memory.copy(y + usize(zeros) * 4, x + usize(outer * whole * inner + zeros - from) * 4, usize(copied - zeros) * 4);
    memory.fill(y + usize(copied) * 4, 0, usize(stop - copied) * 4);
    first = stop;
  }
}

export function paste(x: usize, y: usize, n: u32, size: u32, whole: u32, inner: u32, start: u32, first: u32, end: u32): void {
  const block = size * inner;
  while (first < end) {
    const outer = first / block;
    const rest = first - outer * block;
    const count = min<u32>(block - rest, end - first);
    memory.copy(y + (usize(outer * whole + start) * inner + rest) * 4, x + usize(first) * 4, usize(count) * 4);
    first += count;
  }
}

/** What stretches or has its axes in another order (kernels/axes.ts): its numbers laid out as five axes walk over them; words, whatever they stand for. */

import { min } from "./panel";

/** Bytes of an operand's axes (kernels/cpu/scratch.ts): size and stride of each, the innermost first. */
export const AXES: usize = 40;

@inline
function sizeAt(axes: usize, i: usize): u32 {
  return load<u32>(axes + 8 * i);
}

@inline
function strideAt(axes: usize, i: usize): u32 {
  return load<u32>(axes + 8 * i, 4);
}

/** Writes the axes, as few as will do: one whose stride is what the axis within comes to goes on where that ends, and one of size 1 is none. */
export function writeAxes(
  axes: usize, n: u32, n1: u32, n2: u32, n3: u32, n4: u32, s0: u32, s1: u32, s2: u32, s3: u32, s4: u32,
): void {
  const within = n1 * n2 * n3 * n4;
  let last = axes;
  store<u32>(axes, n4);
  store<u32>(axes, s4, 4);
  for (let i: usize = 1; i < 5; i++) {
    const size = i == 1 ? n3 : i == 2 ? n2 : i == 3 ? n1 : n / max<u32>(within, 1);
    const stride = i == 1 ? s3 : i == 2 ? s2 : i == 3 ? s1 : s0;
    const inner = load<u32>(last);
    if (size == 1) continue;
    if (inner == 1) {
      store<u32>(last, size);
      store<u32>(last, stride, 4);
    } else if (stride == inner * load<u32>(last, 4)) store<u32>(last, inner * size);
    else {
      last += 8;
      store<u32>(last, size);
      store<u32>(last, stride, 4);
    }
  }
  for (last += 8; last < axes + AXES; last += 8) {
    store<u32>(last, 1);
    store<u32>(last, 0, 4);
  }
}

/** Does x lie as its axes walk over it? */
@inline
export function inOrder(axes: usize, n: u32): bool {
  return sizeAt(axes, 0) == n && strideAt(axes, 0) == 1;
}

/** Is x one number everywhere? */
@inline
export function still(axes: usize, n: u32): bool {
  return sizeAt(axes, 0) == n && strideAt(axes, 0) == 0;
}

/** `count` words, `step` words apart, side by side. */
function line(x: usize, step: u32, count: u32, to: usize): void {
  const end = to + usize(count) * 4;
  const most = to + (usize(count) & ~3) * 4;
  if (step == 1) {
    if (count > LONG) {
      memory.copy(to, x, usize(count) * 4);
      return;
    }
    for (; to < most; to += 16) {
      v128.store(to, v128.load(x));
      x += 16;
    }
    for (; to < end; to += 4) {
      store<u32>(to, load<u32>(x));
      x += 4;
    }
  } else if (step == 0) {
    const all = v128.load_splat<u32>(x);
    for (; to < most; to += 16) v128.store(to, all);
    for (; to < end; to += 4) v128.store_lane<u32>(to, all, 0);
  } else {
    const bytes = usize(step) * 4;
    for (; to < end; to += 4) {
      store<u32>(to, load<u32>(x));
      x += bytes;
    }
  }
}

/** From so many words on the engine's own copy is worth its call. */
const LONG: u32 = 128;

/** Four lines at once of `count` words, `step` words apart, where neighbours of x lie in neighbouring lines: a transposition, four by four. */
function fourLines(x: usize, step: u32, count: u32, to: usize): void {
  const bytes = usize(step) * 4;
  const next = usize(count) * 4;
  const rest = count & 3;
  for (const end = to + usize(count - rest) * 4; to < end; to += 16) {
    const a = v128.load(x);
    const b = v128.load(x + bytes);
    const c = v128.load(x + 2 * bytes);
    const d = v128.load(x + 3 * bytes);
    const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
    const ba = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    const dc = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
    v128.store(to + next, v128.shuffle<i64>(ab, cd, 1, 3));
    v128.store(to + 2 * next, v128.shuffle<i64>(ba, dc, 0, 2));
    v128.store(to + 3 * next, v128.shuffle<i64>(ba, dc, 1, 3));
    x += 4 * bytes;
  }
  for (let i: u32 = 0; i < rest; i++) {
    const a = v128.load(x);
    v128.store_lane<u32>(to, a, 0);
    v128.store_lane<u32>(to + next, a, 1);
    v128.store_lane<u32>(to + 2 * next, a, 2);
    v128.store_lane<u32>(to + 3 * next, a, 3);
    x += bytes;
    to += 4;
  }
}

/** Of the elements that the axes walk over, numbers `first` to before `end`, laid out from `to` on. */
export function layOut(x: usize, axes: usize, first: u32, end: u32, to: usize): void {
  const n0 = sizeAt(axes, 0);
  const n1 = sizeAt(axes, 1);
  const n2 = sizeAt(axes, 2);
  const n3 = sizeAt(axes, 3);
  const s0 = strideAt(axes, 0);
  const s1 = strideAt(axes, 1);
  const s2 = strideAt(axes, 2);
  const s3 = strideAt(axes, 3);
  const s4 = strideAt(axes, 4);
  if (first >= end) return;
  let rest = first / n0;
  let c0 = first % n0;
  let c1 = rest % n1;
  rest /= n1;
  let c2 = rest % n2;
  rest /= n2;
  let c3 = rest % n3;
  let c4 = rest / n3;
  for (;;) {
    const from = x + usize(c0 * s0 + c1 * s1 + c2 * s2 + c3 * s3 + c4 * s4) * 4;
    const four = s0 > 1 && s1 == 1 && c0 == 0 && c1 + 4 <= n1 && end - first >= 4 * n0;
    const count = four ? 4 * n0 : min(n0 - c0, end - first);
    if (four) fourLines(from, s0, n0, to);
    else line(from, s0, count, to);
    first += count;
    if (first == end) return;
    to += usize(count) * 4;
    c0 = 0;
    c1 += four ? 4 : 1;
    if (c1 < n1) continue;
    c1 = 0;
    if (++c2 < n2) continue;
    c2 = 0;
    if (++c3 < n3) continue;
    c3 = 0;
    c4++;
  }
}

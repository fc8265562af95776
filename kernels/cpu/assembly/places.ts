/** What goes by places in a row, a number at a time: running sums (kernels/scan.ts), numbers by index (kernels/take.ts), the largest (kernels/topk.ts). */

export function cumsum(x: usize, y: usize, rows: u32, cols: u32, reverse: u32): void {
  const row = usize(cols) * 4;
  for (let i: u32 = 0; i < rows; i++) {
    let sum: f64 = 0;
    for (let j: u32 = 0; j < cols; j++) {
      const at = usize(reverse ? cols - 1 - j : j) * 4;
      sum += load<f32>(x + at);
      store<f32>(y + at, f32(sum));
    }
    x += row;
    y += row;
  }
}

export function take(x: usize, indices: usize, y: usize, rows: u32, cols: u32, k: u32): void {
  for (let i: u32 = 0; i < rows; i++) {
    for (let j: u32 = 0; j < k; j++) {
      const index = load<u32>(indices);
      store<f32>(y, index < cols ? load<f32>(x + usize(index) * 4) : 0);
      indices += 4;
      y += 4;
    }
    x += usize(cols) * 4;
  }
}

export function takeGrad(indices: usize, dy: usize, dx: usize, rows: u32, cols: u32, k: u32): void {
  memory.fill(dx, 0, usize(rows) * cols * 4);
  for (let i: u32 = 0; i < rows; i++) {
    for (let j: u32 = 0; j < k; j++) {
      const index = load<u32>(indices);
      const at = dx + usize(index) * 4;
      if (index < cols) store<f32>(at, load<f32>(at) + load<f32>(dy));
      indices += 4;
      dy += 4;
    }
    dx += usize(cols) * 4;
  }
}

export function oneHot(labels: usize, y: usize, rows: u32, cols: u32): void {
  memory.fill(y, 0, usize(rows) * cols * 4);
  for (let i: u32 = 0; i < rows; i++) {
    const label = load<u32>(labels + usize(i) * 4);
    if (label < cols) store<f32>(y + usize(label) * 4, 1);
    y += usize(cols) * 4;
  }
}

/** Does a stand before b? NaN is the largest of all. */
@inline
function before(a: f32, b: f32): bool {
  return a > b || (a != a && b == b);
}

/** By insertion among those found so far; most numbers of a long row are less than the last of them, and that is all they are compared with. */
export function topK(x: usize, indices: usize, rows: u32, cols: u32, k: u32): void {
  for (let row: u32 = 0; row < rows; row++) {
    let count: u32 = 0;
    let least: f32 = 0; // of those found, when they are k
    for (let j: u32 = 0; j < cols && k > 0; j++) {
      const value = load<f32>(x + usize(j) * 4);
      if (count == k && !before(value, least)) continue;
      let place: u32 = 0; // the first of what is smaller, found by halving
      for (let end = count; place < end; ) {
        const middle = (place + end) >> 1;
        if (before(value, load<f32>(x + usize(load<u32>(indices + usize(middle) * 4)) * 4))) end = middle;
        else place = middle + 1;
      }
      const at = indices + usize(place) * 4;
      if (count < k) count++;
      memory.copy(at + 4, at, usize(count - 1 - place) * 4); // one place back, and the last out
      store<u32>(at, j);
      if (count == k) least = load<f32>(x + usize(load<u32>(indices + usize(k - 1) * 4)) * 4);
    }
    x += usize(cols) * 4;
    indices += usize(k) * 4;
  }
}

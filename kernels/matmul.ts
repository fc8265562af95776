/**
 * c = a b, batched, either side read transposed, with an epilogue: + bias, relu, + residual.
 *
 * A workgroup makes a 64 x 64 tile of c: 16 x 16 lanes, each with 4 x 4 elements in registers. Slices of both operands, 16 deep, pass
 * through workgroup memory, so each number fetched is used 64 times.
 */

import { matmulScratch } from "./cpu/scratch.ts";
import { kernel, variants } from "./kernel.ts";

const TILE = 64;
const DEPTH = 16;
const SIDE = 16; // lanes along each side
const EACH = TILE / SIDE; // elements of c a lane owns along each side
const FETCHES = (TILE * DEPTH) / (SIDE * SIDE); // numbers of each operand a lane fetches per slice

/** NVIDIA's and others' shared memory has 32 banks; one more column keeps a column's rows in different ones. */
const PITCH = TILE + 1;

const unrolled = (n: number, line: (i: number) => string) => Array.from({ length: n }, (_, i) => line(i)).join("\n    ");

/**
 * `ta`, `tb`: a is stored [k, m], b is stored [n, k]. `bias` [n], `residual` like c. Strides are what lies between batches: 0 repeats one.
 * Parameters: m, n, k, batch, strideA, strideB.
 */
export const matmul = variants("matmul", (ta: boolean, tb: boolean, bias: boolean, relu: boolean, residual: boolean) => {
  const a = (i: string, k: string) => (ta ? `a[fromA + ${k} * p.m + ${i}]` : `a[fromA + ${i} * p.k + ${k}]`);
  const b = (k: string, j: string) => (tb ? `b[fromB + ${j} * p.k + ${k}]` : `b[fromB + ${k} * p.n + ${j}]`);
  // Neighbouring lanes fetch neighbours in memory: along k where rows are stored by k, else along the other side.
  const fetch = (tile: string, read: (i: string, k: string) => string, byK: boolean, first: string, most: string) => /* wgsl */ `
    for (var f = 0u; f < ${FETCHES}u; f++) {
      let at = f * ${SIDE * SIDE}u + lane;
      let i = ${byK ? `at / ${DEPTH}u` : `at % ${TILE}u`};
      let k = ${byK ? `at % ${DEPTH}u` : `at / ${TILE}u`};
      var value = 0.0;
      if (${first} + i < ${most} && k0 + k < p.k) { value = ${read(`(${first} + i)`, "(k0 + k)")}; }
      ${tile}[k * ${PITCH}u + i] = value;
    }`;
  return kernel({
    name: `matmul ${ta ? "T" : "N"}${tb ? "T" : "N"}${bias ? " bias" : ""}${relu ? " relu" : ""}${residual ? " residual" : ""}`,
    inputs: { a: "f32", b: "f32", ...(bias && { bias: "f32" as const }), ...(residual && { residual: "f32" as const }) },
    outputs: { c: "f32" },
    params: { m: "u32", n: "u32", k: "u32", batch: "u32", strideA: "u32", strideB: "u32" },
    passes: [
      {
        groups: ({ m, n, batch }) => batch * Math.ceil(m / TILE) * Math.ceil(n / TILE),
        wgsl: /* wgsl */ `
var<workgroup> tileA: array<f32, ${DEPTH * PITCH}>;
var<workgroup> tileB: array<f32, ${DEPTH * PITCH}>;

fn store(row: u32, col0: u32, fromC: u32, sum: vec4f) {
  if (row >= p.m) { return; }
  for (var j = 0u; j < ${EACH}u; j++) {
    let col = col0 + j * ${SIDE}u;
    if (col < p.n) {
      var value = sum[j];
      ${bias ? "value += bias[col];" : ""}
      ${relu ? "value = max(value, 0.0);" : ""}
      ${residual ? "value += residual[fromC + row * p.n + col];" : ""}
      c[fromC + row * p.n + col] = value;
    }
  }
}

@compute @workgroup_size(${SIDE}, ${SIDE})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (p.n + ${TILE - 1}u) / ${TILE}u;
  let down = (p.m + ${TILE - 1}u) / ${TILE}u;
  let group = groupOf(wid);
  if (group >= across * down * p.batch) { return; }
  let batch = group / (across * down);
  let row0 = group / across % down * ${TILE}u;
  let col0 = group % across * ${TILE}u;
  let fromA = batch * p.strideA; let fromB = batch * p.strideB; let fromC = batch * p.m * p.n;
  ${unrolled(EACH, (i) => `var sum${i} = vec4f();`)}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {
    ${fetch("tileA", a, !ta, "row0", "p.m")}
    ${fetch("tileB", (j, k) => b(k, j), tb, "col0", "p.n")}
    workgroupBarrier();
    for (var k = 0u; k < ${DEPTH}u; k++) {
    ${unrolled(EACH, (i) => `let a${i} = tileA[k * ${PITCH}u + id.y * ${EACH}u + ${i}u];`)}
    let b = vec4f(${Array.from({ length: EACH }, (_, j) => `tileB[k * ${PITCH}u + id.x + ${j * SIDE}u]`).join(", ")});
    ${unrolled(EACH, (i) => `sum${i} += a${i} * b;`)}
    }
    workgroupBarrier();
  }
  ${unrolled(EACH, (i) => `store(row0 + id.y * ${EACH}u + ${i}u, col0 + id.x, fromC, sum${i});`)}
}`,
      },
    ],
    compiled: {
      name: "matmul",
      buffers: ["a", "b", bias ? "bias" : null, residual ? "residual" : null, "c"],
      scratch: matmulScratch,
      // by batches where there are some, else by rows of c, where those of a lie one after the other
      split: ({ m, n, k, batch, strideA, strideB }) =>
        batch > 1
          ? { over: "batch", strides: [strideA, strideB, 0, m * n, m * n], work: m * n * k }
          : ta
            ? null
            : { over: "m", strides: [k, 0, 0, n, n], work: n * k, together: 8 },
      constants: [Number(ta), Number(tb), Number(relu)],
    },
    loops(buffers, { m, n, k, batch, strideA, strideB }) {
      const {
        a,
        b,
        c,
        bias: offsets,
        residual: rest,
      } = buffers as typeof buffers & { bias?: typeof buffers.c; residual?: typeof buffers.c };
      for (let t = 0; t < batch; t++)
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let s = 0; s < k; s++)
              sum += a[t * strideA + (ta ? s * m + i : i * k + s)] * b[t * strideB + (tb ? j * k + s : s * n + j)];
            if (offsets) sum += offsets[j];
            if (relu && sum < 0) sum = 0;
            c[(t * m + i) * n + j] = rest ? sum + rest[(t * m + i) * n + j] : sum;
          }
    },
  });
});

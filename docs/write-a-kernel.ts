/**
 * A kernel of your own. Run it: npx tsx docs/write-a-kernel.ts (looks for a WebGPU adapter too; `npx tsx docs/write-a-kernel.ts cpu` does without)
 *
 * A kernel is what the machine does in one go: a program for the GPU, and the same computation as plain loops. Write one where no op does what you
 * need, or where a line of ops passes over the numbers too often. Ours brings every row of a matrix to length 1, and its gradient kernel goes back:
 *
 *   r[i] = sqrt(sum_j x[i,j]^2 + eps)      y[i,j] = x[i,j] / r[i]      dx[i,j] = (dy[i,j] - y[i,j] sum_k dy[i,k] y[i,k]) / r[i]
 */

import {
  bind,
  checkGradients,
  choose,
  type Device,
  each,
  eachRow,
  Key,
  kernel,
  LANES,
  lanes,
  mse,
  op,
  run,
  type Shape,
  scoped,
  type Tensor,
  tensor,
  use,
  valueAndGrad,
  withDevice,
} from "geneformer-ts";

// ---- 1. The kernel --------------------------------------------------------------------------
//
// A kernel is data. Its buffers and parameters are lists of names and types. From these lists the library prints what must stand before your WGSL, so you
// never write it twice, and TypeScript knows what the loops are given:
//
//   struct Params { rows: u32, cols: u32, eps: f32 }
//   @group(0) @binding(0) var<uniform> p: Params;
//   @group(0) @binding(1) var<storage, read> x: array<f32>;
//   @group(0) @binding(2) var<storage, read_write> y: array<f32>;      and r likewise
//
// Then come the passes, each a WGSL program and the number of workgroups it takes, and the loops.
//
// eachRow gives each row a workgroup: LANES lanes that run the same body, with `lane` their number, `row` the row's, and `start` the place of its
// first element. Each lane takes every LANES-th element, so that neighbours in memory are read by neighbours in time. total(lane, s) adds up
// what the lanes have and gives all of them the sum. Parameters are p.name.
//
// The loops say the same for a person, and for the tests. They are slow and cannot be misunderstood. On `reference` they run in f64, and are the
// truth; on `cpu`, in f32, they are what runs until somebody compiles something faster.

const unitRows = kernel({
  name: "unitRows",
  inputs: { x: "f32" },
  outputs: { y: "f32", r: "f32" },
  params: { rows: "u32", cols: "u32", eps: "f32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var s = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { s += x[start + j] * x[start + j]; }
  let length = sqrt(total(lane, s) + p.eps);
  if (lane == 0u) { r[row] = length; }
  for (var j = lane; j < p.cols; j += ${LANES}u) { y[start + j] = x[start + j] / length; }`),
    },
  ],
  loops({ x, y, r }, { rows, cols, eps }) {
    for (let i = 0; i < rows; i++) {
      let s = 0;
      for (let j = 0; j < cols; j++) s += x[i * cols + j] ** 2;
      r[i] = Math.sqrt(s + eps);
      for (let j = 0; j < cols; j++) y[i * cols + j] = x[i * cols + j] / r[i];
    }
  },
});

const unitRowsGrad = kernel({
  name: "unitRowsGrad",
  inputs: { y: "f32", r: "f32", dy: "f32" },
  outputs: { dx: "f32" },
  params: { rows: "u32", cols: "u32" },
  passes: [
    {
      groups: ({ rows }) => rows,
      wgsl: eachRow(/* wgsl */ `
  var dot = 0.0;
  for (var j = lane; j < p.cols; j += ${LANES}u) { dot += dy[start + j] * y[start + j]; }
  dot = total(lane, dot);
  for (var j = lane; j < p.cols; j += ${LANES}u) { dx[start + j] = (dy[start + j] - y[start + j] * dot) / r[row]; }`),
    },
  ],
  loops({ y, r, dy, dx }, { rows, cols }) {
    for (let i = 0; i < rows; i++) {
      let dot = 0;
      for (let j = i * cols; j < (i + 1) * cols; j++) dot += dy[j] * y[j];
      for (let j = i * cols; j < (i + 1) * cols; j++) dx[j] = (dy[j] - y[j] * dot) / r[i];
    }
  },
});

// ---- 2. Is it right? ------------------------------------------------------------------------
//
// Run it on every device and compare with `reference`. Choose sizes on both sides of the kernel's edges: here the row is cut into pieces of LANES = 256.
// f32 holds 24 bits, so numbers may differ by some 2^-24 = 6e-8 of their size, and more after many additions. These are y, none above 1.

const EPS = 1e-6;
const WIDTHS = [1, 2, 255, 256, 257, 513];

const unit = (x: Tensor, by = unitRows) => {
  const { m: rows, n: cols } = bind("unit", "m n", [x.shape]);
  return run(by, { x }, { y: x.shape, r: [rows] }, { rows, cols, eps: EPS });
};

const drawn = (shape: Shape): Float64Array => Key.from(1).normals(shape.reduce((a, b) => a * b, 1));

/** y of three rows of some width, computed on a device. */
async function rowsOn(device: Device, width: number, by = unitRows): Promise<ArrayLike<number>> {
  const { y, r } = withDevice(device, () => scoped(() => unit(tensor(drawn([3, width]), [3, width]), by)));
  const values = await y.data();
  for (const t of [y, r]) t.free();
  return values;
}

const { device: reference } = await choose("reference");
const devices: Device[] = [(await choose("cpu")).device];
const [, , wanted = "auto"] = process.argv;
if (wanted !== "cpu") {
  try {
    devices.push((await choose("webgpu")).device);
  } catch (error) {
    console.log(`without a GPU: ${(error as Error).message}`);
  }
}

/** The largest difference from the loops in f64, at some width. */
async function off(device: Device, width: number, by = unitRows): Promise<number> {
  const [truth, got] = [await rowsOn(reference, width), await rowsOn(device, width, by)];
  return Math.max(...Array.from(truth, (value, i) => Math.abs(value - got[i])));
}

console.log(`largest difference from the reference, ${WIDTHS.join(", ")} wide:`);
for (const device of devices) {
  const differences: string[] = [];
  for (const width of WIDTHS) differences.push((await off(device, width)).toExponential(1));
  console.log(`  ${device.name.padEnd(9)} ${differences.join("  ")}`);
}

// ---- 3. An op of it -------------------------------------------------------------------------
//
// The kernel computes, the op knows the derivative: what to keep for the way back, y and r but not x, and which kernel goes it. checkGradients
// runs it on `reference`, so it checks the mathematics, in the loops. That the WGSL says what the loops say is what section 2 was for. Two
// questions, each with its own answer: when something is wrong you know where.

const unitLength = op("unitLength", (x: Tensor) => {
  const [rows, cols] = x.shape;
  const { y, r } = unit(x);
  return [y, [y, r], (dy) => [run(unitRowsGrad, { y, r, dy }, { dx: x.shape }, { rows, cols }).dx]];
});

for (const shape of [
  [1, 1],
  [3, 5],
  [2, 257],
])
  await checkGradients(unitLength, [{ shape, values: drawn(shape) }]);
console.log("checkGradients: the slopes agree at [1, 1], [3, 5] and [2, 257]");

// And it trains as any other: the direction of a row is learnt, whatever its length.

const device = use(devices[devices.length - 1]);
const goal = tensor([0.6, 0.8], [1, 2]);
const w = tensor([3, -1], [1, 2]);
for (let step = 0; step < 200; step++) {
  const { value, grads } = valueAndGrad(() => mse(unitLength(w), goal), [w]);
  const values = await w.data();
  const slope = await grads[0].data();
  w.write(Float64Array.from(values, (value, i) => value - 5 * slope[i])); // by hand, to see all of it; an optimiser does it on the device
  for (const t of [value, ...grads]) t.free();
}
const learnt = unit(w);
console.log(`learnt on ${device.name}: a direction of [${Array.from(await learnt.y.data(), (value) => value.toFixed(3)).join(", ")}]`);
for (const t of [goal, w, learnt.y, learnt.r]) t.free();

// ---- 4. What goes wrong ---------------------------------------------------------------------

const gpu = devices.find(({ name }) => name === "webgpu");
if (gpu) {
  // A wrong stride: lane 0 takes element 255, which is lane 255's too, once there is one. In rows of up to 255 nothing is wrong, and with small tests
  // alone nobody would ever know.
  const [pass] = unitRows.passes;
  const strides = kernel({ ...unitRows, name: "strides", passes: [{ ...pass, wgsl: pass.wgsl.replace(`j += ${LANES}u`, "j += 255u") }] });
  console.log(
    `a stride of 255: off by ${(await off(gpu, 255, strides)).toExponential(1)} at 255, ${(await off(gpu, 256, strides)).toExponential(1)} at 256`,
  );

  // A mistake in the WGSL itself. `each` is the other entry point: a lane for each of n results, `i` its number. The kernel is compiled when it
  // is first run, and what goes wrong on a device is said to whoever reads next, because nobody waits before that. (Dawn, the WebGPU of Node, prints
  // it as well, and what follows from it.)
  const roots = (line: string) =>
    kernel({
      name: "roots",
      inputs: { x: "f32" },
      outputs: { y: "f32" },
      params: { n: "u32" },
      passes: [{ groups: ({ n }) => lanes(n), wgsl: each(line) }],
      loops({ x, y }, { n }) {
        for (let i = 0; i < n; i++) y[i] = Math.sqrt(x[i]);
      },
    });
  const x = tensor([1, 4, 9]);
  const rootsOf = (line: string): Tensor => run(roots(line), { x }, { y: x.shape }, { n: x.size }).y;
  const broken = rootsOf("y[i] = squareRoot(x[i]);");
  await broken.data().catch((error: Error) => console.log(`a broken kernel: ${error.message.split("\n")[0]}`));

  // Kernels go to the GPU in batches, and a batch with a broken one in it is refused whole. The next read is told so; then the device works on.
  await x.data().catch((error: Error) => console.log(`its batch:       ${error.message.split("\n")[0]}`));
  console.log(`mended:          [${Array.from(await rootsOf("y[i] = sqrt(x[i]);").data()).join(", ")}]`);
}

for (const device of [reference, ...devices]) device.close();

/**
 * A network learns XOR. Run it: npx tsx docs/xor.ts (a few seconds; `npx tsx docs/xor.ts webgpu` runs it on another device).
 *
 * XOR is the smallest task that a single layer cannot do: no straight line parts 00 and 11 from 01 and 10. With one hidden layer it is easy. So
 * it is a good place to meet everything that training is made of: tensors, gradients, a model, an optimiser, memory, and a file at the end.
 */

import { inference, Key, mean, open, scoped, sigmoid, square, sub, type Tensor, tanh, tensor, valueAndGrad } from "geneformer-ts";
import {
  AdamW,
  countParameters,
  freeParameters,
  Linear,
  load,
  parameters,
  readSafetensors,
  valuesOf,
  writeSafetensors,
} from "geneformer-ts/nn";

// ---- 1. A device ----------------------------------------------------------------------------
//
// Numbers live on a device: a GPU through WebGPU, or the CPU through WebAssembly. "auto" takes the GPU where there is one. Tensors that are made
// from here on lie there.

const [, , name = "auto"] = process.argv;
const device = await open(name as Parameters<typeof open>[0]);
console.log(`device: ${device.name} (${device.description})`);

// ---- 2. Tensors -----------------------------------------------------------------------------
//
// A tensor is numbers, in row-major order, and a shape. It has no methods that compute: an op is a function of tensors, sub(a, b), sigmoid(x).

const x = tensor([0, 0, 0, 1, 1, 0, 1, 1], [4, 2]); // four rows of two inputs
const y = tensor([0, 1, 1, 0], [4, 1]); // what they should give

// ---- 3. A model -----------------------------------------------------------------------------
//
// A model is a plain object with layers in it; nothing registers it. Its parameters are the tensors that a walk through the object finds, and the
// path to each is its name. Random numbers come from a key, which is a value: the same key draws the same weights on every device, and fold(n)
// gives another key. The last argument is how widely the weights are spread at first: 1, as there are only two inputs.

const made = (key: Key | null) => ({
  hidden: new Linear(2, 8, key?.fold(0) ?? null, 1),
  output: new Linear(8, 1, key?.fold(1) ?? null, 1),
});
type Model = ReturnType<typeof made>;

const predict = ({ hidden, output }: Model): Tensor => sigmoid(output.forward(tanh(hidden.forward(x))));
const loss = (model: Model): Tensor => mean(square(sub(predict(model), y)));

const model = made(Key.from(1));
const named = [...parameters(model)];
console.log(`parameters: ${named.map(([name, t]) => `${name} [${t.shape}]`).join(", ")}; ${countParameters(model)} numbers`);

// ---- 4. Reading is waiting ------------------------------------------------------------------
//
// predict() below returns at once. It has put a few kernels in the device's queue and made tensors that will hold the results; nobody knows the
// numbers yet. Only data() and item() wait for them, and they are the only `await` there is. On a GPU each wait costs more than the whole step of
// so small a model: read when a person wants to see something.
//
// inference() frees what its function made, the hidden layer for instance, but for what it returns. That is ours, and we free it.

async function answers(of: Model): Promise<number[]> {
  const predicted = inference(() => predict(of));
  const values = [...(await predicted.data())];
  predicted.free();
  return values;
}
const show = (values: readonly number[]): string => values.map((value) => value.toFixed(3)).join("  ");

console.log(`before:  00, 01, 10, 11 -> ${show(await answers(model))}`);

// ---- 5. Training ----------------------------------------------------------------------------
//
// valueAndGrad(f, wrt) runs f, writes down its ops as it goes, and walks back through them. It gives f's value and a gradient for each tensor asked
// for: the direction in which the loss rises. AdamW steps the other way.
//
// Who frees what? valueAndGrad frees everything in between. It returns the loss and the gradients, and the optimiser returns the norm of the
// gradients. scoped() gives them back when the step ends: it frees what its function made and does not return. The state of the optimiser and
// the parameters are older than the scope, so they stay.

const wrt = named.map(([, t]) => t);
const optimizer = new AdamW(named, { decay: 0 });
const STEPS = 400;

function step(): void {
  scoped(() => {
    const { grads } = valueAndGrad(() => loss(model), wrt);
    optimizer.step(grads, 0.05);
  });
}

const live: number[] = []; // bytes that tensors hold after each step
for (let i = 1; i <= STEPS; i++) {
  step();
  live.push(device.memory.live);
  if (i % 100 === 0) {
    const now = inference(() => loss(model));
    console.log(`step ${String(i).padStart(3)}: loss ${(await now.item()).toExponential(1)}`);
    now.free();
  }
}
console.log(`after:   00, 01, 10, 11 -> ${show(await answers(model))}`);
console.log(`memory:  ${live[0]} bytes held after step 1, ${live.at(-1)} after step ${STEPS}`);

// ---- 6. Saving and loading ------------------------------------------------------------------
//
// The safetensors format is a list of names and shapes, then the numbers; PyTorch reads it too. Here the file stays in memory: write its bytes to a
// disk, or offer them for download. A model made without a key has weights of unknown content, which load() then fills; it complains of every
// name that is missing, or too many, and of every shape that differs.

const file = writeSafetensors(await valuesOf(parameters(model)));

const copy = made(null);
load(copy, readSafetensors(file).tensors);
const [before, after] = [await answers(model), await answers(copy)];
console.log(`saved:   ${file.length} bytes; the copy answers ${before.every((value, i) => value === after[i]) ? "the same" : "otherwise"}`);

// ---- 7. The end -----------------------------------------------------------------------------
//
// A program that ends need not tidy up. We do it once, to see that every byte has an owner: nothing is left.

optimizer.free();
for (const of of [model, copy]) freeParameters(of);
for (const t of [x, y]) t.free();
console.log(`at last: ${device.memory.live} bytes held`);
device.close(); // a GPU that is open would keep the process waiting

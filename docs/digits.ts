/**
 * A network learns to read digits that this script draws itself. Run it: npx tsx docs/digits.ts (some seconds on the CPU)
 *
 * The famous data set of handwritten digits, MNIST (LeCun et al. 1998), must be downloaded. Ours need not be: each digit is a few strokes, every one
 * drawn a little differently. What follows is the same as with any data set: data, model, mini-batches, and an honest test.
 */

import { argmax, crossEntropy, inference, integers, Key, open, scoped, type Tensor, tensor, valueAndGrad } from "geneformer-ts";
import { AdamW, countParameters, init, Linear, parameters, schedule } from "geneformer-ts/nn";

const [, , name = "auto"] = process.argv;
const device = await open(name as Parameters<typeof open>[0]);
console.log(`device: ${device.name} (${device.description})`);

// ---- 1. The data ----------------------------------------------------------------------------
//
// A digit is a list of strokes, a stroke is a list of points, x to the right and y down, in a square from 0 to 1. arc() walks along an ellipse, angles
// counted in turns from the right, clockwise.

type Point = readonly [x: number, y: number];
type Stroke = readonly Point[];

const arc = (x: number, y: number, rx: number, ry: number, start = 0, end = 1): Stroke =>
  Array.from({ length: 13 }, (_, i) => {
    const angle = 2 * Math.PI * (start + ((end - start) * i) / 12);
    return [x + rx * Math.cos(angle), y + ry * Math.sin(angle)];
  });

// biome-ignore format: a line a digit
const DIGITS: readonly (readonly Stroke[])[] = [
  [arc(0.5, 0.5, 0.22, 0.34)],
  [[[0.36, 0.3], [0.54, 0.16], [0.54, 0.84]]],
  [[...arc(0.5, 0.35, 0.2, 0.19, 0.5, 1.08), [0.3, 0.84], [0.72, 0.84]]],
  [arc(0.46, 0.33, 0.2, 0.17, 0.6, 1.25), arc(0.46, 0.67, 0.22, 0.17, 0.75, 1.4)],
  [[[0.6, 0.84], [0.6, 0.16], [0.28, 0.62], [0.76, 0.62]]],
  [[[0.7, 0.16], [0.36, 0.16], [0.33, 0.47]], arc(0.47, 0.63, 0.22, 0.21, 0.62, 1.4)],
  [[[0.62, 0.14], [0.4, 0.36], [0.3, 0.63]], arc(0.5, 0.65, 0.2, 0.19)],
  [[[0.28, 0.16], [0.72, 0.16], [0.44, 0.84]]],
  [arc(0.5, 0.33, 0.17, 0.17), arc(0.5, 0.67, 0.21, 0.17)],
  [arc(0.5, 0.35, 0.2, 0.19), [[0.7, 0.37], [0.6, 0.64], [0.4, 0.86]]],
];

const SIZE = 16; // pixels to a side
const PIXELS = SIZE * SIZE;

/** How far a point is from a line between two others. */
function distance([x, y]: Point, [ax, ay]: Point, [bx, by]: Point): number {
  const [dx, dy] = [bx - ax, by - ay];
  const along = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)));
  return Math.hypot(x - ax - along * dx, y - ay - along * dy);
}

/** A digit as a hand might draw it: turned, leaning, larger or smaller, off the middle, with a shaky pen of some thickness, on paper with spots. */
function draw(digit: number, key: Key): Float64Array {
  const [turn, lean, wide, tall, right, down, pen] = key
    .fold(0)
    .uniforms(7)
    .map((u) => 2 * u - 1); // each from -1 to 1
  const [sin, cos] = [Math.sin(0.3 * turn), Math.cos(0.3 * turn)];
  const shake = key.fold(1).normals(200);
  let shaken = 0;
  const moved = ([px, py]: Point): Point => {
    const [x, y] = [(px - 0.5) * (1 + 0.25 * wide) + 0.25 * lean * (py - 0.5), (py - 0.5) * (1 + 0.15 * tall)];
    const [jx, jy] = [0.02 * shake[shaken++], 0.02 * shake[shaken++]];
    return [0.5 + cos * x - sin * y + 0.08 * right + jx, 0.5 + sin * x + cos * y + 0.06 * down + jy];
  };
  const lines = DIGITS[digit].flatMap((stroke) => {
    const points = stroke.map(moved);
    return points.slice(1).map((to, i) => [points[i], to] as const);
  });
  const spots = key.fold(2).normals(PIXELS);
  const thickness = 0.04 + 0.015 * pen;
  return Float64Array.from(spots, (spot, i) => {
    const at: Point = [((i % SIZE) + 0.5) / SIZE, (Math.floor(i / SIZE) + 0.5) / SIZE];
    const near = Math.min(...lines.map(([from, to]) => distance(at, from, to)));
    const ink = Math.min(1, Math.max(0, 1 - (near - thickness) * SIZE)); // the edge of a stroke is a pixel wide
    return ink + 0.15 * spot;
  });
}

interface Digits {
  /** [count, PIXELS], one image after the other. */
  readonly images: Float64Array;
  readonly labels: Uint32Array;
}

function digits(count: number, key: Key): Digits {
  const labels = Uint32Array.from(key.uniforms(count), (u) => Math.floor(10 * u));
  const images = new Float64Array(count * PIXELS);
  labels.forEach((label, i) => {
    images.set(draw(label, key.fold(i)), i * PIXELS);
  });
  return { images, labels };
}

// What we test on is drawn from another key, and never trained on: a network can learn any number of images by heart, and that is worth nothing.

const training = digits(6000, Key.from(1));
const heldOut = digits(1000, Key.from(2));

/** Images beside each other, as text. */
function picture({ images }: Digits, which: readonly number[]): string {
  const shades = " .:-=+*#%@";
  const shade = (value: number): string => shades[Math.min(9, Math.max(0, Math.floor(10 * value)))];
  const line = (image: number, y: number): string =>
    Array.from({ length: SIZE }, (_, x) => shade(images[image * PIXELS + y * SIZE + x] - 0.2)).join("");
  return Array.from({ length: SIZE }, (_, y) => which.map((image) => line(image, y)).join("  ")).join("\n");
}

const first = Array.from({ length: 6 }, (_, i) => i);
console.log(`\n${picture(heldOut, first)}\n\nlabels: ${first.map((i) => heldOut.labels[i]).join(", ")}\n`);

// ---- 2. The model ---------------------------------------------------------------------------
//
// Two layers: 256 pixels, 64 features of ours, 10 scores. The scores are called logits; softmax would make probabilities of them, and crossEntropy does
// that inside. Without the relu between them the two layers would be one. Weights begin so wide that numbers neither grow nor vanish from layer to
// layer (He et al. 2015).

const key = Key.from(3);
const model = {
  hidden: new Linear(PIXELS, 64, key.fold(0), init.kaimingNormal),
  output: new Linear(64, 10, key.fold(1), init.kaimingNormal),
};
const logits = (images: Tensor): Tensor => model.output.forward(model.hidden.forward(images, { relu: true }));
console.log(`model: ${countParameters(model)} numbers, ${training.labels.length} images to learn, ${heldOut.labels.length} to test`);

// ---- 3. The test ----------------------------------------------------------------------------
//
// The guess is the largest score. inference() writes nothing down for a way back, and frees the features on the way.

async function guesses({ images, labels }: Digits): Promise<ArrayLike<number>> {
  const guessed = inference(() => argmax(logits(tensor(images, [labels.length, PIXELS])), 1));
  const values = await guessed.data();
  guessed.free();
  return values;
}

const accuracyOf = (guessed: ArrayLike<number>, { labels }: Digits): number =>
  labels.reduce((right, label, i) => right + Number(guessed[i] === label), 0) / labels.length;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

console.log(`accuracy before training: ${percent(accuracyOf(await guesses(heldOut), heldOut))}`);

// ---- 4. Training ----------------------------------------------------------------------------
//
// A gradient over all images would be exact, and one step of it would cost as much as a hundred over 64. Nearly right and often beats exact and
// seldom: so each epoch goes through the images in a new random order, 64 at a time. The rate falls along half a cosine, so that the last steps
// settle.

const [BATCH, EPOCHS, RATE] = [64, 8, 3e-3];
const named = [...parameters(model)];
const wrt = named.map(([, t]) => t);
const optimizer = new AdamW(named);
const count = training.labels.length;
const steps = EPOCHS * Math.ceil(count / BATCH);

for (let epoch = 1; epoch <= EPOCHS; epoch++) {
  const order = key.fold(100 + epoch).permutation(count);
  let last = 0;
  for (let start = 0; start < count; start += BATCH) {
    const rows = [...order.subarray(start, start + BATCH)];
    const loss = scoped(() => {
      const images = new Float64Array(rows.length * PIXELS);
      rows.forEach((row, i) => {
        images.set(training.images.subarray(row * PIXELS, (row + 1) * PIXELS), i * PIXELS);
      });
      const [x, labels] = [tensor(images, [rows.length, PIXELS]), integers(rows.map((row) => training.labels[row]))];
      const { value, grads } = valueAndGrad(() => crossEntropy(logits(x), labels), wrt);
      optimizer.step(grads, RATE * schedule("cosine", optimizer.steps, 0, steps));
      return value;
    });
    if (start + BATCH >= count) last = await loss.item(); // read once an epoch
    loss.free();
  }
  const accuracy = accuracyOf(await guesses(heldOut), heldOut);
  console.log(`epoch ${epoch}: loss of the last batch ${last.toFixed(4)}, accuracy on held-out images ${percent(accuracy)}`);
}

// ---- 5. What it confuses --------------------------------------------------------------------
//
// One number hides which mistakes there are. In the table each held-out image is counted in the row of its label and the column of the guess.

const guessed = await guesses(heldOut);
const table = Array.from({ length: 10 }, () => new Uint32Array(10));
heldOut.labels.forEach((label, i) => {
  table[label][guessed[i]]++;
});
const cell = (value: string | number): string => String(value).padStart(4);
console.log(`\nlabel \\ guess${Array.from({ length: 10 }, (_, digit) => cell(digit)).join("")}`);
table.forEach((row, label) => {
  console.log(`${String(label).padStart(13)}${[...row].map((value) => cell(value || ".")).join("")}`);
});

const missed = [...heldOut.labels.keys()].filter((i) => guessed[i] !== heldOut.labels[i]).slice(0, 4);
console.log(`\n${picture(heldOut, missed)}\n`);
console.log(`mistaken: ${missed.map((i) => `${heldOut.labels[i]} for ${guessed[i]}`).join(", ") || "none"}`);
console.log(`held-out accuracy: ${percent(accuracyOf(guessed, heldOut))}`);

device.close();

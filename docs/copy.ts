/**
 * A transformer learns to copy. Run it: npx tsx docs/copy.ts (half a minute or so, on the CPU, which is its default).
 *
 * Copying is the smallest task that takes a whole transformer: read a word, then write it down, letter after letter, and stop where it stopped.
 * Who can do it has learnt to keep its place in another text, which is half of translating. We make the words ourselves: nothing needs
 * to be downloaded, and the right answer is known.
 */

import { inference, Key, mean, open, StepKey, scoped, type Tensor, valueAndGrad } from "geneformer-ts";
import { Adam, freeParameters, parameters, schedule, sequences, summary, Transformer, withHooks } from "geneformer-ts/nn";

const [, , name = "cpu"] = process.argv; // of so small a model, a GPU would mostly wait for the next kernel
const device = await open(name as Parameters<typeof open>[0]);

// ---- 1. The words --------------------------------------------------------------------------
//
// To a model, tokens are numbers. Ten of ours are letters. Two are marks: START stands before the first letter, so that there is something to
// foretell it from, and END after the last, so that the model can say that it is done.

const [START, END, A, LETTERS] = [0, 1, 2, 10];
const [SHORTEST, LONGEST] = [3, 8];

const show = (word: readonly number[]): string => word.map((token) => String.fromCharCode(97 + token - A)).join("");

/** Some words at random. Chance comes from a key: of the same key the same words, on every machine. */
function draw(key: Key, count: number): number[][] {
  return Array.from({ length: count }, (_, i) => {
    const [size, ...letters] = key.fold(i).uniforms(1 + LONGEST);
    const length = SHORTEST + Math.floor(size * (LONGEST - SHORTEST + 1));
    return letters.slice(0, length).map((u) => A + Math.floor(u * LETTERS));
  });
}

// The words for the examination are drawn first, and are never trained on: a model that had seen them might only remember.
const examination = draw(Key.from(1), 200);
const secret = new Set(examination.map(show));
const lesson = (step: number): number[][] => draw(Key.from(2).fold(step), 32).filter((word) => !secret.has(show(word)));

// ---- 2. The model --------------------------------------------------------------------------
//
// An encoder reads the source, a decoder writes the target. The model of the paper (Vaswani et al. 2017) has six layers of each, eight heads and
// width 512; leave these options out, and you have it. This one is more than two hundred times smaller.

const model = new Transformer(
  { vocabulary: A + LETTERS, longest: LONGEST + 2, layers: 2, heads: 4, width: 64, inner: 128, dropout: 0.05 },
  Key.from(3),
);

// Words differ in length. Many libraries pad them to a rectangle, and mask the padding wherever it might be seen. Here they lie one after the other in
// a stream, and a table of segments says where each begins and ends:
//
//     words     abb  ca        stream     a b b c a        segments     0 to 3, 3 to 5
//
// Linear layers and norms treat each place by itself, and need not know. Only attention looks from one place to others, and it stays in its segment.

const source = (words: number[][]) => sequences(words, model);

// The target of "abb" is START a b b END. At each place the decoder is to foretell the token that follows:
//
//     it reads       START  a  b  b
//     it writes      a      b  b  END
//
// It reads the right letters, whatever it would have written itself: a teacher who corrects each letter at once ("teacher forcing"). So one pass
// trains all places together. But then the answer to each place lies right beside it, in the next! Hence the causal mask: in the decoder, place i
// sees places up to i, and no further.
//
// What it is to copy it learns by cross attention: places of target s look at what the encoder made of source s. There they see all
// places, since all of it has been read. So a batch has two streams with as many segments each.

const target = (words: number[][]) =>
  sequences(
    words.map((word) => [START, ...word, END]),
    model,
  );

// What it is made of, found on a device that knows only shapes: [M, 64] where the encoder is, [N, 64] where the decoder is.
console.log(`${summary(model, () => model.forward(source(lesson(0)), target(lesson(0))))}\n`);

// ---- 3. The examination --------------------------------------------------------------------
//
// Now there is no teacher: what the model writes is what it reads next, until it writes END. A word counts if every letter is right, and the length.

const asked = source(examination); // once: its tables lie on the device until somebody frees them (freeParameters(asked))

async function examine(): Promise<number> {
  const copies = await model.generate(asked, { start: START, end: END });
  return copies.filter((copy, i) => show(copy) === show(examination[i])).length / examination.length;
}

// ---- 4. The lessons ------------------------------------------------------------------------
//
// A step draws words, asks how wrong the model is about the next tokens, and by the gradients which way each number should go; Adam goes there. The
// rate rises at first, while Adam knows little of the gradients, and then falls, so that what was learnt settles.

const [STEPS, RATE, WARMUP] = [800, 1e-3, 50];
const weights = [...parameters(model)];
const optimizer = new Adam(weights, { clip: 1 });

for (let step = 1; step <= STEPS; step++) {
  const loss = scoped(() => {
    const words = lesson(step);
    const key = StepKey.from(Key.from(4).fold(step)); // what dropout draws from; without a key nothing is dropped
    const { value, grads } = valueAndGrad(
      () => model.loss(source(words), target(words), { key }),
      weights.map(([, weight]) => weight),
    );
    optimizer.step(grads, RATE * schedule("cosine", step, WARMUP, STEPS));
    return value; // the rest goes with this scope
  });
  if (step % 100 === 0) {
    const right = await examine();
    console.log(`step ${step}   loss ${(await loss.item()).toFixed(4)}   copied without a mistake ${(100 * right).toFixed(1)} %`);
  }
  loss.free();
}

// ---- 5. A look inside ----------------------------------------------------------------------
//
// Where does the decoder look when it copies? A hook at the weights of its last cross attention tells. The weights of a segment are [heads, places of
// the target, places of the source], each row of which sums to 1; here is their mean over the heads. Line by line the model writes the letter on the left; the
// darker the mark, the more it looks at the letter above.

const [word] = examination;
const seen: Tensor[] = [];
const look = (w: Tensor) => void seen.push(mean(w, [0]).hold()); // held: it is looked at after its scope has ended
const logits = withHooks(model, { "decoder.layers.1.cross.attention.weights": look }, () =>
  inference(() => model.forward(source([word]), target([word]))),
);
const [weightsOfWord] = seen;
const shares = await weightsOfWord.data();
console.log(`\n    ${[...show(word)].join(" ")}`);
for (const [row, token] of [...word, END].entries()) {
  const marks = word.map((_, column) => " .:-=+*#%@"[Math.min(9, Math.floor(10 * shares[row * word.length + column]))]);
  console.log(`${token === END ? "END" : `  ${show([token])}`} ${marks.join(" ")}`);
}

for (const t of [logits, weightsOfWord]) t.free();
freeParameters(asked);
optimizer.free();
model.free();
console.log(`\nat last: ${device.memory.live} bytes held`);
device.close();

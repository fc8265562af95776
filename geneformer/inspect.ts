/** The inside of a forward pass, written out: hidden states, attention weights, logits, loss and gradients. */

import { inference, valueAndGrad } from "../autograd/tape.ts";
import { parameters } from "../nn/module.ts";
import { index } from "../src/stream.ts";
import { integers, type Tensor } from "../src/tensor.ts";
import { huggingFaceName } from "./checkpoint.ts";
import { streamOf } from "./data/batches.ts";
import type { Geneformer } from "./model.ts";

export const insides = ["hidden", "attention", "logits", "loss", "gradients"] as const;
export type Inside = (typeof insides)[number];

/** One cell of an inspection: tokens, and the genes that should be there, -100 where nobody asks (as Hugging Face). */
export interface Line {
  readonly input_ids: readonly number[];
  readonly labels?: readonly number[];
}

/**
 * Read JSON lines. @throws Error naming the line that is not `{"input_ids": [...], "labels": [...]}`.
 */
export function parseLines(text: string, where = "tokens"): Line[] {
  const lines = text.split("\n").flatMap((line, i) => (line.trim() === "" ? [] : [[line, i + 1] as const]));
  if (lines.length === 0) throw new Error(`${where}: has no lines; each is {"input_ids": [...], "labels": [...]}`);
  return lines.map(([line, number]) => {
    const fail = (why: string): never => {
      throw new Error(`${where}: line ${number} ${why}; each is {"input_ids": [...], "labels": [...]}`);
    };
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      fail("is not JSON");
    }
    const { input_ids, labels } = (value ?? {}) as { input_ids?: unknown; labels?: unknown };
    if (!Array.isArray(input_ids) || input_ids.length === 0 || !input_ids.every((t) => Number.isInteger(t) && t >= 0))
      fail("has no list of tokens in input_ids");
    if (
      labels !== undefined &&
      (!Array.isArray(labels) || labels.length !== (input_ids as number[]).length || !labels.every((t) => Number.isInteger(t)))
    )
      fail("has labels that do not match its input_ids");
    return { input_ids: input_ids as number[], ...(labels !== undefined && { labels: labels as number[] }) };
  });
}

type Named = [name: string, value: { shape: readonly number[]; data: Float32Array }];

const copy = async (name: string, t: Tensor): Promise<Named> => {
  const value: Named = [name, { shape: t.shape, data: Float32Array.from(await t.data()) }];
  t.free();
  return value;
};

/**
 * For line i: `hidden.{layer}.{i}` [T, C] (layer 0 is the embeddings), `attention.{layer}.{i}` [H, T, T] (from layer 1), `logits.{i}` [T, V];
 * over all lines `loss` [1], the mean over all labelled places, and `gradient.{Hugging Face name}` of it.
 * @throws RangeError for a token or a label beyond the vocabulary, a line longer than the model's positions, and for a loss without labels.
 */
export async function inspect(model: Geneformer, lines: readonly Line[], what: ReadonlySet<Inside>): Promise<Named[]> {
  const { vocabulary, length } = model.config;
  lines.forEach(({ input_ids: cell, labels = [] }, i) => {
    if (cell.length > length)
      throw new RangeError(`inspect: line ${i} has ${cell.length} tokens, but the model has positions for ${length}; shorten it`);
    cell.forEach((token, place) => {
      if (!(token >= 0 && token < vocabulary))
        throw new RangeError(
          `inspect: token ${token} at place ${place} of line ${i} is beyond the model's vocabulary of ${vocabulary}; was it tokenized with another dictionary?`,
        );
    });
    labels.forEach((label, place) => {
      if (label !== -100 && (label < 0 || label >= vocabulary))
        throw new RangeError(
          `inspect: label ${label} at place ${place} of line ${i} is beyond the model's vocabulary of ${vocabulary}; ignored places are -100`,
        );
    });
  });
  const out: Named[] = [];
  for (const [i, { input_ids: cell }] of lines.entries()) {
    const { hidden, weights, logits } = inference(() => {
      const stream = streamOf([cell], model.config, { gradients: false });
      const states = [...model.hidden(stream)];
      const everywhere = () =>
        index(
          cell.map((_, place) => place),
          cell.length,
          { gradients: false },
        );
      return {
        hidden: what.has("hidden") ? states : [],
        weights: what.has("attention") ? model.layers.map((layer, l) => layer.weights(states[l])) : [],
        logits: what.has("logits") ? model.predict(stream, everywhere()) : null,
      };
    });
    for (const [layer, t] of hidden.entries()) out.push(await copy(`hidden.${layer}.${i}`, t));
    for (const [layer, t] of weights.entries()) out.push(await copy(`attention.${layer + 1}.${i}`, t));
    if (logits) out.push(await copy(`logits.${i}`, logits));
  }
  if (!what.has("loss") && !what.has("gradients")) return out;

  let start = 0;
  const places: number[] = [];
  const labels: number[] = [];
  for (const { input_ids: cell, labels: genes = [] } of lines) {
    genes.forEach((gene, place) => {
      if (gene === -100) return;
      places.push(start + place);
      labels.push(gene);
    });
    start += cell.length;
  }
  if (places.length === 0)
    throw new RangeError("inspect: no line has labels, so there is no loss; give labels, or leave loss and gradients out of --what");
  const named = [...parameters(model)];
  const wanted = what.has("gradients") ? named : [];
  const { value, grads } = valueAndGrad(
    () => {
      const stream = streamOf(
        lines.map(({ input_ids }) => input_ids),
        model.config,
      );
      return model.loss(stream, index(places, start), integers(labels));
    },
    wanted.map(([, t]) => t),
  );
  const [, loss] = await copy("loss", value);
  if (what.has("loss")) out.push(["loss", { shape: [1], data: loss.data }]);
  for (const [i, [name]] of wanted.entries()) out.push(await copy(`gradient.${huggingFaceName(name)}`, grads[i]));
  return out;
}

/** Gradient checkpointing: what a part of a model makes inside is not kept for the way back, but made again (Chen et al. 2016). */

import { noting, scoped, Tensor } from "../src/tensor.ts";
import { currentTape, type Entry, onTape, type Tape, vjp } from "./tape.ts";

/**
 * The value of f, of which nothing but its arguments is kept: the way back runs f once more. Costs a forward pass of f, and saves the memory of all
 * that its ops would keep. Dropout draws the same again, as keys are values.
 *
 *   const y = checkpoint(() => layer.forward(x, segments, key));
 *
 * @param f makes one tensor. It must do the same when it runs again: no counters, no drawing of new keys.
 */
export function checkpoint(f: () => Tensor): Tensor {
  const outer = currentTape();
  if (!outer) return f();

  const made = new Set<Tensor>();
  const wanted = new Set<Tensor>();
  const back = new Set<Tensor>();
  const listener: Tape = {
    tracks: (t) => made.has(t) || outer.tracks(t),
    record({ inputs, need, output, kept }: Entry) {
      made.add(output);
      for (const [i, t] of inputs.entries()) if (need[i] && !made.has(t)) wanted.add(t);
      for (const t of kept) {
        back.add(t);
        t.free();
      }
    },
  };
  const { result: y, used } = noting(() => scoped(() => onTape(listener, f)));
  if (!(y instanceof Tensor)) throw new TypeError("checkpoint(f): f must return one tensor");
  if (wanted.size === 0) return y;

  const inputs = [...wanted];
  // What f made is gone now; what it used, or its way back will use, and still lives came from outside, and must live until f runs again.
  const kept = [...new Set([...used, ...back])].filter((t) => t !== y && t.alive).map((t) => t.hold());
  outer.record({ op: "checkpoint", inputs, need: inputs.map(() => true), output: y, kept, back: (dy) => vjp(f, inputs, dy).grads });
  return y;
}

/** Record a step once, replay it: the list of kernels that it runs, on the buffers that they had. And reading, a few steps late. */

import { current, type Device, device, type Replay } from "./device.ts";
import { show } from "./shape.ts";
import { type Program, recording, refusePromise, refuseRecorded, scoped } from "./tensor.ts";

/** A step that is recorded when it is called for the first time, and replayed from then on. */
export interface Captured<T> {
  /**
   * Run the step, and give what f returned: always the same tensors, whose numbers are those of the last call. They belong to the capture.
   * @throws Error after `free()`, when the device was closed or lost, when one of its tensors was freed, or inside something that would see nothing of a
   *   replay: another captured function, valueAndGrad, withHooks, detectAnomaly. The first time also whatever f throws, and for what a replay could
   *   not do again; everything is given back then, and the next call is a first one.
   */
  (): T;
  /** Kernels, or passes of kernels, that a replay enqueues; 0 before the first call. */
  readonly commands: number;
  /** Bytes that it holds for itself: its results and all that is made in between. */
  readonly bytes: number;
  /** Give back its memory and its results, and let go of what it used. Twice is harmless. */
  free(): void;
  [Symbol.dispose](): void;
}

/** Who would see nothing of a replay, and runs now. */
let onlooker: string | null = null;

/** Run f, in which no captured step may run: `where` looks at what is made, or writes it down, and a replay makes nothing. */
export function eagerly<T>(where: string, f: () => T): T {
  const outer = onlooker;
  onlooker = where;
  try {
    return f();
  } finally {
    onlooker = outer;
  }
}

interface Recorded<T> {
  readonly program: Program<T>;
  readonly replay: Replay;
}

function record<T>(f: () => T, on: Device): Recorded<T> {
  if (!on.record) throw new Error(`capture(f): the device ${on.name} (${on.description}) cannot record; open another`);
  const recorder = on.record();
  let program: Program<T> | null = null;
  try {
    program = recording(on, () => refusePromise("capture(f)", f()));
    return { program, replay: recorder.end() };
  } finally {
    if (!program) recorder.end().free();
  }
}

/**
 * Capture a step: the first call runs f and records the kernels that it enqueues with their buffers, every later one enqueues them again. It costs no
 * JavaScript of f, no shape checks, no allocation; the numbers are those that f would compute, bit for bit.
 *
 *   const x = zeros([8, 4]);
 *   const step = capture(() => {
 *     const { value, grads } = valueAndGrad(() => loss(model.forward(x)), weights);
 *     optimizer.apply(grads);
 *     return value;
 *   });
 *   for (const batch of batches) {
 *     x.write(batch);
 *     optimizer.advance(rate);
 *     console.log(await step().item());
 *   }
 *   step.free();
 *
 * What changes from step to step is numbers in tensors that f uses and that are written to between the calls: a batch, the words of a dropout key, the rate
 * (which `advance` writes). JavaScript's numbers, shapes and branches are as they were when it was recorded. Tensors that f uses from outside are held,
 * so that their buffers stay theirs; buffers that f makes share memory where they are not needed at the same time.
 *
 * On a device that knows only shapes f runs each time, so that `prepare(step)` and `needs(step)` say what it needs.
 *
 * @param f takes nothing, enqueues work and returns what is to be read. It may not upload (tensor(values), write), nor read, nor be async.
 */
export function capture<T>(f: () => T): Captured<T> {
  let recorded: Recorded<T> | null = null;
  let freed = false;

  const step = (): T => {
    if (current()?.name === "shapes") return scoped(f);
    if (freed) throw new Error("capture(f): the step was freed; capture f again");
    refuseRecorded("a captured step", "runs", "call the function that it captured");
    if (onlooker)
      throw new Error(`${onlooker}: f runs a captured step, of whose replays it would see nothing; give it the function itself`);
    if (!recorded) {
      recorded = record(f, device());
      return recorded.program.result;
    }
    const { program, replay } = recorded;
    const gone = program.made.find((t) => !t.alive);
    if (gone)
      throw new Error(
        `capture(f): its result ${show(gone.shape)} was freed, but belongs to the capture; free the step when it is of no use`,
      );
    replay.run();
    return program.result;
  };

  const free = (): void => {
    refuseRecorded("free()", "gives a step back", "call it outside");
    freed = true;
    if (!recorded) return;
    const { program, replay } = recorded;
    recorded = null;
    for (const t of program.made) t.free();
    program.release();
    replay.free();
  };

  return Object.defineProperties(step, {
    commands: { get: () => recorded?.replay.commands ?? 0 },
    bytes: { get: () => recorded?.replay.bytes ?? 0 },
    free: { value: free },
    [Symbol.dispose]: { value: free },
  }) as Captured<T>;
}

/** Steps under way that nobody has read: while one is computed the next one waits, so the device is never idle; more would only keep memory and errors longer. */
const AHEAD = 2;

/**
 * What promises come to, in their order, while later ones are made already: so steps are enqueued before the numbers of those before them have been
 * read. At most `most` are on their way when one is waited for.
 *
 *   function* steps() {
 *     for (const batch of batches) {
 *       x.write(batch);
 *       yield step().item(); // this step's number, although the next one overwrites the tensor
 *     }
 *   }
 *   for await (const loss of ahead(steps())) console.log(loss);
 *
 * @throws RangeError for a `most` that is not an integer, 0 or more; whatever a promise is rejected with, in its turn.
 */
export async function* ahead<T>(promises: Iterable<Promise<T>>, most = AHEAD): AsyncGenerator<T, void, undefined> {
  if (!(Number.isInteger(most) && most >= 0)) throw new RangeError(`ahead(promises, most): most is an integer, 0 or more; got ${most}`);
  const unread: Promise<T>[] = [];
  for (const promise of promises) {
    promise.catch(() => {}); // said when its turn comes; nobody asks for it after an error before it
    unread.push(promise);
    if (unread.length > most) yield unread.shift() as Promise<T>;
  }
  yield* unread;
}

/** Contenders take turns at one work, so that what disturbs the machine disturbs them all. */

import { disagreement } from "./compare.ts";
import type { Parts } from "./task.ts";

/** Somebody who can be asked to do the work. */
export interface Racer {
  readonly name: string;
  /** How many times as far from ours its result may be as f32 would be: it rounds what it multiplies to fewer digits. Default 1. */
  readonly slack?: number;
  /** Load what is needed. @throws Error where it is not there, or cannot do this work. */
  open(): Promise<string>;
  result(): Promise<Parts>;
  /** Milliseconds of each of so many runs. @param warm do one before that does not count. */
  time(runs: number, warm: boolean): Promise<readonly number[]>;
  close(): Promise<void>;
}

/** How a contender fared. */
export type Outcome =
  | { readonly name: string; readonly state: "timed"; readonly description: string; readonly times: readonly number[] }
  /** It could not be loaded: nothing is known of its speed. */
  | { readonly name: string; readonly state: "absent"; readonly reason: string }
  /** It failed, or its result is another than ours. */
  | { readonly name: string; readonly state: "wrong"; readonly reason: string };

export interface RaceOptions {
  readonly rounds: number;
  /** About how long a turn should last, ms. */
  readonly turn: number;
  /** Runs of a turn at most. */
  readonly most?: number;
  readonly onProgress?: (words: string) => void;
  /** Called before each round, while all contenders are still. */
  readonly onRound?: () => Promise<void>;
}

/** Who stood still comes back to cold caches, so a run that does not count goes before those that do, unless it takes longer than this, ms. */
const PATIENCE = 3000;

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split("\n")[0];

/**
 * Open all, hold each result against the first one's, then time them round robin: A, B, C, A, B, C, ...
 * @param racers the first is ours. Whoever fails drops out with the reason; where ours does, nobody can be held against it.
 */
export async function race(
  racers: readonly Racer[],
  { rounds, turn, most = 100, onProgress = () => {}, onRound = async () => {} }: RaceOptions,
): Promise<Outcome[]> {
  const outcomes = new Map<Racer, Outcome>();
  const running: { racer: Racer; description: string; runs: number; warm: boolean; times: number[] }[] = [];
  let ours: Parts | null = null;
  for (const [i, racer] of racers.entries()) {
    const { name } = racer;
    onProgress(`${name}: opens`);
    let description: string;
    try {
      description = await racer.open();
    } catch (error) {
      outcomes.set(racer, { name, state: "absent", reason: reasonOf(error) });
      continue;
    }
    try {
      const result = await racer.result();
      if (i === 0) ours = result;
      const wrong = ours ? disagreement(ours, result, racer.slack) : "there is no result of ours to hold it against";
      if (wrong) throw new Error(wrong);
      running.push({ racer, description, runs: 1, warm: false, times: [] });
    } catch (error) {
      outcomes.set(racer, { name, state: "wrong", reason: reasonOf(error) });
    }
  }
  // The first turn is a rehearsal: it compiles, and tells how many runs make a turn. It is not counted.
  for (let round = -1; round < rounds; round++) {
    await onRound();
    for (const each of [...running]) {
      onProgress(`${each.racer.name}: round ${round + 1} of ${rounds}`);
      try {
        const times = await each.racer.time(each.runs, each.warm);
        if (round >= 0) each.times.push(...times);
        else {
          const shortest = Math.min(...times);
          each.runs = Math.max(1, Math.min(most, Math.round(turn / shortest)));
          each.warm = shortest <= PATIENCE;
        }
      } catch (error) {
        outcomes.set(each.racer, { name: each.racer.name, state: "wrong", reason: reasonOf(error) });
        running.splice(running.indexOf(each), 1);
      }
    }
  }
  for (const { racer, description, times } of running) outcomes.set(racer, { name: racer.name, state: "timed", description, times });
  return racers.map((racer) => outcomes.get(racer) as Outcome);
}

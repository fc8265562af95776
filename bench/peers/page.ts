/** What runs in a page: one contender, asked by browser.ts through two functions of the window. */

import { inPage } from "./openers.ts";
import { type Contender, type Job, type Open, type Task, timed, unpackInputs } from "./task.ts";

const bytes = async (path: string): Promise<Uint8Array> => new Uint8Array(await (await fetch(path)).arrayBuffer());

let contender: Contender | null = null;

Object.assign(globalThis, {
  async openContender(opener: string): Promise<string> {
    const [task, inputs, weights] = [
      await (await fetch("/given/task.json")).json(),
      await bytes("/given/inputs.safetensors"),
      await bytes("/given/model.safetensors"),
    ];
    const open: Open = inPage[opener as keyof typeof inPage];
    contender = await open({ task: task as Task, threads: 1, inputs: unpackInputs(inputs), weights } satisfies Job);
    return contender.description;
  },
  async resultOf(): Promise<[string, number[]][]> {
    return Object.entries(await contender!.result()).map(([name, values]) => [name, [...values]]);
  },
  timesOf: (runs: number, warm: boolean): Promise<number[]> => timed(contender!, runs, warm),
});

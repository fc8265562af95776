/** A process that holds one contender: a line of JSON with a request comes in, a line with the reply goes out. */

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { writeSafetensors } from "../../nn/safetensors.ts";
import { type Contender, type Open, type Reply, type Request, type Task, timed, unpackInputs } from "./task.ts";

/** Answer until nobody asks any more. */
export async function serve(openers: Readonly<Record<string, Open>>): Promise<void> {
  console.log = console.info = console.error; // what libraries have to say does not belong among the replies
  let contender: Contender | null = null;

  const answer = async (request: Request): Promise<Reply> => {
    if (request.do === "open") {
      const { folder, opener, threads } = request;
      const task = JSON.parse(readFileSync(`${folder}/task.json`, "utf8")) as Task;
      const inputs = unpackInputs(readFileSync(`${folder}/inputs.safetensors`));
      contender = await openers[opener]({ task, threads, inputs, weights: readFileSync(`${folder}/model.safetensors`) });
      return { description: contender.description };
    }
    if (!contender) throw new Error("nothing is open");
    if (request.do === "time") return { times: await timed(contender, request.runs, request.warm) };
    const parts = Object.entries(await contender.result());
    writeFileSync(request.to, writeSafetensors(parts.map(([name, data]) => [name, { shape: [data.length], data }])));
    return {};
  };

  for await (const line of createInterface({ input: process.stdin })) {
    const reply: Reply = await answer(JSON.parse(line) as Request).catch((error: unknown) => ({
      error: error instanceof Error ? error.message : String(error),
    }));
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
  process.exit(0);
}

/** Runs a command in this process, which is faster than the binary, and keeps what it says. */

import { expect } from "vitest";
import type { Define } from "../../../geneformer/cli/command.ts";
import { run } from "../../../geneformer/cli/run.ts";

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** @param heard what is done with each line of stderr, such as to stop. */
export async function geneformer(
  [name, ...args]: readonly string[],
  signal = new AbortController().signal,
  heard: (text: string) => void = () => {},
): Promise<Outcome> {
  let [stdout, stderr] = ["", ""];
  const load = (): Promise<{ command: Define }> => import(`../../../geneformer/cli/${name}.ts`);
  const status = await run({ [name]: ["", load] }, [name, ...args], {
    stdout: { write: (text) => (stdout += text) },
    stderr: {
      write(text) {
        stderr += text;
        heard(text);
      },
    },
    ...{ signal, version: "" },
  });
  return { status, stdout, stderr };
}

/** The results of a command that must succeed. */
export async function results(args: readonly string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await geneformer([...args, "--json"]);
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout);
}

/** The one sentence of a command that must fail. */
export async function sentence(args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await geneformer(args);
  expect([status, stdout], stderr).toEqual([1, ""]);
  const said = stderr.trimEnd().split("\n");
  expect(said.filter((line) => line.startsWith("geneformer ")), stderr).toHaveLength(1); // biome-ignore format: one line
  expect(said.at(-1), stderr).toMatch(/^geneformer /);
  for (const line of said.slice(0, -1)) expect(line).toMatch(/^(device: |[\w ]+: [\d,]+ \w+ in |[\d,]+ pairs |neighbouring ranks )/); // at most what device was taken, what it costs, and what was done
  return said.at(-1) as string;
}

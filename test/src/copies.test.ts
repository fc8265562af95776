/** Two copies of the library in one program: each works, and a tensor of one in an op of the other is an error that says so. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { afterAll, expect, test } from "vitest";
import * as ops from "../../autograd/ops.ts";
import * as ours from "../../src/index.ts";
import { openReference } from "../../src/reference.ts";

const folder = mkdtempSync(join(tmpdir(), "copies-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("two engines live side by side, and do not mix", async () => {
  const file = join(folder, "copy.mjs");
  await build({
    entryPoints: [fileURLToPath(new URL("../../src/index.ts", import.meta.url))],
    outfile: file,
    bundle: true,
    format: "esm",
    platform: "neutral",
  });
  const other: typeof ours = await import(pathToFileURL(file).href);
  await Promise.all([ours.open("reference"), other.open("reference")]);
  expect(other.device()).not.toBe(ours.device());

  const [a, b] = [ours.tensor([1, 2]), other.tensor([3, 4])];
  expect([...(await ours.add(a, a).data())]).toEqual([2, 4]);
  expect([...(await other.add(b, b).data())]).toEqual([6, 8]);
  const message = (i: number, op: string) =>
    `${op}: argument ${i} is a tensor of another copy of geneformer-ts; load the library once, or pass its numbers on (await data())`;
  expect(() => ours.softmax(b)).toThrow(new TypeError(message(1, "softmax")));
  expect(() => ours.matmul(a, b)).toThrow(new TypeError(message(2, "matmul")));
  expect(() => ours.add(a, b)).toThrow(/argument 2|another copy/);
  ours.use(null);
});

test("arguments of no kind that an op takes are an error in its own name, whichever op it is", () => {
  ours.use(openReference());
  const x = ours.ones([2, 2]);
  const wrong: unknown[][] = [[], [undefined, undefined], ["x"], [[1, 2]], [x, "b"], [x, {}], [null, x]];
  for (const [name, op] of Object.entries(ops) as [string, (...args: unknown[]) => unknown][])
    for (const args of wrong) {
      try {
        op(...args);
      } catch (error) {
        expect((error as Error).message.slice(0, name.length + 1), `${name}(${args.map(String)}): ${(error as Error).message}`).toMatch(
          new RegExp(`^${name}[(:]`),
        );
      }
    }
  expect(() => ops.matmul(x, "b" as never)).toThrow(
    new TypeError(
      "matmul: these are not the arguments it takes; got f32 [2, 2], the string b (Cannot read properties of undefined (reading 'length'))",
    ),
  );
  ours.use(null);
});

test("an option that is not known is an error that names the nearest", async () => {
  ours.use(openReference());
  const x = ours.ones([2, 2]);
  expect(() => ours.matmul(x, x, { transposeb: true } as never)).toThrow(
    'matmul(a, b, options): there is no option "transposeb"; did you mean "transposeB"?',
  );
  expect(() => ours.crossEntropy(x, ours.integers([0, 1]), { smothing: 0.5 } as never)).toThrow('did you mean "smoothing"?');
  expect(() => ours.index([0], 2, { padding: 1 } as never)).toThrow('index(values, rows, options): there is no option "padding"');
  await expect(ours.open("cpu", { thread: 1 } as never)).rejects.toThrow(
    'open(name, options): there is no option "thread"; did you mean "threads"?',
  );
  await expect(ours.open("cpu", { limit: "1GB" } as never)).rejects.toThrow("open(name, { limit }): a limit is a number of bytes; got 1GB");
  ours.use(null);
});

/** The documentation is true: its programs run and print what they promise, the examples on its pages too, and its links lead somewhere. */

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { deviceNames } from "./devices.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), "utf8");

/** What a program prints. @throws Error with what it says to stderr, when it ends otherwise than well. */
const printed = (file: string, ...args: string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", file, ...args], { cwd: root });
    let [out, error] = ["", ""];
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      error += chunk;
    });
    child.on("close", (status) => {
      if (status === 0) resolve(stripVTControlCharacters(out));
      else reject(new Error(`${file} ended with ${status}\n${error}`));
    });
  });

/** The number after some words, wherever they stand. */
function number(text: string, after: RegExp): number {
  const found = new RegExp(`${after.source}\\s*(-?[\\d.]+(?:e[-+]?\\d+)?)`).exec(text);
  if (!found) expect.fail(`there is no number after ${after} in\n${text}`);
  return Number(found[1]);
}

// ---- programs ------------------------------------------------------------------------------

/** Every program in docs/, and what it must have printed. */
const programs: Readonly<Record<string, (text: string) => void>> = {
  "xor.ts"(text) {
    expect(number(text, /step 400: loss/)).toBeLessThan(1e-3);
    const answers = /after: .* -> (.*)/.exec(text)?.[1].trim().split(/\s+/).map(Number) ?? [];
    expect(answers.map(Math.round)).toEqual([0, 1, 1, 0]);
    const [, first, last] = /(\d+) bytes held after step 1, (\d+) after step 400/.exec(text) ?? [];
    expect(last).toBe(first);
    expect(text).toMatch(/the copy answers the same\nat last: 0 bytes held\n$/);
  },
  "digits.ts"(text) {
    expect(number(text, /accuracy before training:/)).toBeLessThan(30);
    expect(number(text, /held-out accuracy:/)).toBeGreaterThan(95);
    const table = [...text.matchAll(/^ {12}(\d)((?: +(?:\d+|\.)){10})$/gm)].map(([, , row]) => row.trim().split(/\s+/).map(Number));
    expect(table.length).toBe(10);
    const counted = table.flat().filter((count) => count > 0); // "." is NaN
    expect(counted.reduce((a, b) => a + b, 0)).toBe(1000);
    expect(text.match(/[@%#]/g)?.length).toBeGreaterThan(200); // pictures
  },
  "write-an-op.ts"(text) {
    expect(text).toContain("softThreshold([-2 -0.6 -0.2 0 0.2 0.6 2], 0.5) = [-1.5 -0.1 0 0 0 0.1 1.5]\n");
    expect(number(text, /softThreshold ten deep, forward and back:/)).toBeLessThan(number(text, /composed +ten deep, forward and back:/));
    const [none, learnt, best] = [/no threshold: +loss/, /learnt: +loss/, /best of 151: +loss/].map((words) => number(text, words));
    expect(learnt).toBeLessThan(none / 2);
    expect(Math.abs(learnt - best)).toBeLessThan(0.01 * best);
    expect(number(text, /wrong op: +loss/)).toBeGreaterThan(2 * best);
    expect(text).toMatch(/wrong op: +checkGradients\(f, \[3, 5\] \[\]\): the tape's slope is/);
    expect(text).toMatch(/forgetful op: +forgetful: its way back uses a tensor \[7\] that was not kept for it/);
    expect(text).toMatch(/misshapen op: +misshapen: gradient 1 has shape \[\], its input has \[7\]/);
  },
  "write-a-kernel.ts"(text) {
    const differences = [...text.matchAll(/^ {2}(?:cpu|webgpu) +(.*)$/gm)].flatMap(([, row]) => row.split(/\s+/).map(Number));
    expect(differences.length).toBeGreaterThanOrEqual(6);
    for (const difference of differences) expect(difference).toBeLessThan(5e-7);
    expect(text).toContain("checkGradients: the slopes agree");
    expect(text).toMatch(/learnt on \w+: a direction of \[0\.600, 0\.800\]/);
    if (!/^ {2}webgpu/m.test(text)) return;
    expect(number(text, /a stride of 255: off by/)).toBeLessThan(5e-7);
    expect(number(text, /at 255,/)).toBeGreaterThan(1e-5);
    expect(text).toMatch(/a broken kernel: webgpu: .*squareRoot/);
    expect(text).toMatch(/mended: +\[1, 2, 3\]/);
  },
  "copy.ts"(text) {
    const shares = [...text.matchAll(/copied without a mistake ([\d.]+) %/g)].map(([, share]) => Number(share));
    expect(shares.at(-1)).toBeGreaterThan(95);
    expect(text).toMatch(/\nat last: 0 bytes held\n$/);
  },
};

describe("the program", () => {
  test("each has its expectations", () => {
    expect(
      readdirSync(join(root, "docs"))
        .filter((name) => name.endsWith(".ts"))
        .sort(),
    ).toEqual(Object.keys(programs).sort());
  });

  for (const [name, expected] of Object.entries(programs))
    test(name, { timeout: 600_000 }, async () => expected(await printed(join("docs", name), "cpu")));

  if (deviceNames.includes("webgpu"))
    test("write-a-kernel.ts with a GPU: what goes wrong there", async () => {
      const text = await printed(join("docs", "write-a-kernel.ts"), "webgpu");
      expect(text).toMatch(/^ {2}webgpu/m);
      programs["write-a-kernel.ts"](text);
    });
});

// ---- pages ---------------------------------------------------------------------------------

const folders = ["kernels", "src", "autograd", "nn", "geneformer", "test", "bench"];
const pages = ["docs", ...folders].map((folder) => join(folder, "README.md"));

/** Programs on the pages: what imports from the package. */
const examples = pages.flatMap((page) =>
  [...read(page).matchAll(/```ts\n([\s\S]*?)```/g)]
    .map(([, code]) => code)
    .filter((code) => code.startsWith("import "))
    .map((code, i) => [`${page}, ${i + 1}`, code] as const),
);

describe("the example of", () => {
  mkdirSync(join(root, "out"), { recursive: true });
  const place = mkdtempSync(join(root, "out", "examples-")); // in the tree, where tsconfig.json says what "geneformer-ts" is
  afterAll(() => rmSync(place, { recursive: true }));

  test("every folder that is a library has one", () => {
    for (const folder of folders.slice(0, 5))
      expect(
        examples.some(([name]) => name.startsWith(folder)),
        folder,
      ).toBe(true);
  });

  test.each(examples)("%s prints what its comments say", async (name, code) => {
    const said = [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, words]) => words);
    expect(said.length).toBeGreaterThan(0);
    const file = join(place, `${name.replace(/\W+/g, "-")}.ts`);
    writeFileSync(file, code);
    expect((await printed(relative(root, file))).trimEnd().split("\n")).toEqual(said);
  });
});

/** The links of a page to files of ours. */
const linksOf = (page: string): string[] =>
  [...read(page).matchAll(/\]\(([^)#]+)\)/g)].map(([, link]) => link).filter((link) => !/^\w+:/.test(link));

describe("links:", () => {
  test.each(pages)("%s", (page) => {
    for (const link of linksOf(page)) expect(existsSync(join(root, dirname(page), link)), `${page} links to ${link}`).toBe(true);
  });

  test("docs/README.md leads to every program and every page", () => {
    const links = linksOf(join("docs", "README.md"));
    expect(links).toEqual(
      expect.arrayContaining([...Object.keys(programs), "page/main.ts", ...folders.map((folder) => `../${folder}/README.md`)]),
    );
  });
});

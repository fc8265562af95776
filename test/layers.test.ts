/** The house's rules that a machine can check: who imports whom, where Node may be, and how a file opens. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../", import.meta.url));
/** From the left: each may import itself and what stands before it. */
const layers = ["kernels", "src", "autograd", "nn", "geneformer"] as const;
const outer = ["bench", "test"];

const filesOf = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((name) => name.endsWith(".ts") && !name.includes("node_modules") && !name.startsWith(join("kernels", "cpu", "assembly")));

/** A file without its comments: an import line in one imports nothing. */
const code = (file: string): string => readFileSync(join(root, file), "utf8").replace(/\/\*[\s\S]*?\*\/|(?<![:"'`])\/\/.*$/gm, "");

interface Import {
  readonly from: string;
  readonly lazy: boolean;
}

/** What a file imports: static imports and re-exports, and `import(...)` of a literal, at run time. */
function importsOf(file: string): Import[] {
  const text = code(file);
  const found: Import[] = [];
  for (const [, from] of text.matchAll(/^\s*(?:import|export)\s(?:[^;"'`]*?\sfrom\s+)?["']([^"']+)["']/gm))
    found.push({ from, lazy: false });
  for (const [, from] of text.matchAll(/\bimport\(\s*["']([^"']+)["']/g)) found.push({ from, lazy: true });
  return found;
}

const layerOf = (path: string): number => layers.findIndex((layer) => path.startsWith(`${layer}/`));

/** src/index.ts is the front door of the framework, and shows what lies behind it. */
const frontDoor = (file: string, target: string) => file === "src/index.ts" && target.startsWith("autograd/");

const isNode = ({ from }: Import) => from.startsWith("node:");
const mayUseNode = (file: string) => /^geneformer\/(cli\.ts|cli\/|demo\.ts|files\.ts)/.test(file);
const mayLoadNode = (file: string) => file === "src/webgpu.ts" || file === "src/cpu.ts";

const inside = layers.flatMap(filesOf);
const everywhere = [...inside, ...outer.filter((folder) => existsSync(join(root, folder))).flatMap(filesOf)];

describe("arrows point left:", () => {
  test("the folders hold files", () => {
    for (const layer of layers) expect(filesOf(layer).length, layer).toBeGreaterThan(0);
  });

  test.each(inside)("%s", (file) => {
    for (const { from } of importsOf(file)) {
      if (!from.startsWith(".")) continue;
      const target = normalize(join(dirname(file), from));
      const reached = layerOf(target);
      expect(reached, `${file} imports ${from}, which lies in none of ${layers.join(", ")}`).toBeGreaterThanOrEqual(0);
      if (!frontDoor(file, target)) expect(reached, `${file} imports ${from}, to the right of it`).toBeLessThanOrEqual(layerOf(file));
      expect(from, `${file} imports ${from} without its extension`).toMatch(/\.ts$/);
    }
  });
});

describe("Node stays outside:", () => {
  test.each(inside)("%s", (file) => {
    const used = importsOf(file).filter(isNode);
    if (mayUseNode(file)) return;
    const allowed = mayLoadNode(file) ? used.filter(({ lazy }) => lazy) : [];
    expect(used, `${file}: only geneformer/cli, demo.ts and files.ts use Node; src/webgpu.ts and src/cpu.ts may load it lazily`).toEqual(
      allowed,
    );
  });

  test("the rule sees what it forbids", () => {
    expect(inside.filter((file) => importsOf(file).some(isNode)).length).toBeGreaterThan(1);
  });
});

describe("manners:", () => {
  test.each(everywhere)("%s", (file) => {
    const text = readFileSync(join(root, file), "utf8").replace(/^#!.*\n/, "");
    expect(text, "a file opens with one sentence that says what it is").toMatch(/^\/\*\*\s[\s\S]*?[.:;)]\s*(\n|\*\/)/);
    if (file !== join("test", "mutation", "mutants.ts")) expect(code(file), "no `any`").not.toMatch(/(:|\bas|<|,|=)\s*any\b(?!["'`\w])/);
    expect(code(file), "erasable syntax: no enums, no namespaces").not.toMatch(/^\s*(export\s+)?(const\s+)?(enum|namespace)\s+\w+/m);
    expect(text, "nothing unfinished").not.toMatch(
      new RegExp(["TO" + "DO", "FIX" + "ME", "X" + "XX"].map((word) => `\\b${word}\\b`).join("|")),
    );
  });
});

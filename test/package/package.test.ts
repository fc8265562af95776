/** The library as its users get it: packed, installed into an empty project, imported by Node and bundled into a page by Vite. */

import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { type Browser, chromium } from "playwright";
import { createServer, preview, build as viteBuild } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { args, executablePath } from "../browser/launch.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const bin = (name: string) => join(root, "node_modules/.bin", name);
/** The empty project. */
const project = mkdtempSync(join(tmpdir(), "package-"));
const installed = join(project, "node_modules/geneformer-ts");
let tarball = "";

const run = (command: string, args: readonly string[], cwd = project): string =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 120_000 });

beforeAll(() => {
  run("npm", ["run", "--silent", "build"], root);
  run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project], root);
  tarball = join(project, readdirSync(project).find((name) => name.endsWith(".tgz")) ?? "");
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  run("npm", ["install", "--silent", "--no-audit", "--no-fund", "--prefer-offline", "--omit=peer", tarball]);
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

describe("the package", () => {
  test("publint finds nothing", () => {
    expect(run(bin("publint"), ["run", tarball, "--strict"], root)).toMatch(/All good/);
  });

  test("its types are what its code is", () => {
    const told = run(bin("attw"), [tarball, "--profile", "esm-only", "--no-emoji", "--format", "ascii"], root);
    for (const entry of ["geneformer-ts", "geneformer-ts/nn", "geneformer-ts/geneformer"])
      expect(told).toMatch(new RegExp(`"${entry}.{0,4}\\s+node16 \\(from ESM\\): OK \\(ESM\\)\\s+bundler: OK`));
  });

  test("holds what is needed and no more", () => {
    const files = readdirSync(installed, { recursive: true, encoding: "utf8" });
    for (const wanted of [
      "dist/src/index.js",
      "dist/src/index.d.ts",
      "dist/kernels/cpu/kernels.wasm",
      "dist/kernels/cpu/kernels.fused.wasm",
    ])
      expect(files).toContain(wanted);
    expect(files.filter((name) => /(^|\/)(test|bench|\.ci)\//.test(name))).toEqual([]);
  });

  test("the engine's bundle for a page is small, and has nothing of Node's in it", async () => {
    const bundle = async (contents: string): Promise<Uint8Array> => {
      const made = await build({
        stdin: { contents, resolveDir: project, loader: "ts" },
        bundle: true,
        format: "esm",
        platform: "browser",
        minify: true,
        write: false,
        logLevel: "silent",
      });
      expect(made.warnings).toEqual([]);
      const code = made.outputFiles[0].contents;
      expect(Buffer.from(code).toString()).not.toMatch(/from"node:|import\("node:|require\(/);
      return code;
    };
    const part = (path: string) => readFileSync(join(installed, "dist", path));
    const all = {
      engine: await bundle('export * from "geneformer-ts";'),
      "with nn": await bundle('export * from "geneformer-ts"; export * from "geneformer-ts/nn";'),
      "what docs/page needs": await bundle(readFileSync(join(root, "docs/page/main.ts"), "utf8")),
      worker: part("src/cpu/worker.js"),
      wasm: part("kernels/cpu/kernels.fused.wasm"),
    };
    const sizes = Object.entries(all).map(([name, bytes]) => [name, gzipSync(bytes, { level: 9 }).length] as const);
    console.log(`bytes, gzip: ${sizes.map(([name, size]) => `${name} ${size}`).join(", ")}`);
    expect(sizes[0][1]).toBeLessThan(70_000); // 45 kB before there were tiles to choose from and calibration
  });
});

describe("in Node", () => {
  test("computes, on threads too, and the process ends by itself", () => {
    writeFileSync(
      join(project, "main.mjs"),
      `import { inference, matmul, open, softmax, sum, tensor, valueAndGrad } from "geneformer-ts";
import { Linear, parameters } from "geneformer-ts/nn";
import { preset } from "geneformer-ts/geneformer";
for (const options of [{ threads: 1 }, { threads: 2, least: 0 }, { worker: true, threads: 1 }]) {
  const device = await open("cpu", options);
  const x = tensor(Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i)), [64, 64]);
  const { value, grads } = valueAndGrad(() => sum(softmax(matmul(x, x))), [x]);
  console.log(device.description, (await value.item()).toFixed(3), (await grads[0].data()).length);
}
console.log(new Linear(2, 3, null).weight.shape.join("x"), [...parameters(new Linear(2, 3, null))].length, preset("V1-10M").layers);
`,
    );
    const said = run(process.execPath, ["main.mjs"]).trim().split("\n");
    expect(said).toEqual([
      "WebAssembly relaxed SIMD, one thread 64.000 4096",
      "WebAssembly relaxed SIMD, 2 threads 64.000 4096",
      "WebAssembly relaxed SIMD, one thread, in a worker 64.000 4096",
      "3x2 2 6",
    ]);
  });

  test("the command runs", () => {
    expect(run(join(project, "node_modules/.bin/geneformer"), ["help"])).toMatch(/pretrain/);
  });
});

describe("in a page that Vite makes", () => {
  const page = join(project, "page");
  let browser: Browser;
  beforeAll(async () => {
    cpSync(join(root, "docs/page"), page, { recursive: true });
    symlinkSync(join(root, "node_modules/vite"), join(project, "node_modules/vite")); // as if it were installed there
    browser = await chromium.launch({ executablePath, args: [...args] });
  });
  afterAll(() => browser?.close());

  /** What the page shows when it is done, and whatever it complained of. */
  async function opened(address: string): Promise<{ device: string; result: string; complaints: string[] }> {
    const tab = await browser.newPage();
    const complaints: string[] = [];
    tab.on("pageerror", (error) => complaints.push(error.message));
    tab.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await tab.goto(address);
    await tab.waitForFunction('document.title === "done"', undefined, { timeout: 120_000 });
    const read = (id: string) => tab.locator(`#${id}`).innerText();
    const shown = {
      device: await read("device"),
      result: await read("result"),
      complaints,
    };
    await tab.close();
    return shown;
  }
  const learned = /^XOR of 00, 01, 10, 11: 0\.0\d, 0\.9\d, 0\.9\d, 0\.0\d; loss \d\.\de-\d/;

  test.each([
    ["isolated", true, /^cpu: WebAssembly relaxed SIMD, \d+ threads, in a worker$/],
    ["not isolated", false, /^cpu: WebAssembly relaxed SIMD, one thread, in a worker$/],
  ])("built, %s", async (_, isolated, device) => {
    await viteBuild({ root: page, configFile: join(page, "vite.config.ts"), logLevel: "error" });
    const server = await preview({
      root: page,
      configFile: isolated ? join(page, "vite.config.ts") : false,
      preview: { port: 0, host: "127.0.0.1" },
      logLevel: "error",
    });
    try {
      const { port } = server.httpServer.address() as { port: number };
      const shown = await opened(`http://127.0.0.1:${port}/`);
      expect(shown.complaints).toEqual([]);
      expect(shown.device).toMatch(device);
      expect(shown.result).toMatch(learned);
      const onGpu = await opened(`http://127.0.0.1:${port}/?device=webgpu`);
      expect(onGpu.complaints).toEqual([]);
      expect(onGpu.device).toMatch(/^webgpu: .*swiftshader/i);
      expect(onGpu.result).toMatch(learned);
    } finally {
      await new Promise((closed) => server.httpServer.close(closed));
    }
  });

  test("as it is developed", async () => {
    const server = await createServer({
      root: page,
      configFile: join(page, "vite.config.ts"),
      server: { port: 0, host: "127.0.0.1" },
      logLevel: "error",
    });
    try {
      await server.listen();
      const { port } = server.httpServer!.address() as { port: number };
      const shown = await opened(`http://127.0.0.1:${port}/`);
      expect(shown.complaints).toEqual([]);
      expect(shown.device).toMatch(/^cpu: WebAssembly relaxed SIMD, \d+ threads, in a worker$/);
      expect(shown.result).toMatch(learned);
    } finally {
      await server.close();
    }
  });
});

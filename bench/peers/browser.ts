/** The same races in headless Chromium, on its WebGPU adapter: one page for each contender, an idle one does nothing. */

import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Browser, chromium, type Page } from "playwright";
import { args, executablePath } from "../../test/browser/launch.ts";
import { type Racer, race } from "./race.ts";
import type { Section } from "./report.ts";
import type { Parts } from "./task.ts";
import { pageWorks, prepareFolder } from "./works.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/** Milliseconds of a turn: a software adapter is slow, and one run often takes longer. */
const TURN = 1000;

/** Every work of pages whose title holds one of the words, one after the other. */
export async function* pageSections({
  scratch,
  rounds,
  words,
}: {
  scratch: string;
  rounds: number;
  words: readonly string[];
}): AsyncGenerator<Section> {
  const folder = join(scratch, "work");
  const site = join(scratch, "site");
  await bundle(site);
  const server = await serve({ "/given/": folder, "/ort/": dirname(createRequire(import.meta.url).resolve("onnxruntime-web")), "/": site });
  const browser = await chromium.launch({ executablePath, args: [...args] });
  try {
    const { port } = server.address() as { port: number };
    for (const { title, task, entrants } of pageWorks) {
      if (words.length > 0 && !words.some((word) => title.includes(word))) continue;
      rmSync(folder, { recursive: true, force: true });
      await prepareFolder(folder, task);
      const racers = entrants.map((opener) => inBrowser(browser, `http://127.0.0.1:${port}/page.html`, NAMES[opener], opener));
      try {
        yield { title, limits: {}, outcomes: await race(racers, { rounds, turn: TURN, most: 20 }) };
      } finally {
        for (const racer of racers) await racer.close();
      }
    }
  } finally {
    await browser.close();
    server.close();
  }
}

const NAMES = { ours: "geneformer-ts", tfjs: "tfjs webgpu", jax: "jax-js webgpu", "ort-web": "onnxruntime-web webgpu" } as const;

function inBrowser(browser: Browser, address: string, name: string, opener: string): Racer {
  let page: Page | null = null;
  const call = <T>(f: string, ...given: readonly unknown[]): Promise<T> =>
    page!.evaluate(`${f}(${given.map((each) => JSON.stringify(each)).join(", ")})`);
  return {
    name,
    async open() {
      page = await browser.newPage();
      page.setDefaultTimeout(600_000);
      await page.goto(address);
      await page.waitForFunction("globalThis.openContender !== undefined");
      return call<string>("openContender", opener);
    },
    async result(): Promise<Parts> {
      const parts = await call<[string, number[]][]>("resultOf");
      return Object.fromEntries(parts.map(([part, values]) => [part, Float32Array.from(values)]));
    },
    time: (runs, warm) => call<number[]>("timesOf", runs, warm),
    close: async () => page?.close(),
  };
}

/** page.ts and all it may load, cut into pieces that a page loads when it needs them. */
async function bundle(outdir: string): Promise<void> {
  await build({
    entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "browser",
    external: ["node:*", "worker_threads", "onnxruntime-node"],
    logLevel: "error",
  });
}

/** Folders by the beginning of their paths, with the headers that make a page isolated: without them there are neither threads nor fine clocks. */
async function serve(folders: Readonly<Record<string, string>>): Promise<Server> {
  const server = createServer(({ url = "/" }, response) => {
    const path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
    const [begin, folder] = Object.entries(folders).find(([begin]) => path.startsWith(begin)) as [string, string];
    const file = join(folder, path.slice(begin.length));
    const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
    if (path === "/page.html")
      response.writeHead(200, { ...headers, "Content-Type": "text/html" }).end('<script type="module" src="/page.js"></script>');
    else if (!existsSync(file)) response.writeHead(404, headers).end();
    else
      response.writeHead(200, { ...headers, "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" }).end(readFileSync(file));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

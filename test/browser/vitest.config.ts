/** How the sweep runs in a page: headless Chromium, WebGPU on its own software adapter (SwiftShader) and the cpu device. */

import { fileURLToPath } from "node:url";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { args, executablePath } from "./launch.ts";

/** SharedArrayBuffer, and so threads, exist only in a page that is isolated (COOP and COEP headers); BROWSER_ISOLATED=no leaves the headers out. */
const isolated = process.env.BROWSER_ISOLATED !== "no";

/** To see how much memory a page holds. */
const measured = ["--js-flags=--expose-gc", "--enable-precise-memory-info"];

export default defineConfig({
  root: fileURLToPath(new URL("../../", import.meta.url)),
  server: { headers: isolated ? { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" } : {} },
  define: {
    "import.meta.env.TEST_DEVICES": JSON.stringify(process.env.TEST_DEVICES || "cpu,threads,webgpu"),
    "import.meta.env.TEST_SEED": JSON.stringify(process.env.TEST_SEED ?? ""),
    "import.meta.env.ISOLATED": JSON.stringify(isolated ? "yes" : "no"),
  },
  test: {
    include: ["test/sweep.test.ts", "test/browser/*.test.ts"],
    testTimeout: 300_000, // SwiftShader compiles and computes slowly
    hookTimeout: 120_000,
    fileParallelism: false,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: { executablePath, args: [...args, ...measured] } }),
      instances: [{ browser: "chromium" }],
    },
  },
});

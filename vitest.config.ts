/** How the tests run. TEST_DEVICES (a comma list; default "reference,cpu,webgpu") says on which devices; test/devices.ts reads it. */

import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { defineConfig } from "vitest/config";

/** Real data lies beside a checkout, where there is any; its suite runs exactly then. */
const shared = existsSync(new URL("../shared/data/", import.meta.url));
console.error(`tests: ../shared/data ${shared ? "is there: test/shared runs" : "is not there: test/shared does not run"}`);

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/browser/**", "test/package/**", ...(shared ? [] : ["test/shared/**"])], // the first two have commands of their own
    pool: "forks", // a driver that takes its process down takes one file's tests with it
    maxWorkers: 2,
    testTimeout: 300_000, // a software adapter compiles some kernels for half a minute, and others may be busy
    hookTimeout: 120_000,
    env: { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() },
  },
});

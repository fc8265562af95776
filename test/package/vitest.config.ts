/** How the tests of the packed library run: they build it, install it into an empty project, and open it in Node and in a page. */

import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  root: fileURLToPath(new URL("../../", import.meta.url)),
  test: { include: ["test/package/*.test.ts"], testTimeout: 180_000, hookTimeout: 300_000 },
});

// Bundles the cpu device's worker to worker.js beside this file: one script, since a Worker starts from an address; `--copy FOLDER` puts it into a built tree.

import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const worker = join(here, "worker.js");

const copy = process.argv.indexOf("--copy");
if (copy < 0) {
  await build({
    entryPoints: [join(here, "worker.ts")],
    outfile: worker,
    bundle: true,
    format: "esm",
    target: "es2023",
    minify: true,
    legalComments: "none",
  });
} else {
  const folder = join(process.argv[copy + 1], "src", "cpu");
  mkdirSync(folder, { recursive: true });
  copyFileSync(worker, join(folder, "worker.js"));
}

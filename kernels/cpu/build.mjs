// Compiles the AssemblyScript kernels to kernels.wasm beside this file, if they have changed; `--copy FOLDER` puts the result into a built tree.

import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const here = dirname(fileURLToPath(import.meta.url));
const wasm = join(here, "kernels.wasm");

/** A 32-bit memory's most, in pages of 64 KiB: 4 GiB. */
const MOST_PAGES = 65536;

const age = (path) => statSync(path).mtimeMs;

async function build() {
  const sources = readdirSync(join(here, "assembly")).map((name) => join(here, "assembly", name));
  if (existsSync(wasm) && [...sources, fileURLToPath(import.meta.url)].every((path) => age(path) < age(wasm))) return;
  const flags = `-O3 --runtime stub --enable simd --importMemory --maximumMemory ${MOST_PAGES} --noAssert --use abort=`.split(" ");
  const { error, stderr } = await asc.main([join(here, "assembly", "index.ts"), "-o", wasm, "--baseDir", "/", ...flags]);
  if (error) {
    console.error(`kernels/cpu/build.mjs: ${error.message}\n${stderr.toString()}`);
    process.exit(1);
  }
}

const copy = process.argv.indexOf("--copy");
if (copy < 0) await build();
else {
  const folder = join(process.argv[copy + 1], "kernels", "cpu");
  mkdirSync(folder, { recursive: true });
  copyFileSync(wasm, join(folder, "kernels.wasm"));
}

// Compiles the AssemblyScript kernels, if they have changed, to kernels.wasm beside this file, and to kernels.fused.wasm for engines with relaxed SIMD,
// which multiply and add in one; `--copy FOLDER` puts both into a built tree.

import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const here = dirname(fileURLToPath(import.meta.url));
/** The builds, and what each tells the compiler. */
const builds = { "kernels.wasm": [], "kernels.fused.wasm": ["--enable", "relaxed-simd"] };

/** A 32-bit memory's most, in pages of 64 KiB: 4 GiB. */
const MOST_PAGES = 65536;

const age = (path) => statSync(path).mtimeMs;

async function build() {
  const sources = readdirSync(join(here, "assembly")).map((name) => join(here, "assembly", name));
  const common = `-O3 --runtime stub --enable simd --importMemory --maximumMemory ${MOST_PAGES} --noAssert --use abort=`.split(" ");
  for (const [name, flags] of Object.entries(builds)) {
    const wasm = join(here, name);
    if (existsSync(wasm) && [...sources, fileURLToPath(import.meta.url)].every((path) => age(path) < age(wasm))) continue;
    const { error, stderr } = await asc.main([join(here, "assembly", "index.ts"), "-o", wasm, "--baseDir", "/", ...common, ...flags]);
    if (error) {
      console.error(`kernels/cpu/build.mjs: ${name}: ${error.message}\n${stderr.toString()}`);
      process.exit(1);
    }
  }
}

const copy = process.argv.indexOf("--copy");
if (copy < 0) await build();
else {
  const folder = join(process.argv[copy + 1], "kernels", "cpu");
  mkdirSync(folder, { recursive: true });
  for (const name of Object.keys(builds)) copyFileSync(join(here, name), join(folder, name));
}

/** Vite needs to be told two things: a module may await at its top level, and, for threads, that the page is isolated from other origins. */

import { defineConfig } from "vite";

/** With these headers a page may share memory among threads (SharedArrayBuffer); without them the cpu device runs on one. */
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  build: { target: "es2022" },
  // the package finds its WebAssembly and its worker beside its own files, so it is not to be moved together with other dependencies
  optimizeDeps: { exclude: ["geneformer-ts"] },
  worker: { format: "es" },
  server: { headers },
  preview: { headers },
});

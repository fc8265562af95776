/** A folder of its own for each test file, removed afterwards. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** Makes a path inside a fresh temporary folder. */
export function scratch(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), "geneformer-test-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

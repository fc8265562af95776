/** Files appear whole or not at all. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import disk from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { describe, expect, test } from "vitest";
import {
  appendTo,
  copyFolder,
  exists,
  list,
  readFile,
  readJson,
  readRange,
  refuseForeign,
  size,
  writeFolderWhole,
  writeLines,
  writeWhole,
} from "../../../geneformer/files.ts";
import { scratch } from "./scratch.ts";

const path = scratch();

describe("reading", () => {
  test("whole, by range, and sizes", async () => {
    writeFileSync(
      path("ten"),
      Uint8Array.from({ length: 10 }, (_, i) => i),
    );
    expect([...(await readFile(path("ten")))]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect([...(await readRange(path("ten"), 3, 6))]).toEqual([3, 4, 5]);
    expect((await readRange(path("ten"), 4, 4)).length).toBe(0);
    expect(await size(path("ten"))).toBe(10);
    await expect(readRange(path("ten"), 8, 12)).rejects.toThrow(/ends at byte 10, before 12; the file is truncated/);
  });

  test("a path that is wrong is named", async () => {
    await expect(readFile(path("nothing"))).rejects.toThrow(/"[^"]*nothing" does not exist; check the path/);
    await expect(readFile(path("."))).rejects.toThrow(/is a folder; name a file/);
    await expect(list(path("nothing"))).rejects.toThrow(/does not exist/);
    writeFileSync(path("broken.json"), "{");
    await expect(readJson(path("broken.json"))).rejects.toThrow(/broken.json" is not JSON/);
  });
});

describe("writing whole", () => {
  test("makes the folders on the way, replaces only with force, leaves no temporary file", async () => {
    const file = path("a/b/c.txt");
    await writeWhole(file, "one");
    await expect(writeWhole(file, "two", { force: false })).rejects.toThrow(/exists; remove it, choose another name, or use --force/);
    expect(readFileSync(file, "utf8")).toBe("one");
    await writeWhole(file, "two", { force: true });
    expect(readFileSync(file, "utf8")).toBe("two");
    expect(readdirSync(path("a/b"))).toEqual(["c.txt"]);
  });

  test("a folder that fails half way is not there, and the old one stays", async () => {
    mkdirSync(path("out"));
    const folder = path("out/result");
    const half = async (temporary: string) => {
      writeFileSync(`${temporary}/part`, "half");
      throw new Error("no more");
    };
    await expect(writeFolderWhole(folder, half)).rejects.toThrow("no more");
    expect(readdirSync(path("out"))).toEqual([]);
    await writeFolderWhole(folder, async (temporary) => writeFileSync(`${temporary}/old`, ""));
    await expect(writeFolderWhole(folder, half, { force: true, mark: ["old"] })).rejects.toThrow("no more");
    expect(readdirSync(folder)).toEqual(["old"]);
    await expect(writeFolderWhole(folder, async () => {})).rejects.toThrow(/--force/);
  });

  test("a folder is replaced as one: nothing of the old is left", async () => {
    const folder = path("replaced");
    await writeFolderWhole(folder, async (temporary) => writeFileSync(`${temporary}/old`, ""));
    await writeFolderWhole(
      folder,
      async (temporary) => {
        expect(readdirSync(folder)).toEqual(["old"]); // visible until the new one is whole
        const file = await appendTo(`${temporary}/new`);
        await file.write(Uint8Array.of(1));
        await file.write(Uint8Array.of(2, 3));
        await file.close();
      },
      { force: true, mark: ["another", "old"] },
    );
    expect(await list(folder)).toEqual(["new"]);
    expect([...(await readFile(`${folder}/new`))]).toEqual([1, 2, 3]);
    await copyFolder(folder, path("copied"));
    expect(await exists(path("copied/new"))).toBe(true);
    expect(existsSync(path("copied/old"))).toBe(false);
  });

  test("a file does not replace a folder, forced or not", async () => {
    mkdirSync(path("kept"));
    writeFileSync(path("kept/model.safetensors"), "");
    await expect(writeWhole(path("kept"), "file", { force: true })).rejects.toThrow(/^write: "[^"]*kept" is a folder; name a file$/);
    await expect(writeLines(path("kept"), ["file"], { force: true })).rejects.toThrow(/is a folder; name a file/);
    expect(readdirSync(path("kept"))).toEqual(["model.safetensors"]);
  });

  test("a folder replaces an empty one or one of ours, no other and no file", async () => {
    const foreign = /"[^"]*thesis" is a (folder|file) this command did not write; remove it by hand or choose another name$/;
    const write = () =>
      writeFolderWhole(path("thesis"), async (folder) => writeFileSync(`${folder}/ours`, ""), { force: true, mark: ["ours"] });
    await refuseForeign(path("thesis"), ["ours"]); // nothing there
    mkdirSync(path("thesis"));
    await write();
    await write();
    writeFileSync(path("thesis/chapter"), "");
    await disk.unlink(path("thesis/ours"));
    await expect(write()).rejects.toThrow(foreign);
    await expect(refuseForeign(path("thesis"), ["ours"])).rejects.toThrow(foreign);
    expect(readdirSync(path("thesis"))).toEqual(["chapter"]);
    await disk.rm(path("thesis"), { recursive: true });
    writeFileSync(path("thesis"), "");
    await expect(write()).rejects.toThrow(foreign);
  });

  test("an old folder is back where the new one cannot take its name", async () => {
    mkdirSync(path("swap"));
    const folder = path("swap/result");
    await writeFolderWhole(folder, async (temporary) => writeFileSync(`${temporary}/old`, ""));
    const { rename } = disk;
    disk.rename = async (from, to) => {
      if (String(from).includes(".partial-")) throw Object.assign(new Error("EIO"), { code: "EIO" });
      return rename(from, to);
    };
    syncBuiltinESMExports();
    try {
      await expect(writeFolderWhole(folder, async () => {}, { force: true, mark: ["old"] })).rejects.toThrow(/could not be used \(EIO\)/);
    } finally {
      disk.rename = rename;
      syncBuiltinESMExports();
    }
    expect(readdirSync(folder)).toEqual(["old"]);
    expect(readdirSync(path("swap"))).toEqual(["result"]);
  });

  test("lines go to the disk as they come, and are seen when all are there", async () => {
    const file = path("lines/all.txt");
    const row = `${"naïve ".repeat(2 ** 15)}\n`;
    let written = 0;
    const rows = function* () {
      for (let i = 0; i < 20; i++) {
        expect(existsSync(file)).toBe(false);
        const [partial] = readdirSync(path("lines"));
        written = Math.max(written, readFileSync(path(`lines/${partial}`)).length);
        yield row;
      }
    };
    await writeLines(file, rows());
    expect(readFileSync(file, "utf8")).toBe(row.repeat(20));
    expect(written).toBeGreaterThan(2 ** 20);
    const fails = function* () {
      yield "half";
      throw new Error("no more");
    };
    await expect(writeLines(path("lines/none"), fails())).rejects.toThrow("no more");
    await writeLines(path("lines/empty"), []);
    expect(readdirSync(path("lines"))).toEqual(["all.txt", "empty"]);
  });
});

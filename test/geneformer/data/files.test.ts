/** Files appear whole or not at all. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  appendTo,
  copyFolder,
  exists,
  list,
  readFile,
  readJson,
  readRange,
  size,
  writeFolderWhole,
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
    await expect(writeFolderWhole(folder, half, { force: true })).rejects.toThrow("no more");
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
      { force: true },
    );
    expect(await list(folder)).toEqual(["new"]);
    expect([...(await readFile(`${folder}/new`))]).toEqual([1, 2, 3]);
    await copyFolder(folder, path("copied"));
    expect(await exists(path("copied/new"))).toBe(true);
    expect(existsSync(path("copied/old"))).toBe(false);
  });
});

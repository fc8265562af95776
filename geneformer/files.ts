/** Files on disk, and the one library file with `node:` modules: read whole or by range; write under the final name only when whole. */

import type { Source } from "../nn/source.ts";

const fs = () => import("node:fs/promises");

/** Throws the sentence a person can act on in place of a raw ENOENT or EACCES; `where` names the caller. */
function explain(where: string, path: string, cause: unknown): never {
  const code = (cause as { code?: string }).code ?? "";
  const what: Record<string, string> = {
    ENOENT: "does not exist; check the path",
    EISDIR: "is a folder; name a file",
    ENOTDIR: "is not a folder; name a folder",
    EACCES: "may not be opened; check its permissions",
    ENOSPC: "could not be written, the disk is full; free some space",
  };
  throw new Error(`${where}: "${path}" ${what[code] ?? `could not be used (${code || String(cause)})`}`, { cause });
}

/** All bytes of a file. */
export async function readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return readRange(path, 0, await size(path));
}

/** A file as UTF-8 text. */
export async function readText(path: string): Promise<string> {
  return new TextDecoder().decode(await readFile(path));
}

/** A JSON file; throws with the file's name where it does not parse. */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readText(path));
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new Error(`readJson: "${path}" is not JSON (${cause.message})`, { cause });
    throw cause;
  }
}

/** Bytes [start, end) of a file, in memory of their own (aligned to 8 bytes); throws where the file ends before `end`. */
export async function readRange(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  const file = await (await fs()).open(path, "r").catch((cause) => explain("readRange", path, cause));
  try {
    const bytes = new Uint8Array(end - start);
    for (let done = 0; done < bytes.length; ) {
      // a single read may not exceed 2 GiB
      const length = Math.min(bytes.length - done, 2 ** 30);
      const { bytesRead } = await file.read(bytes, done, length, start + done).catch((cause) => explain("readRange", path, cause));
      if (bytesRead === 0) throw new Error(`readRange: "${path}" ends at byte ${start + done}, before ${end}; the file is truncated`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

/** A file of a package that we depend on, as "package/path". */
export async function readPackaged(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const { createRequire } = await import("node:module");
  return readFile(createRequire(import.meta.url).resolve(name));
}

/** SHA-256 of a file, in hexadecimal. */
export async function digest(path: string): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  const bytes = await size(path);
  for (let at = 0; at < bytes; at += 2 ** 24) hash.update(await readRange(path, at, Math.min(at + 2 ** 24, bytes)));
  return hash.digest("hex");
}

/** Size of a file in bytes. */
export async function size(path: string): Promise<number> {
  const stat = await (await fs()).stat(path).catch((cause) => explain("size", path, cause));
  return stat.isFile() ? stat.size : explain("size", path, { code: "EISDIR" });
}

/** A file of which only the ranges asked for are read; it is open no longer than a reading lasts. */
export const fileSource = async (path: string): Promise<Source> => ({
  name: path,
  size: await size(path),
  read: (start, end) => readRange(path, start, end),
});

/** Whether a file or a folder stands at this path. */
export async function exists(path: string): Promise<boolean> {
  return (await fs()).access(path).then(
    () => true,
    () => false,
  );
}

/** Names of the files and folders in a folder, sorted by code units (the same on every machine). */
export async function list(directory: string): Promise<string[]> {
  return (await (await fs()).readdir(directory).catch((cause) => explain("list", directory, cause))).sort();
}

/**
 * Throws if something stands at `path` and may not be replaced: anything without `force`; with it a folder where a file is to be, or,
 * where a folder with one of `marks` is to be, what `refuseForeign` refuses.
 */
export async function refuseOverwrite(path: string, force = false, marks?: readonly string[]): Promise<void> {
  if (!force && (await exists(path))) throw new Error(`write: "${path}" exists; remove it, choose another name, or use --force`);
  if (marks) await refuseForeign(path, marks);
  else if (await isFolder(path)) explain("write", path, { code: "EISDIR" });
}

/** Throws if `path` is a file, or a folder that holds something but none of the files that mark ours: what we did not write we do not remove. */
export async function refuseForeign(path: string, marks: readonly string[]): Promise<void> {
  if (!(await exists(path))) return;
  const folder = await isFolder(path);
  const names = folder ? await list(path) : [];
  if (folder && (names.length === 0 || names.some((name) => marks.includes(name)))) return;
  throw new Error(
    `write: "${path}" is a ${folder ? "folder" : "file"} this command did not write; remove it by hand or choose another name`,
  );
}

/** Options of what writes whole: `force` replaces what stands there; without it that is an error. */
export interface WriteOptions {
  readonly force?: boolean;
}

/** Options of what writes a folder: with `force`, names of which one must be in a folder that may be replaced, unless it is empty. */
export interface FolderOptions extends WriteOptions {
  readonly mark?: readonly string[];
}

/** Writes a file, given whole or in pieces, under its final name only when whole: a temporary sibling, fsync, rename. Folders on the way are made. */
export function writeWhole(
  path: string,
  content: Uint8Array | string | AsyncIterable<Uint8Array>,
  options: WriteOptions = { force: true },
): Promise<void> {
  return replaceWhole(path, async (temporary) => (await fs()).writeFile(temporary, content), options);
}

/** Writes lines (each with its own end) as they come, in pieces of about a megabyte, under the file's final name only when all are there. */
export function writeLines(path: string, lines: Iterable<string>, options: WriteOptions = { force: true }): Promise<void> {
  const write = async (temporary: string) => {
    const file = await appendTo(temporary);
    try {
      for (const piece of pieces(lines)) await file.write(new TextEncoder().encode(piece));
    } finally {
      await file.close();
    }
  };
  return replaceWhole(path, write, options);
}

/** Lines joined to strings of at least `length`, but for the last: one string of all could pass V8's limit of 2^29 characters. */
function* pieces(lines: Iterable<string>, length = 2 ** 20): Generator<string> {
  let piece = "";
  for (const line of lines) {
    piece += line;
    if (piece.length < length) continue;
    yield piece;
    piece = "";
  }
  yield piece;
}

/** Makes a folder under its final name only when whole: `fill` writes into a temporary sibling, which is renamed, or removed if `fill` throws. */
export function writeFolderWhole(
  path: string,
  fill: (temporary: string) => Promise<void>,
  { force = false, mark = [] }: FolderOptions = {},
): Promise<void> {
  return replaceWhole(
    path,
    async (temporary) => {
      await (await fs()).mkdir(temporary);
      await fill(temporary);
    },
    { force, mark },
  );
}

/** What all writers share: `make` creates at the temporary path it is given a file, or, where `mark` is given, a folder. */
export async function replaceWhole(
  path: string,
  make: (temporary: string) => Promise<void>,
  { force, mark }: FolderOptions,
): Promise<void> {
  const { mkdir, rename, rm } = await fs();
  const { basename, dirname, join, resolve } = await import("node:path");
  await refuseOverwrite(path, force, mark);
  const target = resolve(path);
  const sibling = (kind: string) => join(dirname(target), `.${basename(target)}.${kind}-${process.pid}-${serial++}`);
  const temporary = sibling("partial");
  const old = sibling("old");
  try {
    await mkdir(dirname(target), { recursive: true });
    await make(temporary);
    await synchronise(temporary);
    await refuseOverwrite(path, force, mark);
    const replaces = await isFolder(target);
    if (replaces) await rename(target, old); // rename replaces a file but not a folder
    await rename(temporary, target).catch(async (cause) => {
      if (replaces) await rename(old, target);
      throw cause;
    });
    await synchronise(dirname(target), false);
    await rm(old, { recursive: true, force: true });
  } catch (cause) {
    if ((cause as { code?: string }).code !== undefined) explain("write", path, cause);
    throw cause;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

let serial = 0;

/** Copies a folder and all that is in it. */
export async function copyFolder(from: string, to: string): Promise<void> {
  await (await fs()).cp(from, to, { recursive: true }).catch((cause) => explain("copyFolder", from, cause));
}

/** A file written piece by piece. Write it inside `writeFolderWhole`, so that it is seen only when whole. */
export async function appendTo(path: string): Promise<{ write(bytes: Uint8Array): Promise<void>; close(): Promise<void> }> {
  const file = await (await fs()).open(path, "a").catch((cause) => explain("appendTo", path, cause));
  return {
    write: async (bytes) => file.writeFile(bytes).catch((cause) => explain("appendTo", path, cause)),
    close: () => file.close(),
  };
}

/** Removes a file, or a folder and all in it; nothing there is no error. */
export async function remove(path: string): Promise<void> {
  await (await fs()).rm(path, { recursive: true, force: true }).catch((cause) => explain("remove", path, cause));
}

/** Renames inside one folder being written. */
export async function move(from: string, to: string): Promise<void> {
  await (await fs()).rename(from, to).catch((cause) => explain("move", from, cause));
}

async function isFolder(path: string): Promise<boolean> {
  return (await fs()).stat(path).then(
    (stat) => stat.isDirectory(),
    () => false,
  );
}

/** fsync of a file, or of a folder and (if `deep`) all in it: a rename must not reach the disk before the content it names. */
async function synchronise(path: string, deep = true): Promise<void> {
  if (deep && (await isFolder(path))) for (const name of await list(path)) await synchronise(`${path}/${name}`);
  if (process.platform === "win32" && (await isFolder(path))) return; // Windows cannot fsync a folder
  const file = await (await fs()).open(path, "r");
  await file.sync().finally(() => file.close());
}

/** Bytes that are read by ranges, wherever they lie: in memory, in a Blob that a page was given, on disk. */

export interface Source {
  /** What errors call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Bytes [start, end), all of them, or it throws. */
  read(start: number, end: number): Promise<Uint8Array>;
}

/** Bytes in memory; what is read are views of them. */
export const bytesSource = (bytes: Uint8Array, name = "the given bytes"): Source => ({
  name,
  size: bytes.length,
  read: async (start, end) => bytes.subarray(start, end),
});

/** A Blob, or a File that a person chose: only the ranges asked for are ever in memory. */
export const blobSource = (blob: Blob, name = "name" in blob ? String(blob.name) : "the given Blob"): Source => ({
  name,
  size: blob.size,
  read: async (start, end) => new Uint8Array(await blob.slice(start, end).arrayBuffer()),
});

/** @throws TypeError for what cannot be read by ranges: a path, bytes, a Blob. @param where what to say first: "openSafetensors(source)". */
export function checkSource(where: string, source: unknown): void {
  if (typeof (source as Partial<Source> | null | undefined)?.read === "function") return;
  const given =
    typeof source === "string" ? "a path" : source instanceof Blob ? "a Blob" : ArrayBuffer.isView(source) ? "bytes" : typeof source;
  throw new TypeError(
    `${where}: ${given} is no source; give bytesSource(bytes) or blobSource(blob), of a file on disk blobSource(await fs.openAsBlob(path))`,
  );
}

/** What a clone holds in place of a large file where Git LFS is not installed begins so (its specification, version 1). */
const POINTER = "version https://git-lfs";

/** How errors explain a file that begins so; null where it is no Git LFS pointer. */
export const explainPointer = (first: Uint8Array): string | null =>
  new TextDecoder("latin1").decode(first.subarray(0, POINTER.length)) === POINTER
    ? "a Git LFS pointer and not the file itself; run: git lfs pull"
    : null;

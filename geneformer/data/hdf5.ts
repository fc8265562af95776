/** The door to HDF5 files through h5wasm: opens them, reads numbers and strings in ranges, and turns the library's failures into sentences. */

import type { Dataset, Entity, Group, File as Hdf5File } from "h5wasm";

export type { Dataset, Group, Hdf5File };

/** Numbers as HDF5 stores them; 64-bit integers arrive as Float64Array. */
export type Numbers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array;

type Library = typeof import("h5wasm");

const loaded = new Map<string, Promise<Library>>();

/** h5wasm with the file system of this place: real paths in Node, a memory file system in a page or for a Blob. */
function library(place: "disk" | "memory"): Promise<Library> {
  let promise = loaded.get(place);
  if (!promise) {
    promise = (place === "disk" ? import("h5wasm/node") : import("h5wasm")).then(async (h5) => {
      // else HDF5 prints its stack of errors on stderr and goes on
      (await h5.ready).activate_throwing_error_handler();
      return h5;
    });
    loaded.set(place, promise);
  }
  return promise;
}

const inNode = typeof process !== "undefined" && process.versions?.node !== undefined;
let blobs = 0;

/** Opens an HDF5 file for reading: a path in Node, or a Blob (a chosen `File`) anywhere, which is held in memory. */
export async function openHdf5(source: string | Blob): Promise<Hdf5File> {
  const path = typeof source === "string" ? source : `/blob-${blobs++}.h5`;
  const h5 = await library(typeof source === "string" && inNode ? "disk" : "memory");
  if (typeof source === "string") return guard(path, () => new h5.File(path, "r"));
  h5.FS!.writeFile(path, new Uint8Array(await source.arrayBuffer()));
  try {
    return guard(nameOf(source), () => new h5.File(path, "r"));
  } finally {
    h5.FS!.unlink(path); // an open file keeps its bytes without a name, as in POSIX: closing it, or failing to open it, frees them
  }
}

/** Creates an HDF5 file at a path (in Node on disk, else in the library's memory). */
export async function createHdf5(path: string): Promise<Hdf5File> {
  const h5 = await library(inNode ? "disk" : "memory");
  return guard(path, () => new h5.File(path, "w"));
}

/** What errors call a source. */
export function nameOf(source: string | Blob): string {
  return typeof source === "string" ? source : ((source as { name?: string }).name ?? "the given bytes");
}

/** Runs `f`; where HDF5 fails, throws one sentence with the innermost reason that HDF5 gave. */
export function guard<T>(path: string, f: () => T): T {
  try {
    return f();
  } catch (cause) {
    const text = String((cause as Error).message ?? cause);
    if (!/HDF5-DIAG|Aborted|memory access|table index|unreachable|read outside|Invalid|allocation/i.test(text)) throw cause;
    throw new Error(`h5ad: "${path}" ${explain(text)}`, { cause });
  }
}

function explain(text: string): string {
  const eof = /truncated file: eof = (\d+),.*stored_eof = (\d+)/.exec(text);
  if (eof)
    return `is truncated: ${Number(eof[1]).toLocaleString("en")} of ${Number(eof[2]).toLocaleString("en")} bytes; copy or download it again`;
  if (/file signature not found|Not an HDF5 file/.test(text)) return "is not an HDF5 file; an .h5ad is expected";
  if (/errno = 2\b|No such file/.test(text)) return "does not exist; check the path";
  if (/errno = 13\b|Permission denied/.test(text)) return "may not be opened; check its permissions";
  const innermost = [...text.matchAll(/#\d+: .*? in \w+\(\): (.*)/g)].at(-1)?.[1];
  return `is damaged (${innermost ?? text.split("\n")[0]}); copy or download it again`;
}

/** The element `name` of a group, or null: h5wasm itself throws on names that are absent. */
export function child(group: Group, name: string): Entity | null {
  return group.keys().includes(name) ? group.get(name) : null;
}

/** The group `name`, or null if it is absent or no group. */
export function groupAt(group: Group, name: string): Group | null {
  const entity = child(group, name);
  return entity && "keys" in entity ? entity : null;
}

/** The dataset `name`, or null if it is absent or no dataset. */
export function datasetAt(group: Group, name: string): Dataset | null {
  const entity = child(group, name);
  return entity && "slice" in entity ? entity : null;
}

/** An attribute as plain JSON values, or undefined. */
export function attribute(entity: Dataset | Group, name: string): unknown {
  const attribute = entity.attrs[name];
  return attribute === undefined ? undefined : attribute.json_value;
}

/** deflate, shuffle, fletcher32, szip, nbit, scale-offset: what the library was built with (HDF5 `H5Zpublic.h`). */
const FILTERS = 6;
const NAMED: Record<number, string> = {
  307: "bzip2",
  32000: "lzf",
  32001: "blosc",
  32004: "lz4",
  32008: "bitshuffle",
  32015: "zstd",
  32026: "blosc2",
};

/** Throws where a dataset is compressed in a way that this library cannot undo; h5wasm would abort the process on some of them. */
function refuseFilters(dataset: Dataset, path: string): void {
  for (const { id } of dataset.filters) {
    if (id > FILTERS) {
      throw new Error(
        `h5ad: "${path}": "${dataset.path}" is compressed with ${NAMED[id] ?? `filter ${id}`}, which is not read here; rewrite it with adata.write_h5ad(path, compression="gzip")`,
      );
    }
  }
}

/** Reads numbers: all of a dataset, or the ranges [start, end) of each axis (row-major). */
export function numbers(dataset: Dataset, path: string, ranges?: [number, number][]): Numbers {
  refuseFilters(dataset, path);
  const value = guard(path, () => (ranges && !ranges.every(([a, b]) => b > a) ? new Float64Array(0) : dataset.slice(ranges ?? [])));
  if (value instanceof BigInt64Array || value instanceof BigUint64Array) return Float64Array.from(value, Number);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return value as Numbers;
  throw new Error(`h5ad: "${path}": "${dataset.path}" holds no plain numbers (${JSON.stringify(dataset.dtype)})`);
}

/** Reads a one-dimensional dataset of strings. */
export function strings(dataset: Dataset, path: string): string[] {
  refuseFilters(dataset, path);
  const value = dataset.metadata.total_size === 0 ? [] : guard(path, () => dataset.value);
  if (!Array.isArray(value) || value.some((item) => typeof item !== "string")) {
    throw new Error(`h5ad: "${path}": "${dataset.path}" holds no strings (${JSON.stringify(dataset.dtype)})`);
  }
  return value as string[];
}

/** What a dataset holds, by its HDF5 type class. */
export function kindOf(dataset: Dataset): "int" | "float" | "string" | "bool" | "compound" | "other" {
  const { type, enum_type } = dataset.metadata;
  // classes of HDF5 `H5Tpublic.h`: 0 integer, 1 float, 3 string, 6 compound, 8 enumeration (h5py writes booleans as {FALSE, TRUE})
  if (type === 8) return enum_type && "TRUE" in enum_type.members ? "bool" : "int";
  return type === 0 ? "int" : type === 1 ? "float" : type === 3 ? "string" : type === 6 ? "compound" : "other";
}

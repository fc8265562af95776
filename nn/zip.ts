/** A reader of zip archives (PKWARE APPNOTE 6.3.10: stored and deflated entries, zip64) that believes nothing an archive says of itself. */

import type { Source } from "./source.ts";

export interface Zip {
  /** Names and sizes in bytes. */
  readonly entries: ReadonlyMap<string, { readonly size: number }>;
  /** An entry's bytes, of the size it is said to have and with its CRC. */
  read(name: string): Promise<Uint8Array>;
}

interface Entry {
  readonly name: string;
  readonly deflated: boolean;
  readonly crc: number;
  /** Bytes in the archive. */
  readonly packed: number;
  readonly size: number;
  /** Where its local header begins. */
  readonly start: number;
}

/** Bytes of the fixed parts of the records (APPNOTE 4.3.7, 4.3.12, 4.3.14 to 4.3.16). */
const LOCAL = 30;
const CENTRAL = 46;
const END = 22;
const END64 = 56;
const LOCATOR = 20;
/** The most that a 16-bit length of a comment can add. */
const MOST_COMMENT = 0xffff;
/** Of the directory, bytes: some million entries. */
const MOST_DIRECTORY = 2 ** 27;
/** Of a deflated entry, bytes. torch.save deflates nothing, so what is larger is a bomb or a mistake. */
const MOST_INFLATED = 2 ** 30;
/** No byte of deflate stands for more than 258 bytes at two bits (RFC 1951, 3.2.5), that is 1,032. */
const MOST_RATIO = 1032;

/** Is there one of a zip archive's signatures at its beginning? */
export const isZip = (first: Uint8Array): boolean => first[0] === 0x50 && first[1] === 0x4b && (first[2] === 3 || first[2] === 5);

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/**
 * Read an archive's directory; its entries then one at a time.
 * @throws Error that begins with the archive's name: for what is damaged or cut off, encrypted, packed in another way, for a name given twice,
 * for entries that overlap, and for an entry that claims to be larger than deflate could make it or than 1 GiB.
 */
export async function openZip(source: Source): Promise<Zip> {
  const fail = (why: string): never => {
    throw new Error(`${source.name}: not a valid zip archive: ${why}`);
  };
  const { count, start, end } = await directory(source, fail);
  if (start > end || end > source.size) fail(`its directory lies at ${start} to ${end} of ${source.size} bytes; the file is cut off`);
  if (end - start > MOST_DIRECTORY) fail(`its directory claims ${end - start} bytes; at most ${MOST_DIRECTORY} are read`);
  const entries = parseDirectory(await source.read(start, end), count, fail);
  refuseOverlaps(entries, start, fail);

  const index = new Map<string, Entry>();
  for (const entry of entries) {
    if (index.has(entry.name)) fail(`it holds "${entry.name}" twice`);
    index.set(entry.name, entry);
  }
  return {
    entries: index,
    async read(name) {
      const entry = index.get(name) ?? fail(`it has no "${name}"`);
      const refuse = (why: string) => fail(`"${name}" ${why}`);
      if (entry.deflated && entry.size > Math.min(MOST_INFLATED, MOST_RATIO * entry.packed + MOST_RATIO))
        refuse(`claims that its ${entry.packed} bytes unpack to ${entry.size}; the archive is damaged, or made to fill memory`);
      if (!entry.deflated && entry.size !== entry.packed) refuse(`is stored in ${entry.packed} bytes but said to have ${entry.size}`);
      if (entry.start + LOCAL > start) refuse("has its header in the directory");
      const local = viewOf(await source.read(entry.start, entry.start + LOCAL));
      if (local.getUint32(0, true) !== 0x04034b50) refuse(`has no header at byte ${entry.start}`);
      const at = entry.start + LOCAL + local.getUint16(26, true) + local.getUint16(28, true);
      if (at + entry.packed > start) refuse("runs into the directory");
      const packed = await source.read(at, at + entry.packed);
      const bytes = entry.deflated ? await inflate(packed, entry.size, refuse) : packed;
      if (bytes.length !== entry.size) refuse(`has ${bytes.length} bytes, not ${entry.size}`);
      if (crc32(bytes) !== entry.crc) refuse("has another CRC-32 than the archive says; the file is damaged");
      return bytes;
    },
  };
}

type Refuse = (why: string) => never;

/** Where the central directory lies, from the record at the archive's end. */
async function directory(source: Source, fail: Refuse): Promise<{ count: number; start: number; end: number }> {
  const endOf = async (comment: number): Promise<{ tail: DataView; from: number; at: number }> => {
    const from = Math.max(0, source.size - END - comment - LOCATOR);
    const tail = viewOf(await source.read(from, source.size));
    let at = tail.byteLength - END;
    // the record ends the file but for a comment, whose length it gives: looking from the back, one of the right length is it
    while (at >= 0 && !(tail.getUint32(at, true) === 0x06054b50 && at + END + tail.getUint16(at + 20, true) === tail.byteLength)) at--;
    if (at >= 0) return { tail, from, at };
    return comment < MOST_COMMENT ? endOf(MOST_COMMENT) : fail("it has no end record; the file is cut off");
  };
  const { tail, from, at } = await endOf(0); // few archives have a comment
  const [count, size, start] = [tail.getUint16(at + 10, true), tail.getUint32(at + 12, true), tail.getUint32(at + 16, true)];

  const locator = at - LOCATOR;
  if (locator < 0 || tail.getUint32(locator, true) !== 0x07064b50) {
    if (start + size > from + at) fail("its directory runs into its end record");
    return { count, start, end: start + size };
  }
  const where = Number(tail.getBigUint64(locator + 8, true));
  if (where + END64 > source.size) fail(`its zip64 record lies at ${where} of ${source.size} bytes; the file is cut off`);
  const wide = viewOf(await source.read(where, where + END64));
  if (wide.getUint32(0, true) !== 0x06064b50) fail(`it has no zip64 record at byte ${where}`);
  const [entries, length, begin] = [32, 40, 48].map((place) => Number(wide.getBigUint64(place, true)));
  return { count: entries, start: begin, end: begin + length };
}

function parseDirectory(bytes: Uint8Array, count: number, fail: Refuse): Entry[] {
  const view = viewOf(bytes);
  const entries: Entry[] = [];
  let at = 0;
  const need = (length: number) =>
    at + length <= bytes.length ? 0 : fail(`its directory ends after ${entries.length} of ${count} entries`);
  while (entries.length < count) {
    need(CENTRAL);
    if (view.getUint32(at, true) !== 0x02014b50) fail(`entry ${entries.length} of its directory has no signature`);
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [named, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    need(CENTRAL + named + extra + comment);
    const name = new TextDecoder().decode(bytes.subarray(at + CENTRAL, at + CENTRAL + named));
    if (flags & 1) fail(`"${name}" is encrypted`);
    if (method !== 0 && method !== 8) fail(`"${name}" is packed by method ${method}; only stored and deflated entries are read`);
    const short = { size: view.getUint32(at + 24, true), packed: view.getUint32(at + 20, true), start: view.getUint32(at + 42, true) };
    const field = new DataView(bytes.buffer, bytes.byteOffset + at + CENTRAL + named, extra);
    entries.push({ name, deflated: method === 8, crc: view.getUint32(at + 16, true), ...widened(short, field, name, fail) });
    at += CENTRAL + named + extra + comment;
  }
  if (at !== bytes.length) fail(`its directory holds more than the ${count} entries it claims`);
  return entries;
}

/** Sizes that need more than 32 bits: in the zip64 extra field (APPNOTE 4.5.3), in this order, those alone whose short form is all ones. */
function widened<T extends Record<"size" | "packed" | "start", number>>(short: T, extra: DataView, name: string, fail: Refuse): T {
  const wide = (["size", "packed", "start"] as const).filter((part) => short[part] === 0xffffffff);
  if (wide.length === 0) return short;
  for (let at = 0; at + 4 <= extra.byteLength; at += 4 + extra.getUint16(at + 2, true)) {
    if (extra.getUint16(at, true) !== 1) continue;
    if (at + 4 + 8 * wide.length > extra.byteLength) break;
    return { ...short, ...Object.fromEntries(wide.map((part, i) => [part, Number(extra.getBigUint64(at + 4 + 8 * i, true))])) };
  }
  return fail(`"${name}" lacks its zip64 sizes`);
}

/** Entries that share bytes are how a small archive unpacks to a huge one (Fifield 2019, "A better zip bomb"). */
function refuseOverlaps(entries: readonly Entry[], end: number, fail: Refuse): void {
  let free = 0;
  for (const { name, start, packed } of entries.toSorted((a, b) => a.start - b.start)) {
    if (start < free) fail(`"${name}" overlaps the entry before it`);
    free = start + LOCAL + packed;
    if (free > end) fail(`"${name}" lies at ${start} to ${free}, beyond the ${end} bytes before the directory; the file is cut off`);
  }
}

/** RFC 1951, no further than the size that was claimed. */
async function inflate(packed: Uint8Array, size: number, refuse: Refuse): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  const reader = new Blob([new Uint8Array(packed)]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((): never => refuse("does not inflate; the file is damaged"));
    if (done) return bytes.subarray(0, at);
    if (at + value.length > size) {
      await reader.cancel();
      refuse(`unpacks to more than the ${size} bytes it claims`);
    }
    bytes.set(value, at);
    at += value.length;
  }
}

/** The remainders of all bytes by the reversed polynomial of CRC-32. */
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

/** CRC-32 (ISO 3309, ITU-T V.42), as zip and gzip have it. */
export function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ CRC[(crc ^ bytes[i]) & 255];
  return ~crc >>> 0;
}

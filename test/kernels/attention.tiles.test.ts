/** Attention in tiles, of registers on a GPU and as compiled for the cpu, against the loops in f64. Few pipelines and many problems: a software adapter takes ten seconds to compile one. */

import { describe, expect, test } from "vitest";
import { tablesOf } from "../../kernels/attention/table.ts";
import { PLAIN } from "../../kernels/attention/ways.ts";
import { attention, attentionGrad, attentionGradGated, crossTiles, FIELDS, TILE } from "../../kernels/attention.ts";
import type { Kernel, Values } from "../../kernels/kernel.ts";
import { dropThreshold, keepScale } from "../../kernels/random.ts";
import type { Device } from "../../src/device.ts";
import { Key } from "../../src/key.ts";
import { spansOf, tilesOf } from "../../src/stream.ts";
import { distance } from "../../src/verify.ts";
import { deviceNames, onDevice } from "../devices.ts";

type Buffers = Readonly<Record<string, Values>>;

/** What kernels are made for. */
interface Made {
  readonly width: number;
  readonly dropped: boolean;
  readonly causal: boolean;
}

/** What they are run on: the rows of each cell in the stream of queries, and in that of keys. */
interface Cells {
  readonly lengths: readonly number[];
  readonly keys?: readonly number[];
  readonly heads?: number;
  /** Of probabilities, the share that is dropped. */
  readonly share?: number;
}

interface Streams {
  readonly rows: Readonly<Record<"q" | "k" | "v" | "dy", Float64Array>>;
  readonly tables: Buffers;
  readonly params: Readonly<Record<"count" | "keyCount" | "rows" | "keyRows" | "heads", number>>;
}

/** A kernel, what it is given, and what its loops make of that. */
interface Call {
  readonly kernel: Kernel;
  readonly inputs: Buffers;
  readonly params: Streams["params"];
  readonly wanted: Buffers;
}

/** Rows of no cell after the others. They hold NaN, and nothing may come of them. */
const TAIL = 9;
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

/** The tiles of a stream, turned to another one, and one to spare, which owns no row. */
function tilesBetween(lengths: readonly number[], others: readonly number[]): Uint32Array {
  const spans = spansOf(lengths);
  const rows = sum(lengths) + TAIL;
  const tiles = Uint32Array.from([...tilesOf(spans, rows), ...new Array<number>(FIELDS).fill(0)]);
  const owner = Uint32Array.from({ length: rows }, (_, row) => spans.findIndex(([from, to]) => from <= row && row < to));
  const turned = new Uint32Array(tiles.length);
  crossTiles.loops({ tiles, owner, spans: Uint32Array.from(spansOf(others).flat()), turned }, { count: tiles.length / FIELDS });
  return turned;
}

/** Numbers in [-1, 1) for every row of a cell. */
function streams({ width, dropped }: Made, { lengths, keys = lengths, heads = 2, share = 0.25 }: Cells): Streams {
  const draw = (seed: number, cells: readonly number[]) => {
    const x = new Float64Array((sum(cells) + TAIL) * heads * width).fill(Number.NaN);
    x.set(Key.from(seed).uniforms(sum(cells) * heads * width).map((u) => 2 * u - 1)); // biome-ignore format: one line
    return x;
  };
  const tables = { tiles: tilesBetween(lengths, keys), keyTiles: tilesBetween(keys, lengths) };
  const [count, keyCount] = [tables.tiles, tables.keyTiles].map(({ length }) => length / FIELDS);
  const [rows, keyRows] = [lengths, keys].map((cells) => sum(cells) + TAIL);
  const site = { threshold: dropThreshold(share), scale: keepScale(share), site0: 5, site1: 0x80000001 };
  return {
    rows: { q: draw(1, lengths), k: draw(2, keys), v: draw(3, keys), dy: draw(4, lengths) },
    tables: { ...tables, ...(dropped && { key: Uint32Array.of(0xdeadbeef, 7) }) },
    params: { count, keyCount, rows, keyRows, heads, ...(dropped && site) },
  };
}

/** There and back, and, where it can be asked for, back with the keys' gates. */
const kernelsOf = ({ width, dropped, causal }: Made) => {
  const both = [attention, attentionGrad].map((family) => family(width, dropped, causal) as unknown as Kernel);
  return dropped || causal ? both : [...both, attentionGradGated(width) as unknown as Kernel];
};

/** The forward pass and those back; they are given what the forward pass made of `before`. */
function calls(made: Made, { rows, tables, params }: Streams, before: Streams["rows"] = rows): Call[] {
  const call = (kernel: Kernel, given: Buffers): Call => {
    const inputs = Object.fromEntries(Object.keys(kernel.inputs).map((name) => [name, given[name]]));
    const lengths = kernel.alternatives?.lengths(params) ?? {};
    const blank: Readonly<Record<string, number>> = { ...lengths, y: rows.q.length, lse: params.rows * params.heads }; // queries and keys may be of two streams
    const wanted = Object.fromEntries(Object.keys(kernel.outputs).map((name) => [name, new Float64Array(blank[name]).fill(Number.NaN)]));
    kernel.loops({ ...inputs, ...wanted }, params);
    return { kernel, inputs, params, wanted };
  };
  const [forward, ...back] = kernelsOf(made);
  const { y, lse } = call(forward, { ...before, ...tables }).wanted;
  const found = { y: y.map(Math.fround), lse: lse.map(Math.fround) };
  return [call(forward, { ...rows, ...tables }), ...back.map((kernel) => call(kernel, { ...rows, ...tables, ...found }))];
}

/** An alternative, by its name. */
function wayOf(kernel: Kernel, name: string): Kernel {
  const found = kernel.alternatives?.of({}).find((each) => each.name === name);
  if (!found) throw new Error(`${kernel.name} has no "${name}"`);
  return found.kernel;
}

/** How far a device is from the loops, by output. NaN where the loops have it is right; NaN where they have none makes it NaN. */
async function off(device: Device, kernel: Kernel, { inputs, params, wanted }: Call): Promise<Readonly<Record<string, number>>> {
  const dtypes = { ...kernel.inputs, ...kernel.outputs };
  const blank = Object.fromEntries(Object.entries(wanted).map(([name, { length }]) => [name, new Float32Array(length).fill(Number.NaN)]));
  const buffers = Object.fromEntries(
    Object.entries({ ...inputs, ...blank }).map(([name, values]) => {
      const memory = device.allocate(dtypes[name], values.length);
      device.upload(memory, values);
      return [name, memory];
    }),
  );
  device.run(kernel, buffers, params);
  const both = (a: Values, b: Values) => Float64Array.from(a, (value, i) => (Number.isNaN(value) && Number.isNaN(b[i]) ? 0 : value));
  const found: Record<string, number> = {};
  for (const [name, want] of Object.entries(wanted)) {
    const got = await device.read(buffers[name]);
    found[name] = distance(both(got, want), both(want, got));
  }
  for (const memory of Object.values(buffers)) device.free(memory);
  return found;
}

/** Sums of at most 130 products, each within 2^-24, and an exponential of a few units in the last place. */
const TOLERANCE = 1e-5;

/** Numbers with NaN in some rows. */
const spoilt = (x: Float64Array, row: number, ...rows: number[]) =>
  x.map((value, i) => (rows.includes(Math.floor(i / row)) ? Number.NaN : value));

const LENGTHS = [1, 31, 32, 0, 33, 65];
/** Cells that are empty in one stream or the other, and shorter and longer there. */
const KEYS = [40, 0, 31, 5, 65, 33];
const problems: Readonly<Record<string, Cells>> = {
  "cells that cross the edges of tiles": { lengths: LENGTHS },
  "the cells of another stream": { lengths: LENGTHS, keys: KEYS },
  "one head, and one cell of many blocks": { lengths: [130], heads: 1 },
  "three heads, and cells of one": { lengths: [1, 1, 1, 2], heads: 3 },
  "nothing to see": { lengths: [40, 1], keys: [0, 0] },
  "nothing dropped": { lengths: [33, 40], share: 0 },
  "most dropped": { lengths: [33, 40], share: 0.875 },
};

/** Vectors of four that are whole, and not; all that can be asked of a kernel, and nothing. On cpu it is the compiled kernel, which is tiled too. */
const made = {
  webgpu: [
    { way: "blocks of 16", width: 64, dropped: true, causal: true },
    { way: "blocks of 8", width: 18, dropped: false, causal: false },
  ],
  cpu: [
    { way: "as compiled", width: 64, dropped: true, causal: true },
    { way: "as compiled", width: 18, dropped: false, causal: true },
    { way: "as compiled", width: 18, dropped: false, causal: false },
  ],
} as const;

for (const name of ["webgpu", "cpu"] as const) {
  if (!deviceNames.includes(name)) continue;
  onDevice(name, (device) => {
    describe.each<Made & { readonly way: string }>(made[name])("$way, heads $width wide, dropped: $dropped, causal: $causal,", (each) => {
      const check = async (list: readonly Call[], tolerance = TOLERANCE) => {
        for (const call of list) {
          const kernel = name === "webgpu" ? wayOf(call.kernel, each.way) : call.kernel;
          for (const [output, worst] of Object.entries(await off(device(), kernel, call)))
            expect(worst, output).toBeLessThanOrEqual(tolerance);
        }
      };

      test.each(Object.entries(problems))("%s: as the loops", (_, cells) => check(calls(each, streams(each, cells))));

      test("scores of 50, of both signs, whose largest come late and early: as the loops", () => {
        const { rows, ...rest } = streams(each, { lengths: [65, 33], heads: 1 });
        const { width } = each;
        // a row's scores go from -50 to 50 along the cell, or back: what was added up is scaled down again and again, or all comes at once
        const place = (row: number) => (row < 65 ? row / 32 - 1 : (row - 65) / 16 - 1);
        const first = (x: Float64Array, number: (row: number) => number) =>
          x.map((value, i) => (i % width === 0 && !Number.isNaN(value) ? Math.fround(number(i / width)) : value));
        const steep = {
          ...{ v: rows.v, dy: rows.dy },
          q: first(rows.q, (row) => (row % 2 ? 50 : -50) * Math.sqrt(width)),
          k: first(rows.k, place),
        };
        // a score of 50 is within 2^-24 of itself, and so is the probability's logarithm
        return check(calls(each, { rows: steep, ...rest }), 5e-5);
      });

      // all of a row's numbers or one of its columns; places amid four rows, amid a block, at the edges of a tile; the first cell is that of nobody else
      test.each([0, 2, 5, 31, 32, 50])("NaN in row %d reaches those that see it, and no other", async (at) => {
        const share = name === "cpu" ? 0 : 0.25; // the compiled kernel drops by masking bits: of NaN that is dropped nothing is left
        const { rows, ...rest } = streams(each, { lengths: [20, 65, 3], share });
        const row = 2 * each.width;
        const bad = (...names: ("q" | "k" | "v" | "dy")[]): Streams => ({
          rows: { ...rows, ...Object.fromEntries(names.map((name) => [name, spoilt(rows[name], row, 20 + at)])) },
          ...rest,
        });
        for (const names of [["v"], ["k"], ["q"], ["dy"], ["q", "k", "v", "dy"]] as const) {
          const list = calls(each, bad(...names), rows);
          await check(list);
          // the loops themselves: a causal query is whole before the row, and all of other cells
          const clean = (x: Values, from: number, to: number) => x.subarray(from * row, to * row).every(Number.isFinite);
          const [{ y }, { dq, dkv }] = list.map(({ wanted }) => wanted);
          const keys = (part: number) => dkv.subarray((part * dkv.length) / 2, ((part + 1) * dkv.length) / 2);
          for (const x of [y, dq, keys(0), keys(1)]) expect([clean(x, 0, 20), clean(x, 85, 88)]).toEqual([true, true]);
          if (each.causal) expect([y, dq].map((x) => clean(x, 20, 20 + at))).toEqual([true, true]);
          expect(list.some(({ wanted }) => Object.values(wanted).some((x) => x.some(Number.isNaN)))).toBe(true);
        }
      });
    });
  });
}

describe("what a calibration runs them with", () => {
  const sizes = [
    ...[1, 31, 32, 33, 100, 4096].map((rows) => ({ rows, count: Math.ceil(rows / TILE), cells: 1 })),
    ...[100, 4096].map((rows) => ({ rows, count: Math.ceil(rows / TILE) + 1, cells: 1 })),
    ...[1, 2, 5, 100, 4096].map((rows) => ({ rows, count: Math.ceil(rows / TILE) + 4, cells: 3 })),
  ];

  test.each(sizes)("$count tiles hold each of $rows rows once, in $cells cells", ({ rows, count, cells }) => {
    const stream = { rows, count };
    const { tiles, keyTiles } = tablesOf(stream, stream);
    expect(keyTiles).toEqual(tiles);
    const list = Array.from({ length: count }, (_, t) => tiles.subarray(FIELDS * t, FIELDS * (t + 1)));
    const owned = list.flatMap(([row0, row1]) => Array.from({ length: row1 - row0 }, (_, i) => row0 + i));
    expect(owned.sort((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, i) => i));
    expect(list.every(([row0, row1, from, to]) => row1 - row0 <= TILE && from <= to && to <= rows)).toBe(true);
    const seen = new Set(list.filter(([, , from, to]) => from < to).map(([, , from, to]) => `${from} ${to}`));
    expect(seen.size).toBe(Math.min(cells, rows - (rows >> 1)));
  });

  test("two streams have the same cells, of other lengths", () => {
    const { tiles, keyTiles } = tablesOf({ rows: 40, count: 6 }, { rows: 107, count: 9 });
    const rows = (table: Uint32Array) =>
      Array.from({ length: table.length / FIELDS }, (_, t) => [...table.subarray(FIELDS * t, FIELDS * (t + 1))]);
    const none = [0, 0, 0, 0, 0];
    expect(rows(tiles)).toEqual([[0, 11, 0, 33, 0], [11, 22, 33, 66, 11], [22, 33, 66, 100, 22], [33, 40, 0, 0, 33], none, none]); // biome-ignore format: a table
    expect(rows(keyTiles)).toEqual([
      ...[[0, 32, 0, 11, 0], [32, 33, 0, 11, 0], [33, 65, 11, 22, 33], [65, 66, 11, 22, 33]], // biome-ignore format: a table
      ...[[66, 98, 22, 33, 66], [98, 100, 22, 33, 66], [100, 107, 0, 0, 100], none, none], // biome-ignore format: a table
    ]);
  });

  test.each([
    { dropped: true, causal: true },
    { dropped: false, causal: false },
  ])("is of use to the loops, dropped: $dropped, causal: $causal: finite, and not all zeros, though rows of no cell hold NaN", (kind) => {
    for (const { rows, count } of sizes.filter(({ rows }) => rows <= 100))
      for (const kernel of kernelsOf({ width: 4, ...kind })) {
        const params = {
          rows,
          count,
          keyRows: rows,
          keyCount: count,
          heads: 2,
          threshold: dropThreshold(0.1),
          scale: keepScale(0.1),
          site0: 0,
          site1: 0,
        };
        const { lengths, given } = kernel.alternatives!;
        const drawn = Object.fromEntries(
          Object.keys(kernel.inputs).flatMap((name, i) =>
            kernel.inputs[name] === "f32" ? [[name, Float32Array.from(Key.from(i).uniforms(lengths(params)[name]))]] : [],
          ),
        );
        const inputs: Buffers = { ...drawn, ...given!(params, drawn) };
        for (const name of Object.keys(kernel.inputs)) expect(inputs[name].length, name).toBe(lengths(params)[name]);
        const spare = count > Math.ceil(rows / TILE) + 1 && rows > 1;
        expect(inputs.q.some(Number.isNaN)).toBe(spare);
        expect(inputs.v.some(Number.isNaN)).toBe(spare);
        const outputs = Object.keys(kernel.outputs).map((name) => [name, new Float64Array(lengths(params)[name])] as const);
        kernel.loops({ ...inputs, ...Object.fromEntries(outputs) }, params);
        for (const [name, x] of outputs) {
          expect(x.every(Number.isFinite), name).toBe(true);
          if (rows > 2)
            expect(
              x.some((value) => value !== 0),
              name,
            ).toBe(true);
        }
      }
  });

  test("grows small with the kernel: some cells, of few tiles", () => {
    for (const kernel of kernelsOf({ width: 64, dropped: false, causal: false })) {
      const size = { count: 261, keyCount: 261, rows: 8192, keyRows: 8192, heads: 12 };
      expect(kernel.alternatives!.small(size)).toEqual({ count: 8, keyCount: 8, rows: 128, keyRows: 128, heads: 2 });
      expect(kernel.alternatives!.small({ ...size, heads: 1, rows: 40 })).toMatchObject({ heads: 1, rows: 40 });
      expect(kernel.alternatives!.of(size).at(-1)!.name).toBe(PLAIN);
    }
  });
});

/** Sinusoidal positions: the formula, and what a shift does to them. */

import { expect, test } from "vitest";
import { sinusoidal } from "../../nn/positions.ts";
import { onDevices } from "../devices.ts";

onDevices((_, name) => {
  const digits = name === "reference" ? 12 : 6;

  test.each([
    [1, 2],
    [50, 16],
    [300, 7],
  ])("%i places of %i columns: sines and cosines of falling frequency", async (length, width) => {
    const y = sinusoidal(length, width);
    expect(y.shape).toEqual([length, width]);
    const values = await y.data();
    y.free();
    for (let place = 0; place < length; place++)
      for (let i = 0; 2 * i < width; i++) {
        const angle = place / 10_000 ** ((2 * i) / width);
        expect(values[place * width + 2 * i]).toBeCloseTo(Math.sin(angle), digits);
        if (2 * i + 1 < width) expect(values[place * width + 2 * i + 1]).toBeCloseTo(Math.cos(angle), digits);
      }
  });

  test("a shift turns every pair of columns by one angle: products of places depend on their distance alone", async () => {
    const [length, width] = [40, 12];
    const y = sinusoidal(length, width);
    const values = Float64Array.from(await y.data());
    y.free();
    const row = (place: number) => values.subarray(place * width, (place + 1) * width);
    const dot = (a: number, b: number) => row(a).reduce((sum, value, i) => sum + value * row(b)[i], 0);
    for (const shift of [0, 1, 7])
      for (let place = 0; place + shift < length; place++) {
        expect(dot(place, place + shift)).toBeCloseTo(dot(0, shift), digits - 1);
        for (let i = 0; i < width; i += 2) {
          const angle = shift / 10_000 ** (i / width);
          const [sin, cos] = row(place).subarray(i, i + 2);
          const [turnedSin, turnedCos] = row(place + shift).subarray(i, i + 2);
          expect(turnedSin).toBeCloseTo(Math.cos(angle) * sin + Math.sin(angle) * cos, digits - 1);
          expect(turnedCos).toBeCloseTo(Math.cos(angle) * cos - Math.sin(angle) * sin, digits - 1);
        }
      }
    expect(dot(3, 3)).toBeCloseTo(width / 2, digits - 1);
  });
});

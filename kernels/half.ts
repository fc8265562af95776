/** Floats of 16 and 8 bits on the host: bits to numbers and back, rounded to nearest, ties to even. */

/** 2^-24, the least subnormal of f16. */
const UNIT = 2 ** -24;

const word = new Float32Array(1);
const bitsOfWord = new Uint32Array(word.buffer);

/** The number that 16 bits of f16 (IEEE 754 binary16) stand for. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * UNIT;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The bits of the f16 nearest to a number; from 65,520 on that is infinity. NaN stays NaN. */
export function toHalf(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  if (Number.isNaN(x)) return 0x7e00;
  if (size < 2 ** -14) return sign | even(size / UNIT); // a subnormal, or the least normal number when it rounds up
  if (size >= 65520) return sign | 0x7c00;
  let exponent = Math.floor(Math.log2(size));
  if (2 ** exponent > size) exponent--; // log2 rounds
  const fraction = even((size / 2 ** exponent - 1) * 1024);
  return sign | (((exponent + 15) << 10) + fraction); // a fraction of 1024 carries into the exponent
}

/** The nearest integer, ties to even. */
function even(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}

/** The number that 16 bits of bfloat16 stand for: the upper half of an f32. */
export function fromBfloat(bits: number): number {
  bitsOfWord[0] = bits << 16;
  return word[0];
}

/** The bits of the bfloat16 nearest to a number's f32. NaN stays NaN. */
export function toBfloat(x: number): number {
  if (Number.isNaN(x)) return 0x7fc0;
  word[0] = x;
  const bits = bitsOfWord[0];
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number that 8 bits of E4M3 stand for (OCP 8-bit Floating Point Specification 1.0): at most 448, no infinities, one NaN of each sign. */
export function fromE4M3(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >>> 3) & 15;
  const fraction = bits & 7;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return exponent === 15 && fraction === 7 ? Number.NaN : sign * (8 + fraction) * 2 ** (exponent - 10);
}

/** The number that 8 bits of E5M2 stand for (the same specification): the upper half of an f16. */
export const fromE5M2 = (bits: number): number => fromHalf(bits << 8);

/** The number that 8 bits of E8M0 stand for (OCP Microscaling Formats 1.0): the exponent of an f32 alone, a scale. */
export const fromE8M0 = (bits: number): number => (bits === 255 ? Number.NaN : 2 ** (bits - 127));
